//! HTTP: a server that takes events in, shows state and lets clients subscribe; a client that sends to webhooks.
//!
//! Follows CloudEvents 1.0.2: the [HTTP binding], the [webhook] and [WebSocket] specifications, and the
//! [Subscriptions API] (draft). Problems are [RFC 9457], subscriptions [server-sent events].
//!
//! | on the wire | in the envelope |
//! |---|---|
//! | `ce-NAME: VALUE`, percent-encoded | the attribute `NAME` |
//! | `Content-Type` (binary and data mode) | `datacontenttype` |
//! | body (binary and data mode) | `data`, byte for byte |
//! | `application/cloudevents+json`, `…+protobuf` | all of one event |
//! | `application/cloudevents-batch+json`, `…+protobuf` | several events |
//! | a body with neither | an event `dev.meshbus.message.v1` with a new `id` |
//! | `?topic=`, else the listener's `topic` template | `topic` |
//! | `PUT /v1/state?scope=&type=&name=` | `change` = Put of that key, `data` = the body |
//! | – of a `type.googleapis.com/…`, body in JSON | `data` = the protobuf message; read as JSON with `Accept: application/json` |
//! | `DELETE /v1/state?…` | `change` = Delete of that key |
//! | `mb-seq`, `ETag`, SSE `id`, extension `mbseq` | the position in the log |
//! | extension `mbtopic` of what readers are sent; taken off what is published | `topic` |
//! | `mb-version` | the version of a key |
//! | `mb-ttl: 30s` of a `PUT`, extension `mbttl` (milliseconds) | how long the value holds for readers that have times to live (XDS) |
//!
//! A publication is answered when every route has it:
//!
//! | receipt | server answers | sink answers | delivery |
//! |---|---|---|---|
//! | delivered, filtered | 202 with `mb-seq` | 2xx | delivered |
//! | rejected | 400 403 413 415 422 | 3xx (never followed), 4xx, 5xx | rejected, with status and start of the body |
//! | undelivered, late | 503 with `Retry-After` | 429 and 503 (`Retry-After` is kept), 408, no connection, no answer | undelivered |
//!
//! Not supported: events in trailers; Avro and XML formats; `WebHook-Request-Callback` (a sink must answer the
//! handshake at once); WebSocket over HTTP/2; publishing over WebSocket; `policy=block` for remote subscribers.
//!
//! [HTTP binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
//! [webhook]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md
//! [WebSocket]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/websockets-protocol-binding.md
//! [Subscriptions API]: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
//! [server-sent events]: https://html.spec.whatwg.org/multipage/server-sent-events.html

use std::sync::Arc;

use self::client::{Client, Form};
use self::config::{ClientConfig, ServerConfig, TargetConfig};
use self::server::Server;
use super::{Connector, Transport, TransportSchema};
use crate::config::{ConfigError, Section};
use crate::core::delivery::{Assurance, Guarantee, Target};
use crate::core::template::{Spelling, Template};

pub mod address;
pub mod client;
pub mod codec;
pub mod config;
pub mod server;
#[cfg(test)]
mod testing;

/// The transport.
#[derive(Debug)]
pub struct Http;

impl Transport for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["http", "https"]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema {
            client: Some(schemars::schema_for!(ClientConfig)),
            server: Some(schemars::schema_for!(ServerConfig)),
            target: Some(schemars::schema_for!(TargetConfig)),
        }
    }

    fn client(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        let (config, urls) = ClientConfig::from_section(section)?;
        Ok(Box::new(Client::new(config, urls)))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        let (config, topic) = ServerConfig::from_section(section)?;
        Ok(Box::new(Server::new(config, topic)))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        // A server's settings and a client's share no required field: the one with a URL is the client.
        if connector.get("url").is_none() && connector.get("urls").is_none() {
            let hint = "send to an http client, or to a topic of the bus: {bus: alerts}";
            return Err(section.error_with_hint("", "an HTTP server is no sink", hint));
        }
        let (client, _) = ClientConfig::from_section(connector)?;
        let target: TargetConfig = section.parse()?;
        let path = target.path.as_deref().map(|path| Template::parse(path, Spelling::Url)).transpose();
        let form = Form {
            mode: target.content_mode.unwrap_or(client.content_mode),
            format: target.format.unwrap_or(client.format),
            compat: target.compat.unwrap_or(client.compat),
        };
        Ok(Target {
            address: path.map_err(|reason| section.error("path", reason))?,
            pipelined: false,
            guarantee: Guarantee {
                assurance: Assurance::AtLeastOnce,
                identity: form.mode != codec::Mode::Data,
                because: "webhook: sent again until it answers 2xx".into(),
            },
            options: Arc::new(form),
        })
    }
}
