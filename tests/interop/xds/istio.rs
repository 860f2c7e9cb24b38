//! A bus as istiod is to another control plane, and a bus with the example for istiod as that: objects by MCP over XDS, and
//! who is connected, shown by kubectl. The server's peer is an Envoy.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::envoy::{Envoy, Variant};
use super::rig::{LIMIT, Mesh};
use super::taken_in::{Kubectl, Watch};
use crate::bus::Bus;
use crate::process::{Scratch, free_port, until};

const TYPE: &str = "networking.istio.io/v1/VirtualService";
const PLURAL: &str = "virtualservices.networking.istio.io";

fn service(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}, "weight": 100}]}]},
    })
}

/// A bus with the example, at a bus in place of istiod.
async fn client(scratch: &Scratch, xds: u16) -> (Bus, Kubectl) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/xds-istio.yaml");
    let example = std::fs::read_to_string(example).expect("the example");
    let secret = |line: &&str| !["tls: ", "token: "].iter().any(|name| line.trim_start().starts_with(name));
    let api = free_port();
    let config = example
        .lines()
        .filter(secret)
        .collect::<Vec<_>>()
        .join("\n")
        .replace("https://istiod.istio-system.svc:15012", &format!("http://127.0.0.1:{xds}"))
        .replace("poll_debug: 10s", "poll_debug: 1s")
        .replace("127.0.0.1:18001", &format!("127.0.0.1:{api}"));
    let mut bus = Bus::prepare(scratch, "istio", &config);
    bus.restart().await;
    (bus, Kubectl(format!("http://127.0.0.1:{api}/scopes/istiod")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_the_objects_that_a_control_plane_of_istio_has() {
    let scratch = Scratch::new();
    let mut mesh = Mesh::start_settling(&scratch, Duration::from_secs(3)).await;
    mesh.put_object(TYPE, "shop/web", &service("web", "a.b")).await;
    let (mut bus, kubectl) = client(&scratch, mesh.xds).await;

    // Ready means that all is there.
    let listed = kubectl.good(&["get", PLURAL, "-A"]);
    assert!(listed.contains("shop") && listed.contains("web"), "{listed}");
    let told: Value =
        serde_json::from_str(&kubectl.good(&["get", PLURAL, "web", "-n", "shop", "-o", "json"]))
            .expect("JSON");
    let expected = service("web", "a.b");
    assert_eq!((&told["spec"], &told["kind"]), (&expected["spec"], &expected["kind"]));
    assert_eq!(told["metadata"]["labels"], expected["metadata"]["labels"]);
    // A bus takes writes, unlike istiod: what is written here is written there, and told as all else is.
    kubectl.good(&["label", PLURAL, "web", "-n", "shop", "tier=front"]);
    let labels = kubectl.good(&["get", PLURAL, "web", "-n", "shop", "-o", "jsonpath={.metadata.labels}"]);
    assert!(labels.contains("front"), "{labels}");

    let mut watch = Watch::start(&kubectl, &[PLURAL, "-A"]);
    assert!(watch.sees("ADDED").await.contains("web"));
    mesh.put_object(TYPE, "shop/web", &service("web", "c.d")).await;
    watch.sees("MODIFIED").await;
    mesh.put_object(TYPE, "shop/api", &service("api", "e.f")).await;
    assert!(watch.sees("ADDED").await.contains("api"));
    mesh.delete_named(TYPE, "shop/api").await;
    assert!(watch.sees("DELETED").await.contains("api"));

    // A server that begins again with nothing takes nothing away while it fills.
    mesh.restart().await;
    mesh.put_object(TYPE, "shop/web", &service("web", "g.h")).await;
    let (next, _) = watch.next().await;
    assert_eq!(next, "MODIFIED", "it was never gone");
    let host = ["get", PLURAL, "web", "-n", "shop", "-o", "jsonpath={.spec.hosts[0]}"];
    assert_eq!(kubectl.good(&host), "g.h");
    bus.ready(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_who_is_connected_to_a_control_plane_of_istio() {
    let scratch = Scratch::new();
    let mesh = Mesh::start(&scratch).await;
    let (_bus, kubectl) = client(&scratch, mesh.xds).await;
    let nodes = async || {
        let told = kubectl.good(&["get", "connections", "-o", "jsonpath={.items[*].spec.node}"]);
        let mut nodes: Vec<String> = told.split_whitespace().map(ToOwned::to_owned).collect();
        nodes.sort_unstable();
        nodes
    };
    // The client is connected itself: it follows, and it asks.
    let own = "sidecar~10.0.0.1~meshbus.istio-system~istio-system.svc.cluster.local";
    until("it sees itself", LIMIT, async || (nodes().await == [own, own]).then_some(())).await;
    let mut envoy = Envoy::start(&scratch, "envoy-1", Variant::Delta, mesh.xds).await;
    until("Envoy is there", LIMIT, async || (nodes().await == ["envoy-1", own, own]).then_some(())).await;
    let wide = kubectl.good(&["get", "connections", "-o", "wide"]);
    assert!(wide.contains("envoy-1") && wide.contains("127.0.0.1:"), "{wide}");
    envoy.process.kill();
    until("Envoy is gone", LIMIT, async || (nodes().await == [own, own]).then_some(())).await;
}
