//! What the server sets in new objects that leave it out, and the empty values it never leaves out itself.

use serde_json::{Map, Value, json};

/// The label by which a namespace can be selected.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Fields of an Event of the core group that are never left out.
pub(super) fn core_event(object: &mut Map<String, Value>) {
    for (name, value) in [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("eventTime", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
    ] {
        object.entry(name).or_insert(value);
    }
}

/// Fields of an Event of `events.k8s.io` that are never left out.
pub(super) fn event(object: &mut Map<String, Value>) {
    for (name, value) in [
        ("eventTime", Value::Null),
        ("regarding", json!({})),
        ("deprecatedSource", json!({})),
        ("deprecatedFirstTimestamp", Value::Null),
        ("deprecatedLastTimestamp", Value::Null),
    ] {
        object.entry(name).or_insert(value);
    }
}

/// A namespace is active, and held by its own finalizer until it is empty.
pub(super) fn namespace(object: &mut Map<String, Value>) {
    let name = object.get("metadata").and_then(|meta| meta.get("name")).and_then(Value::as_str);
    if let Some(name) = name.filter(|name| !name.is_empty()).map(Value::from)
        && let Some(labels) = section(object, "metadata").and_then(|meta| section(meta, "labels"))
    {
        labels.insert(NAMESPACE_LABEL.to_owned(), name);
    }
    if let Some(spec) = section(object, "spec")
        && spec.get("finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        spec.insert("finalizers".to_owned(), json!(["kubernetes"]));
    }
    phase(object, "Active");
}

/// A pod waits for a node, which never comes here.
pub(super) fn pod(object: &mut Map<String, Value>) {
    phase(object, "Pending");
}

/// A lease has a claim, if an empty one.
pub(super) fn lease(object: &mut Map<String, Value>) {
    section(object, "spec");
}

fn phase(object: &mut Map<String, Value>, phase: &str) {
    if let Some(status) = section(object, "status")
        && status.get("phase").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        status.insert("phase".to_owned(), json!(phase));
    }
}

/// An object within an object, made where there is none; `None` where something else is there.
fn section<'m>(object: &'m mut Map<String, Value>, name: &str) -> Option<&'m mut Map<String, Value>> {
    let value = object.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}
