//! Retained messages as state, both ways.

use std::time::Duration;

use meshbus::core::write::{Operation, Precondition};
use meshbus::core::{Cause, Change, Envelope, Key, Refused, Topic};
use rumqttc::v5::mqttbytes::QoS;

use super::rig::{Broker, Node, Peer, full_event, until};

fn key(scope: &'static str, name: &'static str) -> Key {
    Key::new(scope, Key::VALUE, name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_are_state() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &[]).await;
    peer.publish("s/a", QoS::AtLeastOnce, true, "1").await;
    let node = Node::new("node");
    let mut follower = node.follow("s/#");
    let settings = format!(
        "{{urls: [\"{}\"], client_id: st, subscribe: [{{topic: \"s/#\"}}], scope: devices}}",
        broker.url()
    );
    let into = node.connect("sensors", &settings).ready().await;
    let first = follower.next().await;
    let Change::Put(found, version) = &first.change else { panic!("{first:?}") };
    assert_eq!(*found, key("devices", "s/a"));
    assert_eq!((first.topic.as_str(), &first.data[..]), ("s/a", &b"1"[..]));
    peer.publish("s/a", QoS::AtLeastOnce, true, "2").await;
    let second = follower.next().await;
    assert!(
        matches!(&second.change, Change::Put(_, next) if next != version),
        "live, with its flag: {second:?}"
    );
    peer.publish("s/a", QoS::AtLeastOnce, false, "an event").await;
    assert_eq!(follower.next().await.change, Change::Occurred);
    peer.publish("s/a", QoS::AtLeastOnce, true, "").await;
    let gone = follower.next().await;
    assert!(matches!(&gone.change, Change::Delete(_, _, Cause::Deleted)), "{gone:?}");
    assert!(node.bus.get(&key("devices", "s/a")).is_none());
    into.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_can_be_events_or_nothing() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &[]).await;
    peer.publish("e/a", QoS::AtLeastOnce, true, "event").await;
    peer.publish("i/a", QoS::AtLeastOnce, true, "ignored").await;
    for version in ["5", "3.1.1"] {
        let node = Node::new("node");
        let mut follower = node.follow("#");
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, client_id: \"m{version}\", subscribe: \
              [{{topic: \"e/#\", retained: event}}, {{topic: \"i/#\", retained: ignore}}]}}",
            broker.url()
        );
        let into = node.connect("sensors", &settings).ready().await;
        let first = follower.next().await;
        assert_eq!((first.topic.as_str(), &first.change), ("e/a", &Change::Occurred));
        peer.publish("i/a", QoS::AtLeastOnce, true, "live").await;
        assert_eq!(follower.next().await.data, "live", "{version}: what happens now is an event");
        peer.publish("i/a", QoS::AtLeastOnce, true, "ignored").await;
        drop(follower.next().await);
        into.stop().await;
        let into = node.connect("sensors", &settings).ready().await;
        if version == "5" {
            assert!(follower.maybe(Duration::from_millis(300)).await.is_none(), "the session has it");
        }
        into.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_state_is_a_retained_message_and_answered_with_its_version() {
    let broker = Broker::start().await;
    for version in ["5", "3.1.1"] {
        let (topic, filter): (&'static str, _) =
            if version == "5" { ("s5/a", "s5/#") } else { ("s3/a", "s3/#") };
        let node = Node::new("node");
        let settings = format!(
            "{{urls: [\"{}\"], version: {version}, client_id: \"w{version}\", subscribe: [{{topic: \"{filter}\"}}]}}",
            broker.url()
        );
        let into = node.connect("devices", &settings).ready().await;
        let mut peer = Peer::connect(&broker, &[filter]).await;
        let put = |data: &'static str| {
            let mut envelope = Envelope::event(Topic::parse(topic).unwrap(), "", "", "");
            envelope.data = data.into();
            Operation::Put(Box::new(envelope))
        };
        let key = key("devices", topic);
        let stored = node.bus.write(key.clone(), put("on"), Precondition::Absent, false).await.unwrap();
        assert!(stored.created);
        let record = node.bus.get(&key).unwrap();
        assert_eq!((&record.envelope.data[..], record.seq), (&b"on"[..], stored.seq));
        assert!(matches!(&record.envelope.change, Change::Put(_, version) if *version == stored.version));
        let seen = peer.next().await;
        assert_eq!((&seen.topic[..], &seen.payload[..], seen.retain), (topic.as_bytes(), &b"on"[..], true));

        let refused = node.bus.write(key.clone(), put("x"), Precondition::Absent, false).await;
        assert!(matches!(refused, Err(Refused::Conflict { .. })), "{refused:?}");
        let dry = node.bus.write(key.clone(), put("x"), Precondition::Any, true).await;
        assert!(dry.is_ok(), "{dry:?}");
        let patch =
            Operation::Patch { media_type: "application/merge-patch+json".into(), bytes: "{}".into() };
        let refused = node.bus.write(key.clone(), patch, Precondition::Any, false).await;
        assert!(matches!(refused, Err(Refused::UnsupportedMediaType(_))), "{refused:?}");
        let same = Precondition::Version(stored.version.clone());
        let second = node.bus.write(key.clone(), put("off"), same, false).await.unwrap();
        assert_ne!(second.version, stored.version);
        assert_eq!(peer.next().await.payload, "off");

        // A new process finds its own writes at the broker.
        into.stop().await;
        let again = Node::new("node");
        let into = again.connect("devices", &settings).ready().await;
        until("the state is back", || again.bus.get(&key)).await;
        let version_now = again.bus.get(&key).unwrap();
        assert!(
            matches!(&version_now.envelope.change, Change::Put(_, version) if *version == second.version),
            "the same content is the same version: {version_now:?}"
        );
        let deleted = again.bus.write(key.clone(), Operation::Delete, Precondition::Any, false).await;
        assert!(deleted.is_ok(), "{deleted:?}");
        assert!(again.bus.get(&key).is_none());
        let cleared = peer.next().await;
        assert_eq!((cleared.payload.len(), cleared.retain), (0, true));
        let refused = again.bus.write(key.clone(), Operation::Delete, Precondition::Any, false).await;
        assert!(matches!(refused, Err(Refused::NotFound)), "{refused:?}");
        into.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_mirrors_state_into_retained_messages() {
    let broker = Broker::start().await;
    let mut peer = Peer::connect(&broker, &["mirror/#"]).await;
    let node = Node::new("node");
    let out = node.connect("out", &format!("{{urls: [\"{}\"]}}", broker.url())).ready().await;
    node.route("r", "things/#", out.sink("{topic: \"mirror/{topic.1}\", retain: true}"));
    let local = Key::new(Key::LOCAL, Key::VALUE, "things/a");
    let value = full_event("things/a", "1");
    let stored =
        node.bus.write(local.clone(), Operation::Put(Box::new(value)), Precondition::Any, false).await;
    assert!(stored.is_ok(), "{stored:?}");
    let seen = peer.next().await;
    assert_eq!((&seen.topic[..], seen.retain), (&b"mirror/a"[..], true));
    node.bus.write(local, Operation::Delete, Precondition::Any, false).await.unwrap();
    let gone = peer.next().await;
    assert_eq!((gone.payload.len(), gone.retain), (0, true));
    let kinds = gone.properties.unwrap().user_properties;
    assert!(kinds.contains(&("type".into(), "dev.meshbus.resource.deleted.v1".into())), "{kinds:?}");
    let mut late = Peer::connect(&broker, &["mirror/#"]).await;
    assert!(late.maybe(Duration::from_millis(300)).await.is_none(), "nothing is retained any more");
    out.stop().await;
}
