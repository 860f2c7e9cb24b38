//! Subscribing: server-sent events and WebSocket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::core::access::{Access, Action, Rule};
use crate::core::selector::TopicFilter;
use crate::transport::http::testing::{Events, Served, serve, soon};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn events_come_as_they_are_published_and_resume_after_the_last_seen() {
    let served = serve("").await;
    let mut events = Events::open(&served, "?filter=a/%23", &[]).await;
    served.publish("b", "0").await;
    let seq = served.publish("a/x", "1").await.header("mb-seq").to_owned();
    let first = events.next().await.unwrap();
    assert_eq!((&*first["id"], &*first["event"]), (&*seq, "message"));
    let event = json(&first["data"]);
    assert_eq!((event["id"].as_str(), event["mbseq"].as_str()), (Some("1"), Some(&*seq)));
    assert_eq!(event["mbtopic"], "a/x");
    drop(events);
    served.publish("a/y", "2").await;
    served.publish("a/z", "3").await;
    for (query, last) in [("?filter=a/%23", &*seq), ("?filter=a/%23&from=snapshot", &*seq)] {
        let mut events = Events::open(&served, query, &[("last-event-id", last)]).await;
        assert_eq!(json(&events.next().await.unwrap()["data"])["id"], "2");
        assert_eq!(json(&events.next().await.unwrap()["data"])["id"], "3");
    }
    let mut events = Events::open(&served, &format!("?from={seq}"), &[]).await;
    assert_eq!(json(&events.next().await.unwrap()["data"])["id"], "2");
    served.end().await;
}

#[tokio::test]
async fn only_what_the_expression_wants_is_told() {
    let served = serve("").await;
    let mut events = Events::open(
        &served,
        "?where=mbtopic%20LIKE%20%27a%25%27%20AND%20id%20IN%20(%272%27,%273%27)",
        &[],
    )
    .await;
    for (topic, id) in [("a", "1"), ("b", "2"), ("a/x", "3"), ("a", "2")] {
        served.publish(topic, id).await;
    }
    assert_eq!(json(&events.next().await.unwrap()["data"])["id"], "3");
    assert_eq!(json(&events.next().await.unwrap()["data"])["id"], "2");
    served.end().await;
}

#[tokio::test]
async fn a_snapshot_tells_the_state_then_its_changes() {
    let served = serve("").await;
    assert_eq!(served.call("PUT", "/v1/state?name=lamp/1", &[], b"on").await.status, 201);
    let mut events = Events::open(&served, "?from=snapshot&filter=lamp/%23", &[]).await;
    assert_eq!(events.next().await.unwrap()["event"], "snapshot_begin");
    let put = events.next().await.unwrap();
    assert_eq!(put["event"], "put");
    assert!(!put.contains_key("id"), "a snapshot cannot be resumed in its middle");
    assert_eq!(json(&put["data"])["resourcename"], "lamp/1");
    let end = events.next().await.unwrap();
    assert_eq!((&*end["event"], end["id"].is_empty()), ("snapshot_end", false));
    assert_eq!(json(&end["data"])["type"], "dev.meshbus.subscription.snapshotend.v1");
    assert_eq!(served.call("DELETE", "/v1/state?name=lamp/1", &[], b"").await.status, 200);
    let delete = events.next().await.unwrap();
    assert_eq!((&*delete["event"], delete.contains_key("id")), ("delete", true));
    served.end().await;
}

#[tokio::test]
async fn a_position_that_is_gone_is_answered_with_the_oldest_that_is_not() {
    let served = serve("").await;
    served.publish("a", "1").await;
    let answer = served.call("GET", "/v1/subscribe", &[("last-event-id", "12")], b"").await;
    answer.problem(410);
    let oldest = answer.json()["oldest"].clone();
    assert!(oldest.as_str().unwrap().parse::<u64>().unwrap() > 12);
    // Nor is one held that this bus has not told: it is of another, or of before its clock was set back.
    let ahead = served.bus.figures().seq.0 + 1;
    let answer = served.call("GET", &format!("/v1/subscribe?from={ahead}"), &[], b"").await;
    answer.problem(410);
    assert_eq!(answer.json()["oldest"], oldest);
    served.end().await;
}

#[tokio::test]
async fn what_a_subscription_cannot_be_is_said() {
    let served = serve("max_subscribers: 1").await;
    let get = async |query: &str| served.call("GET", &format!("/v1/subscribe{query}"), &[], b"").await;
    assert!(get("?where=id%20==%201").await.problem(400).contains("where column 4: == is no operator"));
    get("?policy=block").await.problem(400);
    get("?from=yesterday").await.problem(400);
    get("?filter=a/%23/b").await.problem(400);
    get("?flter=a").await.problem(400);
    let _events = Events::open(&served, "", &[]).await;
    assert!(get("").await.problem(503).contains("max_subscribers"));
    served.shutdown.start_end();
}

#[tokio::test]
async fn a_quiet_subscription_is_sent_signs_of_life_and_ends_with_the_drain() {
    let served = serve("heartbeat: 20ms").await;
    let mut events = Events::open(&served, "", &[]).await;
    let comment = events.next().await.unwrap();
    assert_eq!(comment[""], "heartbeat");
    served.end().await;
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn a_subscriber_is_told_only_what_it_may_see_also_when_the_rules_change() {
    let served = serve("").await;
    let rules = |topic: &str| {
        Access::new(vec![Rule {
            principal: "ci".into(),
            token: Some("t".into()),
            allow: vec![Action::Subscribe, Action::Publish],
            topics: vec![TopicFilter::parse(topic).unwrap()],
        }])
    };
    served.bus.set_access(rules("#"));
    let token = [("authorization", "Bearer t")];
    let mut events = Events::open(&served, "", &token).await;
    served.bus.set_access(rules("b"));
    served.bus.publish(vec![event("a", "1"), event("b", "2")]).await;
    assert_eq!(json(&events.next().await.unwrap()["data"])["id"], "2");
    served.call("GET", "/v1/subscribe", &token, b"").await.problem(403);
    served.end().await;
}

fn event(topic: &'static str, id: &'static str) -> crate::core::Envelope {
    crate::core::Envelope::event(topic.parse().unwrap(), id, "/s", "t")
}

/// A WebSocket client of the simplest kind: it asks, and reads short frames.
struct Socket(TcpStream);

impl Socket {
    async fn open(served: &Served, query: &str, more: &str) -> (Self, String) {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let request = format!(
            "GET /v1/subscribe{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            served.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(stream.read_u8()).await.unwrap());
        }
        (Self(stream), String::from_utf8(head).unwrap())
    }

    /// The next frame: opcode and payload.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let opcode = soon(self.0.read_u8()).await.unwrap() & 0xf;
        let length = match soon(self.0.read_u8()).await.unwrap() {
            126 => self.0.read_u16().await.unwrap().into(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        soon(self.0.read_exact(&mut payload)).await.unwrap();
        (opcode, payload)
    }
}

#[tokio::test]
async fn a_websocket_is_told_the_same_and_closed_with_the_drain() {
    let served = serve("heartbeat: 50ms").await;
    let protocol = "Sec-WebSocket-Protocol: cloudevents.json\r\n";
    let (mut socket, head) = Socket::open(&served, "?filter=a", protocol).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains("sec-websocket-protocol: cloudevents.json"), "{head}");
    let (ping, _) = socket.next().await;
    assert_eq!(ping, 9);
    served.publish("a", "1").await;
    let text = loop {
        if let (1, text) = socket.next().await {
            break text;
        }
    };
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).unwrap()["id"], "1");
    served.end().await;
    while socket.next().await.0 != 8 {}
}

#[tokio::test]
async fn a_web_page_of_another_site_may_not_call() {
    let served = serve("allowed_origins: [\"https://good.example\"]").await;
    let (_, head) = Socket::open(&served, "", "Origin: https://evil.example\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let own = format!("Origin: http://{}\r\n", served.address);
    assert!(Socket::open(&served, "", &own).await.1.starts_with("HTTP/1.1 101"));
    assert!(Socket::open(&served, "", "Origin: https://good.example\r\n").await.1.contains(" 101 "));
    // A name that was made to resolve to us.
    let headers = [("origin", "http://rebound.example"), ("host", "rebound.example")];
    served.call("POST", "/", &headers[..1], b"x").await.problem(403);
    served.shutdown.start_end();
}

#[tokio::test]
async fn a_subscriber_that_reads_too_slowly_is_told_so_and_can_resume() {
    let served = serve("max_queued: 4").await;
    let mut events = Events::open(&served, "", &[]).await;
    // Published at once, faster than any reader.
    let burst = (0..64).map(|i| {
        let mut event = event("a", "x");
        event.id = i.to_string().into();
        event
    });
    served.bus.publish(burst.collect()).await;
    let mut last = String::new();
    let reason = loop {
        let event = events.next().await.unwrap();
        match &*event["event"] {
            "message" => last.clone_from(&event["id"]),
            word => break word.to_owned(),
        }
    };
    assert_eq!(reason, "slow");
    assert!(events.next().await.is_none());
    let from = if last.is_empty() { "now".to_owned() } else { last };
    drop(Events::open(&served, &format!("?from={from}"), &[]).await);
    served.end().await;
}
