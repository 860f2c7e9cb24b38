//! What a guest may call: a log, figures and a clock. Everything it hands over is cut or counted to a bound.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tracing::Level;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::meshbus::filter::{clock, log, metrics, types};
use super::figures::{Figures, Kind};
use super::limits::Limits;
use super::patch::cut;
use super::wasi::Streams;

/// Longest message of a log line, and of one of its fields.
const MESSAGE_MAX: usize = 2048;
/// Most fields of a log line.
const FIELDS_MAX: usize = 16;
/// Most lines a second of one instance; what is more is counted and told with the next.
const LINES_MAX: u32 = 100;
/// Deadlines that a call gets at most, however little it was let run.
const LATE_MAX: u32 = 20;

/// What the host keeps for one instance.
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) streams: Streams,
    /// The plugin, as log lines name it.
    plugin: Arc<str>,
    /// The route that called last.
    route: Box<str>,
    figures: Arc<Figures>,
    started: Instant,
    /// Since its deadline passed: the CPU time the thread had used then, and how often it was looked at since.
    late: Option<(Duration, u32)>,
    /// The second that lines are counted in, since `started`, and how many it had.
    lines: (u64, u32),
}

impl State {
    pub(super) fn new(memory: usize, plugin: Arc<str>, figures: Arc<Figures>) -> Self {
        Self {
            limits: Limits::new(memory),
            streams: Streams::default(),
            plugin,
            route: Box::default(),
            figures,
            started: Instant::now(),
            late: None,
            lines: (0, 0),
        }
    }

    /// A call begins, for events of `route`.
    pub(super) fn begin(&mut self, route: &str) {
        self.late = None;
        if *self.route != *route {
            self.route = route.into();
        }
    }

    /// Whether the call that runs has had its time, asked each `deadline`.
    ///
    /// The time of a deadline is that of a clock on the wall. Where the machine had no processor for the call in it,
    /// it is no fault of the guest's: it goes on until it has computed for half as long again, or for very long.
    pub(super) fn is_overdue(&mut self, deadline: Duration) -> bool {
        let Some(now) = cpu_time() else { return true };
        let (since, looks) = self.late.unwrap_or((now, 0));
        self.late = Some((since, looks + 1));
        now.saturating_sub(since) >= deadline / 2 || looks >= LATE_MAX
    }

    /// Since the instance began.
    pub(super) fn elapsed_nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes one line to the log of the bus.
    pub(super) fn line(&mut self, level: log::Level, message: &str, fields: &[(String, String)]) {
        let second = self.started.elapsed().as_secs();
        if self.lines.0 != second {
            let lost = self.lines.1.saturating_sub(LINES_MAX);
            if lost > 0 {
                tracing::warn!(
                    plugin = &*self.plugin,
                    route = &*self.route,
                    lost,
                    "plugin logged too much"
                );
            }
            self.lines = (second, 0);
        }
        self.lines.1 = self.lines.1.saturating_add(1);
        if self.lines.1 > LINES_MAX {
            return;
        }
        let (plugin, route, message) = (&*self.plugin, &*self.route, &*cut(message, MESSAGE_MAX));
        let mut text = String::new();
        for (name, value) in fields.iter().take(FIELDS_MAX) {
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(&cut(name, MESSAGE_MAX));
            text.push('=');
            text.push_str(&cut(value, MESSAGE_MAX));
        }
        let fields = (!text.is_empty()).then_some(text);
        let fields = fields.as_deref();
        match level {
            log::Level::Trace => tracing::trace!(plugin, route, fields, "{message}"),
            log::Level::Debug => tracing::debug!(plugin, route, fields, "{message}"),
            log::Level::Info => tracing::info!(plugin, route, fields, "{message}"),
            log::Level::Warn => tracing::warn!(plugin, route, fields, "{message}"),
            log::Level::Error => tracing::error!(plugin, route, fields, "{message}"),
        }
    }
}

/// The imports of our own world. WASI is added for each plugin that asks: see [`wasi`](super::wasi).
///
/// # Errors
/// An import is there twice; it is not.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    clock::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// What this thread has computed so far, as the scheduler tells; `None` where it tells nothing.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Since 1970.
pub(super) fn wall_clock() -> (u64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

impl types::Host for State {}

impl log::Host for State {
    fn enabled(&mut self, level: log::Level) -> bool {
        let level = match level {
            log::Level::Trace => Level::TRACE,
            log::Level::Debug => Level::DEBUG,
            log::Level::Info => Level::INFO,
            log::Level::Warn => Level::WARN,
            log::Level::Error => Level::ERROR,
        };
        level <= tracing::level_filters::LevelFilter::current()
    }

    fn log(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) {
        self.line(level, &message, &fields);
    }
}

impl metrics::Host for State {
    fn counter_add(&mut self, name: String, value: u64, labels: Vec<(String, String)>) {
        self.figures.record(Kind::Counter, name, labels, value as f64);
    }

    fn gauge_set(&mut self, name: String, value: f64, labels: Vec<(String, String)>) {
        self.figures.record(Kind::Gauge, name, labels, value);
    }

    fn histogram_record(&mut self, name: String, value: f64, labels: Vec<(String, String)>) {
        self.figures.record(Kind::Histogram, name, labels, value);
    }
}

impl clock::Host for State {
    fn now(&mut self) -> types::Timestamp {
        let (seconds, nanoseconds) = wall_clock();
        types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds }
    }

    fn monotonic_ns(&mut self) -> u64 {
        self.elapsed_nanos()
    }
}
