//! Settings of the server role.

use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Duration, Size};
use crate::config::{ConfigError, Section};
use crate::runtime::tls::ServerTls;

/// `connectors: {NAME: {k8s: {server: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port; default `127.0.0.1:18001`. Port 0 picks a free one.
    pub listen: String,
    /// Serves TLS with this certificate; with a client authority, certificates name who calls.
    pub tls: Option<ServerTls>,
    /// Listens beyond loopback although there is no TLS or no `access`; checked with the whole configuration.
    pub insecure: bool,
    /// The key space served at `/`; each is served at `/scopes/NAME` as well. Default `local`.
    pub default_scope: String,
    /// Whether Secrets are shown at all, their values redacted unless this is true; default false.
    pub allow_secrets: bool,
    /// Time for a request's headers; default 10s.
    pub header_timeout: Duration,
    /// Time for a request's body; default 30s.
    pub body_timeout: Duration,
    /// Longest body; default 3MiB, as a Kubernetes API server has it.
    pub max_body: Size,
    /// Most bytes of bodies held at a time over all requests; default 64MiB.
    pub max_buffered: Size,
    /// Most headers of a request; default 64.
    pub max_headers: usize,
    /// Most bytes of a request's headers; default 32KiB.
    pub max_header_bytes: Size,
    /// Most connections at a time; default 20000.
    pub max_connections: usize,
    /// Most requests that are no watches at a time; beyond, they are answered 429. Default 400.
    pub max_in_flight: usize,
    /// Most watches at a time; default 20000.
    pub max_watches: usize,
    /// Most changes that wait for one watch; then it is closed, and its client resumes. Default 1024.
    pub max_queued: usize,
    /// How often a watch that asked for bookmarks gets one; default 60s.
    pub bookmark_interval: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let seconds = |n| Duration(StdDuration::from_secs(n));
        Self {
            listen: "127.0.0.1:18001".to_owned(),
            tls: None,
            insecure: false,
            default_scope: "local".to_owned(),
            allow_secrets: false,
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            max_body: Size(3 << 20),
            max_buffered: Size(64 << 20),
            max_headers: 64,
            max_header_bytes: Size(32 << 10),
            max_connections: 20_000,
            max_in_flight: 400,
            max_watches: 20_000,
            max_queued: 1024,
            bookmark_interval: seconds(60),
        }
    }
}

impl ServerConfig {
    /// Reads and checks a server's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<Self, ConfigError> {
        let config: Self = section.parse()?;
        for (field, value) in [
            ("max_connections", config.max_connections),
            ("max_in_flight", config.max_in_flight),
            ("max_watches", config.max_watches),
            ("max_queued", config.max_queued),
        ] {
            if value == 0 || value > 1_000_000 {
                return Err(section.error(field, format!("is {value}: it must be from 1 to 1000000")));
            }
        }
        if config.default_scope.is_empty() {
            return Err(section.error_with_hint(
                "default_scope",
                "is empty",
                "local, or a connector's name",
            ));
        }
        Ok(config)
    }
}
