//! Publishes to a stream: acknowledged, deduplicated, refused, and not lost when the server dies.

use std::collections::HashSet;

use futures_util::StreamExt;

use super::*;
use crate::peers::NatsServer;

fn settings(url: &str) -> String {
    format!("urls: [\"{url}\"]\njetstream: {{stream: OUT}}\nack_timeout: 2s")
}

/// All messages of the stream: subject, headers, payload.
async fn stored(context: &jetstream::Context, stream: &str) -> Vec<async_nats::jetstream::Message> {
    let stream = context.get_stream(stream).await.unwrap();
    let count = stream.cached_info().state.messages as usize;
    let ack_policy = jetstream::consumer::AckPolicy::None;
    let config = jetstream::consumer::pull::Config { ack_policy, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.messages().await.unwrap();
    messages.take(count).map(Result::unwrap).collect().await
}

#[tokio::test]
async fn a_publish_is_delivered_when_the_stream_has_it_and_a_second_try_is_dropped() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("OUT", &["out.>"], Duration::from_mins(2)).await;
    let wire = Wire::connected(&settings(&server.url())).await;
    let events = || (0..500).map(|n| event("x", n));
    for _ in 0..2 {
        let outcomes = wire.deliver(events(), "subject: out.x").await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered));
    }
    // The same event to another subject is another message.
    wire.deliver([event("x", 0)], "subject: out.y").await;
    let context = jetstream::new(raw(&server.url()).await);
    let messages = stored(&context, "OUT").await;
    assert_eq!(messages.len(), 501);
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str().len(), 32);
    assert_eq!(headers.get("ce-id").unwrap().as_str(), "0");
    wire.stop().await;
}

#[tokio::test]
async fn without_dedupe_a_second_try_is_a_second_message() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("OUT", &["out.>"], Duration::from_mins(2)).await;
    let wire = Wire::connected(&format!("{}\ndedupe: false", settings(&server.url()))).await;
    wire.deliver([event("x", 0), event("x", 0)], "subject: out.x").await;
    let context = jetstream::new(raw(&server.url()).await);
    let messages = stored(&context, "OUT").await;
    assert_eq!(messages.len(), 2);
    assert!(messages[0].headers.as_ref().unwrap().get("Nats-Msg-Id").is_none());
    wire.stop().await;
}

#[tokio::test]
async fn a_stream_is_created_where_the_settings_say_so_and_left_alone_where_it_exists() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let settings = format!(
        "urls: [\"{}\"]\njetstream: {{stream: OUT, create: {{subjects: [\"out.>\"], storage: memory, max_messages: 10}}}}",
        server.url()
    );
    let wire = Wire::connected(&settings).await;
    assert_eq!(wire.deliver([event("out/x", 1)], "{}").await, [Outcome::Delivered]);
    wire.stop().await;
    let wire = Wire::connected(&settings).await;
    assert_eq!(wire.deliver([event("out/x", 2)], "{}").await, [Outcome::Delivered]);
    wire.stop().await;
    let context = jetstream::new(raw(&server.url()).await);
    let info = context.get_stream("OUT").await.unwrap().cached_info().clone();
    assert_eq!((info.config.max_messages, info.state.messages), (10, 2));
}

#[tokio::test]
async fn what_the_stream_refuses_is_rejected_with_its_reason() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let context = jetstream::new(raw(&server.url()).await);
    let full = jetstream::stream::Config {
        name: "OUT".into(),
        subjects: vec!["out.>".into()],
        max_messages: 1,
        max_message_size: 1024,
        discard: jetstream::stream::DiscardPolicy::New,
        ..Default::default()
    };
    context.create_stream(full).await.unwrap();
    server.stream("OTHER", &["other.>"], Duration::from_mins(2)).await;
    let wire = Wire::connected(&settings(&server.url())).await;
    let mut large = event("x", 9);
    large.data = vec![0; 2000].into();
    assert_eq!(wire.deliver([event("x", 1)], "subject: out.x").await, [Outcome::Delivered]);
    for (envelope, to, expected) in [
        (event("x", 2), "subject: out.x", "maximum messages exceeded (JetStream error 10077)"),
        (large, "subject: out.x", "10054"),
        (event("x", 3), "subject: other.x", "10060"),
        (event("x", 4), "subject: nowhere.x", "stream OUT has out.>"),
    ] {
        let outcomes = wire.deliver([envelope], to).await;
        let Outcome::Rejected(reason) = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
    let core = wire.deliver([event("x", 5)], "{subject: nowhere.x, jetstream: false}").await;
    assert_eq!(core, [Outcome::Delivered]);
    wire.stop().await;
}

#[tokio::test]
async fn a_service_on_the_subject_does_not_stand_in_for_the_stream() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("OUT", &["out.>"], Duration::from_mins(2)).await;
    let client = raw(&server.url()).await;
    let mut requests = client.subscribe(">").await.unwrap();
    client.flush().await.unwrap();
    let service = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply.filter(|reply| reply.starts_with("_INBOX.")) {
                client.publish(reply.clone(), "".into()).await.unwrap();
                client.publish(reply, "at your service".into()).await.unwrap();
            }
        }
    });
    let wire = Wire::connected(&settings(&server.url())).await;
    let outcomes = wire.deliver((0..50).map(|n| event("x", n)), "subject: out.x").await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered), "{outcomes:?}");
    // Nobody but that service takes this one: no acknowledgement, and not delivered.
    let outcomes = wire.deliver([event("x", 99)], "subject: nowhere.x").await;
    let Outcome::Undelivered(reason) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(reason.contains("no acknowledgement"), "{reason}");
    service.abort();
    wire.stop().await;
}

#[tokio::test]
async fn nothing_unanswered_is_called_delivered_when_the_server_dies() {
    let scratch = Scratch::new();
    let mut server = NatsServer::start(&scratch).await;
    server.stream("OUT", &["out.>"], Duration::from_mins(2)).await;
    let wire = Wire::connected(&settings(&server.url())).await;
    server.kill();
    // These wait in the mailbox or die with the connection; each is answered once, and only one way.
    let (outcomes, ()) =
        tokio::join!(wire.deliver((0..100).map(|n| event("x", n)), "subject: out.x"), async {
            server.restart().await;
        });
    let delivered: HashSet<_> =
        outcomes.iter().enumerate().filter(|(_, o)| **o == Outcome::Delivered).map(|(n, _)| n).collect();
    let context = jetstream::new(raw(&server.url()).await);
    let stored = stored(&context, "OUT").await;
    let there: HashSet<usize> = stored
        .iter()
        .map(|m| m.headers.as_ref().unwrap().get("ce-id").unwrap().as_str().parse().unwrap())
        .collect();
    assert!(delivered.is_subset(&there));
    wire.stop().await;
}

#[tokio::test]
async fn every_published_event_is_in_the_stream_once_and_in_order_after_five_kills_of_the_server() {
    const N: usize = 4000;
    let scratch = Scratch::new();
    let mut server = NatsServer::start(&scratch).await;
    server.stream("OUT", &["out.>"], Duration::from_mins(10)).await;
    let wire = Wire::connected(&settings(&server.url())).await;
    let target = wire.target("subject: \"out.{topic.1}\"");
    let sink = Sink::Connector { name: "broker".into(), mailbox: Arc::clone(&wire.mailbox), target };
    wire.route("k/#", None, sink);
    let ingress = wire.bus.ingress("test", "test");
    let publisher = tokio::spawn(async move {
        let mut receipts = Vec::new();
        for chunk in (0..N).collect::<Vec<_>>().chunks(20) {
            let batch = chunk.iter().map(|n| event(&format!("k/{}", n % 50), n)).collect();
            receipts.extend(ingress.publish(batch).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for receipt in receipts {
            assert_eq!(timeout(LONG, receipt.delivered()).await.expect("an answer"), Outcome::Delivered);
        }
    });
    for kill in 1..=5 {
        until("some events are sent", LONG, async || (wire.stats.sent.get() >= kill * 500).then_some(()))
            .await;
        server.kill();
        server.restart().await;
    }
    publisher.await.unwrap();
    let context = jetstream::new(raw(&server.url()).await);
    let mut keys = vec![Vec::new(); 50];
    for message in stored(&context, "OUT").await {
        let n: usize = message.headers.as_ref().unwrap().get("ce-id").unwrap().as_str().parse().unwrap();
        keys[n % 50].push(n);
    }
    assert_eq!(keys.iter().map(Vec::len).sum::<usize>(), N, "each event once");
    for key in keys {
        assert!(key.is_sorted(), "in order: {key:?}");
    }
    wire.stop().await;
}
