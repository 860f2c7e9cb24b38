//! The rules of the other kinds beyond their metadata.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::schema::structural::{FieldError, names};

/// Most bytes of all values of a `ConfigMap` together.
const CONFIG_MAP_MAX: usize = 1 << 20;
/// The strategies of coordinated leases.
const LEASE_STRATEGIES: [&str; 1] = ["OldestEmulationVersion"];

/// Errors that are about no metadata, where metadata was looked at before.
pub(super) fn beyond_meta(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.retain(|error| !error.path.starts_with("metadata.") || error.message.ends_with("+spec.group"));
    errors
}

/// Keys and size of the data.
pub(super) fn config_map(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Map::new();
    let of = |name: &str| object.get(name).and_then(Value::as_object).unwrap_or(&empty);
    let mut bytes = 0usize;
    for (name, other) in [("data", "binaryData"), ("binaryData", "data")] {
        for (key, value) in of(name) {
            for wrong in names::config_key(key) {
                errors.push(FieldError::invalid_text(format!("{name}[{key}]"), key, &wrong));
            }
            if of(other).contains_key(key) {
                let detail = format!("duplicate of key present in {other}");
                errors.push(FieldError::invalid_text(format!("{name}[{key}]"), key, &detail));
            }
            let text = value.as_str().map_or(0, str::len);
            // Four characters of base64 are three bytes.
            bytes = bytes.saturating_add(if name == "data" { text } else { text / 4 * 3 });
        }
    }
    if bytes > CONFIG_MAP_MAX {
        errors.push(FieldError::too_long("", CONFIG_MAP_MAX as u64));
    }
    errors
}

/// An immutable one stays as it is.
pub(super) fn config_map_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.get("immutable") == Some(&Value::Bool(true)) {
        let detail = "field is immutable when `immutable` is set";
        if new.get("immutable") != Some(&Value::Bool(true)) {
            errors.push(FieldError::forbidden("immutable", detail));
        }
        for name in ["data", "binaryData"] {
            let of = |object: &Value| {
                object.get(name).and_then(Value::as_object).filter(|data| !data.is_empty()).cloned()
            };
            if of(new) != of(old) {
                errors.push(FieldError::forbidden(name, detail));
            }
        }
    }
    errors.extend(config_map(new));
    errors
}

/// Names of the finalizers.
pub(super) fn namespace(object: &Value) -> Vec<FieldError> {
    let list = object.pointer("/spec/finalizers").and_then(Value::as_array);
    let mut errors = Vec::new();
    for (at, name) in list.into_iter().flatten().filter_map(Value::as_str).enumerate() {
        let path = format!("spec.finalizers[{at}]");
        let wrong = names::qualified_name(name);
        if wrong.is_empty() && !name.contains('/') && name != "kubernetes" {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid_text(&path, name, detail));
        }
        errors.extend(wrong.iter().map(|wrong| FieldError::invalid_text(&path, name, wrong)));
    }
    errors
}

/// Names and images of the containers.
pub(super) fn pod(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for name in ["containers", "initContainers"] {
        let list = object.pointer("/spec").and_then(|spec| spec.get(name)).and_then(Value::as_array);
        if name == "containers" && list.is_none_or(Vec::is_empty) {
            errors.push(FieldError::required("spec.containers", ""));
        }
        for (at, container) in list.into_iter().flatten().enumerate() {
            let path = format!("spec.{name}[{at}]");
            let text = |field: &str| container.get(field).and_then(Value::as_str).unwrap_or_default();
            let own = text("name");
            if own.is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            } else if !seen.insert(own) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &Value::from(own)));
            } else {
                for wrong in names::dns_label(own) {
                    errors.push(FieldError::invalid_text(format!("{path}.name"), own, &wrong));
                }
            }
            let image = text("image");
            if image.is_empty() {
                errors.push(FieldError::required(format!("{path}.image"), ""));
            } else if image.trim() != image {
                let detail = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid_text(format!("{path}.image"), image, detail));
            }
        }
    }
    errors
}

/// Numbers and strategy of the claim.
pub(super) fn lease(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Map::new();
    let spec = object.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    if let Some(seconds) = spec.get("leaseDurationSeconds").filter(|n| n.as_i64().is_some_and(|n| n <= 0)) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(count) = spec.get("leaseTransitions").filter(|n| n.as_i64().is_some_and(|n| n < 0)) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            count,
            "must be greater than or equal to 0",
        ));
    }
    let text = |name: &str| spec.get(name).and_then(Value::as_str);
    if let Some(strategy) = text("strategy") {
        // The API server names the field twice.
        let path = "spec.strategy.strategy";
        if strategy.contains('/') {
            for wrong in names::qualified_name(strategy) {
                errors.push(FieldError::invalid_text(path, strategy, &wrong));
            }
        } else if !LEASE_STRATEGIES.contains(&strategy) {
            errors.push(FieldError::not_supported(path, &Value::from(strategy), &LEASE_STRATEGIES));
        }
    }
    let preferred = text("preferredHolder").is_some_and(|holder| !holder.is_empty());
    if preferred && text("strategy").is_none_or(str::is_empty) {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden("spec.preferredHolder", detail));
    }
    errors
}
