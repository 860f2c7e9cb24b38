//! Which kinds a scope has, and what may be done with them.

use serde_json::{Value, json};

use super::super::testing::{Served, serve};
use crate::core::{Envelope, Key};
use crate::schema::address;
use crate::schema::registry::Definition;

/// `group/version plural` to the verbs, of all kinds below `base` in a group.
async fn verbs(served: &Served, base: &str, group: &str) -> Vec<(String, String)> {
    let answer = served.get(&format!("{base}/{group}")).await;
    if answer.status == 404 {
        return Vec::new();
    }
    let list = answer.ok();
    let words = |value: &Value| {
        let words: Vec<&str> = value.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        words.join(" ")
    };
    let resources = list["resources"].as_array().unwrap().iter();
    resources.map(|it| (it["name"].as_str().unwrap().to_owned(), words(&it["verbs"]))).collect()
}

#[tokio::test]
async fn what_the_bus_tells_of_itself_is_read_and_values_are_written() {
    let served = serve("").await;
    let all = "create delete deletecollection get list patch update watch";
    let own = verbs(&served, "", "apis/meshbus.dev/v1").await;
    let expected = [
        ("cloudevents", "create get list watch"),
        ("connections", "get list watch"),
        ("connectors", "get list watch"),
        ("flows", "get list watch"),
        ("routes", "get list watch"),
        ("values", all),
    ];
    assert_eq!(own, expected.map(|(name, verbs)| (name.to_owned(), verbs.to_owned())));
    served.end().await;
}

#[tokio::test]
async fn the_verbs_of_a_scope_are_those_its_owner_takes_at_any_time() {
    let served = serve("").await;
    let definition = Definition::guess(&"apps/v1/Deployment".into()).unwrap();
    served.kinds.set("east".into(), vec![definition]);
    let first = |list: Vec<(String, String)>| list.into_iter().next().map(|(_, verbs)| verbs);
    // Nobody owns it yet, so that it is no scope.
    assert_eq!(served.get("/scopes/east/apis").await.status, 404);
    let read = Some("get list watch".to_owned());
    let all = Some("create delete deletecollection get list patch update watch".to_owned());
    for (writable, expected) in [(false, &read), (true, &all), (false, &read)] {
        drop(served.bus.own("east".into(), "east".into(), writable));
        assert_eq!(&first(verbs(&served, "/scopes/east", "apis/apps/v1").await), expected);
    }
    // Kinds of the server itself are those of the bus's own scope.
    assert!(verbs(&served, "/scopes/east", "api/v1").await.is_empty());
    served.end().await;
}

#[tokio::test]
async fn of_the_bus_s_own_kinds_an_owner_that_takes_writes_takes_values_only() {
    let served = serve("").await;
    let told = ["meshbus.dev/v1/Connection", "meshbus.dev/v1/Value"];
    let told = told.map(|type_url| Definition::guess(&type_url.into()).unwrap());
    served.kinds.set("core".into(), told.to_vec());
    drop(served.bus.own("core".into(), "core".into(), true));
    let all = "create delete deletecollection get list patch update watch";
    let own = verbs(&served, "/scopes/core", "apis/meshbus.dev/v1").await;
    let expected = [("connections", "get list watch"), ("values", all)];
    assert_eq!(own, expected.map(|(name, verbs)| (name.to_owned(), verbs.to_owned())));
    served.end().await;
}

#[tokio::test]
async fn messages_without_a_name_of_their_own_are_resources() {
    let served = serve("").await;
    let of = |name: &str| format!("type.googleapis.com/{name}");
    let nested = of("envoy.config.cluster.v3.Cluster.EdsClusterConfig");
    // Group, version and plural would be those of an object's type.
    let namesake = of("com.example.v1.Widget");
    served.put("example.com/v1/Widget", "default/w", &json!({"metadata": {"name": "w"}})).await;
    served.put(&nested, "n1", &json!({"serviceName": "x"})).await;
    served.put(&namesake, "w1", &json!({"size": 1})).await;
    let own = served.get("/apis/meshbus.dev/v1").await.ok();
    let resources: Vec<&Value> =
        own["resources"].as_array().unwrap().iter().filter(|it| it["kind"] == "Resource").collect();
    let names: Vec<_> = resources.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["resources-com-example-v1-widget", "resources-envoy-config-cluster-v3-cluster-edsclusterconfig"]
    );
    let list = served.get(&format!("/apis/meshbus.dev/v1/{}", names[1])).await;
    assert_eq!(list.names(), ["n1"]);
    assert_eq!(list.ok()["items"][0]["spec"], json!({"serviceName": "x"}));
    let widgets = served.get("/apis/example.com/v1/widgets").await;
    assert_eq!(widgets.names(), ["default/w"]);
    served.end().await;
}

#[tokio::test]
async fn a_definition_that_changes_changes_its_kind_and_one_that_goes_takes_it_along() {
    const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";
    let served = serve("").await;
    let definition = |plural: &str, served: bool| {
        json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": plural, "singular": "thing", "listKind": "ThingList"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v2", "served": served, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    };
    let versions = async || {
        let answer = served.get("/apis/example.com").await;
        if answer.status == 404 {
            return json!([]);
        }
        let group = answer.ok();
        group["versions"].as_array().unwrap().iter().map(|it| it["version"].clone()).collect::<Value>()
    };
    assert_eq!(versions().await, json!([]));
    served.put(CRD, "/things.example.com", &definition("things", false)).await;
    assert_eq!(versions().await, json!(["v1"]));
    served.put(CRD, "/things.example.com", &definition("things", true)).await;
    assert_eq!(versions().await, json!(["v2", "v1"]));
    served.delete(CRD, "/things.example.com").await;
    assert_eq!(versions().await, json!([]));
    served.end().await;
}

#[tokio::test]
async fn a_cluster_whose_definitions_are_watched_tells_what_its_kinds_look_like() {
    let served = serve("").await;
    drop(served.bus.own("east".into(), "east".into(), false));
    let mut told = Definition::guess(&"example.com/v1/Widget".into()).unwrap();
    told.status = true;
    served.kinds.set("east".into(), vec![told]);
    let crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "description": "Told."}}}]}});
    let key = Key::new("east", "apiextensions.k8s.io/v1/CustomResourceDefinition", "/widgets.example.com");
    let topic = address::topic_of(&key).unwrap();
    let put = Envelope::put(topic, key, "1", crd.to_string());
    let receipts = served.bus.ingress("east", "east").publish(vec![put]).await;
    receipts[0].stored().unwrap();
    let document = served.get("/scopes/east/openapi/v3/apis/example.com/v1").await.ok();
    assert_eq!(document["components"]["schemas"]["com.example.v1.Widget"]["description"], "Told.");
    served.end().await;
}
