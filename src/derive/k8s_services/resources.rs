//! The resources of a Service.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshbus_proto::envoy::{
    Address, ApiListener, Cluster, ClusterLoadAssignment, ConfigSource, EdsClusterConfig, Empty, Endpoint,
    ExplicitHttpConfig, HttpConnections, HttpFilter, HttpProtocolOptions, LbEndpoint, Listener,
    LocalityLbEndpoints, Rds, Route, RouteAction, RouteConfiguration, RouteMatch, SocketAddress,
    UInt32Value, VirtualHost,
};
use meshbus_proto::google::{Any, Duration};
use meshbus_proto::xds::Locality;
use prost::Message;

use super::endpoints::{self, Zones};
use super::objects::{EndpointSlice, Service, ServicePort};
use crate::core::derive::Resource;
use crate::schema::protobuf::MEDIA_TYPE;

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const CONNECTIONS: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const HTTP_OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// `ApiVersion::V3`
const V3: i32 = 2;
/// `Cluster.DiscoveryType::EDS`
const EDS: i32 = 3;
/// How long an Envoy waits for a connection to a pod.
const CONNECT_TIMEOUT: Duration = Duration { seconds: 5, nanos: 0 };

/// All resources of a Service, port by port.
pub(super) fn of_service(service: &Service, slices: &[EndpointSlice], domain: &str) -> Vec<Resource> {
    let Service { namespace, name, .. } = service;
    let mut resources = Vec::with_capacity(service.ports.len() * 6);
    for port in &service.ports {
        let number = port.port;
        let short = format!("{name}.{namespace}:{number}");
        let long = [
            format!("{name}.{namespace}.svc:{number}"),
            format!("{name}.{namespace}.svc.{domain}:{number}"),
        ];
        resources.extend(long.iter().chain([&short]).map(|target| listener(target, &short)));
        resources.push(routes(&short));
        resources.push(cluster(&short, port));
        resources.push(assignment(&short, &endpoints::of_port(service, port, slices)));
    }
    resources
}

fn resource(type_url: &'static str, name: &str, message: &impl Message) -> Resource {
    let data = Bytes::from(message.encode_to_vec());
    Resource { type_url: type_url.into(), name: name.into(), media_type: MEDIA_TYPE, data }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: Bytes::from(message.encode_to_vec()) }
}

fn ads() -> ConfigSource {
    ConfigSource { ads: Some(Empty {}), resource_api_version: V3 }
}

fn listener(name: &str, routes: &str) -> Resource {
    let manager = HttpConnections {
        stat_prefix: routes.to_owned(),
        rds: Some(Rds { config_source: Some(ads()), route_config_name: routes.to_owned() }),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            typed_config: Some(any(ROUTER, &Empty {})),
        }],
    };
    let api_listener = Some(ApiListener { api_listener: Some(any(CONNECTIONS, &manager)) });
    resource(LISTENER, name, &Listener { name: name.to_owned(), api_listener })
}

fn routes(name: &str) -> Resource {
    let route = Route {
        r#match: Some(RouteMatch { prefix: Some(String::new()) }),
        route: Some(RouteAction { cluster: name.to_owned() }),
    };
    // Whatever a client gives as its authority: what it asked for has said which Service it means.
    let host = VirtualHost { name: name.to_owned(), domains: vec!["*".to_owned()], routes: vec![route] };
    resource(ROUTES, name, &RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host] })
}

fn cluster(name: &str, port: &ServicePort) -> Resource {
    let mut options = BTreeMap::new();
    if port.is_http2() {
        let explicit = ExplicitHttpConfig { http2_protocol_options: Some(Empty {}) };
        let http2 = HttpProtocolOptions { explicit_http_config: Some(explicit) };
        let word = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        options.insert(word.to_owned(), any(HTTP_OPTIONS, &http2));
    }
    let cluster = Cluster {
        name: name.to_owned(),
        r#type: EDS,
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), service_name: String::new() }),
        connect_timeout: Some(CONNECT_TIMEOUT),
        typed_extension_protocol_options: options,
    };
    resource(CLUSTER, name, &cluster)
}

fn assignment(name: &str, zones: &Zones<'_>) -> Resource {
    let endpoints = zones.iter().map(|(zone, addresses)| LocalityLbEndpoints {
        locality: Some(Locality { zone: (*zone).to_owned(), ..Locality::default() }),
        // As much of the calls as it has endpoints.
        load_balancing_weight: Some(UInt32Value {
            value: u32::try_from(addresses.len()).unwrap_or(u32::MAX),
        }),
        lb_endpoints: addresses
            .iter()
            .map(|(address, port)| {
                let socket = SocketAddress { address: address.to_string(), port_value: (*port).into() };
                let address = Some(Address { socket_address: Some(socket) });
                LbEndpoint { endpoint: Some(Endpoint { address }) }
            })
            .collect(),
    });
    let assignment =
        ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: endpoints.collect() };
    resource(ENDPOINTS, name, &assignment)
}
