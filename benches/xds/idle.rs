//! What an idle stream takes of resident memory: all that comes with it, its share of a connection too.

use std::path::Path;

use super::streams::{Streams, follow};
use super::support::process::Process;
use super::support::{Args, Failure, Report, Samples};
use super::{Mesh, TYPE, start_bare};

/// Connections that the streams share.
const CONNECTIONS: usize = 20;

pub(crate) fn measure(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    for count in [args.size(1_000, 40), args.size(5_000, 100)] {
        let (mut beyond, mut ours, mut theirs) = Default::default();
        for _ in 0..args.rounds.min(3) {
            let mesh = Mesh::start(dir, "idle")?;
            let here = each(&mesh.process, mesh.xds, count)?;
            let (bare, port, _) = start_bare(dir, &[])?;
            let there = each(&bare, port, count)?;
            push([(&mut beyond, here - there), (&mut ours, here), (&mut theirs, there)]);
        }
        report.gated(&format!("{count} idle streams, each, beyond bare tonic's"), &beyond, " KiB", 16.0);
        report.noted("  the bus", &ours, " KiB");
        report.noted("  bare tonic", &theirs, " KiB");
    }
    Ok(())
}

fn push(figures: [(&mut Samples, f64); 3]) {
    for (samples, figure) in figures {
        samples.push(figure);
    }
}

/// KiB that each of so many streams adds, each of which follows a type and has been answered.
fn each(server: &Process, port: u16, count: usize) -> Result<f64, Failure> {
    // What the first connections make grow for all is not theirs.
    let warm = idle(port, 2, 32)?;
    let before = server.settled()?;
    let streams = idle(port, CONNECTIONS, count / CONNECTIONS)?;
    let after = server.settled()?;
    drop((warm, streams));
    Ok((after - before) * 1024.0 / count as f64)
}

fn idle(port: u16, connections: usize, each: usize) -> Result<Streams, Failure> {
    let mut streams = Streams::open(port, connections, each)?;
    streams.ask(&follow(TYPE, None))?;
    streams.each(|_, _| Ok(true))?;
    Ok(streams)
}
