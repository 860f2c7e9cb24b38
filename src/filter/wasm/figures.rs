//! What a plugin counts through `metrics`, and what is counted of it: bounded, read by telemetry.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::core::stats::Counter;
use crate::runtime::metrics::{PluginFigures, PluginSeries, SeriesKind};

/// Most series of a plugin: a name with its labels is one.
const SERIES_MAX: usize = 256;
/// Most labels of a series.
const LABELS_MAX: usize = 8;
/// Longest name of a series or a label, and longest value of a label.
const TEXT_MAX: usize = 128;

/// Labels that telemetry sets itself.
const OWN_LABELS: [&str; 2] = ["plugin", "name"];

/// What a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The sum of what was added.
    Counter,
    /// What was set last.
    Gauge,
    /// Count and sum of what was recorded.
    Histogram,
}

/// Name and labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    kind: Kind,
    /// As the plugin gives it: letters, digits and `_`.
    name: String,
    /// By name.
    labels: Vec<(String, String)>,
}

/// The figures of one plugin, over all its instances.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Calls into the guest.
    pub(super) calls: Counter,
    /// Events that went in.
    pub(super) events: Counter,
    /// Calls that failed: a trap, a deadline, too much memory, a wrong answer.
    pub(super) faults: Counter,
    /// Instances made again after a fault.
    pub(super) rebuilds: Counter,
    /// Events answered by `on_fault` because the breaker was open.
    pub(super) refused: Counter,
    /// Events the guest dropped.
    pub(super) dropped: Counter,
    /// Versions taken up while running.
    pub(super) swaps: Counter,
    /// What the plugin handed to `metrics` and was not kept: too many series, or a name that is none.
    pub(super) unkept: Counter,
    series: Mutex<BTreeMap<Series, (u64, f64)>>,
}

impl Figures {
    /// Counts what the guest told.
    pub(super) fn record(&self, kind: Kind, name: String, mut labels: Vec<(String, String)>, value: f64) {
        let named = |text: &str| {
            let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            first
                && text.len() <= TEXT_MAX
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let fits = labels.len() <= LABELS_MAX
            && labels.iter().all(|(name, value)| {
                named(name) && !OWN_LABELS.contains(&name.as_str()) && value.len() <= TEXT_MAX
            });
        if !named(&name) || !fits || !value.is_finite() {
            return self.unkept.add(1);
        }
        labels.sort_unstable();
        let mut series = self.series.lock();
        let full = series.len() >= SERIES_MAX;
        let key = Series { kind, name, labels };
        if full && !series.contains_key(&key) {
            return self.unkept.add(1);
        }
        let (count, sum) = series.entry(key).or_default();
        *count += 1;
        *sum = if kind == Kind::Gauge { value } else { *sum + value };
    }

    /// All of it, as telemetry takes it, with whether the plugin is off.
    pub(super) fn read(&self, plugin: Arc<str>, off: bool) -> PluginFigures {
        let counts = [
            ("call", &self.calls),
            ("event", &self.events),
            ("fault", &self.faults),
            ("rebuild", &self.rebuilds),
            ("refused", &self.refused),
            ("dropped", &self.dropped),
            ("swap", &self.swaps),
            ("unkept", &self.unkept),
        ];
        let series = self.series.lock();
        let series = series.iter().map(|(series, (count, value))| PluginSeries {
            kind: match series.kind {
                Kind::Counter => SeriesKind::Counter,
                Kind::Gauge => SeriesKind::Gauge,
                Kind::Histogram => SeriesKind::Histogram,
            },
            name: series.name.clone(),
            labels: series.labels.clone(),
            count: *count,
            value: *value,
        });
        PluginFigures {
            plugin,
            counts: counts.into_iter().map(|(what, count)| (what, count.get())).collect(),
            off,
            series: series.collect(),
        }
    }
}
