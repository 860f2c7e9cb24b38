//! Publishing: what is taken in, what is answered.

use std::sync::Arc;

use crate::core::Outcome;
use crate::core::access::{Access, Action, Rule};
use crate::core::consumer::Source;
use crate::core::delivery::{Assurance, Deliveries, Guarantee, Mailbox, Target};
use crate::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use crate::core::selector::TopicFilter;
use crate::runtime::task;
use crate::transport::http::codec::PLAIN_TYPE;
use crate::transport::http::testing::{Served, serve};

/// A route named `r` that takes all and hands it to `answer`.
fn route(served: &Served, answer: impl Fn() -> Outcome + Send + 'static) -> Router {
    let router = Router::new(served.bus.clone());
    let sink = |mailbox: &Arc<Mailbox>| Sink::Connector {
        name: "sink".into(),
        mailbox: Arc::clone(mailbox),
        target: Target {
            address: None,
            pipelined: true,
            guarantee: Guarantee {
                assurance: Assurance::AtLeastOnce,
                identity: true,
                because: "test".into(),
            },
            options: Arc::new(()),
        },
    };
    let (mailbox, dead) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    let spec = RouteSpec {
        name: "r".into(),
        from: vec![Source { connector: Some("in".into()), topic: None }],
        predicates: Vec::new(),
        filters: Vec::new(),
        to: vec![To { output: None, sink: sink(&mailbox) }],
        retry: Retry { max_attempts: 1, ..Retry::default() },
        dead_letter: sink(&dead),
        when_full: WhenFull::Block,
        in_flight: 10,
    };
    let worker = router.set(spec).unwrap();
    drop(task::spawn("route", worker.run()));
    for (mailbox, answer) in [(mailbox, Some(answer)), (dead, None)] {
        drop(task::spawn("sink", async move {
            let mut deliveries = Deliveries(mailbox);
            let mut inbox = Vec::new();
            while deliveries.recv(&mut inbox, 10).await > 0 {
                for delivery in inbox.drain(..) {
                    delivery.answer(answer.as_ref().map_or(Outcome::Delivered, |answer| answer()));
                }
            }
        }));
    }
    router
}

#[tokio::test]
async fn a_binary_event_is_published_with_all_its_attributes_and_answered_with_its_position() {
    let served = serve("").await;
    let mut follow = served.follow();
    let headers = [
        ("Ce-Specversion", "1.0"),
        ("CE-ID", "7"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("ce-myext", "x"),
        ("Content-Type", "text/plain"),
    ];
    let answer = served.call("POST", "/v1/publish?topic=a/b", &headers, b"hello").await;
    assert_eq!(answer.status, 202);
    let event = follow.next().await;
    assert_eq!(answer.header("mb-seq"), served.bus.figures().seq.to_string());
    assert_eq!((&*event.id, event.topic.as_str(), &event.data[..]), ("7", "a/b", &b"hello"[..]));
    assert_eq!(event.subject.as_deref(), Some("Euro €"));
    assert_eq!(event.attribute("myext").as_deref(), Some("x"));
    assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"));
    served.end().await;
}

#[tokio::test]
async fn without_a_topic_an_event_goes_where_the_listeners_template_says() {
    let served = serve("topic: \"in/{type}\"").await;
    let mut follow = served.follow();
    let structured = br#"{"specversion":"1.0","id":"1","source":"/s","type":"a.b/c","data":{"x":1}}"#;
    let json = [("content-type", "application/cloudevents+json")];
    assert_eq!(served.call("POST", "/", &json, structured).await.status, 202);
    let event = follow.next().await;
    assert_eq!(event.topic.as_str(), "in/a.b%2Fc");
    assert_eq!(event.data, r#"{"x":1}"#);
    served.end().await;
}

#[tokio::test]
async fn a_plain_body_becomes_an_event_with_an_identity_of_its_own() {
    let served = serve("").await;
    let mut follow = served.follow();
    let mut ids = Vec::new();
    for path in ["/v1/publish?topic=a", "/"] {
        assert_eq!(served.call("POST", path, &[("content-type", "text/plain")], b"hi").await.status, 202);
        let event = follow.next().await;
        assert_eq!((&*event.kind, &*event.source), (PLAIN_TYPE, "//meshbus/http/in"));
        assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"));
        ids.push(event.id.clone());
    }
    assert_ne!(ids[0], ids[1]);
    assert!(ids[0].len() == 36 && ids[0].as_bytes()[14] == b'7', "a UUID of version 7: {}", ids[0]);
    served.end().await;
}

#[tokio::test]
async fn a_batch_is_answered_with_the_worst_and_its_good_events_are_published() {
    let served = serve("max_batch: 3").await;
    let mut follow = served.follow();
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let both = format!("[{good},{}]", good.replace("\"1\"", "\"2\""));
    let answer = served.call("POST", "/", &batch, both.as_bytes()).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("mb-seq"), served.bus.figures().seq.to_string());
    let mixed = format!(r#"[{good},{{"specversion":"1.0","id":"x"}},{good}]"#);
    let answer = served.call("POST", "/", &batch, mixed.as_bytes()).await;
    assert_eq!(answer.problem(400), "1 of 3 events were not taken");
    assert_eq!(answer.json()["errors"][0]["index"], 1);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(follow.next().await.id.to_string());
    }
    assert_eq!(ids, ["1", "2", "1", "1"]);
    let long = format!("[{good},{good},{good},{good}]");
    served.call("POST", "/", &batch, long.as_bytes()).await.problem(400);
    assert_eq!(served.call("POST", "/", &batch, b"[]").await.status, 202);
    served.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_with_what_is_wrong() {
    let served = serve("").await;
    let some = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "t")];
    let detail = served.call("POST", "/", &some, b"").await.problem(400);
    assert!(detail.contains("ce-source"), "{detail}");
    let avro = [("content-type", "application/cloudevents+avro")];
    assert!(served.call("POST", "/", &avro, b"").await.problem(415).contains("avro"));
    let json = [("content-type", "application/cloudevents+json")];
    served.call("POST", "/", &json, b"{").await.problem(400);
    served.call("POST", "/v1/publish?topik=a", &[], b"x").await.problem(400);
    assert!(
        served.call("POST", "/v1/publish?topic=a/%23", &[], b"x").await.problem(400).contains("wildcard")
    );
    assert!(served.stats.malformed.get() >= 3);
    served.end().await;
}

#[tokio::test]
async fn a_reserved_topic_takes_no_events() {
    let served = serve("").await;
    for topic in ["k8s/a", "xds/a", "flows/a", "bus/a"] {
        let answer = served.publish(topic, "1").await;
        assert!(answer.problem(403).contains(topic));
        assert_eq!(answer.json()["type"], "urn:meshbus:problem:reserved-topic");
    }
    served.end().await;
}

#[tokio::test]
async fn the_answer_waits_for_the_routes_and_says_what_they_said() {
    let served = serve("ack_timeout: 1s").await;
    let outcome = Arc::new(parking_lot::Mutex::new(Outcome::Delivered));
    let said = Arc::clone(&outcome);
    let _router = route(&served, move || said.lock().clone());
    assert_eq!(served.publish("a", "1").await.status, 202);
    *outcome.lock() = Outcome::Filtered;
    assert_eq!(served.publish("b", "2").await.status, 202);
    *outcome.lock() = Outcome::Rejected("no such table".into());
    assert!(served.publish("c", "3").await.problem(422).contains("no such table"));
    *outcome.lock() = Outcome::Undelivered("away".into());
    let answer = served.publish("d", "4").await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), "1");
    served.shutdown.start_end();
}

#[tokio::test]
async fn an_event_that_was_here_before_is_answered_as_filtered() {
    let served = serve("").await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-mborigin", "test"),
    ];
    let answer = served.call("POST", "/", &headers, b"").await;
    assert_eq!((answer.status.as_u16(), answer.header("mb-seq")), (202, ""));
    served.end().await;
}

#[tokio::test]
async fn with_rules_a_token_is_asked_for_and_the_topic_checked() {
    let served = serve("").await;
    let rule = |principal: &'static str, topic: &str| Rule {
        principal: principal.into(),
        token: Some(format!("token-of-{principal}").into()),
        allow: vec![Action::Publish],
        topics: vec![TopicFilter::parse(topic).unwrap()],
    };
    served.bus.set_access(Access::new(vec![rule("ci", "a/#")]));
    let post = async |topic: &str, token: &str| {
        let headers = [("authorization", token), ("ce-unused", "x")];
        let headers = if token.is_empty() { &[][..] } else { &headers[..1] };
        served.call("POST", &format!("/v1/publish?topic={topic}"), headers, b"x").await
    };
    let answer = post("a/b", "").await;
    answer.problem(401);
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    post("a/b", "Bearer wrong").await.problem(401);
    assert!(post("b", "Bearer token-of-ci").await.problem(403).contains("ci may not publish \"b\""));
    assert_eq!(post("a/b", "bearer token-of-ci").await.status, 202);
    let headers = [("authorization", "Bearer token-of-ci")];
    served.call("GET", "/v1/subscribe?filter=a/%23", &headers, b"").await.problem(403);
    served.call("GET", "/v1/state?name=a/b", &headers, b"").await.problem(403);
    served.end().await;
}

#[tokio::test]
async fn an_events_own_word_for_its_topic_is_taken_off_and_may_serve_the_template() {
    let served = serve("topic: \"from/{mbtopic}\"").await;
    let mut follow = served.follow();
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-mbtopic", "x"),
    ];
    for (path, topic) in [("/v1/publish?topic=a", "a"), ("/", "from/x")] {
        assert_eq!(served.call("POST", path, &headers, b"").await.status, 202);
        let event = follow.next().await;
        assert_eq!((event.topic.as_str(), event.extensions.get("mbtopic")), (topic, None));
    }
    served.end().await;
}

#[tokio::test]
async fn an_event_over_the_bound_of_the_bus_is_too_large() {
    let served = serve("max_body: 64MiB").await;
    let max = served.bus.max_event();
    let post = async |size: usize| {
        let json = [("content-type", "text/plain")];
        served.call("POST", "/v1/publish?topic=a", &json, &vec![b'x'; size]).await
    };
    assert!(post(max).await.problem(413).contains("max_event"));
    // To the byte: what the bus adds counts too.
    let (mut fits, mut large) = (max - 1024, max);
    while large - fits > 1 {
        let size = usize::midpoint(fits, large);
        let answer = post(size).await;
        match answer.status.as_u16() {
            202 => fits = size,
            _ => large = size,
        }
        assert!(answer.status == 202 || answer.problem(413).contains("max_event"));
    }
    assert!(served.stats.oversize.get() > 1);
    served.end().await;
}

#[tokio::test]
async fn a_webhook_sender_is_given_the_permission_it_asks_for() {
    let served = serve("").await;
    let answer = served.call("OPTIONS", "/", &[("webhook-request-origin", "edge-1")], b"").await;
    assert_eq!(answer.header("webhook-allowed-origin"), "edge-1");
    assert_eq!(answer.header("webhook-allowed-rate"), "*");
    served.end().await;
}

#[tokio::test]
async fn what_is_not_served_is_a_problem_too_and_the_document_names_what_is() {
    let served = serve("").await;
    served.call("GET", "/nothing", &[], b"").await.problem(404);
    let answer = served.call("GET", "/v1/publish", &[], b"").await;
    answer.problem(405);
    assert!(answer.header("allow").contains("POST"), "{answer:?}");
    let document = served.call("GET", "/openapi.json", &[], b"").await.json();
    assert!(document["paths"]["/v1/state"]["put"].is_object());
    served.end().await;
}
