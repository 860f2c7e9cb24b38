//! Order of a key over refusals: what the broker takes first of each event is in the order of the log.

use super::*;
use crate::core::consumer::Source;
use crate::core::delivery::Target;
use crate::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use crate::core::template::{Spelling, Template};

/// A route from connector `in` to the client under test, as configured by `to`.
fn route(rig: &Rig, connector: &str, to: &str) -> Router {
    let section = |text: &str| Section::from_yaml("test", text).expect("YAML");
    let target: Target = Mqtt.target(&section(connector), &section(to)).expect("a target");
    let sink = Sink::Connector { name: "broker".into(), mailbox: Arc::clone(&rig.mailbox), target };
    let topic = Template::parse("dead/{route}", Spelling::Topic).expect("a template");
    let spec = RouteSpec {
        name: "r".into(),
        from: vec![Source { connector: Some("in".into()), topic: None }],
        predicates: Vec::new(),
        filters: Vec::new(),
        to: vec![To { output: None, sink }],
        retry: Retry { initial: Duration::from_millis(200), ..Retry::default() },
        dead_letter: Sink::Bus { topic },
        when_full: WhenFull::Block,
        in_flight: 100,
    };
    let router = Router::new(rig.bus.clone());
    drop(task::spawn("route", router.set(spec).expect("a new route").run()));
    router
}

#[tokio::test]
async fn a_key_keeps_its_order_when_one_of_several_is_refused_and_others_go_on() {
    for qos in [1, 2] {
        let rig = Rig::start("in_flight: 100").await;
        let mut script = Script::welcome(&rig.listener, false, None).await;
        let _router =
            route(&rig, "{urls: [\"mqtt://b\"]}", &format!("{{topic: \"{{topic}}\", qos: {qos}}}"));
        let ids = ["a1", "a2", "a3", "b1", "b2", "b3"];
        let events = ids.iter().map(|id| {
            let topic = id.get(..1).expect("a letter");
            let mut event = Envelope::event(Topic::parse(topic).expect("a topic"), *id, "/s", "t");
            event.data = Bytes::copy_from_slice(id.as_bytes());
            event
        });
        drop(rig.bus.ingress("in", "in").publish(events.collect()).await);
        let (mut taken, mut refused) = (Vec::new(), false);
        while taken.len() < ids.len() {
            let publish = match script.next().await {
                Packet::Publish(publish) => publish,
                Packet::PubRel(release) => {
                    script.send(Packet::PubComp(PubComp::new(release.pkid, None))).await;
                    continue;
                }
                other => panic!("unexpected {other:?}"),
            };
            // Only once, for want of room: the next try is taken.
            let full = publish.payload == "a1" && !std::mem::replace(&mut refused, true);
            if !full {
                taken.push(String::from_utf8(publish.payload.to_vec()).expect("text"));
            }
            let answer = match (qos, full) {
                (1, false) => Packet::PubAck(PubAck::new(publish.pkid, None)),
                (1, true) => {
                    let reason = PubAckReason::QuotaExceeded;
                    Packet::PubAck(PubAck { reason, ..PubAck::new(publish.pkid, None) })
                }
                (_, false) => Packet::PubRec(PubRec::new(publish.pkid, None)),
                (_, true) => {
                    let reason = PubRecReason::QuotaExceeded;
                    Packet::PubRec(PubRec { reason, ..PubRec::new(publish.pkid, None) })
                }
            };
            script.send(answer).await;
        }
        assert_eq!(taken, ["b1", "b2", "b3", "a1", "a2", "a3"], "QoS {qos}");
    }
}

#[tokio::test]
async fn what_is_behind_a_failure_is_given_back_unsent() {
    let rig = Rig::start("in_flight: 3, clean_start: false").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    let lane = Arc::new(AtomicBool::new(false));
    rig.deliver_in(Some(&lane), &["poison", "sent"], Qos::AtLeastOnce);
    rig.deliver(&["other"], Qos::AtLeastOnce);
    rig.deliver_in(Some(&lane), &["waiting"], Qos::AtLeastOnce);
    for payload in ["poison", "sent", "other"] {
        assert_eq!(script.publish().await.payload, payload);
    }
    // DISCONNECT, packet too large: the oldest is to blame.
    script.stream.write_all(&[0xe0, 1, 0x95]).await.unwrap();
    let mut script = Script::welcome(&rig.listener, true, None).await;
    assert_eq!(script.publish().await.payload, "other");
    script.nothing().await;
    let answers = rig.answers(3).await;
    assert!(matches!(&answers[0], (0, Outcome::Rejected(_))), "{answers:?}");
    assert!(
        matches!(&answers[1..], [(1, Outcome::Undelivered(_)), (3, Outcome::Undelivered(_))]),
        "{answers:?}"
    );
}
