//! The server role, which this transport does not have yet.
//!
//! Clients of MQTT reach the bus through a broker between them: the client role takes part in its topics and
//! retained messages. A broker of our own must also keep sessions, which the bus needs a durable place for first.

use crate::config::{ConfigError, Section};

/// The error that says so, at the section that asks for it.
pub(super) fn unavailable(section: &Section) -> ConfigError {
    section.error_with_hint(
        "",
        "mqtt has no server role yet",
        "run mosquitto and connect to it: {mqtt: {client: {urls: [\"mqtt://127.0.0.1:1883\"]}}}",
    )
}
