//! The annotation in which kubectl's own apply remembers what it applied, as server-side apply takes it over.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::compare::Comparison;
use super::set::{DEPTH_MAX, FieldSet};
use super::typing::{Typing, field_set};

/// The manager for whom the annotation is minded; others who apply leave it alone.
pub(super) const KUBECTL: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Most bytes that annotations have together.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// The fields that kubectl's own apply set and nobody changed since: kubectl may change them now without a conflict.
pub(super) fn unchanged(live: &Value, api_version: &str, typing: Typing<'_>) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(annotation(live)?).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    let changes = Comparison::of(&applied, live, typing);
    let set = field_set(&applied, typing);
    Some(set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

/// Has the annotation of an object, where it has one, tell what was applied now.
pub(super) fn tell(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        if annotations.is_some_and(|annotations| {
            annotations.remove(ANNOTATION);
            annotations.is_empty()
        }) {
            metadata.remove("annotations");
        }
    }
    // As the API server writes it: names in order, safe within HTML, a line.
    let text = ordered(&applied, DEPTH_MAX).to_string();
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let text = text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.insert(ANNOTATION.to_owned(), Value::String(text + "\n"));
        let size = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
        if annotations.iter().map(size).sum::<usize>() > ANNOTATIONS_MAX {
            annotations.remove(ANNOTATION);
        }
    }
}

fn annotation(object: &Value) -> Option<&str> {
    let annotations = object.get("metadata")?.get("annotations")?;
    annotations.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// A value with the fields of its maps in order of name.
fn ordered(value: &Value, depth: usize) -> Value {
    match value {
        _ if depth == 0 => value.clone(),
        Value::Object(fields) => {
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields = fields.into_iter().map(|(name, value)| (name.clone(), ordered(value, depth - 1)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| ordered(item, depth - 1)).collect(),
        other => other.clone(),
    }
}
