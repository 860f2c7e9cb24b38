//! A transport from outside the crate: `CloudEvents` in the JSON format over TCP, each after its length, each
//! answered. It uses the public API alone and is the shortest way to see what a transport is made of.
//!
//! | on the wire | in the envelope |
//! |---|---|
//! | frame: length (32 bits, big-endian), then so many bytes | – |
//! | from the client: one event in the JSON format | attributes and data |
//! | from the server, one for each event, in their order: `"delivered"` | every route has it |
//! | `{"rejected": REASON}` | refused for good: sending it again changes nothing |
//! | `{"undelivered": REASON}` | not now: sending it again may |
//! | – | topic: the server's `topic` template |
//!
//! The five files are those every transport has: this one (what it is called and how it is configured),
//! `config` (settings), `codec` (bytes to envelopes and back, without I/O), `client` and `server` (the roles).

use std::sync::Arc;

use meshbus::config::{ConfigError, Section};
use meshbus::core::delivery::{Assurance, Guarantee, Target};
use meshbus::transport::{Connector, Transport, TransportSchema};

use self::client::Client;
use self::config::{ClientConfig, ServerConfig, TargetConfig};
use self::server::Server;

mod client;
mod codec;
mod config;
mod server;

/// The transport.
#[derive(Debug)]
pub(crate) struct Pipe;

impl Transport for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["pipe"]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema {
            client: Some(schemars::schema_for!(ClientConfig)),
            server: Some(schemars::schema_for!(ServerConfig)),
            target: Some(schemars::schema_for!(TargetConfig)),
        }
    }

    fn client(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(Client::new(ClientConfig::from_section(section)?)))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        let (config, topic) = ServerConfig::from_section(section)?;
        Ok(Box::new(Server::new(config, topic)))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        if connector.get("address").is_none() {
            let hint = "send to a pipe client: {pipe: {client: {address: HOST:PORT}}}";
            return Err(section.error_with_hint("", "a pipe server is no sink", hint));
        }
        let TargetConfig {} = section.parse()?;
        Ok(Target {
            address: None,
            // One event may be refused and the next one taken: a key's next waits for the answer to the last.
            pipelined: false,
            guarantee: guarantee("sent again until it is answered"),
            options: Arc::new(()),
        })
    }
}

/// What both roles hold to: nothing is answered before every route has it, and an event keeps its id.
fn guarantee(because: &'static str) -> Guarantee {
    Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: because.into() }
}
