//! Metrics of filter plugins: what is counted of them, and what they count themselves.
//!
//! What plugins name is a label and never the name of a metric: two plugins may mean different things by one name.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{counter, escape, gauge};

/// The figures of one plugin.
#[derive(Clone, Debug)]
pub struct PluginFigures {
    /// The name of its file.
    pub plugin: Arc<str>,
    /// What is counted of it: the word for it, and how many.
    pub counts: Vec<(&'static str, u64)>,
    /// Whether it is off now, in all routes, for having failed too often.
    pub off: bool,
    /// What it counts itself.
    pub series: Vec<PluginSeries>,
}

/// What a series of a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKind {
    /// A sum.
    Counter,
    /// A level.
    Gauge,
    /// Values of which count and sum are kept.
    Histogram,
}

/// One series of a plugin.
#[derive(Clone, Debug)]
pub struct PluginSeries {
    /// What it is.
    pub kind: SeriesKind,
    /// Its name.
    pub name: String,
    /// Its labels; none is called `plugin` or `name`.
    pub labels: Vec<(String, String)>,
    /// How often it was recorded.
    pub count: u64,
    /// The sum of what was; of a level the last.
    pub value: f64,
}

impl PluginFigures {
    /// Adds those of another plugin of the same name, of which each may be off; of levels the last one stays.
    pub fn add(&mut self, other: &Self) {
        for ((_, count), (_, more)) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.off |= other.off;
        for more in &other.series {
            let same = |one: &&mut PluginSeries| {
                (one.kind, &one.name, &one.labels) == (more.kind, &more.name, &more.labels)
            };
            match self.series.iter_mut().find(same) {
                None => self.series.push(more.clone()),
                Some(one) => {
                    one.count += more.count;
                    one.value =
                        if one.kind == SeriesKind::Gauge { more.value } else { one.value + more.value };
                }
            }
        }
    }
}

pub(super) fn encode(out: &mut DescriptorEncoder, plugins: &[PluginFigures]) -> fmt::Result {
    if plugins.is_empty() {
        return Ok(());
    }
    let help = "What became of the calls of a plugin and of its events.";
    let mut counts = out.encode_descriptor("meshbus_plugin_events", help, None, MetricType::Counter)?;
    for figures in plugins {
        for (what, count) in &figures.counts {
            counter(&mut counts, &[("plugin", &*escape(&figures.plugin)), ("result", what)], *count)?;
        }
    }
    let help = "1 while the plugin is off, in all routes, for having failed too often.";
    let mut off = out.encode_descriptor("meshbus_plugin_off", help, None, MetricType::Gauge)?;
    for figures in plugins {
        gauge(&mut off, &[("plugin", &*escape(&figures.plugin))], u64::from(figures.off))?;
    }
    encode_series(out, plugins, SeriesKind::Counter)?;
    encode_series(out, plugins, SeriesKind::Gauge)?;
    encode_series(out, plugins, SeriesKind::Histogram)
}

fn encode_series(out: &mut DescriptorEncoder, plugins: &[PluginFigures], kind: SeriesKind) -> fmt::Result {
    let (metric, help, metric_type) = match kind {
        SeriesKind::Counter => ("meshbus_plugin_counter", "What plugins add up.", MetricType::Counter),
        SeriesKind::Gauge => ("meshbus_plugin_gauge", "What plugins set.", MetricType::Gauge),
        SeriesKind::Histogram => ("meshbus_plugin_recorded", "What plugins record.", MetricType::Histogram),
    };
    let mut family = out.encode_descriptor(metric, help, None, metric_type)?;
    for figures in plugins {
        for series in figures.series.iter().filter(|series| series.kind == kind) {
            let own = series.labels.iter().map(|(name, value)| (name.as_str(), escape(value).into_owned()));
            let labels: Vec<(&str, String)> =
                [("plugin", escape(&figures.plugin)), ("name", escape(&series.name))]
                    .into_iter()
                    .map(|(label, value)| (label, value.into_owned()))
                    .chain(own)
                    .collect();
            let mut one = family.encode_family(&labels)?;
            match kind {
                SeriesKind::Counter => one.encode_counter::<NoLabelSet, _, u64>(&series.value, None)?,
                SeriesKind::Gauge => one.encode_gauge(&series.value)?,
                SeriesKind::Histogram => {
                    let buckets = [(f64::MAX, series.count)];
                    one.encode_histogram::<NoLabelSet>(series.value, series.count, &buckets, None)?;
                }
            }
        }
    }
    Ok(())
}
