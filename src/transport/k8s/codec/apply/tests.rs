//! The rules of managing fields.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-22T06:00:00Z";

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, api_version: "example.com/v1", subresource: None, status_apart: true, now: NOW }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"}, "color": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
    }}}})
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec})
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries
        .into_iter()
        .find(|entry| entry["manager"] == manager)
        .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn an_apply_owns_what_it_lists_and_an_update_what_it_changes() {
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let applied =
        apply(None, &widget(json!({"size": 1, "tags": ["p"]})), writer("a"), false, typing).unwrap();
    assert_eq!(fields(&applied, "a"), json!({"f:spec": {"f:size": {}, "f:tags": {}}}));
    let updated = update(None, widget(json!({"size": 1})), writer("b"), typing);
    assert_eq!(fields(&updated, "b"), json!({"f:spec": {".": {}, "f:size": {}}}));
}

#[test]
fn what_another_has_is_a_conflict_unless_forced() {
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let live =
        apply(None, &widget(json!({"size": 1, "color": "red"})), writer("a"), false, typing).unwrap();
    let wanted = widget(json!({"size": 5}));
    let refused = apply(Some(&live), &wanted, writer("b"), false, typing).unwrap_err();
    let ApplyError::Conflicts(conflicts) = refused else { panic!("{refused:?}") };
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.size"
    );
    let forced = apply(Some(&live), &wanted, writer("b"), true, typing).unwrap();
    assert_eq!(forced["spec"], json!({"size": 5, "color": "red"}));
    assert_eq!(fields(&forced, "a"), json!({"f:spec": {"f:color": {}}}));
    // The same value is had by both.
    let shared = apply(Some(&live), &widget(json!({"size": 1})), writer("b"), false, typing).unwrap();
    assert_eq!(fields(&shared, "b"), json!({"f:spec": {"f:size": {}}}));
    assert_eq!(fields(&shared, "a"), json!({"f:spec": {"f:color": {}, "f:size": {}}}));
}

#[test]
fn what_a_manager_no_longer_lists_goes_unless_another_has_it() {
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let ports = json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}], "color": "red"});
    let live = apply(None, &widget(ports), writer("a"), false, typing).unwrap();
    let live = apply(Some(&live), &widget(json!({"color": "red"})), writer("b"), false, typing).unwrap();
    let fewer = apply(
        Some(&live),
        &widget(json!({"ports": [{"name": "b", "port": 2}]})),
        writer("a"),
        false,
        typing,
    );
    assert_eq!(fewer.unwrap()["spec"], json!({"ports": [{"name": "b", "port": 2}], "color": "red"}));
}

#[test]
fn what_is_applied_again_changes_nothing() {
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let wanted = widget(json!({"size": 1}));
    let live = apply(None, &wanted, writer("a"), false, typing).unwrap();
    let later = Writer { now: "2027-01-01T00:00:00Z", ..writer("a") };
    assert_eq!(apply(Some(&live), &wanted, later, false, typing).unwrap(), live);
}

#[test]
fn an_update_takes_what_it_changes_from_others() {
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let live =
        apply(None, &widget(json!({"size": 1, "color": "red"})), writer("a"), false, typing).unwrap();
    let mut changed = live.clone();
    changed["spec"] = json!({"size": 2});
    let updated = update(Some(&live), changed, writer("b"), typing);
    assert_eq!(fields(&updated, "a"), Value::Null);
    assert_eq!(fields(&updated, "b"), json!({"f:spec": {"f:size": {}}}));
}

#[test]
fn old_updates_are_put_together() {
    let mut live = update(None, widget(json!({"size": 0})), writer("first"), Typing::of(None));
    for n in 0..30 {
        let (name, now) = (format!("m{n}"), format!("2026-11-22T07:00:{n:02}Z"));
        let mut changed = live.clone();
        changed["spec"][format!("f{n}")] = json!(n);
        let writer = Writer { manager: &name, now: &now, ..writer("") };
        live = update(Some(&live), changed, writer, Typing::of(None));
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), UPDATERS_MAX);
    assert_ne!(fields(&live, ANCIENT), Value::Null);
}

#[test]
fn managed_fields_of_a_recorded_server_read_back_as_they_were() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/k8s/recordings.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped, needs ../shared/conformance/k8s: recorded managedFields");
        return;
    };
    let mut seen = 0;
    for line in text.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let body = exchange["response_body"].as_str().unwrap_or_default();
        let Ok(object) = serde_json::from_str::<Value>(body) else { continue };
        for entry in
            object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten()
        {
            assert_eq!(FieldSet::decode(&entry["fieldsV1"]).encode(), entry["fieldsV1"]);
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4_i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("(name|port|ports|size|tags|spec|f:a|\\.)", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(live in any_json(), spec in any_json(), managed in any_json()) {
        let schema = schema();
        let mut live = json!({"metadata": {"name": "a", "managedFields": managed}, "spec": live});
        for typing in [Typing::of(Some(&schema)), Typing::of(None)] {
            if let Ok(applied) = apply(Some(&live), &widget(spec.clone()), writer("a"), true, typing) {
                let again = apply(Some(&applied), &widget(spec.clone()), writer("a"), false, typing);
                prop_assert_eq!(again, Ok(applied.clone()));
                live = update(Some(&live), applied, writer("b"), typing);
            }
        }
    }

    #[test]
    fn what_only_one_manager_applied_is_gone_when_it_applies_nothing(spec in any_json()) {
        let wanted = widget(json!({"spec": spec}));
        if let Ok(live) = apply(None, &wanted, writer("a"), false, Typing::of(None)) {
            let nothing = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}});
            let left = apply(Some(&live), &nothing, writer("a"), false, Typing::of(None)).unwrap();
            prop_assert_eq!(left.get("spec"), None);
            prop_assert_eq!(left.pointer("/metadata/managedFields"), None);
        }
    }

    #[test]
    fn a_set_reads_back_as_it_was(fields in any_json()) {
        let set = FieldSet::decode(&fields);
        prop_assert_eq!(FieldSet::decode(&set.encode()), set);
    }
}
