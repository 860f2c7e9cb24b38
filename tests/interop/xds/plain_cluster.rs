//! gRPC clients and Envoys that are led to the pods of a plain cluster's Services: no resource of xDS is put by anybody.
//! The cluster is a stand-in API server, the configuration is the example.

use std::path::Path;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::envoy::{Envoy, Variant};
use super::grpc::{Caller, LANGUAGES};
use super::rig::{Backend, LIMIT};
use crate::bus::{Bus, http_client};
use crate::hostile::{Hostile, Kind, Options};
use crate::process::{Scratch, free_port, until};

/// A cluster, and a bus that runs the example beside it.
struct Plain {
    cluster: Hostile,
    bus: Bus,
    xds: u16,
    web: u16,
}

impl Plain {
    async fn start(scratch: &Scratch) -> Self {
        let mut service = Kind::custom("", "v1", "Service", "services");
        service.custom = false;
        let kinds =
            vec![service, Kind::custom("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")];
        let cluster = Hostile::start(
            fastrand::u64(..),
            Options { kinds, namespaces: vec!["shop".to_owned()], ..Options::default() },
        )
        .await;
        let kubeconfig = scratch.path().join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).expect("a file");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes-to-grpc.yaml");
        let example = std::fs::read_to_string(example).expect("the example");
        let (xds, web) = (free_port(), free_port());
        let example = example.replace("127.0.0.1:18000", &format!("127.0.0.1:{xds}"));
        let example = example.replace("127.0.0.1:8080\"", &format!("127.0.0.1:{web}\""));
        let mut bus = Bus::prepare(scratch, "meshbus", &example);
        bus.process = bus.process.env("KUBECONFIG", kubeconfig.display());
        bus.restart().await;
        Self { cluster, bus, xds, web }
    }

    fn service(&self, name: &str) {
        let spec = json!({"ports": [{"name": "grpc", "port": 80, "targetPort": "api"}]});
        self.cluster.create("Service", "shop", name, json!({ "spec": spec }));
    }

    /// A slice with these backends.
    fn slice(name: &str, service: &str, backends: &[&Backend]) -> Value {
        // One port a slice: so a slice for the first backend alone, where there is one.
        let port = backends.first().map_or(1, |backend| backend.port);
        let endpoints: Vec<Value> = backends
            .iter()
            .map(|_| json!({"addresses": ["127.0.0.1"], "conditions": {"ready": true}, "zone": "a"}))
            .collect();
        json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
        })
    }

    /// The names of what is made of a type.
    async fn made(&self, type_url: &str) -> Vec<String> {
        let uri = format!("http://127.0.0.1:{}/v1/state?scope=mesh&type={type_url}", self.web);
        let answer = http_client().get(uri.parse().expect("a URI")).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("an answer").to_bytes();
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        items.iter().map(|item| item["name"].to_string()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_clients_reach_the_pods_of_a_plain_clusters_services() {
    for language in LANGUAGES {
        let scratch = Scratch::new();
        let mut plain = Plain::start(&scratch).await;
        let (first, second) = (Backend::start().await, Backend::start().await);
        plain.service("web");
        plain.cluster.create("EndpointSlice", "shop", "web-1", Plain::slice("web-1", "web", &[&first]));
        let mut caller = Caller::start(&scratch, "plain", language, plain.xds);
        for target in ["web.shop:80", "web.shop.svc:80", "web.shop.svc.cluster.local:80"] {
            caller.says(target, &first.says()).await;
        }
        // Pods come and go.
        plain.cluster.update("EndpointSlice", "shop", "web-1", Plain::slice("web-1", "web", &[&second]));
        caller.says("web.shop:80", &second.says()).await;
        // The bus is away, and comes back with a table that is empty until the cluster is listed.
        plain.bus.kill();
        let during = caller.call("web.shop:80", 5).await;
        assert_eq!(during.reply, Some(second.says()), "{language:?}: {during:?}");
        plain.bus.restart().await;
        plain.cluster.update("EndpointSlice", "shop", "web-1", Plain::slice("web-1", "web", &[&first]));
        until("the client follows again, without one call that fails", LIMIT, async || {
            let said = caller.call("web.shop:80", 5).await;
            assert_eq!(said.error, None, "{language:?}: {said:?}\n{}", plain.bus.process.log_tail());
            (said.reply == Some(first.says())).then_some(())
        })
        .await;
        assert!(!caller.log().contains("NACK"), "{language:?}: {}", caller.log());
        plain.cluster.delete("Service", "shop", "web");
        until("all that was made of it is gone", LIMIT, async || {
            let mut left = Vec::new();
            for of in ["listener.v3.Listener", "cluster.v3.Cluster", "endpoint.v3.ClusterLoadAssignment"] {
                left.extend(plain.made(&format!("type.googleapis.com/envoy.config.{of}")).await);
            }
            left.is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_takes_the_clusters_of_a_plain_cluster() {
    for variant in [Variant::Delta, Variant::Sotw] {
        let scratch = Scratch::new();
        let plain = Plain::start(&scratch).await;
        let backend = Backend::start().await;
        plain.service("web");
        plain.cluster.create("EndpointSlice", "shop", "web-1", Plain::slice("web-1", "web", &[&backend]));
        let envoy = Envoy::start(&scratch, "plain", variant, plain.xds).await;
        let endpoint = format!("web.shop:80::127.0.0.1:{}::health_flags::healthy", backend.port);
        until("Envoy has the endpoint", LIMIT, async || {
            envoy.page("/clusters").await.contains(&endpoint).then_some(())
        })
        .await;
        assert_eq!(envoy.stat("cluster_manager.cds.update_rejected").await, 0, "{variant:?}");
    }
}
