//! The settings that are the bus's own: log, state, access, logging, listeners, shutdown.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Duration, Secret, Size};

/// Where records are kept: `event_log:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventLog {
    /// The kind of log.
    #[serde(rename = "type")]
    pub kind: LogType,
    /// Changes of state kept for those who resume.
    pub changes: Ring,
    /// Events kept for those who resume.
    pub events: Ring,
}

/// A kind of log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogType {
    /// In memory: gone when the process ends.
    #[default]
    Memory,
}

/// Bounds of one part of the log; the oldest records go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ring {
    /// Most records; at least 1, default 1000000.
    #[schemars(range(min = 1))]
    pub max: usize,
    /// Most bytes of records; default 256MiB.
    pub max_bytes: Size,
}

impl Default for Ring {
    fn default() -> Self {
        Self { max: 1_000_000, max_bytes: Size(256 << 20) }
    }
}

/// Bounds of the state table: `state:`. When full it refuses new keys and never evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Most keys; at least 1, default 1000000.
    #[schemars(range(min = 1))]
    pub max_keys: usize,
    /// Most bytes of values; default 1GiB.
    pub max_bytes: Size,
    /// Most deletions remembered for readers that resume; default 100000.
    pub max_deletions: usize,
    /// How long after the start, every connector being in step with its peer, what is not in `local` counts as gone
    /// for xDS clients that had it of the bus before; default 30s. Raise it where writers come back later than that.
    pub settle: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            max_keys: 1_000_000,
            max_bytes: Size(1 << 30),
            max_deletions: 100_000,
            settle: Duration::from_secs(30),
        }
    }
}

/// One rule of `access:`: what a principal may do, and at which topics. Rules add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// The name of whoever presents the token, or the common name of a client certificate (k8s).
    pub principal: String,
    /// The bearer token that proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// What it may do; at least one.
    pub allow: Vec<Permission>,
    /// Topic filters where it may; default `["#"]`.
    #[serde(default = "everywhere")]
    pub topics: Vec<String>,
}

/// Something a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Publish events.
    Publish,
    /// Subscribe, live or replayed.
    Subscribe,
    /// Read state.
    Read,
    /// Write state.
    Write,
    /// Look into the bus: configuration, taps, dead letters.
    Admin,
}

/// What is logged: `logging:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or per module: `info,meshbus::transport=debug`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The bus's own listeners: `admin:` and `health:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, such as `127.0.0.1:18002`.
    pub listen: String,
    /// Listens beyond loopback although there is no TLS or no `access`.
    #[serde(default)]
    pub insecure: bool,
}

/// How the bus ends: `shutdown:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Time for what is under way to be delivered; default 10s.
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10) }
    }
}

/// How often and how fast a rejected delivery is tried again: `retry:` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all until the dead letter takes it; at least 1, default 8.
    #[schemars(range(min = 1))]
    pub max_attempts: u32,
    /// The pauses between.
    pub backoff: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 8, backoff: Backoff::default() }
    }
}

/// Pauses that double, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The first pause; default 100ms.
    pub initial: Duration,
    /// The longest pause; default 30s.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

/// What gives way when the log is full and a route has not answered its oldest record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Whoever publishes waits.
    #[default]
    Block,
    /// The record goes to the dead letter.
    DeadLetter,
    /// The record is dropped, counted.
    DropOldest,
}

/// One of the configuration's own tests: `tests:`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// What it is called in the report.
    pub name: String,
    /// The route under test.
    pub route: String,
    /// The event that goes in.
    pub input: TestInput,
    /// What comes out, in the order of the route's `to:`; an empty list when nothing may.
    pub expect: Vec<Expectation>,
}

/// The event a test puts in.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestInput {
    /// A file with one CloudEvent in JSON; its path is relative to the configuration file.
    File(PathBuf),
    /// The CloudEvent itself, in the form of CloudEvents' JSON format.
    Event(serde_json::Map<String, serde_json::Value>),
}

/// One delivery a test expects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// The connector it goes to.
    pub connector: Option<String>,
    /// Instead of a connector: the topic on the bus.
    pub bus: Option<String>,
    /// Its topic, where the connector has topics.
    pub topic: Option<String>,
    /// Its subject, where the connector has subjects.
    pub subject: Option<String>,
    /// Its path, where the connector has paths.
    pub path: Option<String>,
}

impl Expectation {
    /// Where it goes, under whichever word; `None` where any address will do.
    pub fn address(&self) -> Option<&str> {
        [&self.bus, &self.topic, &self.subject, &self.path].into_iter().find_map(Option::as_deref)
    }
}

fn everywhere() -> Vec<String> {
    vec!["#".to_owned()]
}
