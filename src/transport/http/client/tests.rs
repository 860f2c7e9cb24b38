//! Tests of the webhook client against scripted sinks over loopback.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::codec::PLAIN_TYPE;
use super::super::testing::sink::{Sink, ok};
use super::super::testing::{Answered, link, serve, soon, until};
use super::*;
use crate::config::Section;
use crate::core::delivery::{Mailbox, Target};
use crate::core::{Envelope, Seq};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::transport::Transport;
use crate::transport::http::Http;

/// A running client.
struct Sending {
    mailbox: Arc<Mailbox>,
    answered: Arc<Answered>,
    target: Target,
    shutdown: Shutdown,
    ready: crate::transport::Ready,
    stats: Arc<crate::core::stats::ConnectorStats>,
    task: JoinHandle<Result<(), Error>>,
    sent: u64,
}

/// Starts a client with these settings and a target with those.
fn send_to(settings: &str, target: &str) -> Sending {
    let section = Section::from_yaml("test.yaml", settings).unwrap();
    let mut client = Http.client("out", &section).unwrap();
    let target = Http.target(&section, &Section::from_yaml("test.yaml", target).unwrap()).unwrap();
    let (_bus, mut link, mailbox) = link("out");
    let (shutdown, ready, stats) = (link.shutdown.clone(), link.ready.clone(), Arc::clone(&link.stats));
    let task = task::spawn("client", async move { client.run(&mut link).await });
    Sending { mailbox, answered: Arc::default(), target, shutdown, ready, stats, task, sent: 0 }
}

fn event(id: u64) -> Envelope {
    let mut event = Envelope::event("a/b".parse().unwrap(), id.to_string(), "/s", "t");
    event.datacontenttype = Some("text/plain".into());
    event.data = "data".into();
    event
}

impl Sending {
    /// Hands it a delivery and gives its ticket.
    fn deliver(&mut self, envelope: Envelope, attempt: u32) -> u64 {
        self.sent += 1;
        let answers = Arc::clone(&self.answered) as Arc<dyn crate::core::delivery::Answers>;
        let address = self.target.address.as_ref().map(|path| path.render(&envelope, "r").unwrap());
        let options = Arc::clone(&self.target.options);
        let mut delivery =
            Delivery::new(Arc::new(envelope), Seq(self.sent), "r".into(), options, answers, self.sent);
        delivery.address = address;
        delivery.attempt = attempt;
        self.mailbox.send([delivery]);
        self.sent
    }

    /// Hands it one event and waits for the answer.
    async fn outcome(&mut self) -> Outcome {
        let ticket = self.deliver(event(self.sent + 1), 1);
        self.answered.of(ticket).await
    }

    /// Lets it drain and gives how it ended.
    async fn end(self) -> Result<(), Error> {
        self.shutdown.start_drain();
        self.mailbox.close();
        soon(self.task).await.unwrap()
    }
}

fn answer(head: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n")
}

fn reason(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Delivered => ("delivered", ""),
        Outcome::Filtered => ("filtered", ""),
        Outcome::Rejected(reason) => ("rejected", reason),
        Outcome::Undelivered(reason) => ("undelivered", reason),
    }
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let long = "x".repeat(5000);
    let answers = vec![
        ok(),
        answer("204 No Content"),
        format!("HTTP/1.1 400 Bad\r\nContent-Length: 5000\r\n\r\n{long}"),
        answer("500 Oops"),
        answer("408 Slow"),
        answer("302 Found\r\nLocation: http://user:pw@evil.example:81/x?secret=1"),
        answer("429 Slow down\r\nRetry-After: 0"),
        answer("503 Away\r\nRetry-After: 0"),
        ok(),
    ];
    let mut sink = Sink::start(answers).await;
    let mut sending = send_to(&format!("url: \"{}\"", sink.url("/hook")), "");
    for expected in [
        "delivered",
        "delivered",
        "rejected",
        "rejected",
        "undelivered",
        "rejected",
        "undelivered",
        "undelivered",
        "delivered",
    ] {
        let outcome = sending.outcome().await;
        let (kind, why) = reason(&outcome);
        assert_eq!(kind, expected, "{why}");
        assert!(why.len() < 400, "an answer is quoted in part: {why}");
        assert!(!why.contains("secret") && !why.contains("pw"), "{why}");
        let request = sink.next().await;
        assert!(!request.starts_with("GET"), "redirects are not followed");
    }
    assert_eq!(sending.stats.sent.get(), 3);
    sending.end().await.unwrap();
}

#[tokio::test]
async fn a_redirect_names_where_it_leads_and_a_refusal_quotes_the_sink() {
    let refusal = "HTTP/1.1 422 No\r\nContent-Length: 14\r\n\r\nno such\ncolumn".to_owned();
    let sink = Sink::start(vec![answer("301 Moved\r\nLocation: https://new.example/x"), refusal]).await;
    let mut sending = send_to(&format!("url: \"{}\"", sink.url("/")), "");
    assert!(reason(&sending.outcome().await).1.contains("redirect to new.example"));
    assert!(reason(&sending.outcome().await).1.ends_with("422 Unprocessable Entity: no such column"));
    sending.end().await.unwrap();
}

#[tokio::test]
async fn a_request_has_the_events_attributes_the_settings_headers_and_the_targets_path() {
    let mut sink = Sink::start(vec![ok()]).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "meshbus\n").unwrap();
    let file = secret.path().display();
    let settings = format!(
        "url: \"{}\"\nmethod: PUT\nheaders: {{x-key: \"1\", x-from: {{file: {file}}}}}\nbearer: {{file: {file}}}",
        sink.url("/hook/?k=v")
    );
    let mut sending = send_to(&settings, "path: \"alerts/{subject}\"");
    let mut envelope = event(1);
    envelope.subject = Some("Euro €/x".into());
    let ticket = sending.deliver(envelope, 1);
    assert_eq!(sending.answered.of(ticket).await, Outcome::Delivered);
    let request = sink.next().await;
    assert!(request.starts_with("PUT /hook/alerts/Euro%20%E2%82%AC%2Fx?k=v HTTP/1.1\r\n"), "{request}");
    for line in [
        "x-key: 1",
        "x-from: meshbus",
        "authorization: Bearer meshbus",
        "content-type: text/plain",
        "ce-specversion: 1.0",
        "ce-id: 1",
        "ce-subject: Euro%20%E2%82%AC/x",
        "user-agent: meshbus/",
    ] {
        assert!(request.contains(line), "{line}: {request}");
    }
    assert!(request.ends_with("\r\n\r\ndata"));
    sending.end().await.unwrap();
}

#[tokio::test]
async fn the_content_modes_are_as_the_target_says() {
    for (target, media_type, body) in [
        ("content_mode: structured", "application/cloudevents+json", "\"specversion\":\"1.0\""),
        ("{content_mode: structured, format: protobuf}", "application/cloudevents+protobuf", "1.0"),
        ("content_mode: batch", "application/cloudevents-batch+json", "[{"),
        ("content_mode: data", "text/plain", "\r\n\r\ndata"),
    ] {
        let mut sink = Sink::start(vec![ok()]).await;
        let mut sending = send_to(&format!("url: \"{}\"", sink.url("/")), target);
        assert_eq!(sending.outcome().await, Outcome::Delivered);
        let request = sink.next().await;
        assert!(request.contains(media_type) && request.contains(body), "{target}: {request}");
        sending.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_holds_first_tries_only() {
    let mut sink = Sink::start(vec!["wait 200".to_owned(), ok()]).await;
    let settings =
        format!("{{url: \"{}\", content_mode: batch, concurrency: 1, max_batch: 3}}", sink.url("/"));
    let mut sending = send_to(&settings, "");
    let count = |request: &str| request.matches("specversion").count();
    sending.deliver(event(1), 1);
    assert_eq!(count(&soon(sink.next()).await), 1);
    // These wait while the first is under way: three first tries, then one that was tried before.
    for id in 2..=4 {
        sending.deliver(event(id), 1);
    }
    sending.deliver(event(5), 2);
    sending.deliver(event(6), 1);
    for expected in [3, 1, 1] {
        assert_eq!(count(&soon(sink.next()).await), expected);
    }
    until(|| sending.answered.len() == 6).await;
    sending.end().await.unwrap();
}

#[tokio::test]
async fn a_sink_that_is_away_leaves_deliveries_undelivered_and_the_connector_not_ready() {
    let mut sending = send_to("url: \"http://127.0.0.1:1/\"", "");
    let ready = sending.ready.watch();
    until(|| ready.borrow().is_ok()).await;
    let outcome = sending.outcome().await;
    let (kind, why) = reason(&outcome);
    assert!(kind == "undelivered" && why.contains("127.0.0.1:1") && why.contains("refused"), "{why}");
    assert!(ready.borrow().is_err());
    sending.end().await.unwrap();

    let sink = Sink::start(vec!["wait 60000".to_owned()]).await;
    let mut sending = send_to(&format!("{{url: \"{}\", timeout: 100ms}}", sink.url("/")), "");
    assert!(reason(&sending.outcome().await).1.contains("no answer in 100ms"));
    sending.end().await.unwrap();
}

#[tokio::test]
async fn a_pause_the_sink_asks_for_is_kept() {
    let mut sink = Sink::start(vec![answer("503 Away\r\nRetry-After: 1"), ok()]).await;
    let mut sending = send_to(&format!("url: \"{}\"", sink.url("/")), "");
    assert_eq!(reason(&sending.outcome().await).0, "undelivered");
    drop(sink.next().await);
    let begun = Instant::now();
    assert_eq!(sending.outcome().await, Outcome::Delivered);
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    sending.end().await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_away_is_passed_over() {
    let sink = Sink::start(vec![ok()]).await;
    let settings = format!("urls: [\"http://127.0.0.1:1/\", \"{}\"]", sink.url("/"));
    let mut sending = send_to(&settings, "");
    for _ in 0..4 {
        assert_eq!(sending.outcome().await, Outcome::Delivered);
    }
    sending.end().await.unwrap();
}

#[tokio::test]
async fn a_slow_sink_holds_up_neither_another_nor_more_than_its_requests() {
    let mut slow = Sink::start(vec!["wait 60000".to_owned()]).await;
    let fast = Sink::start(vec![ok()]).await;
    let mut to_slow = send_to(&format!("{{url: \"{}\", concurrency: 2}}", slow.url("/")), "");
    let mut to_fast = send_to(&format!("url: \"{}\"", fast.url("/")), "");
    for id in 1..=4 {
        to_slow.deliver(event(id), 1);
    }
    for _ in 0..2 {
        soon(slow.next()).await;
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(to_fast.outcome().await, Outcome::Delivered);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(slow.try_next().is_none(), "at most two requests under way");
    assert_eq!((to_slow.mailbox.len(), to_slow.answered.len()), (2, 0));
    to_fast.end().await.unwrap();
    // The end of the grace period: what is under way is undelivered, what waits stays.
    to_slow.shutdown.start_end();
    soon(to_slow.task).await.unwrap().unwrap();
    assert_eq!(reason(&to_slow.answered.of(1).await).0, "undelivered");
    assert_eq!(to_slow.mailbox.len(), 2);
}

#[tokio::test]
async fn a_drain_finishes_what_comes() {
    let sink = Sink::start(vec!["wait 100".to_owned()]).await;
    let mut sending = send_to(&format!("url: \"{}\"", sink.url("/")), "");
    sending.deliver(event(1), 1);
    sending.shutdown.start_drain();
    sending.deliver(event(2), 1);
    let answered = Arc::clone(&sending.answered);
    sending.end().await.unwrap();
    assert_eq!(answered.of(1).await, Outcome::Delivered);
    assert_eq!(answered.of(2).await, Outcome::Delivered);
}

#[tokio::test]
async fn private_addresses_are_refused_where_they_are_not_allowed() {
    let mut sink = Sink::start(vec![ok()]).await;
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"] {
        let url = format!("http://{host}:{}/", sink.address.port());
        let mut sending = send_to(&format!("{{url: \"{url}\", allow_private: false}}"), "");
        let outcome = sending.outcome().await;
        let (kind, why) = reason(&outcome);
        assert!(kind == "rejected" && why.contains("only public addresses"), "{host}: {outcome:?}");
        sending.end().await.unwrap();
    }
    assert!(sink.try_next().is_none());
}

#[tokio::test]
async fn a_handshake_is_asked_for_and_its_rate_kept() {
    let permit = answer("200 OK\r\nWebHook-Allowed-Origin: edge-1\r\nWebHook-Allowed-Rate: 600");
    let mut sink = Sink::start(vec![permit, ok()]).await;
    let settings = format!("{{url: \"{}\", handshake: true, origin: edge-1}}", sink.url("/hook"));
    let mut sending = send_to(&settings, "");
    let request = soon(sink.next()).await;
    assert!(request.starts_with("OPTIONS /hook") && request.contains("webhook-request-origin: edge-1"));
    let begun = Instant::now();
    for id in 1..=4 {
        sending.deliver(event(id), 1);
    }
    until(|| sending.answered.len() == 4).await;
    assert!(begun.elapsed() >= Duration::from_millis(290), "600 a minute are 100 ms apart");
    sending.end().await.unwrap();
}

#[tokio::test]
async fn without_permission_nothing_is_sent() {
    for (head, kind) in [
        ("200 OK", ErrorKind::Denied),
        ("405 No", ErrorKind::Denied),
        ("200 OK\r\nWebHook-Allowed-Origin: other", ErrorKind::Denied),
        ("200 OK\r\nWebHook-Allowed-Origin: *\r\nWebHook-Allowed-Rate: many", ErrorKind::Denied),
        ("503 Away", ErrorKind::Unreachable),
    ] {
        let mut sink = Sink::start(vec![answer(head)]).await;
        let mut sending = send_to(&format!("{{url: \"{}\", handshake: true}}", sink.url("/")), "");
        sending.deliver(event(1), 1);
        let error = soon(&mut sending.task).await.unwrap().unwrap_err();
        assert_eq!(error.kind, kind, "{head}: {error}");
        assert!(sink.next().await.starts_with("OPTIONS"));
        assert!(sink.try_next().is_none());
        assert_eq!(sending.mailbox.len(), 1, "it waits for the next run");
    }
}

#[tokio::test]
async fn our_client_and_our_server_understand_each_other_in_every_mode() {
    for target in [
        "{}",
        "content_mode: structured",
        "content_mode: batch",
        "{content_mode: structured, format: protobuf}",
        "{content_mode: batch, format: protobuf}",
        "compat: raw",
    ] {
        let compat = if target.contains("raw") { "raw" } else { "spec" };
        let served = serve(&format!("compat: {compat}")).await;
        let mut follow = served.follow();
        let settings = format!("{{url: \"http://{}/\", handshake: true}}", served.address);
        let mut sending = send_to(&settings, target);
        let mut sent = event(1);
        sent.subject = Some("Euro € \"x\" 100%25".into());
        sent.dataschema = Some("https://example.com/s".into());
        sent.time = Some(crate::core::Timestamp::parse("2026-01-02T03:04:05.600+02:00").unwrap());
        sent.extensions.set("myext", "ü");
        let ticket = sending.deliver(sent.clone(), 1);
        assert_eq!(sending.answered.of(ticket).await, Outcome::Delivered, "{target}");
        let mut got = Envelope::clone(&*follow.next().await);
        got.extensions.remove("mborigin");
        got.extensions.remove("mbhops");
        if !target.contains("protobuf") {
            assert_eq!(got.time, sent.time);
        }
        got.time.clone_from(&sent.time);
        got.topic = sent.topic.clone();
        assert_eq!(got, sent, "{target}");
        sending.end().await.unwrap();
        served.end().await;
    }
}

#[tokio::test]
async fn a_target_in_data_mode_arrives_as_a_plain_message() {
    let served = serve("").await;
    let mut events = super::super::testing::Events::open(&served, "", &[]).await;
    let settings = format!("url: \"http://{}/v1/publish?topic=plain\"", served.address);
    let mut sending = send_to(&settings, "content_mode: data");
    assert_eq!(sending.outcome().await, Outcome::Delivered);
    assert!(events.next().await.unwrap()["data"].contains(PLAIN_TYPE));
    sending.end().await.unwrap();
    served.end().await;
}

#[tokio::test]
async fn tls_is_spoken_and_an_unknown_authority_refused() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
    let served =
        serve(&format!("tls: {{cert: {directory}/server.pem, key: {directory}/server.key}}")).await;
    let url = format!("https://localhost:{}/", served.address.port());
    let mut sending = send_to(&format!("{{url: \"{url}\", tls: {{ca: {directory}/ca.pem}}}}"), "");
    assert_eq!(sending.outcome().await, Outcome::Delivered);
    sending.end().await.unwrap();
    let mut sending = send_to(&format!("{{url: \"{url}\", tls: {{ca: {directory}/other.pem}}}}"), "");
    let outcome = sending.outcome().await;
    assert!(reason(&outcome).1.contains("certificate"), "{outcome:?}");
    sending.end().await.unwrap();
    served.end().await;
}

#[test]
fn settings_that_cannot_work_are_told_at_their_place() {
    for (settings, path, reason) in [
        ("{}", "", "has no url"),
        ("url: ftp://x", "url", "no http or https"),
        ("url: \"http://me:pw@x/\"", "url", "credentials"),
        ("urls: [\"http://x/\", \"nothing\"]", "urls[1]", "no http"),
        ("{url: \"http://x/\", method: GET}", "method", "cannot carry"),
        ("{url: \"http://x/\", headers: {ce-id: x}}", "headers.ce-id", "attribute"),
        ("{url: \"http://x/\", headers: {Host: x}}", "headers.Host", "meshbus itself"),
        ("{url: \"http://x/\", concurrency: 0}", "concurrency", "from 1"),
        ("{url: \"http://x/\", tls: {cert: a}}", "tls", "both"),
        ("{url: \"http://x/\", timeout: 5}", "timeout", "unit"),
    ] {
        let section = Section::from_yaml("test.yaml", settings).unwrap();
        let error = Http.client("out", &section).err().expect(settings);
        assert!(error.path == path && error.reason.contains(reason), "{settings}: {error}");
        assert!(!error.to_string().contains("pw@"));
    }
    for (settings, path) in [
        ("listen: 8080", "listen"),
        ("topic: \"a/{\"", "topic"),
        ("max_headers: 65", "max_headers"),
        ("max_body: 1GiB", "max_body"),
        ("allowed_origins: [example.com]", "allowed_origins[0]"),
    ] {
        let section = Section::from_yaml("test.yaml", settings).unwrap();
        assert_eq!(Http.server("in", &section).err().expect(settings).path, path);
    }
}
