//! Services and `EndpointSlices`, with the fields that are read of them. Fields that are null are as absent.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// The label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The longest label of a domain.
const LABEL_MAX: usize = 63;

/// A Service that something can be made of.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Its ports of TCP, each number once, in order.
    pub(super) ports: Vec<ServicePort>,
    /// The kind of address that comes first where endpoints have both.
    pub(super) family: Option<String>,
}

#[derive(Deserialize)]
struct ServiceObject {
    #[serde(default, deserialize_with = "or_default")]
    spec: ServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: String,
    #[serde(deserialize_with = "or_default")]
    external_name: String,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<ServicePort>,
    #[serde(deserialize_with = "or_default")]
    ip_families: Vec<String>,
}

/// A port under which a Service is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServicePort {
    /// Ties it to the ports of slices; empty where it is the only one.
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    protocol: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) port: u16,
    #[serde(deserialize_with = "or_default")]
    app_protocol: String,
}

/// Some endpoints of a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    #[serde(deserialize_with = "or_default")]
    pub(super) address_type: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: Vec<SlicePort>,
}

/// A port of all endpoints of a slice: the target, a named one as the number that its pods have for it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlicePort {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    protocol: String,
    /// `None` for any: whatever the Service says.
    pub(super) port: Option<u16>,
}

/// An endpoint: a pod, mostly.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    #[serde(deserialize_with = "or_default")]
    pub(super) addresses: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    conditions: Conditions,
    #[serde(deserialize_with = "or_default")]
    pub(super) zone: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

impl Service {
    /// The Service of this `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// Says why nothing can be made of it.
    pub(super) fn read(group: &str, data: &[u8]) -> Result<Self, String> {
        let (namespace, name) = group.split_once('/').unwrap_or_default();
        // Names are put together with dots: with one inside, two Services might have one name.
        if !is_label(namespace) || !is_label(name) {
            return Err("its name is no label of a domain: nothing can be reached by it".to_owned());
        }
        let object: ServiceObject =
            serde_json::from_slice(data).map_err(|error| format!("is not read: {error}"))?;
        let spec = object.spec;
        if spec.kind == "ExternalName" {
            return Err(format!(
                "is an ExternalName of {:?}, which has no endpoints: use that name itself",
                spec.external_name
            ));
        }
        // The API has a number once for a protocol; of two the first counts.
        let mut ports: BTreeMap<u16, ServicePort> = BTreeMap::new();
        for port in spec.ports.into_iter().filter(|port| is_tcp(&port.protocol) && port.port != 0) {
            ports.entry(port.port).or_insert(port);
        }
        let family = spec.ip_families.into_iter().next();
        let ports = ports.into_values().collect();
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), ports, family })
    }
}

impl ServicePort {
    /// Whether its pods speak HTTP/2 from the first byte.
    pub(super) fn is_http2(&self) -> bool {
        const HTTP2: [&str; 4] = ["grpc", "http2", "h2c", "kubernetes.io/h2c"];
        if !self.app_protocol.is_empty() {
            return HTTP2.contains(&self.app_protocol.to_ascii_lowercase().as_str());
        }
        let word = self.name.split('-').next().unwrap_or_default();
        HTTP2.contains(&word)
    }
}

impl EndpointSlice {
    /// # Errors
    /// Says why it is not read.
    pub(super) fn read(data: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(data).map_err(|error| format!("an EndpointSlice of it is not read: {error}"))
    }

    /// The port of its endpoints for a Service's.
    pub(super) fn target(&self, port: &ServicePort) -> Option<u16> {
        let target =
            self.ports.iter().find(|target| target.name == port.name && is_tcp(&target.protocol))?;
        Some(target.port.unwrap_or(port.port)).filter(|port| *port != 0)
    }
}

impl Endpoint {
    /// Whether it takes new connections. What says nothing does.
    pub(super) fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Whether it still answers although it is about to end: better than nobody.
    pub(super) fn is_last_resort(&self) -> bool {
        self.conditions.serving == Some(true) && self.conditions.terminating == Some(true)
    }
}

/// The Service that a slice belongs to.
pub(super) fn service_of(slice: &[u8]) -> Option<String> {
    let slice: Labelled<'_> = serde_json::from_slice(slice).ok()?;
    let labels = slice.metadata.labels?;
    labels.get(SERVICE_NAME).map(|name| name.clone().into_owned()).filter(|name| !name.is_empty())
}

/// Whether it may be a label of a domain.
pub(super) fn is_label(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.len() <= LABEL_MAX && text.chars().all(good)
}

fn is_tcp(protocol: &str) -> bool {
    protocol.is_empty() || protocol == "TCP"
}

/// A null as nothing said.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
