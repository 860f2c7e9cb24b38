//! One change of many resources, and a thousand streams that follow them all.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use prost::Message as _;
use tokio::time::Instant;

use super::streams::{Streams, follow};
use super::support::process::Process;
use super::support::wire::Connection;
use super::support::{Args, Failure, Report, Samples};
use super::{Mesh, TYPE, data, path_of, start_bare};

/// Between two changes: an open loop, so that a slow one delays none after it.
const EVERY: Duration = Duration::from_millis(25);
/// Resources of the bus that shows that a change costs the same, however many there are.
const SMALL: usize = 100;

/// A server with its streams.
struct Side {
    server: Process,
    streams: Streams,
    trigger: Trigger,
    p50: Samples,
    p99: Samples,
    cpu: Samples,
}

/// What makes a change.
enum Trigger {
    Bus(Connection),
    Bare(TcpStream),
}

impl Trigger {
    fn pull(&mut self, number: usize) -> Result<(), Failure> {
        match self {
            Self::Bus(web) => web.send("PUT", &path_of(0), "application/x-bench", &data(number)),
            Self::Bare(stream) => Ok(stream.write_all(b"x")?),
        }
    }

    /// Takes the answer, if there is one.
    fn settle(&mut self) -> Result<(), Failure> {
        let Self::Bus(web) = self else { return Ok(()) };
        match web.receive()? {
            (200..300, _) => Ok(()),
            (status, body) => Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    }
}

impl Side {
    fn new(server: Process, streams: Streams, trigger: Trigger) -> Self {
        let (p50, p99, cpu) = Default::default();
        Self { server, streams, trigger, p50, p99, cpu }
    }

    /// A bus with so many resources, and streams that have seen them: they begin where the last was put.
    fn bus(dir: &Path, resources: usize, connections: usize, each: usize) -> Result<Self, Failure> {
        let mesh = Mesh::start(dir, &format!("meshbus-{resources}"))?;
        mesh.fill(resources)?;
        let mut streams = Streams::open(mesh.xds, connections, each)?;
        streams.ask(&follow(TYPE, Some(&position(mesh.xds)?)))?;
        streams.each(|_, _| Ok(true))?;
        let web = Connection::connect(mesh.web)?;
        Ok(Self::new(mesh.process, streams, Trigger::Bus(web)))
    }

    /// The usual crate's server, which sends this response.
    fn bare(dir: &Path, response: &[u8], connections: usize, each: usize) -> Result<Self, Failure> {
        let (server, port, trigger) = start_bare(dir, response)?;
        let mut streams = Streams::open(port, connections, each)?;
        streams.ask(&follow(TYPE, None))?;
        streams.each(|_, _| Ok(true))?;
        let trigger = TcpStream::connect(("127.0.0.1", trigger))?;
        trigger.set_nodelay(true)?;
        Ok(Self::new(server, streams, Trigger::Bare(trigger)))
    }

    /// What the first stream is told of one change.
    fn response(&mut self) -> Result<Vec<u8>, Failure> {
        let mut first = Vec::new();
        self.trigger.pull(1)?;
        self.streams.each(|stream, response| {
            if stream == 0 {
                first = response.encode_to_vec();
            }
            Ok(true)
        })?;
        self.trigger.settle()?;
        Ok(first)
    }

    /// Makes changes at a steady pace. How long after it was due each stream has each of them, in microseconds.
    fn round(&mut self, changes: usize) -> Result<(), Failure> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        let (before, began) = (self.server.cpu()?, Instant::now());
        for number in 0..changes {
            let due = began + EVERY * u32::try_from(number)?;
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            self.trigger.pull(number)?;
            self.streams.each(|_, response| {
                if response.resources.len() != 1 {
                    return Err(format!("{} resources for one change", response.resources.len()).into());
                }
                histogram.record(u64::try_from(due.elapsed().as_micros())?)?;
                Ok(true)
            })?;
            self.trigger.settle()?;
        }
        let told = histogram.len() as f64;
        self.p50.push(histogram.value_at_quantile(0.5) as f64);
        self.p99.push(histogram.value_at_quantile(0.99) as f64);
        self.cpu.push((self.server.cpu()? - before) / 1000.0 / told);
        Ok(())
    }
}

/// The position of the bus, as a stream of a type of which there is nothing is told it.
pub(crate) fn position(xds: u16) -> Result<String, Failure> {
    let mut stream = Streams::open(xds, 1, 1)?;
    stream.ask(&follow("type.googleapis.com/bench.v1.Nothing", None))?;
    let mut position = String::new();
    stream.each(|_, response| {
        position = response.system_version_info;
        Ok(true)
    })?;
    Ok(position)
}

pub(crate) fn measure(args: &Args, report: &mut Report, dir: &Path) -> Result<(), Failure> {
    let (connections, each) = (args.size(20, 2), args.size(50, 10));
    let (resources, changes) = (args.size(10_000, 200), args.size(80, 4));
    let mut many = Side::bus(dir, resources, connections, each)?;
    let few = Side::bus(dir, SMALL, connections, each)?;
    let response = many.response()?;
    let bare = Side::bare(dir, &response, connections, each)?;
    let mut sides = [many, few, bare];
    let (mut to_bare, mut to_few, mut cpu) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..args.rounds {
        // The order changes from round to round.
        for at in 0..sides.len() {
            let at = if round % 2 == 0 { at } else { sides.len() - 1 - at };
            sides.get_mut(at).map_or(Ok(()), |side| side.round(changes))?;
        }
        let [many, few, bare] = &sides;
        let ratio = |one: &Samples, other: &Samples| Some(one.last()? / other.last()?);
        to_bare.push(ratio(&many.p99, &bare.p99).ok_or("a round without a figure")?);
        to_few.push(ratio(&many.p99, &few.p99).ok_or("a round without a figure")?);
        cpu.push(ratio(&many.cpu, &bare.cpu).ok_or("a round without a figure")?);
    }
    let streams = connections * each;
    let name =
        format!("a change of {resources} resources to {streams} streams, p99, to a bare tonic server");
    report.gated(&name, &to_bare, "×", 1.3);
    report.gated(&format!("  to a bus of {SMALL} resources"), &to_few, "×", 1.3);
    report.noted("  CPU of the server, to a bare tonic server", &cpu, "×");
    let [many, few, bare] = &sides;
    for (who, side) in [("the bus", many), ("the bus, few resources", few), ("bare tonic", bare)] {
        report.noted(&format!("  {who}, p50"), &side.p50, " µs");
        report.noted(&format!("  {who}, p99"), &side.p99, " µs");
        report.noted(&format!("  {who}, CPU of the server for each response"), &side.cpu, " µs");
    }
    report.said("  bytes of a response", response.len().to_string());
    Ok(())
}
