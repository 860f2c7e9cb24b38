//! What idle watches and many objects cost in resident memory, and how a long list is sent.

use std::path::Path;

use tokio::time::Instant;

use super::readers::Readers;
use super::support::process::Process;
use super::support::{Args, Failure, Report, Samples};
use super::wire::{self, Connection};
use super::{PATH, start_api};

/// Requests sent before their answers are read.
const PIPELINED: usize = 64;

/// Memory of an idle watch beyond that of a connection to the same server on which a request was answered.
pub(crate) fn idle_watch(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let count = args.size(5_000, 50);
    let (mut beyond, mut plain) = (Samples::default(), Samples::default());
    for _ in 0..args.rounds.min(3) {
        let (meshbus, port) = start_api(dir, "idle", "")?;
        let version = wire::position(port, PATH)?;
        // What the first connections of either kind make grow for all is not theirs.
        let watch = format!("{PATH}?watch=true&resourceVersion={version}");
        let warm = (Readers::connect(port, &watch, 64)?, connections(port, 64)?);
        let before = settled(&meshbus)?;
        let idle = connections(port, count)?;
        let with_idle = settled(&meshbus)?;
        let watches = Readers::connect(port, &watch, count)?;
        let with_watches = settled(&meshbus)?;
        drop((warm, idle, watches));
        let each = |from: f64, to: f64| (to - from) * 1024.0 / count as f64;
        plain.push(each(before, with_idle));
        beyond.push(each(with_idle, with_watches) - each(before, with_idle));
    }
    report.gated("an idle watch, beyond an idle connection", &beyond, " KiB", 8.0);
    report.noted("  an idle connection", &plain, " KiB");
    Ok(())
}

/// A hundred thousand objects of a kilobyte, and the list of ten thousand.
pub(crate) fn objects(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let count = args.size(100_000, 200);
    let (meshbus, port) = start_api(dir, "objects", "event_log: {changes: {max_bytes: 64MiB}}\n")?;
    fill(port, count)?;
    let (mut resident, mut first, mut whole, mut grows) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    resident.push(settled(&meshbus)?);
    for _ in 0..args.rounds.min(3) {
        let before = meshbus.memory()?.0;
        let began = Instant::now();
        let mut connection = Connection::connect(port)?;
        connection.send("GET", &format!("{PATH}?limit=10000"), "application/json", "")?;
        let (status, body) = connection.receive()?;
        if status != 200 || body.len() < count.min(10_000) * 1024 {
            return Err(format!("a list of {} bytes with status {status}", body.len()).into());
        }
        whole.push(began.elapsed().as_secs_f64() * 1000.0);
        first.push(body.len() as f64 / 1e6);
        grows.push(meshbus.memory()?.0 - before);
    }
    report.gated(&format!("{count} objects of 1 KiB, resident"), &resident, " MiB", 250.0);
    report.noted("  a list of 10,000 of these objects", &whole, " ms");
    report.noted("  its bytes", &first, " MB");
    report.noted("  memory grown by it", &grows, " MiB");
    Ok(())
}

fn fill(port: u16, count: usize) -> Result<(), Failure> {
    let mut connection = Connection::connect(port)?;
    for start in (0..count).step_by(PIPELINED) {
        let batch = start..count.min(start + PIPELINED);
        for number in batch.clone() {
            // With its metadata, an object of this filler is 1 KiB.
            let object = wire::config_map(&format!("object-{number:06}"), 600);
            connection.send("POST", PATH, "application/json", &object)?;
        }
        for _ in batch {
            let (status, body) = connection.receive()?;
            if status != 201 {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
            }
        }
    }
    Ok(())
}

/// Connections on which one request was answered.
fn connections(port: u16, count: usize) -> Result<Vec<Connection>, Failure> {
    let open = |_| {
        let mut connection = Connection::connect(port)?;
        connection.send("GET", "/version", "application/json", "")?;
        connection.receive()?;
        Ok(connection)
    };
    (0..count).map(open).collect()
}

/// Resident memory in MiB, once it grows no more.
fn settled(process: &Process) -> Result<f64, Failure> {
    let mut before = process.memory()?.0;
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = process.memory()?.0;
        if (now - before).abs() < 0.1 {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}
