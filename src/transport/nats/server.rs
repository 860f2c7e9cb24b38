//! The server role, which this transport does not have yet.
//!
//! Clients of NATS reach the bus through a nats-server between them: the client role takes part in its
//! subjects and streams. A server of our own must also be a key-value store over the bus's state, which the
//! bus's view of NATS needs first.

use crate::config::{ConfigError, Section};

/// The error that says so, at the section that asks for it.
pub(super) fn unavailable(section: &Section) -> ConfigError {
    section.error_with_hint(
        "",
        "nats has no server role yet",
        "run nats-server and connect to it: {nats: {client: {urls: [\"nats://127.0.0.1:4222\"]}}}",
    )
}
