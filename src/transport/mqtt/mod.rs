//! MQTT 3.1.1 and 5.0: a client of one broker, with CloudEvents in binary and structured mode and retained
//! messages as state.
//!
//! | MQTT | meshbus |
//! |---|---|
//! | PUBLISH | an event at the topic |
//! | retained PUBLISH | state: key (connector's scope, `meshbus.dev/v1/Value`, topic) |
//! | PUBACK, PUBREC | the event is delivered by every route that took it, or its dead letter has it |
//! | no acknowledgement | neither yet: the broker sends it again to the next connection of the session |
//! | No Local | our own publications do not come back; 3.1.1 has none, there `mborigin` stops the loop |
//! | empty retained PUBLISH | deletion |
//!
//! MQTT 5 lets the broker refuse one publication and take the next, so with QoS 1 and 2 a key's next event is
//! sent when the last is acknowledged; other keys go on. With QoS 0 and 3.1.1 nothing can be refused, and a key
//! has as many under way as fit.
//!
//! With 3.1.1 only what the broker sends at SUBSCRIBE has the retain flag: live changes of retained messages
//! come as events.

use super::{Connector, Transport, TransportSchema};
use crate::config::{ConfigError, Section};
use crate::core::delivery::Target;

mod client;
mod codec;
mod config;
mod frame;
mod server;

pub use config::{
    ClientSettings, Publication, Qos, RetainHandling, Retained, Subscription, TargetSettings, TlsSettings,
    Version, Will,
};

/// The transport.
#[derive(Debug)]
pub struct Mqtt;

impl Transport for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["mqtt", "mqtts"]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema {
            client: Some(schemars::schema_for!(ClientSettings)),
            server: None,
            target: Some(schemars::schema_for!(TargetSettings)),
        }
    }

    fn client(&self, name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        let plan = ClientSettings::plan(section)?;
        let scope = plan.settings.scope.as_deref().unwrap_or(name);
        let origin =
            codec::Origin::new(name, scope.into()).map_err(|e| section.error("", e.to_string()))?;
        Ok(Box::new(client::Client::new(plan, origin)))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Err(server::unavailable(section))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        config::target(connector, section)
    }
}
