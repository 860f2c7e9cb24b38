//! What the server itself writes into an object's metadata, and what it keeps a writer from changing there.

use serde_json::{Map, Value, json};

use crate::core::uuid;
use crate::transport::k8s::codec::status::{Reason, Status};

/// Letters and digits of a generated name's end: no vowels, so that it spells nothing.
const GENERATED: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many of them.
const GENERATED_LENGTH: usize = 5;
/// Longest beginning of a generated name, in bytes.
const GENERATE_MAX: usize = 58;

/// Now, as metadata has times: whole seconds in UTC.
pub(super) fn now() -> String {
    let seconds = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// A name that begins with `prefix`.
pub(super) fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATE_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix.get(..end).unwrap_or_default().to_owned();
    for _ in 0..GENERATED_LENGTH {
        name.extend(fastrand::choice(GENERATED).map(|&byte| char::from(byte)));
    }
    name
}

/// The metadata of an object; an empty one where there is none.
pub(super) fn of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.as_object_mut()?.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
}

/// A text of the metadata; empty where there is none.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .pointer("/metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether the object is being deleted and waits for its finalizers.
pub(super) fn is_ending(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Whether anybody holds the object back from being deleted.
pub(super) fn has_finalizers(object: &Value) -> bool {
    object.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Fills in what the server decides on a creation.
pub(super) fn create(object: &mut Value, namespace: &str, name: &str, counts: bool) {
    let Some(metadata) = of(object) else { return };
    for field in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        metadata.remove(field);
    }
    metadata.insert("name".to_owned(), json!(name));
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    metadata.insert("uid".to_owned(), json!(uuid::random()));
    metadata.insert("creationTimestamp".to_owned(), json!(now()));
    if counts {
        metadata.insert("generation".to_owned(), json!(1));
    }
}

/// Keeps of `live` what a writer may not change, and counts a new generation where the wanted state differs.
///
/// # Errors
/// 422 for a uid or a creation time that is another one; `kind` is `Widget.example.com`.
pub(super) fn update(object: &mut Value, live: &Value, kind: &str, counts: bool) -> Result<(), Status> {
    let name = text(live, "name").to_owned();
    let have = |field: &str| live.pointer("/metadata").and_then(|metadata| metadata.get(field)).cloned();
    let spec_changed = wanted(object) != wanted(live);
    let Some(metadata) = of(object) else { return Ok(()) };
    for field in ["uid", "creationTimestamp", "name", "namespace"] {
        let sent = metadata.get(field).filter(|sent| !sent.is_null() && **sent != json!("")).cloned();
        if let Some(sent) = sent
            && field == "uid"
            && Some(&sent) != have(field).as_ref()
        {
            return Err(immutable(kind, &name, &format!("metadata.{field}"), &sent));
        }
        put(metadata, field, have(field));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        put(metadata, field, have(field));
    }
    let generation = have("generation").and_then(|generation| generation.as_i64());
    match generation.or(counts.then_some(1)) {
        Some(generation) => {
            let next = generation + i64::from(counts && spec_changed);
            metadata.insert("generation".to_owned(), json!(next));
        }
        None => drop(metadata.remove("generation")),
    }
    Ok(())
}

/// `Widget.example.com "w1" is invalid: metadata.uid: Invalid value: "zzz": field is immutable`
fn immutable(kind: &str, name: &str, field: &str, value: &Value) -> Status {
    let detail = format!("Invalid value: {value}: field is immutable");
    let (short, group) = kind.split_once('.').unwrap_or((kind, ""));
    Status::new(Reason::Invalid, format!("{kind} {name:?} is invalid: {field}: {detail}"))
        .about(group, short, name)
        .cause("FieldValueInvalid", &detail, field)
}

fn put(metadata: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(metadata.insert(field.to_owned(), value)),
        None => drop(metadata.remove(field)),
    }
}

/// What somebody wants of an object: all but what describes it and what became of it.
fn wanted(object: &Value) -> Vec<(&str, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    let mut wanted: Vec<(&str, &Value)> = fields
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| !matches!(*name, "apiVersion" | "kind" | "metadata" | "status"))
        .collect();
    wanted.sort_by_key(|(name, _)| *name);
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_begins_as_asked_and_is_short_enough() {
        let name = generate_name("g-");
        assert!(name.starts_with("g-") && name.len() == 7, "{name}");
        assert_eq!(generate_name(&"x".repeat(100)).len(), GENERATE_MAX + GENERATED_LENGTH);
        assert!(generate_name(&"ä".repeat(50)).len() <= GENERATE_MAX + GENERATED_LENGTH);
    }

    #[test]
    fn a_generation_counts_what_is_wanted_only() {
        let live = json!({"metadata": {"name": "a", "uid": "u", "generation": 3, "labels": {"a": "1"}}, "spec": {"x": 1}});
        for (changed, expected) in [
            (json!({"metadata": {"labels": {"a": "2"}}, "spec": {"x": 1}}), 3),
            (json!({"metadata": {}, "spec": {"x": 1}, "status": {"y": 1}}), 3),
            (json!({"metadata": {"generation": 9}, "spec": {"x": 2}}), 4),
        ] {
            let mut object = changed;
            update(&mut object, &live, "Widget.example.com", true).unwrap();
            assert_eq!(object["metadata"]["generation"], expected, "{object}");
            assert_eq!(object["metadata"]["uid"], "u");
        }
        let mut other = json!({"metadata": {"uid": "zzz"}});
        let refused = update(&mut other, &live, "Widget.example.com", true).unwrap_err();
        assert_eq!(
            refused.message,
            "Widget.example.com \"a\" is invalid: metadata.uid: Invalid value: \"zzz\": field is immutable"
        );
    }
}
