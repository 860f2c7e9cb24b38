//! The command line against a running bus over HTTP, a real nats-server and a real Mosquitto.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use http_body_util::Full;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::bus::{Bus, http_client};
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, free_port, until};

/// How long any one command may take, also on a machine that does other things.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn good(self) -> String {
        assert!(self.status.success(), "{}: {}\n{}", self.status, self.err, self.out);
        self.out
    }

    pub(crate) fn code(&self) -> i32 {
        self.status.code().expect("an exit code")
    }

    pub(crate) fn events(self) -> Vec<Value> {
        self.good().lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }
}

pub(crate) fn start(server: &str, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_meshbus"))
        .args(args)
        .env("MESHBUS_SERVER", server)
        .env_remove("MESHBUS_TOKEN")
        .env_remove("MESHBUS_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program")
}

/// Waits for its end; killed when that takes too long, which fails the test by its status.
pub(crate) async fn finish(mut child: Child, input: Vec<u8>) -> Said {
    let pid = child.id().to_string();
    let mut stdin = child.stdin.take().expect("standard input");
    // What ends before it has read all is judged by how it ended.
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let mut waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let in_time = timeout(LIMIT, &mut waiting).await;
    let output = if let Ok(output) = in_time {
        output
    } else {
        Command::new("kill").args(["-KILL", &pid]).status().expect("the program kill");
        waiting.await
    };
    let output = output.expect("a thread").expect("its output");
    let _unread = writing.join().expect("a thread");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { status: output.status, out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) async fn run(server: &str, args: &[&str]) -> Said {
    finish(start(server, args), Vec::new()).await
}

pub(crate) async fn run_with(server: &str, args: &[&str], input: &str) -> Said {
    finish(start(server, args), input.as_bytes().to_vec()).await
}

/// Runs a `sub` and does `publish` again and again until it ends: nothing says when it has subscribed.
async fn meanwhile(server: &str, args: &[&str], mut publish: impl AsyncFnMut(usize)) -> Said {
    let mut listening = start(server, args);
    let deadline = Instant::now() + LIMIT;
    let mut round = 0;
    while listening.try_wait().expect("its state").is_none() {
        assert!(Instant::now() < deadline, "{args:?} does not end");
        publish(round).await;
        round += 1;
        sleep(Duration::from_millis(20)).await;
    }
    finish(listening, Vec::new()).await
}

/// A command that goes on until it is interrupted, its lines as they come.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// All lines so far.
    pub(crate) seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(server: &str, args: &[&str]) -> Self {
        let mut child = start(server, args);
        let out = BufReader::new(child.stdout.take().expect("standard output"));
        let (sender, lines) = mpsc::channel(10_000);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads on until a line is as wanted; `false` when none is within `limit`.
    pub(crate) async fn shows(&mut self, wanted: impl Fn(&str) -> bool, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while let Ok(Some(line)) = timeout_at(deadline, self.lines.recv()).await {
            let found = wanted(&line);
            self.seen.push(line);
            if found {
                return true;
            }
        }
        false
    }

    /// The same, where it may have been shown before.
    pub(crate) async fn has_shown(&mut self, wanted: impl Fn(&str) -> bool, limit: Duration) -> bool {
        self.seen.iter().any(|line| wanted(line)) || self.shows(wanted, limit).await
    }

    /// Ctrl-C: it ends well and says nothing more.
    pub(crate) async fn interrupt(self) -> Vec<String> {
        let (seen, err) = self.interrupt_noted().await;
        assert_eq!(err, "");
        seen
    }

    /// The same, with what it said about its work meanwhile.
    pub(crate) async fn interrupt_noted(self) -> (Vec<String>, String) {
        Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status()
            .expect("the program kill");
        let said = finish(self.child, Vec::new()).await;
        assert_eq!(said.code(), 0, "{said:?}");
        (self.seen, said.err)
    }
}

/// A bus with an HTTP server and an admin address.
struct Served {
    bus: Bus,
    url: String,
    admin: String,
}

async fn serve(scratch: &Scratch, rest: &str) -> Served {
    let (port, admin) = (free_port(), free_port());
    let config = format!(
        "name: interop\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\nconnectors:\n  \
         web: {{http: {{server: {{listen: \"127.0.0.1:{port}\"}}}}}}\n{rest}"
    );
    let bus = Bus::start(scratch, &config).await;
    Served { bus, url: format!("http://127.0.0.1:{port}"), admin: format!("http://127.0.0.1:{admin}") }
}

/// The number in `… (seq N)`.
fn seq(said: &str) -> String {
    let (_, rest) = said.split_once("(seq ").unwrap_or_else(|| panic!("no seq in {said:?}"));
    rest.split(')').next().expect("its end").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_what_is_published_is_what_a_subscriber_gets() {
    let scratch = Scratch::new();
    let Served { bus: _bus, url, .. } = serve(&scratch, "").await;
    let first = seq(&run(&url, &["pub", "start"]).await.good());
    let args = [
        "pub",
        "a/b",
        "-d",
        "{\"x\": [1, null]}",
        "--type",
        "com.example.t",
        "--subject",
        "ä ö",
        "--attr",
        "color=red",
    ];
    let said = run(&url, &args).await.good();
    run(&url, &["pub", "a/c", "-d", "plain", "--source", "/s", "--id", "7", "-q"]).await.good();
    let events = run(&url, &["sub", "a/+", "--from", &first, "-C", "2"]).await.events();
    assert_eq!(
        [&events[0]["type"], &events[0]["subject"], &events[0]["color"], &events[0]["data"]],
        [&Value::from("com.example.t"), &"ä ö".into(), &"red".into(), &serde_json::json!({"x": [1, null]})]
    );
    assert!(said.contains(events[0]["id"].as_str().expect("an id")), "{said}");
    assert_eq!([&events[1]["id"], &events[1]["source"], &events[1]["data"]], ["7", "/s", "plain"]);
    let raw = run(&url, &["sub", "#", "--from", &first, "-C", "1", "-o", "raw", "--exact", "id=7"]).await;
    assert_eq!(raw.good(), "plain\n");
    let none = run(&url, &["sub", "nothing/#", "--timeout", "200ms"]).await;
    assert_eq!((none.code(), none.out.as_str()), (1, ""));
    let few = run(&url, &["sub", "a/+", "--from", &first, "-C", "3", "--timeout", "500ms"]).await;
    assert_eq!((few.code(), few.out.lines().count(), few.err.contains("2 of 3")), (1, 2, true), "{few:?}");
    let refused = run(&url, &["pub", "k8s/x", "-d", "x"]).await;
    assert_eq!((refused.code(), refused.err.contains("reserved")), (1, true), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_published_in_order_and_none_is_lost() {
    const LINES: usize = 5_000;
    let scratch = Scratch::new();
    let Served { bus: _bus, url, .. } = serve(&scratch, "").await;
    let first = seq(&run(&url, &["pub", "start"]).await.good());
    let lines = (0..LINES).fold(String::new(), |lines, n| lines + &format!("line {n}\n"));
    let started = Instant::now();
    let said = run_with(&url, &["pub", "log/app", "--lines"], &lines).await.good();
    assert_eq!(said, format!("published {LINES} events\n"));
    let (took, count) = (started.elapsed(), LINES.to_string());
    let got = run(&url, &["sub", "log/#", "--from", &first, "-C", &count, "-o", "raw"]).await.good();
    assert!(got == lines, "order or content differ");
    println!("{LINES} lines published in {took:?}, all {:?} after", started.elapsed().saturating_sub(took));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_outlives_the_bus_and_says_what_is_missing() {
    let scratch = Scratch::new();
    let Served { mut bus, url, .. } = serve(&scratch, "").await;
    let first = seq(&run(&url, &["pub", "start"]).await.good());
    run(&url, &["pub", "a/1", "-d", "before"]).await.good();
    let mut listening = start(&url, &["sub", "a/#", "--from", &first, "-C", "2", "-o", "raw"]);
    until("it has subscribed", LIMIT, async || {
        (bus.metric("meshbus_consumers", &[]).await > 0).then_some(())
    })
    .await;
    bus.kill();
    bus.restart().await;
    let deadline = Instant::now() + LIMIT;
    while listening.try_wait().expect("its state").is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        run(&url, &["pub", "a/2", "-d", "after"]).await.good();
    }
    let said = finish(listening, Vec::new()).await;
    assert!(said.err.contains("connecting again") && said.err.contains("no longer held"), "{}", said.err);
    assert_eq!(said.good(), "before\nafter\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_written_under_conditions_listed_and_deleted() {
    let scratch = Scratch::new();
    let Served { bus: _bus, url, .. } = serve(&scratch, "").await;
    let put = ["put", "value", "s/1", "-f", "-"];
    let created = run_with(&url, &put, "{\"metadata\": {\"labels\": {\"app\": \"web\"}}}").await.good();
    assert!(created.starts_with("meshbus.dev/v1/Value s/1 created (seq "), "{created}");
    let clash = run_with(&url, &[&put[..], &["--create-only"]].concat(), "x").await;
    assert_eq!((clash.code(), clash.err.contains("conflict")), (1, true), "{clash:?}");
    let stale = run_with(&url, &[&put[..], &["--if-seq", "5"]].concat(), "x").await;
    assert_eq!(stale.code(), 1, "{stale:?}");
    let version = seq(&created);
    run_with(&url, &["put", "value", "s/2", "-f", "-"], "two").await.good();
    let table = run(&url, &["get", "values", "-o", "wide"]).await.good();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "SCOPE", "VERSION", "SEQ", "AGE", "TYPE", "TOPIC", "SIZE"]);
    assert_eq!(rows[1][..4], ["s/1", "local", version.as_str(), version.as_str()]);
    assert_eq!(rows[2][5..], ["meshbus.dev/v1/Value", "s/2", "3"]);
    assert_eq!(run(&url, &["get", "value", "s/2", "-o", "raw"]).await.good(), "two");
    let labelled = run(&url, &["get", "values", "-l", "app in (web, db)", "-o", "json"]).await.good();
    let labelled: Value = serde_json::from_str(&labelled).expect("JSON");
    assert_eq!(labelled["items"].as_array().expect("a list").len(), 1);
    assert_eq!(labelled["items"][0]["resourcename"], "s/1");
    let updated = run_with(&url, &[&put[..], &["--if-version", &version]].concat(), "{}").await.good();
    assert!(updated.contains("updated"), "{updated}");
    let again = run_with(&url, &[&put[..], &["--if-version", &version]].concat(), "{}").await;
    assert_eq!((again.code(), again.err.contains("has version")), (1, true), "{again:?}");
    let dry = run(&url, &["delete", "value", "s/1", "--dry-run"]).await.good();
    assert!(dry.contains("dry run"), "{dry}");
    run(&url, &["delete", "value", "s/1"]).await.good();
    for args in [&["delete", "value", "s/1"][..], &["get", "value", "s/1"], &["get", "routes"]] {
        assert_eq!(run(&url, args).await.code(), 1, "{args:?}");
    }
}

#[cfg(feature = "envoy")]
#[tokio::test(flavor = "multi_thread")]
async fn an_xds_resource_is_written_and_shown_as_text_and_kept_as_protobuf() {
    let scratch = Scratch::new();
    let Served { bus: _bus, url, .. } = serve(&scratch, "").await;
    let file = scratch.path().join("c.yaml");
    std::fs::write(&file, "name: a\ntype: EDS\nconnect_timeout: 5s\n").expect("a file");
    let file = file.display().to_string();
    run(&url, &["put", "cds", "a", "-f", &file]).await.good();
    let raw = run(&url, &["get", "cds", "a", "-o", "raw"]).await.good();
    assert_eq!(raw, "\u{a}\u{1}a\u{10}\u{3}\"\u{2}\u{8}\u{5}");
    let shown = run(&url, &["get", "cds", "a", "-o", "json"]).await.good();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["data"].to_string(), r#"{"name":"a","type":"EDS","connectTimeout":"5s"}"#);
    let wrong = run_with(&url, &["put", "cds", "a", "-f", "-"], r#"{"connectTimeout": 5}"#).await;
    assert!(wrong.code() == 1 && wrong.err.contains("connectTimeout: "), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_whole_and_in_order() {
    const KEYS: usize = 4_100;
    let scratch = Scratch::new();
    let Served { bus: _bus, url, .. } = serve(&scratch, "").await;
    let client = http_client();
    for n in 0..KEYS {
        let uri = format!("{url}/v1/state?name=many/{n:05}");
        let request = hyper::Request::put(uri).body(Full::from("x")).expect("a request");
        let answer = client.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 201);
    }
    let table = run(&url, &["get", "values"]).await.good();
    let names: Vec<&str> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let expected: Vec<String> = (0..KEYS).map(|n| format!("many/{n:05}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_the_state_and_then_its_changes() {
    let scratch = Scratch::new();
    let Served { bus: _bus, url, .. } = serve(&scratch, "").await;
    run_with(&url, &["put", "value", "w/1", "-f", "-"], "1").await.good();
    let mut watching = Running::start(&url, &["get", "values", "-w"]);
    for (change, do_it) in [("added", None), ("modified", Some("put")), ("deleted", Some("delete"))] {
        match do_it {
            Some("put") => drop(run_with(&url, &["put", "value", "w/1", "-f", "-"], "2").await.good()),
            Some(verb) => drop(run(&url, &[verb, "value", "w/1"]).await.good()),
            None => {}
        }
        assert!(watching.shows(|line| line.starts_with(change), LIMIT).await, "no row for {change}");
    }
    let seen = watching.interrupt().await;
    let first: Vec<&str> = seen.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first, ["CHANGE", "added", "modified", "deleted"], "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_where_the_bus_asks_for_one() {
    let scratch = Scratch::new();
    let token = scratch.path().join("token");
    std::fs::write(&token, "letmein\n").expect("a file");
    let rules = format!(
        "access: [{{principal: ci, token: {{file: {}}}, allow: [publish, read], topics: [\"a/#\"]}}]\n",
        token.display()
    );
    let Served { bus: _bus, url, .. } = serve(&scratch, &rules).await;
    let args = ["--token-file", token.to_str().expect("a path")];
    let refused = run(&url, &["pub", "a/b"]).await;
    assert_eq!((refused.code(), refused.err.contains("401")), (1, true), "{refused:?}");
    run(&url, &[&["pub", "a/b"], &args[..]].concat()).await.good();
    let elsewhere = run(&url, &[&["pub", "b"], &args[..]].concat()).await;
    assert_eq!((elsewhere.code(), elsewhere.err.contains("may not publish")), (1, true), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_shows_what_filters_drop_and_why() {
    let scratch = Scratch::new();
    let routes = "routes:\n  r: {from: [{topic: \"a/#\"}], to: [{bus: b}], filters: [{rate_limit: {rate: 1, per: 1h, over: drop}}]}\n";
    let Served { bus: _bus, url, admin } = serve(&scratch, routes).await;
    let said = meanwhile(&url, &["tap", "r", "--admin", &admin, "-C", "3"], async |_| {
        for topic in ["a/1", "a/2"] {
            run(&url, &["pub", topic, "-q"]).await.good();
        }
    })
    .await
    .good();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["+ a/1 → bus b", "+ a/2 → bus b", "- a/2: filter rate_limit drops it: over the limit"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_and_an_explanation_come_from_the_admin_address() {
    let scratch = Scratch::new();
    let routes = "routes:\n  r: {from: [{topic: \"a/#\"}], dialects: [{exact: {type: t}}], to: [{bus: \"b/{type}\"}]}\n";
    let Served { bus: _bus, url, admin } = serve(&scratch, routes).await;
    let tap = ["tap", "r", "--admin", &admin, "-C", "2"];
    let said = meanwhile(&url, &tap, async |_| {
        run(&url, &["pub", "a/1", "--type", "t", "-q"]).await.good();
        run(&url, &["pub", "a/2", "--type", "u", "-q"]).await.good();
    })
    .await
    .good();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["+ a/1 → bus b/t", "- a/2: exact type = \"t\" (is \"u\")"]);
    let event = r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}"#;
    let args = ["explain", "-", "-s", &admin, "--topic", "a/x", "--from", "web"];
    let told = run_with(&url, &args, event).await.good();
    let decided = "the bus, for each event: exact type = \"t\"";
    for line in ["route r\n", decided, "\n  → bus b/t  in the log\n"] {
        assert!(told.contains(line), "{told}");
    }
    let missing = run(&url, &["tap", "nothing", "--admin", &admin]).await;
    assert_eq!((missing.code(), missing.err.contains("no route")), (1, true), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_events_are_published_and_subscribed_to() {
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let url = nats.url();
    let said = meanwhile(&url, &["sub", "orders/#", "-C", "3"], async |round| {
        let id = round.to_string();
        run(&url, &["pub", "orders/new.eu", "-d", "{}", "--id", &id, "--attr", "color=red", "-q"])
            .await
            .good();
    })
    .await;
    let events = said.events();
    let ids: Vec<u64> =
        events.iter().map(|it| it["id"].as_str().expect("an id").parse().expect("ours")).collect();
    assert!(ids.is_sorted_by(|a, b| b - a == 1), "{ids:?}");
    assert_eq!([&events[0]["mbtopic"], &events[0]["color"]], ["orders/new.eu", "red"]);
    assert_eq!(events[0]["mborigin"], Value::Null, "the marks of the command's own bus do not show");
    // A subject, as NATS people write it, and lines.
    let mut listening = Running::start(&url, &["sub", "logs.>", "-o", "raw", "--suffix", "source=cli"]);
    let ready = async |listening: &mut Running| {
        run(&url, &["pub", "logs.app", "-d", "ready", "-q"]).await.good();
        run(&url, &["pub", "logs.app", "-d", "not selected", "--source", "/other", "-q"]).await.good();
        listening.shows(|line| line == "ready", Duration::from_millis(100)).await.then_some(())
    };
    until("it has subscribed", LIMIT, async || ready(&mut listening).await).await;
    let lines: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    run_with(&url, &["pub", "logs.app", "--lines", "-q"], &lines.join("\n")).await.good();
    assert!(listening.shows(|line| line == "999", LIMIT).await, "lines are lost");
    let seen: Vec<String> =
        listening.interrupt().await.into_iter().filter(|line| line != "ready").collect();
    assert!(seen == lines, "order or content differ: {seen:?}");
    let refused = run(&url, &["put", "value", "x", "-f", "-"]).await;
    assert_eq!(refused.code(), 64, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_mqtt_events_and_retained_values_are_published_and_subscribed_to() {
    let scratch = Scratch::new();
    let mosquitto = Mosquitto::start(&scratch).await;
    let url = mosquitto.url();
    for version in ["5", "3.1.1"] {
        let with = format!("version={version}");
        let said = meanwhile(&url, &["sub", "a/+", "-C", "2", "--with", &with], async |round| {
            let args = ["pub", "a/b", "-d", "{}", "--subject", "ä", "--with", &with, "--id"];
            run(&url, &[&args[..], &[&round.to_string(), "-q"]].concat()).await.good();
        })
        .await;
        let events = said.events();
        assert_eq!([&events[0]["mbtopic"], &events[0]["subject"]], ["a/b", "ä"], "MQTT {version}");
    }
    run_with(&url, &["put", "value", "lights/hall", "-f", "-"], "on").await.good();
    let snapshot = ["sub", "lights/#", "--from", "snapshot", "-C", "1", "-o", "raw", "--timeout", "2s"];
    assert_eq!(run(&url, &snapshot).await.good(), "on\n");
    let now = run(&url, &["sub", "lights/#", "--timeout", "500ms"]).await;
    assert_eq!((now.code(), now.out.as_str()), (1, ""), "what is retained is not new");
    run(&url, &["delete", "value", "lights/hall"]).await.good();
    assert_eq!(run(&url, &snapshot).await.code(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_connections_disturbs_no_bus_that_runs() {
    let scratch = Scratch::new();
    let (nats, mosquitto) = (NatsServer::start(&scratch).await, Mosquitto::start(&scratch).await);
    let rest = format!(
        "  broker: {{nats: {{client: {{urls: [\"{}\"], subscribe: [{{subject: \"x.>\"}}]}}}}}}\n  \
         devices: {{mqtt: {{client: {{urls: [\"{}\"], subscribe: [{{topic: \"devices/#\", qos: 1}}]}}}}}}\n",
        nats.url(),
        mosquitto.url()
    );
    let Served { bus, url, .. } = serve(&scratch, &rest).await;
    let restarts = bus.metric("meshbus_connector_restarts_total", &[]).await;
    let first = seq(&run(&url, &["pub", "start"]).await.good());
    let config = scratch.path().join("meshbus.yaml");
    let args = ["validate", "--connect", "-c", config.to_str().expect("a path")];
    for _ in 0..3 {
        let said = run(&url, &args).await.good();
        let ready = said.lines().filter(|line| line.ends_with("  ready")).count();
        assert_eq!(ready, 2, "{said}");
    }
    for n in 0..50 {
        let id = n.to_string();
        run(&mosquitto.url(), &["pub", "devices/x", "--id", &id, "-q"]).await.good();
    }
    let events = run(&url, &["sub", "devices/#", "--from", &first, "-C", "50"]).await.events();
    assert_eq!(events.len(), 50);
    let now = bus.metric("meshbus_connector_restarts_total", &[]).await;
    assert_eq!(now, restarts, "a session was taken over");
}
