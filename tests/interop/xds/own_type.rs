//! Row 32 by gRPC's client of Rust: objects of Kubernetes, watched as resources of a type that it was taught.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use super::grpc::rust;
use super::rig::{LIMIT, Mesh};
use crate::process::Scratch;

const TYPE: &str = "core/v1/ConfigMap";

fn map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": name},
        "data": {"value": value},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_32_objects_of_kubernetes_are_watched_as_a_type_of_the_clients_own() {
    let scratch = Scratch::new();
    let mut mesh = Mesh::start_settling(&scratch, Duration::from_secs(5)).await;
    mesh.put_object(TYPE, "shop/one", &map("one", "1")).await;
    mesh.put_object(TYPE, "shop/unasked", &map("unasked", "1")).await;
    let mut watch = rust()
        .args(["watch", &format!("http://127.0.0.1:{}", mesh.xds), "own-type", "shop/one", "shop/two"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the client runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let mut seen = Vec::new();
    // It is told again what has not changed, as each response is all there is.
    let mut told = async |name: &str, value: Option<&str>| {
        let expected = |event: &Value| {
            event["name"] == name && event["data"]["value"].as_str() == value && event["error"].is_null()
        };
        loop {
            let line = timeout(LIMIT, lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("not told {name} {value:?}, but {seen:?}"));
            let event = serde_json::from_str(&line.expect("output").expect("a line")).expect("JSON");
            if expected(&event) {
                return;
            }
            assert_ne!(event["name"], "shop/unasked", "it was told what it did not ask for");
            seen.push(event);
        }
    };
    told("shop/one", Some("1")).await;
    mesh.put_object(TYPE, "shop/one", &map("one", "2")).await;
    told("shop/one", Some("2")).await;
    mesh.put_object(TYPE, "shop/two", &map("two", "1")).await;
    told("shop/two", Some("1")).await;
    mesh.delete_named(TYPE, "shop/one").await;
    told("shop/one", None).await;
    // A bus that is started again has nothing, and takes nothing from it.
    mesh.restart().await;
    mesh.put_object(TYPE, "shop/two", &map("two", "2")).await;
    told("shop/two", Some("2")).await;
    assert_eq!(seen.iter().filter(|event| event["gone"].is_string()).count(), 0, "{seen:?}");
}
