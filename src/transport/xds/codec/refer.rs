//! What a resource refers to that the protocol brings by its name: the routes of a listener, the clusters of routes, the
//! endpoints of a cluster, the secrets of both ends of TLS. What cannot be decoded refers to nothing.
//!
//! Only the fields on the way there are read. Clusters that are named by a header or by a plugin are none here.

use bytestring::ByteString;
use meshbus_proto::google::Any;
use prost::Message;

use super::cluster::endpoints_of;
use super::kinds::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, SECRET};
use super::tls::{Socket, secrets};

/// A type and a name.
pub type Reference = (&'static str, ByteString);

/// The filter of a listener that routes requests.
const HTTP: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// The filter of a listener that passes on connections.
const TCP: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// The types that resources of a type refer to.
pub fn referred_by(type_url: &str) -> &'static [&'static str] {
    match type_url {
        LISTENER => &[ROUTES, CLUSTER, SECRET],
        SCOPED_ROUTES => &[ROUTES, CLUSTER],
        ROUTES => &[CLUSTER],
        CLUSTER => &[ENDPOINTS, SECRET],
        _ => &[],
    }
}

/// What a resource refers to, in order and each once.
pub fn references(type_url: &str, data: &[u8]) -> Vec<Reference> {
    let mut found = Found::default();
    match type_url {
        LISTENER => found.listener(&Listener::decode(data).unwrap_or_default()),
        ROUTES => found.routes(&RouteConfiguration::decode(data).unwrap_or_default()),
        SCOPED_ROUTES => found.scope(ScopedRoutes::decode(data).unwrap_or_default()),
        CLUSTER => {
            found.0.extend(endpoints_of(data).map(|name| (ENDPOINTS, name)));
            let Cluster { socket, matches } = Cluster::decode(data).unwrap_or_default();
            let sockets = socket.iter().chain(matches.iter().filter_map(|of| of.socket.as_ref()));
            sockets.for_each(|socket| found.secrets(socket));
        }
        _ => {}
    }
    found.0.retain(|(_, name)| !name.is_empty());
    found.0.sort_unstable();
    found.0.dedup();
    found.0
}

#[derive(Default)]
struct Found(Vec<Reference>);

impl Found {
    fn listener(&mut self, listener: &Listener) {
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        for chain in chains {
            chain.filters.iter().for_each(|filter| self.filter(filter.typed_config.as_ref()));
            chain.socket.iter().for_each(|socket| self.secrets(socket));
        }
        self.filter(listener.api.as_ref().and_then(|api| api.filter.as_ref()));
    }

    fn filter(&mut self, config: Option<&Any>) {
        let Some(config) = config else { return };
        match config.type_url.rsplit('/').next() {
            Some(HTTP) => {
                let http = Http::decode(&*config.value).unwrap_or_default();
                self.0.extend(http.rds.map(|rds| (ROUTES, rds.route_config_name.into())));
                http.route_config.iter().for_each(|routes| self.routes(routes));
            }
            Some(TCP) => {
                let tcp = TcpProxy::decode(&*config.value).unwrap_or_default();
                self.cluster(tcp.cluster);
                self.weighted(tcp.weighted_clusters);
            }
            _ => {}
        }
    }

    fn scope(&mut self, scope: ScopedRoutes) {
        self.0.push((ROUTES, scope.route_configuration_name.into()));
        scope.route_configuration.iter().for_each(|routes| self.routes(routes));
    }

    fn routes(&mut self, routes: &RouteConfiguration) {
        self.mirrors(&routes.request_mirror_policies);
        for host in &routes.virtual_hosts {
            self.mirrors(&host.request_mirror_policies);
            for action in host.routes.iter().filter_map(|route| route.route.as_ref()) {
                self.cluster(action.cluster.clone());
                self.weighted(action.weighted_clusters.clone());
                self.mirrors(&action.request_mirror_policies);
            }
        }
    }

    fn mirrors(&mut self, policies: &[Mirror]) {
        for policy in policies {
            self.cluster(policy.cluster.clone());
        }
    }

    fn weighted(&mut self, clusters: Option<Weighted>) {
        let clusters = clusters.into_iter().flat_map(|weighted| weighted.clusters);
        clusters.for_each(|cluster| self.cluster(cluster.name));
    }

    fn cluster(&mut self, name: String) {
        self.0.push((CLUSTER, name.into()));
    }

    fn secrets(&mut self, socket: &Socket) {
        self.0.extend(secrets(socket).into_iter().map(|name| (SECRET, name)));
    }
}

#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(message, optional, tag = "24")]
    socket: Option<Socket>,
    #[prost(message, repeated, tag = "43")]
    matches: Vec<SocketMatch>,
}

#[derive(Clone, PartialEq, Message)]
struct SocketMatch {
    #[prost(message, optional, tag = "3")]
    socket: Option<Socket>,
}

#[derive(Clone, PartialEq, Message)]
struct Listener {
    #[prost(message, repeated, tag = "3")]
    filter_chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "19")]
    api: Option<ApiListener>,
    #[prost(message, optional, tag = "25")]
    default_filter_chain: Option<FilterChain>,
}

#[derive(Clone, PartialEq, Message)]
struct FilterChain {
    #[prost(message, repeated, tag = "3")]
    filters: Vec<Filter>,
    #[prost(message, optional, tag = "6")]
    socket: Option<Socket>,
}

#[derive(Clone, PartialEq, Message)]
struct Filter {
    #[prost(message, optional, tag = "4")]
    typed_config: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ApiListener {
    #[prost(message, optional, tag = "1")]
    filter: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Http {
    #[prost(message, optional, tag = "3")]
    rds: Option<Rds>,
    #[prost(message, optional, tag = "4")]
    route_config: Option<RouteConfiguration>,
}

#[derive(Clone, PartialEq, Message)]
struct Rds {
    #[prost(string, tag = "2")]
    route_config_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct TcpProxy {
    #[prost(string, tag = "2")]
    cluster: String,
    #[prost(message, optional, tag = "10")]
    weighted_clusters: Option<Weighted>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopedRoutes {
    #[prost(string, tag = "2")]
    route_configuration_name: String,
    #[prost(message, optional, tag = "5")]
    route_configuration: Option<RouteConfiguration>,
}

#[derive(Clone, PartialEq, Message)]
struct RouteConfiguration {
    #[prost(message, repeated, tag = "2")]
    virtual_hosts: Vec<VirtualHost>,
    #[prost(message, repeated, tag = "13")]
    request_mirror_policies: Vec<Mirror>,
}

#[derive(Clone, PartialEq, Message)]
struct VirtualHost {
    #[prost(message, repeated, tag = "3")]
    routes: Vec<Route>,
    #[prost(message, repeated, tag = "22")]
    request_mirror_policies: Vec<Mirror>,
}

#[derive(Clone, PartialEq, Message)]
struct Route {
    #[prost(message, optional, tag = "2")]
    route: Option<RouteAction>,
}

#[derive(Clone, PartialEq, Message)]
struct RouteAction {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(message, optional, tag = "3")]
    weighted_clusters: Option<Weighted>,
    #[prost(message, repeated, tag = "30")]
    request_mirror_policies: Vec<Mirror>,
}

#[derive(Clone, PartialEq, Message)]
struct Weighted {
    #[prost(message, repeated, tag = "1")]
    clusters: Vec<Weight>,
}

#[derive(Clone, PartialEq, Message)]
struct Weight {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Mirror {
    #[prost(string, tag = "1")]
    cluster: String,
}

#[cfg(feature = "envoy")]
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::schema::protobuf::Descriptors;
    use crate::transport::xds::codec::cluster::of_endpoints;

    /// By the descriptors of Envoy's API, which know nothing of the messages above.
    fn refers(type_url: &str, json: serde_json::Value) -> Vec<(&'static str, String)> {
        let bytes = Descriptors::built_in().read(type_url, &json).unwrap();
        references(type_url, &bytes).into_iter().map(|(of, name)| (of, name.to_string())).collect()
    }

    fn clusters(names: &[&str]) -> Vec<(&'static str, String)> {
        names.iter().map(|name| (CLUSTER, (*name).to_owned())).collect()
    }

    #[test]
    fn a_listener_refers_to_routes_and_to_the_clusters_that_stand_in_it() {
        let rds = json!({"@type": format!("type.googleapis.com/{HTTP}"), "rds": {"routeConfigName": "r1"}});
        let inline = json!({"@type": format!("type.googleapis.com/{HTTP}"),
            "routeConfig": {"virtualHosts": [{"name": "h", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c1"}}]}]}});
        let tcp = json!({"@type": format!("type.googleapis.com/{TCP}"), "statPrefix": "t",
            "weightedClusters": {"clusters": [{"name": "c2", "weight": 1}, {"name": "c3", "weight": 1}]}});
        let other = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"});
        let listener = json!({"name": "l", "apiListener": {"apiListener": rds},
            "filterChains": [{"filters": [{"name": "e", "typedConfig": other}, {"name": "h", "typedConfig": inline}]}],
            "defaultFilterChain": {"filters": [{"name": "t", "typedConfig": tcp}]}});
        let mut expected = clusters(&["c1", "c2", "c3"]);
        expected.push((ROUTES, "r1".to_owned()));
        assert_eq!(refers(LISTENER, listener), expected);
    }

    #[test]
    fn both_ends_of_tls_refer_to_secrets_of_the_same_stream() {
        let config = |context: &str, common: serde_json::Value| {
            json!({"name": "s", "typedConfig": {
            "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.{context}"),
            "commonTlsContext": common}})
        };
        let sds = |name: &str| json!({"name": name, "sdsConfig": {"ads": {}, "resourceApiVersion": "V3"}});
        let secrets =
            |names: &[&str]| names.iter().map(|name| (SECRET, name.to_string())).collect::<Vec<_>>();

        let server = json!({"tlsCertificateSdsSecretConfigs": [sds("cert"), sds("cert2")], "validationContextSdsSecretConfig": sds("ca")});
        let listener = json!({"name": "l",
            "filterChains": [{"transportSocket": config("tls.v3.DownstreamTlsContext", server)}],
            "defaultFilterChain": {"transportSocket": {"name": "q", "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
                "downstreamTlsContext": {"commonTlsContext": {"tlsCertificateSdsSecretConfigs": [sds("quic")]},
                    "sessionTicketKeysSdsSecretConfig": sds("tickets")}}}}});
        assert_eq!(refers(LISTENER, listener), secrets(&["ca", "cert", "cert2", "quic", "tickets"]));

        // Of the same management server only: others are of a file, of another server, or of the bootstrap.
        let other = json!({"tlsCertificateSdsSecretConfigs": [
            {"name": "file", "sdsConfig": {"pathConfigSource": {"path": "/s.yaml"}}},
            {"name": "agent", "sdsConfig": {"apiConfigSource": {"apiType": "GRPC"}}},
            {"name": "static"}, {"name": "own", "sdsConfig": {"self": {}}}],
            "combinedValidationContext": {"defaultValidationContext": {}, "validationContextSdsSecretConfig": sds("ca")}});
        let mut upstream = config("tls.v3.UpstreamTlsContext", other);
        upstream["typedConfig"]["enforceRsaKeyUsage"] = json!(true);
        let cluster = json!({"name": "c", "transportSocket": upstream,
            "transportSocketMatches": [
                {"name": "quic", "transportSocket": {"name": "q", "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport",
                    "upstreamTlsContext": {"commonTlsContext": {"validationContextSdsSecretConfig": sds("quic")}}}}},
                {"name": "m", "transportSocket": config("tls.v3.UpstreamTlsContext",
                    json!({"validationContextSdsSecretConfig": sds("matched")}))},
                {"name": "raw", "transportSocket": {"name": "r", "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}]});
        assert_eq!(refers(CLUSTER, cluster), secrets(&["ca", "matched", "own", "quic"]));
    }

    #[test]
    fn routes_refer_to_clusters_each_once() {
        let mirror = |name: &str| json!([{"cluster": name}]);
        let routes = json!({"name": "r", "requestMirrorPolicies": mirror("m1"), "virtualHosts": [
        {"name": "h", "domains": ["*"], "requestMirrorPolicies": mirror("m2"), "routes": [
            {"match": {"prefix": "/a"}, "route": {"cluster": "c1", "requestMirrorPolicies": mirror("m3")}},
            {"match": {"prefix": "/b"}, "route": {"cluster": "c1"}},
            {"match": {"prefix": "/c"}, "route": {"clusterHeader": "x-cluster"}},
            {"match": {"prefix": "/d"}, "redirect": {"hostRedirect": "x"}},
            {"match": {"prefix": "/e"}, "route": {"weightedClusters": {"clusters": [{"name": "c2"}]}}},
        ]}]});
        let expected = clusters(&["c1", "c2", "m1", "m2", "m3"]);
        assert_eq!(refers(ROUTES, routes.clone()), expected);
        let scope = json!({"name": "s", "routeConfiguration": routes});
        assert_eq!(refers(SCOPED_ROUTES, scope), expected);
        let scope = json!({"name": "s", "routeConfigurationName": "r9"});
        assert_eq!(refers(SCOPED_ROUTES, scope), [(ROUTES, "r9".to_owned())]);
    }

    #[test]
    fn a_cluster_refers_to_its_endpoints() {
        let of = |bytes: &[u8]| references(CLUSTER, bytes);
        assert_eq!(of(&of_endpoints("a", "", 1)), [(ENDPOINTS, "a".into())]);
        assert_eq!(of(&of_endpoints("a", "b", 1)), [(ENDPOINTS, "b".into())]);
        assert_eq!(of(b"\x0a\x01a"), []);
        assert_eq!(references(ENDPOINTS, b"\x0a\x01a"), []);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            for type_url in [LISTENER, ROUTES, SCOPED_ROUTES, CLUSTER, ENDPOINTS] {
                for (of, name) in references(type_url, &bytes) {
                    prop_assert!(referred_by(type_url).contains(&of) && !name.is_empty());
                }
            }
        }
    }
}
