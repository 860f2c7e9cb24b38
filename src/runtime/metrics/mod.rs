//! Metrics: renders what core and connectors count. The table of all names is in [`telemetry`](super::telemetry).
//!
//! Nothing is counted here: the counters are plain atomics that belong to whoever counts, and a scrape reads them.

mod following;
mod plugins;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::core::bus::Figures;
use crate::core::stats::{ConnectorStats, Counter, Latency, RouteStats};

pub use plugins::{PluginFigures, PluginSeries, SeriesKind};

/// The `Content-Type` of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the figures are read from, at each scrape. Must not block.
pub trait Snapshot: Send + Sync + 'static {
    /// All routes by name.
    fn routes(&self) -> Vec<(ByteString, Arc<RouteStats>)>;
    /// All connectors.
    fn connectors(&self) -> Vec<ConnectorFigures>;
    /// The bus itself.
    fn bus(&self) -> Figures;
    /// The configuration that runs.
    fn config(&self) -> ConfigFigures;
    /// The plugins that filters run; none where the build has none.
    fn plugins(&self) -> Vec<PluginFigures> {
        Vec::new()
    }
}

/// The figures of one connector.
#[derive(Clone, Debug)]
pub struct ConnectorFigures {
    /// Its name in the configuration.
    pub name: ByteString,
    /// The name of its transport.
    pub transport: &'static str,
    /// What it counts itself.
    pub stats: Arc<ConnectorStats>,
    /// Whether it is connected or bound.
    pub ready: bool,
    /// Runs after the first.
    pub restarts: u64,
}

/// The figures of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigFigures {
    /// 1 at the start, one more with each reload.
    pub version: u64,
    /// Reloads refused because the files were invalid.
    pub rejected: u64,
}

/// Renders all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Reads from `snapshot` at each scrape.
    pub fn new(snapshot: Arc<dyn Snapshot>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Reader { snapshot, started: SystemTime::now() }));
        Self { registry }
    }

    /// All metrics now, in the `OpenMetrics` text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail, and a collector fails only when its writer does.
        text::encode(&mut out, &self.registry).map(|()| out).unwrap_or_default()
    }
}

struct Reader {
    snapshot: Arc<dyn Snapshot>,
    started: SystemTime,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let out = &mut encoder;
        encode_routes(out, &self.snapshot.routes())?;
        encode_connectors(out, &self.snapshot.connectors())?;
        encode_bus(out, &self.snapshot.bus())?;
        encode_config(out, self.snapshot.config())?;
        plugins::encode(out, &self.snapshot.plugins())?;
        encode_process(out, self.started)
    }
}

type CounterOf<T> = (&'static str, &'static str, fn(&T) -> u64);

type RouteCount = (&'static str, fn(&RouteStats) -> &Counter);

fn encode_routes(out: &mut DescriptorEncoder, routes: &[(ByteString, Arc<RouteStats>)]) -> fmt::Result {
    const RESULTS: [RouteCount; 9] = [
        ("taken", |route| &route.taken),
        ("delivered", |route| &route.delivered),
        ("filtered", |route| &route.filtered),
        ("filter", |route| &route.by_filter),
        ("looped", |route| &route.looped),
        ("error", |route| &route.errored),
        ("dropped", |route| &route.dropped),
        ("retried", |route| &route.retried),
        ("dead", |route| &route.dead),
    ];
    const DROPS: [RouteCount; 3] = [
        ("full", |route| &route.dropped),
        ("looped", |route| &route.looped),
        ("error", |route| &route.errored),
    ];
    const LEVELS: [CounterOf<RouteStats>; 2] = [
        ("meshbus_route_in_flight", "Deliveries under way.", |route| route.in_flight.get()),
        ("meshbus_route_waiting", "Records behind the cursor.", |route| route.waiting.get()),
    ];
    let help = "What became of the records a route took.";
    let mut events = out.encode_descriptor("meshbus_route_events", help, None, MetricType::Counter)?;
    for (name, stats) in routes {
        for (result, count) in RESULTS {
            counter(&mut events, &[("route", &*escape(name)), ("result", result)], count(stats).get())?;
        }
    }
    let help = "Records a route let go undelivered.";
    let mut dropped = out.encode_descriptor("meshbus_route_dropped", help, None, MetricType::Counter)?;
    for (name, stats) in routes {
        for (reason, count) in DROPS {
            counter(&mut dropped, &[("route", &*escape(name)), ("reason", reason)], count(stats).get())?;
        }
    }
    for (metric, help, level) in LEVELS {
        let mut gauges = out.encode_descriptor(metric, help, None, MetricType::Gauge)?;
        for (name, stats) in routes {
            gauge(&mut gauges, &[("route", &*escape(name))], level(stats))?;
        }
    }
    let help = "From the log to the last sink's answer.";
    let mut latency =
        out.encode_descriptor("meshbus_route_latency_seconds", help, None, MetricType::Histogram)?;
    for (name, stats) in routes {
        histogram(&mut latency, &[("route", &*escape(name))], &stats.latency)?;
    }
    Ok(())
}

fn encode_connectors(out: &mut DescriptorEncoder, connectors: &[ConnectorFigures]) -> fmt::Result {
    const COUNTS: [CounterOf<ConnectorFigures>; 7] = [
        ("meshbus_connector_received", "Messages that came in and were published.", |c| {
            c.stats.received.get()
        }),
        ("meshbus_connector_sent", "Deliveries the peer took.", |c| c.stats.sent.get()),
        ("meshbus_connector_malformed", "Messages that could not be decoded.", |c| c.stats.malformed.get()),
        ("meshbus_connector_oversize", "Messages refused for their size.", |c| c.stats.oversize.get()),
        ("meshbus_connector_lost", "Messages the client library reports as lost.", |c| c.stats.lost.get()),
        ("meshbus_connector_connected", "Connections made.", |c| c.stats.connected.get()),
        ("meshbus_connector_restarts", "Runs after the first.", |c| c.restarts),
    ];
    for (metric, help, count) in COUNTS {
        let mut counts = out.encode_descriptor(metric, help, None, MetricType::Counter)?;
        for connector in connectors {
            counter(&mut counts, &labels(connector), count(connector))?;
        }
    }
    let help = "Whether the connector is connected or bound.";
    let mut ready = out.encode_descriptor("meshbus_connector_ready", help, None, MetricType::Gauge)?;
    for connector in connectors {
        gauge(&mut ready, &labels(connector), u64::from(connector.ready))?;
    }
    following::encode(out, connectors)
}

fn labels(connector: &ConnectorFigures) -> [(&'static str, Cow<'_, str>); 2] {
    [("connector", escape(&connector.name)), ("transport", connector.transport.into())]
}

/// The encoder writes label values as they are, and a quote in one name would spoil the whole scrape.
fn escape(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}

fn encode_bus(out: &mut DescriptorEncoder, bus: &Figures) -> fmt::Result {
    let rings = [("changes", &bus.changes), ("events", &bus.events)];
    let mut records =
        out.encode_descriptor("meshbus_log_records", "Records in the log.", None, MetricType::Gauge)?;
    for (ring, held) in rings {
        gauge(&mut records, &[("ring", ring)], held.records as u64)?;
    }
    let mut bytes =
        out.encode_descriptor("meshbus_log_bytes", "Bytes in the log.", None, MetricType::Gauge)?;
    for (ring, held) in rings {
        gauge(&mut bytes, &[("ring", ring)], held.bytes as u64)?;
    }
    let levels = [
        ("meshbus_log_sequence", "The last sequence given.", bus.seq.0),
        ("meshbus_state_keys", "Keys in the state table.", bus.keys as u64),
        ("meshbus_state_bytes", "Bytes in the state table.", bus.state_bytes as u64),
        ("meshbus_consumers", "Routes and open subscriptions.", bus.consumers as u64),
    ];
    for (metric, help, level) in levels {
        out.encode_descriptor(metric, help, None, MetricType::Gauge)?.encode_gauge(&signed(level))?;
    }
    let help = "Envelopes refused because they had been here before.";
    out.encode_descriptor("meshbus_bus_looped", help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&bus.looped, None)
}

fn encode_config(out: &mut DescriptorEncoder, config: ConfigFigures) -> fmt::Result {
    let help = "The configuration that runs.";
    out.encode_descriptor("meshbus_config_version", help, None, MetricType::Gauge)?
        .encode_gauge(&signed(config.version))?;
    let help = "Reloads refused because the files were invalid.";
    out.encode_descriptor("meshbus_config_rejected", help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&config.rejected, None)
}

fn encode_process(out: &mut DescriptorEncoder, started: SystemTime) -> fmt::Result {
    out.encode_descriptor("meshbus_build", "What runs.", None, MetricType::Info)?
        .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
    let began = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    out.encode_descriptor(
        "process_start_time_seconds",
        "When the process began.",
        None,
        MetricType::Gauge,
    )?
    .encode_gauge(&began)?;
    if let Some(bytes) = resident_bytes() {
        out.encode_descriptor("process_resident_memory_bytes", "Memory in use.", None, MetricType::Gauge)?
            .encode_gauge(&signed(bytes))?;
    }
    Ok(())
}

/// A level as the encoder takes it: it knows no unsigned gauge.
fn signed(level: u64) -> i64 {
    i64::try_from(level).unwrap_or(i64::MAX)
}

fn counter(out: &mut MetricEncoder, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    out.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn gauge(out: &mut MetricEncoder, labels: &impl EncodeLabelSet, level: u64) -> fmt::Result {
    out.encode_family(labels)?.encode_gauge(&signed(level))
}

fn histogram(out: &mut MetricEncoder, labels: &impl EncodeLabelSet, latency: &Latency) -> fmt::Result {
    let buckets: Vec<(f64, u64)> = latency
        .counts()
        .into_iter()
        .enumerate()
        // The encoder writes the largest float as +Inf.
        .map(|(i, count)| (Latency::bound(i).map_or(f64::MAX, |bound| bound.as_secs_f64()), count))
        .collect();
    let total = buckets.iter().map(|(_, count)| count).sum();
    out.encode_family(labels)?.encode_histogram::<NoLabelSet>(
        latency.sum().as_secs_f64(),
        total,
        &buckets,
        None,
    )
}

/// Resident memory of this process; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Seq;
    use crate::core::log::RingFigures;

    struct Fixed(Arc<RouteStats>, Arc<ConnectorStats>);

    impl Snapshot for Fixed {
        fn routes(&self) -> Vec<(ByteString, Arc<RouteStats>)> {
            vec![("warn\"ings".into(), Arc::clone(&self.0))]
        }

        fn connectors(&self) -> Vec<ConnectorFigures> {
            vec![ConnectorFigures {
                name: "broker".into(),
                transport: "nats",
                stats: Arc::clone(&self.1),
                ready: true,
                restarts: 3,
            }]
        }

        fn bus(&self) -> Figures {
            let changes = RingFigures { records: 5, bytes: 500 };
            Figures { changes, seq: Seq(1 << 52), looped: 6, ..Figures::default() }
        }

        fn config(&self) -> ConfigFigures {
            ConfigFigures { version: 2, rejected: 1 }
        }

        fn plugins(&self) -> Vec<PluginFigures> {
            let kinds = [SeriesKind::Counter, SeriesKind::Gauge, SeriesKind::Histogram];
            let series = kinds.map(|kind| PluginSeries {
                kind,
                name: "seen".to_owned(),
                labels: vec![("by".to_owned(), "a\"b".to_owned())],
                count: 2,
                value: 2.5,
            });
            let figures = PluginFigures {
                plugin: "redact.wasm".into(),
                counts: vec![("fault", 4)],
                off: true,
                series: series.into(),
            };
            vec![figures]
        }
    }

    fn rendered() -> String {
        let route = Arc::new(RouteStats::default());
        route.taken.add(10);
        route.dropped.add(4);
        route.waiting.set(8);
        route.latency.record(Duration::from_micros(20));
        route.latency.record(Duration::from_hours(1));
        let connector = Arc::new(ConnectorStats::default());
        connector.received.add(9);
        Metrics::new(Arc::new(Fixed(route, connector))).render()
    }

    #[test]
    fn figures_are_rendered_with_their_labels() {
        let text = rendered();
        for line in [
            r#"meshbus_route_events_total{route="warn\"ings",result="taken"} 10"#,
            r#"meshbus_route_events_total{route="warn\"ings",result="dead"} 0"#,
            r#"meshbus_route_dropped_total{route="warn\"ings",reason="full"} 4"#,
            r#"meshbus_route_waiting{route="warn\"ings"} 8"#,
            r#"meshbus_connector_received_total{connector="broker",transport="nats"} 9"#,
            r#"meshbus_connector_restarts_total{connector="broker",transport="nats"} 3"#,
            r#"meshbus_connector_ready{connector="broker",transport="nats"} 1"#,
            r#"meshbus_log_records{ring="changes"} 5"#,
            "meshbus_log_sequence 4503599627370496",
            "meshbus_bus_looped_total 6",
            "meshbus_config_version 2",
            "meshbus_config_rejected_total 1",
            concat!("meshbus_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_latency_histogram_is_cumulative_and_ends_in_infinity() {
        let text = rendered();
        let buckets: Vec<(&str, u64)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("meshbus_route_latency_seconds_bucket{le=\""))
            .map(|rest| {
                let (bound, rest) = rest.split_once('"').unwrap();
                (bound, rest.rsplit_once(' ').unwrap().1.parse().unwrap())
            })
            .collect();
        assert_eq!(buckets.len(), Latency::BUCKETS, "{text}");
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&("+Inf", 2)));
        assert_eq!(buckets.iter().find(|(_, count)| *count == 1).unwrap().0, "0.000032");
    }

    #[test]
    fn what_plugins_count_is_a_label() {
        let text = rendered();
        for line in [
            "meshbus_plugin_events_total{plugin=\"redact.wasm\",result=\"fault\"} 4",
            "meshbus_plugin_off{plugin=\"redact.wasm\"} 1",
            "meshbus_plugin_counter_total{plugin=\"redact.wasm\",name=\"seen\",by=\"a\\\"b\"} 2.5",
            "meshbus_plugin_gauge{plugin=\"redact.wasm\",name=\"seen\",by=\"a\\\"b\"} 2.5",
            "meshbus_plugin_recorded_sum{plugin=\"redact.wasm\",name=\"seen\",by=\"a\\\"b\"} 2.5",
            "meshbus_plugin_recorded_count{plugin=\"redact.wasm\",name=\"seen\",by=\"a\\\"b\"} 2",
        ] {
            assert!(text.lines().any(|have| have == line), "no {line} in {text}");
        }
    }

    #[test]
    fn every_metric_is_in_the_table_of_the_documentation() {
        let table = include_str!("../telemetry.rs");
        let text = rendered();
        let names = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let name = line.split(['{', ' ']).next()?;
            Some(
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name),
            )
        });
        for name in names {
            assert!(table.contains(&format!("`{name}`")), "{name} is not in the table");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn resident_memory_is_read() {
        let bytes = resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }
}
