//! `k8s_services_to_xds`: the Services of a cluster as what gRPC clients and Envoys ask a control plane for.
//!
//! ```yaml
//! derive:
//!   mesh:                             # the scope of what is made
//!     k8s_services_to_xds: {from: cluster}
//! ```
//!
//! | of each port of a Service | name |
//! |---|---|
//! | `Listener` for gRPC (`api_listener`), its routes by RDS | `SERVICE.NAMESPACE:PORT`, the same with `.svc`, and with `.svc.DOMAIN` |
//! | `RouteConfiguration`: everything to the cluster | `SERVICE.NAMESPACE:PORT` |
//! | `Cluster`: EDS, round robin; HTTP/2 where `appProtocol` or the port's name say so | the same |
//! | `ClusterLoadAssignment`: the ready endpoints of its `EndpointSlices`, by zone | the same |
//!
//! So a channel with the target `xds:///SERVICE.NAMESPACE:PORT` reaches the pods, and an Envoy can route to the clusters.
//! All that says where endpoints are is in `EndpointSlices`: named target ports, headless Services and those without
//! a selector need nothing of their own. Ports of UDP and SCTP are left out; a Service of type `ExternalName` has no
//! endpoints, and is refused. Pure.

use std::sync::Arc;

use bytestring::ByteString;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;

use self::objects::{EndpointSlice, Service};
use super::Kind;
use crate::config::{ConfigError, Section};
use crate::core::derive::{Derivation, Derived};
use crate::core::{Envelope, Record};

mod endpoints;
mod objects;
mod resources;
#[cfg(test)]
mod tests;

const SERVICE: &str = "core/v1/Service";
const ENDPOINT_SLICE: &str = "discovery.k8s.io/v1/EndpointSlice";
/// The longest domain there may be, as in the DNS.
const DOMAIN_MAX: usize = 200;

/// `k8s_services_to_xds`.
#[derive(Debug)]
pub struct Services;

/// Its settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The scope with the cluster's Services and `EndpointSlices`: a connector's name, or `local`.
    from: String,
    /// The cluster's own domain, with which Services are also named in full; default `cluster.local`.
    #[serde(default = "cluster_local")]
    cluster_domain: String,
}

fn cluster_local() -> String {
    "cluster.local".to_owned()
}

/// A [`Derivation`] with its settings.
#[derive(Debug)]
struct ServicesToXds {
    from: ByteString,
    domain: String,
}

impl Kind for Services {
    fn name(&self) -> &'static str {
        "k8s_services_to_xds"
    }

    fn schema(&self) -> Schema {
        schema_for!(Settings)
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Derivation>, ConfigError> {
        let settings: Settings = section.parse()?;
        let domain = &settings.cluster_domain;
        if domain.len() > DOMAIN_MAX || !domain.split('.').all(objects::is_label) {
            let reason = format!("{domain:?} is no domain");
            return Err(section.error_with_hint("cluster_domain", reason, "cluster.local"));
        }
        Ok(Arc::new(ServicesToXds { from: settings.from.into(), domain: settings.cluster_domain }))
    }
}

impl Derivation for ServicesToXds {
    fn kind(&self) -> &'static str {
        Services.name()
    }

    fn source(&self) -> &ByteString {
        &self.from
    }

    fn types(&self) -> &'static [&'static str] {
        &[SERVICE, ENDPOINT_SLICE]
    }

    /// Groups are Services, by `NAMESPACE/NAME`.
    fn group(&self, envelope: &Envelope) -> Option<ByteString> {
        let key = envelope.change.key()?;
        if &*key.type_url == SERVICE {
            return Some(key.name.clone());
        }
        let (namespace, _) = key.name.split_once('/')?;
        let service = objects::service_of(&envelope.data)?;
        Some(format!("{namespace}/{service}").into())
    }

    fn derive(&self, group: &str, inputs: &[Arc<Record>]) -> Derived {
        let of = |type_url: &'static str| {
            let data = |record: &Arc<Record>| record.envelope.data.clone();
            let is = move |record: &&Arc<Record>| {
                record.envelope.change.key().is_some_and(|key| &*key.type_url == type_url)
            };
            inputs.iter().filter(is).map(data)
        };
        // Slices may be there before their Service, and after it.
        let Some(service) = of(SERVICE).next() else { return Derived::default() };
        let mut refused = Vec::new();
        let service = match Service::read(group, &service) {
            Ok(service) => service,
            Err(reason) => return refuse(group, reason),
        };
        let slices: Vec<EndpointSlice> = of(ENDPOINT_SLICE)
            .filter_map(|slice| {
                EndpointSlice::read(&slice).map_err(|reason| refused.push(told(group, &reason))).ok()
            })
            .collect();
        let resources = resources::of_service(&service, &slices, &self.domain);
        Derived { resources, refused }
    }
}

fn refuse(group: &str, reason: String) -> Derived {
    Derived { resources: Vec::new(), refused: vec![told(group, &reason)] }
}

fn told(group: &str, reason: &str) -> String {
    format!("Service {group}: {reason}")
}
