//! Events in both their forms: stored as core/v1, served as events.k8s.io/v1 too, and checked by the rules of each.

use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::status::Refusal;

/// Fields that have another name in the other form: core, events.k8s.io.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];
/// What must stay as it was created, by the rules of events.k8s.io.
const FROZEN: [&str; 12] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "eventTime",
    "type",
    "action",
    "related",
    "reportingComponent",
];
/// Bytes that a name of a reporter, an action or a reason may have.
const WORD_MAX: usize = 128;
/// Bytes that a note may have.
const NOTE_MAX: usize = 1024;

/// A stored Event as events.k8s.io/v1.
pub(crate) fn to_events_v1(core: &Value) -> Value {
    let mut event = renamed(core, |name| RENAMED.iter().find(|(core, _)| *core == name).map(|(_, v1)| *v1));
    event["apiVersion"] = "events.k8s.io/v1".into();
    event
}

/// What came as events.k8s.io/v1, as it is stored.
pub(crate) fn from_events_v1(event: &Value) -> Value {
    let mut core = renamed(event, |name| RENAMED.iter().find(|(_, v1)| *v1 == name).map(|(core, _)| *core));
    core["apiVersion"] = "v1".into();
    core
}

fn renamed(event: &Value, name_of: impl Fn(&str) -> Option<&'static str>) -> Value {
    let mut fields = Map::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        fields.insert(name_of(name).unwrap_or(name).to_owned(), value.clone());
    }
    Value::Object(fields)
}

/// Adds what a typed server always sends of an Event.
pub(crate) fn complete(core: &mut Value) {
    let empty: [(&str, Value); 7] = [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("eventTime", Value::Null),
        ("reportingComponent", "".into()),
        ("reportingInstance", "".into()),
    ];
    if let Some(fields) = core.as_object_mut() {
        for (name, value) in empty {
            fields.entry(name).or_insert(value);
        }
    }
}

/// Checks a new Event that came by the one API or the other.
pub(crate) fn check_new(kind: &Kind, core: &Value, events_v1: bool) -> Result<(), Refusal> {
    let name = core["metadata"]["name"].as_str().unwrap_or_default();
    let invalid =
        |field: &str, reason: &str, what: &str| Err(Refusal::invalid(kind, name, field, reason, what));
    let namespace = core["metadata"]["namespace"].as_str().unwrap_or_default();
    let involved = core["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let fits = if involved.is_empty() {
        matches!(namespace, "default" | "kube-system")
    } else {
        involved == namespace
    };
    if !fits {
        let what = format!("Invalid value: \"{involved}\": does not match event.namespace");
        return invalid("involvedObject.namespace", "FieldValueInvalid", &what);
    }
    if core["eventTime"].is_null() {
        return if events_v1 {
            invalid("eventTime", "FieldValueRequired", "Required value")
        } else {
            Ok(())
        };
    }
    let reporter = if events_v1 { "reportingController" } else { "reportingComponent" };
    let words = [
        (reporter, "reportingComponent"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ];
    for (field, stored) in words {
        let word = core[stored].as_str().unwrap_or_default();
        if word.is_empty() {
            return invalid(field, "FieldValueRequired", "Required value");
        }
        if word.len() > WORD_MAX {
            let what = format!("Invalid value: \"\": can have at most {WORD_MAX} characters");
            return invalid(field, "FieldValueInvalid", &what);
        }
    }
    if core["message"].as_str().is_some_and(|note| note.len() > NOTE_MAX) {
        let what = format!("Invalid value: \"\": can have at most {NOTE_MAX} characters");
        return invalid("message", "FieldValueInvalid", &what);
    }
    if events_v1 { check_new_strictly(kind, name, core) } else { Ok(()) }
}

fn check_new_strictly(kind: &Kind, name: &str, core: &Value) -> Result<(), Refusal> {
    for field in ["firstTimestamp", "lastTimestamp", "count"] {
        if !core[field].is_null() && core[field] != json!(0) {
            let what = "Invalid value: needs to be unset";
            return Err(Refusal::invalid(kind, name, field, "FieldValueInvalid", what));
        }
    }
    if core["source"].as_object().is_some_and(|source| !source.is_empty()) {
        let what = "Invalid value: needs to be unset";
        return Err(Refusal::invalid(kind, name, "source", "FieldValueInvalid", what));
    }
    let series = &core["series"];
    if !series.is_null() && series["count"].as_i64().unwrap_or(0) < 2 {
        let what = "Invalid value: \"\": should be at least 2";
        return Err(Refusal::invalid(kind, name, "series.count", "FieldValueInvalid", what));
    }
    if !matches!(core["type"].as_str(), Some("Normal" | "Warning")) {
        let what = format!("Invalid value: {}: has invalid value", core["type"]);
        return Err(Refusal::invalid(kind, name, "type", "FieldValueInvalid", &what));
    }
    Ok(())
}

/// Checks a change of an Event: by events.k8s.io only the series and metadata may differ.
pub(crate) fn check_change(kind: &Kind, old: &Value, new: &Value, events_v1: bool) -> Result<(), Refusal> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let changed = FROZEN.iter().find(|field| old[**field] != new[**field]);
    match changed {
        Some(field) if events_v1 => {
            let what = format!("Invalid value: {}: field is immutable", new[*field]);
            Err(Refusal::invalid(kind, name, field, "FieldValueInvalid", &what))
        }
        _ => Ok(()),
    }
}
