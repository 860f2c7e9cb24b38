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

/// The rules of metadata when an object is changed: besides those of [`validate`], what may not change.
pub fn validate_update(new: &Value, old: &Value, namespaced: bool, name_rule: NameRule) -> Vec<FieldError> {
    let mut errors = validate(new, namespaced, name_rule);
    for name in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let of = |object: &Value| object.pointer("/metadata").and_then(|meta| meta.get(name)).cloned();
        let (new, old) = (of(new).unwrap_or_default(), of(old).unwrap_or_default());
        if new != old {
            let value = if name.ends_with("Seconds") || !new.is_null() { new } else { Value::from("") };
            errors.push(FieldError::invalid(format!("metadata.{name}"), &value, "field is immutable"));
        }
    }
    let deleting = old.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
    if deleting {
        let of = |object: &'_ Value| -> Vec<String> { strings(object.pointer("/metadata/finalizers")) };
        let before = of(old);
        let added: Vec<String> = of(new).into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers \
                 []string{{{}}}",
                added.iter().map(|name| super::quote(name)).collect::<Vec<_>>().join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    errors
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
    let mut controller: Option<String> = None;
    let list = meta.get("ownerReferences").and_then(Value::as_array);
    for (at, owner) in list.into_iter().flatten().enumerate() {
        let path = format!("metadata.ownerReferences[{at}]");
        let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion");
        if version.rsplit('/').next().is_none_or(str::is_empty) {
            let detail = "version must not be empty";
            errors.push(FieldError::invalid_text(format!("{path}.apiVersion"), version, detail));
        }
        for (name, detail) in
            [("kind", "must not be empty"), ("name", "must not be empty"), ("uid", "must not be empty")]
        {
            if text(name).is_empty() {
                errors.push(FieldError::invalid_text(format!("{path}.{name}"), "", detail));
            }
        }
        if version == "v1" && text("kind") == "Event" {
            let value = Value::from("/v1, Kind=Event");
            errors.push(FieldError::invalid(
                &path,
                &value,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                     and {}",
                    text("name")
                );
                errors.push(FieldError::invalid(
                    "metadata.ownerReferences",
                    meta.get("ownerReferences").unwrap_or(&Value::Null),
                    &detail,
                ));
            } else {
                controller = Some(text("name").to_owned());
            }
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
