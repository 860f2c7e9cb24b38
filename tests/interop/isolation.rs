//! A sink that is away delays no other route, costs no memory, and gets everything once it is back.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::faults::{Progress, seed, sized};
use crate::ledger::Ledger;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, free_port, until};
use crate::senders::{HttpSender, MqttPublisher};
use crate::stored;

/// Unacknowledged publishes Mosquitto may have on the way to the bus.
const WINDOW: usize = 500;
/// What the allocator may keep or give back between two looks; a leak of one event in ten would be more.
const SLACK: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_sink_delays_no_other_route_and_holds_no_memory() {
    let events = sized(20_000, 200_000);
    let limit = Duration::from_secs(sized(120, 900));
    let seed = seed();
    let scratch = Scratch::new();
    let near = NatsServer::start_named(&scratch, "nats-near").await;
    let mut far = NatsServer::start_named(&scratch, "nats-far").await;
    let mosquitto = Mosquitto::start(&scratch).await;
    let near_stream = near.stream("NEAR", &["near.>"], limit).await;
    let far_stream = far.stream("FAR", &["load.>"], limit).await;
    let port = free_port();
    let bus = Bus::start(&scratch, &config(port, &near, &far, &mosquitto)).await;
    far.kill();

    // Far more than the window of the source: Mosquitto has to keep it, not the bus.
    let blocked = Arc::new(Ledger::new(seed, events, 200));
    let (far_progress, follow_far) = Progress::follow(far_stream);
    let publisher = MqttPublisher { port: mosquitto.port, window: 200, lead: u64::MAX / 2 };
    let quarter = blocked.events() / 4;
    let publish = tokio::spawn({
        let (ledger, progress) = (blocked.clone(), far_progress.clone());
        async move { publisher.run(ledger, progress).await }
    });
    until("a quarter is published", limit, async || (blocked.acknowledged() > quarter).then_some(())).await;
    let before = bus.process.rss();
    publish.await.expect("the publisher");
    let after = bus.process.rss();
    println!("resident with the sink away: {} KiB, then {} KiB", before / 1024, after / 1024);
    assert!(after < before + SLACK, "memory grew from {before} to {after} while a sink was away");

    // The other route goes on meanwhile, each event promptly.
    let free = Arc::new(Ledger::new(seed ^ 1, events / 10, 50));
    let (near_progress, follow_near) = Progress::follow(near_stream);
    let sender = HttpSender { port, workers: 16, lead: u64::MAX / 2 };
    let started = tokio::time::Instant::now();
    let sent = tokio::time::timeout(limit, sender.run(free.clone(), near_progress)).await;
    let free_took = started.elapsed();
    assert!(sent.is_ok(), "the free route stands still: {} of {}", free.acknowledged(), free.events());
    assert_eq!(far_progress.stored(), 0);
    stored::settle(&near, "NEAR", &free, limit).await.assert_kept();
    println!("resident after {} events on the free route: {} KiB", free.events(), bus.process.rss() / 1024);

    far.restart().await;
    let report = stored::settle(&far, "FAR", &blocked, limit).await;
    follow_far.abort();
    follow_near.abort();
    println!("free route: {} events in {free_took:?}; blocked route: {report}", free.events());
    report.assert_kept();
}

fn config(port: u16, near: &NatsServer, far: &NatsServer, mosquitto: &Mosquitto) -> String {
    format!(
        r#"
name: isolation
connectors:
  sensors:
    mqtt:
      client:
        urls: ["{}"]
        version: 5
        in_flight: {WINDOW}
        subscribe: [{{topic: "load/#", qos: 1}}]
  ingest: {{http: {{server: {{listen: "127.0.0.1:{port}"}}}}}}
  near: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: NEAR}}}}}}}}
  far: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: FAR}}}}}}}}
routes:
  blocked: {{from: [sensors], to: [{{connector: far, subject: "load.{{topic.1}}"}}]}}
  free: {{from: [ingest], to: [{{connector: near, subject: "near.{{topic.1}}"}}]}}
"#,
        mosquitto.url(),
        near.url(),
        far.url(),
    )
}
