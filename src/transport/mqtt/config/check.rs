//! What the settings of the MQTT client must keep to.

use std::time::Duration;

use super::super::codec;
use super::{Broker, ClientSettings, IN_FLIGHT_MAX, Retained, Subscription, Version};
use crate::config::{ConfigError, Section};
use crate::core::Key;
use crate::core::topic::TOPIC_MAX;

impl Subscription {
    /// Checks one entry; `error` places what is wrong with a field, and what would be right.
    pub(super) fn check(
        &self,
        version: Version,
        error: &dyn Fn(&str, &str, &str) -> ConfigError,
    ) -> Result<(), ConfigError> {
        if let Err(reason) = check_filter(&self.topic) {
            return Err(error("topic", reason, "such as sensors/+/temperature or alerts/#"));
        }
        if let Some(group) = &self.share {
            if group.is_empty() || group.contains(['/', '+', '#']) {
                return Err(error("share", "is no group name", "a name without /, + and #"));
            }
            if self.no_local == Some(true) {
                return Err(error(
                    "no_local",
                    "cannot be true with share",
                    "MQTT 5 forbids it: leave it out",
                ));
            }
        }
        let asks_for_five = [
            ("no_local", self.no_local == Some(true)),
            ("retain_as_published", self.retain_as_published == Some(true)),
            ("retain_handling", self.retain_handling.is_some()),
        ];
        if let Some((field, _)) = asks_for_five.iter().find(|(_, set)| *set && version == Version::V311) {
            return Err(error(field, "needs MQTT 5", "leave it out, or set version: 5"));
        }
        if self.retained == Retained::Ignore && self.retain_as_published == Some(true) {
            let hint = "leave it out: live messages with the retain flag would be dropped, too";
            return Err(error("retain_as_published", "cannot be true with retained: ignore", hint));
        }
        Ok(())
    }
}

/// Whether `filter` is one that a broker takes (MQTT 5 section 4.7).
fn check_filter(filter: &str) -> Result<(), &'static str> {
    if filter.is_empty() {
        return Err("is empty");
    }
    if filter.len() > TOPIC_MAX {
        return Err("is longer than 4096 bytes");
    }
    if filter.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if filter.starts_with("$share/") {
        return Err("names its share group: use share: GROUP beside topic:");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level.len() > 1 || levels.peek().is_some()) {
            return Err("has # elsewhere than as its last level");
        }
        if level.contains('+') && level.len() > 1 {
            return Err("has + beside other text in one level");
        }
    }
    Ok(())
}

pub(super) fn limits(settings: &ClientSettings, section: &Section) -> Result<(), ConfigError> {
    if settings.in_flight == 0 || settings.in_flight > IN_FLIGHT_MAX {
        return Err(section.error("in_flight", format!("is out of range: 1 to {IN_FLIGHT_MAX}")));
    }
    if !(1024..=268_435_455).contains(&settings.max_packet_size.0) {
        return Err(section.error("max_packet_size", "is out of range: 1KiB to 255MiB"));
    }
    let keep_alive = settings.keep_alive.0;
    if keep_alive < Duration::from_secs(1) || keep_alive > Duration::from_secs(65_535) {
        return Err(section.error("keep_alive", "is out of range: 1s to 18h"));
    }
    if settings.connect_timeout.0.is_zero() {
        return Err(section.error("connect_timeout", "is zero"));
    }
    if u32::try_from(settings.session_expiry.0.as_secs()).is_err() {
        return Err(section.error("session_expiry", "is longer than 136 years"));
    }
    Ok(())
}

pub(super) fn session(settings: &ClientSettings, section: &Section) -> Result<(), ConfigError> {
    if settings.client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 65_535) {
        return Err(section.error_with_hint(
            "client_id",
            "is empty or too long",
            "leave it out for the default",
        ));
    }
    if settings.password.is_some() && settings.user.is_none() && settings.version == Version::V311 {
        return Err(section.error_with_hint(
            "user",
            "is missing: 3.1.1 takes no password without",
            "user: NAME",
        ));
    }
    if settings.tls.cert.is_some() != settings.tls.key.is_some() {
        let missing = if settings.tls.key.is_none() { "tls.key" } else { "tls.cert" };
        return Err(section.error("tls", format!("{missing} is missing: a certificate needs its key")));
    }
    if settings.scope.as_deref() == Some(Key::LOCAL) {
        return Err(section.error("scope", "local is the bus's own scope"));
    }
    if let Some(will) = &settings.will {
        if will.delay.is_some() && settings.version == Version::V311 {
            return Err(section.error_with_hint(
                "will.delay",
                "needs MQTT 5",
                "leave it out, or set version: 5",
            ));
        }
        if let Err(reason) = codec::check_topic(&will.topic) {
            return Err(section.error("will.topic", reason.to_string()));
        }
        if will.payload.len() > 65_535 {
            return Err(section.error("will.payload", "is longer than 65535 bytes"));
        }
    }
    Ok(())
}

/// Reads a URL; the error is what is wrong and what would be right.
pub(super) fn parse_url(url: &str) -> Result<Broker, (String, &'static str)> {
    const HINT: &str = "mqtt://HOST:1883 or mqtts://HOST:8883";
    let uri: http::Uri = url.parse().map_err(|e| (format!("is no URL: {e}"), HINT))?;
    let tls = match uri.scheme_str() {
        Some("mqtt") => false,
        Some("mqtts") => true,
        _ => return Err(("has another scheme than mqtt and mqtts".to_owned(), HINT)),
    };
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    if authority.contains('@') {
        return Err(("holds credentials".to_owned(), "user: NAME and password: {file: PATH}"));
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return Err(("has a path".to_owned(), HINT));
    }
    let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(("names no host".to_owned(), HINT));
    }
    let port = uri.port_u16().unwrap_or(if tls { 8883 } else { 1883 });
    Ok(Broker { host: host.to_owned(), port, tls })
}
