//! Settings of the server role.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use meshbus_proto::xds::Node;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Duration, Size};
use crate::config::{ConfigError, Section};
use crate::runtime::tls::ServerTls;

/// `connectors: {NAME: {xds: {server: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port; default `127.0.0.1:18000`. Port 0 picks a free one.
    pub listen: String,
    /// Serves TLS with this certificate; with a client authority, certificates name who calls.
    pub tls: Option<ServerTls>,
    /// Listens beyond loopback although there is no TLS or no `access`; checked with the whole configuration.
    pub insecure: bool,
    /// The key space that nodes see which no rule of `nodes` is for; default `local`.
    pub default_scope: String,
    /// Which nodes see which key space; the first rule that matches counts.
    pub nodes: Vec<NodeRule>,
    /// Whether secrets are served: those of SDS, and Secrets of Kubernetes; default false.
    pub allow_secrets: bool,
    /// Time for a call's headers; default 10s.
    pub header_timeout: Duration,
    /// Longest request; default 64MiB: clients that reconnect send the versions of all they have.
    pub max_request: Size,
    /// Most bytes of requests held at a time over all streams, while they come; default 256MiB.
    pub max_buffered: Size,
    /// Longest response where it can be cut; default 4MiB, which is what gRPC's clients take.
    pub max_response: Size,
    /// Most names one stream may ask for; default 1000000.
    pub max_names: usize,
    /// Most changes that wait for one stream; beyond, it looks up what it missed. Default 4096.
    pub max_queued: usize,
    /// Most streams at a time; default 100000.
    pub max_streams: usize,
    /// Most connections at a time; default 20000.
    pub max_connections: usize,
    /// Least time between two publications of who is connected; what comes in between is told together, of each
    /// connection the last. Default 100ms.
    pub connection_interval: Duration,
    /// How often it is told at most what a connection has accepted beyond the first of each type; default 10s.
    pub status_interval: Duration,
}

/// A rule of `nodes`: all that it gives must be so. A text that ends with `*` is what the value begins with.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeRule {
    /// The node's id.
    pub id: Option<String>,
    /// The node's cluster.
    pub cluster: Option<String>,
    /// Texts of the node's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The name that its token or certificate proves.
    pub principal: Option<String>,
    /// The key space it sees.
    pub scope: String,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:18000".to_owned(),
            tls: None,
            insecure: false,
            default_scope: "local".to_owned(),
            nodes: Vec::new(),
            allow_secrets: false,
            header_timeout: Duration(StdDuration::from_secs(10)),
            max_request: Size(64 << 20),
            max_buffered: Size(256 << 20),
            max_response: Size(4 << 20),
            max_names: 1_000_000,
            max_queued: 4096,
            max_streams: 100_000,
            max_connections: 20_000,
            connection_interval: Duration::from_millis(100),
            status_interval: Duration::from_secs(10),
        }
    }
}

/// The least that a message must be able to hold.
const MESSAGE_MIN: u64 = 64 << 10;
/// What a response has beside its resources.
const RESPONSE_HEAD: usize = 32 << 10;

impl ServerConfig {
    /// Reads and checks a server's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<Self, ConfigError> {
        let config: Self = section.parse()?;
        for (field, value) in [
            ("max_connections", config.max_connections),
            ("max_streams", config.max_streams),
            ("max_names", config.max_names),
            ("max_queued", config.max_queued),
        ] {
            if value == 0 || value > 10_000_000 {
                return Err(section.error(field, format!("is {value}: it must be from 1 to 10000000")));
            }
        }
        for (field, size) in [("max_response", config.max_response), ("max_request", config.max_request)] {
            if size.0 < MESSAGE_MIN || size.0 > 1 << 30 {
                return Err(section.error(field, "must be from 64KiB to 1GiB"));
            }
        }
        if config.default_scope.is_empty() {
            return Err(section.error_with_hint(
                "default_scope",
                "is empty",
                "local, or a connector's name",
            ));
        }
        for (index, rule) in config.nodes.iter().enumerate() {
            if rule.scope.is_empty() {
                let field = format!("nodes[{index}].scope");
                return Err(section.error_with_hint(&field, "is missing", "local, or a connector's name"));
            }
        }
        Ok(config)
    }

    /// Most bytes of the resources in one response.
    pub fn response_max(&self) -> usize {
        (self.max_response.0 as usize).saturating_sub(RESPONSE_HEAD)
    }

    /// The key space a node sees.
    pub fn scope_of(&self, node: &Node, principal: Option<&str>) -> Option<&str> {
        let rule = self.nodes.iter().find(|rule| rule.matches(node, principal));
        Some(rule.map_or(self.default_scope.as_str(), |rule| &rule.scope))
    }
}

impl NodeRule {
    fn matches(&self, node: &Node, principal: Option<&str>) -> bool {
        let holds = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| value.is_some_and(|value| is_like(wanted, value)))
        };
        holds(&self.id, Some(&node.id))
            && holds(&self.cluster, Some(&node.cluster))
            && holds(&self.principal, principal)
            && self
                .metadata
                .iter()
                .all(|(name, wanted)| node.metadata_text(name).is_some_and(|value| is_like(wanted, value)))
    }
}

fn is_like(wanted: &str, value: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_says_what_a_node_sees() {
        let rule =
            |id: Option<&str>, cluster: Option<&str>, principal: Option<&str>, scope: &str| NodeRule {
                id: id.map(Into::into),
                cluster: cluster.map(Into::into),
                principal: principal.map(Into::into),
                scope: scope.into(),
                ..NodeRule::default()
            };
        let config = ServerConfig {
            nodes: vec![
                rule(Some("edge-*"), None, None, "edge"),
                rule(None, Some("east"), Some("ci"), "east"),
            ],
            ..ServerConfig::default()
        };
        let node =
            |id: &str, cluster: &str| Node { id: id.into(), cluster: cluster.into(), ..Node::default() };
        assert_eq!(config.scope_of(&node("edge-1", "east"), Some("ci")), Some("edge"));
        assert_eq!(config.scope_of(&node("n", "east"), Some("ci")), Some("east"));
        assert_eq!(config.scope_of(&node("n", "east"), None), Some("local"));
    }
}
