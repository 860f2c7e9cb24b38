//! The program between real brokers, against bare loops of the same client crates: CPU time for each event,
//! latency, and memory while the sink is down.

mod bare;
mod load;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use load::Load;
use support::process::{Peers, Process, start_meshbus, start_nats};
use support::{Args, Failure, Report, Samples};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    support::main("bridge", || {
        let args: Vec<String> = std::env::args().skip(1).collect();
        match args.split_first() {
            Some((first, role)) if first == "role" => play(role).map(|()| ExitCode::SUCCESS),
            _ => run(),
        }
    })
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    let mut peers = Peers::start()?;
    for path in PATHS {
        if args.wants(path.name) {
            path.measure(&args, &peers, &mut report)?;
        }
    }
    if args.wants("memory while the sink is down") {
        sink_down(&args, &mut peers, &mut report)?;
    }
    Ok(report.finish())
}

/// One way through, by the program and by a bare loop.
struct Path {
    name: &'static str,
    /// The role that publishes.
    publisher: &'static str,
    /// The role that is the bare loop.
    bare: &'static str,
    rate: u64,
}

const PATHS: [Path; 2] = [
    Path { name: "MQTT QoS 1 to NATS", publisher: "publish-mqtt", bare: "bare-mqtt", rate: 5_000 },
    Path { name: "NATS to NATS", publisher: "publish-nats", bare: "bare-nats", rate: 10_000 },
];

/// A bridge under measurement.
struct System {
    /// The level of topics that keeps the loads of two systems apart.
    level: &'static str,
    bridge: Process,
    cost: Samples,
    latency: Histogram<u64>,
}

impl Path {
    fn measure(&self, args: &Args, peers: &Peers, report: &mut Report) -> Result<(), Failure> {
        let (nats, dir) = (peers.nats_port, peers.dir.path());
        let ports = [peers.mqtt_port.to_string(), nats.to_string(), "bare".to_owned()];
        let mut bare = Process::role(self.bare, dir, &ports)?;
        bare.until_says("ready")?;
        let meshbus = start_meshbus(dir, "meshbus", &self.config(peers))?;
        let mut systems = Vec::new();
        for (level, bridge) in [("bare", bare), ("mesh", meshbus)] {
            systems.push(System { level, bridge, cost: Samples::default(), latency: Histogram::new(3)? });
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let seconds = args.size(2, 1);
        let load = Load { rate: args.size(self.rate, 200), events: args.size(self.rate, 100) * seconds };
        let mut ratio = Samples::default();
        for round in 0..=args.rounds {
            // The first round warms up and does not count. The order changes from round to round.
            if round % 2 == 1 {
                systems.reverse();
            }
            for system in &mut systems {
                let cost = self.round(&runtime, peers, system, load)?;
                if round > 0 {
                    system.cost.push(cost);
                }
            }
            let cost = |level: &str| systems.iter().find(|system| system.level == level)?.cost.last();
            if let (Some(bare), Some(mesh)) = (cost("bare"), cost("mesh")) {
                ratio.push(mesh / bare);
            }
        }
        report.gated(self.name, &ratio, "×", 1.5);
        systems.sort_by_key(|system| system.level);
        for System { level, cost, latency, bridge } in &systems {
            let who = if *level == "bare" { "bare loop" } else { "meshbus" };
            report.noted(&format!("  {who}, {} events/s", load.rate), cost, " µs/event");
            let at = |q: f64| latency.value_at_quantile(q) as f64 / 1000.0;
            report.said(
                &format!("  {who}, latency p50 · p99 · p99.9"),
                format!("{:.2} · {:.2} · {:.2} ms", at(0.5), at(0.99), at(0.999)),
            );
            report.said(&format!("  {who}, resident"), format!("{:.1} MiB", bridge.memory()?.0));
        }
        Ok(())
    }

    /// Sends one load through a system; CPU microseconds of the bridge for each event.
    fn round(
        &self,
        runtime: &Runtime,
        peers: &Peers,
        system: &mut System,
        load: Load,
    ) -> Result<f64, Failure> {
        let level = system.level;
        let sink = runtime.block_on(async {
            let client = async_nats::connect(format!("127.0.0.1:{}", peers.nats_port)).await?;
            let sink = client.subscribe(format!("out.{level}.>")).await?;
            client.flush().await?;
            Ok::<_, Failure>(sink)
        })?;
        let counting = runtime.spawn(load::count(sink, load));
        let before = system.bridge.cpu()?;
        let port = if self.publisher == "publish-mqtt" { peers.mqtt_port } else { peers.nats_port };
        let args = [port.to_string(), level.to_owned(), load.rate.to_string(), load.events.to_string()];
        let publisher = Process::role(self.publisher, peers.dir.path(), &args)?;
        let counted = runtime.block_on(counting)??;
        publisher.finish()?;
        // The last acknowledgements.
        std::thread::sleep(Duration::from_millis(50));
        let cost = (system.bridge.cpu()? - before) / 1000.0 / load.events as f64;
        system.latency.add(&counted.latency)?;
        Ok(cost)
    }

    fn config(&self, peers: &Peers) -> String {
        let nats = peers.nats_port;
        let source = if self.publisher == "publish-mqtt" {
            mqtt_source(peers.mqtt_port)
        } else {
            format!(
                "{{nats: {{client: {{urls: [\"nats://127.0.0.1:{nats}\"], subscribe: [{{subject: \"in.mesh.>\"}}]}}}}}}"
            )
        };
        config(&source, nats)
    }
}

fn mqtt_source(port: u16) -> String {
    format!(
        "{{mqtt: {{client: {{urls: [\"mqtt://127.0.0.1:{port}\"], in_flight: 1000, \
         subscribe: [{{topic: \"in/mesh/#\", qos: 1, retained: event}}]}}}}}}"
    )
}

fn config(source: &str, nats: u16) -> String {
    format!(
        "logging: {{level: warn}}\nconnectors:\n  in: {source}\n  \
         out: {{nats: {{client: {{urls: [\"nats://127.0.0.1:{nats}\"], in_flight: 1000}}}}}}\n\
         routes:\n  all: {{from: [in], to: [{{connector: out, subject: \"out.mesh.{{topic.2}}\"}}]}}\n"
    )
}

/// The sink is killed while events go on: the window fills, and then nothing more may be held.
fn sink_down(args: &Args, peers: &mut Peers, report: &mut Report) -> Result<(), Failure> {
    let dir = peers.dir.path().to_owned();
    let port = support::process::free_port()?;
    let sink = start_nats(&dir, port)?;
    let meshbus = start_meshbus(&dir, "flat", &config(&mqtt_source(peers.mqtt_port), port))?;
    drop(sink);
    let load = Load { rate: args.size(5_000, 200), events: args.size(60_000, 200) };
    let of =
        [peers.mqtt_port.to_string(), "mesh".to_owned(), load.rate.to_string(), load.events.to_string()];
    let publisher = Process::role("publish-mqtt", &dir, &of)?;
    let mut resident = Vec::new();
    for _ in 0..args.size(24, 4) {
        std::thread::sleep(Duration::from_millis(args.size(500, 250)));
        resident.push(meshbus.memory()?.0);
    }
    publisher.finish()?;
    // A quarter of the time to fill the window; from there on it is flat.
    let filled = resident.get(resident.len() / 4).copied().unwrap_or_default();
    let last = resident.last().copied().unwrap_or_default();
    let (mut growth, mut level) = (Samples::default(), Samples::default());
    growth.push(last - filled);
    level.push(last);
    report.gated("memory while the sink is down: growth", &growth, " MiB", 2.0);
    report.noted("  resident at the end", &level, " MiB");
    Ok(())
}

/// This process as one of the others.
fn play(role: &[String]) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let number =
        |at: usize| -> Result<u64, Failure> { Ok(role.get(at).ok_or("too few arguments")?.parse()?) };
    let port = |at: usize| number(at).map(|port| port as u16);
    let text = |at: usize| role.get(at).map(String::as_str).unwrap_or_default();
    runtime.block_on(async {
        match text(0) {
            "bare-mqtt" => bare::mqtt_to_nats(port(1)?, port(2)?, text(3)).await,
            "bare-nats" => bare::nats_to_nats(port(2)?, text(3)).await,
            "publish-mqtt" => {
                let load = Load { rate: number(3)?, events: number(4)? };
                load::publish_mqtt(port(1)?, text(2), load).await
            }
            "publish-nats" => {
                let load = Load { rate: number(3)?, events: number(4)? };
                load::publish_nats(port(1)?, text(2), load).await
            }
            other => Err(format!("no such role: {other:?}").into()),
        }
    })
}
