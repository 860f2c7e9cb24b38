//! Bad input and many idle watches at once: each bad request is answered by a Status that says what is wrong, memory
//! stays bounded, and others do not notice.
//!
//! The watches share connections, a hundred each, as HTTP/2 clients have them: ten thousand sockets at both ends are
//! more than most machines let one test open.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::rig::Api;
use crate::process::{Scratch, until};

const LIMIT: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 100;
const WATCHES: usize = 10_000;
/// What an idle watch may cost beyond its connection.
const WATCH_MAX: f64 = 8.0 * 1024.0;
/// What all bad input and slow readers together may leave.
const GROWTH_MAX: u64 = 128 << 20;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

type Sender = SendRequest<Full<Bytes>>;

async fn connect(port: u16) -> Sender {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the bus listens");
    stream.set_nodelay(true).expect("a socket");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("the bus speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn open(
    sender: &Sender,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Incoming> {
    let mut request = Request::builder().method(method).uri(format!("http://127.0.0.1{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    timeout(LIMIT, sender.clone().send_request(request))
        .await
        .expect("an answer in time")
        .expect("an answer")
}

async fn ask(
    sender: &Sender,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (u16, Value) {
    let (head, body) = open(sender, method, path, headers, body).await.into_parts();
    let body = timeout(LIMIT, body.collect()).await.expect("a body in time").expect("a body").to_bytes();
    let json = serde_json::from_slice(&body);
    (head.status.as_u16(), json.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()))
}

fn map(name: &str, data: &str) -> String {
    json!({"metadata": {"name": name}, "data": {"k": data}}).to_string()
}

/// Resident memory once it grows no more.
async fn settled(api: &Api) -> u64 {
    let mut before = api.bus.process.rss();
    until("memory settles", LIMIT, async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = api.bus.process.rss();
        let settled = now.abs_diff(before) < 256 << 10;
        before = now;
        settled.then_some(now)
    })
    .await
}

/// Idle connections, one request answered on each.
async fn connections(port: u16) -> Vec<Sender> {
    join_all((0..CONNECTIONS).map(|_| async {
        let sender = connect(port).await;
        assert_eq!(ask(&sender, "GET", "/version", &[], "").await.0, 200);
        sender
    }))
    .await
}

/// Watches of one name each, spread over the connections; the one at `n` waits for `w-n`.
async fn watches(senders: &[Sender], at: &str) -> Vec<Incoming> {
    let each = WATCHES / CONNECTIONS;
    let opened = join_all(senders.iter().enumerate().map(|(number, sender)| async move {
        let mut watches = Vec::with_capacity(each);
        for n in number * each..(number + 1) * each {
            let path = format!("{MAPS}?watch=1&resourceVersion={at}&fieldSelector=metadata.name%3Dw-{n}");
            let response = open(sender, "GET", &path, &[], "").await;
            assert_eq!(response.status(), 200);
            watches.push(response.into_body());
        }
        watches
    }));
    opened.await.into_iter().flatten().collect()
}

async fn line(watch: &mut Incoming) -> Value {
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let frame = timeout(LIMIT, watch.frame()).await.expect("told in time").expect("the watch goes on");
        text.extend_from_slice(&frame.expect("a frame").into_data().unwrap_or_default());
    }
    serde_json::from_slice(&text).expect("a line of JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_slow_readers_and_ten_thousand_idle_watches_disturb_nobody() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "event_log: {changes: {max_bytes: 16MiB}}\n").await;
    let other = connect(api.port).await;
    assert_eq!(ask(&other, "POST", MAPS, &[], map("known", "v")).await.0, 201);

    // What the first connection and the first watch make grow for all is not theirs.
    let at = ask(&other, "GET", MAPS, &[], "").await.1["metadata"]["resourceVersion"].clone();
    let at = at.as_str().expect("a position").to_owned();
    drop(line(&mut open(&other, "GET", &format!("{MAPS}?watch=1"), &[], "").await.into_body()).await);
    let before = settled(&api).await;
    let idle = connections(api.port).await;
    let connected = settled(&api).await;
    let senders = connections(api.port).await;
    let base = settled(&api).await;
    let mut watches = watches(&senders, &at).await;
    let watching = settled(&api).await;
    let each = watching.saturating_sub(base) as f64 / WATCHES as f64;
    println!(
        "an idle connection: {:.1} KiB; a watch beyond its connection: {:.2} KiB",
        connected.saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0,
        each / 1024.0
    );
    assert!(each <= WATCH_MAX, "an idle watch costs {each:.0} bytes, more than {WATCH_MAX}");

    let asked = Instant::now();
    assert_eq!(ask(&other, "POST", MAPS, &[], map("w-4321", "v")).await.0, 201);
    let told = line(&mut watches[4321]).await;
    assert_eq!((&told["type"], &told["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("w-4321")));
    println!("a change among them was told after {:?}", asked.elapsed());

    bad_requests(&api, &other).await;
    slow_readers(&api, &other).await;
    let grown = settled(&api).await.saturating_sub(watching);
    println!("grown by bad input and slow readers: {} KiB", grown / 1024);
    assert!(grown <= GROWTH_MAX, "grown by {grown} bytes");

    // Those that were idle all the time are there.
    assert_eq!(ask(&other, "POST", MAPS, &[], map("w-9999", "v")).await.0, 201);
    assert_eq!(line(&mut watches[9999]).await["object"]["metadata"]["name"], "w-9999");
    drop((idle, senders, watches));
}

/// A bad request and what is answered: the code, and a part of the message.
struct Bad {
    method: &'static str,
    path: String,
    media: &'static str,
    body: Vec<u8>,
    code: u16,
    says: &'static str,
}

fn bad(method: &'static str, path: &str, media: &'static str, body: impl Into<Vec<u8>>) -> Bad {
    Bad { method, path: path.to_owned(), media, body: body.into(), code: 400, says: "" }
}

impl Bad {
    fn is(self, code: u16, says: &'static str) -> Self {
        Self { code, says, ..self }
    }
}

fn bodies() -> Vec<Bad> {
    const JSON: &str = "application/json";
    const YAML: &str = "application/yaml";
    let post = |media, body: &str| bad("POST", MAPS, media, body);
    let deep = |open: &str, times: usize| open.repeat(times);
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let again = vec![format!("*a{}", n - 1); 9].join(", ");
        writeln!(aliases, "a{n}: &a{n} [{again}]").expect("a text");
    }
    let known = format!("{MAPS}/known");
    let patch = |media, body: String| bad("PATCH", &known, media, body);
    let copies = vec![json!({"op": "copy", "from": "", "path": "/data/x"}); 64];
    vec![
        post(JSON, "{\"kind\":").is(400, "unexpected end of JSON input"),
        post(JSON, "nothing").is(400, "unrecognized"),
        post(JSON, &deep("[", 100_000)).is(400, ""),
        post(JSON, &deep("{\"a\":", 100_000)).is(400, ""),
        post(JSON, "{\"data\": {\"a\": \"\u{0}\"}}").is(400, ""),
        bad("POST", MAPS, JSON, b"{\"data\": {\"a\": \"\xff\xfe\"}}".as_slice()).is(400, ""),
        post(JSON, &map("../etc", "v")).is(422, "metadata.name"),
        post(JSON, &map(&"n".repeat(300), "v")).is(422, "must be no more than 253"),
        post(JSON, &map("big", &"x".repeat(3 << 20))).is(413, "limit is 3145728"),
        post(JSON, &map("big", &"x".repeat(2 << 20))).is(422, "Too long"),
        post(YAML, &aliases).is(400, ""),
        post(YAML, &deep("[", 100_000)).is(400, ""),
        post(YAML, &deep("- ", 50_000)).is(400, ""),
        bad("POST", MAPS, "application/vnd.kubernetes.protobuf", b"k8s\0\xff\xff\xff\xff\xff".as_slice()),
        post("application/cbor", "x").is(415, "media types"),
        patch("application/json-patch+json", json!(copies).to_string()).is(422, ""),
        patch("application/json-patch+json", "[{\"op\":\"explode\",\"path\":\"/\"}]".to_owned())
            .is(422, ""),
        patch("application/merge-patch+json", deep("{\"a\":", 100_000)),
        patch("application/merge-patch+json", "[]".to_owned()).is(400, "does not match the name"),
        bad("DELETE", &known, JSON, "{\"preconditions\": {\"uid\": \"x\"}}").is(409, "recondition"),
    ]
}

fn targets() -> Vec<Bad> {
    let get = |path: String| bad("GET", &path, "", "");
    let query = |query: &str| get(format!("{MAPS}?{query}"));
    let many = "a%2C".repeat(2_000);
    vec![
        get(format!("{MAPS}/%00")).is(404, ""),
        get(format!("{MAPS}/%2E%2E%2Fsecrets")).is(404, ""),
        get(format!("{MAPS}/{}", "n".repeat(5000))).is(404, ""),
        get(format!("{MAPS}/%FF%FE")),
        query("labelSelector=a%20in%20%28").is(400, "unable to parse requirement"),
        query("labelSelector=%3D%3D%3D").is(400, ""),
        query(&format!("labelSelector={many}%21%21")).is(400, ""),
        query("fieldSelector=spec.secret%3D1").is(400, "field label not supported"),
        query("resourceVersion=new").is(400, ""),
        query("limit=some").is(400, ""),
        query("continue=%7B%7D").is(400, ""),
        query("watch=1&sendInitialEvents=true").is(422, ""),
        query("watch=1&timeoutSeconds=long").is(400, "invalid syntax"),
    ]
}

/// Each is answered with a Status that says what is wrong, while another client gets its answers.
async fn bad_requests(api: &Api, other: &Sender) {
    let enemy = connect(api.port).await;
    let mut wrong = String::new();
    let known = format!("{MAPS}/known");
    for bad in bodies().into_iter().chain(targets()) {
        let headers: &[_] = if bad.media.is_empty() { &[] } else { &[("content-type", bad.media)] };
        let sent = ask(&enemy, bad.method, &bad.path, headers, bad.body.clone());
        let ((code, status), (fine, _)) = tokio::join!(sent, ask(other, "GET", &known, &[], ""));
        assert_eq!(fine, 200, "others are answered meanwhile");
        let message = status["message"].as_str().unwrap_or_default();
        let good = code == bad.code
            && status["kind"] == "Status"
            && status["code"] == code
            && status["reason"].as_str().is_some_and(|reason| !reason.is_empty())
            && !message.is_empty()
            && message.contains(bad.says);
        if !good {
            let start: String = status.to_string().chars().take(300).collect();
            let path: String = bad.path.chars().take(100).collect();
            let body = String::from_utf8_lossy(&bad.body).chars().take(40).collect::<String>();
            writeln!(
                wrong,
                "{} {path} {body:?}: wanted {} {:?}, got {code} {start}",
                bad.method, bad.code, bad.says
            )
            .expect("a text");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    for garbage in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\njunk",
    ] {
        let mut raw = TcpStream::connect(("127.0.0.1", api.port)).await.expect("the bus listens");
        raw.write_all(garbage).await.expect("it is sent");
        let mut answer = Vec::new();
        // It may be answered or not, and the end may be a reset; it ends.
        let ended = timeout(LIMIT, raw.read_to_end(&mut answer)).await.expect("the connection ends");
        assert!(ended.is_err() || answer.len() < 64 << 10);
    }
}

/// Twenty that read nothing of thirty mebibytes, beside one that reads all of it.
async fn slow_readers(api: &Api, other: &Sender) {
    const CHANGES: usize = 60;
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dlarge");
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut raw = TcpStream::connect(("127.0.0.1", api.port)).await.expect("the bus listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        raw.write_all(request.as_bytes()).await.expect("it is sent");
        // Its answer has begun: it watches.
        raw.readable().await.expect("it is answered");
        slow.push(raw);
    }
    let mut quick = open(other, "GET", &path, &[], "").await.into_body();
    let large = "x".repeat(512 << 10);
    for change in 0..CHANGES {
        let object = map("large", &format!("{change} {large}"));
        let (method, path) =
            if change == 0 { ("POST", MAPS.to_owned()) } else { ("PUT", format!("{MAPS}/large")) };
        let (written, told) = tokio::join!(ask(other, method, &path, &[], object), line(&mut quick));
        assert!(written.0 == 200 || written.0 == 201, "{}", written.1);
        let data = told["object"]["data"]["k"].as_str().expect("data");
        assert!(data.starts_with(&format!("{change} ")), "changes are told in their order");
    }
    drop(slow);
}
