//! The order in which an Envoy is told: nothing refers to what is not there, and nothing waits for what does not come.

use std::time::Duration;

use tokio::time::Instant;

use super::envoy::{Envoy, VARIANTS};
use super::resources::{
    Cluster, EdsConfig, Endpoints, ads, cluster, endpoints, listener, routes, with_timeout,
};
use super::rig::{Backend, Mesh};
use crate::process::{Scratch, free_port};

/// An Envoy that waits for what does not come goes on after 15 s.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_changes_leaves_warming_at_once() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let (mesh, first, second, port) =
            (Mesh::start(&scratch).await, Backend::start().await, Backend::start().await, free_port());
        mesh.put(&cluster("c1")).await;
        mesh.put(&endpoints("c1", &[first.port])).await;
        mesh.put(&routes("r1", "c1")).await;
        mesh.put(&listener("l1", port, "r1", ads())).await;
        let envoy = Envoy::start(&scratch, "warms", variant, mesh.xds).await;
        envoy.says(port, &first.says()).await;
        // Its endpoints stay as they are, and Envoy does not ask for them.
        let begin = Instant::now();
        mesh.put(&with_timeout(cluster("c1"), 2)).await;
        envoy.has_timeout("c1", 2).await;
        let took = begin.elapsed();
        println!("{variant:?}: a changed cluster is active after {} ms", took.as_millis());
        assert!(took < AT_ONCE, "{variant:?}: its endpoints did not come: active after {took:?}");
        // Another cluster with the endpoints that Envoy has already.
        let source = Some(ads());
        let eds = Some(EdsConfig { source, service_name: "c1".to_owned() });
        mesh.put(&Cluster { eds, ..cluster("twin") }).await;
        mesh.put(&routes("r1", "twin")).await;
        mesh.put(&endpoints("c1", &[second.port])).await;
        envoy.says(port, &second.says()).await;
        assert!(begin.elapsed() < AT_ONCE, "{variant:?}: {:?}", begin.elapsed());
        assert_eq!(envoy.stat("cluster_manager.warming_clusters").await, 0, "{variant:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_are_born_after_their_cluster_are_told() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let (mesh, backend, port) = (Mesh::start(&scratch).await, Backend::start().await, free_port());
        mesh.put(&cluster("c1")).await;
        mesh.put(&routes("r1", "c1")).await;
        mesh.put(&listener("l1", port, "r1", ads())).await;
        let envoy = Envoy::start(&scratch, "early", variant, mesh.xds).await;
        let begin = Instant::now();
        crate::process::until("it asks for endpoints", super::rig::LIMIT, async || {
            (envoy.stat("cluster.c1.update_attempt").await > 0).then_some(())
        })
        .await;
        mesh.put(&endpoints("c1", &[backend.port])).await;
        envoy.says(port, &backend.says()).await;
        assert!(begin.elapsed() < AT_ONCE, "{variant:?}: {:?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_of_clusters_fails_no_request() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let (mesh, backend, port) = (Mesh::start(&scratch).await, Backend::start().await, free_port());
        mesh.put(&cluster("c0")).await;
        mesh.put(&endpoints("c0", &[backend.port])).await;
        mesh.put(&routes("r1", "c0")).await;
        mesh.put(&listener("l1", port, "r1", ads())).await;
        let envoy = Envoy::start(&scratch, "switches", variant, mesh.xds).await;
        envoy.says(port, &backend.says()).await;
        for switch in 1..=10 {
            let (old, new) = (format!("c{}", switch - 1), format!("c{switch}"));
            // All at once: what it takes one after the other is the server's to know.
            mesh.put(&cluster(&new)).await;
            mesh.put(&endpoints(&new, &[backend.port])).await;
            mesh.put(&routes("r1", &new)).await;
            mesh.delete::<Cluster>(&old).await;
            mesh.delete::<Endpoints>(&old).await;
            let (mut requests, deadline) = (0, Instant::now() + AT_ONCE);
            while envoy.stat(&format!("cluster.{new}.upstream_rq_200")).await == 0 {
                let said = envoy.through(port).await;
                assert_eq!(
                    said,
                    Some((200, backend.says())),
                    "{variant:?}: {old} to {new}, after {requests}"
                );
                requests += 1;
                assert!(Instant::now() < deadline, "{variant:?}: {old} to {new}: {requests} requests");
            }
            envoy.shows_cluster(&old, false).await;
        }
        for name in ["no_cluster", "no_route", "downstream_rq_5xx", "downstream_rq_4xx"] {
            assert_eq!(envoy.stat(&format!("http.web.{name}")).await, 0, "{variant:?}: {name}");
        }
    }
}
