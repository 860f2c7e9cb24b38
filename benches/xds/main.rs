//! XDS of the bus: a change to a thousand streams against a minimal server of the usual crate that sends the same
//! bytes; what an idle stream costs in memory; a thousand streams that resume; XDS and the Kubernetes API against each
//! other, as two views of the same objects; and how soon subscribers of other protocols see who connects.

#[path = "../support/mod.rs"]
mod support;

mod bare;
mod change;
mod connection;
mod idle;
mod notice;
mod resume;
mod streams;
mod subscribers;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use self::support::process::{Process, free_port, start_meshbus};
use self::support::{Args, Failure, Report, wire};

/// The type of the resources, of which the bus knows nothing.
const TYPE: &str = "type.googleapis.com/bench.v1.Resource";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("role") {
        return support::main("xds", || bare::serve(&args.skip(1).collect::<Vec<_>>()));
    }
    support::main("xds", run)
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    let dir = tempfile::Builder::new().prefix("meshbus-bench-").tempdir()?;
    if args.wants("change") {
        change::measure(&args, &mut report, dir.path())?;
    }
    if args.wants("idle") {
        idle::measure(&args, &mut report, dir.path())?;
    }
    if args.wants("resume") {
        resume::measure(&args, &mut report, dir.path())?;
    }
    if args.wants("watch") {
        watch::measure(&args, &mut report, dir.path())?;
    }
    if args.wants("notice") {
        notice::measure(&args, &mut report)?;
    }
    Ok(report.finish())
}

/// A bus that serves XDS and HTTP.
struct Mesh {
    process: Process,
    xds: u16,
    web: u16,
}

impl Mesh {
    fn start(dir: &Path, name: &str) -> Result<Self, Failure> {
        let (xds, web) = (free_port()?, free_port()?);
        let config = format!(
            "logging: {{level: warn}}\nconnectors:\n  ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\"}}}}}}\n  \
             web: {{http: {{server: {{listen: \"127.0.0.1:{web}\"}}}}}}\n"
        );
        Ok(Self { process: start_meshbus(dir, name, &config)?, xds, web })
    }

    /// Puts so many resources of a kilobyte.
    fn fill(&self, count: usize) -> Result<(), Failure> {
        wire::pipelined(self.web, count, |number| {
            ("PUT", path_of(number), "application/x-bench", data(number))
        })
    }
}

/// Where a resource is put.
fn path_of(number: usize) -> String {
    format!("/v1/state?type={TYPE}&name=resource-{number:06}")
}

/// A kilobyte that begins with a number.
fn data(number: usize) -> String {
    format!("{number:<1024}")
}

/// A server of the usual crate that sends this response for each byte that comes by its other port: itself, and both
/// ports.
fn start_bare(dir: &Path, response: &[u8]) -> Result<(Process, u16, u16), Failure> {
    let (port, trigger, file) = (free_port()?, free_port()?, dir.join("response"));
    std::fs::write(&file, response)?;
    let args = [port.to_string(), trigger.to_string(), file.to_string_lossy().into_owned()];
    let mut bare = Process::role("bare", dir, &args)?;
    bare.until_listens(port)?;
    bare.until_listens(trigger)?;
    Ok((bare, port, trigger))
}
