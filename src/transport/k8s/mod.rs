//! Kubernetes: a client that brings a cluster's objects and Events onto the bus and writes back, and a server that
//! shows the bus as a Kubernetes API.
//!
//! Follows the [API concepts] and [API conventions] as release 1.36 has them; clients from kubectl 1.20 on work.
//!
//! | on the wire | in the envelope |
//! |---|---|
//! | `apiVersion`, `kind` | the key's type `<group or core>/<version>/<Kind>` |
//! | `metadata.namespace`, `metadata.name` | the key's name `<namespace>/<name>` |
//! | `metadata.resourceVersion` of a cluster | the key's version |
//! | `metadata.resourceVersion` that is served | the sequence of the key's last change |
//! | ADDED, MODIFIED | `change` = Put |
//! | DELETED | `change` = Delete with the last data |
//! | an Event, core or `events.k8s.io` | Put of `core/v1/Event`; its count as `eventcount`, what is new of it as `eventdelta` |
//! | the object | `data`, as JSON |
//!
//! The deltas of an Event sum up to its count. They tell more only where a killed bus finds that the cluster has
//! forgotten its position: what it had delivered and not kept yet is then in the delta of the next, too.
//!
//! [API concepts]: https://kubernetes.io/docs/reference/using-api/api-concepts/
//! [API conventions]: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md

use super::{Connector, Transport, TransportSchema};
use crate::config::{ConfigError, Section};
use crate::core::delivery::Target;

pub(crate) mod client;
pub mod codec;
pub mod config;
mod server;

pub use client::Client;
pub use server::Server;

use config::{ClientConfig, ServerConfig, TargetConfig};

/// The transport.
#[derive(Debug)]
pub struct K8s;

impl Transport for K8s {
    fn name(&self) -> &'static str {
        "k8s"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["k8s", "k8s+https"]
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
        Ok(Box::new(Server::new(ServerConfig::from_section(section)?)))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        if connector.get("listen").is_some() {
            let hint = "send to a k8s client, or put the key: {bus: …}";
            return Err(section.error_with_hint("", "a Kubernetes API server is no sink", hint));
        }
        TargetConfig::target(section)
    }
}
