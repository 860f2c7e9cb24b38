//! Settings of the HTTP transport: the server's, the webhook client's, and a route's `to:` entry.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use http::{HeaderName, Method, Uri};
use schemars::JsonSchema;
use serde::Deserialize;

use super::codec::{Compat, Format, HEADER_BYTES_MAX, HEADERS_MAX, Mode};
use crate::config::values::{Duration, Secret, Size};
use crate::config::{ConfigError, Section};
use crate::core::template::{Spelling, Template};
use crate::runtime::tls::{ClientTls, ServerTls};

/// `connectors: {NAME: {http: {server: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port; default `127.0.0.1:8080`. Port 0 picks a free one.
    pub listen: String,
    /// Serves TLS with this certificate.
    pub tls: Option<ServerTls>,
    /// Listens beyond loopback although there is no TLS or no `access`; checked with the whole configuration.
    pub insecure: bool,
    /// Topic of an event published without `?topic=`; default `events/{type}`.
    pub topic: String,
    /// How attribute values stand in headers; default `spec`.
    pub compat: Compat,
    /// Origins whose web pages may call (`https://example.com`); default: pages of this very server only.
    pub allowed_origins: Vec<String>,
    /// Longest answerable wait for routes to deliver a published event; default 10s.
    pub ack_timeout: Duration,
    /// Time for a request's headers, which also ends idle connections; default 10s.
    pub header_timeout: Duration,
    /// Time for a request's body; default 30s.
    pub body_timeout: Duration,
    /// How often a quiet subscription is sent a sign of life; default 15s.
    pub heartbeat: Duration,
    /// Longest body, counted after decompression; default 1MiB.
    pub max_body: Size,
    /// Most bytes of bodies held at a time over all requests; default 64MiB.
    pub max_buffered: Size,
    /// Most events in one batch; default 1000.
    pub max_batch: usize,
    /// Most headers of a request, at most 64; default 64.
    pub max_headers: usize,
    /// Most bytes of a request's headers, at most 16KiB; default 16KiB.
    pub max_header_bytes: Size,
    /// Most connections at a time; default 1024.
    pub max_connections: usize,
    /// Most subscriptions (SSE, WebSocket) at a time; default 1024.
    pub max_subscribers: usize,
    /// Most records that wait for one subscriber; then its `policy` decides; default 1024.
    pub max_queued: usize,
    /// Whether sinks of push subscriptions may have private, loopback and link-local addresses; default false.
    pub allow_private_sinks: bool,
    /// Most push subscriptions made through `/v1/subscriptions`; default 256.
    pub max_subscriptions: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            tls: None,
            insecure: false,
            topic: "events/{type}".to_owned(),
            compat: Compat::default(),
            allowed_origins: Vec::new(),
            ack_timeout: seconds(10),
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            heartbeat: seconds(15),
            max_body: Size(1 << 20),
            max_buffered: Size(64 << 20),
            max_batch: 1000,
            max_headers: HEADERS_MAX,
            max_header_bytes: Size(HEADER_BYTES_MAX as u64),
            max_connections: 1024,
            max_subscribers: 1024,
            max_queued: 1024,
            allow_private_sinks: false,
            max_subscriptions: 256,
        }
    }
}

/// `connectors: {NAME: {http: {client: …}}}`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Where events are sent.
    pub url: Option<String>,
    /// Several addresses of one sink, used in turn; one that is away is passed over.
    pub urls: Vec<String>,
    /// Request method: `POST` (default), `PUT` or `PATCH`.
    pub method: String,
    /// How events are laid out; default `binary`.
    pub content_mode: Mode,
    /// Event format of structured and batch mode; default `json`.
    pub format: Format,
    /// How attribute values stand in headers; default `spec`.
    pub compat: Compat,
    /// Most events in one batch; default 100.
    pub max_batch: usize,
    /// Headers added to each request.
    pub headers: BTreeMap<String, HeaderText>,
    /// Token sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// Time for one request, from connecting to the answer; default 10s.
    pub timeout: Duration,
    /// Most requests under way to one address; default 64.
    pub concurrency: usize,
    /// Asks the sink for permission first (`OPTIONS`, CloudEvents webhook specification).
    pub handshake: bool,
    /// Who asks for permission, a DNS name; default: the bus's name.
    pub origin: Option<String>,
    /// Whether private, loopback and link-local addresses may be connected to; default true.
    pub allow_private: bool,
    /// Certificates.
    pub tls: ClientTls,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            url: None,
            urls: Vec::new(),
            method: "POST".to_owned(),
            content_mode: Mode::default(),
            format: Format::default(),
            compat: Compat::default(),
            max_batch: 100,
            headers: BTreeMap::new(),
            bearer: None,
            timeout: seconds(10),
            concurrency: 64,
            handshake: false,
            origin: None,
            allow_private: true,
            tls: ClientTls::default(),
        }
    }
}

/// A header's value: text, or a secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderText {
    /// As it is.
    Text(String),
    /// `{file: PATH}` or `{env: NAME}`
    Secret(Secret),
}

/// A route's `to: [{connector: NAME, …}]` for a webhook.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetConfig {
    /// Template appended to the connector's URL: `alerts/{reason}`.
    pub path: Option<String>,
    /// As the connector's.
    pub content_mode: Option<Mode>,
    /// As the connector's.
    pub format: Option<Format>,
    /// As the connector's.
    pub compat: Option<Compat>,
}

fn seconds(n: u64) -> Duration {
    Duration(StdDuration::from_secs(n))
}

impl ServerConfig {
    /// Reads and checks a server's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<(Self, Template), ConfigError> {
        let config: Self = section.parse()?;
        if config.listen.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            let reason = format!("{:?} is no address with a port", config.listen);
            return Err(section.error_with_hint("listen", reason, "write 127.0.0.1:8080"));
        }
        let topic = Template::parse(&config.topic, Spelling::Topic)
            .map_err(|reason| section.error("topic", reason))?;
        at_most(section, "max_headers", config.max_headers as u64, HEADERS_MAX as u64)?;
        at_most(section, "max_header_bytes", config.max_header_bytes.0, HEADER_BYTES_MAX as u64)?;
        at_most(section, "max_buffered", config.max_buffered.0, u64::from(u32::MAX))?;
        at_most(section, "max_body", config.max_body.0, config.max_buffered.0)?;
        for (name, value) in [
            ("max_batch", config.max_batch),
            ("max_connections", config.max_connections),
            ("max_subscribers", config.max_subscribers),
            ("max_queued", config.max_queued),
            ("max_subscriptions", config.max_subscriptions),
        ] {
            at_most(section, name, value as u64, 1_000_000)?;
        }
        if let Some(at) = config.allowed_origins.iter().position(|origin| !is_origin(origin)) {
            let path = format!("allowed_origins[{at}]");
            return Err(section.error_with_hint(&path, "is no origin", "write https://example.com"));
        }
        Ok((config, topic))
    }
}

impl ClientConfig {
    /// Reads and checks a client's settings.
    ///
    /// # Errors
    /// Names the field and what would be right.
    pub fn from_section(section: &Section) -> Result<(Self, Vec<Uri>), ConfigError> {
        let config: Self = section.parse()?;
        let given: Vec<(String, &String)> = config
            .url
            .iter()
            .map(|url| ("url".to_owned(), url))
            .chain(config.urls.iter().enumerate().map(|(at, url)| (format!("urls[{at}]"), url)))
            .collect();
        if given.is_empty() {
            return Err(section.error_with_hint("", "has no url", "write url: https://example.com/hook"));
        }
        let urls = given
            .iter()
            .map(|(path, url)| {
                sink_url(url).map_err(|reason| {
                    section.error_with_hint(path, reason, "write https://example.com/hook")
                })
            })
            .collect::<Result<_, _>>()?;
        if !matches!(config.method.as_str(), "POST" | "PUT" | "PATCH") {
            return Err(section.error_with_hint("method", "cannot carry events", "POST, PUT or PATCH"));
        }
        at_most(section, "concurrency", config.concurrency as u64, 65_536)?;
        at_most(section, "max_batch", config.max_batch as u64, 10_000)?;
        for name in config.headers.keys() {
            if let Err(reason) = header_name(name) {
                return Err(section.error(&format!("headers.{name}"), reason));
            }
        }
        if config.tls.cert.is_some() != config.tls.key.is_some() {
            return Err(section.error("tls", "needs both cert and key, or neither"));
        }
        Ok((config, urls))
    }

    /// The request method; checked when the settings were read.
    pub fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::POST)
    }
}

/// Reads the URL of a sink.
///
/// # Errors
/// Says what is wrong; credentials are never repeated.
pub fn sink_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err("is no http or https URL".to_owned());
    }
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("holds credentials: give them as bearer: or headers: {authorization: {env: NAME}}"
                .to_owned())
        }
        Some(authority) if !authority.host().is_empty() => Ok(url),
        _ => Err("has no host".to_owned()),
    }
}

/// A header that settings may add to requests: none that the connection or the event needs itself.
///
/// # Errors
/// Says why not.
pub fn header_name(name: &str) -> Result<HeaderName, String> {
    let header = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
        .map_err(|_| "is no header name".to_owned())?;
    match header.as_str() {
        "host" | "content-length" | "content-type" | "transfer-encoding" | "connection" | "upgrade"
        | "keep-alive" | "te" | "trailer" => Err("is set by meshbus itself".to_owned()),
        name if name.starts_with(super::codec::PREFIX) => {
            Err("is an event's attribute: set it with a filter".to_owned())
        }
        _ => Ok(header),
    }
}

fn is_origin(text: &str) -> bool {
    text.parse::<Uri>()
        .is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some() && uri.path().len() <= 1)
        && !text.ends_with('/')
}

fn at_most(section: &Section, field: &str, value: u64, bound: u64) -> Result<(), ConfigError> {
    if value == 0 || value > bound {
        return Err(section.error(field, format!("is {value}: it must be from 1 to {bound}")));
    }
    Ok(())
}
