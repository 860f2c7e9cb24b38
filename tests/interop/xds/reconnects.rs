//! An Envoy whose connection breaks: it says what it has, and is told the difference.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::envoy::{CLUSTER, Envoy, VARIANTS, Variant};
use super::resources::{Cluster, ads, cluster, endpoints, listener, routes, with_timeout};
use super::rig::{Backend, LIMIT, Mesh};
use crate::process::{Scratch, free_port, until};
use crate::suite::Relay;

const MANY: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_comes_back_is_told_what_changed_while_it_was_away_and_no_more() {
    let scratch = Scratch::new();
    let (mesh, backend, port) = (Mesh::start(&scratch).await, Backend::start().await, free_port());
    let relay = Relay::before(mesh.xds).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("cluster-of-a-long-name-{n}")).collect();
    let put = futures_util::stream::iter(&names).map(async |name| {
        mesh.put(&endpoints(name, &[backend.port])).await;
        mesh.put(&cluster(name)).await;
    });
    put.buffer_unordered(16).for_each(async |()| {}).await;
    mesh.put(&routes("r1", &names[0])).await;
    mesh.put(&listener("l1", port, "r1", ads())).await;
    let envoy = Envoy::start(&scratch, "returns", Variant::Delta, relay.port).await;
    envoy.says(port, &backend.says()).await;
    until("it has all clusters", LIMIT, async || {
        (envoy.stat("cluster_manager.active_clusters").await == MANY as u64 + 1).then_some(())
    })
    .await;
    let received = async || envoy.stat(&format!("cluster.{CLUSTER}.upstream_cx_rx_bytes_total")).await;
    let first = received().await;

    relay.cut();
    until("its connection is seen to end", LIMIT, async || {
        mesh.connections("returns").await.is_empty().then_some(())
    })
    .await;
    mesh.put(&with_timeout(cluster(&names[1]), 2)).await;
    mesh.delete::<Cluster>(&names[2]).await;
    relay.heal();
    until("it connects again", LIMIT, async || (relay.passed() >= 2).then_some(())).await;
    let begin = Instant::now();
    envoy.has_timeout(&names[1], 2).await;
    envoy.shows_cluster(&names[2], false).await;
    envoy.says(port, &backend.says()).await;
    until("it is warm", LIMIT, async || {
        (envoy.stat("cluster_manager.warming_clusters").await == 0).then_some(())
    })
    .await;
    // It would go on after 15 s without the endpoints of what changed, which it has already.
    assert!(begin.elapsed() < Duration::from_secs(5), "told after {:?}", begin.elapsed());
    let again = received().await - first;
    println!("{first} bytes for {MANY} clusters, {again} after the connection broke");
    assert!(again < first / 10, "{again} bytes of {first}: it was told again what it had");
    assert_eq!(envoy.stat("cluster_manager.active_clusters").await, MANY as u64);
    assert_eq!(envoy.stat("cluster_manager.cluster_modified").await, 1, "only one was changed");
    assert_eq!(envoy.sum("", "update_rejected").await, 0);
}

/// Longer than an Envoy takes to connect again.
const SETTLE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_killed_takes_nothing_from_an_envoy_but_what_nobody_puts_again() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let (mut mesh, port) = (Mesh::start_settling(&scratch, SETTLE).await, free_port());
        let backend = Backend::start().await;
        let put = async |mesh: &Mesh, clusters: &[&str]| {
            for name in clusters {
                mesh.put(&endpoints(name, &[backend.port])).await;
                mesh.put(&cluster(name)).await;
            }
            mesh.put(&routes("r1", "kept")).await;
            mesh.put(&listener("l1", port, "r1", ads())).await;
        };
        put(&mesh, &["kept", "dropped"]).await;
        let envoy = Envoy::start(&scratch, "stays", variant, mesh.xds).await;
        envoy.says(port, &backend.says()).await;
        envoy.shows_cluster("dropped", true).await;

        mesh.restart().await;
        until("it connects to the new bus", LIMIT, async || {
            (!mesh.connections("stays").await.is_empty()).then_some(())
        })
        .await;
        let begin = Instant::now();
        let serves = async || assert_eq!(envoy.through(port).await, Some((200, backend.says())));
        while begin.elapsed() < SETTLE / 4 {
            serves().await;
        }
        put(&mesh, &["kept"]).await;
        until("what nobody put again is gone", LIMIT, async || {
            serves().await;
            (!envoy.page("/clusters").await.contains("dropped::")).then_some(())
        })
        .await;
        for _ in 0..100 {
            serves().await;
        }
        assert_eq!(envoy.stat("listener_manager.listener_removed").await, 0, "{variant:?}");
        assert_eq!(envoy.stat("cluster_manager.cluster_removed").await, 1, "{variant:?}");
        assert_eq!(envoy.sum("", "update_rejected").await, 0, "{variant:?}");
    }
}
