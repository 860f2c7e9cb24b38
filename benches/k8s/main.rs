//! The Kubernetes API of the bus: a change to a thousand watchers against a bare epoll loop that writes the same
//! bytes; what an idle watch and a hundred thousand objects cost in memory; a list of ten thousand objects; the start.

#[path = "../support/mod.rs"]
mod support;

mod bare;
mod memory;
mod readers;

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use self::readers::Readers;
use self::support::process::{Process, free_port, start_meshbus};
use self::support::wire::{self, PATH};
use self::support::{Args, Failure, Report, Samples};

/// Between two changes: an open loop, so that a slow one delays none after it.
const EVERY: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("role") {
        return support::main("k8s", || bare::serve(&args.skip(1).collect::<Vec<_>>()));
    }
    support::main("k8s", run)
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    let dir = tempfile::Builder::new().prefix("meshbus-bench-").tempdir()?;
    if args.wants("a change to") {
        fan_out(&args, &mut report, dir.path())?;
    }
    if args.wants("an idle watch") {
        memory::idle_watch(&args, &mut report, dir.path())?;
    }
    if args.wants("objects") {
        memory::objects(&args, &mut report, dir.path())?;
    }
    if args.wants("start to ready") {
        start(&args, &mut report, dir.path())?;
    }
    Ok(report.finish())
}

/// Starts a bus that serves the API; gives its port.
fn start_api(dir: &Path, name: &str, more: &str) -> Result<(Process, u16), Failure> {
    let port = free_port()?;
    let config = format!(
        "logging: {{level: warn}}\nconnectors:\n  api: {{k8s: {{server: {{listen: \"127.0.0.1:{port}\"}}}}}}\n{more}"
    );
    Ok((start_meshbus(dir, name, &config)?, port))
}

fn fan_out(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let (watchers, changes) = (args.size(1000, 20), args.size(100, 5));
    let (meshbus, port) = start_api(dir, "meshbus", "")?;
    let object = wire::config_map("watched", 512);
    wire::request(port, "POST", PATH, "application/json", &object)?;
    let path = format!("{PATH}?watch=true&resourceVersion={}", wire::position(port, PATH)?);
    let mut ours = Readers::connect(port, &path, watchers)?;
    // The bytes of a line are learnt from the first change, and are what the bare loop writes.
    let mut patch = wire::Patcher::connect(port)?;
    patch.send(1)?;
    let line = ours.first_line()?;
    let bare_port = free_port()?;
    let bare_args = [bare_port.to_string(), watchers.to_string(), line.len().to_string()];
    let mut bare = Process::role("bare", dir, &bare_args)?;
    bare.until_listens(bare_port)?;
    let mut theirs = Readers::connect_raw(bare_port, watchers)?;
    let mut trigger = TcpStream::connect(("127.0.0.1", bare_port))?;
    trigger.set_nodelay(true)?;
    // As the others: what it says first is who it is.
    trigger.write_all(b"t")?;

    let (mut ratio, mut here, mut there) = (Samples::default(), Samples::default(), Samples::default());
    let mut value = 1;
    for _ in 0..args.rounds {
        let p99_bare = paced(&mut theirs, changes, line.len(), |_| Ok(trigger.write_all(b"x")?))?;
        let p99 = paced(&mut ours, changes, 0, |_| {
            value += 1;
            patch.send(value)
        })?;
        there.push(p99_bare);
        here.push(p99);
        ratio.push(p99 / p99_bare);
    }
    drop(meshbus);
    report.gated(&format!("a change to {watchers} watchers, p99, to a bare epoll loop"), &ratio, "×", 2.0);
    report.noted("  from the request to the last bytes read", &here, " µs");
    report.noted("  the bare loop", &there, " µs");
    Ok(())
}

/// Makes changes at a steady pace; the 99th percentile over all readers and changes, in microseconds.
///
/// `bytes` is how long a change is, or 0 where it is a line.
fn paced(
    readers: &mut Readers,
    changes: usize,
    bytes: usize,
    mut change: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let mut histogram = Histogram::<u64>::new(3)?;
    let began = Instant::now();
    for at in 0..changes {
        let due = began + EVERY * u32::try_from(at)?;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        change(at)?;
        readers.all_read(due, bytes, &mut histogram)?;
    }
    Ok(histogram.value_at_quantile(0.99) as f64 / 1000.0)
}

fn start(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let mut ready = Samples::default();
    for _ in 0..args.rounds {
        let started = Instant::now();
        drop(start_api(dir, "starts", "")?);
        ready.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    report.gated("start to ready, the API served", &ready, " ms", 100.0);
    Ok(())
}
