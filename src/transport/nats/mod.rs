//! NATS: core publish and subscribe, and JetStream.
//!
//! Specifications: the [client protocol](https://docs.nats.io/reference/reference-protocols/nats-protocol),
//! JetStream publish and consume as nats-server 2.9 and later have them, and the CloudEvents
//! [NATS binding](https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md)
//! (1.0.3 draft). The client library is async-nats.
//!
//! | NATS | envelope |
//! |---|---|
//! | subject `a.b//c` | topic `a/b.c`, see [`crate::core::spelling`] |
//! | headers `ce-id`, `ce-source`, … (any case, percent-encoded) | attributes; the payload is the data |
//! | `content-type: application/cloudevents+json` or `+protobuf` | the payload is the whole event |
//! | no content type, payload a JSON event | the same |
//! | anything else | type `dev.meshbus.message.v1`; headers with legal names become extensions |
//! | – of a stream | id `STREAM/SEQUENCE`, source `//nats/CLUSTER-OR-HOST/STREAM`, time when it was stored |
//! | – of core NATS | a new id, source `//nats/CONNECTOR`: a redelivery is a new event |
//! | `Nats-Msg-Id` | hash of source, id, subject and change, on publishes to a stream |
//! | `Nats-Expected-Stream` | the connector's stream, on publishes to it |
//! | `Mb-Origin`, `Mb-Hops` | `mborigin`, `mbhops` in content mode `data`, where no attribute is carried |
//! | reply subject | dropped: a core message is never answered |
//!
//! | a delivery to | is answered when |
//! |---|---|
//! | a stream | its acknowledgement is there; an error about the message is Rejected, one about the server Undelivered |
//! | core NATS | the server has read it, shown by an echo after each batch; without echoes: when it has left, and what the server then forbids is only logged |
//!
//! | a message of | is acknowledged |
//! |---|---|
//! | a consumer | when every route has it; refused for good: `+TERM`; given up by the bus: `-NAK` with a delay; meanwhile `+WPI` |
//! | core NATS | never |
//!
//! What cannot be read goes to topic `dead/CONNECTOR` with attribute `mbreason`. What can be read and the bus
//! does not take (more than `max_event`, state of a scope that is not the connector's) never became an event and
//! has no dead letter: it is ended with `+TERM`, logged with stream, sequence and subject, and counted as malformed.
//!
//! With `ordered`, a consumer that is connected to again, after a crash or a lost connection, may stand still for
//! `ack_wait` and a second: the server sends what was under way again only then and in no order, so all that comes
//! waits until nothing is missing. Where the server does not notice the loss, it may send to the lost connection for
//! 30 seconds more, and the wait is counted from there. The order of a key is kept, except for a message that the
//! server does not send again in this time, or that the bus gave up and comes again later. It takes a consumer of
//! this bus alone, whose `max_ack_pending` on the server is not above the one here.
//!
//! Not supported: the server role, key-value and object stores, push and ordered consumers, request and reply,
//! batches of events in one message (the binding has none), WebSocket connections. A message whose headers are
//! no UTF-8 makes async-nats drop the connection; a consumer passes it after `ack_wait`.

use crate::config::{ConfigError, Section};
use crate::core::delivery::Target;

use super::{Connector, Transport, TransportSchema};

mod client;
pub mod codec;
pub mod config;
mod server;

pub use client::Client;

use config::{ClientConfig, TargetConfig};

/// The transport.
#[derive(Debug)]
pub struct Nats;

impl Transport for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["nats", "tls"]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema {
            client: Some(schemars::schema_for!(ClientConfig)),
            server: None,
            target: Some(schemars::schema_for!(TargetConfig)),
        }
    }

    fn client(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(Client::new(ClientConfig::parse(section)?)))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Err(server::unavailable(section))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        let client = ClientConfig::parse(connector)?;
        let (target, address) = TargetConfig::parse(&client, section)?;
        let jetstream = target.jetstream.unwrap_or(client.jetstream.is_some());
        Ok(Target {
            address,
            // A stream may refuse one message and take the next; core NATS takes all or loses the connection.
            pipelined: !jetstream,
            guarantee: client::egress(&client, jetstream),
            options: client::options(target.content_mode, jetstream),
        })
    }
}
