//! The rules of Events, which both API groups share; paths name the fields as the API server does, in either form.

use serde_json::Value;

use crate::schema::structural::{FieldError, names};

/// Longest reason, action and reporting instance, in bytes.
const WORD_MAX: usize = 128;
/// Longest note, in bytes.
const NOTE_MAX: usize = 1024;
/// Fewest repetitions that are a series.
const SERIES_MIN: i64 = 2;

/// Fields that cannot change: how errors name them, then as the core group and as `events.k8s.io` do.
const FIXED: [(&str, &str, &str); 13] = [
    ("involvedObject", "involvedObject", "regarding"),
    ("reason", "reason", "reason"),
    ("message", "message", "note"),
    ("source", "source", "deprecatedSource"),
    ("firstTimestamp", "firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "count", "deprecatedCount"),
    ("type", "type", "type"),
    ("eventTime", "eventTime", "eventTime"),
    ("action", "action", "action"),
    ("related", "related", "related"),
    ("reportingController", "reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance", "reportingInstance"),
];

/// A field by its name in the core group, or by that in `events.k8s.io`.
pub(super) fn field<'e>(event: &'e Value, core: &str, v1: &str) -> Option<&'e Value> {
    event.get(core).or_else(|| event.get(v1)).filter(|value| !value.is_null())
}

/// A text, empty where there is none.
pub(super) fn text<'e>(event: &'e Value, core: &str, v1: &str) -> &'e str {
    field(event, core, v1).and_then(Value::as_str).unwrap_or_default()
}

/// What every Event keeps to; all that is asked of one in the core group.
pub(super) fn core(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let namespace = event.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let about = field(event, "involvedObject", "regarding")
        .and_then(|about| about.get("namespace"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let timed = field(event, "eventTime", "eventTime").is_some();
    let agrees = match (about, timed) {
        ("", true) => matches!(namespace, "default" | "kube-system"),
        ("", false) => matches!(namespace, "" | "default"),
        (_, true) => true,
        (about, false) => about == namespace,
    };
    if !agrees {
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid_text("involvedObject.namespace", about, detail));
    }
    if timed {
        reported(event, &mut errors);
    }
    for wrong in names::dns_subdomain(namespace) {
        errors.push(FieldError::invalid_text("namespace", namespace, &wrong));
    }
    errors
}

/// What a new Event of `events.k8s.io` keeps to besides.
pub(super) fn create(event: &Value) -> Vec<FieldError> {
    let mut errors = core(event);
    series(event, &mut errors);
    if field(event, "eventTime", "eventTime").is_none() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(event, "type", "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid_text("type", "", &format!("has invalid value: {kind}")));
    }
    for (path, core, v1) in [
        ("firstTimestamp", "firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "lastTimestamp", "deprecatedLastTimestamp"),
    ] {
        if field(event, core, v1).is_some() {
            errors.push(FieldError::invalid_text(path, "", "needs to be unset"));
        }
    }
    if field(event, "count", "deprecatedCount").is_some_and(|count| count.as_i64() != Some(0)) {
        errors.push(FieldError::invalid_text("count", "", "needs to be unset"));
    }
    if field(event, "source", "deprecatedSource").is_some_and(|source| !is_empty(source)) {
        errors.push(FieldError::invalid_text("source", "", "needs to be unset"));
    }
    errors
}

/// What a changed Event of `events.k8s.io` keeps to besides: only its series and metadata change.
pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = core(new);
    if new.get("series") != old.get("series") {
        series(new, &mut errors);
    }
    for (path, core, v1) in FIXED {
        let of = |event| field(event, core, v1).filter(|value| !is_empty(value));
        if of(new) != of(old) {
            let value = of(new).unwrap_or(&Value::Null);
            errors.push(FieldError::invalid(path, value, "field is immutable"));
        }
    }
    errors
}

/// What must be told of who reports.
fn reported(event: &Value, errors: &mut Vec<FieldError>) {
    let controller = text(event, "reportingComponent", "reportingController");
    if controller.is_empty() {
        errors.push(FieldError::required("reportingController", ""));
    }
    for wrong in names::qualified_name(controller) {
        errors.push(FieldError::invalid_text("reportingController", controller, &wrong));
    }
    for name in ["reportingInstance", "action", "reason"] {
        let word = text(event, name, name);
        if word.is_empty() {
            errors.push(FieldError::required(name, ""));
        }
        at_most(name, word, WORD_MAX, errors);
    }
    at_most("message", text(event, "message", "note"), NOTE_MAX, errors);
}

fn at_most(path: &str, text: &str, max: usize, errors: &mut Vec<FieldError>) {
    if text.len() > max {
        errors.push(FieldError::invalid_text(path, "", &format!("can have at most {max} characters")));
    }
}

fn series(event: &Value, errors: &mut Vec<FieldError>) {
    let Some(series) = field(event, "series", "series") else { return };
    if series.get("count").and_then(Value::as_i64).unwrap_or(0) < SERIES_MIN {
        errors.push(FieldError::invalid_text("series.count", "", "should be at least 2"));
    }
    if series.get("lastObservedTime").is_none_or(Value::is_null) {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}

/// Whether a value is as good as none.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Object(map) => map.values().all(is_empty_text),
        _ => value.is_null(),
    }
}

fn is_empty_text(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}
