//! Settings of the MQTT client connector and of `to:` entries, and what they mean once checked.

use std::time::Duration as StdDuration;

use bytestring::ByteString;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::config::values::{Duration, Secret, Size};
use crate::config::{ConfigError, Section};
use crate::core::delivery::{Assurance, Guarantee, Target};
use crate::core::template::{Spelling, Template};
use crate::schema::cloudevents::ContentMode;

mod check;

/// Most packet identifiers a connection may have under way; the last one is kept for SUBSCRIBE.
pub(super) const IN_FLIGHT_MAX: u16 = 65_534;
/// Most filters one connector subscribes to: they travel in one SUBSCRIBE packet.
const FILTERS_MAX: usize = 1_000;

/// `client:` of a connector `mqtt:`: connects to a broker, subscribes there and publishes there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// Brokers, tried in order: `mqtt://host:1883`, `mqtts://host:8883`.
    pub urls: Vec<String>,
    /// Protocol version: `5` or `3.1.1`.
    #[serde(default)]
    pub version: Version,
    /// Client identifier; default `meshbus-<name of the bus>-<name of the connector>`. The broker keeps the
    /// session under it, so two connectors must not share one.
    pub client_id: Option<String>,
    /// Whether to forget the session the broker keeps; default false when a subscription has `qos` 1 or 2.
    pub clean_start: Option<bool>,
    /// How long the broker keeps the session while we are away (MQTT 5); default 24h.
    #[serde(default = "default_session_expiry")]
    pub session_expiry: Duration,
    /// Longest silence before a ping; default 30s, at least 1s.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Duration,
    /// How long connecting to one broker may take, CONNACK included; default 10s.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Duration,
    /// User name.
    pub user: Option<String>,
    /// Password: `{file: PATH}` or `{env: NAME}`.
    pub password: Option<Secret>,
    /// TLS of `mqtts://` brokers.
    #[serde(default)]
    pub tls: TlsSettings,
    /// What to take in.
    #[serde(default)]
    pub subscribe: Vec<Subscription>,
    /// Most messages under way without acknowledgement, in (Receive Maximum) and out; default 1000.
    #[serde(default = "default_in_flight")]
    pub in_flight: u16,
    /// Largest packet taken in, and with 3.1.1 also sent; default 1MiB. Together with `in_flight` it bounds
    /// what unacknowledged messages may hold in memory.
    #[serde(default = "default_max_packet_size")]
    pub max_packet_size: Size,
    /// What the broker publishes when the connection breaks.
    pub will: Option<Will>,
    /// Whether to shorten repeated topics on the way out by topic aliases (MQTT 5); default false.
    #[serde(default)]
    pub topic_alias: bool,
    /// Key space of retained messages as state; default the connector's name.
    pub scope: Option<String>,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(schema_with = "version_schema")]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0.
    #[default]
    V5,
}

/// Quality of service, as far as the next hop: 0 at most once, 1 at least once, 2 exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "u8")]
#[schemars(schema_with = "qos_schema")]
pub enum Qos {
    /// Never acknowledged.
    AtMostOnce,
    /// Acknowledged by PUBACK.
    AtLeastOnce,
    /// Acknowledged in two steps.
    ExactlyOnce,
}

/// TLS towards the broker.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file of the authorities to trust; default the system's.
    pub ca: Option<std::path::PathBuf>,
    /// PEM file of our certificate chain, with `key`.
    pub cert: Option<std::path::PathBuf>,
    /// PEM file of our private key.
    pub key: Option<std::path::PathBuf>,
    /// Protocols to offer by ALPN; default none.
    #[serde(default)]
    pub alpn: Vec<String>,
}

/// One subscription.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Topic filter, as MQTT writes it: `sensors/+/temperature`, `alerts/#`.
    pub topic: String,
    /// Highest quality of service to receive with; default 1.
    #[serde(default = "default_qos")]
    pub qos: Qos,
    /// Whether our own publications stay away (MQTT 5); default true, but false for a shared subscription.
    pub no_local: Option<bool>,
    /// Whether a live message keeps its retain flag (MQTT 5); default true for `retained: state`.
    pub retain_as_published: Option<bool>,
    /// What a message with the retain flag is; default `state`.
    #[serde(default)]
    pub retained: Retained,
    /// When the broker sends what it retains (MQTT 5); default: `state` at the first subscription of this
    /// process and when the session was lost, `event` when the session is new, `ignore` never.
    pub retain_handling: Option<RetainHandling>,
    /// Group that shares this subscription: each message goes to one member.
    pub share: Option<String>,
}

/// What an incoming message with the retain flag is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retained {
    /// The value of the key that the topic names; an empty one deletes it.
    #[default]
    State,
    /// An event like any other.
    Event,
    /// Nothing: acknowledged and dropped.
    Ignore,
}

/// MQTT 5 Retain Handling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetainHandling {
    /// At each subscription.
    Always,
    /// When the subscription is new to the session.
    New,
    /// Never.
    Never,
}

/// The Will Message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload; default empty.
    #[serde(default)]
    pub payload: String,
    /// Quality of service; default 1.
    #[serde(default = "default_qos")]
    pub qos: Qos,
    /// Whether the broker retains it; default false.
    #[serde(default)]
    pub retain: bool,
    /// How long the broker waits for us to come back (MQTT 5); default not at all.
    pub delay: Option<Duration>,
}

/// A `to:` entry that sends to an MQTT connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// Template of the topic: `alerts/{reason}`.
    pub topic: String,
    /// Quality of service; default 1.
    #[serde(default = "default_qos")]
    pub qos: Qos,
    /// Whether the broker retains the message; a deletion of state then clears what it retains.
    #[serde(default)]
    pub retain: bool,
    /// Layout; default `binary` with MQTT 5 and `structured` with 3.1.1, which cannot do `binary`.
    pub content_mode: Option<ContentMode>,
}

/// How to publish one delivery: what a target carries for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// Layout of the event.
    pub mode: ContentMode,
}

/// One broker of `urls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl std::fmt::Display for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Settings that hold: what the client runs with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) brokers: Vec<Broker>,
    pub(super) clean_start: bool,
    pub(super) settings: ClientSettings,
}

impl ClientSettings {
    /// Reads and checks `client:`.
    pub(super) fn plan(section: &Section) -> Result<Plan, ConfigError> {
        let settings: Self = section.parse()?;
        if settings.urls.is_empty() {
            return Err(section.error_with_hint(
                "urls",
                "names no broker",
                "urls: [\"mqtt://127.0.0.1:1883\"]",
            ));
        }
        let mut brokers = Vec::with_capacity(settings.urls.len());
        for (at, url) in settings.urls.iter().enumerate() {
            let broker = check::parse_url(url)
                .map_err(|(reason, hint)| section.error_with_hint(&format!("urls[{at}]"), reason, hint))?;
            brokers.push(broker);
        }
        check::limits(&settings, section)?;
        check::session(&settings, section)?;
        if settings.subscribe.len() > FILTERS_MAX {
            return Err(section.error("subscribe", format!("has more than {FILTERS_MAX} entries")));
        }
        for (at, subscription) in settings.subscribe.iter().enumerate() {
            subscription.check(settings.version, &|field, reason, hint| {
                section.error_with_hint(&format!("subscribe[{at}].{field}"), reason, hint)
            })?;
        }
        let acknowledged = settings.subscribe.iter().any(|s| s.qos > Qos::AtMostOnce);
        let clean_start = settings.clean_start.unwrap_or(!acknowledged);
        Ok(Plan { brokers, clean_start, settings })
    }
}

impl Plan {
    /// How sure what comes in is.
    pub(super) fn ingress(&self) -> Guarantee {
        let settings = &self.settings;
        let forgets = settings.version == Version::V5 && settings.session_expiry.0.is_zero();
        let weakest = settings.subscribe.iter().map(|s| s.qos).min().unwrap_or(Qos::AtLeastOnce);
        let because = match (weakest, self.clean_start || forgets) {
            (Qos::AtMostOnce, _) => "a subscription with QoS 0".to_owned(),
            (qos, true) => format!("QoS {} without a persistent session", qos.number()),
            (qos, false) => format!("QoS {}, persistent session", qos.number()),
        };
        let sure = weakest > Qos::AtMostOnce && !self.clean_start && !forgets;
        Guarantee {
            assurance: if sure { Assurance::AtLeastOnce } else { Assurance::AtMostOnce },
            // A plain MQTT message has no identity: a redelivery is a new event.
            identity: false,
            because: because.into(),
        }
    }
}

impl Qos {
    /// 0, 1 or 2.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for Qos {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            other => Err(format!("{other} is no quality of service: 0, 1 or 2")),
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Version;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an MQTT version: 5 or 3.1.1")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Version, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Version, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Version, E> {
                self.visit_str(&format!("{number:.1}"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Version, E> {
                match text {
                    "5" | "5.0" => Ok(Version::V5),
                    "3.1.1" | "4" => Ok(Version::V311),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Subscription {
    /// The filter as it is sent: with the share group, where there is one.
    pub(super) fn filter(&self) -> String {
        match &self.share {
            Some(group) => format!("$share/{group}/{}", self.topic),
            None => self.topic.clone(),
        }
    }
}

/// Reads and checks a `to:` entry for the connector whose `client:` is `connector`.
pub(super) fn target(connector: &Section, section: &Section) -> Result<Target, ConfigError> {
    let settings: TargetSettings = section.parse()?;
    let version = match connector.get("version") {
        Some(version) => version.parse()?,
        None => Version::default(),
    };
    let topic = &settings.topic;
    if topic.is_empty() {
        return Err(section.error_with_hint("topic", "is empty", "such as alerts/{reason}"));
    }
    let address =
        Template::parse(topic, Spelling::Topic).map_err(|reason| section.error("topic", reason))?;
    let mode = match (settings.content_mode, version) {
        (Some(ContentMode::Binary), Version::V311) => {
            return Err(section.error_with_hint(
                "content_mode",
                "binary needs MQTT 5: 3.1.1 has no properties to carry attributes",
                "structured or data, or set version: 5 at the connector",
            ));
        }
        (Some(mode), _) => mode,
        (None, Version::V5) => ContentMode::Binary,
        (None, Version::V311) => ContentMode::Structured,
    };
    let because = match settings.qos {
        Qos::AtMostOnce => "QoS 0: written, never acknowledged",
        Qos::AtLeastOnce => "QoS 1: acknowledged by PUBACK",
        Qos::ExactlyOnce => "QoS 2: acknowledged by PUBCOMP",
    };
    let sure = settings.qos > Qos::AtMostOnce;
    Ok(Target {
        address: Some(address),
        // The broker may refuse one publication and take the next; only PUBACK and PUBREC of MQTT 5 can say so.
        pipelined: !sure || version == Version::V311,
        guarantee: Guarantee {
            assurance: if sure { Assurance::AtLeastOnce } else { Assurance::AtMostOnce },
            identity: mode != ContentMode::Data,
            because: ByteString::from_static(because),
        },
        options: std::sync::Arc::new(Publication { qos: settings.qos, retain: settings.retain, mode }),
    })
}

fn default_session_expiry() -> Duration {
    Duration(StdDuration::from_hours(24))
}

fn default_keep_alive() -> Duration {
    Duration(StdDuration::from_secs(30))
}

fn default_connect_timeout() -> Duration {
    Duration(StdDuration::from_secs(10))
}

fn default_qos() -> Qos {
    Qos::AtLeastOnce
}

fn default_in_flight() -> u16 {
    1000
}

fn default_max_packet_size() -> Size {
    Size(1024 * 1024)
}

fn version_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "enum": [5, "5", "3.1.1", 4] })
}

fn qos_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "enum": [0, 1, 2] })
}

#[cfg(test)]
mod tests;
