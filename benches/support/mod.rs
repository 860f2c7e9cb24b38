//! What every bench shares: arguments, CPU clocks, rounds and the table of figures.

#![allow(dead_code, reason = "each bench uses its part")]

use std::fs::{self, DirEntry};
use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};

pub(crate) mod process;
pub(crate) mod wire;

/// Why a bench cannot go on.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of a full run unless `--rounds` says otherwise.
pub(crate) const ROUNDS: usize = 7;

/// Runs a bench and says why it cannot go on.
#[expect(clippy::print_stderr, reason = "a bench has no log")]
pub(crate) fn main(name: &str, run: impl FnOnce() -> Result<ExitCode, Failure>) -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{name}: {error}");
        ExitCode::FAILURE
    })
}

/// The command line of a bench.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// Tiny sizes, one round, no gates: shows only that it works.
    pub(crate) smoke: bool,
    /// Interleaved rounds.
    pub(crate) rounds: usize,
    /// Only figures whose name holds one of these.
    pub(crate) only: Vec<String>,
}

impl Args {
    /// Reads the process's arguments; what `cargo bench` adds is ignored.
    pub(crate) fn read() -> Result<Self, String> {
        let (mut smoke, mut rounds, mut only) = (false, None, Vec::new());
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--smoke" => smoke = true,
                "--bench" => {}
                "--rounds" => {
                    let n = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                    rounds = Some(n.ok_or("--rounds takes a number of 1 or more")?);
                }
                flag if flag.starts_with('-') => {
                    return Err(format!("unknown {flag}: takes [--smoke] [--rounds N] [FIGURE]…"));
                }
                name => only.push(name.to_owned()),
            }
        }
        let rounds = rounds.unwrap_or(if smoke { 1 } else { ROUNDS });
        Ok(Self { smoke, rounds, only })
    }

    /// Whether the figure was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// `full`, or `smoke` in a smoke run.
    pub(crate) fn size<T>(&self, full: T, smoke: T) -> T {
        if self.smoke { smoke } else { full }
    }
}

/// CPU nanoseconds that all threads of this process have used, up to now.
pub(crate) fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// CPU nanoseconds of all threads of another process, of those that run up to the last tick; `None` when there is none. Threads that have ended are
/// not in it: the programs measured here keep theirs.
pub(crate) fn cpu_of(pid: u32) -> Option<f64> {
    let read = |task: DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(tasks.flatten().filter_map(read).sum::<u64>() as f64)
}

/// Resident memory of a process in KiB: now and at its peak.
pub(crate) fn memory_of(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// Figures of several rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    sorted: Vec<f64>,
    last: Option<f64>,
}

impl Samples {
    /// Adds one round's figure.
    pub(crate) fn push(&mut self, value: f64) {
        self.last = Some(value);
        self.sorted.push(value);
        self.sorted.sort_unstable_by(f64::total_cmp);
    }

    /// The last one added.
    pub(crate) fn last(&self) -> Option<f64> {
        self.last
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        let n = self.sorted.len();
        match (self.sorted.get(n.wrapping_sub(1) / 2), self.sorted.get(n / 2)) {
            (Some(low), Some(high)) => f64::midpoint(*low, *high),
            _ => f64::NAN,
        }
    }

    /// Least and most, as text.
    pub(crate) fn spread(&self) -> String {
        match (self.sorted.first(), self.sorted.last()) {
            (Some(least), Some(most)) => format!("{least:.2}–{most:.2}"),
            _ => String::new(),
        }
    }
}

/// The figures of a run, and whether all gates hold.
#[derive(Debug)]
pub(crate) struct Report {
    smoke: bool,
    rows: Vec<[String; 5]>,
    failed: bool,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(args: &Args) -> Self {
        Self { smoke: args.smoke, rows: Vec::new(), failed: false }
    }

    /// A figure that must not be above `gate`.
    pub(crate) fn gated(&mut self, name: &str, samples: &Samples, unit: &str, gate: f64) {
        let value = samples.median();
        // Not a number fails too.
        let holds = value <= gate;
        let verdict = if self.smoke {
            "not judged"
        } else if holds {
            "pass"
        } else {
            self.failed = true;
            "FAIL"
        };
        self.row(name, samples, unit, &format!("≤ {gate}{unit}"), verdict);
    }

    /// A figure without a gate.
    pub(crate) fn noted(&mut self, name: &str, samples: &Samples, unit: &str) {
        self.row(name, samples, unit, "", "");
    }

    /// Something that is no one number.
    pub(crate) fn said(&mut self, name: &str, text: String) {
        self.rows.push([name.to_owned(), text, String::new(), String::new(), String::new()]);
    }

    fn row(&mut self, name: &str, samples: &Samples, unit: &str, gate: &str, verdict: &str) {
        let value = format!("{:.2}{unit}", samples.median());
        self.rows.push([name.to_owned(), value, samples.spread(), gate.to_owned(), verdict.to_owned()]);
    }

    /// Prints the table; fails when a gate did.
    #[expect(clippy::print_stdout, reason = "the table is what a bench is run for")]
    pub(crate) fn finish(self) -> ExitCode {
        let head = ["figure", "median", "least–most", "gate", ""].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(self.rows).collect();
        let mut text = String::new();
        let length =
            |row: &[String; 5], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
        let widths: [usize; 5] =
            std::array::from_fn(|column| rows.iter().map(|row| length(row, column)).max().unwrap_or(0));
        for row in &rows {
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                let parts =
                    if column == 0 { ["", cell.as_str(), &*pad] } else { ["  ", &*pad, cell.as_str()] };
                text.extend(parts);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        println!("{}\n{text}", machine());
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// The machine, and how busy it is: absolute figures mean nothing without.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let kernel = read("/proc/sys/kernel/osrelease");
    let profile = if cfg!(debug_assertions) { "dev profile: figures mean nothing" } else { "release" };
    format!(
        "{} × {cores}, Linux {}, load {load}, {profile}",
        model.map_or("unknown processor", |(_, model)| model),
        kernel.trim()
    )
}
