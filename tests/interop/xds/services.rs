//! The ways in which an Envoy asks: one stream for all, a stream for each type, names by prefix.

use std::time::Duration;

use serde_json::{Value, json};

use super::envoy::{CLUSTER, Envoy, VARIANTS, Variant};
use super::resources::{
    Cluster, ConfigSource, EdsConfig, ads, cluster, endpoints, listener, own_service, routes,
};
use super::rig::{Backend, LIMIT, Mesh};
use crate::process::{Scratch, free_port, until};

/// What `meshbus bootstrap envoy` prints, with dynamic resources of another kind.
fn bootstrap(node: &str, xds: u16, admin: u16, dynamic: &Value) -> String {
    let printed = super::envoy::bootstrap(node, Variant::Delta, xds, admin);
    let start = printed.find("dynamic_resources:").expect("dynamic resources");
    let end = printed.find("static_resources:").expect("static resources");
    format!("{}dynamic_resources: {dynamic}\n{}", &printed[..start], &printed[end..])
}

/// By gRPC from the static cluster.
fn source(api: &str) -> Value {
    let services = json!([{"envoy_grpc": {"cluster_name": CLUSTER}}]);
    json!({
        "resource_api_version": "V3",
        "api_config_source": {"api_type": api, "transport_api_version": "V3", "grpc_services": services},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_says_once_who_it_is_and_hears_nothing_while_nothing_changes() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let (mesh, backend, port) = (Mesh::start(&scratch).await, Backend::start().await, free_port());
        mesh.put(&cluster("c1")).await;
        mesh.put(&endpoints("c1", &[backend.port])).await;
        mesh.put(&routes("r1", "c1")).await;
        mesh.put(&listener("l1", port, "r1", ads())).await;
        let once = super::envoy::bootstrap("once", variant, mesh.xds, 0);
        assert!(once.contains("set_node_on_first_message_only: true"), "{once}");
        let envoy = Envoy::start(&scratch, "once", variant, mesh.xds).await;
        // Four types, the later ones without a node.
        envoy.says(port, &backend.says()).await;
        let connections = mesh.list("meshbus.dev/v1/Connection").await;
        assert_eq!(connections.len(), 1, "{variant:?}: {connections:?}");
        let spec = &connections[0]["spec"];
        assert_eq!((&spec["node"], &spec["cluster"]), (&"once".into(), &"meshbus".into()));
        assert!(spec["agent"].as_str().is_some_and(|agent| agent.starts_with("envoy 1.")), "{spec}");
        let heard = async || {
            (
                envoy.stat(&format!("cluster.{CLUSTER}.upstream_cx_rx_bytes_total")).await,
                envoy.sum("", ".update_attempt").await,
            )
        };
        let settled = until("it has answered all", LIMIT, async || {
            let before = heard().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            (heard().await == before).then_some(before)
        })
        .await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(heard().await, settled, "{variant:?}: it heard something though nothing changed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_has_a_service_of_its_own() {
    for (variant, api) in [(Variant::Delta, "DELTA_GRPC"), (Variant::Sotw, "GRPC")] {
        let scratch = Scratch::new();
        let (mesh, first, second) =
            (Mesh::start(&scratch).await, Backend::start().await, Backend::start().await);
        let (port, admin) = (free_port(), free_port());
        let own = || -> ConfigSource { own_service(variant, CLUSTER) };
        let eds = Some(EdsConfig { source: Some(own()), service_name: String::new() });
        mesh.put(&Cluster { eds, ..cluster("c1") }).await;
        mesh.put(&endpoints("c1", &[first.port])).await;
        mesh.put(&routes("r1", "c1")).await;
        mesh.put(&listener("l1", port, "r1", own())).await;
        let dynamic = json!({"lds_config": source(api), "cds_config": source(api)});
        let text = bootstrap("apart", mesh.xds, admin, &dynamic);
        let envoy = Envoy::start_with(&scratch, "apart", admin, &text).await;
        envoy.says(port, &first.says()).await;
        mesh.put(&endpoints("c1", &[second.port])).await;
        envoy.says(port, &second.says()).await;
        until("a stream for each of four types", LIMIT, async || {
            (mesh.connections("apart").await.len() == 4).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_is_told_by_its_prefix() {
    const OURS: &str = "xdstp://lab/envoy.config.cluster.v3.Cluster/ns1/";
    const OTHER: &str = "xdstp://lab/envoy.config.cluster.v3.Cluster/ns2/";
    let scratch = Scratch::new();
    let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
    let (port, admin) = (free_port(), free_port());
    let member = |collection: &str, name: &str| {
        let eds = Some(EdsConfig { source: Some(ads()), service_name: name.to_owned() });
        Cluster { eds, ..cluster(&format!("{collection}{name}")) }
    };
    mesh.put(&endpoints("c1", &[backend.port])).await;
    mesh.put(&member(OURS, "c1")).await;
    mesh.put(&member(OTHER, "c1")).await;
    mesh.put(&routes("r1", &format!("{OURS}c1"))).await;
    mesh.put(&listener("l1", port, "r1", ads())).await;
    let mut collection = source("AGGREGATED_DELTA_GRPC");
    collection["authorities"] = json!([{"name": "lab"}]);
    let dynamic = json!({
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": CLUSTER}}],
        },
        "lds_config": {"ads": {}, "resource_api_version": "V3"},
        "cds_resources_locator": format!("{OURS}*"),
        "cds_config": collection,
    });
    let text = bootstrap("globs", mesh.xds, admin, &dynamic);
    let envoy = Envoy::start_with(&scratch, "globs", admin, &text).await;
    envoy.says(port, &backend.says()).await;
    mesh.put(&member(OTHER, "c2")).await;
    // With the endpoints of the first, which Envoy has already.
    let eds = Some(EdsConfig { source: Some(ads()), service_name: "c1".to_owned() });
    mesh.put(&Cluster { eds, ..member(OURS, "c2") }).await;
    envoy.shows_cluster(&format!("{OURS}c2"), true).await;
    mesh.delete::<Cluster>(&format!("{OURS}c2")).await;
    envoy.shows_cluster(&format!("{OURS}c2"), false).await;
    let shown = envoy.page("/clusters").await;
    assert!(!shown.contains(OTHER), "another collection was told: {shown}");
    envoy.says(port, &backend.says()).await;
    assert_eq!(envoy.sum("", "update_rejected").await, 0);
}
