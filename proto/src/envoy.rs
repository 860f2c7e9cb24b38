//! Messages of Envoy's API, as far as meshbus makes such resources itself: listeners of gRPC clients, routes, clusters and
//! endpoints. Fields that meshbus does not write are left out. Everything else goes by descriptors.

use std::collections::BTreeMap;

use ::prost::alloc::string::String;
use ::prost::alloc::vec::Vec;

use crate::google::{Any, Duration};
use crate::xds::Locality;

/// A message without fields that are written.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Empty {}

/// `envoy.config.core.v3.ConfigSource`
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct ConfigSource {
    /// From the aggregated stream.
    #[prost(message, optional, tag = "3")]
    pub ads: Option<Empty>,
    /// `ApiVersion`: 2 for V3.
    #[prost(int32, tag = "6")]
    pub resource_api_version: i32,
}

/// `envoy.config.listener.v3.Listener`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Listener {
    /// What the client asks for: the target of its channel.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it does with a call.
    #[prost(message, optional, tag = "19")]
    pub api_listener: Option<ApiListener>,
}

/// `envoy.config.listener.v3.ApiListener`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ApiListener {
    /// An `HttpConnectionManager`.
    #[prost(message, optional, tag = "1")]
    pub api_listener: Option<Any>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HttpConnections {
    /// The prefix of its statistics.
    #[prost(string, tag = "2")]
    pub stat_prefix: String,
    /// Where its routes come from.
    #[prost(message, optional, tag = "3")]
    pub rds: Option<Rds>,
    /// Its filters, the router last.
    #[prost(message, repeated, tag = "5")]
    pub http_filters: Vec<HttpFilter>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.Rds`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Rds {
    /// From where.
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
    /// Under which name.
    #[prost(string, tag = "2")]
    pub route_config_name: String,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HttpFilter {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its kind and settings.
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.route.v3.RouteConfiguration`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RouteConfiguration {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its hosts.
    #[prost(message, repeated, tag = "2")]
    pub virtual_hosts: Vec<VirtualHost>,
}

/// `envoy.config.route.v3.VirtualHost`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct VirtualHost {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Which authorities it is for; `*` for all.
    #[prost(string, repeated, tag = "2")]
    pub domains: Vec<String>,
    /// Its routes; the first that matches counts.
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<Route>,
}

/// `envoy.config.route.v3.Route`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Route {
    /// Which requests.
    #[prost(message, optional, tag = "1")]
    pub r#match: Option<RouteMatch>,
    /// To where.
    #[prost(message, optional, tag = "2")]
    pub route: Option<RouteAction>,
}

/// `envoy.config.route.v3.RouteMatch`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RouteMatch {
    /// A prefix of the path; the empty one is written, as it means all.
    #[prost(string, optional, tag = "1")]
    pub prefix: Option<String>,
}

/// `envoy.config.route.v3.RouteAction`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RouteAction {
    /// The name of a cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
}

/// `envoy.config.cluster.v3.Cluster`; its policy is the default, round robin.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Cluster {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `DiscoveryType`: 3 for EDS.
    #[prost(int32, tag = "2")]
    pub r#type: i32,
    /// Where its endpoints come from.
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
    /// How long a connection may take to be made.
    #[prost(message, optional, tag = "4")]
    pub connect_timeout: Option<Duration>,
    /// Options by the name of an extension.
    #[prost(btree_map = "string, message", tag = "36")]
    pub typed_extension_protocol_options: BTreeMap<String, Any>,
}

/// `envoy.config.cluster.v3.Cluster.EdsClusterConfig`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EdsClusterConfig {
    /// From where.
    #[prost(message, optional, tag = "1")]
    pub eds_config: Option<ConfigSource>,
    /// Under which name; that of the cluster where it is empty.
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct HttpProtocolOptions {
    /// One protocol, whatever the request came by.
    #[prost(message, optional, tag = "3")]
    pub explicit_http_config: Option<ExplicitHttpConfig>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig`
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct ExplicitHttpConfig {
    /// HTTP/2.
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Empty>,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClusterLoadAssignment {
    /// Its name.
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    /// The endpoints, by where they run.
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<LocalityLbEndpoints>,
}

/// `envoy.config.endpoint.v3.LocalityLbEndpoints`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct LocalityLbEndpoints {
    /// Where they run.
    #[prost(message, optional, tag = "1")]
    pub locality: Option<Locality>,
    /// The endpoints.
    #[prost(message, repeated, tag = "2")]
    pub lb_endpoints: Vec<LbEndpoint>,
    /// Their share among localities; without one, gRPC's clients leave them out.
    #[prost(message, optional, tag = "3")]
    pub load_balancing_weight: Option<UInt32Value>,
}

/// `google.protobuf.UInt32Value`
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct UInt32Value {
    /// The number.
    #[prost(uint32, tag = "1")]
    pub value: u32,
}

/// `envoy.config.endpoint.v3.LbEndpoint`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct LbEndpoint {
    /// The endpoint.
    #[prost(message, optional, tag = "1")]
    pub endpoint: Option<Endpoint>,
}

/// `envoy.config.endpoint.v3.Endpoint`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Endpoint {
    /// Where it listens.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// `envoy.config.core.v3.Address`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Address {
    /// A port of TCP.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SocketAddress {
    /// An IP address.
    #[prost(string, tag = "2")]
    pub address: String,
    /// A port.
    #[prost(uint32, tag = "3")]
    pub port_value: u32,
}
