//! Settings of the client role.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use http::Uri;
use meshbus_proto::google::{Kind as Json, ListValue, Struct, Value as JsonValue};
use meshbus_proto::xds::{Locality, Node, UserAgentVersion};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::config::values::{Duration, Secret, Size};
use crate::config::{ConfigError, Section};
use crate::core::Key;
use crate::runtime::tls::ClientTls;
use crate::schema::address::topic_of;
use crate::schema::kinds::{proto_name, type_url};
use crate::transport::xds::codec::demand::ALL;
use crate::transport::xds::codec::kinds::is_secret;
use crate::transport::xds::codec::named::names_itself;
use crate::transport::xds::codec::refer::referred_by;
use crate::transport::xds::codec::response::Variant;

/// The least that a response must be able to hold.
const RESPONSE_MIN: u64 = 64 << 10;

/// `connectors: {NAME: {xds: {client: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Servers that tell the same, `http://HOST:PORT` or `https://HOST:PORT`; one that is away, or answers nothing, is passed
    /// over.
    pub urls: Vec<String>,
    /// The variant of the protocol; default `delta`.
    pub mode: Mode,
    /// Who this client says it is.
    pub node: NodeConfig,
    /// What to take in, one entry for each type.
    pub subscribe: Vec<SubscribeConfig>,
    /// Token sent as `Authorization: Bearer …`; read again for each connection.
    pub token: Option<Secret>,
    /// Authorities to trust, and the certificate to show, at `https://` URLs.
    pub tls: ClientTls,
    /// The key space that the resources are put into; default the connector's name.
    pub scope: Option<String>,
    /// Whether secrets may be asked for: those of SDS, also where a followed listener or cluster refers to them, and
    /// Secrets of Kubernetes; default false.
    pub allow_secrets: bool,
    /// Time for connecting, TLS included; default 5s.
    pub connect_timeout: Duration,
    /// How often a server is asked for a sign of life; default 6m. Servers written in Go end connections that ask more
    /// often than each 5 minutes, unless they are told otherwise.
    pub keepalive: Duration,
    /// Longest response; default 64MiB. With a longer one the connection ends.
    pub max_response: Size,
    /// How often a server is asked who is connected to it, by istio's debug types, at least 1s; default never. Each is a
    /// `Connection` in the scope, as old as the interval where it answers.
    pub poll_debug: Option<Duration>,
}

/// A variant of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Incremental: changes only, and versions to go on with.
    #[default]
    Delta,
    /// State of the world.
    Sotw,
}

/// `envoy.config.core.v3.Node`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Its id; default the name of the bus.
    pub id: Option<String>,
    /// The cluster it belongs to.
    pub cluster: String,
    /// What else it says of itself.
    pub metadata: BTreeMap<String, Value>,
    /// Where it runs.
    pub locality: Option<LocalityConfig>,
}

/// `envoy.config.core.v3.Locality`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalityConfig {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Sub-zone.
    pub sub_zone: String,
}

/// One entry of `subscribe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeConfig {
    /// A message (`envoy.config.cluster.v3.Cluster`), its short name (`cds`), `group/version/Kind`, or a type URL.
    #[serde(rename = "type")]
    pub type_url: String,
    /// Names; `*` is all, `ns/*` all that begin so. Default `["*"]`.
    #[serde(default = "all")]
    pub names: Vec<String>,
    /// Asks for what the resources refer to as well: endpoints of clusters, routes and clusters of listeners, with
    /// `allow_secrets` the secrets of both; default false.
    #[serde(default)]
    pub follow: bool,
}

fn all() -> Vec<String> {
    vec![ALL.to_owned()]
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            mode: Mode::default(),
            node: NodeConfig::default(),
            subscribe: Vec::new(),
            token: None,
            tls: ClientTls::default(),
            scope: None,
            allow_secrets: false,
            connect_timeout: Duration(StdDuration::from_secs(5)),
            keepalive: Duration(StdDuration::from_mins(6)),
            max_response: Size(64 << 20),
            poll_debug: None,
        }
    }
}

impl ClientConfig {
    /// Reads and checks a client's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<Self, ConfigError> {
        let mut config: Self = section.parse()?;
        config.check_servers(section)?;
        if config.subscribe.is_empty() {
            let hint = "subscribe: [{type: envoy.config.cluster.v3.Cluster}]";
            return Err(section.error_with_hint("subscribe", "names no type", hint));
        }
        for at in 0..config.subscribe.len() {
            config.check_entry(section, at)?;
        }
        if config.connect_timeout.0.is_zero() {
            return Err(section.error_with_hint("connect_timeout", "is zero", "5s"));
        }
        if config.keepalive.0 < StdDuration::from_secs(10) {
            return Err(section.error_with_hint("keepalive", "must be 10s at least", "6m"));
        }
        if config.poll_debug.is_some_and(|interval| interval.0 < StdDuration::from_secs(1)) {
            return Err(section.error_with_hint("poll_debug", "must be 1s at least", "10s"));
        }
        if config.max_response.0 < RESPONSE_MIN || config.max_response.0 > 1 << 30 {
            return Err(section.error("max_response", "must be from 64KiB to 1GiB"));
        }
        Ok(config)
    }

    fn check_servers(&self, section: &Section) -> Result<(), ConfigError> {
        let hint = "http://127.0.0.1:15010 or https://HOST:15012";
        if self.urls.is_empty() {
            return Err(section.error_with_hint("urls", "names no server", hint));
        }
        for (at, url) in self.urls.iter().enumerate() {
            server_url(url)
                .map_err(|reason| section.error_with_hint(&format!("urls[{at}]"), reason, hint))?;
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return Err(section.error("tls", "cert and key go together"));
        }
        let plain = self.urls.iter().all(|url| url.starts_with("http://"));
        if plain && self.tls != ClientTls::default() {
            return Err(section.error_with_hint("tls", "goes with https URLs", hint));
        }
        Ok(())
    }

    fn check_entry(&mut self, section: &Section, at: usize) -> Result<(), ConfigError> {
        let (earlier, rest) = self.subscribe.split_at_mut(at);
        let Some(entry) = rest.first_mut() else { return Ok(()) };
        let path = format!("subscribe[{at}].type");
        let url = type_url(&entry.type_url).map_err(|reason| section.error(&path, reason))?.into_owned();
        // Each resource needs a topic: those of some of the bus's own types are of one bus only.
        let sample = Key::new("scope", url.clone(), "a/b");
        topic_of(&sample)
            .map_err(|reason| section.error(&path, format!("cannot be taken in: {reason}")))?;
        if is_secret(&url) && !self.allow_secrets {
            let hint = "allow_secrets: true";
            return Err(section.error_with_hint(&path, "holds secrets", hint));
        }
        if self.mode == Mode::Sotw && !names_itself(&url) && proto_name(&url).is_none() {
            let reason = "has no names in the state of the world";
            return Err(section.error_with_hint(&path, reason, "mode: delta"));
        }
        if earlier.iter().any(|other| other.type_url == url) {
            return Err(section.error_with_hint(
                &path,
                "has an entry already",
                "give all names in one entry",
            ));
        }
        if entry.names.iter().any(String::is_empty) {
            let path = format!("subscribe[{at}].names");
            return Err(section.error_with_hint(&path, "a name is empty", "[\"*\"] for all"));
        }
        if entry.follow && referred_by(&url).is_empty() {
            let path = format!("subscribe[{at}].follow");
            let reason = "leads nowhere: followed are references of listeners, routes and clusters";
            return Err(section.error(&path, reason));
        }
        entry.type_url = url;
        Ok(())
    }

    /// Addresses of the servers.
    pub fn servers(&self) -> Vec<Uri> {
        self.urls.iter().filter_map(|url| server_url(url).ok()).collect()
    }

    /// The variant of the protocol.
    pub fn variant(&self) -> Variant {
        match self.mode {
            Mode::Delta => Variant::Delta,
            Mode::Sotw => Variant::Sotw,
        }
    }

    /// Who this client says it is, on a bus of this name.
    pub fn node(&self, bus: &str) -> Node {
        let node = &self.node;
        let fields = node.metadata.iter().map(|(name, value)| (name.clone(), json(value))).collect();
        let locality = node.locality.clone().map(|locality| Locality {
            region: locality.region,
            zone: locality.zone,
            sub_zone: locality.sub_zone,
        });
        // With this a bus that tells much in parts, or is not filled yet itself, says when that was all.
        let mut features = vec!["meshbus.sync-marker".to_owned()];
        if self.mode == Mode::Sotw {
            // With this a server may tell names and versions in the state of the world, too.
            features.push("xds.config.resource-in-sotw".to_owned());
            // With this a bus does, so that what it told can be written under the condition that it still is so.
            features.push("meshbus.resource-versions".to_owned());
        }
        Node {
            id: node.id.clone().unwrap_or_else(|| bus.to_owned()),
            cluster: node.cluster.clone(),
            metadata: (!node.metadata.is_empty()).then_some(Struct { fields }),
            locality,
            user_agent_name: "meshbus".to_owned(),
            user_agent_version: Some(UserAgentVersion::Text(env!("CARGO_PKG_VERSION").to_owned())),
            client_features: features,
        }
    }
}

/// Reads the address of a server.
fn server_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err("is no http or https URL".to_owned());
    }
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("holds credentials: give them as token: {env: NAME}".to_owned())
        }
        Some(authority) if authority.host().is_empty() => Err("has no host".to_owned()),
        Some(_) if url.path().len() > 1 => Err("has a path, which services of gRPC have not".to_owned()),
        Some(_) => Ok(url),
        None => Err("has no host".to_owned()),
    }
}

/// JSON as protobuf has it.
fn json(value: &Value) -> JsonValue {
    let kind = match value {
        Value::Null => Json::Null(0),
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => Json::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => Json::String(text.clone()),
        Value::Array(values) => Json::List(ListValue { values: values.iter().map(json).collect() }),
        Value::Object(members) => {
            let fields = members.iter().map(|(name, value)| (name.clone(), json(value))).collect();
            Json::Struct(Struct { fields })
        }
    };
    JsonValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::xds::codec::kinds::CLUSTER;

    fn read(text: &str) -> Result<ClientConfig, String> {
        let section = Section::from_yaml("test.yaml", text).unwrap();
        ClientConfig::from_section(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_what_most_want() {
        let config = read("urls: [\"http://127.0.0.1:1\"]\nsubscribe: [{type: cds}]").unwrap();
        assert_eq!((config.variant(), config.max_response.0), (Variant::Delta, 64 << 20));
        assert_eq!(config.subscribe[0].type_url, CLUSTER);
        assert_eq!(config.subscribe[0].names, ["*"]);
        let node = config.node("edge-1");
        assert_eq!((&*node.id, node.metadata, node.client_features.len()), ("edge-1", None, 1));
    }

    #[test]
    fn a_node_is_told_as_it_is_given() {
        let config = read(
            "urls: [\"http://127.0.0.1:1\"]\nmode: sotw\nsubscribe: [{type: cds}]\nnode: {id: n1, cluster: c, \
             metadata: {NAMESPACE: shop, n: 1, list: [true, null]}, locality: {region: r}}",
        );
        let node = config.unwrap().node("edge-1");
        assert_eq!((&*node.id, &*node.cluster, node.metadata_text("NAMESPACE")), ("n1", "c", Some("shop")));
        assert_eq!(node.locality.unwrap().region, "r");
        let features = ["meshbus.sync-marker", "xds.config.resource-in-sotw", "meshbus.resource-versions"];
        assert_eq!(node.client_features, features);
        let fields = node.metadata.unwrap().fields;
        assert_eq!(fields["n"].kind, Some(Json::Number(1.0)));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_would_be_right() {
        let server = "urls: [\"http://127.0.0.1:1\"]\n";
        let cds = "subscribe: [{type: cds}]\n";
        for (text, expected) in [
            (cds.to_owned(), "names no server"),
            (server.to_owned(), "names no type"),
            (format!("urls: [\"xds://a\"]\n{cds}"), "is no http or https URL"),
            (format!("urls: [\"http://a:b@c\"]\n{cds}"), "holds credentials"),
            (format!("urls: [\"http://a/b\"]\n{cds}"), "has a path"),
            (format!("{server}{cds}tls: {{ca: a.pem}}"), "goes with https URLs"),
            (format!("urls: [\"https://a\"]\n{cds}tls: {{cert: a.pem}}"), "cert and key go together"),
            (format!("{server}{cds}keepalive: 1s"), "10s at least"),
            (format!("{server}{cds}connect_timeout: 0s"), "is zero"),
            (format!("{server}{cds}poll_debug: 999ms"), "1s at least"),
            (format!("{server}{cds}max_response: 1KiB"), "from 64KiB"),
            (format!("{server}{cds}token: abc"), "a secret does not stand in the file"),
            (format!("{server}subscribe: [{{type: thing}}]"), "is no type"),
            (format!("{server}subscribe: [{{type: connections}}]"), "cannot be taken in"),
            (format!("{server}subscribe: [{{type: sds}}]"), "holds secrets"),
            (format!("{server}subscribe: [{{type: v1/Secret}}]"), "holds secrets"),
            (
                format!("{server}mode: sotw\nsubscribe: [{{type: values}}]"),
                "no names in the state of the world",
            ),
            (
                format!("{server}subscribe: [{{type: cds}}, {{type: cds, names: [a]}}]"),
                "has an entry already",
            ),
            (format!("{server}subscribe: [{{type: cds, names: [\"\"]}}]"), "a name is empty"),
            (format!("{server}subscribe: [{{type: eds, follow: true}}]"), "leads nowhere"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let secrets = format!("{server}allow_secrets: true\nsubscribe: [{{type: sds, names: [a]}}]");
        assert!(read(&secrets).is_ok(), "allowed");
    }
}
