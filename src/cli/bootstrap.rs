//! `meshbus bootstrap`: what an XDS client has to be started with to be served by a bus.

use clap::{Args, ValueEnum};
use http::Uri;
use serde_json::{Value, json};

use super::{Failure, output};
use crate::config::yaml::to_yaml;

/// Print the bootstrap of an XDS client: a JSON file for gRPC, a YAML file for Envoy
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus bootstrap envoy > envoy.yaml && envoy -c envoy.yaml
  meshbus bootstrap grpc > grpc.json && GRPC_XDS_BOOTSTRAP=grpc.json your-client   # target xds:///NAME
  meshbus bootstrap envoy -s https://bus.example.com:18000 --node edge-1 --cluster web --ca-file ca.pem

A gRPC client of C++, Python or Ruby needs the authority of a TLS server in the file that
GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names; --ca-file is for Envoy, Go, Java and Node.js.")]
pub(super) struct Bootstrap {
    /// Which client
    client: Client,
    /// The bus's XDS server
    #[arg(short = 's', long = "server", value_name = "URL", default_value = "http://127.0.0.1:18000")]
    url: String,
    /// What the client calls itself; the bus shows it with `kubectl get connections`
    #[arg(long, value_name = "ID", default_value = "node-1")]
    node: String,
    /// The cluster the client says it is of
    #[arg(long, value_name = "NAME", default_value = "meshbus")]
    cluster: String,
    /// Envoy: state of the world rather than incremental
    #[arg(long)]
    sotw: bool,
    /// Envoy: port of its admin page on loopback; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    admin_port: u16,
    /// PEM file with the authority that signed the server's certificate
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Client {
    /// Any gRPC client or proxyless service
    Grpc,
    /// Envoy
    Envoy,
}

/// Where a server is.
struct Place {
    host: String,
    port: u16,
    tls: bool,
}

impl Bootstrap {
    pub(super) fn run(self) -> Result<(), Failure> {
        let place = Place::of(&self.url)?;
        match self.client {
            Client::Grpc => output::line(format!("{:#}", self.grpc(&place))),
            Client::Envoy => output::line(to_yaml(self.envoy(&place)).trim_end()),
        }
    }

    fn grpc(&self, place: &Place) -> Value {
        let creds = match (place.tls, &self.ca_file) {
            (false, _) => json!({"type": "insecure"}),
            (true, None) => json!({"type": "tls", "config": {}}),
            (true, Some(file)) => json!({"type": "tls", "config": {"ca_certificate_file": file}}),
        };
        json!({
            "xds_servers": [{
                "server_uri": format!("{}:{}", place.host, place.port),
                "channel_creds": [creds],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": self.node, "cluster": self.cluster, "locality": {"region": "local"}, "metadata": {}},
        })
    }

    fn envoy(&self, place: &Place) -> Value {
        let host = place.host.trim_start_matches('[').trim_end_matches(']');
        // An address is used as it is; a name is looked up.
        let discovery = if host.parse::<std::net::IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
        let socket = json!({"socket_address": {"address": host, "port_value": place.port}});
        let own = |field: &str| json!({"ads": {}, "resource_api_version": field});
        let mut cluster = json!({
            "name": "meshbus_xds",
            "type": discovery,
            "connect_timeout": "5s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                }},
            }},
            "load_assignment": {
                "cluster_name": "meshbus_xds",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket}}]}],
            },
        });
        if place.tls
            && let Some(cluster) = cluster.as_object_mut()
        {
            cluster.insert("transport_socket".to_owned(), self.tls(host));
        }
        let mut bootstrap = json!({
            "node": {"id": self.node, "cluster": self.cluster},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": if self.sotw { "GRPC" } else { "DELTA_GRPC" },
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "meshbus_xds"}}],
                },
                "lds_config": own("V3"),
                "cds_config": own("V3"),
            },
            "static_resources": {"clusters": [cluster]},
        });
        if self.admin_port > 0
            && let Some(bootstrap) = bootstrap.as_object_mut()
        {
            let address =
                json!({"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}});
            bootstrap.insert("admin".to_owned(), json!({"address": address}));
        }
        bootstrap
    }

    fn tls(&self, host: &str) -> Value {
        let trusted = match &self.ca_file {
            Some(file) => json!({"trusted_ca": {"filename": file}}),
            None => json!({"system_root_certs": {}}),
        };
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": {"alpn_protocols": ["h2"], "validation_context": trusted},
            },
        })
    }
}

impl Place {
    fn of(url: &str) -> Result<Self, Failure> {
        let wrong = || Failure::usage(format!("-s {url}: write http://HOST:PORT or https://HOST:PORT"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http" | "xds") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(18000), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(client: Client, url: &str) -> Bootstrap {
        let (node, cluster) = ("n".to_owned(), "c".to_owned());
        Bootstrap { client, url: url.to_owned(), node, cluster, sotw: false, admin_port: 0, ca_file: None }
    }

    #[test]
    fn an_address_is_static_and_a_name_is_looked_up() {
        for (url, address, discovery) in [
            ("http://127.0.0.1:1", "127.0.0.1", "STATIC"),
            ("http://[::1]:1", "::1", "STATIC"),
            ("https://bus.example.com", "bus.example.com", "STRICT_DNS"),
        ] {
            let verb = bootstrap(Client::Envoy, url);
            let written = verb.envoy(&Place::of(url).unwrap());
            let cluster = &written["static_resources"]["clusters"][0];
            assert_eq!(cluster["type"], discovery, "{url}");
            let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
            assert_eq!(endpoint["address"]["socket_address"]["address"], address, "{url}");
            assert_eq!(cluster.get("transport_socket").is_some(), url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn a_grpc_client_is_told_the_server_and_its_credentials() {
        let verb = bootstrap(Client::Grpc, "https://bus.example.com:7");
        let written = verb.grpc(&Place::of(&verb.url).unwrap());
        let server = &written["xds_servers"][0];
        assert_eq!(server["server_uri"], "bus.example.com:7");
        assert_eq!(server["channel_creds"][0]["type"], "tls");
    }

    #[test]
    fn a_url_that_is_none_is_refused_with_what_would_be_right() {
        for url in ["127.0.0.1:18000", "ftp://a", "http://"] {
            let Err(failure) = Place::of(url) else { panic!("{url} is taken") };
            assert!(format!("{failure:?}").contains("http://HOST:PORT"), "{failure:?}");
        }
    }
}
