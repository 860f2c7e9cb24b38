//! The rules of managing fields.

use serde_json::{Value, json};

use super::entries::{ANCIENT, UPDATERS_MAX};
use super::*;

mod applies;
mod properties;
mod sets;
mod updates;

const NOW: &str = "2026-11-22T06:00:00Z";
const LATER: &str = "2026-11-22T07:00:00Z";

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, api_version: "example.com/v1", subresource: None, status_apart: true, now: NOW }
}

fn later(manager: &str) -> Writer<'_> {
    Writer { now: LATER, ..writer(manager) }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"}, "color": {"type": "string"}, "on": {"type": "boolean"},
            "any": {"x-kubernetes-int-or-string": true},
            "box": {"type": "object", "x-kubernetes-map-type": "atomic"},
            "part": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true},
            "tags": {"type": "array", "items": {"type": "string"}},
            "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"},
                    "name": {"type": "string"}}}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "a", "namespace": "default"}, "spec": spec})
}

/// Applies one after another, each with the manager's name.
fn applied(steps: &[(&str, Value)]) -> Value {
    let schema = schema();
    let mut live = None;
    for (manager, spec) in steps {
        let wanted = widget(spec.clone());
        live =
            Some(apply(live.as_ref(), &wanted, writer(manager), false, Typing::of(Some(&schema))).unwrap());
    }
    live.unwrap()
}

fn updated(live: &Value, writer: Writer<'_>, change: impl FnOnce(&mut Value)) -> Value {
    let schema = schema();
    let mut object = live.clone();
    change(&mut object);
    update(Some(live), object, writer, Typing::of(Some(&schema)))
}

fn refused(live: &Value, spec: Value, manager: &str) -> ApplyError {
    let schema = schema();
    apply(Some(live), &widget(spec), writer(manager), false, Typing::of(Some(&schema))).unwrap_err()
}

fn entry_of(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.into_iter().find(|entry| entry["manager"] == manager).unwrap_or_default()
}

fn fields(object: &Value, manager: &str) -> Value {
    entry_of(object, manager)["fieldsV1"].clone()
}

fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["manager"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_differs_in_times_alone_is_no_change() {
    let live = applied(&[("a", json!({"size": 1}))]);
    let mut again = live.clone();
    again["metadata"]["managedFields"][0]["time"] = json!(LATER);
    assert!(is_unchanged(&live, &again));
    again["metadata"]["managedFields"][0]["manager"] = json!("b");
    assert!(!is_unchanged(&live, &again));
    let mut other = live.clone();
    other["spec"]["size"] = json!(2);
    assert!(!is_unchanged(&live, &other));
}

#[test]
fn the_manager_of_a_write_that_names_none_is_the_user_agent_to_its_first_slash() {
    assert_eq!(manager_of("kubectl/v1.32.0 (linux/amd64)"), "kubectl");
    assert_eq!(manager_of("a\u{7}b"), "ab");
    assert_eq!(manager_of(&"ä".repeat(100)), "ä".repeat(64));
    assert_eq!(manager_of(""), "");
}
