//! The client against a scripted broker: what a real one does seldom, or never on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, PubAck, PubAckReason, PubComp, PubRec, PubRecReason,
    PubRel, Publish, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::connection::BUSY;
use crate::config::Section;
use crate::core::bus::{Bus, BusOptions};
use crate::core::consumer::Overflow;
use crate::core::delivery::{Answers, Deliveries, Delivery, Mailbox, Outcome};
use crate::core::selector::Selector;
use crate::core::stats::ConnectorStats;
use crate::core::subscription::{Message, Start};
use crate::core::{Envelope, Error, ErrorKind, Seq, Topic};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::schema::cloudevents::ContentMode;
use crate::transport::mqtt::config::{Publication, Qos};
use crate::transport::mqtt::frame::Packet;
use crate::transport::{Link, Ready, Transport, mqtt::Mqtt};

mod order;

const LIMIT: Duration = Duration::from_secs(10);

/// The broker's end of one connection.
struct Script {
    stream: TcpStream,
    input: BytesMut,
}

impl Script {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(LIMIT, listener.accept()).await.expect("a connection").expect("a socket");
        Self { stream, input: BytesMut::new() }
    }

    /// Accepts the connection, as resumed when `present`.
    async fn welcome(listener: &TcpListener, present: bool, properties: Option<ConnAckProperties>) -> Self {
        let mut script = Self::accept(listener).await;
        assert!(matches!(script.next().await, Packet::Connect(..)));
        let code = ConnectReturnCode::Success;
        script.send(Packet::ConnAck(ConnAck { session_present: present, code, properties })).await;
        script
    }

    async fn subscribed(&mut self, code: SubscribeReasonCode) {
        let Packet::Subscribe(subscribe) = self.next().await else { panic!("expected SUBSCRIBE") };
        let return_codes = vec![code; subscribe.filters.len()];
        self.send(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None })).await;
    }

    async fn send(&mut self, packet: Packet) {
        let mut output = BytesMut::new();
        packet.write(&mut output, None).expect("a packet");
        self.stream.write_all(&output).await.expect("an open socket");
    }

    async fn next(&mut self) -> Packet {
        timeout(LIMIT, self.read()).await.expect("a packet in time")
    }

    async fn publish(&mut self) -> Publish {
        match self.next().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    async fn read(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return packet,
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => {
                    assert!(
                        self.stream.read_buf(&mut self.input).await.expect("an open socket") > 0,
                        "closed"
                    );
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    async fn nothing(&mut self) {
        let more = timeout(Duration::from_millis(100), self.read()).await;
        assert!(more.is_err(), "unexpected {more:?}");
    }
}

/// Answers of deliveries, by ticket.
#[derive(Default)]
struct Noted(Mutex<Vec<(u64, Outcome)>>);

impl Answers for Noted {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        self.0.lock().push((ticket, outcome));
    }
}

struct Rig {
    listener: TcpListener,
    bus: Bus,
    mailbox: Arc<Mailbox>,
    noted: Arc<Noted>,
    stats: Arc<ConnectorStats>,
    ready: Ready,
    shutdown: Shutdown,
    ended: JoinHandle<Error>,
    tickets: AtomicU64,
}

impl Rig {
    /// A client that is run again at once after `Disconnected`.
    async fn start(settings: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let text = format!("{{urls: [\"mqtt://127.0.0.1:{port}\"], {settings}}}");
        let section = Section::from_yaml("test", &text).expect("YAML");
        let mut connector = Mqtt.client("broker", &section).unwrap_or_else(|e| panic!("{e}"));
        let bus = Bus::new(BusOptions::default());
        let mailbox = Arc::new(Mailbox::default());
        let (stats, ready, shutdown) = (Arc::new(ConnectorStats::default()), Ready::new(), Shutdown::new());
        let mut link = Link {
            name: "broker".into(),
            bus: bus.ingress("broker", "broker"),
            deliveries: Deliveries(Arc::clone(&mailbox)),
            writes: bus.own("broker".into(), "broker".into(), true),
            kinds: Arc::default(),
            ready: ready.clone(),
            shutdown: shutdown.clone(),
            stats: Arc::clone(&stats),
        };
        let ended = task::spawn("client", async move {
            loop {
                match connector.run(&mut link).await {
                    Ok(()) => std::future::pending().await,
                    Err(error) if error.kind == ErrorKind::Disconnected => {}
                    Err(error) => return error,
                }
            }
        });
        let (noted, tickets) = (Arc::new(Noted::default()), AtomicU64::new(0));
        Self { listener, bus, mailbox, noted, stats, ready, shutdown, ended, tickets }
    }

    /// Delivers to topic `t`; tickets count from 0.
    fn deliver(&self, ids: &[&str], qos: Qos) {
        self.deliver_in(None, ids, qos);
    }

    /// Deliveries that share a lane, as a pipelined one has it.
    fn deliver_in(&self, lane: Option<&Arc<AtomicBool>>, ids: &[&str], qos: Qos) {
        let publication = Publication { qos, retain: false, mode: ContentMode::Data };
        self.mailbox.send(ids.iter().map(|id| {
            let mut event = Envelope::event(Topic::parse("t").expect("a topic"), *id, "/s", "t");
            event.data = Bytes::copy_from_slice(id.as_bytes());
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
            let options = Arc::new(publication);
            let answers = Arc::clone(&self.noted) as Arc<dyn Answers>;
            let mut delivery =
                Delivery::new(Arc::new(event), Seq(ticket), "r".into(), options, answers, ticket);
            delivery.address = Some("t".into());
            delivery.recall = lane.cloned();
            delivery
        }));
    }

    async fn answers(&self, n: usize) -> Vec<(u64, Outcome)> {
        let noted = async {
            while self.noted.0.lock().len() < n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, noted).await.expect("answers in time");
        self.noted.0.lock().clone()
    }

    async fn end(self) -> Error {
        timeout(LIMIT, self.ended).await.expect("an end in time").expect("no panic")
    }
}

fn limits(set: impl FnOnce(&mut ConnAckProperties)) -> ConnAckProperties {
    let mut properties = ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: vec![],
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    set(&mut properties);
    properties
}

fn incoming(qos: QoS, pkid: u16, payload: &'static str) -> Packet {
    Packet::Publish(Publish { qos, pkid, topic: "a".into(), payload: payload.into(), ..Publish::default() })
}

#[tokio::test]
async fn a_refused_subscription_is_named_and_final() {
    let rig = Rig::start("subscribe: [{topic: \"secret/#\"}]").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    script.subscribed(SubscribeReasonCode::NotAuthorized).await;
    assert!(rig.ready.watch().borrow().is_err());
    let error = rig.end().await;
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("secret/#"), "{error}");
}

#[tokio::test]
async fn what_connack_says_decides_what_the_supervisor_does() {
    for (code, kind) in [
        (ConnectReturnCode::BadUserNamePassword, ErrorKind::Denied),
        (ConnectReturnCode::NotAuthorized, ErrorKind::Denied),
        (ConnectReturnCode::ServerBusy, ErrorKind::Busy(BUSY)),
        (ConnectReturnCode::UnsupportedProtocolVersion, ErrorKind::Denied),
        (ConnectReturnCode::ServerMoved, ErrorKind::Unreachable),
    ] {
        let rig = Rig::start("keep_alive: 5s").await;
        let mut script = Script::accept(&rig.listener).await;
        drop(script.next().await);
        script.send(Packet::ConnAck(ConnAck { session_present: false, code, properties: None })).await;
        assert_eq!(rig.end().await.kind, kind, "{code:?}");
    }
}

#[tokio::test]
async fn the_window_of_the_broker_is_kept() {
    let rig = Rig::start("in_flight: 10").await;
    let mut script = Script::welcome(&rig.listener, false, Some(limits(|l| l.receive_max = Some(2)))).await;
    rig.deliver(&["0", "1", "2", "3"], Qos::AtLeastOnce);
    let (first, second) = (script.publish().await, script.publish().await);
    script.nothing().await;
    // Out of order, as no broker should.
    script.send(Packet::PubAck(PubAck::new(second.pkid, None))).await;
    assert_eq!(script.publish().await.payload, "2");
    script.nothing().await;
    script.send(Packet::PubAck(PubAck::new(first.pkid, None))).await;
    assert_eq!(script.publish().await.payload, "3");
    assert_eq!(rig.answers(2).await, [(1, Outcome::Delivered), (0, Outcome::Delivered)]);
}

#[tokio::test]
async fn what_the_broker_cannot_do_is_rejected_before_it_is_sent() {
    let rig = Rig::start("in_flight: 10").await;
    let allowed = limits(|l| {
        l.max_qos = Some(1);
        l.max_packet_size = Some(50);
    });
    let mut script = Script::welcome(&rig.listener, false, Some(allowed)).await;
    rig.deliver(&["x"], Qos::ExactlyOnce);
    let long = "y".repeat(60);
    rig.deliver(&[&long], Qos::AtLeastOnce);
    rig.deliver(&["z"], Qos::AtLeastOnce);
    assert_eq!(script.publish().await.payload, "z");
    let answers = rig.answers(2).await;
    assert!(matches!(&answers[0].1, Outcome::Rejected(reason) if reason.contains("QoS 1")), "{answers:?}");
    assert!(matches!(&answers[1].1, Outcome::Rejected(reason) if reason.contains("50")), "{answers:?}");
    assert_eq!(rig.stats.oversize.get(), 1);
}

#[tokio::test]
async fn a_refusal_rejects_one_and_frees_its_place() {
    let rig = Rig::start("in_flight: 1").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    rig.deliver(&["0", "1"], Qos::AtLeastOnce);
    rig.deliver(&["2", "3"], Qos::ExactlyOnce);
    let pkid = script.publish().await.pkid;
    let reason = PubAckReason::NotAuthorized;
    script.send(Packet::PubAck(PubAck { reason, ..PubAck::new(pkid, None) })).await;
    let pkid = script.publish().await.pkid;
    script.send(Packet::PubAck(PubAck::new(pkid, None))).await;
    let pkid = script.publish().await.pkid;
    let reason = PubRecReason::QuotaExceeded;
    script.send(Packet::PubRec(PubRec { reason, ..PubRec::new(pkid, None) })).await;
    let pkid = script.publish().await.pkid;
    script.send(Packet::PubRec(PubRec::new(pkid, None))).await;
    assert!(matches!(script.next().await, Packet::PubRel(_)));
    script.send(Packet::PubComp(PubComp::new(pkid, None))).await;
    let answers = rig.answers(4).await;
    assert!(matches!(&answers[0].1, Outcome::Rejected(reason) if reason.contains("0x87")), "{answers:?}");
    assert!(matches!(&answers[2].1, Outcome::Rejected(reason) if reason.contains("0x97")), "{answers:?}");
    assert_eq!((&answers[1].1, &answers[3].1), (&Outcome::Delivered, &Outcome::Delivered));
}

#[tokio::test]
async fn a_resumed_session_gets_the_unacknowledged_again_in_order_and_first() {
    let rig = Rig::start("in_flight: 4, clean_start: false").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    rig.deliver(&["0", "1", "2"], Qos::AtLeastOnce);
    rig.deliver(&["3"], Qos::ExactlyOnce);
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(script.publish().await);
    }
    script.send(Packet::PubAck(PubAck::new(sent[1].pkid, None))).await;
    script.send(Packet::PubRec(PubRec::new(sent[3].pkid, None))).await;
    assert!(matches!(script.next().await, Packet::PubRel(_)));
    rig.answers(1).await;
    rig.deliver(&["4"], Qos::AtLeastOnce);
    sent[1] = script.publish().await;
    rig.deliver(&["5"], Qos::AtLeastOnce);
    script.nothing().await;
    drop(script);
    let mut script = Script::welcome(&rig.listener, true, None).await;
    for old in [&sent[0], &sent[2]] {
        let again = script.publish().await;
        assert_eq!((again.pkid, &again.payload, again.dup), (old.pkid, &old.payload, true));
    }
    let Packet::PubRel(release) = script.next().await else { panic!("expected PUBREL") };
    assert_eq!(release.pkid, sent[3].pkid);
    let last = script.publish().await;
    assert_eq!((last.pkid, &last.payload[..], last.dup), (sent[1].pkid, &b"4"[..], true));
    script.send(Packet::PubAck(PubAck::new(sent[0].pkid, None))).await;
    let new = script.publish().await;
    assert_eq!((&new.payload[..], new.dup), (&b"5"[..], false));
    // Without the session everything is new, the half-done included.
    drop(script);
    let mut script = Script::welcome(&rig.listener, false, None).await;
    for payload in ["2", "3", "4", "5"] {
        let again = script.publish().await;
        assert_eq!((&again.payload[..], again.dup), (payload.as_bytes(), false));
    }
    assert_eq!(rig.noted.0.lock().len(), 2, "nothing was answered meanwhile");
}

#[tokio::test]
async fn an_exchange_that_a_dead_process_left_half_done_is_ended_first() {
    let rig = Rig::start("in_flight: 4, clean_start: false").await;
    let mut script = Script::welcome(&rig.listener, true, None).await;
    rig.deliver(&["0"], Qos::ExactlyOnce);
    let Packet::PubRel(release) = script.next().await else { panic!("expected PUBREL first") };
    let publish = script.publish().await;
    assert_eq!(release.pkid, publish.pkid);
    // The answer to the PUBREL must not be taken for the end of the new exchange.
    script.send(Packet::PubComp(PubComp::new(publish.pkid, None))).await;
    script.send(Packet::PubRec(PubRec::new(publish.pkid, None))).await;
    assert!(matches!(script.next().await, Packet::PubRel(_)));
    assert!(rig.noted.0.lock().is_empty());
    script.send(Packet::PubComp(PubComp::new(publish.pkid, None))).await;
    assert_eq!(rig.answers(1).await, [(0, Outcome::Delivered)]);
    rig.deliver(&["1"], Qos::ExactlyOnce);
    assert_eq!(script.publish().await.payload, "1", "once is enough");
}

#[tokio::test]
async fn a_publication_that_ends_the_connection_is_rejected() {
    let rig = Rig::start("clean_start: false").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    rig.deliver(&["poison", "good"], Qos::AtLeastOnce);
    drop((script.publish().await, script.publish().await));
    script.stream.write_all(&[0xe0, 1, 0x95]).await.unwrap();
    let mut script = Script::welcome(&rig.listener, true, None).await;
    assert_eq!(script.publish().await.payload, "good");
    let answers = rig.answers(1).await;
    assert!(
        matches!(&answers[0], (0, Outcome::Rejected(reason)) if reason.contains("0x95")),
        "{answers:?}"
    );
    // A broker of the older version says nothing: after five times the oldest is the cause.
    drop(script);
    for _ in 0..3 {
        let mut script = Script::welcome(&rig.listener, true, None).await;
        assert_eq!(script.publish().await.payload, "good");
    }
    let answers = rig.answers(2).await;
    assert!(matches!(&answers[1], (1, Outcome::Rejected(_))), "{answers:?}");
}

#[tokio::test]
async fn acknowledgements_go_in_order_of_arrival_and_repetitions_are_not_published() {
    let rig = Rig::start("subscribe: [{topic: \"#\", qos: 2}]").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    script.subscribed(SubscribeReasonCode::Success(QoS::ExactlyOnce)).await;
    let mut all = rig.bus.subscribe(Selector::default(), Start::Now, 100, Overflow::Block).unwrap();
    for packet in [
        incoming(QoS::ExactlyOnce, 7, "first"),
        incoming(QoS::AtMostOnce, 0, "second"),
        incoming(QoS::AtLeastOnce, 3, "third"),
        incoming(QoS::ExactlyOnce, 5, "fourth"),
    ] {
        script.send(packet).await;
    }
    assert!(matches!(script.next().await, Packet::PubRec(ack) if ack.pkid == 7));
    assert!(matches!(script.next().await, Packet::PubAck(ack) if ack.pkid == 3));
    assert!(matches!(script.next().await, Packet::PubRec(ack) if ack.pkid == 5));
    script.send(Packet::PubRel(PubRel::new(5, None))).await;
    assert!(matches!(script.next().await, Packet::PubComp(ack) if ack.pkid == 5));
    // Resumed: 7 was answered, only the answer was lost; 9 was never seen in this life.
    drop(script);
    let mut script = Script::welcome(&rig.listener, true, None).await;
    script.subscribed(SubscribeReasonCode::Success(QoS::ExactlyOnce)).await;
    script.send(incoming(QoS::ExactlyOnce, 7, "first")).await;
    assert!(matches!(script.next().await, Packet::PubRec(ack) if ack.pkid == 7));
    script.send(Packet::PubRel(PubRel::new(9, None))).await;
    assert!(matches!(script.next().await, Packet::PubComp(ack) if ack.pkid == 9));
    script.send(incoming(QoS::ExactlyOnce, 5, "fifth")).await;
    assert!(matches!(script.next().await, Packet::PubRec(ack) if ack.pkid == 5));
    let mut seen = Vec::new();
    while seen.len() < 5 {
        if let Message::Batch(records) = timeout(LIMIT, all.next()).await.unwrap().unwrap() {
            seen.extend(records.iter().map(|r| String::from_utf8_lossy(&r.envelope.data).into_owned()));
        }
    }
    assert_eq!(seen, ["first", "second", "third", "fourth", "fifth"]);
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_left_and_one_that_does_is_pinged() {
    let rig = Rig::start("keep_alive: 60s").await;
    let mut script =
        Script::welcome(&rig.listener, false, Some(limits(|l| l.server_keep_alive = Some(1)))).await;
    for _ in 0..3 {
        assert!(matches!(script.next().await, Packet::PingReq(_)), "the broker's keep-alive counts");
        script.send(Packet::PingResp(rumqttc::v5::mqttbytes::v5::PingResp)).await;
    }
    // Now it is silent, and pinged on, until the client has had enough.
    let pinged = Instant::now();
    let _second = Script::welcome(&rig.listener, false, None).await;
    assert!(pinged.elapsed() > Duration::from_secs(4));
}

#[tokio::test]
async fn the_end_is_at_once_and_says_goodbye() {
    let rig = Rig::start("subscribe: [{topic: \"#\"}]").await;
    let mut script = Script::welcome(&rig.listener, false, None).await;
    script.subscribed(SubscribeReasonCode::Success(QoS::AtLeastOnce)).await;
    rig.deliver(&["0"], Qos::AtLeastOnce);
    drop(script.publish().await);
    rig.shutdown.start_end();
    let mut rest = Vec::new();
    timeout(LIMIT, script.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, [0xe0, 0]);
}
