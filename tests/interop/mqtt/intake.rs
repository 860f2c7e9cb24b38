//! What comes in: acknowledged when it is delivered, and not before, whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meshbus::core::delivery::{Assurance, Deliveries, Guarantee, Mailbox, Target};
use meshbus::core::log::RingBound;
use meshbus::core::route::Sink;
use meshbus::core::{BusOptions, ErrorKind, Outcome};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::time::{Instant, sleep};

use super::rig::{Broker, Node, Peer, until};

/// A sink of the test's own: it answers when the test says so.
fn held_sink() -> (Sink, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::default());
    let guarantee =
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: "a test".into() };
    let target = Target { address: None, pipelined: true, guarantee, options: Arc::new(()) };
    (Sink::Connector { name: "held".into(), mailbox: Arc::clone(&mailbox), target }, mailbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_message_becomes_an_event_of_its_own() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &[]).await;
    let node = Node::new("node");
    let settings = format!("{{urls: [\"{}\"], subscribe: [{{topic: \"a/#\"}}]}}", broker.url());
    let into = node.connect("sensors", &settings).ready().await;
    let mut follower = node.follow("a/#");
    let properties = PublishProperties {
        content_type: Some("application/json".to_owned()),
        user_properties: vec![("traceparent".into(), "00-1".into()), ("Not-Legal".into(), "x".into())],
        ..PublishProperties::default()
    };
    peer.send("a/b", QoS::AtLeastOnce, false, "{\"t\": 21}", properties).await;
    peer.publish("a/b", QoS::AtMostOnce, false, "{\"t\": 21}").await;
    let (first, second) = (follower.next().await, follower.next().await);
    assert_eq!(first.source, "//mqtt/sensors");
    assert_eq!(first.kind, "dev.meshbus.message.v1");
    assert_eq!(first.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(first.attribute("traceparent").as_deref(), Some("00-1"));
    assert_eq!(first.data, "{\"t\": 21}");
    assert_ne!(first.id, second.id);
    until("it is counted", || (into.stats.received.get() == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_delivered_comes_again_to_the_next_process() {
    let broker = Broker::start().await;
    for (version, qos) in [
        ("5", QoS::AtLeastOnce),
        ("5", QoS::ExactlyOnce),
        ("3.1.1", QoS::AtLeastOnce),
        ("3.1.1", QoS::ExactlyOnce),
    ] {
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, client_id: \"p{version}{qos:?}\", subscribe: [{{topic: \"a/#\", qos: {}}}]}}",
            broker.url(),
            qos as u8
        );
        let mut peer = Peer::connect(&broker, &[]).await;
        let node = Node::new("first");
        let (sink, mailbox) = held_sink();
        node.route("r", "a/#", sink);
        let into = node.connect("sensors", &settings).ready().await;
        for n in 0..30 {
            peer.publish("a/b", qos, false, n.to_string()).await;
        }
        until("all is with the sink", || (mailbox.len() == 30).then_some(())).await;
        // Out of order: the third is delivered, and must not be acknowledged ahead of the first two.
        let mut deliveries = Vec::new();
        Deliveries(Arc::clone(&mailbox)).recv(&mut deliveries, 100).await;
        let third = deliveries.remove(2);
        third.answer(Outcome::Delivered);
        deliveries.remove(0).answer(Outcome::Delivered);
        sleep(Duration::from_millis(200)).await;
        into.kill().await;

        let node = Node::new("second");
        let mut follower = node.follow("a/#");
        let into = node.connect("sensors", &settings).ready().await;
        for n in 1..30 {
            assert_eq!(follower.next().await.data, n.to_string(), "{version} {qos:?}");
        }
        peer.publish("a/b", qos, false, "after").await;
        assert_eq!(follower.next().await.data, "after", "{version} {qos:?}");
        into.stop().await;

        let node = Node::new("third");
        let mut follower = node.follow("a/#");
        let into = node.connect("sensors", &settings).ready().await;
        assert!(follower.maybe(Duration::from_millis(300)).await.is_none(), "all is acknowledged");
        assert_eq!(into.stats.connected.get(), 1);
        into.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_bus_keeps_the_connection_and_the_memory() {
    const EVENTS: usize = 3_000;
    let broker = Broker::start().await;
    for (version, qos) in [("5", QoS::AtLeastOnce), ("3.1.1", QoS::AtLeastOnce), ("5", QoS::AtMostOnce)] {
        let ring = RingBound { max: 50, ..RingBound::default() };
        let node = Node::with(BusOptions { name: "small".into(), events: ring, ..BusOptions::default() });
        let (sink, mailbox) = held_sink();
        node.route("r", "a/#", sink);
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, client_id: \"b{version}{qos:?}\", keep_alive: 1s, in_flight: 100, \
              subscribe: [{{topic: \"a/#\", qos: {}}}]}}",
            broker.url(),
            qos as u8
        );
        let into = node.connect("sensors", &settings).ready().await;
        let mut peer = Peer::connect(&broker, &[]).await;
        for n in 0..EVENTS {
            peer.send("a/b", qos, false, n.to_string(), PublishProperties::default()).await;
        }
        peer.settled().await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(into.stats.connected.get(), 1, "{version} {qos:?}: pings go on");
        assert!(into.stats.received.get() < 400, "{version} {qos:?}: {}", into.stats.received.get());
        // Now the sink works.
        let mut deliveries = Deliveries(Arc::clone(&mailbox));
        let different = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&different);
        let reader = tokio::spawn(async move {
            let (mut batch, mut seen) = (Vec::new(), Vec::new());
            while deliveries.recv(&mut batch, 100).await > 0 {
                for delivery in batch.drain(..) {
                    let number: usize =
                        std::str::from_utf8(&delivery.envelope.data).unwrap().parse().unwrap();
                    if !seen.contains(&number) {
                        seen.push(number);
                        count.store(seen.len(), Ordering::Relaxed);
                    }
                    delivery.answer(Outcome::Delivered);
                }
            }
            seen
        });
        if qos == QoS::AtMostOnce {
            until("what was not dropped has come", || {
                (into.stats.received.get() + into.stats.lost.get() == EVENTS as u64).then_some(())
            })
            .await;
            assert!(into.stats.lost.get() > 0);
            assert_eq!(into.stats.connected.get(), 1);
        } else {
            until("all has come", || (different.load(Ordering::Relaxed) == EVENTS).then_some(())).await;
            assert_eq!(into.stats.lost.get(), 0);
        }
        until("the route is idle", || node.router.is_idle().then_some(())).await;
        mailbox.close();
        let seen = reader.await.unwrap();
        assert!(seen.is_sorted(), "{version} {qos:?}: in order");
        drop(into);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_goes_to_the_dead_letter_and_is_acknowledged() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &[]).await;
    let node = Node::new("node");
    let settings = format!(
        "{{urls: [\"{}\"], client_id: dl, max_packet_size: 10kB, subscribe: [{{topic: \"#\"}}]}}",
        broker.url()
    );
    let into = node.connect("sensors", &settings).ready().await;
    let mut dead = node.follow("dead/sensors");
    let broken = PublishProperties {
        user_properties: vec![("specversion".into(), "1.0".into()), ("id".into(), "1".into())],
        ..PublishProperties::default()
    };
    peer.send("a/b", QoS::AtLeastOnce, false, "data", broken).await;
    let event = dead.next().await;
    assert_eq!((event.subject.as_deref(), &event.data[..]), (Some("a/b"), &b"data"[..]));
    assert!(event.attribute("mbreason").unwrap().contains("no source"), "{event:?}");
    let json = PublishProperties {
        content_type: Some("application/cloudevents+json".into()),
        ..PublishProperties::default()
    };
    peer.send("a/c", QoS::ExactlyOnce, false, "{", json).await;
    assert_eq!(dead.next().await.subject.as_deref(), Some("a/c"));
    // Reserved for state: the bus refuses it.
    peer.publish("k8s/x", QoS::AtLeastOnce, false, "no").await;
    let event = dead.next().await;
    assert_eq!((event.subject.as_deref(), &event.data[..]), (Some("k8s/x"), &b"no"[..]));
    let mut follower = node.follow("a/#");
    peer.publish("a/d", QoS::AtLeastOnce, false, "good").await;
    assert_eq!(follower.next().await.data, "good");
    assert_eq!(into.stats.malformed.get(), 2);
    into.stop().await;
    let node = Node::new("again");
    let mut follower = node.follow("#");
    let _into = node.connect("sensors", &settings).ready().await;
    assert!(follower.maybe(Duration::from_millis(300)).await.is_none(), "all was acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_allowed_does_not_stop_the_others() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &[]).await;
    for version in ["5", "3.1.1"] {
        let node = Node::new("node");
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, client_id: \"big{version}\", max_packet_size: 10kB, \
              subscribe: [{{topic: \"#\", qos: 2}}]}}",
            broker.url()
        );
        let into = node.connect("sensors", &settings).ready().await;
        let (mut dead, mut follower) = (node.follow("dead/sensors"), node.follow("a/#"));
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            peer.publish("a/big", qos, false, vec![b'x'; 2_000_000]).await;
            let event = dead.next().await;
            assert!(event.attribute("mbreason").unwrap().contains("max_packet_size"), "{event:?}");
            assert_eq!(event.subject.as_deref(), Some("a/big"));
            peer.publish("a/small", qos, false, Bytes::from_static(b"small")).await;
            assert_eq!(follower.next().await.data, "small");
        }
        assert_eq!((into.stats.oversize.get(), into.stats.connected.get()), (3, 1));
        into.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_denied_and_right_ones_taken() {
    let mut broker = Broker::start().await;
    broker.stop().await;
    let passwords = broker.path("passwords");
    let mut program = std::process::Command::new("mosquitto_passwd");
    let made = program.args(["-b", "-c"]).arg(&passwords).args(["me", "secret"]).status();
    assert!(made.expect("mosquitto_passwd").success());
    let rule = format!("password_file {}", passwords.display());
    let config =
        std::fs::read_to_string(broker.path("conf")).unwrap().replace("allow_anonymous true", &rule);
    std::fs::write(broker.path("conf"), config).unwrap();
    broker.restart().await;
    let node = Node::new("node");
    for version in ["5", "3.1.1"] {
        for (word, denied) in [("wrong", true), ("secret", false)] {
            let secret = broker.path("secret");
            std::fs::write(&secret, word).unwrap();
            let settings = format!(
                "{{urls: [\"{}\"], version: {version}, user: me, password: {{file: \"{}\"}}}}",
                broker.url(),
                secret.display()
            );
            let mut connection = node.connect("out", &settings);
            if denied {
                let error = connection.ended().await.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Denied);
                assert!(!format!("{error:?}").contains("wrong"), "no secret in {error:?}");
            } else {
                connection.is_ready().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_broker_is_passed_over_for_the_next() {
    let broker = Broker::start().await;
    let node = Node::new("node");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("{{urls: [\"mqtt://127.0.0.1:{free}\", \"{}\"]}}", broker.url());
    let start = Instant::now();
    let connection = node.connect("out", &settings).ready().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    connection.stop().await;
}
