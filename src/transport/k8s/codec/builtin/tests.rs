//! The built-in kinds: facts, rules, defaults and tables, also against what a real server answered.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use crate::schema::columns::cell;

use super::*;

fn kind(type_url: &str) -> &'static BuiltIn {
    find(type_url).unwrap()
}

fn wrong(type_url: &str, object: &Value) -> Vec<String> {
    kind(type_url).validate(object).iter().map(ToString::to_string).collect()
}

fn changed(type_url: &str, new: &Value, old: &Value) -> Vec<String> {
    kind(type_url).validate_update(new, old).iter().map(ToString::to_string).collect()
}

fn cells(type_url: &str, object: &Value, now: i64) -> Vec<Value> {
    kind(type_url).columns().iter().map(|column| cell(column, object, now)).collect()
}

/// An object of a kind with a good name.
fn named(extra: &Value) -> Value {
    let mut object = json!({"metadata": {"name": "a", "namespace": "default"}});
    object.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    object
}

#[test]
fn every_schema_is_read_and_knows_its_metadata() {
    assert_eq!(all().len(), 8);
    for kind in all() {
        let schema = kind.schema();
        assert_eq!(
            schema["properties"]["metadata"]["properties"]["name"]["type"], "string",
            "{}",
            kind.type_url
        );
        Structural::compile_built_in(schema).unwrap();
        assert_eq!(kind.definition().type_url, kind.type_url);
        assert!(!kind.columns().is_empty());
        let mut object =
            json!({"apiVersion": "x", "kind": kind.kind, "metadata": {"name": "a", "nope": 1}, "huh": 1});
        assert_eq!(kind.structural().prune(&mut object), ["huh", "metadata.nope"]);
    }
}

#[test]
fn keys_of_lists_are_those_that_patches_and_apply_merge_by() {
    let pod = kind("core/v1/Pod").schema();
    let at = |pointer: &str| pod.pointer(pointer).unwrap();
    let containers = at("/properties/spec/properties/containers");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    let ports = &containers["items"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(
        at("/properties/spec/properties/volumes")["x-kubernetes-patch-strategy"],
        "merge,retainKeys"
    );
    assert_eq!(at("/properties/spec/properties/tolerations")["x-kubernetes-list-type"], "atomic");
}

#[test]
fn an_event_of_the_core_group_agrees_with_its_namespace() {
    let event = |namespace: &str| named(&json!({"involvedObject": {"namespace": namespace, "name": "p"}}));
    assert!(wrong("core/v1/Event", &event("default")).is_empty());
    assert_eq!(
        wrong("core/v1/Event", &event("other")),
        [r#"involvedObject.namespace: Invalid value: "other": does not match event.namespace"#]
    );
    let mut odd = event("default");
    odd["metadata"]["name"] = json!("Pod_1.17A");
    assert!(wrong("core/v1/Event", &odd).is_empty());
}

#[test]
fn a_new_event_tells_who_what_and_when() {
    let missing =
        wrong("events.k8s.io/v1/Event", &named(&json!({"eventTime": "2026-11-22T06:00:00.000000Z"})));
    for error in [
        "reportingController: Required value",
        "reportingInstance: Required value",
        "action: Required value",
        "reason: Required value",
        r#"type: Invalid value: "": has invalid value: "#,
    ] {
        assert!(missing.iter().any(|told| told == error), "{error} is missing in {missing:?}");
    }
    let untimed = named(&json!({"type": "Normal", "deprecatedCount": 1, "series": {"count": 1}}));
    assert_eq!(
        wrong("events.k8s.io/v1/Event", &untimed),
        [
            r#"series.count: Invalid value: "": should be at least 2"#,
            "series.lastObservedTime: Required value",
            "eventTime: Required value",
            r#"count: Invalid value: "": needs to be unset"#,
        ]
    );
    let long = named(&json!({
        "eventTime": "2026-11-22T06:00:00.000000Z", "type": "Normal", "reportingController": "a/b",
        "reportingInstance": "i", "action": "a".repeat(129), "reason": "r", "note": "n".repeat(1025),
    }));
    assert_eq!(
        wrong("events.k8s.io/v1/Event", &long),
        [
            r#"action: Invalid value: "": can have at most 128 characters"#,
            r#"message: Invalid value: "": can have at most 1024 characters"#,
        ]
    );
}

#[test]
fn an_event_changes_in_its_series_only() {
    let old = named(&json!({
        "eventTime": "2026-11-22T06:00:00.000000Z", "type": "Normal", "reportingController": "a/b",
        "reportingInstance": "i", "action": "a", "reason": "r", "note": "n", "deprecatedSource": {},
    }));
    let mut new = old.clone();
    new["series"] = json!({"count": 2, "lastObservedTime": "2026-11-22T06:01:00.000000Z"});
    assert!(changed("events.k8s.io/v1/Event", &new, &old).is_empty());
    new["note"] = json!("other");
    assert_eq!(
        changed("events.k8s.io/v1/Event", &new, &old),
        [r#"message: Invalid value: "other": field is immutable"#]
    );
}

#[test]
fn a_config_map_keeps_its_keys_and_size_and_may_be_immutable() {
    assert!(wrong("core/v1/ConfigMap", &named(&json!({"data": {"a.b": "1"}}))).is_empty());
    assert!(
        wrong("core/v1/ConfigMap", &named(&json!({"data": {"a b": "1"}})))[0]
            .starts_with(r#"data[a b]: Invalid value: "a b": a valid config key must consist"#)
    );
    assert_eq!(
        wrong("core/v1/ConfigMap", &named(&json!({"data": {"a": "1"}, "binaryData": {"a": "aGk="}})))[0],
        r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#
    );
    assert_eq!(
        wrong("core/v1/ConfigMap", &named(&json!({"data": {"a": "x".repeat(1 << 20) + "x"}}))),
        [": Too long: may not be more than 1048576 bytes"]
    );
    let old = named(&json!({"immutable": true, "data": {"a": "1"}}));
    assert_eq!(
        changed("core/v1/ConfigMap", &named(&json!({"data": {"a": "2"}})), &old),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
}

#[test]
fn a_lease_keeps_its_numbers() {
    let spec = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "b"}});
    assert_eq!(
        wrong("coordination.k8s.io/v1/Lease", &named(&spec)),
        [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ]
    );
}

#[test]
fn a_namespace_is_a_label_and_is_made_active() {
    let mut object = json!({"metadata": {"name": "a.b"}});
    assert!(wrong("core/v1/Namespace", &object)[0].contains("a lowercase RFC 1123 label must consist"));
    object["metadata"]["name"] = json!("a");
    kind("core/v1/Namespace").default(&mut object);
    assert_eq!(
        object,
        json!({
            "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"}
        })
    );
    assert!(wrong("core/v1/Namespace", &object).is_empty());
}

#[test]
fn a_pod_has_containers_with_names_and_images() {
    assert_eq!(wrong("core/v1/Pod", &named(&json!({"spec": {}}))), ["spec.containers: Required value"]);
    assert_eq!(
        wrong(
            "core/v1/Pod",
            &named(&json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "c"}]}}))
        ),
        [r#"spec.containers[1].name: Duplicate value: "c""#, "spec.containers[1].image: Required value"]
    );
}

#[test]
fn a_definition_is_wrong_once() {
    let object = json!({"metadata": {"name": "x"}, "spec": {"group": "example.com", "scope": "Cluster",
        "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"}, "versions": []}});
    let told = wrong("apiextensions.k8s.io/v1/CustomResourceDefinition", &object);
    assert_eq!(told.iter().filter(|told| told.starts_with("metadata.name")).count(), 1, "{told:?}");
}

#[test]
fn the_row_of_a_pod_sums_its_containers_up() {
    let row = |status: Value| -> Vec<Value> {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
            "status": status,
        });
        cells("core/v1/Pod", &pod, 1_000).into_iter().skip(1).take(3).collect()
    };
    assert_eq!(row(json!({"phase": "Pending"})), [json!("0/2"), json!("Pending"), json!("0")]);
    assert_eq!(
        row(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]})
        ),
        [json!("0/2"), json!("Init:0/1"), json!("0")]
    );
    let running = |name: &str, restarts: i64| {
        json!({"name": name, "ready": true, "restartCount": restarts, "state": {"running": {}},
               "lastState": {"terminated": {"finishedAt": "1970-01-01T00:11:40Z"}}})
    };
    assert_eq!(
        row(json!({"phase": "Running", "containerStatuses": [running("a", 3), running("b", 0)]})),
        [json!("2/2"), json!("Running"), json!("3 (5m ago)")]
    );
    let waiting =
        json!({"name": "b", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    assert_eq!(
        row(json!({"phase": "Running", "containerStatuses": [running("a", 0), waiting]})),
        [json!("1/2"), json!("CrashLoopBackOff"), json!("1 (5m ago)")]
    );
}

#[test]
fn the_row_of_an_event_is_the_same_in_both_forms() {
    let core = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Widget", "name": "one"}, "message": " hi ",
        "source": {"component": "c", "host": "h"}, "firstTimestamp": "1970-01-01T00:00:00Z",
        "lastTimestamp": "1970-01-01T00:05:00Z", "count": 3, "type": "Normal", "reason": "R",
    });
    let v1 = json!({
        "metadata": {"name": "e"}, "regarding": {"kind": "Widget", "name": "one"}, "note": " hi ",
        "deprecatedSource": {"component": "c", "host": "h"}, "deprecatedFirstTimestamp": "1970-01-01T00:00:00Z",
        "deprecatedLastTimestamp": "1970-01-01T00:05:00Z", "deprecatedCount": 3, "type": "Normal", "reason": "R",
    });
    let row = cells("core/v1/Event", &core, 3_600);
    assert_eq!(row, cells("events.k8s.io/v1/Event", &v1, 3_600));
    assert_eq!(row[0], "55m");
    assert_eq!(row[5], "c, h");
    let series = json!({
        "metadata": {"name": "e"}, "eventTime": "1970-01-01T00:00:00Z", "reportingController": "c",
        "series": {"count": 7, "lastObservedTime": "1970-01-01T00:30:00Z"},
    });
    let row = cells("events.k8s.io/v1/Event", &series, 3_600);
    assert_eq!((&row[0], &row[7], &row[8]), (&json!("30m"), &json!("60m"), &json!(7)));
    let once = json!({"metadata": {"name": "e"}, "eventTime": "1970-01-01T00:00:00Z"});
    assert_eq!(cells("events.k8s.io/v1/Event", &once, 3_600)[8], 1);
}

/// The kind that a path of the API is about.
fn kind_of(path: &str) -> Option<&'static BuiltIn> {
    let path = path.split('?').next()?;
    let (group, rest) = match path.strip_prefix("/apis/") {
        Some(rest) => rest.split_once('/')?,
        None => ("", path.strip_prefix("/api/")?),
    };
    let plural = rest.rsplit('/').next()?;
    all().iter().find(|kind| kind.group == group && kind.plural == plural)
}

#[test]
fn a_recorded_server_answers_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/k8s/recordings.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no recordings beside the repository");
        return;
    };
    let (mut made, mut tables, mut rows) = (0, 0, 0);
    let mut seen = std::collections::HashMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let Some(kind) = kind_of(record["path"].as_str().unwrap()) else { continue };
        let body = |name: &str| serde_json::from_str::<Value>(record[name].as_str().unwrap_or("")).ok();
        let Some(answer) = body("response_body") else { continue };
        if record["method"] == "POST" && record["status"] == 201 {
            let Some(mut object) = body("request_body") else { continue };
            kind.default(&mut object);
            if kind.namespaced {
                object["metadata"]["namespace"] = json!("default");
            }
            assert_eq!(kind.validate(&object), [], "{}", record["scenario"]);
            if kind.kind != "Pod" {
                let bare = |object: &Value| {
                    let mut object = object.clone();
                    object.as_object_mut().unwrap().remove("metadata");
                    object
                };
                assert_eq!(bare(&object), bare(&answer), "{}", record["scenario"]);
            }
            let mut whole = answer.clone();
            assert_eq!(kind.structural().prune(&mut whole), [""; 0]);
            assert_eq!(kind.structural().validate(&answer), []);
            seen.insert(answer["metadata"]["uid"].clone(), answer);
            made += 1;
        } else if answer["kind"] == "Table" {
            rows += held_table(kind, &answer, &seen);
            tables += 1;
        }
    }
    assert!(
        made >= 5 && tables >= 4 && rows >= 1,
        "only {made} objects, {tables} tables, {rows} rows were held"
    );
}

/// Holds columns, and the cells of rows whose objects were seen, against a recorded table.
fn held_table(kind: &BuiltIn, table: &Value, seen: &std::collections::HashMap<Value, Value>) -> usize {
    let mut rows = 0;
    let columns = table["columnDefinitions"].as_array().unwrap();
    assert_eq!(columns.len(), kind.columns().len());
    for (recorded, ours) in columns.iter().zip(kind.columns()) {
        assert_eq!(recorded["name"], ours.name);
        assert_eq!(recorded["format"], ours.format);
        assert_eq!(recorded["priority"], ours.priority);
        assert_eq!(recorded["type"], "string");
    }
    for row in table["rows"].as_array().unwrap() {
        let Some(object) = seen.get(&row["object"]["metadata"]["uid"]) else { continue };
        let created: jiff::Timestamp =
            object["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
        let ours: Vec<Value> =
            kind.columns().iter().map(|column| cell(column, object, created.as_second())).collect();
        let recorded = row["cells"].as_array().unwrap();
        assert_eq!(recorded.len(), ours.len());
        for (recorded, ours) in recorded.iter().zip(&ours) {
            assert_eq!(recorded, ours, "{}", kind.type_url);
        }
        rows += 1;
    }
    rows
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let words = vec![
        "spec",
        "status",
        "metadata",
        "name",
        "containers",
        "initContainerStatuses",
        "state",
        "series",
        "count",
        "finalizers",
        "data",
        "immutable",
        "source",
        "eventTime",
        "regarding",
        "phase",
        "conditions",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(words.clone()).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let key = prop::sample::select(words.clone()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_on_any_json(object in arbitrary_json(), old in arbitrary_json(), now in any::<i64>()) {
        for kind in all() {
            let mut object = object.clone();
            kind.validate(&object);
            kind.validate_update(&object, &old);
            cells(kind.type_url, &object, now);
            kind.structural().validate(&object);
            kind.default(&mut object);
            let once = object.clone();
            kind.default(&mut object);
            prop_assert_eq!(once, object);
        }
    }
}
