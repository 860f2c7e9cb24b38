//! How state is shown that is no object of the API.

use serde_json::json;

use super::super::testing::serve;
use super::MAP;
use crate::core::write::{Operation, Precondition};
use crate::core::{Envelope, Key};
use crate::schema::address;

const VALUES: &str = "/apis/meshbus.dev/v1/values";

#[tokio::test]
async fn values_are_shown_with_what_they_hold() {
    let served = serve("").await;
    for (name, media_type, data, spec) in [
        (
            "a",
            Some("application/json"),
            &b"{\"t\":1}"[..],
            json!({"contentType": "application/json", "json": {"t": 1}}),
        ),
        ("b", Some("text/plain"), b"hi", json!({"contentType": "text/plain", "text": "hi"})),
        ("c", None, b"\xff", json!({"base64": "/w=="})),
    ] {
        let key = Key::new(Key::LOCAL, Key::VALUE, name);
        let mut envelope = Envelope::put(address::topic_of(&key).unwrap(), key.clone(), "", data.to_vec());
        envelope.datacontenttype = media_type.map(Into::into);
        served.bus.write(key, Operation::Put(Box::new(envelope)), Precondition::Any, false).await.unwrap();
        let object = served.get(&format!("{VALUES}/{name}")).await.ok();
        assert_eq!(object["spec"], spec);
        assert_eq!((&object["kind"], &object["status"]["resourceName"]), (&json!("Value"), &json!(name)));
    }
    served.end().await;
}

#[tokio::test]
async fn r14_names_that_no_path_spells_are_found_by_what_stands_for_them() {
    let served = serve("").await;
    served.put(Key::VALUE, "alerts/x", &json!(1)).await;
    let list = served.get(VALUES).await.ok();
    let metadata = &list["items"][0]["metadata"];
    let name = metadata["name"].as_str().unwrap();
    assert!(name.starts_with("alerts-x-"), "{name}");
    assert_eq!(metadata["annotations"]["meshbus.dev/name"], "alerts/x");
    for path in [name.to_owned(), "alerts%2Fx".to_owned()] {
        assert_eq!(served.get(&format!("{VALUES}/{path}")).await.ok()["spec"]["json"], 1, "{path}");
    }
    let selected = served.get(&format!("{VALUES}?fieldSelector=status.resourceName%3Dalerts%2Fx")).await;
    assert_eq!(selected.names(), [name]);
    let selected = served.get(&format!("{VALUES}?fieldSelector=metadata.name%3D{name}")).await;
    assert_eq!(selected.names(), [name]);
    served.delete(Key::VALUE, "alerts/x").await;
    served.get(&format!("{VALUES}/{name}")).await.failure(404);
    served.put(Key::VALUE, "alerts/y", &json!(2)).await;
    let list = served.get(VALUES).await.ok();
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(
        served.get(&format!("{VALUES}/{name}")).await.ok()["spec"]["json"],
        2,
        "what came later is found"
    );
    served.end().await;
}

#[tokio::test]
async fn one_bad_key_spoils_no_list() {
    let served = serve("").await;
    let key = Key::new(Key::LOCAL, MAP, "web/bad");
    let put = Envelope::put(address::topic_of(&key).unwrap(), key.clone(), "", "{\"metadata\":");
    served.bus.write(key, Operation::Put(Box::new(put)), Precondition::Any, false).await.unwrap();
    served.put(MAP, "web/good", &json!({"metadata": {}, "data": {}})).await;
    let list = served.get("/api/v1/configmaps").await;
    assert_eq!(list.names(), ["web/bad", "web/good"]);
    let bad = &list.ok()["items"][0];
    assert_eq!((&bad["kind"], bad["metadata"]["uid"].is_string()), (&json!("ConfigMap"), true));
    served.end().await;
}

#[tokio::test]
async fn xds_resources_are_kinds() {
    let served = serve("").await;
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    served.put(cluster, "outbound|80||a.b", &json!({"name": "outbound|80||a.b"})).await;
    let path = "/apis/cluster.config.envoy/v3/clusters";
    let one = served.get(&format!("{path}/outbound%7C80%7C%7Ca.b")).await.ok();
    assert_eq!((&one["apiVersion"], &one["kind"]), (&json!("cluster.config.envoy/v3"), &json!("Cluster")));
    assert_eq!(one["spec"], json!({"name": "outbound|80||a.b"}));
    assert_eq!(one["status"]["resourceName"], "outbound|80||a.b");
    served.end().await;
}

#[tokio::test]
async fn events_of_either_group_are_one() {
    let served = serve("").await;
    let event = json!({"kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e1", "namespace": "default"},
        "eventTime": "2026-11-22T06:00:00.000000Z", "reportingController": "c", "reportingInstance": "a",
        "action": "Test", "reason": "Tested", "regarding": {"kind": "Widget", "name": "w1"}, "note": "hi", "type": "Normal"});
    let seq = served.put("core/v1/Event", "default/e1", &event).await.to_string();
    let core = served.get("/api/v1/namespaces/default/events/e1").await.ok();
    assert_eq!(
        (&core["apiVersion"], &core["message"], &core["involvedObject"]["kind"]),
        (&json!("v1"), &json!("hi"), &json!("Widget"))
    );
    let new = served.get("/apis/events.k8s.io/v1/namespaces/default/events/e1").await.ok();
    assert_eq!((&new["apiVersion"], &new["note"]), (&json!("events.k8s.io/v1"), &json!("hi")));
    assert_eq!(
        (&core["metadata"]["resourceVersion"], &core["metadata"]["uid"]),
        (&json!(seq), &new["metadata"]["uid"])
    );
    for (query, count) in [
        ("involvedObject.kind!%3DPod", 1),
        ("involvedObject.name%3Dw1,type%3DNormal", 1),
        ("source%3Dx", 0),
        ("reportingComponent%3Dc", 1),
    ] {
        assert_eq!(
            served.get(&format!("/api/v1/events?fieldSelector={query}")).await.names().len(),
            count,
            "{query}"
        );
    }
    let (_, message) =
        served.get("/api/v1/events?fieldSelector=involvedObject.nope%3D1").await.failure(400);
    assert_eq!(message, "field label not supported: involvedObject.nope");
    served.end().await;
}

#[tokio::test]
async fn scopes_are_apart_and_tell_the_versions_of_their_source() {
    let served = serve("").await;
    let writes = served.bus.own("east".into(), "east".into(), false);
    let key = Key::new("east", MAP, "web/a");
    let put = Envelope::put(
        address::topic_of(&key).unwrap(),
        key,
        "99",
        r#"{"metadata":{"name":"a"},"data":{}}"#,
    );
    served.bus.ingress("east", "east").publish(vec![put]).await;
    assert!(served.get("/api/v1/configmaps").await.names().is_empty());
    let list = served.get("/scopes/east/api/v1/configmaps").await;
    assert_eq!(list.names(), ["web/a"]);
    assert_eq!(list.ok()["items"][0]["metadata"]["annotations"]["meshbus.dev/source-version"], "99");
    drop(writes);
    served.end().await;
}
