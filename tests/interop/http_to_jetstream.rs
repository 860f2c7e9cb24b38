//! The main promise over HTTP: 202 means stored, while nats-server and the bus die in the middle.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::chaos::Chaos;
use crate::faults::{Progress, seed, sized};
use crate::ledger::Ledger;
use crate::peers::NatsServer;
use crate::process::{Scratch, free_port};
use crate::senders::HttpSender;
use crate::stored;

/// Requests on the way at once.
const WORKERS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_answered_202_is_lost() {
    let events = sized(10_000, 100_000);
    let limit = Duration::from_secs(sized(240, 1200));
    let seed = seed();
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let stream = nats.stream("LEDGER", &["load.>"], limit * 2).await;
    let port = free_port();
    let bus = Bus::start(&scratch, &config(port, &nats)).await;
    let ledger = Arc::new(Ledger::new(seed, events, 200));
    let (progress, follow) = Progress::follow(stream);
    let sender = HttpSender { port, workers: WORKERS, lead: 2_000 };
    let mut chaos = Chaos { bus, nats, mosquitto: None };
    let started = tokio::time::Instant::now();
    let work = async {
        tokio::join!(sender.run(ledger.clone(), progress.clone()), chaos.run(seed, events, &progress));
    };
    let done = tokio::time::timeout(limit, work).await.is_ok();
    let (acknowledged, stored) = (ledger.acknowledged(), progress.stored());
    assert!(done, "stuck: {acknowledged} of {events} acknowledged, {stored} stored");
    let report = stored::settle(&chaos.nats, "LEDGER", &ledger, limit).await;
    follow.abort();
    println!("HTTP, {events} events in {:?}: {report}", started.elapsed());
    report.assert_kept();
    assert_eq!(report.acknowledged, events);
    // Each worker has one request on the way.
    let bound = WORKERS * chaos.cuts();
    assert!(report.duplicates <= bound, "more than {bound} duplicates: {report}");
}

fn config(port: u16, nats: &NatsServer) -> String {
    format!(
        r#"
name: interop
connectors:
  ingest: {{http: {{server: {{listen: "127.0.0.1:{port}"}}}}}}
  broker: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: LEDGER}}, dedupe: false}}}}}}
routes:
  all:
    from: [ingest]
    to: [{{connector: broker, subject: "load.{{topic.1}}", content_mode: binary}}]
"#,
        nats.url()
    )
}
