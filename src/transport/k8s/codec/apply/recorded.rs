//! What a real API server made of each write to a custom resource, held against what is made of it here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// The recorded exchanges; `None`, with a word about it, where they are not at hand.
fn exchanges() -> Option<Vec<Value>> {
    let file = "shared/conformance/k8s/recordings.jsonl";
    let mut folders = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let Some(text) = folders.find_map(|folder| std::fs::read_to_string(folder.join(file)).ok()) else {
        eprintln!("skipped, needs {file}: recorded managedFields");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"}, "color": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

fn text<'a>(exchange: &'a Value, name: &str) -> &'a str {
    exchange[name].as_str().unwrap_or_default()
}

/// One write to a widget, as it was recorded.
struct Write<'a> {
    exchange: &'a Value,
    query: &'a str,
    subresource: Option<&'a str>,
    answer: Value,
}

impl<'a> Write<'a> {
    fn of(exchange: &'a Value) -> Option<Self> {
        let (path, query) = text(exchange, "path").split_once('?').unwrap_or((text(exchange, "path"), ""));
        let rest = path.strip_prefix("/apis/example.com/v1/namespaces/default/widgets")?;
        let subresource = rest.ends_with("/status").then_some("status");
        let answer = serde_json::from_str(text(exchange, "response_body")).ok()?;
        Some(Self { exchange, query, subresource, answer })
    }

    fn param(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|it| it.1)
    }

    fn is_apply(&self) -> bool {
        self.exchange["request_headers"]["content-type"] == "application/apply-patch+yaml"
    }

    fn manager(&self) -> &'a str {
        self.param("fieldManager").unwrap_or("curl")
    }

    fn writer<'w>(&'w self, now: &'w str) -> Writer<'w> {
        let (manager, subresource) = (self.manager(), self.subresource);
        Writer { manager, api_version: "example.com/v1", subresource, status_apart: true, now }
    }

    /// When the server wrote: what it told of the writer's newest entry.
    fn time(&self) -> String {
        let entries = self.answer["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let own = entries.iter().filter(|entry| {
            entry["manager"] == self.manager() && entry["subresource"].as_str() == self.subresource
        });
        own.filter_map(|entry| entry["time"].as_str()).max().unwrap_or("never").to_owned()
    }

    /// What a write other than an apply stores, before its managers are told.
    fn stored(&self, live: Option<&Value>) -> Value {
        let mut object = self.answer.clone();
        let request: Value = serde_json::from_str(text(self.exchange, "request_body")).unwrap_or_default();
        let sent = if self.exchange["method"] == "PATCH" { live } else { Some(&request) };
        let managers = sent.and_then(|sent| sent.pointer("/metadata/managedFields")).cloned();
        object["metadata"]["managedFields"] = managers.unwrap_or_default();
        object
    }
}

/// Every object in an answer, by its uid.
fn objects(exchange: &Value) -> Vec<Value> {
    let body: Value = serde_json::from_str(text(exchange, "response_body")).unwrap_or_default();
    let items = body["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().chain([body]).filter(|object| object["kind"] == "Widget").collect()
}

#[test]
fn writes_have_the_managers_a_real_server_told() {
    let Some(exchanges) = exchanges() else { return };
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut held = 0;
    for exchange in &exchanges {
        let method = text(exchange, "method");
        let succeeded = matches!(exchange["status"].as_u64(), Some(200 | 201));
        if let Some(write) = Write::of(exchange)
            && matches!(method, "POST" | "PUT" | "PATCH")
            && succeeded
        {
            let created = exchange["status"] == 201;
            let uid = text(&write.answer["metadata"], "uid").to_owned();
            let live = known.get(&uid).filter(|_| !created);
            let now = write.time();
            if !write.is_apply() {
                assert!(created || live.is_some(), "{} {}", exchange["scenario"], exchange["path"]);
                let told = update(live, write.stored(live), write.writer(&now), typing);
                assert_eq!(told, write.answer, "{} {}", exchange["scenario"], exchange["path"]);
                held += 1;
            } else if created {
                let wanted: Value = serde_json::from_str(text(exchange, "request_body")).unwrap();
                let made = apply(None, &wanted, write.writer(&now), false, typing).unwrap();
                assert_eq!(made["spec"], write.answer["spec"]);
                assert_eq!(made["metadata"]["labels"], write.answer["metadata"]["labels"]);
                assert_eq!(
                    made["metadata"]["managedFields"], write.answer["metadata"]["managedFields"],
                    "{}",
                    exchange["scenario"]
                );
                held += 1;
            }
        }
        if !text(exchange, "path").contains("dryRun") {
            for object in objects(exchange) {
                known.insert(text(&object["metadata"], "uid").to_owned(), object);
            }
        }
    }
    assert!(held > 30, "{held}");
}

#[test]
fn conflicts_are_told_as_a_real_server_told_them() {
    let Some(exchanges) = exchanges() else { return };
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut held = 0;
    for exchange in &exchanges {
        let name = text(exchange, "path").split('?').next().unwrap_or_default();
        let wanted: Value = serde_json::from_str(text(exchange, "request_body")).unwrap_or_default();
        let write = Write::of(exchange).filter(Write::is_apply);
        if let Some(write) = write.filter(|_| exchange["status"] == 409) {
            let refused =
                apply(known.get(name), &wanted, write.writer("never"), false, typing).unwrap_err();
            let ApplyError::Conflicts(conflicts) = refused else { panic!("{refused:?}") };
            assert_eq!(conflict_message(&conflicts), text(&write.answer, "message"));
            let causes: Vec<Value> = conflicts
                .iter()
                .map(|conflict| {
                    let message = format!("conflict with {}", conflict.manager);
                    json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.field})
                })
                .collect();
            assert_eq!(Value::from(causes), write.answer["details"]["causes"]);
            held += 1;
        }
        if let [only] = objects(exchange).as_slice() {
            known.insert(name.to_owned(), only.clone());
        }
    }
    assert!(held >= 3, "{held}");
}

/// Of the requests of the scenario, the second to the fourth were made and are not among the recorded.
#[test]
fn an_object_applied_by_two_comes_out_as_at_a_real_server() {
    let Some(exchanges) = exchanges() else { return };
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let scenario = |name: &str| exchanges.iter().find(|exchange| exchange["scenario"] == name).unwrap();
    let (first, last) =
        (Write::of(scenario("raw:apply-create")).unwrap(), Write::of(scenario("raw:apply-force")).unwrap());
    let now = last.time();
    let widget = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "ssa"}, "spec": spec});
    let mut live = first.answer.clone();
    for (manager, spec, force) in [
        ("a", json!({"size": 1, "color": "red"}), false),
        ("a", json!({"size": 1}), false),
        ("b", json!({"color": "blue"}), false),
        ("b", json!({"size": 5}), true),
    ] {
        let writer = Writer { manager, ..last.writer(&now) };
        live = apply(Some(&live), &widget(spec), writer, force, typing).unwrap();
    }
    assert_eq!(live["spec"], last.answer["spec"]);
    assert_eq!(live["metadata"]["managedFields"], last.answer["metadata"]["managedFields"]);
}

#[test]
fn recorded_managed_fields_read_back_as_they_were() {
    let Some(exchanges) = exchanges() else { return };
    let mut held = 0;
    for exchange in &exchanges {
        let body: Value = serde_json::from_str(text(exchange, "response_body")).unwrap_or_default();
        let entries = body.pointer("/metadata/managedFields").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let read = FieldSet::decode(&entry["fieldsV1"]).encode();
            // As texts: the order is held too.
            assert_eq!(read.to_string(), entry["fieldsV1"].to_string());
            held += 1;
        }
    }
    assert!(held > 50, "{held}");
}
