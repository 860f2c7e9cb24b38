//! Core NATS: forms, echoes, queue groups, replies, what cannot be read.

use futures_util::StreamExt;

use super::*;
use crate::peers::NatsServer;

#[tokio::test]
async fn every_attribute_comes_back_in_both_forms() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire =
        Wire::connected(&format!("urls: [\"{}\"]\nsubscribe: [{{subject: \"t.>\"}}]", server.url())).await;
    let mut events = wire.subscribe("t/#");
    for mode in ["binary", "structured"] {
        for data in [&b"\x00\xff{}"[..], b""] {
            let sent = full("t/a.b/c", data);
            let to = format!("content_mode: {mode}");
            assert_eq!(wire.deliver([sent.clone()], &to).await, [Outcome::Delivered], "{mode}");
            assert_eq!(events.next().await, sent, "{mode}");
        }
    }
    wire.stop().await;
}

#[tokio::test]
async fn other_clients_see_the_binding_and_the_origin() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let client = raw(&server.url()).await;
    let mut messages = client.subscribe("out.>").await.unwrap();
    client.flush().await.unwrap();
    let wire = Wire::connected(&format!("urls: [\"{}\"]", server.url())).await;
    let mut sent = full("x", b"{}");
    sent.extensions.set("mborigin", "edge 1");
    wire.deliver([sent.clone()], "subject: out.b").await;
    let message = messages.next().await.unwrap();
    let headers = message.headers.unwrap();
    assert_eq!(headers.get("ce-id").unwrap().as_str(), "id%20%E2%82%AC");
    assert_eq!(headers.get("ce-datacontenttype").unwrap().as_str(), "application/octet-stream");
    assert!(message.reply.is_none());
    wire.deliver([sent.clone()], "{subject: out.s, content_mode: structured}").await;
    let message = messages.next().await.unwrap();
    assert_eq!(
        message.headers.unwrap().get("content-type").unwrap().as_str(),
        "application/cloudevents+json"
    );
    wire.deliver([sent], "{subject: \"out.{partitionkey}\", content_mode: data}").await;
    let message = messages.next().await.unwrap();
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("out.ключ", &b"{}"[..]));
    assert_eq!(message.headers.unwrap().get("Mb-Origin").unwrap().as_str(), "edge%201");
    wire.stop().await;
}

#[tokio::test]
async fn what_a_bus_has_published_does_not_come_back_to_it() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let settings = format!("urls: [\"{}\"]\nsubscribe: [{{subject: \"t.>\"}}]", server.url());
    let wire = Wire::connected(&settings).await;
    let mut events = wire.subscribe("t/#");
    for mode in ["binary", "structured", "data"] {
        let mut sent = event("t/x", mode);
        sent.extensions.set("mborigin", "test-bus");
        sent.extensions.set("mbhops", 1);
        assert_eq!(wire.deliver([sent], &format!("content_mode: {mode}")).await, [Outcome::Delivered]);
    }
    // What comes after them is the next that is seen.
    wire.deliver([event("t/x", "other")], "{}").await;
    assert_eq!(&*events.next().await.id, "other");
    assert_eq!(wire.bus.figures().looped, 3);
    wire.stop().await;
}

#[tokio::test]
async fn each_message_goes_to_one_member_of_a_queue_group() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let settings = format!("urls: [\"{}\"]\nsubscribe: [{{subject: \"q.>\", queue: g}}]", server.url());
    let wires = [Wire::connected(&settings).await, Wire::connected(&settings).await];
    let client = raw(&server.url()).await;
    for _ in 0..400 {
        client.publish("q.x", "x".into()).await.unwrap();
    }
    let received = || wires.iter().map(|wire| wire.stats.received.get()).collect::<Vec<_>>();
    until("400 messages in all", LIMIT, async || (received().iter().sum::<u64>() >= 400).then_some(()))
        .await;
    client.flush().await.unwrap();
    assert_eq!(received().iter().sum::<u64>(), 400);
    assert!(received().iter().all(|&n| n > 0), "{:?}", received());
    for wire in wires {
        wire.stop().await;
    }
}

#[tokio::test]
async fn a_reply_subject_is_never_answered() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire =
        Wire::connected(&format!("urls: [\"{}\"]\nsubscribe: [{{subject: \">\"}}]", server.url())).await;
    let mut events = wire.subscribe("req/#");
    let client = raw(&server.url()).await;
    let mut replies = client.subscribe("reply.here").await.unwrap();
    client.publish_with_reply("req.a", "reply.here", "question".into()).await.unwrap();
    client.publish_with_reply("req.b", "reply.here", "question".into()).await.unwrap();
    assert_eq!(events.next().await.topic.as_str(), "req/a");
    assert_eq!(events.next().await.topic.as_str(), "req/b");
    // A round trip of each: an answer would have come before it.
    assert_eq!(wire.deliver([event("other", 1)], "{}").await, [Outcome::Delivered]);
    client.publish("reply.here", "mine".into()).await.unwrap();
    assert_eq!(replies.next().await.unwrap().payload, "mine");
    wire.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_goes_to_the_dead_letter_and_the_next_is_taken() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire = Wire::connected(&format!(
        "urls: [\"{}\"]\nsubscribe: [{{subject: \"in.>\"}}, {{subject: \"k8s.>\"}}]",
        server.url()
    ))
    .await;
    let mut events = wire.subscribe("#");
    let client = raw(&server.url()).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("content-type", "application/cloudevents+json");
    client.publish_with_headers("in.x", headers, "{broken".into()).await.unwrap();
    client.publish("k8s.east.core", "x".into()).await.unwrap();
    client.publish("in.y", "fine".into()).await.unwrap();
    let mut seen = [events.next().await, events.next().await, events.next().await];
    seen.sort_by_key(|event| event.topic.as_str().to_owned());
    let [broken, reserved, fine] = seen;
    assert_eq!((broken.topic.as_str(), &broken.data[..]), ("dead/broker", &b"{broken"[..]));
    assert!(broken.extensions.get("mbreason").is_some());
    assert_eq!(reserved.topic.as_str(), "dead/broker");
    assert_eq!((fine.topic.as_str(), &*fine.kind), ("in/y", "dev.meshbus.message.v1"));
    assert_eq!(&*fine.source, "//nats/broker");
    assert_eq!(wire.stats.malformed.get(), 2);
    wire.stop().await;
}

#[tokio::test]
async fn deliveries_and_subscriptions_go_on_after_a_restart_of_the_server() {
    let scratch = Scratch::new();
    let mut server = NatsServer::start(&scratch).await;
    let wire =
        Wire::connected(&format!("urls: [\"{}\"]\nsubscribe: [{{subject: \"in.>\"}}]", server.url())).await;
    let mut events = wire.subscribe("in/#");
    for round in 0..3 {
        server.kill();
        until("the connector notices", LIMIT, async || {
            let status = wire.supervisor.status().pop()?;
            (status.state != State::Ready).then_some(())
        })
        .await;
        server.restart().await;
        wire.ready().await;
        assert_eq!(wire.deliver([event("in/x", round)], "{}").await, [Outcome::Delivered]);
        assert_eq!(*events.next().await.id, round.to_string());
    }
    wire.stop().await;
}

#[tokio::test]
async fn without_echoes_deliveries_are_answered_when_they_have_left() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire = Wire::connected(&format!(
        "urls: [\"{}\"]\nno_echo: true\nsubscribe: [{{subject: \"t.>\"}}]",
        server.url()
    ))
    .await;
    assert!(wire.target("{}").guarantee.because.contains("what the server forbids is only logged"));
    let mut events = wire.subscribe("#");
    assert_eq!(wire.deliver([event("t/x", 1)], "{}").await, [Outcome::Delivered]);
    events.quiet(Duration::from_millis(200)).await;
    wire.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_rejected_naming_both_sizes() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire = Wire::connected(&format!("urls: [\"{}\"]", server.url())).await;
    let mut large = event("t", 1);
    large.data = vec![0; 9 << 20].into();
    let outcomes = wire.deliver([large, event("t", 2)], "{}").await;
    let Outcome::Rejected(reason) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(reason.contains("8388608") || reason.contains("8000000"), "{reason}");
    assert!(reason.contains("94"), "{reason}");
    assert_eq!(outcomes[1], Outcome::Delivered);
    assert_eq!(wire.stats.oversize.get(), 1);
    wire.stop().await;
}

#[tokio::test]
async fn messages_beyond_the_buffer_are_counted_while_the_bus_has_no_room() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire = Wire::connected(&format!(
        "urls: [\"{}\"]\nbuffer: 64\nin_flight: 16\nsubscribe: [{{subject: \"in.>\"}}]",
        server.url()
    ))
    .await;
    let selector = Selector::topic(TopicFilter::parse("#").unwrap());
    // A reader that blocks publishers and does not read.
    let stuck = wire.bus.subscribe(selector, Start::Now, 10, Overflow::Block).unwrap();
    let client = raw(&server.url()).await;
    for n in 0..2000 {
        client.publish("in.x", n.to_string().into()).await.unwrap();
    }
    until("losses are counted", LIMIT, async || (wire.stats.lost.get() > 0).then_some(())).await;
    drop(stuck);
    wire.stop().await;
}
