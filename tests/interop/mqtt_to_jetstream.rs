//! The main promise: MQTT QoS 1 → bus → JetStream, while both brokers and the bus die in the middle.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::chaos::Chaos;
use crate::faults::{Progress, seed, sized};
use crate::ledger::{Ledger, Report};
use crate::peers::{Mosquitto, NatsServer};
use crate::process::Scratch;
use crate::senders::MqttPublisher;
use crate::{stand_in, stored};

/// Unacknowledged publishes Mosquitto may have on the way to the bus.
const WINDOW: usize = 100;

#[derive(Clone, Copy, Debug)]
enum Bridge {
    /// The program under test, with `Nats-Msg-Id` or without.
    Meshbus { dedupe: bool },
    /// Acknowledges after delivery.
    HonestStandIn,
    /// Acknowledges before delivery.
    Mutant,
}

/// What a run showed, and how often something was cut off in it.
struct Outcome {
    report: Report,
    cuts: usize,
    /// Kept until the check is done: what failed is shown with the logs of those who took part.
    _peers: (Chaos, Scratch),
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_msg_ids_leave_no_duplicate() {
    let outcome = run(Bridge::Meshbus { dedupe: true }, sized(20_000, 100_000)).await;
    outcome.report.assert_kept();
    // The window of the stream is longer than the run, and the sender's copies have the same id.
    let copies = outcome.report.duplicates + outcome.report.duplicates_of_sender;
    assert_eq!(copies, 0, "Nats-Msg-Id did not hold: {}", outcome.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_msg_ids_duplicates_stay_within_the_window() {
    let outcome = run(Bridge::Meshbus { dedupe: false }, sized(20_000, 100_000)).await;
    outcome.report.assert_kept();
    let bound = WINDOW * outcome.cuts;
    assert!(outcome.report.duplicates <= bound, "more than {bound} duplicates: {}", outcome.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_harness_finds_no_fault_with_an_honest_bridge() {
    let outcome = run(Bridge::HonestStandIn, 3_000).await;
    outcome.report.assert_kept();
    assert!(outcome.report.duplicates <= usize::from(stand_in::WINDOW) * outcome.cuts);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_harness_sees_the_loss_of_a_bridge_that_acknowledges_before_delivery() {
    let outcome = run(Bridge::Mutant, 3_000).await;
    assert!(!outcome.report.missing.is_empty(), "no loss was seen: {}", outcome.report);
}

/// A frozen server keeps its connections and answers nothing: that is not seen by a closed socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_time_and_neither_events_nor_their_order() {
    let events = sized(6_000, 60_000);
    let limit = Duration::from_mins(2);
    let seed = seed();
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let mosquitto = Mosquitto::start(&scratch).await;
    let stream = nats.stream("LEDGER", &["load.>"], limit * 2).await;
    // Short, so that what is on the way is given up and sent again several times meanwhile.
    let sink = "dedupe: true, ack_timeout: 1s, timeout: 1s, ping_interval: 1s";
    let bus = Bus::start(&scratch, &config(&mosquitto, &nats, sink)).await;
    let ledger = Arc::new(Ledger::new(seed, events, 200));
    let (progress, follow) = Progress::follow(stream);
    let publisher = MqttPublisher { port: mosquitto.port, window: 200, lead: 1_000 };
    let freezes = async {
        for part in 1..=2 {
            progress.reach(events as u64 * part / 3).await;
            nats.process.signal("STOP");
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(progress.stored() < events as u64, "the load was over before the freeze");
            nats.process.signal("CONT");
        }
    };
    let work = async { tokio::join!(publisher.run(ledger.clone(), progress.clone()), freezes) };
    let done = tokio::time::timeout(limit, work).await.is_ok();
    assert!(
        done,
        "stuck: {} of {events} acknowledged, {} stored",
        ledger.acknowledged(),
        progress.stored()
    );
    let report = stored::settle(&nats, "LEDGER", &ledger, limit).await;
    follow.abort();
    let retried = bus.metric("meshbus_route_events_total", &["retried"]).await;
    println!("{events} events, {retried} tried again: {report}");
    report.assert_kept();
    assert_eq!(report.duplicates, 0, "Nats-Msg-Id did not hold: {report}");
    assert!(retried > 0, "the freezes were not felt");
}

async fn run(bridge: Bridge, events: usize) -> Outcome {
    let mutant = matches!(bridge, Bridge::Mutant);
    // The mutant may lose so much that the later faults are never due.
    let limit = Duration::from_secs(if mutant { 30 } else { sized(240, 1200) });
    let seed = seed();
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let mosquitto = Mosquitto::start(&scratch).await;
    let stream = nats.stream("LEDGER", &["load.>"], limit * 2).await;
    let bus = match bridge {
        Bridge::Meshbus { dedupe } => {
            let sink = format!("dedupe: {dedupe}");
            Bus::start(&scratch, &config(&mosquitto, &nats, &sink)).await
        }
        Bridge::HonestStandIn => stand_in::start(&scratch, false, &mosquitto, &nats).await,
        Bridge::Mutant => stand_in::start(&scratch, true, &mosquitto, &nats).await,
    };
    let ledger = Arc::new(Ledger::new(seed, events, 200));
    let (progress, follow) = Progress::follow(stream);
    let publisher = MqttPublisher { port: mosquitto.port, window: 200, lead: 2_000 };
    let mut chaos = Chaos { bus, nats, mosquitto: Some(mosquitto) };
    let started = tokio::time::Instant::now();
    let work = async {
        tokio::join!(publisher.run(ledger.clone(), progress.clone()), chaos.run(seed, events, &progress));
    };
    let done = tokio::time::timeout(limit, work).await.is_ok() || mutant;
    let (acknowledged, stored) = (ledger.acknowledged(), progress.stored());
    assert!(done, "stuck: {acknowledged} of {events} acknowledged, {stored} stored");
    // What the mutant lost never comes.
    let patience = if mutant { Duration::from_secs(5) } else { limit };
    let report = stored::settle(&chaos.nats, "LEDGER", &ledger, patience).await;
    follow.abort();
    println!("{bridge:?}, {events} events in {:?}: {report}", started.elapsed());
    Outcome { report, cuts: chaos.cuts(), _peers: (chaos, scratch) }
}

/// `sink`: more settings of the connector to JetStream.
fn config(mosquitto: &Mosquitto, nats: &NatsServer, sink: &str) -> String {
    format!(
        r#"
name: interop
connectors:
  sensors:
    mqtt:
      client:
        urls: ["{}"]
        version: 5
        client_id: interop-meshbus
        in_flight: {WINDOW}
        subscribe: [{{topic: "load/#", qos: 1}}]
  broker: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: LEDGER}}, {sink}}}}}}}
routes:
  all:
    from: [sensors]
    to: [{{connector: broker, subject: "load.{{topic.1}}", content_mode: binary}}]
"#,
        mosquitto.url(),
        nats.url()
    )
}
