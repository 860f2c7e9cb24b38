//! Envoy's resources, with the fields that these tests use.

use bytes::Bytes;
use meshbus_proto::google::{Any, Duration};
use meshbus_proto::xds::Locality;
use prost::Message;

use super::envoy::Variant;

/// A message that XDS names.
pub(crate) trait Resource: Message + Sized {
    const TYPE: &'static str;

    fn name(&self) -> &str;
}

impl Resource for Cluster {
    const TYPE: &'static str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    fn name(&self) -> &str {
        &self.name
    }
}

impl Resource for Endpoints {
    const TYPE: &'static str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

    fn name(&self) -> &str {
        &self.cluster_name
    }
}

impl Resource for Routes {
    const TYPE: &'static str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

    fn name(&self) -> &str {
        &self.name
    }
}

impl Resource for Listener {
    const TYPE: &'static str = "type.googleapis.com/envoy.config.listener.v3.Listener";

    fn name(&self) -> &str {
        &self.name
    }
}

/// `DiscoveryType::EDS`
const EDS: i32 = 3;
/// `ApiVersion::V3`
const V3: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Cluster {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) discovery: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) eds: Option<EdsConfig>,
    #[prost(message, optional, tag = "4")]
    pub(crate) connect_timeout: Option<Duration>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EdsConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub(crate) service_name: String,
}

/// Where resources that a resource refers to come from.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConfigSource {
    #[prost(message, optional, tag = "2")]
    api: Option<ApiSource>,
    #[prost(message, optional, tag = "3")]
    ads: Option<Empty>,
    #[prost(int32, tag = "6")]
    version: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ApiSource {
    #[prost(int32, tag = "1")]
    api: i32,
    #[prost(message, repeated, tag = "4")]
    services: Vec<GrpcService>,
    #[prost(int32, tag = "8")]
    version: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy: Option<Named>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Endpoints {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    localities: Vec<LocalityEndpoints>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LocalityEndpoints {
    #[prost(message, optional, tag = "1")]
    locality: Option<Locality>,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<LbEndpoint>,
    #[prost(message, optional, tag = "3")]
    weight: Option<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint32, tag = "1")]
    value: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    endpoint: Option<Endpoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Endpoint {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Routes {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    hosts: Vec<VirtualHost>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VirtualHost {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    routes: Vec<Route>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Route {
    #[prost(message, optional, tag = "1")]
    matching: Option<RouteMatch>,
    #[prost(message, optional, tag = "2")]
    action: Option<Named>,
}

/// Which requests; the empty prefix is written, as it means all.
#[derive(Clone, PartialEq, prost::Message)]
struct RouteMatch {
    #[prost(string, optional, tag = "1")]
    prefix: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Listener {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    address: Option<Address>,
    #[prost(message, repeated, tag = "3")]
    chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "19")]
    api: Option<ApiListener>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FilterChain {
    #[prost(message, repeated, tag = "3")]
    filters: Vec<Filter>,
}

/// A filter of the network or of HTTP: both have the same fields.
#[derive(Clone, PartialEq, prost::Message)]
struct Filter {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    config: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ApiListener {
    #[prost(message, optional, tag = "1")]
    manager: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpFilters {
    #[prost(string, tag = "2")]
    stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    rds: Option<Rds>,
    #[prost(message, optional, tag = "4")]
    routes: Option<Routes>,
    #[prost(message, repeated, tag = "5")]
    filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Rds {
    #[prost(message, optional, tag = "1")]
    source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    name: String,
}

/// From the aggregated stream.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource { api: None, ads: Some(Empty {}), version: V3 }
}

/// From the service of the type, reached by a static cluster.
pub(crate) fn own_service(variant: Variant, cluster: &str) -> ConfigSource {
    let services = vec![GrpcService { envoy: Some(Named { name: cluster.to_owned() }) }];
    let api = match variant {
        Variant::Sotw => 2,
        Variant::Delta => 3,
    };
    ConfigSource { api: Some(ApiSource { api, services, version: V3 }), ads: None, version: V3 }
}

/// A cluster whose endpoints have its name.
pub(crate) fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        discovery: EDS,
        eds: Some(EdsConfig { source: Some(ads()), service_name: String::new() }),
        connect_timeout: Some(seconds(1)),
    }
}

/// The cluster with another time to connect.
pub(crate) fn with_timeout(cluster: Cluster, timeout: i64) -> Cluster {
    Cluster { connect_timeout: Some(seconds(timeout)), ..cluster }
}

/// A cluster that no client takes: it has no place to get its endpoints from.
pub(crate) fn bad_cluster(name: &str) -> Cluster {
    Cluster { eds: None, ..cluster(name) }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

pub(crate) fn endpoints(name: &str, ports: &[u16]) -> Endpoints {
    let endpoint = |port: &u16| LbEndpoint { endpoint: Some(Endpoint { address: Some(loopback(*port)) }) };
    let locality = Locality { region: "r".to_owned(), ..Locality::default() };
    let localities = vec![LocalityEndpoints {
        locality: Some(locality),
        endpoints: ports.iter().map(endpoint).collect(),
        weight: Some(Number { value: 1 }),
    }];
    Endpoints { cluster_name: name.to_owned(), localities }
}

/// All requests to one cluster.
pub(crate) fn routes(name: &str, cluster: &str) -> Routes {
    let route = Route {
        matching: Some(RouteMatch { prefix: Some(String::new()) }),
        action: Some(Named { name: cluster.to_owned() }),
    };
    let host = VirtualHost { name: "all".to_owned(), domains: vec!["*".to_owned()], routes: vec![route] };
    Routes { name: name.to_owned(), hosts: vec![host] }
}

/// On a port of loopback, by routes of this name.
pub(crate) fn listener(name: &str, port: u16, routes: &str, source: ConfigSource) -> Listener {
    let manager = manager(Some(Rds { source: Some(source), name: routes.to_owned() }), None);
    let filter = Filter { name: "http".to_owned(), config: Some(manager) };
    let chains = vec![FilterChain { filters: vec![filter] }];
    Listener { name: name.to_owned(), address: Some(loopback(port)), chains, api: None }
}

/// A service of gRPC, by routes of this name.
pub(crate) fn service(name: &str, routes: &str) -> Listener {
    api(name, manager(Some(Rds { source: Some(ads()), name: routes.to_owned() }), None))
}

/// A service of gRPC with its routes in it.
pub(crate) fn service_inline(name: &str, routes: Routes) -> Listener {
    api(name, manager(None, Some(routes)))
}

fn api(name: &str, manager: Any) -> Listener {
    let api = Some(ApiListener { manager: Some(manager) });
    Listener { name: name.to_owned(), address: None, chains: Vec::new(), api }
}

fn manager(rds: Option<Rds>, routes: Option<Routes>) -> Any {
    let router = any("envoy.extensions.filters.http.router.v3.Router", &Empty {});
    let filters = vec![Filter { name: "router".to_owned(), config: Some(router) }];
    let manager = HttpFilters { stat_prefix: "web".to_owned(), rds, routes, filters };
    any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", &manager)
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: Bytes::from(message.encode_to_vec()) }
}

fn loopback(port: u16) -> Address {
    Address { socket: Some(SocketAddress { address: "127.0.0.1".to_owned(), port: u32::from(port) }) }
}
