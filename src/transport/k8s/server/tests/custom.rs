//! Custom kinds: their versions, columns and fields to select by.

use serde_json::json;

use super::super::testing::{Served, serve};
use crate::schema::registry::Definition;

const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";

async fn widgets() -> Served {
    let served = serve("").await;
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}, "size": {"type": "integer"}}}}}},
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "additionalPrinterColumns": [
                {"jsonPath": ".spec.size", "name": "Size", "type": "integer"},
                {"jsonPath": ".metadata.creationTimestamp", "name": "Age", "type": "date"}]})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [version("v1", true), version("v2", false)]}});
    served.put(CRD, "/widgets.example.com", &definition).await;
    for (name, color) in [("w1", "red"), ("w2", "blue")] {
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default", "uid": "u", "creationTimestamp": "2026-11-22T06:35:43Z"},
            "spec": {"color": color, "size": 7}});
        served.put("example.com/v1/Widget", &format!("default/{name}"), &widget).await;
    }
    served
}

#[tokio::test]
async fn a_custom_kind_is_served_in_each_of_its_versions() {
    let served = widgets().await;
    for version in ["v1", "v2"] {
        let path = format!("/apis/example.com/{version}/namespaces/default/widgets");
        let list = served.get(&path).await.ok();
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!("WidgetList"), &json!(format!("example.com/{version}")))
        );
        assert_eq!(list["items"][0]["apiVersion"], format!("example.com/{version}"));
        let mut watch = served.watch(&format!("{path}?watch=1")).await;
        assert_eq!(watch.next().await.unwrap()["object"]["apiVersion"], format!("example.com/{version}"));
    }
    served.end().await;
}

#[tokio::test]
async fn r4_r10_its_columns_are_shown_and_its_fields_select() {
    let served = widgets().await;
    let path = "/apis/example.com/v1/namespaces/default/widgets";
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = served.call("GET", path, &accept, b"").await.ok();
    let names: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["Name", "Size", "Age"]);
    assert_eq!(table["rows"][0]["cells"][1], 7);
    assert!(table["rows"][0]["cells"][2].is_string());
    assert_eq!(served.get(&format!("{path}?fieldSelector=spec.color%3Dred")).await.names(), ["default/w1"]);
    let (_, message) = served.get(&format!("{path}?fieldSelector=spec.size%3D7")).await.failure(400);
    assert_eq!(message, "field label not supported: spec.size");
    served.end().await;
}

#[tokio::test]
async fn what_a_cluster_tells_of_its_kinds_is_served_in_its_scope() {
    let served = widgets().await;
    let mut told = Definition::guess(&"apps/v1/Fish".into()).unwrap();
    told.plural = "fish".into();
    served.kinds.set("east".into(), vec![told]);
    drop(served.bus.own("east".into(), "east".into(), false));
    assert!(served.get("/scopes/east/apis/apps/v1/fish").await.names().is_empty());
    assert_eq!(served.get("/apis/apps/v1/fish").await.status, 404);
    served.end().await;
}
