//! Writes: conflicts, patches, apply, both forms of Events, and who wrote what.

use serde_json::{Value, json};

use crate::hostile::{ChangeType, Hostile, Options};

use super::client::{Answer, EVENTS, WIDGETS, ask, ask_with, get, version};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

async fn start() -> Hostile {
    Hostile::start(1, Options::default()).await
}

fn widget(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

async fn apply(hostile: &Hostile, query: &str, spec: Value) -> Answer {
    let headers = [("content-type", "application/apply-patch+yaml")];
    ask_with(hostile, "PATCH", &format!("{WIDGETS}/ssa?{query}"), &headers, &widget("ssa", &spec)).await
}

#[tokio::test]
async fn a_stale_update_conflicts_and_an_equal_one_changes_nothing() {
    let hostile = start().await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
                       "spec": {"holderIdentity": "a"}});
    let created = ask(&hostile, "POST", LEASES, &lease.to_string()).await;
    assert_eq!(created.code, 201);
    let again = ask(&hostile, "POST", LEASES, &lease.to_string()).await;
    assert_eq!((again.code, &again.body["reason"]), (409, &json!("AlreadyExists")));
    let path = format!("{LEASES}/l");
    assert_eq!(ask(&hostile, "PUT", &path, &lease.to_string()).await.code, 422, "it must say its version");
    let same = ask(&hostile, "PUT", &path, &created.body.to_string()).await;
    assert_eq!((same.code, version(&same.body)), (200, version(&created.body)));
    let mut taken = created.body.clone();
    taken["spec"]["holderIdentity"] = "b".into();
    assert_eq!(
        version(&ask(&hostile, "PUT", &path, &taken.to_string()).await.body),
        version(&created.body) + 1
    );
    taken["spec"]["holderIdentity"] = "c".into();
    let stale = ask(&hostile, "PUT", &path, &taken.to_string()).await;
    assert_eq!((stale.code, &stale.body["reason"]), (409, &json!("Conflict")));
    assert_eq!(
        stale.body["message"],
        "Operation cannot be fulfilled on leases.coordination.k8s.io \"l\": the object has been modified; please \
         apply your changes to the latest version and try again"
    );
}

#[tokio::test]
async fn status_and_specification_do_not_touch_each_other() {
    let hostile = start().await;
    ask(&hostile, "POST", WIDGETS, &widget("w1", &json!({"size": 1}))).await;
    let patch = json!({"status": {"ready": "yes"}, "spec": {"size": 99}}).to_string();
    let status = ask(&hostile, "PATCH", &format!("{WIDGETS}/w1/status"), &patch).await.body;
    assert_eq!((&status["status"]["ready"], &status["spec"]["size"]), (&json!("yes"), &json!(1)));
    assert_eq!(status["metadata"]["generation"], 1);
    assert_eq!(status["metadata"]["managedFields"][1]["subresource"], "status");
    let patch = json!({"status": {"ready": "no"}, "spec": {"size": 2}}).to_string();
    let main = ask(&hostile, "PATCH", &format!("{WIDGETS}/w1"), &patch).await.body;
    assert_eq!((&main["status"]["ready"], &main["metadata"]["generation"]), (&json!("yes"), &json!(2)));
}

#[tokio::test]
async fn apply_merges_conflicts_is_forced_and_gives_up_as_a_real_server_does() {
    let hostile = start().await;
    let created = apply(&hostile, "fieldManager=a", json!({"size": 1, "color": "red"})).await;
    assert_eq!(created.code, 201);
    let fields = &created.body["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(*fields, json!({"f:spec": {"f:color": {}, "f:size": {}}}));
    let same = apply(&hostile, "fieldManager=a", json!({"size": 1, "color": "red"})).await;
    assert_eq!(version(&same.body), version(&created.body));
    let dropped = apply(&hostile, "fieldManager=a", json!({"size": 1})).await;
    assert_eq!(dropped.body["spec"], json!({"size": 1}));
    apply(&hostile, "fieldManager=b", json!({"color": "blue"})).await;
    let conflict = apply(&hostile, "fieldManager=b", json!({"size": 5})).await;
    assert_eq!(conflict.code, 409);
    assert_eq!(conflict.body["message"], "Apply failed with 1 conflict: conflict with \"a\": .spec.size");
    let cause =
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.size"});
    assert_eq!(conflict.body["details"]["causes"][0], cause);
    let forced = apply(&hostile, "fieldManager=b&force=true", json!({"size": 5})).await.body;
    assert_eq!(
        (&forced["spec"], forced["metadata"]["managedFields"].as_array().unwrap().len()),
        (&json!({"size": 5}), 1)
    );
    assert_eq!(apply(&hostile, "force=true", json!({})).await.code, 422, "apply names its manager");
}

#[tokio::test]
async fn patches_are_those_the_kind_takes() {
    let hostile = start().await;
    hostile.create("Widget", "default", "w", json!({"spec": {"size": 1}}));
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let refused = ask_with(&hostile, "PATCH", &format!("{WIDGETS}/w"), &strategic, "{}").await;
    assert_eq!((refused.code, &refused.body["reason"]), (415, &json!("UnsupportedMediaType")));
    hostile.emit("default", 1);
    let counted = json!({"count": 2}).to_string();
    let event = ask_with(&hostile, "PATCH", &format!("{EVENTS}/ev-000001"), &strategic, &counted).await;
    assert_eq!((event.code, &event.body["count"]), (200, &json!(2)));
    let json_patch = [("content-type", "application/json-patch+json")];
    let failing = json!([{"op": "test", "path": "/spec/size", "value": 0}]).to_string();
    assert_eq!(ask_with(&hostile, "PATCH", &format!("{WIDGETS}/w"), &json_patch, &failing).await.code, 422);
    let fitting = json!([{"op": "test", "path": "/spec/size", "value": 1},
                         {"op": "replace", "path": "/spec/size", "value": 3}]);
    let patched =
        ask_with(&hostile, "PATCH", &format!("{WIDGETS}/w"), &json_patch, &fitting.to_string()).await;
    assert_eq!(patched.body["spec"]["size"], 3);
    let foreign = json!({"metadata": {"uid": "zzz"}}).to_string();
    let immutable = ask(&hostile, "PATCH", &format!("{WIDGETS}/w"), &foreign).await;
    assert_eq!(
        immutable.body["message"],
        "Widget.example.com \"w\" is invalid: metadata.uid: Invalid value: \"zzz\": field is immutable"
    );
}

#[tokio::test]
async fn both_event_apis_are_one_storage() {
    let hostile = start().await;
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e1"},
        "eventTime": "2026-11-22T06:00:00.000000Z", "reportingController": "example.com/test",
        "reportingInstance": "a", "action": "Test", "reason": "Tested", "note": "hi", "type": "Normal",
        "regarding": {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w1", "namespace": "default"},
    });
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let created = ask(&hostile, "POST", new, &event.to_string()).await;
    assert_eq!(created.code, 201, "{}", created.body);
    let core = get(&hostile, &format!("{EVENTS}/e1")).await.body;
    assert_eq!((&core["metadata"], &core["apiVersion"]), (&created.body["metadata"], &json!("v1")));
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("hi"), &json!("w1")));
    assert_eq!((&core["source"], &core["firstTimestamp"]), (&json!({}), &Value::Null));
    let note = json!({"note": "other"}).to_string();
    assert_eq!(
        ask(&hostile, "PATCH", &format!("{new}/e1"), &note).await.code,
        422,
        "only a series changes"
    );
    let series =
        json!({"series": {"count": 2, "lastObservedTime": "2026-11-22T06:01:00.000000Z"}}).to_string();
    assert_eq!(ask(&hostile, "PATCH", &format!("{new}/e1"), &series).await.body["series"]["count"], 2);
    let found = get(&hostile, "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dw1").await.body;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    event["metadata"]["name"] = "e2".into();
    event["eventTime"] = Value::Null;
    assert_eq!(ask(&hostile, "POST", new, &event.to_string()).await.code, 422);
}

#[tokio::test]
async fn preconditions_and_finalizers_hold_a_deletion() {
    let hostile = start().await;
    hostile.create("Widget", "default", "w", json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    let path = format!("{WIDGETS}/w");
    let options = json!({"preconditions": {"resourceVersion": "1"}}).to_string();
    assert_eq!(ask(&hostile, "DELETE", &path, &options).await.code, 409);
    let held = ask(&hostile, "DELETE", &path, "").await.body;
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let release = json!({"metadata": {"finalizers": null}}).to_string();
    assert_eq!(ask(&hostile, "PATCH", &path, &release).await.code, 200);
    assert_eq!(get(&hostile, &path).await.code, 404);
    let changes: Vec<ChangeType> = hostile.history("Widget").iter().map(|one| one.change).collect();
    assert_eq!(changes, [ChangeType::Added, ChangeType::Modified, ChangeType::Deleted]);
    let missing = ask(&hostile, "DELETE", &path, "").await;
    assert_eq!(missing.body["message"], "widgets.example.com \"w\" not found");
}

#[tokio::test]
async fn a_missing_namespace_is_not_found_and_a_deleted_one_takes_all_with_it() {
    let hostile = start().await;
    let pods = "/api/v1/namespaces/team/pods";
    let pod = json!({"metadata": {"generateName": "p-"}, "spec": {}}).to_string();
    let missing = ask(&hostile, "POST", pods, &pod).await;
    assert_eq!((missing.code, &missing.body["message"]), (404, &json!("namespaces \"team\" not found")));
    hostile.create("Namespace", "", "team", json!({}));
    assert_eq!(ask(&hostile, "POST", pods, &pod).await.code, 201);
    assert_eq!(ask(&hostile, "DELETE", "/api/v1/namespaces/team", "").await.code, 200);
    assert!(hostile.objects("Pod").is_empty());
    assert_eq!(get(&hostile, "/api/v1/namespaces/team").await.code, 404);
}

#[tokio::test]
async fn writes_are_logged_with_their_field_manager() {
    let hostile = start().await;
    ask(&hostile, "POST", &format!("{WIDGETS}?fieldManager=bridge"), &widget("a", &json!({}))).await;
    ask(&hostile, "POST", WIDGETS, &widget("b", &json!({}))).await;
    let widgets: Vec<_> = hostile.writes().into_iter().filter(|write| write.kind == "Widget").collect();
    let authors: Vec<&str> = widgets.iter().map(|write| write.author.as_str()).collect();
    assert_eq!(authors, ["bridge", "asker"], "or the program it says it is");
    assert_eq!((widgets[0].verb, widgets[0].name.as_str(), widgets[0].by_client), ("create", "a", true));
}
