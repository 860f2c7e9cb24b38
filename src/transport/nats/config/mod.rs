//! Settings of the NATS transport: the client's and a route's `to:` entry.

use std::path::PathBuf;

use async_nats::ServerAddr;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Duration, Secret, Size};
use crate::config::{ConfigError, Section};
use crate::core::template::{Spelling, Template};
use crate::schema::cloudevents::ContentMode;

#[cfg(test)]
mod tests;

/// Most deliveries, messages or acknowledgements one setting may allow to be under way.
const WINDOW_MAX: usize = 65_536;

/// `connectors: {NAME: {nats: {client: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Servers of one cluster, `nats://HOST:PORT` or `tls://HOST:PORT`; one that is away is passed over.
    pub urls: Vec<String>,
    /// User name; goes with `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Authentication token.
    pub token: Option<Secret>,
    /// Seed of a user's nkey (`SU…`).
    pub nkey: Option<Secret>,
    /// Credentials as `nsc` writes them (`.creds`): a JWT and a seed.
    pub credentials: Option<Secret>,
    /// Certificates; a `tls://` URL or a server that requires it turns TLS on without this.
    pub tls: Option<TlsConfig>,
    /// Publishes to a stream and waits for its acknowledgement; without, publishes are core NATS.
    pub jetstream: Option<JetStreamConfig>,
    /// What to take in.
    #[serde(default)]
    pub subscribe: Vec<SubscribeConfig>,
    /// Whether publishes to a stream carry `Nats-Msg-Id`, by which it drops repetitions; default true.
    #[serde(default = "yes")]
    pub dedupe: bool,
    /// Most deliveries that wait for the server's answer at a time; default 1024.
    #[serde(default = "default_window")]
    pub in_flight: usize,
    /// How long a server may take to acknowledge a publish; default 5s.
    #[serde(default = "default_ack_timeout")]
    pub ack_timeout: Duration,
    /// Most messages of one subscription held in memory before they are taken in; what comes beyond is
    /// lost and counted (core NATS), or stays on the server (JetStream); default 8192.
    #[serde(default = "default_buffer")]
    pub buffer: usize,
    /// Asks the server not to send back what this connection publishes. Then what is sent can only be known
    /// to have left, not to have arrived at the server. Own events are recognised without it; default false.
    #[serde(default)]
    pub no_echo: bool,
    /// Prefix of the subjects this connection takes answers by; default `_INBOX`.
    #[serde(default = "default_inbox")]
    pub inbox_prefix: String,
    /// Time for connecting and each request; default 5s.
    #[serde(default = "default_ack_timeout")]
    pub timeout: Duration,
    /// How often a quiet connection is tried, and half the time after which a dead one is given up; default 10s.
    #[serde(default = "default_ping")]
    pub ping_interval: Duration,
}

/// Certificates of a connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the authorities to trust, in place of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with the client's certificate and its chain; goes with `key`.
    pub cert: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub key: Option<PathBuf>,
    /// Refuses a server without TLS; default true.
    #[serde(default = "yes")]
    pub required: bool,
    /// Starts TLS before the server's greeting (`handshake_first` of the server); default false.
    #[serde(default)]
    pub first: bool,
}

/// The stream that is published to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JetStreamConfig {
    /// Its name. A subject of another stream is refused.
    pub stream: String,
    /// Creates it where it does not exist; an existing one is left as it is.
    pub create: Option<StreamConfig>,
    /// JetStream domain, across leaf nodes.
    pub domain: Option<String>,
}

/// A stream to create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Subjects it stores.
    pub subjects: Vec<String>,
    /// Where; default `file`.
    #[serde(default)]
    pub storage: Storage,
    /// What it keeps; default `limits`.
    #[serde(default)]
    pub retention: Retention,
    /// Longest age of a message; default unlimited.
    pub max_age: Option<Duration>,
    /// Most bytes; default unlimited.
    pub max_bytes: Option<Size>,
    /// Most messages; default unlimited.
    pub max_messages: Option<u64>,
    /// How many servers hold it; default 1.
    #[serde(default = "one")]
    pub replicas: usize,
    /// How long `Nats-Msg-Id` is remembered; default 2m.
    pub duplicate_window: Option<Duration>,
}

/// Where a stream is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory; gone when the server restarts.
    Memory,
}

/// What a stream keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// All, up to the limits.
    #[default]
    Limits,
    /// What a consumer that exists has not acknowledged.
    Interest,
    /// What has not been acknowledged; one consumer a subject.
    WorkQueue,
}

/// One entry of `subscribe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeConfig {
    /// Subject, with the wildcards `*` (one token) and `>` (one or more at the end).
    pub subject: String,
    /// Queue group: each message goes to one of its members. Core NATS only.
    pub queue: Option<String>,
    /// Takes the messages from a stream, by a durable pull consumer with explicit acknowledgements.
    pub jetstream: Option<ConsumerConfig>,
}

/// A durable pull consumer. Where it exists its own settings count.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerConfig {
    /// The stream; default that of the connector's `jetstream`.
    pub stream: Option<String>,
    /// Name of the consumer. Several buses with one name share its messages.
    #[serde(alias = "consumer")]
    pub durable: String,
    /// Where a new consumer starts; default `all`.
    #[serde(default)]
    pub deliver: Deliver,
    /// After how long an unacknowledged message is sent again; extended while the bus works on it; default 30s.
    #[serde(default = "default_ack_wait")]
    pub ack_wait: Duration,
    /// Most messages taken in and not yet acknowledged; default 1024.
    #[serde(default = "default_window")]
    pub max_ack_pending: usize,
    /// Most messages asked for at a time; default 256.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Waits for the server to confirm each acknowledgement; default false.
    #[serde(default)]
    pub double_ack: bool,
    /// After a lost connection, takes in messages only when all that were under way have come again, at most
    /// `ack_wait` and a second after the server last sent to the lost connection: keeps the order of a key, and
    /// may stand still for so long. To be false where several buses share the consumer; default true.
    #[serde(default = "yes")]
    pub ordered: bool,
}

/// Where a new consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// With the oldest message.
    #[default]
    All,
    /// With the last message.
    Last,
    /// With the last message of each subject.
    LastPerSubject,
    /// With what comes after its creation.
    New,
    /// With this sequence.
    Sequence(u64),
}

/// A route's `to:` entry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Subject, a template; default: the event's topic spelt as a subject.
    pub subject: Option<String>,
    /// How the event is laid out; default `binary`.
    #[serde(default)]
    pub content_mode: ContentMode,
    /// Whether to publish to the connector's stream; default: where it has one.
    pub jetstream: Option<bool>,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn default_window() -> usize {
    1024
}

fn default_batch() -> usize {
    256
}

fn default_buffer() -> usize {
    8192
}

fn default_ack_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_ack_wait() -> Duration {
    Duration::from_secs(30)
}

fn default_ping() -> Duration {
    Duration::from_secs(10)
}

fn default_inbox() -> String {
    "_INBOX".to_owned()
}

impl ClientConfig {
    /// Reads and checks the settings of a client.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn parse(section: &Section) -> Result<Self, ConfigError> {
        let config: Self = section.parse()?;
        if config.urls.is_empty() {
            return Err(section.error_with_hint("urls", "is empty", "nats://127.0.0.1:4222"));
        }
        for (at, url) in config.urls.iter().enumerate() {
            check_url(url).map_err(|reason| {
                section.error_with_hint(
                    &format!("urls[{at}]"),
                    reason,
                    "nats://HOST:4222 or tls://HOST:4222",
                )
            })?;
        }
        config.check_auth(section)?;
        config.check_bounds(section)?;
        if let Some(jetstream) = &config.jetstream {
            jetstream.check(section)?;
        }
        for (at, entry) in config.subscribe.iter().enumerate() {
            entry.check(&config, section, &format!("subscribe[{at}]"))?;
        }
        Ok(config)
    }

    /// The servers' addresses.
    pub fn addresses(&self) -> Vec<ServerAddr> {
        self.urls.iter().filter_map(|url| url.parse().ok()).collect()
    }

    fn check_auth(&self, section: &Section) -> Result<(), ConfigError> {
        if self.user.is_some() != self.password.is_some() {
            return Err(section.error("user", "user and password go together"));
        }
        let ways = [
            ("user", self.user.is_some()),
            ("token", self.token.is_some()),
            ("nkey", self.nkey.is_some()),
            ("credentials", self.credentials.is_some()),
        ];
        let mut given = ways.iter().filter(|(_, given)| *given);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            return Err(
                section.error(second, format!("{first} is given already: one way to log in is enough"))
            );
        }
        if let Some(tls) = &self.tls
            && tls.cert.is_some() != tls.key.is_some()
        {
            return Err(section.error("tls", "cert and key go together"));
        }
        Ok(())
    }

    fn check_bounds(&self, section: &Section) -> Result<(), ConfigError> {
        for (name, value) in [("in_flight", self.in_flight), ("buffer", self.buffer)] {
            check_window(section, name, value)?;
        }
        for (name, value) in [
            ("ack_timeout", self.ack_timeout),
            ("timeout", self.timeout),
            ("ping_interval", self.ping_interval),
        ] {
            if value.0.is_zero() {
                return Err(section.error_with_hint(name, "is zero", "5s"));
            }
        }
        check_filter(&self.inbox_prefix)
            .map_err(|(reason, hint)| section.error_with_hint("inbox_prefix", reason, hint))?;
        if self.inbox_prefix.contains(['*', '>']) {
            return Err(section.error("inbox_prefix", "holds a wildcard"));
        }
        Ok(())
    }
}

impl JetStreamConfig {
    fn check(&self, section: &Section) -> Result<(), ConfigError> {
        check_name(&self.stream).map_err(|reason| section.error("jetstream.stream", reason))?;
        let Some(create) = &self.create else { return Ok(()) };
        if create.subjects.is_empty() {
            return Err(section.error_with_hint("jetstream.create.subjects", "is empty", "[\"events.>\"]"));
        }
        for (at, subject) in create.subjects.iter().enumerate() {
            check_filter(subject).map_err(|(reason, hint)| {
                section.error_with_hint(&format!("jetstream.create.subjects[{at}]"), reason, hint)
            })?;
        }
        if !matches!(create.replicas, 1..=5) {
            return Err(section.error("jetstream.create.replicas", "must be 1 to 5"));
        }
        Ok(())
    }
}

impl SubscribeConfig {
    fn check(&self, client: &ClientConfig, section: &Section, path: &str) -> Result<(), ConfigError> {
        check_filter(&self.subject)
            .map_err(|(reason, hint)| section.error_with_hint(&format!("{path}.subject"), reason, hint))?;
        if let Some(queue) = &self.queue {
            let at = format!("{path}.queue");
            if queue.is_empty() || queue.contains(char::is_whitespace) {
                return Err(section.error(&at, "a queue group is one word"));
            }
            if self.jetstream.is_some() {
                return Err(section.error_with_hint(
                    &at,
                    "queue groups are core NATS",
                    "leave queue away: all who name the same durable share its messages",
                ));
            }
        }
        let Some(consumer) = &self.jetstream else { return Ok(()) };
        let path = format!("{path}.jetstream");
        check_name(&consumer.durable)
            .map_err(|reason| section.error(&format!("{path}.durable"), reason))?;
        match (&consumer.stream, &client.jetstream) {
            (Some(stream), _) => {
                check_name(stream).map_err(|reason| section.error(&format!("{path}.stream"), reason))?;
            }
            (None, None) => {
                return Err(section.error_with_hint(
                    &path,
                    "stream is missing",
                    "name it here, or for all in the connector's jetstream: {stream: NAME}",
                ));
            }
            (None, Some(_)) => {}
        }
        check_window(section, &format!("{path}.max_ack_pending"), consumer.max_ack_pending)?;
        check_window(section, &format!("{path}.batch"), consumer.batch)?;
        if consumer.ack_wait.0 < std::time::Duration::from_millis(100) {
            return Err(section.error_with_hint(&format!("{path}.ack_wait"), "is below 100ms", "30s"));
        }
        Ok(())
    }
}

impl TargetConfig {
    /// Reads and checks a `to:` entry; with the template of the subject, where it has one.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn parse(
        connector: &ClientConfig,
        section: &Section,
    ) -> Result<(Self, Option<Template>), ConfigError> {
        let config: Self = section.parse()?;
        if config.jetstream == Some(true) && connector.jetstream.is_none() {
            return Err(section.error_with_hint(
                "jetstream",
                "the connector names no stream",
                "jetstream: {stream: NAME} at the connector",
            ));
        }
        let Some(subject) = &config.subject else { return Ok((config, None)) };
        check_literal(subject)
            .map_err(|(reason, hint)| section.error_with_hint("subject", reason, hint))?;
        let template = Template::parse(subject, Spelling::Subject)
            .map_err(|reason| section.error("subject", reason))?;
        Ok((config, Some(template)))
    }
}

fn check_window(section: &Section, path: &str, value: usize) -> Result<(), ConfigError> {
    if (1..=WINDOW_MAX).contains(&value) {
        return Ok(());
    }
    Err(section.error(path, format!("must be 1 to {WINDOW_MAX}")))
}

fn check_url(url: &str) -> Result<(), String> {
    let address: ServerAddr = url.parse().map_err(|error| format!("{error}"))?;
    if !matches!(address.scheme(), "nats" | "tls") {
        return Err(format!("scheme {:?} is none of this transport", address.scheme()));
    }
    if address.host().is_empty() {
        return Err("has no host".to_owned());
    }
    Ok(())
}

/// The name of a stream or consumer, as nats-server has it.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.contains(|c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\')
    }) {
        return Err("a name holds no white space and none of . * > / \\");
    }
    Ok(())
}

type Wrong = (&'static str, &'static str);

/// A subject to subscribe to.
fn check_filter(subject: &str) -> Result<(), Wrong> {
    if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(("a subject holds no white space", "orders.new"));
    }
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "" => return Err(("has an empty token", "tokens between dots: orders.new")),
            ">" if tokens.peek().is_some() => return Err(("has > before its end", "* for one token")),
            "+" => return Err(("+ is MQTT's wildcard", "* for one token")),
            "#" => return Err(("# is MQTT's wildcard", "> for one or more tokens")),
            _ => {}
        }
    }
    Ok(())
}

/// The literal part of a template: what stands in braces counts as a letter.
fn check_literal(template: &str) -> Result<(), Wrong> {
    let mut literal = String::with_capacity(template.len());
    let mut depth = 0_usize;
    for c in template.chars() {
        match c {
            '{' => {
                depth += 1;
                literal.push('x');
            }
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => literal.push(c),
            _ => {}
        }
    }
    if literal.split('.').any(|token| matches!(token, "*" | ">")) {
        return Err(("a subject to publish to holds no wildcard", "orders.{subject}"));
    }
    check_filter(&literal)
}
