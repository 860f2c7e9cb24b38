//! Streams that come back after a hundred changes, with the position up to which their clients have seen all.

use std::path::Path;

use serde_json::Value;
use tokio::time::Instant;

use super::change::position;
use super::streams::{Streams, follow};
use super::support::{Args, Failure, Report, Samples, wire};
use super::{Mesh, TYPE, data, path_of};

/// Changes that the clients have missed.
const MISSED: usize = 100;

pub(crate) fn measure(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let (connections, each) = (args.size(20, 2), args.size(50, 10));
    let resources = args.size(10_000, 200);
    let mesh = Mesh::start(dir, "resume")?;
    mesh.fill(resources)?;
    let (mut took, mut cpu, mut bytes): (Samples, Samples, Samples) = Default::default();
    for round in 0..args.rounds {
        let seen = position(mesh.xds)?;
        wire::pipelined(mesh.web, MISSED, |number| {
            let number = (round * MISSED + number) % resources;
            ("PUT", path_of(number), "application/x-bench", data(number + 1))
        })?;
        let before = mesh.process.cpu()?;
        let began = Instant::now();
        let mut streams = Streams::open(mesh.xds, connections, each)?;
        streams.ask(&follow(TYPE, Some(&seen)))?;
        let mut missing = vec![MISSED; streams.len()];
        streams.each(|stream, response| {
            if let Some(error) = response.resource_errors.first() {
                return Err(format!("{error:?}").into());
            }
            let missing = missing.get_mut(stream).ok_or("no such stream")?;
            *missing = missing.checked_sub(response.resources.len()).ok_or("more than was missed")?;
            Ok(*missing == 0)
        })?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        cpu.push((mesh.process.cpu()? - before) / 1e6);
        bytes.push(streams.bytes() as f64 / 1e6);
        drop(streams);
        until_gone(mesh.web)?;
    }
    let name =
        format!("{} streams resume after {MISSED} changes of {resources} resources", connections * each);
    report.gated(&name, &took, " ms", 1000.0);
    report.noted("  CPU of the bus", &cpu, " ms");
    report.noted("  bytes on the wire", &bytes, " MB");
    Ok(())
}

/// Waits until nobody is connected.
fn until_gone(web: u16) -> Result<(), Failure> {
    for _ in 0..10_000 {
        let path = "/v1/state?type=meshbus.dev/v1/Connection&limit=1";
        let page: Value =
            serde_json::from_slice(&wire::request(web, "GET", path, "application/json", "")?)?;
        if page.get("items").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err("connections of streams that have ended stay".into())
}
