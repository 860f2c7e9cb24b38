//! The client role, which this transport does not have yet.

use crate::config::{ConfigError, Section};

/// The error that says so, at the section that asks for it.
pub(super) fn unavailable(section: &Section) -> ConfigError {
    let hint = "serve: {xds: {server: {listen: \"127.0.0.1:18000\"}}}";
    section.error_with_hint("", "xds has no client role yet", hint)
}
