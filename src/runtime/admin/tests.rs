//! The admin and the health port over real connections, spoken to in plain bytes.

use std::net::SocketAddr;

use bytestring::ByteString;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::runtime::health::{self, Health, Readiness};
use crate::runtime::listener::bind;
use crate::runtime::task;

const DEADLINE: Duration = Duration::from_secs(20);

struct Fixed {
    taps: Mutex<Option<mpsc::Receiver<Value>>>,
    readiness: Mutex<Readiness>,
}

impl Admin for Fixed {
    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn config(&self) -> String {
        "name: edge-1\n".to_owned()
    }

    fn connectors(&self) -> Value {
        json!([{"name": "broker"}])
    }

    fn routes(&self) -> Value {
        json!([{"name": "warnings"}])
    }

    fn explain(&self, event: Bytes) -> BoxFuture<'_, Result<Value, String>> {
        let read = serde_json::from_slice(&event).map_err(|error| error.to_string());
        Box::pin(std::future::ready(read))
    }

    fn tap(&self, route: &str) -> Option<BoxStream<'static, Value>> {
        let records = if route == "warn ings" { self.taps.lock().take() } else { None };
        let records =
            stream::unfold(records?, |mut records| async { Some((records.recv().await?, records)) });
        Some(records.boxed())
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Err("meshbus.yaml:3:5: routes: is no map".to_owned()) })
    }
}

impl Health for Fixed {
    fn metrics(&self) -> String {
        Admin::metrics(self)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.lock().clone()
    }
}

struct Ports {
    admin: SocketAddr,
    health: SocketAddr,
    fixed: Arc<Fixed>,
    tap: mpsc::Sender<Value>,
    shutdown: Shutdown,
}

async fn ports() -> Ports {
    let (tap, taps) = mpsc::channel(10);
    let fixed = Arc::new(Fixed { taps: Mutex::new(Some(taps)), readiness: Mutex::default() });
    let shutdown = Shutdown::new();
    let (on_admin, on_health) = (bind("127.0.0.1:0").await.unwrap(), bind("127.0.0.1:0").await.unwrap());
    let (admin, health) = (on_admin.local_addr().unwrap(), on_health.local_addr().unwrap());
    let (shown, until) = (Arc::clone(&fixed), shutdown.clone());
    drop(task::spawn("admin", async move { serve(on_admin, shown, &until).await }));
    let (shown, until) = (Arc::clone(&fixed), shutdown.clone());
    drop(task::spawn("health", async move { health::serve(on_health, shown, &until).await }));
    Ports { admin, health, fixed, tap, shutdown }
}

/// Sends bytes and reads until the server closes.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read all.
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    drop(timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("no end in time"));
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, line: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    let answer = raw(address, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn each_path_answers() {
    let ports = ports().await;
    for (line, body, status, expected) in [
        ("GET /", "", 200, "POST /reload\n"),
        ("GET /metrics", "", 200, "# EOF\n"),
        ("GET /config", "", 200, "name: edge-1\n"),
        ("GET /connectors", "", 200, r#"[{"name":"broker"}]"#),
        ("GET /routes", "", 200, r#"[{"name":"warnings"}]"#),
        ("POST /explain", r#"{"id":"1"}"#, 200, r#"{"id":"1"}"#),
        ("POST /explain", "{", 400, "EOF while parsing"),
        ("POST /reload", "", 422, "meshbus.yaml:3:5: routes: is no map"),
        ("GET /reload", "", 405, "use POST"),
        ("POST /config", "", 405, "use GET, HEAD"),
        ("HEAD /config", "", 200, ""),
        ("GET /tap", "", 400, "/tap?route=NAME"),
        ("GET /tap?route=none", "", 404, "GET /routes lists them"),
        ("GET /else", "", 404, "GET /metrics, GET /config"),
    ] {
        let (got, text) = ask(ports.admin, line, "", body).await;
        assert_eq!(got, status, "{line}: {text}");
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_web_page_is_refused() {
    let ports = ports().await;
    let (status, _) = ask(ports.admin, "POST /reload", "origin: http://evil.example\r\n", "").await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn a_tap_streams_records_and_ends_with_the_drain() {
    let ports = ports().await;
    let mut stream = BufReader::new(TcpStream::connect(ports.admin).await.unwrap());
    stream.write_all(b"GET /tap?route=warn%20ings HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut expect = async |text: &str| {
        while !seen.contains(text) {
            let read = timeout(DEADLINE, stream.read_u8()).await.expect("nothing in time");
            seen.push(char::from(read.expect("the tap ended")));
        }
    };
    expect("text/event-stream").await;
    expect(": tap\n\n").await;
    ports.tap.send(json!({"id": "1"})).await.unwrap();
    expect("data: {\"id\":\"1\"}\n\n").await;
    ports.tap.send(json!({"id": "2"})).await.unwrap();
    expect("data: {\"id\":\"2\"}\n\n").await;
    ports.shutdown.start_drain();
    expect("0\r\n\r\n").await;
    timeout(DEADLINE, ports.tap.closed()).await.expect("the tap's records are not dropped");
}

#[tokio::test]
async fn readiness_names_the_connector_that_is_not_ready_and_why() {
    let ports = ports().await;
    assert_eq!(ask(ports.health, "GET /readyz", "", "").await, (200, "ready\n".to_owned()));
    let connectors: Vec<(ByteString, _)> =
        vec![("ingest".into(), Ok(())), ("broker".into(), Err("broker:4222: unreachable".to_owned()))];
    *ports.fixed.readiness.lock() = Readiness { not_ready: None, connectors };
    let text = "not ready\n[+] ingest\n[-] broker: broker:4222: unreachable\n";
    assert_eq!(ask(ports.health, "GET /readyz", "", "").await, (503, text.to_owned()));
    let (status, body) = ask(ports.health, "GET /readyz", "accept: application/json\r\n", "").await;
    assert_eq!(status, 503);
    let expected = json!({"ready": false, "connectors":
        {"ingest": {"ready": true}, "broker": {"ready": false, "reason": "broker:4222: unreachable"}}});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    *ports.fixed.readiness.lock() =
        Readiness { not_ready: Some("draining".to_owned()), connectors: vec![] };
    assert_eq!(ask(ports.health, "GET /readyz", "", "").await, (503, "not ready: draining\n".to_owned()));
    for path in ["GET /livez", "GET /healthz"] {
        assert_eq!(
            ask(ports.health, path, "", "").await,
            (200, "ok\n".to_owned()),
            "a peer away restarts nobody"
        );
    }
    assert_eq!(ask(ports.health, "GET /metrics", "", "").await.1, "# EOF\n");
    assert_eq!(ask(ports.health, "POST /livez", "", "").await.0, 405);
    assert_eq!(ask(ports.health, "GET /config", "", "").await.0, 404);
}

#[tokio::test]
async fn bad_input_gets_a_clear_answer_and_disturbs_nobody() {
    let ports = ports().await;
    let declared = format!("POST /explain HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 100 << 20);
    assert!(raw(ports.admin, declared.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", (1 << 20) + 1, "x".repeat((1 << 20) + 1));
    let chunked = format!("POST /explain HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
    assert!(raw(ports.admin, chunked.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let bomb = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    assert!(raw(ports.admin, bomb.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    assert!(raw(ports.admin, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let garbage: &[u8] = b"\x16\x03\x01\x00\xff\xfe\r\n\r\n";
    assert!(raw(ports.admin, garbage).await.starts_with("HTTP/1.1 400"));
    assert_eq!(ask(ports.admin, "GET /routes", "", "").await.0, 200);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let ports = ports().await;
    let (unfinished, idle) = tokio::join!(
        raw(ports.admin, b"GET / HTTP/1.1\r\nhost: x\r\n"),
        raw(ports.admin, b"GET /config HTTP/1.1\r\nhost: x\r\n\r\n"),
    );
    assert_eq!(unfinished, "");
    assert!(idle.ends_with("name: edge-1\n"), "{idle}");
}

#[test]
fn a_query_value_is_decoded() {
    assert_eq!(query_value(Some("a=1&route=x%2Fy+z"), "route").as_deref(), Some("x/y z"));
    assert_eq!(query_value(Some("routes=x"), "route"), None);
    assert_eq!(query_value(None, "route"), None);
}
