//! From the start of the program until it is ready, and its memory when it has nothing to do.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use support::process::{Peers, free_port, start_meshbus};
use support::{Args, Failure, Report, Samples};
use tokio::time::Instant;

fn main() -> ExitCode {
    support::main("start", run)
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    let peers = Peers::start()?;
    let (mut ready, mut resident) = (Samples::default(), Samples::default());
    for _ in 0..args.rounds {
        let config = format!(
            "logging: {{level: warn}}\nconnectors:\n  \
             sensors: {{mqtt: {{client: {{urls: [\"mqtt://127.0.0.1:{}\"], clean_start: true, subscribe: [{{topic: \"in/#\", qos: 1}}]}}}}}}\n  \
             ingest: {{http: {{server: {{listen: \"127.0.0.1:{}\"}}}}}}\n  \
             broker: {{nats: {{client: {{urls: [\"nats://127.0.0.1:{}\"]}}}}}}\n\
             routes:\n  all: {{from: [sensors, ingest], to: [{{connector: broker}}]}}\n",
            peers.mqtt_port,
            free_port()?,
            peers.nats_port,
        );
        let started = Instant::now();
        let meshbus = start_meshbus(peers.dir.path(), "meshbus", &config)?;
        ready.push(started.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(args.size(1000, 100)));
        resident.push(meshbus.memory()?.0);
    }
    report.gated("start to ready, three connectors up", &ready, " ms", 100.0);
    report.gated("resident when idle", &resident, " MiB", 20.0);
    Ok(report.finish())
}
