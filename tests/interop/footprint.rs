//! Start to ready and idle memory of the program, measured and printed; the gates are for a release build.

use std::time::Duration;

use crate::bus::Bus;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, free_port};

const STARTS: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn start_and_idle_memory_are_small() {
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let mosquitto = Mosquitto::start(&scratch).await;
    nats.stream("LEDGER", &["load.>"], Duration::from_mins(2)).await;
    let config = format!(
        r#"
name: footprint
connectors:
  sensors: {{mqtt: {{client: {{urls: ["{}"], version: 5, subscribe: [{{topic: "load/#", qos: 1}}]}}}}}}
  ingest: {{http: {{server: {{listen: "127.0.0.1:{}"}}}}}}
  broker: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: LEDGER}}}}}}}}
routes:
  all: {{from: [sensors, ingest], to: [{{connector: broker, subject: "load.{{topic.1}}"}}]}}
"#,
        mosquitto.url(),
        free_port(),
        nats.url(),
    );
    let mut bus = Bus::prepare(&scratch, "meshbus", &config);
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let started = tokio::time::Instant::now();
        bus.restart().await;
        starts.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
        println!("ready after {:?}, idle at {} KiB", starts[starts.len() - 1], bus.process.rss() / 1024);
        bus.terminate(Duration::from_secs(20)).await;
    }
    starts.sort();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!(
        "{build}: median of {STARTS} starts to ready with three connectors up: {:?}",
        starts[STARTS / 2]
    );
    // Generous: this is no benchmark, and the machine does other things. It finds what hangs or hoards.
    assert!(starts[STARTS / 2] < Duration::from_secs(2));
}
