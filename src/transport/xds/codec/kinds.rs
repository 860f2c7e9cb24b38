//! What the protocol has for each type: whether a response of the state of the world is all there is, whether a first
//! request without names means all, and the order in which types are told so that nothing is referred to before it is
//! there ([eventual consistency considerations]).
//!
//! [eventual consistency considerations]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations

/// Clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Endpoints of a cluster.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Routes.
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Routes by scope of a request.
pub const SCOPED_ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// Virtual hosts of routes.
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
/// Certificates and keys.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Runtime layers.
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
/// Configuration of extensions.
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

/// How one type is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// In the state of the world each response holds all that is subscribed to, and what is absent is gone.
    pub whole: bool,
    /// A first request without names means all.
    pub legacy_wildcard: bool,
    /// Lower ranks are told first.
    pub rank: u8,
    /// What is removed is told after all else, as others may still refer to it.
    pub removed_last: bool,
}

/// The ranks from which on types refer to clusters.
pub const REFERS_TO_CLUSTERS: u8 = 2;

/// Secrets of Kubernetes.
const KUBERNETES_SECRET: &str = "core/v1/Secret";

/// Whether a type holds secrets, which are shown and taken in only where settings allow it.
pub fn is_secret(type_url: &str) -> bool {
    matches!(type_url, SECRET | KUBERNETES_SECRET)
}

/// How a type is served. Those that are none of Envoy's are served as clusters are, in no order.
pub fn kind_of(type_url: &str) -> Kind {
    let kind =
        |whole, legacy_wildcard, rank, removed_last| Kind { whole, legacy_wildcard, rank, removed_last };
    match type_url {
        CLUSTER => kind(true, true, 0, true),
        ENDPOINTS => kind(false, false, 1, true),
        LISTENER => kind(true, true, 2, false),
        ROUTES => kind(false, false, 3, false),
        SCOPED_ROUTES => kind(true, true, 3, false),
        VIRTUAL_HOST => kind(false, false, 4, false),
        SECRET | RUNTIME | EXTENSION => kind(false, false, 5, false),
        _ => kind(true, true, 6, false),
    }
}
