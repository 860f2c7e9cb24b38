//! The discovery services: which method of which service is which variant, of which type.

use super::kinds::{
    CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, RUNTIME, SCOPED_ROUTES, SECRET, VIRTUAL_HOST,
};
use super::response::Variant;

/// What a path calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Discovery.
    Discovery(Method),
    /// Writes; `once`: one request and one response.
    Update {
        /// Whether it is not a stream.
        once: bool,
    },
    /// How clients stand.
    ClientStatus {
        /// Whether it is not a stream.
        once: bool,
    },
}

/// A method of a discovery service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Which variant its messages are of.
    pub variant: Variant,
    /// The type, where the service has but one: requests may leave it out.
    pub type_url: Option<&'static str>,
    /// Whether there is one request and one response: `Fetch` of the services of one type.
    pub once: bool,
}

/// Service, what follows `Stream`, `Delta` and `Fetch` in the names of its methods, and type.
const SERVICES: [(&str, &str, Option<&str>); 10] = [
    ("envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources", None),
    ("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", Some(CLUSTER)),
    ("envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints", Some(ENDPOINTS)),
    ("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", Some(LISTENER)),
    ("envoy.service.route.v3.RouteDiscoveryService", "Routes", Some(ROUTES)),
    ("envoy.service.route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes", Some(SCOPED_ROUTES)),
    ("envoy.service.route.v3.VirtualHostDiscoveryService", "VirtualHosts", Some(VIRTUAL_HOST)),
    ("envoy.service.secret.v3.SecretDiscoveryService", "Secrets", Some(SECRET)),
    ("envoy.service.runtime.v3.RuntimeDiscoveryService", "Runtime", Some(RUNTIME)),
    ("envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs", Some(EXTENSION)),
];

/// The service that writes.
pub const UPDATE: &str = "meshbus.xds.v1.UpdateService";

/// The path by which one request is written.
pub const UPDATE_ONCE: &str = "/meshbus.xds.v1.UpdateService/Update";

/// The service that tells how clients stand.
pub const CLIENT_STATUS: &str = "envoy.service.status.v3.ClientStatusDiscoveryService";

/// What a request's path calls.
pub fn call(path: &str) -> Option<Call> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    match (service, name) {
        (UPDATE, "StreamUpdates") => Some(Call::Update { once: false }),
        (UPDATE, "Update") => Some(Call::Update { once: true }),
        (CLIENT_STATUS, "StreamClientStatus") => Some(Call::ClientStatus { once: false }),
        (CLIENT_STATUS, "FetchClientStatus") => Some(Call::ClientStatus { once: true }),
        _ => method(path).map(Call::Discovery),
    }
}

/// The discovery method of a request's path.
fn method(path: &str) -> Option<Method> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, resources, type_url) = *SERVICES.iter().find(|(name, ..)| *name == service)?;
    let (variant, once) = match method.strip_suffix(resources)? {
        // The one service without the state of the world.
        "Stream" if type_url != Some(VIRTUAL_HOST) => (Variant::Sotw, false),
        "Fetch" if type_url.is_some_and(|type_url| type_url != VIRTUAL_HOST) => (Variant::Sotw, true),
        "Delta" => (Variant::Delta, false),
        _ => return None,
    };
    Some(Method { variant, type_url, once })
}

/// The path of the aggregated service.
pub fn aggregated(variant: Variant) -> &'static str {
    match variant {
        Variant::Sotw => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        Variant::Delta => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_path() {
        for variant in [Variant::Sotw, Variant::Delta] {
            assert_eq!(method(aggregated(variant)), Some(Method { variant, type_url: None, once: false }));
        }
        for (name, once) in [("StreamRoutes", false), ("FetchRoutes", true)] {
            let routes = method(&format!("/envoy.service.route.v3.RouteDiscoveryService/{name}"));
            assert_eq!(routes, Some(Method { variant: Variant::Sotw, type_url: Some(ROUTES), once }));
        }
        assert_eq!(call(UPDATE_ONCE), Some(Call::Update { once: true }));
        let hosts = "/envoy.service.route.v3.VirtualHostDiscoveryService/";
        assert!(method(&format!("{hosts}DeltaVirtualHosts")).is_some());
        for path in [
            "",
            "/",
            "/a/b",
            &format!("{hosts}StreamVirtualHosts"),
            &format!("{hosts}FetchVirtualHosts"),
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/FetchAggregatedResources",
            "/meshbus.xds.v1.UpdateService/Other",
            "/envoy.service.route.v3.RouteDiscoveryService/Routes",
        ] {
            assert_eq!(method(path), None, "{path}");
        }
    }
}
