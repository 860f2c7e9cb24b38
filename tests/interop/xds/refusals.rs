//! Resources that an Envoy refuses.

use std::process::Command;
use std::time::Duration;

use super::envoy::{Envoy, VARIANTS, Variant};
use super::resources::{Cluster, ads, bad_cluster, cluster, endpoints, listener, routes, with_timeout};
use super::rig::{Backend, LIMIT, Mesh};
use crate::process::{Scratch, free_port, until};

const REJECTED: &str = "cluster_manager.cds.update_rejected";
/// How long nothing must come.
const SILENCE: Duration = Duration::from_secs(3);

/// The first kubectl there is.
fn kubectl(mesh: &Mesh, arguments: &[&str]) -> String {
    let named = std::env::var("MESHBUS_KUBECTLS").unwrap_or_default();
    let program = named.split(':').next().filter(|name| !name.is_empty());
    let program =
        program.expect("no kubectl: run `tests/run`, or set MESHBUS_KUBECTLS (Debian: kubernetes-client)");
    let output = Command::new(program)
        .args(arguments)
        .args(["--server", &format!("http://127.0.0.1:{}", mesh.api)])
        .env("KUBECONFIG", "/dev/null")
        .output()
        .expect("kubectl runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_cluster_is_not_told_again_until_it_changes_and_is_shown_meanwhile() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let (mesh, backend, port) = (Mesh::start(&scratch).await, Backend::start().await, free_port());
        mesh.put(&cluster("c1")).await;
        mesh.put(&endpoints("c1", &[backend.port])).await;
        mesh.put(&routes("r1", "c1")).await;
        mesh.put(&listener("l1", port, "r1", ads())).await;
        let envoy = Envoy::start(&scratch, "refuses", variant, mesh.xds).await;
        envoy.says(port, &backend.says()).await;
        mesh.put(&bad_cluster("bad")).await;
        let connection = until("the refusal is shown", LIMIT, async || {
            let connection = mesh.connections("refuses").await.pop()?;
            (connection["status"]["refused"] == "Cluster").then_some(connection)
        })
        .await;
        let types = connection["status"]["types"].as_array().expect("types");
        assert_eq!(types.len(), 4, "{variant:?}: one stream for all: {connection}");
        let refused = &types[0]["refused"];
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(message.contains("bad") && message.contains("EDS"), "{variant:?}: {connection}");
        assert_eq!(refused["resources"][0]["name"], "bad", "{variant:?}: {connection}");
        for of in &types[1..] {
            assert!(of["refused"].is_null() && of["accepted"] == of["sent"], "{variant:?}: {of}");
        }
        let events = mesh.list("core/v1/Event").await;
        let event = events.iter().find(|event| event["reason"] == "Refused").expect("an Event");
        assert_eq!(
            (&event["type"], &event["involvedObject"]["kind"]),
            (&"Warning".into(), &"Connection".into())
        );
        let told = event["message"].as_str().unwrap_or_default();
        assert!(told.contains("\"refuses\"") && told.contains(message), "{variant:?}: {event}");
        let table = kubectl(&mesh, &["get", "connections"]);
        let row = table.lines().find(|line| line.contains("refuses")).unwrap_or_default();
        assert!(table.contains("REFUSED") && row.contains("Cluster") && row.contains("envoy"), "{table}");

        assert_eq!(envoy.stat(REJECTED).await, 1, "{variant:?}");
        tokio::time::sleep(SILENCE).await;
        assert_eq!(envoy.stat(REJECTED).await, 1, "{variant:?}: it was told again");
        envoy.says(port, &backend.says()).await;
        mesh.put(&endpoints("bad", &[backend.port])).await;
        mesh.put(&cluster("bad")).await;
        envoy.shows_cluster("bad", true).await;
        until("the refusal is forgotten", LIMIT, async || {
            let connection = mesh.connections("refuses").await.pop()?;
            (connection["status"]["refused"] == "").then_some(())
        })
        .await;
        assert_eq!(envoy.stat(REJECTED).await, 1, "{variant:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_cluster_beside_a_refused_one_goes_on_to_be_told() {
    let scratch = Scratch::new();
    let mesh = Mesh::start(&scratch).await;
    // In one response, as the Envoy comes after them.
    mesh.put(&bad_cluster("bad")).await;
    mesh.put(&endpoints("good", &[1])).await;
    mesh.put(&cluster("good")).await;
    let envoy = Envoy::start(&scratch, "beside", Variant::Delta, mesh.xds).await;
    envoy.has_timeout("good", 1).await;
    assert_eq!(envoy.stat(REJECTED).await, 1);
    mesh.put(&with_timeout(cluster("good"), 2)).await;
    envoy.has_timeout("good", 2).await;
    mesh.delete::<Cluster>("good").await;
    envoy.shows_cluster("good", false).await;
    assert_eq!(envoy.stat(REJECTED).await, 1, "the refused one was told again");
}
