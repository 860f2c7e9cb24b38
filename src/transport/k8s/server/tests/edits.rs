//! Rows X7 to X12: what is checked, tried, deleted and refused.

use http::HeaderValue;
use serde_json::{Value, json};

use super::super::testing::Watch;
use super::{WIDGETS, apply, create, send, version, widget, with_widgets};

#[tokio::test]
async fn x7_fields_that_nobody_knows_are_refused_told_or_dropped() {
    let served = with_widgets().await;
    let sent = widget("a", &json!({"size": 1, "colour": "red"}));
    let (reason, message) =
        send(&served, "POST", &format!("{WIDGETS}?fieldValidation=Strict"), &sent).await.failure(400);
    assert_eq!(reason, "BadRequest");
    assert!(message.ends_with("strict decoding error: unknown field \"spec.colour\""), "{message}");
    let warned = send(&served, "POST", &format!("{WIDGETS}?fieldValidation=Warn"), &sent).await;
    assert_eq!(warned.status, 201);
    assert_eq!(warned.header("warning"), "299 - \"unknown field \\\"spec.colour\\\"\"");
    assert_eq!(warned.json()["spec"], json!({"size": 1}), "it is not stored");
    let silent =
        send(&served, "POST", &format!("{WIDGETS}?fieldValidation=Ignore"), &widget("b", &sent["spec"]))
            .await;
    assert_eq!((silent.status.as_u16(), silent.header("warning")), (201, ""));
    let twice = br#"{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "c"}, "spec": {"size": 1, "size": 2}}"#;
    let path = format!("{WIDGETS}?fieldValidation=Strict");
    let (_, message) =
        served.call("POST", &path, &[("content-type", "application/json")], twice).await.failure(400);
    assert!(message.ends_with("strict decoding error: duplicate field \"spec.size\""), "{message}");
    assert_eq!(served.get(&format!("{WIDGETS}/c")).await.failure(404).0, "NotFound");
    served.end().await;
}

#[tokio::test]
async fn x8_a_dry_run_of_any_verb_changes_nothing() {
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let tried =
        send(&served, "POST", &format!("{WIDGETS}?dryRun=All"), &widget("b", &json!({"size": 1}))).await;
    assert_eq!((tried.status.as_u16(), &tried.json()["spec"]["size"]), (201, &json!(1)));
    let a = create(&served, WIDGETS, &widget("a", &json!({"size": 1}))).await;
    let before = served.bus.figures().seq;
    let dry = format!("{path}?dryRun=All");
    let mut next = a.clone();
    next["spec"]["size"] = 2.into();
    let put = send(&served, "PUT", &dry, &next).await.ok();
    assert_eq!(
        (&put["spec"]["size"], version(&put)),
        (&json!(2), version(&a)),
        "as it would be, at its version"
    );
    let patched = send(&served, "PATCH", &dry, &json!({"spec": {"size": 3}})).await.ok();
    assert_eq!(patched["spec"]["size"], 3);
    let applied =
        apply(&served, &path, "fieldManager=m&force=true&dryRun=All", &widget("a", &json!({"size": 4})))
            .await;
    assert_eq!(applied.ok()["spec"]["size"], 4);
    send(&served, "PATCH", &format!("{path}/status?dryRun=All"), &json!({"status": {"ready": "x"}}))
        .await
        .ok();
    send(&served, "DELETE", &dry, &Value::Null).await.ok();
    send(&served, "DELETE", &path, &json!({"dryRun": ["All"]})).await.ok();
    send(&served, "DELETE", &format!("{WIDGETS}?dryRun=All"), &Value::Null).await.ok();
    assert_eq!(
        send(&served, "DELETE", &format!("{path}?dryRun=Some"), &Value::Null).await.failure(422).0,
        "Invalid"
    );
    assert_eq!(served.bus.figures().seq, before, "nothing was published");
    assert_eq!(served.get(&path).await.ok(), a);
    served.end().await;
}

async fn next(watch: &mut Watch) -> (String, String, u64) {
    watch.told().await
}

#[tokio::test]
async fn x9_preconditions_and_finalizers_hold_a_deletion() {
    let served = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let mut held = widget("a", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let a = create(&served, WIDGETS, &held).await;
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let refused = send(&served, "DELETE", &path, &json!({"preconditions": wrong})).await;
        let (reason, message) = refused.failure(409);
        assert_eq!(reason, "Conflict");
        assert!(message.contains("recondition"), "{message}");
    }
    let mut watch = served.watch(&format!("{WIDGETS}?watch=1&resourceVersion={}", version(&a))).await;
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
        "preconditions": {"uid": a["metadata"]["uid"]}});
    let ending = send(&served, "DELETE", &path, &options).await.ok();
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(next(&mut watch).await, ("MODIFIED".into(), "a".into(), version(&ending)));
    assert_eq!(served.get(&path).await.ok()["metadata"]["finalizers"], json!(["example.com/hold"]));
    send(&served, "PATCH", &path, &json!({"metadata": {"finalizers": null}})).await.ok();
    let (word, name, gone) = next(&mut watch).await;
    assert_eq!((&*word, &*name), ("DELETED", "a"));
    assert!(gone > version(&ending), "of the deletion");
    let (reason, message) = served.get(&path).await.failure(404);
    assert_eq!((&*reason, &*message), ("NotFound", "widgets.example.com \"a\" not found"));
    // One that nobody holds goes at once, and the answer says which it was.
    let b = create(&served, WIDGETS, &widget("b", &json!({}))).await;
    let status =
        send(&served, "DELETE", &format!("{WIDGETS}/b?propagationPolicy=Orphan"), &Value::Null).await.ok();
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(
        (&status["details"]["name"], &status["details"]["uid"]),
        (&json!("b"), &b["metadata"]["uid"])
    );
    assert_eq!(served.get(&format!("{WIDGETS}/b")).await.failure(404).0, "NotFound");
    served.end().await;
}

#[tokio::test]
async fn x10_a_collection_is_deleted_as_its_selectors_say_each_object_told() {
    let served = with_widgets().await;
    for (name, tier) in [("a", "front"), ("b", "back"), ("c", "front")] {
        let mut one = widget(name, &json!({}));
        one["metadata"]["labels"] = json!({"tier": tier});
        create(&served, WIDGETS, &one).await;
    }
    let at = served.bus.figures().seq;
    let mut watch = served.watch(&format!("{WIDGETS}?watch=1&resourceVersion={at}")).await;
    let gone =
        send(&served, "DELETE", &format!("{WIDGETS}?labelSelector=tier%3Dfront"), &Value::Null).await;
    assert_eq!(gone.names(), ["default/a", "default/c"]);
    let mut last = at.0;
    for name in ["a", "c"] {
        let (word, told, version) = next(&mut watch).await;
        assert_eq!((&*word, &*told), ("DELETED", name));
        assert!(version > last);
        last = version;
    }
    assert_eq!(served.get(WIDGETS).await.names(), ["default/b"]);
    send(&served, "DELETE", &format!("{WIDGETS}?fieldSelector=metadata.name%3Db"), &Value::Null).await.ok();
    assert!(served.get(WIDGETS).await.names().is_empty());
    served.end().await;
}

#[tokio::test]
async fn x11_status_and_the_rest_do_not_touch_each_other() {
    let served = with_widgets().await;
    let (path, status) = (format!("{WIDGETS}/a"), format!("{WIDGETS}/a/status"));
    let mut sent = widget("a", &json!({"size": 1}));
    sent["status"] = json!({"ready": "no"});
    let a = create(&served, WIDGETS, &sent).await;
    assert_eq!(a.get("status"), None, "the main verbs write none");
    let patched =
        send(&served, "PATCH", &status, &json!({"status": {"ready": "yes"}, "spec": {"size": 9}}))
            .await
            .ok();
    assert_eq!((&patched["status"]["ready"], &patched["spec"]["size"]), (&json!("yes"), &json!(1)));
    assert_eq!(patched["metadata"]["generation"], 1, "a generation is of what is wanted");
    assert_eq!(served.get(&status).await.ok(), patched);
    let mut put = patched.clone();
    put["status"]["ready"] = "again".into();
    put["spec"]["size"] = 9.into();
    let put = send(&served, "PUT", &status, &put).await.ok();
    assert_eq!((&put["status"]["ready"], &put["spec"]["size"]), (&json!("again"), &json!(1)));
    let main =
        send(&served, "PATCH", &path, &json!({"status": {"ready": "no"}, "spec": {"size": 2}})).await.ok();
    assert_eq!((&main["status"]["ready"], &main["metadata"]["generation"]), (&json!("again"), &json!(2)));
    let told = send(&served, "PATCH", &path, &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    assert_eq!(told["metadata"]["generation"], 2);
    served.end().await;
}

#[tokio::test]
async fn x12_every_refusal_is_a_status_with_its_reason_and_what_it_is_about() {
    let served = with_widgets().await;
    create(&served, WIDGETS, &widget("a", &json!({"size": 1}))).await;
    drop(served.bus.own("east".into(), "cluster".into(), false));
    let east = served.bus.ingress("cluster", "east");
    let key = crate::core::Key::new("east", "core/v1/ConfigMap", "web/m");
    let topic = crate::schema::address::topic_of(&key).unwrap();
    let data =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"web","uid":"u"}}"#;
    east.publish(vec![crate::core::Envelope::put(topic, key, "1", data)]).await;
    let kind = crate::schema::registry::Definition::guess(&"core/v1/ConfigMap".into()).unwrap();
    served.kinds.set("east".into(), vec![kind]);

    let missing = served.get(&format!("{WIDGETS}/none")).await;
    assert_eq!(missing.failure(404).0, "NotFound");
    let details = json!({"name": "none", "group": "example.com", "kind": "widgets"});
    assert_eq!(missing.json()["details"], details);
    let invalid = send(&served, "POST", WIDGETS, &widget("b", &json!({"size": 101}))).await;
    assert_eq!(invalid.failure(422).0, "Invalid");
    let details = &invalid.json()["details"];
    assert_eq!((&details["name"], &details["kind"]), (&json!("b"), &json!("Widget")));
    assert_eq!(details["causes"][0]["field"], "spec.size");
    let read_only =
        send(&served, "PATCH", "/scopes/east/api/v1/namespaces/web/configmaps/m", &json!({"data": {}}))
            .await;
    let (reason, message) = read_only.failure(405);
    assert_eq!(reason, "MethodNotAllowed");
    assert!(message.contains("cluster"), "it names the source: {message}");
    for (method, path, media, accept, body, code, reason) in [
        ("POST", WIDGETS, "application/json", "", "{\"kind\":", 400, "BadRequest"),
        ("POST", WIDGETS, "application/cbor", "", "x", 415, "UnsupportedMediaType"),
        ("PUT", WIDGETS, "application/json", "", "{}", 405, "MethodNotAllowed"),
        ("GET", WIDGETS, "", "application/cbor", "", 406, "NotAcceptable"),
    ] {
        let headers: Vec<(&str, &str)> = [("content-type", media), ("accept", accept)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let answer = served.call(method, path, &headers, body.as_bytes()).await;
        assert_eq!(answer.failure(code).0, reason, "{method} {path}");
        assert_eq!(answer.headers.get("content-type"), Some(&HeaderValue::from_static("application/json")));
    }
    served.end().await;
}
