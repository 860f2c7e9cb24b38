//! What idle watches and many objects cost in resident memory, and how a long list is sent.

use std::path::Path;

use tokio::time::Instant;

use super::readers::Readers;
use super::start_api;
use super::support::wire::{self, Connection, PATH, fill};
use super::support::{Args, Failure, Report, Samples};

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
        let before = meshbus.settled()?;
        let idle = connections(port, count)?;
        let with_idle = meshbus.settled()?;
        let watches = Readers::connect(port, &watch, count)?;
        let with_watches = meshbus.settled()?;
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
    resident.push(meshbus.settled()?);
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
