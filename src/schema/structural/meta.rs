//! `ObjectMeta`: its schema, and the rules every object's metadata keeps.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::FieldError;
use super::names;
use super::node::Node;
use super::parse::{self, Rules};

/// Most bytes of all keys and values of annotations together.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Longest name of a field manager, in bytes.
const MANAGER_MAX: usize = 128;

/// What is said of a field that cannot change.
const IMMUTABLE: &str = "field is immutable";

/// The rule of an object's name: what is wrong with it.
pub type NameRule = fn(&str) -> Vec<String>;

/// The `OpenAPI` v3 schema of `ObjectMeta`.
pub static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("object_meta.json")).unwrap_or_default());

static NODE: LazyLock<Node> =
    LazyLock::new(|| parse::parse(&SCHEMA, "metadata", Rules::BuiltIn).unwrap_or_default());

/// The compiled schema of metadata.
pub(super) fn node() -> &'static Node {
    &NODE
}

/// The rules of metadata when an object is created.
///
/// Where there is a `generateName` the server has not yet made a name of, the name is not missed.
pub fn validate(object: &Value, namespaced: bool, name_rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Map::new();
    let meta = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let text = |name: &str| meta.get(name).and_then(Value::as_str).unwrap_or_default();
    let generate = text("generateName");
    if !generate.is_empty() {
        // The prefix may end in a hyphen, which what is appended follows.
        let probe = if generate.ends_with('-') {
            format!("{}a", generate.trim_end_matches('-'))
        } else {
            generate.to_owned()
        };
        for wrong in name_rule(&probe) {
            errors.push(FieldError::invalid_text("metadata.generateName", generate, &wrong));
        }
    }
    match text("name") {
        "" if generate.is_empty() => {
            errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        }
        "" => {}
        name => {
            for wrong in name_rule(name) {
                errors.push(FieldError::invalid_text("metadata.name", name, &wrong));
            }
        }
    }
    match (namespaced, text("namespace")) {
        (true, "") => errors.push(FieldError::required("metadata.namespace", "")),
        (true, namespace) => {
            for wrong in names::dns_label(namespace) {
                errors.push(FieldError::invalid_text("metadata.namespace", namespace, &wrong));
            }
        }
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    if let Some(generation) = meta.get("generation").filter(|generation| generation.as_i64() < Some(0)) {
        errors.push(FieldError::invalid(
            "metadata.generation",
            generation,
            "must be greater than or equal to 0",
        ));
    }
    labels(meta, &mut errors);
    annotations(meta, &mut errors);
    owners(meta, &mut errors);
    finalizers(meta, &mut errors);
    managed_fields(meta, &mut errors);
    errors
}

/// The rules of metadata when an object is changed: what may not change, and those of [`validate`] about the rest.
///
/// What the new object leaves out of what the server sets (uid, times) counts as unchanged. That the resource version
/// must be told is up to the kind, so it is not asked for here.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Map::new();
    let meta = |object: &'_ Value| object.get("metadata").and_then(Value::as_object).cloned();
    let (new, old) = (meta(new).unwrap_or_default(), meta(old).unwrap_or(empty));
    let set =
        |meta: &Map<String, Value>, name: &str| meta.get(name).filter(|value| !value.is_null()).cloned();
    if set(&old, "deletionTimestamp").is_some() {
        new_finalizers(&new, &old, &mut errors);
    }
    let generation =
        |meta: &Map<String, Value>| meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
    if new.contains_key("generation") && generation(&new) < generation(&old) {
        let value = Value::from(generation(&new));
        errors.push(FieldError::invalid("metadata.generation", &value, "must not be decremented"));
    }
    for name in ["name", "namespace"] {
        let of = |meta: &Map<String, Value>| set(meta, name).unwrap_or_else(|| Value::from(""));
        if of(&new) != of(&old) {
            errors.push(FieldError::invalid(format!("metadata.{name}"), &of(&new), IMMUTABLE));
        }
    }
    for name in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if let Some(value) = set(&new, name).filter(|value| set(&old, name).as_ref() != Some(value)) {
            errors.push(FieldError::invalid(format!("metadata.{name}"), &value, IMMUTABLE));
        }
    }
    labels(&new, &mut errors);
    annotations(&new, &mut errors);
    owners(&new, &mut errors);
    managed_fields(&new, &mut errors);
    errors
}

/// What is being deleted gets no more finalizers.
fn new_finalizers(new: &Map<String, Value>, old: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let before = strings(old.get("finalizers"));
    let mut added = strings(new.get("finalizers"));
    added.retain(|name| !before.contains(name));
    added.sort();
    if !added.is_empty() {
        let list = added.iter().map(|name| super::quote(name)).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
        );
        errors.push(FieldError::forbidden("metadata.finalizers", &detail));
    }
}

fn labels(meta: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    for (key, value) in meta.get("labels").and_then(Value::as_object).into_iter().flatten() {
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid_text("metadata.labels", key, &wrong));
        }
        let value = value.as_str().unwrap_or_default();
        for wrong in names::label_value(value) {
            errors.push(FieldError::invalid_text("metadata.labels", value, &wrong));
        }
    }
}

fn annotations(meta: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let mut bytes = 0usize;
    for (key, value) in meta.get("annotations").and_then(Value::as_object).into_iter().flatten() {
        // Upper case is let through in keys of annotations.
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid_text("metadata.annotations", key, &wrong));
        }
        bytes = bytes.saturating_add(key.len()).saturating_add(value.as_str().map_or(0, str::len));
    }
    if bytes > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_MAX as u64));
    }
}

fn owners(meta: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    let list = meta.get("ownerReferences").and_then(Value::as_array);
    // The API server names the list, not the entry.
    for owner in list.into_iter().flatten() {
        let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion");
        if version.rsplit('/').next().is_none_or(str::is_empty) {
            let at = format!("{PATH}.apiVersion");
            errors.push(FieldError::invalid_text(at, version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                errors.push(FieldError::invalid_text(format!("{PATH}.{name}"), "", "must not be empty"));
            }
        }
        if version == "v1" && text("kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(PATH, owner, detail));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let own = format!("{}/{}", text("kind"), text("name"));
            let Some(first) = &controller else {
                controller = Some(own);
                continue;
            };
            let detail = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                 {own}"
            );
            let all = meta.get("ownerReferences").unwrap_or(&Value::Null);
            errors.push(FieldError::invalid(PATH, all, &detail));
        }
    }
}

fn finalizers(meta: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let list = strings(meta.get("finalizers"));
    for name in &list {
        for wrong in names::qualified_name(name) {
            errors.push(FieldError::invalid_text("metadata.finalizers", name, &wrong));
        }
    }
    let has = |name: &str| list.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid("metadata.finalizers", &Value::from(list), detail));
    }
}

fn managed_fields(meta: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let list = meta.get("managedFields").and_then(Value::as_array);
    for (at, entry) in list.into_iter().flatten().enumerate() {
        let path = format!("metadata.managedFields[{at}]");
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        if !matches!(text("operation"), "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            errors.push(FieldError::invalid_text(format!("{path}.operation"), text("operation"), detail));
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            let detail = "must be `FieldsV1`";
            errors.push(FieldError::invalid_text(format!("{path}.fieldsType"), text("fieldsType"), detail));
        }
        if text("manager").len() > MANAGER_MAX {
            errors.push(FieldError::too_long(format!("{path}.manager"), MANAGER_MAX as u64));
        }
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
