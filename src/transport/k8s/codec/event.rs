//! Events of the two API groups: one key, stored as it came, shown as `v1` and as `events.k8s.io/v1`.
//!
//! | `v1` | `events.k8s.io/v1` |
//! |---|---|
//! | `involvedObject` | `regarding` |
//! | `message` | `note` |
//! | `reportingComponent` | `reportingController` |
//! | `source`, `firstTimestamp`, `lastTimestamp`, `count` | the same with `deprecated` before |
//!
//! All other fields have the same name in both.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Names of fields that differ: of `v1`, and of `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
/// What an object is referred to by, in field selectors.
const REFERENCE: [&str; 7] =
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

/// The Event as `v1` has it, whichever it is.
pub fn to_core(event: Value) -> Value {
    let mut event =
        renamed(event, |name| NAMES.iter().find(|(_, new)| *new == name).map(|(core, _)| *core));
    if let Some(fields) = event.as_object_mut() {
        fields.insert("apiVersion".to_owned(), "v1".into());
        fill(fields, "source", || Value::Object(Map::new()));
        for name in ["firstTimestamp", "lastTimestamp", "eventTime"] {
            fill(fields, name, || Value::Null);
        }
        for name in ["reportingComponent", "reportingInstance"] {
            fill(fields, name, || "".into());
        }
    }
    event
}

/// The Event as `events.k8s.io/v1` has it, whichever it is.
pub fn to_events_v1(event: Value) -> Value {
    let mut event =
        renamed(event, |name| NAMES.iter().find(|(core, _)| *core == name).map(|(_, new)| *new));
    if let Some(fields) = event.as_object_mut() {
        fields.insert("apiVersion".to_owned(), "events.k8s.io/v1".into());
        fill(fields, "deprecatedSource", || Value::Object(Map::new()));
        for name in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"] {
            fill(fields, name, || Value::Null);
        }
    }
    event
}

/// Whether Events of the group are selected by this field.
pub fn is_field(field: &str, core: bool) -> bool {
    let (reference, reporter) = if core {
        ("involvedObject.", "reportingComponent")
    } else {
        ("regarding.", "reportingController")
    };
    match field.strip_prefix(reference) {
        Some(rest) => REFERENCE.contains(&rest),
        None => field == "reason" || field == "type" || field == reporter || core && field == "source",
    }
}

/// The text of a field as a selector of either group names it, in an Event of either group.
pub fn field<'a>(event: &'a Value, field: &str) -> Option<Cow<'a, str>> {
    let text = |value: &'a Value| value.as_str().map(Cow::Borrowed);
    let either = |name: &str| {
        let pair = NAMES.iter().find(|(core, new)| *core == name || *new == name);
        event
            .get(name)
            .or_else(|| pair.and_then(|(core, new)| event.get(*core).or_else(|| event.get(*new))))
    };
    match field.split_once('.') {
        Some((reference, name)) => either(reference)?.get(name).and_then(text),
        None if field == "source" => {
            let component = either("source").and_then(|source| source.get("component")).and_then(text);
            component
                .filter(|text| !text.is_empty())
                .or_else(|| either("reportingComponent").and_then(text))
        }
        None => either(field).and_then(text),
    }
}

fn renamed(event: Value, name_of: impl Fn(&str) -> Option<&'static str>) -> Value {
    match event {
        Value::Object(fields) => {
            let renamed = fields.into_iter().map(|(name, value)| match name_of(&name) {
                Some(other) => (other.to_owned(), value),
                None => (name, value),
            });
            Value::Object(renamed.collect())
        }
        other => other,
    }
}

fn fill(fields: &mut Map<String, Value>, name: &str, value: impl Fn() -> Value) {
    if !fields.contains_key(name) {
        fields.insert(name.to_owned(), value());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn either_group_is_shown_as_the_other() {
        let new = json!({"kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e1"},
            "eventTime": "2026-11-22T06:00:00.000000Z", "reportingController": "c", "reportingInstance": "a",
            "action": "Test", "reason": "Tested", "regarding": {"kind": "Widget", "name": "w1"}, "note": "hi",
            "type": "Normal"});
        let core = to_core(new.clone());
        let expected = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e1"},
            "involvedObject": {"kind": "Widget", "name": "w1"}, "reason": "Tested", "message": "hi",
            "source": {}, "firstTimestamp": null, "lastTimestamp": null, "type": "Normal",
            "eventTime": "2026-11-22T06:00:00.000000Z", "action": "Test", "reportingComponent": "c",
            "reportingInstance": "a"});
        assert_eq!(core, expected);
        let mut back = to_events_v1(core);
        for (name, value) in [
            ("deprecatedSource", json!({})),
            ("deprecatedFirstTimestamp", Value::Null),
            ("deprecatedLastTimestamp", Value::Null),
        ] {
            assert_eq!(back.as_object_mut().unwrap().remove(name), Some(value));
        }
        assert_eq!(back, new);
        assert_eq!(to_core(expected.clone()), expected, "as it is");
    }

    #[test]
    fn fields_are_found_in_events_of_either_group() {
        let new = json!({"regarding": {"kind": "Widget"}, "reportingController": "c", "type": "Normal"});
        let core = to_core(new.clone());
        for event in [&new, &core] {
            for (name, value) in [
                ("involvedObject.kind", "Widget"),
                ("regarding.kind", "Widget"),
                ("reportingComponent", "c"),
                ("reportingController", "c"),
                ("source", "c"),
                ("type", "Normal"),
            ] {
                assert_eq!(field(event, name).as_deref(), Some(value), "{name}");
            }
            assert_eq!(field(event, "involvedObject.name"), None);
        }
        assert!(
            is_field("involvedObject.uid", true)
                && is_field("source", true)
                && is_field("regarding.uid", false)
        );
        for (name, core) in
            [("involvedObject.nope", true), ("regarding.uid", true), ("source", false), ("note", false)]
        {
            assert!(!is_field(name, core), "{name}");
        }
    }
}
