//! Both ways at once: what goes out of one bus comes into another unchanged, whatever breaks in between.

use std::time::Duration;

use bytes::Bytes;
use meshbus::core::{Envelope, Topic};
use rumqttc::v5::mqttbytes::QoS;

use super::rig::{Broker, LIMIT, Node, Peer, full_event, until};

/// What must be equal on the other side.
fn assert_same(sent: &Envelope, came: &Envelope, topic: &str) {
    let mut came = came.clone();
    for mark in ["mborigin", "mbhops"] {
        drop(came.extensions.remove(mark));
    }
    let mut sent = sent.clone();
    sent.topic = Topic::parse(topic).unwrap();
    assert_eq!(came, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attribute_survives_every_mode_and_quality_of_service() {
    let broker = Broker::start().await;
    for (case, (version, mode, qos)) in [
        ("5", "binary", 0),
        ("5", "binary", 1),
        ("5", "binary", 2),
        ("5", "structured", 1),
        ("3.1.1", "structured", 0),
        ("3.1.1", "structured", 1),
        ("3.1.1", "structured", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let (from, to) = (Node::new("from"), Node::new("to"));
        let out = format!("{{urls: [\"{}\"], version: {version}, client_id: out{case}}}", broker.url());
        let out = from.connect("out", &out).ready().await;
        let sink = format!("{{topic: \"out{case}/{{topic.1}}\", qos: {qos}, content_mode: {mode}}}");
        from.route("r", "in/#", out.sink(&sink));
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, client_id: in{case}, subscribe: [{{topic: \"out{case}/#\", qos: {qos}}}]}}",
            broker.url()
        );
        let into = to.connect("sensors", &settings).ready().await;
        let mut follower = to.follow(&format!("out{case}/#"));
        for (name, data) in
            [("full", None), ("empty", Some(Bytes::new())), ("large", Some(vec![b'x'; 300_000].into()))]
        {
            let mut event = full_event(&format!("in/{name}"), name);
            if let Some(data) = data {
                event.data = data;
            }
            let receipts = from.bus.publish(vec![event.clone()]).await;
            let came = follower.next().await;
            assert_same(&event, &came, &format!("out{case}/{name}"));
            assert_eq!(receipts[0].delivered().await, meshbus::core::Outcome::Delivered);
        }
        until("all is counted", || {
            (out.stats.sent.get() == 3 && into.stats.received.get() == 3).then_some(())
        })
        .await;
        out.stop().await;
        into.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_order_kept_when_the_broker_restarts() {
    const EVENTS: usize = 6_000;
    for qos in [1, 2] {
        let mut broker = Broker::start().await;
        let (from, to) = (Node::new("from"), Node::new("to"));
        let out =
            format!("{{urls: [\"{}\"], client_id: out, clean_start: false, in_flight: 500}}", broker.url());
        let out = from.connect("out", &out).ready().await;
        from.route("r", "in/#", out.sink(&format!("{{topic: \"out/{{topic.1}}\", qos: {qos}}}")));
        let settings = format!(
            "{{urls: [\"{}\"], client_id: into, subscribe: [{{topic: \"out/#\", qos: {qos}}}]}}",
            broker.url()
        );
        let into = to.connect("into", &settings).ready().await;
        let mut follower = to.follow("out/#");
        let bus = from.bus.clone();
        let publisher = tokio::spawn(async move {
            for chunk in 0..EVENTS / 20 {
                let batch = (0..20).map(|n| {
                    let topic = Topic::parse(format!("in/{}", n % 4)).unwrap();
                    Envelope::event(topic, (chunk * 20 + n).to_string(), "/s", "t")
                });
                drop(bus.publish(batch.collect()).await);
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
        let mut seen = vec![false; EVENTS];
        let mut last = [0; 4];
        let mut count = 0;
        let mut copies = 0;
        while count < EVENTS {
            if copies == 0 && count == EVENTS / 3 && into.stats.connected.get() == 1 {
                broker.stop().await;
                broker.restart().await;
            }
            let event = follower.next().await;
            let number: usize = event.id.parse().unwrap();
            if std::mem::replace(&mut seen[number], true) {
                copies += 1;
                continue;
            }
            count += 1;
            let key: usize = event.topic.as_str().trim_start_matches("out/").parse().unwrap();
            assert!(last[key] <= number, "QoS {qos}: {number} after {} at key {key}", last[key]);
            last[key] = number;
        }
        publisher.await.unwrap();
        eprintln!("QoS {qos}: {copies} copies");
        assert!(copies <= 1500, "at most what was under way on both sides comes twice: {copies}");
        assert_eq!((out.stats.connected.get(), into.stats.connected.get()), (2, 2));
        out.stop().await;
        into.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_publications_do_not_come_back() {
    let broker = Broker::start().await;
    let node = Node::new("loop");
    let both = format!("{{urls: [\"{}\"], subscribe: [{{topic: \"#\"}}]}}", broker.url());
    let both = node.connect("both", &both).ready().await;
    node.route("r", "in/#", both.sink("{topic: \"out/{topic.1}\"}"));
    let mut peer = Peer::connect(&broker, &["out/#"]).await;
    let mut follower = node.follow("out/#");
    let receipts = node.bus.publish(vec![full_event("in/x", "1")]).await;
    assert_eq!(receipts[0].delivered().await, meshbus::core::Outcome::Delivered);
    assert_eq!(peer.next().await.topic, "out/x");
    peer.publish("out/y", QoS::AtLeastOnce, false, "from elsewhere").await;
    assert_eq!(follower.next().await.topic.as_str(), "out/y");
    until("it is counted", || (both.stats.received.get() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_cannot_take_is_rejected_and_the_connection_lives() {
    let broker = Broker::start_with("allow_anonymous true\nmax_packet_size 20000\n").await;
    for version in ["5", "3.1.1"] {
        let node = Node::new("node");
        let settings =
            format!("{{urls: [\"{}\"], version: {version}, max_packet_size: 20kB}}", broker.url());
        let out = node.connect("out", &settings).ready().await;
        node.route("r", "in/#", out.sink("{topic: \"{subject}\"}"));
        let mut dead = node.follow("dead/#");
        let mut large = full_event("in/large", "large");
        large.subject = Some("ok".into());
        large.data = vec![b'x'; 30_000].into();
        let mut long = full_event("in/long", "long");
        long.subject = Some("ok".into());
        long.extensions.set("long", "y".repeat(70_000));
        let mut system = full_event("in/system", "system");
        system.subject = Some("$SYS".into());
        let mut good = full_event("in/good", "good");
        good.subject = Some("ok".into());
        let receipts = node.bus.publish(vec![large, long, system, good]).await;
        for (receipt, word) in receipts.iter().zip(["bytes", "bytes", "$", ""]) {
            match receipt.delivered().await {
                meshbus::core::Outcome::Rejected(reason) if !word.is_empty() => {
                    assert!(reason.contains(word), "{version}: {reason}");
                    assert!(dead.next().await.topic.as_str().starts_with("dead/"));
                }
                meshbus::core::Outcome::Delivered => assert!(word.is_empty(), "{version}: {word}"),
                other => panic!("{version}: {word}: {other:?}"),
            }
        }
        assert_eq!(out.stats.connected.get(), 1);
        out.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_everything_and_says_goodbye() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &["out/#", "will"]).await;
    let node = Node::new("node");
    let settings = format!("{{urls: [\"{}\"], will: {{topic: will, payload: gone}}}}", broker.url());
    let out = node.connect("out", &settings).ready().await;
    node.route("r", "in/#", out.sink("{topic: \"out/{topic.1}\", qos: 2}"));
    let batch = (0..500).map(|n| full_event("in/x", &n.to_string())).collect();
    let receipts = node.bus.publish(batch).await;
    until("the sending has begun", || (out.stats.sent.get() > 0).then_some(())).await;
    // As the app does: the mailbox is closed once the routes have nothing more to send.
    out.drain();
    until("the routes are done", || node.router.is_idle().then_some(())).await;
    out.stop().await;
    let mut delivered = 0;
    for receipt in &receipts {
        delivered += u32::from(receipt.try_delivered() == Some(meshbus::core::Outcome::Delivered));
    }
    assert_eq!(delivered, 500);
    for _ in 0..500 {
        assert_eq!(peer.next().await.topic, "out/x");
    }
    assert!(peer.maybe(Duration::from_millis(300)).await.is_none(), "no will after a goodbye");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_publishes_the_will_of_one_that_dies() {
    let broker = Broker::start().await;
    for version in ["5", "3.1.1"] {
        let mut peer = Peer::connect(&broker, &["will"]).await;
        let node = Node::new("node");
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, will: {{topic: will, payload: gone, qos: 1}}}}",
            broker.url()
        );
        let out = node.connect("out", &settings).ready().await;
        out.kill().await;
        let will = tokio::time::timeout(LIMIT, peer.next()).await.unwrap();
        assert_eq!((&will.topic[..], &will.payload[..]), (&b"will"[..], &b"gone"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_aliases_shorten_topics_without_changing_them() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &["a-rather-long-topic/#"]).await;
    let node = Node::new("node");
    let settings = format!("{{urls: [\"{}\"], topic_alias: true}}", broker.url());
    let out = node.connect("out", &settings).ready().await;
    node.route("r", "in/#", out.sink("{topic: \"a-rather-long-topic/{topic.1}\"}"));
    // More topics than Mosquitto's ten aliases.
    for n in 0..60 {
        let event = full_event(&format!("in/{}", n % 15), &n.to_string());
        drop(node.bus.publish(vec![event]).await);
        assert_eq!(peer.next().await.topic, format!("a-rather-long-topic/{}", n % 15));
    }
    assert_eq!(out.stats.connected.get(), 1);
}
