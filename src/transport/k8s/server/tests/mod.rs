//! Requests to a running server, over a socket.

mod access;
mod checks;
mod clients;
mod custom;
mod discovery;
mod edits;
mod kinds;
mod list;
#[cfg(feature = "envoy")]
mod messages;
mod model;
mod paths;
mod reviews;
#[cfg(feature = "envoy")]
mod through;
mod views;
mod watch;
mod writes;

use serde_json::{Value, json};

use super::testing::{Answer, Served, serve};

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

/// Widgets of the namespace `default`.
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A server that knows widgets: a size, a color, ports by their name, tags as a set, and anything under `free`.
async fn with_widgets() -> Served {
    let served = serve("").await;
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "maximum": 100}, "color": {"type": "string"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"],
                "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let status = json!({"type": "object", "properties": {"ready": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let created = send(&served, "POST", crds, &definition).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    served
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A request with a body of JSON; a PATCH is a merge patch.
async fn send(served: &Served, method: &str, path: &str, body: &Value) -> Answer {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    send_as(served, method, path, media, body).await
}

async fn send_as(served: &Served, method: &str, path: &str, media: &str, body: &Value) -> Answer {
    let headers = [("content-type", media), ("user-agent", "tester/1.0")];
    served.call(method, path, &headers, body.to_string().as_bytes()).await
}

/// Creates an object; gives it as it is stored.
async fn create(served: &Served, path: &str, object: &Value) -> Value {
    let answer = send(served, "POST", path, object).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    answer.json()
}

/// Server-side apply by a manager.
async fn apply(served: &Served, path: &str, query: &str, object: &Value) -> Answer {
    send_as(served, "PATCH", &format!("{path}?{query}"), "application/apply-patch+yaml", object).await
}

/// The version of an object.
fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
