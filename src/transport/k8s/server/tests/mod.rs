//! Requests to a running server, over a socket.

mod access;
mod custom;
mod discovery;
mod kinds;
mod list;
#[cfg(feature = "envoy")]
mod messages;
mod paths;
mod reviews;
mod views;
mod watch;

use serde_json::{Value, json};

use super::testing::Served;

/// The type of `ConfigMap`s.
const MAP: &str = "core/v1/ConfigMap";
/// Those of the namespace `web`.
const MAPS: &str = "/api/v1/namespaces/web/configmaps";

/// A `ConfigMap` as it is stored.
fn map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "web", "uid": format!("u-{name}"), "labels": labels,
            "creationTimestamp": "2026-11-22T06:35:43Z"},
        "data": {"k": name}})
}

/// Stores `ConfigMap`s of these names, each with a label `n` of its name.
async fn fill(served: &Served, names: &[&str]) {
    for name in names {
        served.put(MAP, &format!("web/{name}"), &map(name, json!({"n": name}))).await;
    }
}
