//! Rows A1 to A3, A7 and A8: what describe, events, wait and leader election ask.

use serde_json::{Value, json};

use super::super::testing::{Served, serve};
use super::{WIDGETS, create, send, version, widget, with_widgets};

const EVENTS: &str = "/api/v1/namespaces/default/events";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn event(name: &str, about: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name}, "reason": "Tested", "type": "Warning", "message": "it was", "count": 1,
        "involvedObject": {"apiVersion": "example.com/v1", "kind": "Widget", "name": about,
            "namespace": "default", "uid": uid}})
}

async fn with_events() -> (Served, Value) {
    let served = with_widgets().await;
    let a = create(&served, WIDGETS, &widget("a", &json!({"size": 1}))).await;
    let uid = a["metadata"]["uid"].as_str().unwrap();
    create(&served, EVENTS, &event("of-a", "a", uid)).await;
    create(&served, EVENTS, &event("of-b", "b", "other")).await;
    (served, a)
}

#[tokio::test]
async fn a1_describe_finds_the_events_about_an_object_whatever_the_order_of_its_selector() {
    let (served, a) = with_events().await;
    assert_eq!(served.get(&format!("{WIDGETS}/a")).await.ok(), a);
    let uid = a["metadata"]["uid"].as_str().unwrap();
    let wants = [("kind", "Widget"), ("name", "a"), ("namespace", "default"), ("uid", uid)];
    for turn in 0..wants.len() {
        let mut wants = wants;
        wants.rotate_left(turn);
        let selector = wants.map(|(field, value)| format!("involvedObject.{field}%3D{value}")).join("%2C");
        let found = served.get(&format!("{EVENTS}?fieldSelector={selector}&limit=500")).await;
        assert_eq!(found.names(), ["default/of-a"], "{selector}");
    }
    let other = format!("{EVENTS}?fieldSelector=involvedObject.name%3Da%2CinvolvedObject.uid%3Dother");
    assert!(served.get(&other).await.names().is_empty());
    served.end().await;
}

#[tokio::test]
async fn a2_events_of_one_object_are_listed_and_watched_without_a_position() {
    let (served, _) = with_events().await;
    let selector = "involvedObject.apiVersion%3Dexample.com%2Fv1%2CinvolvedObject.kind%3DWidget%2CinvolvedObject.name%3Da";
    assert_eq!(served.get(&format!("{EVENTS}?fieldSelector={selector}")).await.names(), ["default/of-a"]);
    let mut watch = served.watch(&format!("{EVENTS}?watch=true&limit=500&fieldSelector={selector}")).await;
    let (word, name, _) = watch.told().await;
    assert_eq!((&*word, &*name), ("ADDED", "of-a"), "what there is comes first");
    create(&served, EVENTS, &event("of-b-2", "b", "other")).await;
    create(&served, EVENTS, &event("of-a-2", "a", "u")).await;
    let (word, name, _) = watch.told().await;
    assert_eq!((&*word, &*name), ("ADDED", "of-a-2"));
    served.end().await;
}

#[tokio::test]
async fn a3_wait_lists_one_name_at_any_position_and_watches_after_it() {
    let (served, a) = with_events().await;
    let one = "fieldSelector=metadata.name%3Da";
    let list = served.get(&format!("{WIDGETS}?{one}&limit=500&resourceVersion=0")).await;
    assert_eq!(list.names(), ["default/a"]);
    let at = version(&list.ok());
    assert!(at >= version(&a));
    let query = "watch=true&allowWatchBookmarks=true&timeoutSeconds=30";
    let mut watch = served.watch(&format!("{WIDGETS}?{one}&{query}&resourceVersion={at}")).await;
    create(&served, WIDGETS, &widget("b", &json!({}))).await;
    let status = format!("{WIDGETS}/a/status");
    send(&served, "PATCH", &status, &json!({"status": {"ready": "yes"}})).await.ok();
    let told = watch.next().await.unwrap();
    assert_eq!((&told["type"], &told["object"]["status"]["ready"]), (&json!("MODIFIED"), &json!("yes")));
    send(&served, "DELETE", &format!("{WIDGETS}/a"), &Value::Null).await.ok();
    assert_eq!(watch.told().await.0, "DELETED");
    // What waits for a deletion takes this for its end; what waits for a creation asks again.
    assert_eq!(served.get(&format!("{WIDGETS}/a")).await.failure(404).0, "NotFound");
    served.end().await;
}

#[tokio::test]
async fn a7_namespaces_are_there_and_what_there_is_not_is_plainly_not_found() {
    let served = with_widgets().await;
    assert!(served.get("/api/v1/namespaces").await.names().contains(&"default".to_owned()));
    assert_eq!(served.get("/api/v1/namespaces/default").await.ok()["status"]["phase"], "Active");
    let elsewhere = "/apis/example.com/v1/namespaces/none/widgets";
    let refused = send(&served, "POST", elsewhere, &widget("a", &json!({}))).await.failure(404);
    assert_eq!(refused, ("NotFound".to_owned(), "namespaces \"none\" not found".to_owned()));
    create(&served, "/api/v1/namespaces", &json!({"metadata": {"name": "none"}})).await;
    create(&served, elsewhere, &widget("a", &json!({}))).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    create(&served, "/api/v1/namespaces/default/pods", &pod).await;
    for (method, path) in [
        ("GET", "/apis/example.com/v1/namespaces/none/widgets/a/scale"),
        ("GET", "/api/v1/namespaces/default/pods/p/log"),
        ("POST", "/api/v1/namespaces/default/pods/p/exec?command=ls"),
    ] {
        let (reason, _) = served.call(method, path, &[], b"").await.failure(404);
        assert_eq!(reason, "NotFound", "{path}");
    }
    // Of kinds that nobody has the path itself is not there.
    let services =
        "/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue";
    for path in ["/apis/metrics.k8s.io/v1beta1/nodes", services] {
        assert_eq!(served.get(path).await.status, 404, "{path}");
    }
    served.end().await;
}

#[tokio::test]
async fn a8_of_those_who_want_a_lease_one_holds_it() {
    let served = serve("").await;
    let held_by = |name: &str| {
        json!({"metadata": {"name": "leader"}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 15,
            "acquireTime": "2026-11-22T06:00:00.000000Z", "renewTime": "2026-11-22T06:00:00.000000Z",
            "leaseTransitions": 0}})
    };
    let path = format!("{LEASES}/leader");
    assert_eq!(served.get(&path).await.failure(404).0, "NotFound");
    let first = create(&served, LEASES, &held_by("one")).await;
    assert_eq!(send(&served, "POST", LEASES, &held_by("two")).await.failure(409).0, "AlreadyExists");
    // Both of two who read the same want to take it over: one does.
    let take = |name: &str| {
        let mut lease = first.clone();
        lease["spec"]["holderIdentity"] = name.into();
        lease["spec"]["leaseTransitions"] = 1.into();
        lease
    };
    let (two, three) = (take("two"), take("three"));
    let (two, three) = tokio::join!(send(&served, "PUT", &path, &two), send(&served, "PUT", &path, &three));
    let codes = [two.status.as_u16(), three.status.as_u16()];
    assert!(codes == [200, 409] || codes == [409, 200], "{codes:?}");
    let winner = if codes[0] == 200 { two } else { three };
    let mut renewed = winner.ok();
    assert_eq!(served.get(&path).await.ok(), renewed);
    renewed["spec"]["renewTime"] = "2026-11-22T06:00:10.000000Z".into();
    let renewed = send(&served, "PUT", &path, &renewed).await.ok();
    assert_eq!(renewed["spec"]["renewTime"], "2026-11-22T06:00:10.000000Z");
    assert_eq!(send(&served, "PUT", &path, &take("one")).await.failure(409).0, "Conflict");
    let unversioned = send(&served, "PUT", &path, &held_by("one")).await;
    assert_eq!(unversioned.failure(422).0, "Invalid", "nobody takes it over unseen");
    served.end().await;
}
