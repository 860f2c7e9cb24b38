//! The end of a run: SIGTERM delivers what was accepted or leaves it at the source; a second signal ends at once.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::faults::{Progress, seed};
use crate::ledger::Ledger;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, free_port, until};
use crate::senders::{HttpSender, MqttPublisher};
use crate::stored;
use crate::webhook::{Act, Webhook};

/// Longer than the grace period.
const STOP_LIMIT: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_delivers_what_was_accepted_and_the_source_keeps_the_rest() {
    let events = 8_000;
    let limit = Duration::from_secs(90);
    let seed = seed();
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let mosquitto = Mosquitto::start(&scratch).await;
    let stream = nats.stream("LEDGER", &["load.>"], limit).await;
    let port = free_port();
    let mut bus = Bus::start(&scratch, &config(port, &mosquitto, &nats)).await;
    let (progress, follow) = Progress::follow(stream);
    let by_mqtt = Arc::new(Ledger::new(seed, events, 100));
    let by_http = Arc::new(Ledger::new(seed ^ 1, events, 100));
    let publisher = MqttPublisher { port: mosquitto.port, window: 200, lead: u64::MAX / 2 };
    let sender = HttpSender { port, workers: 16, lead: u64::MAX / 2 };
    let work = async {
        tokio::join!(
            publisher.run(by_mqtt.clone(), progress.clone()),
            sender.run(by_http.clone(), progress.clone()),
            async {
                // Twice in the middle of the load.
                for stop in 1..=2 {
                    progress.reach(events as u64 * stop / 2).await;
                    let started = tokio::time::Instant::now();
                    let status = bus.terminate(STOP_LIMIT).await;
                    println!("drained in {:?}, {status}", started.elapsed());
                    assert_eq!(status.code(), Some(0), "{}", bus.process.log_tail());
                    // Whoever saw an acknowledgement finds the event, before the bus comes back.
                    let seen = both(&nats).await;
                    let http: Vec<_> = seen.iter().filter(|seen| is_of(seen, &by_http)).collect();
                    let missing = by_http.check(http.iter().copied()).missing;
                    assert!(missing.is_empty(), "answered 202 and not stored: {missing:?}");
                    bus.restart().await;
                }
            }
        );
    };
    assert!(tokio::time::timeout(limit, work).await.is_ok(), "stuck at {}", progress.stored());
    until("all is stored", limit, async || (progress.stored() >= 2 * events as u64).then_some(())).await;
    stored::quiet(&nats, "LEDGER", limit).await;
    follow.abort();
    let seen = both(&nats).await;
    for (way, ledger) in [("MQTT", by_mqtt), ("HTTP", by_http)] {
        let report = ledger.check(seen.iter().filter(|seen| is_of(seen, &ledger)));
        println!("{way}: {report}");
        report.assert_kept();
        // Nothing was cut off: what the bus took it delivered, what it did not take came again once.
        assert_eq!(report.duplicates, 0, "{way}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let scratch = Scratch::new();
    let seed = seed();
    let (port, hook) = (free_port(), free_port());
    let webhook = Webhook::start(hook, |_| Act::Hang(Duration::from_mins(10))).await;
    let config = format!(
        r#"
name: stubborn
connectors:
  ingest: {{http: {{server: {{listen: "127.0.0.1:{port}"}}}}}}
  sink: {{http: {{client: {{url: "http://127.0.0.1:{hook}", timeout: 10m}}}}}}
routes:
  all: {{from: [ingest], to: [{{connector: sink}}]}}
"#
    );
    let mut bus = Bus::start(&scratch, &config).await;
    let ledger = Arc::new(Ledger::new(seed, 1, 1));
    let request = crate::senders::binary_request(
        &format!("http://127.0.0.1:{port}/v1/publish?topic=load/k0"),
        &ledger.attributes(0),
        ledger.payload(0),
    );
    let _asked = tokio::spawn(crate::bus::http_client().request(request));
    let in_flight = async || (bus.metric("meshbus_route_in_flight", &[]).await > 0).then_some(());
    until("the event is on the way", Duration::from_secs(10), in_flight).await;
    bus.process.signal("TERM");
    until("it drains", Duration::from_secs(10), async || {
        let (status, text) =
            bus.health("/readyz").await.expect("the health port answers while the bus drains");
        (status == 503 && text.starts_with("not ready: draining")).then_some(())
    })
    .await;
    assert_eq!(bus.health("/livez").await.map(|(status, _)| status), Some(200));
    assert!(bus.process.ended().is_none(), "it did not wait for what is on the way");
    let started = tokio::time::Instant::now();
    let status = bus.terminate(Duration::from_secs(2)).await;
    println!("the second signal ended it in {:?}, {status}", started.elapsed());
    assert_eq!(webhook.count(), 0);
}

/// Everything stored, of both senders.
async fn both(nats: &NatsServer) -> Vec<crate::ledger::Seen> {
    stored::read(nats, "LEDGER").await.iter().map(stored::Message::seen).collect()
}

fn is_of(seen: &crate::ledger::Seen, ledger: &Ledger) -> bool {
    let prefix = |id: &str| id.split('-').next().map(str::to_owned);
    let first = ledger.attributes(0);
    seen.attributes.get("id").and_then(|id| prefix(id)) == first.get("id").and_then(|id| prefix(id))
}

fn config(port: u16, mosquitto: &Mosquitto, nats: &NatsServer) -> String {
    format!(
        r#"
name: drain
connectors:
  sensors:
    mqtt:
      client:
        urls: ["{}"]
        version: 5
        client_id: interop-drain
        in_flight: 500
        subscribe: [{{topic: "load/#", qos: 1}}]
  ingest: {{http: {{server: {{listen: "127.0.0.1:{port}"}}}}}}
  broker: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: LEDGER}}, dedupe: false}}}}}}
routes:
  all: {{from: [sensors, ingest], to: [{{connector: broker, subject: "load.{{topic.1}}"}}]}}
"#,
        mosquitto.url(),
        nats.url(),
    )
}
