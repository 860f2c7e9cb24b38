//! Rows X1 to X6: creating, replacing, patching and applying.

use serde_json::json;

use super::{WIDGETS, apply, create, send, send_as, version, widget, with_widgets};

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

#[tokio::test]
async fn x1_a_new_object_gets_what_the_server_decides_and_its_name_is_taken() {
    let served = with_widgets().await;
    let mut sent = widget("a", &json!({"size": 1}));
    sent["metadata"]["uid"] = "mine".into();
    sent["metadata"]["generation"] = 9.into();
    let a = create(&served, WIDGETS, &sent).await;
    let metadata = &a["metadata"];
    assert_ne!(metadata["uid"], "mine");
    assert_eq!((&metadata["generation"], &metadata["namespace"]), (&json!(1), &json!("default")));
    assert!(metadata["creationTimestamp"].is_string());
    assert_eq!(version(&a), served.bus.figures().seq.0);
    let again = send(&served, "POST", WIDGETS, &sent).await;
    let taken = ("AlreadyExists".to_owned(), "widgets.example.com \"a\" already exists".to_owned());
    assert_eq!(again.failure(409), taken);
    let mut generated = widget("", &json!({}));
    generated["metadata"] = json!({"generateName": "g-"});
    let mut names = std::collections::HashSet::new();
    for _ in 0..20 {
        let name =
            create(&served, WIDGETS, &generated).await["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("g-") && name.len() == 7, "{name}");
        assert!(names.insert(name), "a name is given once");
    }
    generated["metadata"] = json!({});
    let (reason, message) = send(&served, "POST", WIDGETS, &generated).await.failure(422);
    assert_eq!(reason, "Invalid");
    assert!(
        message.contains("metadata.name: Required value: name or generateName is required"),
        "{message}"
    );
    served.end().await;
}

#[tokio::test]
async fn x2_a_stale_replacement_conflicts_and_custom_kinds_must_name_their_version() {
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let first = create(&served, WIDGETS, &widget("a", &json!({"size": 1}))).await;
    let mut next = first.clone();
    next["spec"]["size"] = 2.into();
    let second = send(&served, "PUT", &path, &next).await.ok();
    assert!(version(&second) > version(&first));
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    let (reason, message) = send(&served, "PUT", &path, &first).await.failure(409);
    let expected = format!("Operation cannot be fulfilled on widgets.example.com \"a\": {MODIFIED}");
    assert_eq!((reason.as_str(), message), ("Conflict", expected));
    let (reason, message) =
        send(&served, "PUT", &path, &widget("a", &json!({"size": 3}))).await.failure(422);
    assert_eq!(reason, "Invalid");
    assert!(
        message.ends_with("metadata.resourceVersion: Invalid value: 0: must be specified for an update")
    );
    // The server's own kinds are replaced without one.
    let event = json!({"metadata": {"name": "e"}, "reason": "Tested", "type": "Normal", "message": "one",
        "involvedObject": {"kind": "Widget", "name": "a", "namespace": "default"}});
    let events = "/api/v1/namespaces/default/events";
    create(&served, events, &event).await;
    let mut other = event.clone();
    other["message"] = "two".into();
    assert_eq!(send(&served, "PUT", &format!("{events}/e"), &other).await.ok()["message"], "two");
    served.end().await;
}

#[tokio::test]
async fn x3_patches_are_those_the_kind_takes() {
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    create(&served, WIDGETS, &widget("a", &json!({"size": 1, "color": "red"}))).await;
    let merged = send(&served, "PATCH", &path, &json!({"spec": {"color": null, "size": 2}})).await.ok();
    assert_eq!(merged["spec"], json!({"size": 2}));
    let json_patch = async |operations: serde_json::Value| {
        send_as(&served, "PATCH", &path, "application/json-patch+json", &operations).await
    };
    let patched = json_patch(json!([{"op": "test", "path": "/spec/size", "value": 2},
        {"op": "replace", "path": "/spec/size", "value": 3}]));
    assert_eq!(patched.await.ok()["spec"]["size"], 3);
    let failing = json_patch(json!([{"op": "test", "path": "/spec/size", "value": 2}])).await;
    assert_eq!(failing.failure(422).0, "Invalid");
    let many = vec![json!({"op": "test", "path": "/spec/size", "value": 3}); 10_001];
    let (reason, message) = json_patch(json!(many)).await.failure(413);
    assert_eq!(reason, "RequestEntityTooLarge");
    assert!(message.contains("is 10000, got 10001"), "{message}");
    let strategic = "application/strategic-merge-patch+json";
    let refused = send_as(&served, "PATCH", &path, strategic, &json!({})).await;
    assert_eq!(refused.failure(415).0, "UnsupportedMediaType");
    // Kinds whose types say how take it: what is recorded again is counted this way.
    let event = json!({"metadata": {"name": "e"}, "reason": "Tested", "type": "Normal", "count": 1,
        "involvedObject": {"kind": "Widget", "name": "a", "namespace": "default"}});
    let lease = json!({"metadata": {"name": "e"}, "spec": {"holderIdentity": "a"}});
    for (path, object, patch, at) in [
        ("/api/v1/namespaces/default/events", event, json!({"count": 2}), "/count"),
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "e"}}),
            json!({"data": {"k": "v"}}),
            "/data/k",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            lease,
            json!({"spec": {"holderIdentity": "b"}}),
            "/spec/holderIdentity",
        ),
        (
            "/api/v1/namespaces",
            json!({"metadata": {"name": "e"}}),
            json!({"metadata": {"labels": {"l": "v"}}}),
            "/metadata/labels/l",
        ),
    ] {
        create(&served, path, &object).await;
        let patched = send_as(&served, "PATCH", &format!("{path}/e"), strategic, &patch).await.ok();
        assert_eq!(patched.pointer(at), patch.pointer(at), "{path}");
    }
    served.end().await;
}

#[tokio::test]
async fn x4_a_client_applies_by_get_and_merge_patch() {
    const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a?fieldManager=kubectl-client-side-apply");
    assert_eq!(served.get(&path).await.failure(404).0, "NotFound");
    let mut first = widget("a", &json!({"size": 1, "color": "red"}));
    let last = first.to_string();
    first["metadata"]["annotations"] = json!({LAST: last});
    let created =
        create(&served, &format!("{WIDGETS}?fieldManager=kubectl-client-side-apply"), &first).await;
    assert_eq!(served.get(&path).await.ok()["metadata"]["annotations"][LAST], last);
    let second = widget("a", &json!({"size": 1}));
    let patch = json!({"metadata": {"annotations": {LAST: second.to_string()}}, "spec": {"color": null}});
    let applied = send(&served, "PATCH", &path, &patch).await.ok();
    assert_eq!(applied["spec"], json!({"size": 1}), "a field that is no longer wanted goes");
    assert_eq!(applied["metadata"]["annotations"][LAST], second.to_string());
    let managers = applied["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 1);
    assert_eq!(managers[0]["manager"], "kubectl-client-side-apply");
    assert_eq!(managers[0]["operation"], "Update");
    // The same once more changes nothing.
    let same = send(&served, "PATCH", &path, &patch).await.ok();
    assert_eq!(version(&same), version(&applied));
    assert!(version(&applied) > version(&created));
    served.end().await;
}

#[tokio::test]
async fn x5_apply_creates_merges_conflicts_and_is_forced() {
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let wants = |spec| widget("a", &spec);
    let (reason, message) = apply(&served, &path, "", &wants(json!({"size": 1}))).await.failure(422);
    assert_eq!(reason, "Invalid");
    assert!(message.contains("fieldManager: Required value"), "{message}");
    let created =
        apply(&served, &path, "fieldManager=one", &wants(json!({"size": 1, "color": "red"}))).await;
    assert_eq!(created.status, 201);
    let fields = &created.json()["metadata"]["managedFields"];
    assert_eq!(fields[0]["operation"], "Apply");
    assert_eq!(fields[0]["fieldsV1"], json!({"f:spec": {"f:color": {}, "f:size": {}}}));
    let mut told = wants(json!({"size": 1}));
    told["metadata"]["managedFields"] = fields.clone();
    let (reason, message) = apply(&served, &path, "fieldManager=one", &told).await.failure(400);
    assert_eq!((&*reason, &*message), ("BadRequest", "metadata.managedFields must be nil"));
    let conflict = apply(&served, &path, "fieldManager=two", &wants(json!({"size": 2}))).await;
    let (reason, message) = conflict.failure(409);
    assert_eq!(reason, "Conflict");
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .spec.size");
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.size"});
    assert_eq!(conflict.json()["details"]["causes"], json!([cause]));
    let forced =
        apply(&served, &path, "fieldManager=two&force=true", &wants(json!({"size": 2}))).await.ok();
    assert_eq!(forced["spec"], json!({"size": 2, "color": "red"}));
    // What a manager no longer applies goes, unless another wants it.
    let given_up = apply(&served, &path, "fieldManager=one", &wants(json!({}))).await.ok();
    assert_eq!(given_up["spec"], json!({"size": 2}));
    // A client that applied for itself before moves its fields by a JSON patch.
    let at = given_up["metadata"]["resourceVersion"].clone();
    let mut moved = given_up["metadata"]["managedFields"].clone();
    moved[0]["manager"] = "three".into();
    let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": moved},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": at}]);
    let moved = send_as(&served, "PATCH", &path, "application/json-patch+json", &patch).await.ok();
    assert_eq!(moved["metadata"]["managedFields"][0]["manager"], "three");
    served.end().await;
}

#[tokio::test]
async fn x6_without_a_schema_maps_are_merged_and_lists_replaced_and_with_one_by_their_keys() {
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let as_manager = async |name: &str, spec| {
        apply(&served, &path, &format!("fieldManager={name}"), &widget("a", &spec)).await
    };
    as_manager(
        "one",
        json!({"free": {"map": {"x": 1}, "list": [1]}, "tags": ["a"],
        "ports": [{"name": "http", "port": 80}]}),
    )
    .await;
    let both = as_manager(
        "two",
        json!({"free": {"map": {"y": 2}}, "tags": ["b"],
        "ports": [{"name": "https", "port": 443}]}),
    )
    .await
    .ok();
    assert_eq!(both["spec"]["free"], json!({"map": {"x": 1, "y": 2}, "list": [1]}));
    assert_eq!(both["spec"]["tags"], json!(["a", "b"]));
    let ports = json!([{"name": "http", "port": 80}, {"name": "https", "port": 443}]);
    assert_eq!(both["spec"]["ports"], ports);
    let (_, message) = as_manager("two", json!({"free": {"list": [2]}})).await.failure(409);
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .spec.free.list");
    let (_, message) =
        as_manager("two", json!({"ports": [{"name": "http", "port": 81}]})).await.failure(409);
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.ports[name=\"http\"].port"
    );
    served.end().await;
}
