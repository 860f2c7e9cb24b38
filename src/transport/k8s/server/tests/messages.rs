//! XDS resources as kinds: protobuf in the table, JSON in the API.

use serde_json::{Value, json};

use super::super::testing::{Answer, Served, serve};
use crate::core::{Envelope, Key};
use crate::schema::address;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const CLUSTERS: &str = "/apis/cluster.config.envoy/v3/clusters";
const JSON: (&str, &str) = ("content-type", "application/json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");
/// A cluster named `a` of type EDS with a timeout of five seconds.
const BYTES: &[u8] = b"\x0a\x01a\x10\x03\x22\x02\x08\x05";

fn cluster(name: &str, spec: Value) -> Vec<u8> {
    let object = json!({"apiVersion": "cluster.config.envoy/v3", "kind": "Cluster",
        "metadata": {"name": name}, "spec": spec});
    object.to_string().into_bytes()
}

fn stored(served: &Served, name: &str) -> Envelope {
    let record = served.bus.get(&Key::new(Key::LOCAL, CLUSTER, name)).expect("it is stored");
    Envelope::clone(&record.envelope)
}

async fn patch(served: &Served, name: &str, patch: &Value) -> Answer {
    served.call("PATCH", &format!("{CLUSTERS}/{name}"), &[MERGE], patch.to_string().as_bytes()).await
}

/// The field that a 422 names first, and what is said of it.
#[track_caller]
fn field(answer: &Answer) -> (String, String) {
    let (reason, message) = answer.failure(422);
    assert_eq!(reason, "Invalid");
    let status = answer.json();
    let cause = &status["details"]["causes"][0];
    assert!(message.contains(cause["field"].as_str().unwrap()), "{message}");
    let text = |name: &str| cause[name].as_str().unwrap().to_owned();
    (text("field"), text("message"))
}

#[tokio::test]
async fn types_of_xds_are_kinds_before_there_is_any() {
    let served = serve("").await;
    let list = served.get("/apis/cluster.config.envoy/v3").await.ok();
    assert_eq!(
        list["resources"],
        json!([{"name": "clusters", "singularName": "cluster", "namespaced": false, "kind": "Cluster",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            "shortNames": ["cds"], "categories": ["xds"]}])
    );
    assert!(served.get(CLUSTERS).await.names().is_empty());
    served.end().await;
}

#[tokio::test]
async fn all_that_may_be_shown_are_one_category() {
    for (settings, expected) in [
        ("", &["cds", "eds", "lds", "rds"][..]),
        ("allow_secrets: true", &["cds", "eds", "lds", "rds", "sds"]),
    ] {
        let served = serve(settings).await;
        let mut short = Vec::new();
        for group in served.get("/apis").await.ok()["groups"].as_array().unwrap() {
            let at = group["preferredVersion"]["groupVersion"].as_str().unwrap();
            let list = served.get(&format!("/apis/{at}")).await.ok();
            let all = list["resources"].as_array().unwrap();
            let xds = all.iter().filter(|it| it["categories"] == json!(["xds"]));
            short.extend(xds.filter_map(|it| Some(it["shortNames"].get(0)?.as_str()?.to_owned())));
        }
        short.sort();
        assert_eq!(short, expected);
        served.end().await;
    }
}

#[tokio::test]
async fn what_is_created_as_json_is_stored_as_protobuf() {
    let served = serve("").await;
    let spec = json!({"name": "a", "type": "EDS", "connect_timeout": "5.0s"});
    let created = served.call("POST", CLUSTERS, &[JSON], &cluster("a", spec)).await;
    assert_eq!(created.status, 201, "{created:?}");
    let envelope = stored(&served, "a");
    assert_eq!(&envelope.data[..], BYTES);
    assert_eq!(envelope.datacontenttype.as_deref(), Some("application/protobuf"));
    assert_eq!(envelope.topic.as_str(), "xds/local/envoy.config.cluster.v3.Cluster/a");
    let shown = json!({"name": "a", "type": "EDS", "connectTimeout": "5s"});
    assert_eq!(created.json()["spec"], shown);
    let one = served.get(&format!("{CLUSTERS}/a")).await.ok();
    assert_eq!((&one["spec"], &one["status"]["resourceName"]), (&shown, &json!("a")));
    assert_eq!(one["metadata"]["annotations"], Value::Null);
    let again = served.call("POST", CLUSTERS, &[JSON], &cluster("a", json!({}))).await;
    assert_eq!(again.failure(409).0, "AlreadyExists");
    let deleted = served.call("DELETE", &format!("{CLUSTERS}/a"), &[], b"").await;
    assert_eq!(deleted.status, 200);
    assert_eq!(served.get(&format!("{CLUSTERS}/a")).await.status, 404);
    served.end().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_by_its_field() {
    let served = serve("").await;
    let post =
        async |spec: Value| field(&served.call("POST", CLUSTERS, &[JSON], &cluster("a", spec)).await);
    let (at, why) = post(json!({"loadAssignment": {"endpoints": [{"lbEndpoint": []}]}})).await;
    assert_eq!(at, "spec.loadAssignment.endpoints[0].lbEndpoint");
    assert!(why.ends_with("did you mean `lbEndpoints`?"), "{why}");
    assert_eq!(post(json!("x")).await.0, "spec");
    assert_eq!(post(Value::Null).await, ("spec".into(), "Required value: it becomes the data".into()));
    served.call("POST", CLUSTERS, &[JSON], &cluster("a", json!({"name": "a"}))).await;
    assert_eq!(field(&patch(&served, "a", &json!({"spec": {"type": "EDSS"}})).await).0, "spec.type");
    assert_eq!(stored(&served, "a").data, "\u{a}\u{1}a");
    served.end().await;
}

#[tokio::test]
async fn every_way_to_change_it_changes_its_message() {
    let served = serve("").await;
    served.call("POST", CLUSTERS, &[JSON], &cluster("a", json!({"name": "a", "type": "EDS"}))).await;
    let path = format!("{CLUSTERS}/a");
    let spec = async || served.get(&path).await.ok()["spec"].clone();
    let changed = patch(&served, "a", &json!({"spec": {"connectTimeout": "5s"}})).await;
    assert_eq!((changed.status.as_u16(), &stored(&served, "a").data[..]), (200, BYTES));
    // Nothing new is no new version, however it is spelt.
    let before = changed.json()["metadata"]["resourceVersion"].clone();
    let same = patch(&served, "a", &json!({"spec": {"connectTimeout": "5.000s"}})).await.json();
    assert_eq!(same["metadata"]["resourceVersion"], before);
    let operations = json!([{"op": "remove", "path": "/spec/connectTimeout"}]).to_string();
    let json_patch = ("content-type", "application/json-patch+json");
    assert_eq!(served.call("PATCH", &path, &[json_patch], operations.as_bytes()).await.status, 200);
    assert_eq!(spec().await, json!({"name": "a", "type": "EDS"}));
    assert_eq!(served.call("PUT", &path, &[JSON], &cluster("a", json!({"name": "b"}))).await.status, 200);
    assert_eq!(spec().await, json!({"name": "b"}));
    let old = json!({"metadata": {"resourceVersion": before}, "spec": {"name": "c"}});
    assert_eq!(patch(&served, "a", &old).await.failure(409).0, "Conflict");
    let dry = format!("{path}?dryRun=All");
    let dry = served.call("PUT", &dry, &[JSON], &cluster("a", json!({"name": "d"}))).await.json();
    assert_eq!((&dry["spec"], &spec().await), (&json!({"name": "d"}), &json!({"name": "b"})));
    served.end().await;
}

#[tokio::test]
async fn what_is_applied_replaces_what_was() {
    let served = serve("").await;
    let path = format!("{CLUSTERS}/a?fieldManager=m");
    let apply = [("content-type", "application/apply-patch+yaml")];
    for (spec, code) in [(json!({"name": "a", "type": "EDS"}), 201), (json!({"name": "a"}), 200)] {
        assert_eq!(served.call("PATCH", &path, &apply, &cluster("a", spec.clone())).await.status, code);
        assert_eq!(served.get(&path).await.ok()["spec"], spec);
    }
    // As a client's own apply sends it, which does not know what was applied before.
    patch(&served, "a", &json!({"spec": {"type": "EDS"}})).await;
    let applied = String::from_utf8(cluster("a", json!({"name": "a", "connectTimeout": "1s"}))).unwrap();
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    let sent = json!({"metadata": {"annotations": annotations}, "spec": {"connectTimeout": "1s"}});
    let answer = patch(&served, "a", &sent).await;
    assert_eq!((answer.status.as_u16(), answer.header("warning")), (200, ""));
    assert_eq!(served.get(&path).await.ok()["spec"], json!({"name": "a", "connectTimeout": "1s"}));
    served.end().await;
}

#[tokio::test]
async fn any_name_is_found_and_written() {
    let served = serve("").await;
    let pipes = cluster("outbound|80||a.b", json!({"name": "outbound|80||a.b"}));
    assert_eq!(served.call("POST", CLUSTERS, &[JSON], &pipes).await.status, 201);
    let one = served.get(&format!("{CLUSTERS}/outbound%7C80%7C%7Ca.b")).await.ok();
    assert_eq!(one["metadata"]["name"], "outbound|80||a.b");
    // One that is no path segment: its true name is in the annotation.
    let mut object: Value = serde_json::from_slice(&cluster("x", json!({"name": "a/b"}))).unwrap();
    object["metadata"]["annotations"] = json!({"meshbus.dev/name": "a/b"});
    let created = served.call("POST", CLUSTERS, &[JSON], object.to_string().as_bytes()).await;
    assert_eq!(created.status, 201);
    assert_eq!(&stored(&served, "a/b").data[..], b"\x0a\x03a/b");
    let names = served.get(CLUSTERS).await.names();
    assert!(names[0].starts_with("a-b-"), "{names:?}");
    for name in [names[0].as_str(), "a%2Fb"] {
        let one = served.get(&format!("{CLUSTERS}/{name}")).await.ok();
        assert_eq!(one["metadata"]["annotations"]["meshbus.dev/name"], "a/b");
    }
    served.end().await;
}

#[tokio::test]
async fn what_is_not_kept_is_told() {
    let served = serve("").await;
    let mut object: Value = serde_json::from_slice(&cluster("a", json!({"name": "a"}))).unwrap();
    object["metadata"]["labels"] = json!({"app": "x"});
    let created = served.call("POST", CLUSTERS, &[JSON], object.to_string().as_bytes()).await;
    assert!(created.header("warning").contains("metadata.labels is not kept"), "{created:?}");
    assert_eq!(created.json()["metadata"]["labels"], Value::Null);
    // A field from the future.
    let key = Key::new(Key::LOCAL, CLUSTER, "f");
    let topic = address::topic_of(&key).unwrap();
    let put = Envelope::put(topic, key, "", &b"\x0a\x01f\xc2\x3e\x01x"[..]);
    served.bus.ingress("t", Key::LOCAL).publish(vec![put]).await;
    let one = served.get(&format!("{CLUSTERS}/f")).await.ok();
    assert_eq!((&one["spec"], &one["status"]["unknownFields"]), (&json!({"name": "f"}), &json!(true)));
    let changed = patch(&served, "f", &json!({"spec": {"type": "EDS"}})).await;
    assert!(changed.header("warning").contains("do not know are dropped"), "{changed:?}");
    served.end().await;
}

#[tokio::test]
async fn a_table_shows_what_its_readers_look_for() {
    let served = serve("").await;
    let table = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    for (path, kind, spec, column, expected) in [
        ("cluster.config.envoy/v3/clusters", "Cluster", json!({"type": "EDS"}), "Type", json!("EDS")),
        ("cluster.config.envoy/v3/clusters", "Cluster", json!({}), "Type", json!("STATIC")),
        (
            "listener.config.envoy/v3/listeners",
            "Listener",
            json!({"address": {"socketAddress": {"address": "::1", "portValue": 80}}}),
            "Address",
            json!("[::1]:80"),
        ),
        (
            "endpoint.config.envoy/v3/clusterloadassignments",
            "ClusterLoadAssignment",
            json!({"clusterName": "x", "endpoints": [{"lbEndpoints": [{}, {}]}, {"lbEndpoints": [{}]}, {}]}),
            "Endpoints",
            json!(3),
        ),
        (
            "route.config.envoy/v3/routeconfigurations",
            "RouteConfiguration",
            json!({"virtualHosts": [{"name": "v"}]}),
            "Virtual Hosts",
            json!(1),
        ),
    ] {
        let (group, _) = path.rsplit_once('/').unwrap();
        let object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "t"}, "spec": spec});
        let created =
            served.call("POST", &format!("/apis/{path}"), &[JSON], object.to_string().as_bytes()).await;
        assert_eq!(created.status, 201, "{created:?}");
        let rows = served.call("GET", &format!("/apis/{path}/t"), &[table], b"").await.ok();
        let names: Vec<&str> = rows["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["Name", column, "Version", "Source", "Resource Name", "Age"]);
        assert_eq!((&rows["rows"][0]["cells"][0], &rows["rows"][0]["cells"][1]), (&json!("t"), &expected));
        served.call("DELETE", &format!("/apis/{path}/t"), &[], b"").await;
    }
    served.end().await;
}

#[tokio::test]
async fn its_schema_is_that_of_its_descriptors() {
    let served = serve("").await;
    let document = served.get("/openapi/v3/apis/cluster.config.envoy/v3").await.ok();
    let schema = &document["components"]["schemas"]["envoy.config.cluster.v3.Cluster"];
    assert_eq!(schema["properties"]["spec"]["properties"]["name"]["type"], "string");
    assert_eq!(schema["properties"]["status"]["properties"]["unknownFields"]["type"], "boolean");
    assert!(served.get("/openapi/v2").await.body.len() > 10_000);
    served.end().await;
}
