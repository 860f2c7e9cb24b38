//! What a schema must be to be structural, and what else is refused in the schema of a custom resource.
//!
//! The rules are those of
//! [structural schemas](https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema)
//! and of the `x-kubernetes-*` extensions.

use serde_json::{Map, Value, json};

use super::error::{ERRORS_MAX, FieldError};
use super::node::{Additional, Kind, ListType, Node};
use super::parse::{Level, Parser, Place, Rules, child};
use super::{default, prune, validate};

/// Rules about what is written in one node, before those below it are read.
pub(super) fn before(parser: &mut Parser, map: &Map<String, Value>, path: &str, place: Place<'_>) {
    const REFUSED: [&str; 6] =
        ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
    for name in REFUSED {
        if map.get(name).is_some_and(is_set) {
            parser.unstructured = true;
            parser.refuse(FieldError::forbidden(child(path, name), &format!("{name} is not supported")));
        }
    }
    if map.get("items").is_some_and(Value::is_array) {
        parser.unstructured = true;
        let detail = "items must be a schema object and not an array";
        parser.refuse(FieldError::forbidden(child(path, "items"), detail));
    }
    if let (Some(reason), true) = (place.no_default, map.get("default").is_some_and(is_set)) {
        parser.refuse(FieldError::forbidden(child(path, "default"), &format!("must not be set {reason}")));
    }
    if map.get("uniqueItems") == Some(&Value::Bool(true)) && parser.rules == Rules::Custom {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        parser.refuse(FieldError::forbidden(child(path, "uniqueItems"), detail));
    }
    let has_properties = map.get("properties").and_then(Value::as_object).is_some_and(|p| !p.is_empty());
    let additional =
        map.get("additionalProperties").is_some_and(|a| !matches!(a, Value::Null | Value::Bool(true)));
    if has_properties && additional {
        let detail = "additionalProperties and properties are mutual exclusive";
        parser.refuse(FieldError::forbidden(child(path, "additionalProperties"), detail));
    }
    if place.nested {
        nested(parser, map, path);
    }
}

/// Rules about a node whose children are known.
pub(super) fn after(
    parser: &mut Parser,
    map: &Map<String, Value>,
    node: &Node,
    path: &str,
    place: Place<'_>,
) {
    if !place.nested {
        structure(parser, map, node, path, place);
        completeness(parser, node, path);
    }
    extensions(parser, map, node, path, place);
}

/// Whether this `anyOf` is the pair of an integer or a string.
pub(super) fn is_int_or_string_pair(any_of: Option<&Value>) -> bool {
    any_of == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

/// Whether every default is what would be left of it after pruning, and valid.
pub(super) fn defaults(root: &Node, path: &str, rules: Rules) -> Result<(), Vec<FieldError>> {
    let mut wrong = Vec::new();
    if rules == Rules::Custom {
        check_defaults(root, path, &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn check_defaults(node: &Node, path: &str, wrong: &mut Vec<FieldError>) {
    if wrong.len() >= ERRORS_MAX {
        return;
    }
    if let Some(value) = &node.default {
        let at = child(path, "default");
        let mut kept = value.clone();
        default::default(node, &mut kept);
        let errors = validate::value(node, &kept, &at);
        let removed = prune::prune_value(node, &mut kept);
        if !removed.is_empty() {
            wrong.push(FieldError::invalid(at, value, "must not have unknown fields"));
        }
        wrong.extend(errors);
    }
    if let Some(items) = &node.items {
        check_defaults(items, &child(path, "items"), wrong);
    }
    for (name, property) in &node.properties {
        check_defaults(property, &format!("{path}.properties[{name}]"), wrong);
    }
    if let Additional::Each(each) = &node.additional {
        check_defaults(each, &child(path, "additionalProperties"), wrong);
    }
}

/// What may not be said below a junctor.
fn nested(parser: &mut Parser, map: &Map<String, Value>, path: &str) {
    const RULES: [(&str, &str); 12] = [
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    for (name, detail) in RULES {
        if map.get(name).is_some_and(is_set) {
            parser.not_structural(FieldError::forbidden(child(path, name), detail));
        }
    }
    if map.get("x-kubernetes-validations").is_some_and(is_set) {
        let at = child(path, "x-kubernetes-validations");
        parser.not_structural(FieldError::forbidden(at, "must be empty to be structural"));
    }
    if map.get("properties").is_some_and(|properties| properties.get("metadata").is_some()) {
        let at = format!("{path}.properties[metadata]");
        parser.not_structural(FieldError::forbidden(at, "must not be specified in a nested context"));
    }
}

/// The invariants of a node outside of junctors.
fn structure(parser: &mut Parser, map: &Map<String, Value>, node: &Node, path: &str, place: Place<'_>) {
    let type_at = child(path, "type");
    let root = place.level == Level::Root;
    if node.kind == Some(Kind::Array) && node.items.is_none() {
        parser.not_structural(FieldError::required(child(path, "items"), "must be specified"));
    }
    let additional_at = child(path, "additionalProperties");
    if root && !matches!(node.additional, Additional::Unsaid) {
        parser.not_structural(FieldError::forbidden(&additional_at, "must not be used at the root"));
    }
    if node.int_or_string && node.preserve_unknown {
        let at = child(path, "x-kubernetes-preserve-unknown-fields");
        let detail = "must be false if x-kubernetes-int-or-string is true";
        parser.not_structural(FieldError::invalid(at, &Value::Bool(true), detail));
    }
    if node.int_or_string && node.embedded {
        let at = child(path, "x-kubernetes-embedded-resource");
        let detail = "must be false if x-kubernetes-int-or-string is true";
        parser.not_structural(FieldError::invalid(at, &Value::Bool(true), detail));
    }
    if node.embedded && node.kind != Some(Kind::Object) {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        parser.not_structural(match node.kind {
            None => FieldError::required(&type_at, detail),
            Some(kind) => FieldError::invalid_text(&type_at, kind.name(), detail),
        });
    } else if !map.get("type").is_some_and(is_set) && !node.int_or_string && !node.preserve_unknown {
        parser.not_structural(FieldError::required(
            &type_at,
            match place.level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if node.embedded && !matches!(node.additional, Additional::Unsaid) {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        parser.not_structural(FieldError::forbidden(additional_at, detail));
    }
    if let (true, Some(kind)) = (root, node.kind.filter(|kind| *kind != Kind::Object)) {
        parser.not_structural(FieldError::invalid_text(type_at, kind.name(), "must be object at the root"));
    }
    if root && node.nullable {
        let detail = "nullable cannot be true at the root";
        parser.refuse(FieldError::forbidden(child(path, "nullable"), detail));
    }
    if root || node.embedded {
        meta(parser, map, node, path, root);
    }
    if node.embedded && !node.preserve_unknown && node.properties.is_empty() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        parser.not_structural(FieldError::required(child(path, "properties"), detail));
    }
}

/// What a schema may say about `apiVersion`, `kind` and `metadata`.
fn meta(parser: &mut Parser, map: &Map<String, Value>, node: &Node, path: &str, root: bool) {
    for name in ["kind", "apiVersion"] {
        if let Some(property) =
            node.properties.get(name).filter(|property| property.kind != Some(Kind::String))
        {
            let at = format!("{path}.properties[{name}].type");
            let kind = property.kind.map_or("", Kind::name);
            parser.not_structural(FieldError::invalid_text(at, kind, "must be string"));
        }
    }
    let Some(metadata) = node.properties.get("metadata") else { return };
    let at = format!("{path}.properties[metadata]");
    if metadata.kind != Some(Kind::Object) {
        let kind = metadata.kind.map_or("", Kind::name);
        parser.not_structural(FieldError::invalid_text(child(&at, "type"), kind, "must be object"));
    }
    let Some(written) = map.get("properties").and_then(|p| p.get("metadata")).and_then(Value::as_object)
    else {
        return;
    };
    let only_names = metadata.properties.keys().all(|name| name == "name" || name == "generateName");
    let nothing_else = written.iter().all(|(name, value)| match name.as_str() {
        "type" | "properties" | "default" => true,
        _ => !is_set(value),
    });
    if root && !(only_names && nothing_else) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        parser.not_structural(FieldError::forbidden(at, detail));
    }
}

/// Whatever a junctor restricts must be known outside of it.
fn completeness(parser: &mut Parser, node: &Node, path: &str) {
    let Some(checks) = &node.checks else { return };
    let lists = [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)];
    for (name, nodes) in lists {
        for (at, nested) in nodes.iter().enumerate() {
            complete(parser, Some(node), nested, path, &format!("{path}.{name}[{at}]"));
        }
    }
    if let Some(not) = &checks.not {
        complete(parser, Some(node), not, path, &child(path, "not"));
    }
}

fn complete(parser: &mut Parser, outside: Option<&Node>, nested: &Node, path: &str, nested_path: &str) {
    let Some(outside) = outside else { return };
    if let Some(items) = &nested.items {
        let (at, nested_at) = (child(path, "items"), child(nested_path, "items"));
        match &outside.items {
            Some(known) => complete(parser, Some(known), items, &at, &nested_at),
            None => parser.not_structural(FieldError::required(
                &at,
                &format!("because it is defined in {nested_at}"),
            )),
        }
    }
    for (name, property) in &nested.properties {
        let at = format!("{path}.properties[{name}]");
        let nested_at = format!("{nested_path}.properties[{name}]");
        match outside.properties.get(name) {
            Some(known) => complete(parser, Some(known), property, &at, &nested_at),
            None => parser.not_structural(FieldError::required(
                &at,
                &format!("because it is defined in {nested_at}"),
            )),
        }
    }
    let Some(checks) = &nested.checks else { return };
    for (name, nodes) in [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)] {
        for (at, inner) in nodes.iter().enumerate() {
            complete(parser, Some(outside), inner, path, &format!("{nested_path}.{name}[{at}]"));
        }
    }
    if let Some(not) = &checks.not {
        complete(parser, Some(outside), not, path, &child(nested_path, "not"));
    }
}

/// The rules of the `x-kubernetes-*` extensions.
fn extensions(parser: &mut Parser, map: &Map<String, Value>, node: &Node, path: &str, place: Place<'_>) {
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = child(path, "x-kubernetes-preserve-unknown-fields");
        parser.refuse(FieldError::invalid(at, &Value::Bool(false), "must be true or undefined"));
    }
    if place.inside_meta && node.embedded {
        let at = child(path, "x-kubernetes-embedded-resource");
        parser.refuse(FieldError::forbidden(at, "must not be used inside of resource meta"));
    }
    let wrong_kind = |name: &str, kind: &str| {
        let detail = format!("must be {kind} if {name} is specified");
        match node.kind {
            None => FieldError::required(child(path, "type"), &detail),
            Some(other) => FieldError::invalid_text(child(path, "type"), other.name(), &detail),
        }
    };
    if let Some(map_type) = parser.text(map, path, "x-kubernetes-map-type") {
        if node.kind != Some(Kind::Object) {
            parser.refuse(wrong_kind("x-kubernetes-map-type", "object"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let at = child(path, "x-kubernetes-map-type");
            parser.refuse(FieldError::not_supported(at, &Value::from(map_type), &["atomic", "granular"]));
        }
    }
    let list_type = parser.text(map, path, "x-kubernetes-list-type");
    if let Some(list_type) = list_type {
        if node.kind != Some(Kind::Array) {
            parser.refuse(wrong_kind("x-kubernetes-list-type", "array"));
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            let at = child(path, "x-kubernetes-list-type");
            parser.refuse(FieldError::not_supported(
                at,
                &Value::from(list_type),
                &["atomic", "set", "map"],
            ));
        }
    }
    if !node.list_map_keys.is_empty() && list_type != Some("map") {
        let at = child(path, "x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        parser.refuse(match list_type {
            None => FieldError::required(at, detail),
            Some(other) => FieldError::invalid_text(at, other, detail),
        });
    }
    match node.list_type {
        ListType::Map => list_map(parser, node, path),
        ListType::Set => list_set(parser, map, node, path),
        ListType::Atomic => {}
    }
}

fn list_set(parser: &mut Parser, map: &Map<String, Value>, node: &Node, path: &str) {
    let Some(items) = &node.items else { return };
    let written = |name: &str| map.get("items").and_then(|items| items.get(name)).and_then(Value::as_str);
    let must_be_atomic = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (name, wrong) = match items.kind {
        Some(Kind::Array) => {
            let name = "x-kubernetes-list-type";
            (name, written(name).filter(|list_type| *list_type != "atomic").map(Value::from))
        }
        Some(Kind::Object) => {
            let name = "x-kubernetes-map-type";
            let found = written(name);
            (name, (found != Some("atomic")).then(|| found.map_or(Value::Null, Value::from)))
        }
        _ => ("", None),
    };
    if let Some(value) = wrong {
        parser.refuse(FieldError::invalid(format!("{path}.items.{name}"), &value, must_be_atomic));
    }
    if items.nullable && parser.rules == Rules::Custom {
        let detail = "cannot be nullable when x-kubernetes-list-type is set";
        parser.refuse(FieldError::forbidden(format!("{path}.items.nullable"), detail));
    }
}

fn list_map(parser: &mut Parser, node: &Node, path: &str) {
    let keys_at = child(path, "x-kubernetes-list-map-keys");
    if node.list_map_keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        parser.refuse(FieldError::required(&keys_at, detail));
    }
    let Some(items) = &node.items else {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        parser.refuse(FieldError::required(child(path, "items"), detail));
        return;
    };
    if items.kind != Some(Kind::Object) {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        let kind = items.kind.map_or("", Kind::name);
        parser.refuse(FieldError::invalid_text(format!("{path}.items.type"), kind, detail));
        return;
    }
    let keys = Value::from(node.list_map_keys.clone());
    let required = items.checks.as_ref().map_or(&[][..], |checks| &checks.required);
    for (at, key) in node.list_map_keys.iter().enumerate() {
        let key_at = format!("{path}.items.properties[{key}]");
        match items.properties.get(key) {
            None => {
                let detail = "entries must all be names of item properties";
                parser.refuse(FieldError::invalid(&keys_at, &keys, detail));
            }
            Some(property) => {
                if matches!(property.kind, Some(Kind::Array | Kind::Object)) {
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    parser.refuse(FieldError::invalid_text(child(&key_at, "type"), "object", detail));
                }
                if !required.contains(key) && property.default.is_none() && parser.rules == Rules::Custom {
                    let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or \
                                  be a required property";
                    parser.refuse(FieldError::required(child(&key_at, "default"), detail));
                }
                if property.nullable && parser.rules == Rules::Custom {
                    let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                    parser.refuse(FieldError::forbidden(child(&key_at, "nullable"), detail));
                }
            }
        }
        if node.list_map_keys.iter().take(at).any(|earlier| earlier == key) {
            parser.refuse(FieldError::invalid(&keys_at, &keys, "must not contain duplicate entries"));
        }
    }
    if items.nullable && parser.rules == Rules::Custom {
        let detail = "cannot be nullable when x-kubernetes-list-type is map";
        parser.refuse(FieldError::forbidden(format!("{path}.items.nullable"), detail));
    }
}

/// Whether a keyword says anything: an empty value is as good as none.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) | Value::Bool(true) | Value::Number(_) => true,
    }
}
