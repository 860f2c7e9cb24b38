//! Reloads under load lose nothing, and an invalid file replaces no valid one.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::faults::{Progress, seed, sized};
use crate::ledger::Ledger;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, until};
use crate::senders::MqttPublisher;
use crate::stored;

/// Unacknowledged publishes Mosquitto may have on the way to the bus.
const WINDOW: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing() {
    let reloads: u32 = sized(100, 1_000);
    let limit = Duration::from_secs(sized(180, 1200));
    let seed = seed();
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let mosquitto = Mosquitto::start(&scratch).await;
    let stream = nats.stream("LEDGER", &["load.>"], limit).await;
    let bus = Bus::start(&scratch, &config(0, &mosquitto, &nats)).await;
    // More events than the reloads leave time for: the load ends with the reloads, not before.
    let ledger = Arc::new(Ledger::new(seed, sized(200_000, 2_000_000), 200));
    let (progress, follow) = Progress::follow(stream);
    let publisher = MqttPublisher { port: mosquitto.port, window: 200, lead: 500 };
    let load = tokio::spawn({
        let (ledger, progress) = (ledger.clone(), progress.clone());
        async move { publisher.run(ledger, progress).await }
    });
    until("the load runs", limit, async || (progress.stored() > 200).then_some(())).await;
    let started = tokio::time::Instant::now();
    let mut rejected = 0;
    for reload in 1..=reloads {
        let version = bus.metric("meshbus_config_version", &[]).await;
        if reload % 10 == 5 {
            bus.configure("name: interop\nconnectors: {sensors: {mqtt: {client: {url: 3}}}}");
            bus.process.signal("HUP");
            rejected += 1;
            wait(&bus, "the invalid file is refused", "meshbus_config_rejected_total", rejected).await;
            assert_eq!(
                bus.metric("meshbus_config_version", &[]).await,
                version,
                "an invalid file was taken"
            );
        } else {
            bus.configure(&config(reload, &mosquitto, &nats));
            bus.process.signal("HUP");
            wait(&bus, "the file is taken", "meshbus_config_version", version + 1).await;
        }
    }
    let took = started.elapsed();
    let under_load = !load.is_finished();
    load.abort();
    let report = stored::settle(&nats, "LEDGER", &ledger, limit).await;
    follow.abort();
    println!("{reloads} reloads in {took:?}: {report}");
    report.assert_kept();
    assert!(under_load, "the load ended before the reloads: give the test more events");
}

/// Waits until a metric is at least `value`.
async fn wait(bus: &Bus, what: &str, metric: &str, value: u64) {
    until(what, Duration::from_secs(20), async || (bus.metric(metric, &[]).await >= value).then_some(()))
        .await;
}

/// What changes: settings of the route that carries the load, and routes and connectors beside it.
fn config(number: u32, mosquitto: &Mosquitto, nats: &NatsServer) -> String {
    let (mqtt, nats) = (mosquitto.url(), nats.url());
    let attempts = 5 + number % 3;
    // Now and then the connectors that carry the load change, too, and are exchanged under it.
    let (keep_alive, ack_timeout) = (30 + number / 8, 5 + number / 6);
    let (connector, route) = match number % 4 {
        0 => (String::new(), String::new()),
        1 => (
            format!("  other: {{nats: {{client: {{urls: [\"{nats}\"]}}}}}}"),
            "  other: {from: [sensors], to: [{connector: other, subject: \"other.x\"}]}".to_owned(),
        ),
        2 => (String::new(), "  inner: {from: [sensors], to: [{bus: \"inner/{topic.1}\"}]}".to_owned()),
        _ => (
            format!("  idle: {{nats: {{client: {{urls: [\"{nats}\"], in_flight: {}}}}}}}", 10 + number),
            String::new(),
        ),
    };
    format!(
        r#"
name: interop
connectors:
  sensors:
    mqtt:
      client:
        urls: ["{mqtt}"]
        version: 5
        client_id: interop-reload
        in_flight: {WINDOW}
        keep_alive: {keep_alive}s
        subscribe: [{{topic: "load/#", qos: 1}}]
  broker: {{nats: {{client: {{urls: ["{nats}"], jetstream: {{stream: LEDGER}}, ack_timeout: {ack_timeout}s}}}}}}
{connector}
routes:
  all:
    from: [{{connector: sensors, topic: "load/#"}}]
    to: [{{connector: broker, subject: "load.{{topic.1}}"}}]
    retry: {{max_attempts: {attempts}}}
{route}
"#
    )
}
