//! Telemetry: logs for people and machines. Figures are in [`metrics`](super::metrics).
//!
//! Logs go to standard error, since standard output is for data: `text` for people, coloured only on a terminal
//! (and never with `NO_COLOR`), or `json`, one object a line. Messages are lower case, values are fields.
//! The level is one of `off error warn info debug trace`, or directives such as
//! `info,meshbus::transport::mqtt=debug`. `RUST_LOG`, where set, stands above the configuration, also after a
//! reload. A panic is logged as an error with its place instead of being printed.
//!
//! # Metrics
//! `GET /metrics` on the admin and the health port, in the `OpenMetrics` text format that Prometheus reads.
//!
//! | name | type | labels | what |
//! |---|---|---|---|
//! | `meshbus_route_events_total` | counter | `route`, `result` | by result: `taken` from the log; `delivered`, once for each sink; `filtered`: not wanted by the expression; `filter`: its filters let nothing through; `looped`: had been here; `error`: the expression failed; `dropped` by `drop_oldest`; `retried`; `dead`: the dead letter took it |
//! | `meshbus_route_dropped_total` | counter | `route`, `reason` | what a route let go undelivered: `full` (`drop_oldest`), `looped`, `error`; the same counts as above, for one alert over all |
//! | `meshbus_route_in_flight` | gauge | `route` | deliveries under way |
//! | `meshbus_route_waiting` | gauge | `route` | records behind the cursor: the lag |
//! | `meshbus_route_latency_seconds` | histogram | `route` | from the log to the last sink's answer |
//! | `meshbus_connector_received_total` | counter | `connector`, `transport` | messages that came in and were published |
//! | `meshbus_connector_sent_total` | counter | `connector`, `transport` | deliveries the peer took |
//! | `meshbus_connector_malformed_total` | counter | `connector`, `transport` | messages that could not be decoded |
//! | `meshbus_connector_oversize_total` | counter | `connector`, `transport` | messages refused for their size |
//! | `meshbus_connector_lost_total` | counter | `connector`, `transport` | messages the client library reports as lost |
//! | `meshbus_connector_connected_total` | counter | `connector`, `transport` | connections made |
//! | `meshbus_connector_restarts_total` | counter | `connector`, `transport` | runs after the first |
//! | `meshbus_connector_ready` | gauge | `connector`, `transport` | 1 when connected or bound |
//! | `meshbus_log_records`, `meshbus_log_bytes` | gauge | `ring` | what the log holds, by ring: `changes`, `events` |
//! | `meshbus_log_sequence` | gauge | | the last sequence given |
//! | `meshbus_state_keys`, `meshbus_state_bytes` | gauge | | what the state table holds |
//! | `meshbus_consumers` | gauge | | routes and open subscriptions |
//! | `meshbus_bus_looped_total` | counter | | envelopes refused because they had been here before |
//! | `meshbus_plugin_events_total` | counter | `plugin`, `result` | of a filter plugin, by result: `call`s into it; `event`s it was asked about; `fault`s; `rebuild`s of an instance after one; `refused`: not asked, for being off; `dropped` by it; `swap`s to a changed file; `unkept`: what it counted beyond its bounds |
//! | `meshbus_plugin_off` | gauge | `plugin` | 1 while it is off, in all routes, for having failed too often |
//! | `meshbus_plugin_counter_total`, `meshbus_plugin_gauge`, `meshbus_plugin_recorded` | counter, gauge, histogram | `plugin`, `name`, its own | what plugins count themselves |
//! | `meshbus_config_version` | gauge | | the configuration that runs: 1 at the start, one more with each reload |
//! | `meshbus_config_rejected_total` | counter | | reloads refused because the files were invalid |
//! | `meshbus_build_info` | info | `version` | 1 |
//! | `process_resident_memory_bytes` | gauge | | memory in use; Linux only |
//! | `process_start_time_seconds` | gauge | | when the process began, since 1970 |

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;

use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{Subscriber, error, warn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::core::error::panic_message;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `logging: {level: info, format: text}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or directives: `info,meshbus::core=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: Format,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` was given and stays.
    fixed: bool,
}

impl Telemetry {
    /// Takes up a new level; with `RUST_LOG` set it is checked and nothing else. The format stays until a restart.
    ///
    /// # Errors
    /// Says what a level may be.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let filter = parse_level(level)?;
        if self.fixed {
            return Ok(());
        }
        self.filter.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts logging for the whole process, and logs panics instead of printing them. Once a process.
///
/// # Errors
/// Says what a level may be, or that logging was started before.
pub fn init(logging: &Logging) -> Result<Telemetry, String> {
    let rust_log = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
    let (subscriber, telemetry) = subscriber(logging, rust_log.as_deref(), colour, std::io::stderr)?;
    subscriber.try_init().map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(log_panic));
    if telemetry.fixed && logging.level != Logging::default().level {
        warn!(level = logging.level, "RUST_LOG stands above the configured level");
    }
    Ok(telemetry)
}

/// Checks a level as the configuration gives it.
///
/// # Errors
/// Says what a level may be.
pub fn check_level(level: &str) -> Result<(), String> {
    parse_level(level).map(drop)
}

fn subscriber<W>(
    logging: &Logging,
    rust_log: Option<&str>,
    colour: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Telemetry), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let configured = parse_level(&logging.level)?;
    let filter = match rust_log {
        Some(directives) => EnvFilter::try_new(directives).map_err(|error| format!("RUST_LOG: {error}"))?,
        None => configured,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let layer = fmt::layer().with_writer(writer).with_ansi(colour);
    let layer = match logging.format {
        Format::Text => layer.boxed(),
        Format::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    Ok((subscriber, Telemetry { filter: handle, fixed: rust_log.is_some() }))
}

/// A word that is no level would pass as the name of a module at level `trace`, and a typing error would turn the
/// logs off: only directives with `=` may name modules.
fn parse_level(text: &str) -> Result<EnvFilter, String> {
    let known = |directive: &str| {
        directive.contains('=') || LEVELS.contains(&directive.to_ascii_lowercase().as_str())
    };
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    match directives.iter().find(|directive| !known(directive)) {
        Some(unknown) => Err(format!(
            "{unknown:?} is no level: write one of {}, or directives such as info,meshbus::core=debug",
            LEVELS.join(", ")
        )),
        None => EnvFilter::try_new(directives.join(","))
            .map_err(|error| format!("{text:?} is no level: {error}")),
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = panic_message(info.payload());
    let backtrace = Backtrace::capture();
    error!(panic = message, place, "panicked");
    if backtrace.status() == BacktraceStatus::Captured {
        // For people only; there is nobody to tell when even this fails.
        drop(writeln!(std::io::stderr(), "{backtrace}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::subscriber::with_default;
    use tracing::{debug, info};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(logging: &Logging, rust_log: Option<&str>, write: impl FnOnce(&Telemetry)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, telemetry) = subscriber(logging, rust_log, false, move || writer.clone()).unwrap();
        with_default(subscriber, || write(&telemetry));
        String::from_utf8(lines.0.lock().clone()).unwrap()
    }

    #[test]
    fn text_has_no_escape_codes_off_a_terminal() {
        let text = log(&Logging::default(), None, |_| info!(route = "warnings", "dropped"));
        assert!(text.contains("INFO") && text.contains("dropped route=\"warnings\""), "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn json_is_one_object_a_line_with_fields_beside_the_message() {
        let logging = Logging { format: Format::Json, ..Logging::default() };
        let text = log(&logging, None, |_| {
            info!(route = "warnings", n = 7, "dropped");
            info!("second");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["message"], &lines[0]["n"]), (&"dropped".into(), &7.into()));
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn the_level_changes_while_running() {
        let text = log(&Logging::default(), None, |telemetry| {
            debug!("before");
            telemetry.set_level("info,meshbus::runtime=debug").unwrap();
            debug!("after");
            telemetry.set_level("nonsense").unwrap_err();
            debug!("still");
        });
        assert!(!text.contains("before") && text.contains("after") && text.contains("still"), "{text}");
    }

    #[test]
    fn rust_log_stands_above_the_configuration() {
        let text = log(&Logging::default(), Some("debug"), |telemetry| {
            telemetry.set_level("error").unwrap();
            debug!("seen");
        });
        assert!(text.contains("seen"), "{text}");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_levels() {
        for level in ["inof", "", "info,wran", "meshbus"] {
            let error = check_level(level).unwrap_err();
            assert!(error.contains("off, error, warn, info, debug, trace"), "{error}");
        }
        for level in ["INFO", "off", "warn, meshbus::core=trace", "hyper=off"] {
            check_level(level).unwrap();
        }
        assert!(check_level("info,meshbus=loud").is_err());
    }
}
