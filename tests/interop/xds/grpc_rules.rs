//! What the clients of gRPC are led by: state of the world, all of it by name.

use std::time::Duration;

use super::grpc::{Caller, LANGUAGES, Language};
use super::resources::{
    Cluster, Listener, bad_cluster, cluster, endpoints, routes, service, service_inline, with_timeout,
};
use super::rig::{Backend, LIMIT, Mesh};
use crate::process::{Scratch, until};

/// A service with routes, cluster and endpoints.
async fn put_service(mesh: &Mesh, backend: &Backend) {
    mesh.put(&cluster("c1")).await;
    mesh.put(&endpoints("c1", &[backend.port])).await;
    mesh.put(&routes("r1", "c1")).await;
    mesh.put(&service("svc", "r1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_led_from_listener_to_endpoints_with_routes_inline_and_by_rds() {
    let scratch = Scratch::new();
    let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
    put_service(&mesh, &backend).await;
    mesh.put(&service_inline("inline", routes("unnamed", "c1"))).await;
    for language in LANGUAGES {
        let mut caller = Caller::start(&scratch, &format!("{language:?}"), language, mesh.xds);
        for service in ["svc", "inline"] {
            let said = caller.call(service, 10).await;
            assert_eq!(said.reply, Some(backend.says()), "{language:?} {service}: {said:?}");
            println!("{language:?} {service}: {:.0} ms to the first answer", said.seconds * 1000.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_endpoints_reroute_a_client_at_once() {
    let scratch = Scratch::new();
    let (mesh, first, second) =
        (Mesh::start(&scratch).await, Backend::start().await, Backend::start().await);
    put_service(&mesh, &first).await;
    for language in LANGUAGES {
        mesh.put(&endpoints("c1", &[first.port])).await;
        let mut caller = Caller::start(&scratch, &format!("{language:?}"), language, mesh.xds);
        caller.says("svc", &first.says()).await;
        mesh.put(&endpoints("c1", &[second.port])).await;
        caller.says("svc", &second.says()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_names_of_a_grpc_client_mean_none() {
    // That of Rust keeps what it reaches when its cluster is gone.
    for language in [Language::Python, Language::Node] {
        let scratch = Scratch::new();
        let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
        put_service(&mesh, &backend).await;
        mesh.put(&endpoints("unasked", &[backend.port])).await;
        mesh.put(&routes("unasked", "c1")).await;
        let mut caller = Caller::start(&scratch, &format!("{language:?}"), language, mesh.xds);
        caller.says("svc", &backend.says()).await;
        // Without its cluster it asks for no endpoints, without its listener for no routes: by requests without names.
        mesh.delete::<Cluster>("c1").await;
        until("it fails without its cluster", LIMIT, async || caller.call("svc", 2).await.error.map(drop))
            .await;
        mesh.put(&endpoints("unasked", &[backend.port, backend.port])).await;
        mesh.delete::<Listener>("svc").await;
        until("it lets its routes go", LIMIT, async || {
            let error = caller.call("svc", 2).await.error?;
            // That of Node.js goes on to fail for the cluster.
            let log = caller.log();
            (error.contains("svc") || log.contains("unsubscribe(type=envoy.config.route.v3")).then_some(())
        })
        .await;
        for _ in 0..5 {
            mesh.put(&routes("unasked", "c2")).await;
            drop(caller.call("svc", 2).await);
        }
        // After this it was told all that it is told of the above.
        mesh.put(&cluster("c2")).await;
        mesh.put(&endpoints("c2", &[backend.port])).await;
        mesh.put(&routes("r2", "c2")).await;
        mesh.put(&service("last", "r2")).await;
        caller.says("last", &backend.says()).await;
        let log = caller.log();
        assert!(log.contains("c2") && log.contains("r2"), "{language:?} logs nothing");
        assert!(!log.contains("unasked"), "{language:?} was told what it did not ask for");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_back_brings_its_endpoints_again() {
    let scratch = Scratch::new();
    let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
    put_service(&mesh, &backend).await;
    // The client of Node.js does not ask for them again: a defect of its own.
    let mut caller = Caller::start(&scratch, "back", Language::Python, mesh.xds);
    caller.says("svc", &backend.says()).await;
    for _ in 0..3 {
        mesh.delete::<Cluster>("c1").await;
        caller.fails("svc", "c1").await;
        // Endpoints are as they were: the same version is told again.
        mesh.put(&cluster("c1")).await;
        caller.says("svc", &backend.says()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_there_before_its_resources_is_told_them_when_they_are_born() {
    let scratch = Scratch::new();
    let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
    let mut callers = Vec::new();
    for language in LANGUAGES {
        let node = format!("{language:?}");
        let mut caller = Caller::start(&scratch, &node, language, mesh.xds);
        caller.ask("svc", 14).await;
        until("it is connected", LIMIT, async || mesh.connections(&node).await.pop()).await;
        callers.push((language, caller));
    }
    // The other way round: each is asked for before it is there.
    mesh.put(&service("svc", "r1")).await;
    mesh.put(&routes("r1", "c1")).await;
    mesh.put(&cluster("c1")).await;
    mesh.put(&endpoints("c1", &[backend.port])).await;
    for (language, mut caller) in callers {
        let said = caller.answer().await;
        assert_eq!(said.reply, Some(backend.says()), "{language:?}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_an_error_at_once_for_clients_that_read_errors() {
    let scratch = Scratch::new();
    let mesh = Mesh::start(&scratch).await;
    let reads = [("GRPC_EXPERIMENTAL_XDS_DATA_ERROR_HANDLING", "true")];
    let mut caller = Caller::start_with(&scratch, "reads", Language::Python, mesh.xds, &reads);
    let said = caller.call("nowhere", 10).await;
    let error = said.error.unwrap_or_default();
    assert!(error.contains("there is no Listener \"nowhere\" in scope local"), "{error}");
    assert!(said.seconds < 1.0, "{error} after {} s", said.seconds);
    println!("{error} after {:.0} ms", said.seconds * 1000.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_absent_in_a_response_is_gone_and_the_rest_stays() {
    let scratch = Scratch::new();
    let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
    put_service(&mesh, &backend).await;
    mesh.put(&service("other", "r1")).await;
    let mut caller = Caller::start(&scratch, "absence", Language::Python, mesh.xds);
    caller.says("svc", &backend.says()).await;
    caller.says("other", &backend.says()).await;
    mesh.delete::<Listener>("other").await;
    caller.fails("other", "other").await;
    caller.says("svc", &backend.says()).await;
    // All there is.
    mesh.delete::<Listener>("svc").await;
    caller.fails("svc", "svc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_refuses_a_cluster_keeps_the_one_it_has_and_is_told_no_more_until_it_changes() {
    let scratch = Scratch::new();
    let (mesh, backend) = (Mesh::start(&scratch).await, Backend::start().await);
    put_service(&mesh, &backend).await;
    let mut caller = Caller::start(&scratch, "refuses", Language::Python, mesh.xds);
    caller.says("svc", &backend.says()).await;
    mesh.put(&bad_cluster("c1")).await;
    let refused = until("the refusal is shown", LIMIT, async || {
        let connection = mesh.connections("refuses").await.pop()?;
        let types = connection["status"]["types"].as_array()?.clone();
        types.into_iter().map(|of| of["refused"].clone()).find(|refused| !refused.is_null())
    })
    .await;
    assert_eq!(refused["resources"][0]["name"], "c1", "{refused}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let again = &mesh.connections("refuses").await[0]["status"]["types"].to_string();
    assert!(again.contains(refused["nonce"].as_str().expect("a nonce")), "it was told again: {again}");
    caller.says("svc", &backend.says()).await;
    mesh.put(&with_timeout(cluster("c1"), 2)).await;
    until("the refusal is forgotten", LIMIT, async || {
        let connection = mesh.connections("refuses").await.pop()?;
        (connection["status"]["refused"] == "").then_some(())
    })
    .await;
    caller.says("svc", &backend.says()).await;
}
