//! JetStream consumers: acknowledge, refuse, give up, hold on, and go on after restarts.

use std::collections::HashSet;

use futures_util::StreamExt;
use futures_util::future::join_all;
use meshbus::core::Envelope;

use super::*;
use crate::faults::seed;
use crate::peers::NatsServer;

fn settings(url: &str, more: &str) -> String {
    format!(
        "urls: [\"{url}\"]\njetstream: {{stream: EVENTS}}\n\
         subscribe: [{{subject: \"in.>\", jetstream: {{durable: c{more}}}}}]"
    )
}

async fn publish(context: &jetstream::Context, subject: &str, n: usize) {
    for i in 0..n {
        let payload = Bytes::from(i.to_string());
        context.publish(subject.to_owned(), payload).await.unwrap().await.unwrap();
    }
}

/// Takes `n` deliveries of a route.
async fn take(probe: &mut Deliveries, n: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < n {
        let room = n - taken.len();
        timeout(LONG, probe.recv(&mut taken, room)).await.expect("deliveries in time");
    }
    taken
}

fn answer_all(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.answer(Outcome::Delivered);
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.envelope.id.to_string()).collect()
}

async fn settled(context: &jetstream::Context) {
    until("nothing waits for an acknowledgement", LONG, async || {
        let info = consumer_info(context, "EVENTS", "c").await;
        (info.num_ack_pending == 0 && info.num_pending == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_delivered_and_not_before() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    for more in ["", ", double_ack: true"] {
        let wire = Wire::connected(&settings(&server.url(), more)).await;
        let (sink, mut probe) = Wire::probe();
        wire.route("in/#", Some("broker"), sink);
        publish(&context, "in.x", 50).await;
        let deliveries = take(&mut probe, 50).await;
        let envelope: &Envelope = &deliveries[0].envelope;
        assert!(envelope.source.starts_with("//nats/127.0.0.1:") && envelope.source.ends_with("/EVENTS"));
        assert!(envelope.time.is_some());
        assert_eq!(consumer_info(&context, "EVENTS", "c").await.num_ack_pending, 50);
        // Out of order: each is acknowledged as soon as it is delivered itself.
        let mut deliveries: Vec<_> = deliveries.into_iter().map(Some).collect();
        for delivery in deliveries[1..].iter_mut().filter_map(Option::take) {
            delivery.answer(Outcome::Delivered);
        }
        until("49 acknowledgements", LIMIT, async || {
            (consumer_info(&context, "EVENTS", "c").await.num_ack_pending == 1).then_some(())
        })
        .await;
        deliveries[0].take().unwrap().answer(Outcome::Delivered);
        settled(&context).await;
        assert_eq!(consumer_info(&context, "EVENTS", "c").await.num_redelivered, 0);
        wire.stop().await;
    }
}

#[tokio::test]
async fn what_a_sink_refuses_for_good_is_dead_lettered_then_ended() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let client = raw(&server.url()).await;
    let mut advisories = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>").await.unwrap();
    let context = jetstream::new(client);
    let wire = Wire::connected(&settings(&server.url(), "")).await;
    let mut dead = wire.subscribe("dead/#");
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    publish(&context, "in.x", 1).await;
    for _ in 0..2 {
        for delivery in take(&mut probe, 1).await {
            delivery.answer(Outcome::Rejected("not wanted".into()));
        }
    }
    assert_eq!(dead.next().await.topic.as_str(), "dead/r");
    let advisory = timeout(LIMIT, advisories.next()).await.unwrap().unwrap();
    assert!(str::from_utf8(&advisory.payload).unwrap().contains("not wanted"));
    settled(&context).await;
    wire.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_dead_lettered_then_ended_and_stops_no_other() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    let wire = Wire::connected(&settings(&server.url(), "")).await;
    let mut events = wire.subscribe("#");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-specversion", "0.3");
    headers.insert("ce-id", "1");
    context.publish_with_headers("in.bad", headers, "x".into()).await.unwrap().await.unwrap();
    publish(&context, "in.good", 1).await;
    let (bad, good) = (events.next().await, events.next().await);
    assert_eq!((bad.topic.as_str(), &*bad.id), ("dead/broker", "EVENTS/1"));
    assert_eq!((good.topic.as_str(), &*good.id), ("in/good", "EVENTS/2"));
    settled(&context).await;
    wire.stop().await;
}

#[tokio::test]
async fn a_message_that_the_bus_does_not_take_is_ended_and_counted_and_stops_no_other() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let client = raw(&server.url()).await;
    let mut advisories = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>").await.unwrap();
    let context = jetstream::new(client);
    let options = BusOptions { max_event: 4096, ..BusOptions::default() };
    let wire = Wire::idle_with(options, &settings(&server.url(), ""));
    let mut events = wire.subscribe("#");
    wire.start_connector();
    wire.ready().await;
    context.publish("in.large", vec![b'x'; 5000].into()).await.unwrap().await.unwrap();
    publish(&context, "in.good", 1).await;
    assert_eq!(events.next().await.topic.as_str(), "in/good");
    let advisory = timeout(LIMIT, advisories.next()).await.unwrap().unwrap();
    assert!(str::from_utf8(&advisory.payload).unwrap().contains("max_event 4096"));
    settled(&context).await;
    assert_eq!(wire.stats.malformed.get(), 1);
    wire.stop().await;
}

#[tokio::test]
async fn what_the_bus_gives_up_comes_again_with_the_same_identity() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    let wire = Wire::connected(&settings(&server.url(), "")).await;
    let (sink, mut probe) = Wire::probe();
    let worker = wire.route("in/#", Some("broker"), sink);
    publish(&context, "in.x", 5).await;
    let before = ids(&take(&mut probe, 5).await);
    // The route dies with all it holds.
    worker.abort();
    drop(worker.await);
    wire.router.remove("r");
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    let again = take(&mut probe, 5).await;
    let unique: HashSet<_> = ids(&again).into_iter().collect();
    assert_eq!(unique, before.into_iter().collect());
    answer_all(again);
    settled(&context).await;
    wire.stop().await;
}

#[tokio::test]
async fn a_delivery_longer_than_ack_wait_is_not_sent_again() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    let wire = Wire::connected(&settings(&server.url(), ", ack_wait: 500ms")).await;
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    publish(&context, "in.x", 3).await;
    let deliveries = take(&mut probe, 3).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let info = consumer_info(&context, "EVENTS", "c").await;
    assert_eq!((info.num_ack_pending, info.num_redelivered), (3, 0));
    assert!(probe.0.is_empty());
    answer_all(deliveries);
    settled(&context).await;
    wire.stop().await;
}

#[tokio::test]
async fn a_bus_that_was_killed_gets_its_messages_again_with_the_same_identity() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    let settings = settings(&server.url(), ", ack_wait: 1s");
    let wire = Wire::connected(&settings).await;
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    publish(&context, "in.x", 20).await;
    let before = ids(&take(&mut probe, 20).await);
    wire.supervisor.stop("broker", Duration::ZERO).await;
    drop(wire);
    let wire = Wire::idle(&settings);
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    wire.start_connector();
    let again = take(&mut probe, 20).await;
    assert_eq!(ids(&again).into_iter().collect::<HashSet<_>>(), before.into_iter().collect());
    answer_all(again);
    settled(&context).await;
    wire.stop().await;
}

#[tokio::test]
async fn what_was_under_way_when_the_server_died_is_acknowledged_to_its_successor() {
    let scratch = Scratch::new();
    let mut server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let wire = Wire::connected(&settings(&server.url(), ", ack_wait: 20s")).await;
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    publish(&jetstream::new(raw(&server.url()).await), "in.x", 20).await;
    let deliveries = take(&mut probe, 20).await;
    server.kill();
    until("the connector notices", LIMIT, async || {
        let status = wire.supervisor.status().pop()?;
        (status.state != State::Ready).then_some(())
    })
    .await;
    answer_all(deliveries);
    server.restart().await;
    wire.ready().await;
    let context = jetstream::new(raw(&server.url()).await);
    settled(&context).await;
    assert!(probe.0.is_empty(), "nothing is delivered twice");
    wire.stop().await;
}

#[tokio::test]
async fn every_message_arrives_through_five_kills_of_the_server_and_one_of_the_connector() {
    const N: usize = 3000;
    let scratch = Scratch::new();
    let mut server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    {
        let context = jetstream::new(raw(&server.url()).await);
        let mut acks = Vec::new();
        for i in 0..N {
            acks.push(context.publish(format!("in.{}", i % 7), i.to_string().into()).await.unwrap());
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }
    let wire = Wire::idle(&settings(&server.url(), ", ack_wait: 2s, max_ack_pending: 100, batch: 50"));
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    wire.start_connector();
    let mut seen = HashSet::new();
    let mut firsts = vec![Vec::new(); 7];
    let mut duplicates = 0;
    for round in 1..=6 {
        while seen.len() < N * round / 7 {
            let mut taken = Vec::new();
            timeout(LONG, probe.recv(&mut taken, 16)).await.expect("messages in time");
            for delivery in taken {
                let n: usize = str::from_utf8(&delivery.envelope.data).unwrap().parse().unwrap();
                if seen.insert(n) {
                    firsts[n % 7].push(n);
                } else {
                    duplicates += 1;
                }
                delivery.answer(Outcome::Delivered);
            }
        }
        // Last, as it takes along what is remembered of acknowledgements that the server may have forgotten.
        if round == 6 {
            wire.supervisor.stop("broker", Duration::ZERO).await;
            wire.start_connector();
        } else {
            server.kill();
            server.restart().await;
        }
    }
    while seen.len() < N {
        for delivery in take(&mut probe, 1).await {
            let n: usize = str::from_utf8(&delivery.envelope.data).unwrap().parse().unwrap();
            if seen.insert(n) {
                firsts[n % 7].push(n);
            } else {
                duplicates += 1;
            }
            delivery.answer(Outcome::Delivered);
        }
    }
    println!("{duplicates} duplicates after 6 kills with 100 in flight");
    assert!(duplicates <= 600);
    for first in firsts {
        assert!(first.is_sorted(), "order of first occurrences per key");
    }
    let context = jetstream::new(raw(&server.url()).await);
    // Copies that were sent again are acknowledged as well.
    let drain = tokio::spawn(async move {
        let mut taken = Vec::new();
        while probe.recv(&mut taken, 16).await > 0 {
            answer_all(std::mem::take(&mut taken));
        }
    });
    settled(&context).await;
    drain.abort();
    wire.stop().await;
}

#[tokio::test]
async fn what_an_earlier_connection_lost_is_delivered_in_order_however_it_comes_again() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let stream = server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    let durable = jetstream::consumer::pull::Config {
        durable_name: Some("c".into()),
        filter_subject: "in.>".into(),
        ack_wait: Duration::from_secs(10),
        ..Default::default()
    };
    let consumer = stream.create_consumer(durable).await.unwrap();
    publish(&context, "in.x", 6).await;
    let mut fetched = consumer.fetch().max_messages(6).messages().await.unwrap();
    // The youngest comes again at once, the oldest last, and all of them behind what is new.
    while let Some(message) = fetched.next().await.map(Result::unwrap) {
        let delay = Duration::from_millis(500 * (7 - message.info().unwrap().stream_sequence));
        message.ack_with(jetstream::AckKind::Nak(Some(delay))).await.unwrap();
    }
    publish(&context, "in.x", 4).await;
    let wire = Wire::idle(&settings(&server.url(), ", ack_wait: 10s"));
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    wire.start_connector();
    let deliveries = take(&mut probe, 10).await;
    assert_eq!(ids(&deliveries), (1..=10).map(|n| format!("EVENTS/{n}")).collect::<Vec<_>>());
    answer_all(deliveries);
    settled(&context).await;
    wire.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_leaves_the_rest() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    let wire = Wire::connected(&settings(&server.url(), ", max_ack_pending: 10, batch: 10")).await;
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    publish(&context, "in.x", 30).await;
    let deliveries = take(&mut probe, 10).await;
    let Wire { supervisor, mailbox, .. } = wire;
    let stopped = tokio::spawn(async move {
        mailbox.close();
        supervisor.stop_all(LIMIT).await;
    });
    answer_all(deliveries);
    stopped.await.unwrap();
    let info = consumer_info(&context, "EVENTS", "c").await;
    assert_eq!(info.ack_floor.stream_sequence, 10);
    // What the drain gave back comes at once, not after ack_wait.
    let stream = context.get_stream("EVENTS").await.unwrap();
    let consumer: jetstream::consumer::PullConsumer = stream.get_consumer("c").await.unwrap();
    let mut rest =
        consumer.fetch().max_messages(10).expires(Duration::from_secs(5)).messages().await.unwrap();
    let next = timeout(Duration::from_secs(10), rest.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next.info().unwrap().stream_sequence, 11);
}

#[tokio::test]
async fn whatever_is_on_its_way_when_a_bus_drains_comes_again_at_once() {
    const MESSAGES: usize = 6000;
    let mut random = fastrand::Rng::with_seed(seed());
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let stream = server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let context = jetstream::new(raw(&server.url()).await);
    for _ in 0..MESSAGES / 500 {
        let sent = (0..500).map(|_| context.publish("in.x", Bytes::from_static(&[0; 512])));
        for sent in join_all(sent).await {
            sent.unwrap().await.unwrap();
        }
    }
    let mut delivered = HashSet::new();
    for _ in 0..8 {
        let wire = Wire::idle(&settings(&server.url(), ", max_ack_pending: 256, batch: 64"));
        let (sink, mut probe) = Wire::probe();
        wire.route("in/#", Some("broker"), sink);
        wire.start_connector();
        let Wire { supervisor, mailbox, .. } = wire;
        let until_then = random.usize(1..200);
        let (mut taken, mut supervisor) = (0, Some(supervisor));
        let mut stopped: Option<JoinHandle<()>> = None;
        // All that the bus has taken in is answered, also during the drain.
        loop {
            let mut deliveries = Vec::new();
            tokio::select! {
                () = async { stopped.as_mut().unwrap().await.unwrap() }, if stopped.is_some() => break,
                taken = timeout(LIMIT, probe.recv(&mut deliveries, 64)) => {
                    taken.expect("what the bus before gave back, long before ack_wait, 30 s");
                }
            }
            taken += deliveries.len();
            delivered.extend(ids(&deliveries));
            answer_all(deliveries);
            if taken >= until_then
                && let Some(supervisor) = supervisor.take()
            {
                mailbox.close();
                stopped = Some(tokio::spawn(async move { supervisor.stop_all(LIMIT).await }));
            }
        }
    }
    assert!(delivered.len() < MESSAGES, "nothing is left");
    let consumer: jetstream::consumer::PullConsumer = stream.get_consumer("c").await.unwrap();
    let mut rest = consumer.messages().await.unwrap();
    let all = timeout(Duration::from_secs(15), async {
        while delivered.len() < MESSAGES {
            let message = rest.next().await.unwrap().unwrap();
            message.ack().await.unwrap();
            delivered.insert(format!("EVENTS/{}", message.info().unwrap().stream_sequence));
        }
    });
    assert!(all.await.is_ok(), "{} of {MESSAGES} wait for ack_wait", MESSAGES - delivered.len());
}

#[tokio::test]
async fn a_consumer_is_asked_within_its_limits_and_again_when_a_request_expires() {
    const MAX_EXPIRES: Duration = Duration::from_secs(1);
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let stream = server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let limited = jetstream::consumer::pull::Config {
        durable_name: Some("c".into()),
        filter_subject: "in.>".into(),
        max_batch: 10,
        max_expires: MAX_EXPIRES,
        ..Default::default()
    };
    stream.create_consumer(limited).await.unwrap();
    let context = jetstream::new(raw(&server.url()).await);
    let wire = Wire::idle(&settings(&server.url(), ", batch: 256"));
    let (sink, mut probe) = Wire::probe();
    wire.route("in/#", Some("broker"), sink);
    wire.start_connector();
    for n in [25, 5, 5] {
        publish(&context, "in.x", n).await;
        answer_all(take(&mut probe, n).await);
        settled(&context).await;
        // Every request that stands now has expired by the end of this.
        tokio::time::sleep(2 * MAX_EXPIRES).await;
    }
    let errors = wire.supervisor.status().pop().and_then(|status| status.last_error);
    assert_eq!(errors, None);
    wire.stop().await;
}

#[tokio::test]
async fn a_consumer_that_fits_not_and_a_stream_that_is_not_there_are_named() {
    let scratch = Scratch::new();
    let server = NatsServer::start(&scratch).await;
    let wire = Wire::start(&settings(&server.url(), ""));
    let error = |wire: &Wire| wire.supervisor.status().pop().and_then(|status| status.last_error);
    let text = until("an error", LIMIT, async || error(&wire)).await;
    assert!(text.contains("stream EVENTS does not exist"), "{text}");
    let stream = server.stream("EVENTS", &["in.>"], Duration::from_mins(2)).await;
    let other = jetstream::consumer::pull::Config {
        durable_name: Some("c".into()),
        filter_subject: "in.other".into(),
        ..Default::default()
    };
    stream.create_consumer(other).await.unwrap();
    let text = until("an error about the consumer", LONG, async || {
        error(&wire).filter(|text| text.contains("consumer c"))
    })
    .await;
    assert!(text.contains("in.other") && text.contains("in.>"), "{text}");
    stream.delete_consumer("c").await.unwrap();
    wire.ready().await;
    wire.stop().await;
}
