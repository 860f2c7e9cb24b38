//! `CustomResourceDefinition` (apiextensions.k8s.io/v1): defaulted, checked and read.
//!
//! Not served of it: conversion by webhook and the `scale` subresource, which is ignored; rules in
//! `x-kubernetes-validations` are kept and not evaluated.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::schema::structural::{FieldError, Structural};

mod rules;
#[cfg(test)]
mod tests;

pub use rules::validate_update;

/// Most fields by which objects of one version can be selected.
pub const SELECTABLE_FIELDS_MAX: usize = 8;

/// The names of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `widgets`
    pub plural: String,
    /// `widget`
    pub singular: String,
    /// `Widget`
    pub kind: String,
    /// `WidgetList`
    pub list_kind: String,
    /// `wg`
    pub short_names: Vec<String>,
    /// `all`
    pub categories: Vec<String>,
}

/// A column of a version's table, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrinterColumn {
    /// The header.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// An `OpenAPI` format; mostly empty.
    pub format: String,
    /// What it tells; mostly empty.
    pub description: String,
    /// 0 is always shown.
    pub priority: i32,
    /// Where the value is.
    pub json_path: String,
}

/// One version of a kind.
#[derive(Clone, Debug)]
pub struct CrdVersion {
    /// `v1`
    pub name: String,
    /// Whether it is served.
    pub served: bool,
    /// Whether it is the one that is stored.
    pub storage: bool,
    /// The warning clients get; `None` where the version is not deprecated.
    pub deprecation: Option<String>,
    /// The compiled schema.
    pub schema: Arc<Structural>,
    /// `openAPIV3Schema` as it is written.
    pub open_api: Arc<Value>,
    /// Whether the status is written apart from the rest.
    pub status: bool,
    /// The columns of its table; none where it shows the age only.
    pub columns: Vec<PrinterColumn>,
    /// The simple paths by which objects can be selected: `.spec.color`.
    pub selectable: Vec<String>,
}

/// What a definition says.
#[derive(Clone, Debug)]
pub struct Crd {
    /// `example.com`
    pub group: String,
    /// The names.
    pub names: Names,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The versions, as they are written.
    pub versions: Vec<CrdVersion>,
}

impl Crd {
    /// Checks and reads a definition that was [defaulted](default).
    ///
    /// # Errors
    ///
    /// Says everything that is wrong, in the API server's words.
    pub fn parse(object: &Value) -> Result<Self, Vec<FieldError>> {
        let (crd, errors) = rules::read(object);
        if errors.is_empty() { Ok(crd) } else { Err(errors) }
    }

    /// The version of that name.
    pub fn version(&self, name: &str) -> Option<&CrdVersion> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version that is stored.
    pub fn storage(&self) -> Option<&CrdVersion> {
        self.versions.iter().find(|version| version.storage)
    }
}

/// Sets what a definition leaves out: of the names, of the conversion, and of the status what it has when it is new.
pub fn default(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        default_map(object);
    }
}

/// As [`default`], of the fields of the object.
pub(super) fn default_map(object: &mut Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !kind.is_empty() {
            set_if_empty(names, "singular", kind.to_lowercase());
            set_if_empty(names, "listKind", format!("{kind}List"));
        }
    }
    let conversion = spec.entry("conversion").or_insert_with(|| json!({}));
    if conversion.is_null() {
        *conversion = json!({});
    }
    if let Some(conversion) = conversion.as_object_mut() {
        set_if_empty(conversion, "strategy", "None".to_owned());
    }
    let stored = storage_version(spec);
    let status = object.entry("status").or_insert(Value::Null);
    if !status.is_object() {
        *status =
            json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []});
    }
    if let (Some(status), Some(stored)) = (status.as_object_mut(), stored) {
        let versions = status.entry("storedVersions").or_insert_with(|| json!([]));
        match versions {
            Value::Array(list) if !list.contains(&stored) => list.push(stored),
            Value::Array(_) => {}
            other => *other = json!([stored]),
        }
    }
}

/// What the server does with a definition it accepted: its names are accepted and it is established. Conditions that
/// are true keep their time; `now` is RFC 3339.
pub fn establish(object: &mut Value, now: &str) {
    let Some(names) = object.pointer("/spec/names").cloned() else { return };
    let Some(object) = object.as_object_mut() else { return };
    let status = object.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else { return };
    status.insert("acceptedNames".to_owned(), names);
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    for (kind, reason, message) in [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ] {
        let known =
            list.iter_mut().find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind));
        let made = json!({
            "type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message,
        });
        match known {
            Some(known) if known.get("status") == Some(&Value::from("True")) => {}
            Some(known) => *known = made,
            None => list.push(made),
        }
    }
}

/// Whether a definition is established.
pub fn is_established(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("Established")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    })
}

fn set_if_empty(map: &mut Map<String, Value>, name: &str, value: String) {
    if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        map.insert(name.to_owned(), Value::from(value));
    }
}

fn storage_version(spec: &Map<String, Value>) -> Option<Value> {
    let versions = spec.get("versions").and_then(Value::as_array);
    let stored = versions?.iter().find(|version| version.get("storage") == Some(&Value::Bool(true)));
    stored?.get("name").filter(|name| name.is_string()).cloned()
}
