//! Settings of the pipe: the client's, the server's, and a route's `to:` entry, which has none of its own.

use meshbus::config::values::Size;
use meshbus::config::{ConfigError, Section};
use meshbus::core::template::{Spelling, Template};
use schemars::JsonSchema;
use serde::Deserialize;

/// Largest `max_frame`: a frame is held in memory whole.
const FRAME_MAX: u64 = 64 << 20;

/// `connectors: {NAME: {pipe: {client: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientConfig {
    /// Host and port of the server.
    pub(super) address: String,
}

/// `connectors: {NAME: {pipe: {server: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerConfig {
    /// Host and port to listen on.
    pub(super) listen: String,
    /// Topic of what comes in; default `pipe/{type}`.
    #[serde(default = "default_topic")]
    pub(super) topic: String,
    /// Largest event taken in, at most 64MiB; default 1MiB.
    #[serde(default = "default_max_frame")]
    pub(super) max_frame: Size,
}

/// A route's `to: [{connector: NAME}]`: nothing to set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetConfig {}

fn default_topic() -> String {
    "pipe/{type}".to_owned()
}

fn default_max_frame() -> Size {
    Size(1 << 20)
}

impl ClientConfig {
    /// Reads and checks a client's settings.
    pub(super) fn from_section(section: &Section) -> Result<Self, ConfigError> {
        let config: Self = section.parse()?;
        check_address(section, "address", &config.address)?;
        Ok(config)
    }
}

impl ServerConfig {
    /// Reads and checks a server's settings; also gives the template of topics.
    pub(super) fn from_section(section: &Section) -> Result<(Self, Template), ConfigError> {
        let config: Self = section.parse()?;
        check_address(section, "listen", &config.listen)?;
        if !(1..=FRAME_MAX).contains(&config.max_frame.0) {
            let reason = format!("is {} bytes: it must be from 1 to {FRAME_MAX}", config.max_frame.0);
            return Err(section.error("max_frame", reason));
        }
        let topic = Template::parse(&config.topic, Spelling::Topic)
            .map_err(|reason| section.error("topic", reason))?;
        Ok((config, topic))
    }
}

fn check_address(section: &Section, field: &str, address: &str) -> Result<(), ConfigError> {
    if address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        return Ok(());
    }
    Err(section.error_with_hint(field, format!("{address:?} has no port"), "write 127.0.0.1:7000"))
}
