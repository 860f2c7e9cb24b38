//! Schemas that are refused, sentence by sentence.

use serde_json::{Value, json};

use super::*;

fn refused(schema: &Value) -> Vec<String> {
    Structural::compile(schema).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_schema_must_be_structural() {
    assert_eq!(
        refused(&json!({"properties": {"a": {}, "l": {"type": "array"}}})),
        [
            "openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
            "openAPIV3Schema.properties[l].items: Required value: must be specified",
            "openAPIV3Schema.type: Required value: must not be empty at the root",
        ]
    );
    assert_eq!(
        refused(&json!({"type": "string"})),
        [r#"openAPIV3Schema.type: Invalid value: "string": must be object at the root"#]
    );
    assert_eq!(
        refused(
            &json!({"type": "object", "anyOf": [{"type": "object", "properties": {"a": {"minimum": 1}}}]})
        ),
        [
            "openAPIV3Schema.anyOf[0].type: Forbidden: must be empty to be structural",
            "openAPIV3Schema.properties[a]: Required value: because it is defined in \
             openAPIV3Schema.anyOf[0].properties[a]",
        ]
    );
    assert_eq!(
        refused(
            &json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {
            "type": "object"}}}}})
        ),
        ["openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and \
          generateName, but metadata is implicitly specified"]
    );
}

#[test]
fn keywords_that_are_not_supported_are_refused() {
    assert_eq!(
        refused(&json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/x"}}})),
        ["openAPIV3Schema.properties[a].$ref: Forbidden: $ref is not supported"]
    );
    assert_eq!(
        refused(
            &json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"},
            "uniqueItems": true}}})
        ),
        [
            "openAPIV3Schema.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime \
          complexity becomes quadratic"
        ]
    );
    assert_eq!(
        refused(&json!({"type": "object", "properties": {"a": {"type": "float"}}})),
        [
            r#"openAPIV3Schema.properties[a].type: Unsupported value: "float": supported values: "array", "boolean", "integer", "number", "object", "string""#
        ]
    );
    let pattern =
        refused(&json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}));
    assert!(pattern[0].contains("must be a valid regular expression, but isn't:"), "{pattern:?}");
}

#[test]
fn extensions_keep_to_their_rules() {
    let list = |extra: Value| {
        let mut list =
            json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}});
        list.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        refused(&json!({"type": "object", "properties": {"l": list}}))
    };
    assert_eq!(
        list(json!({"x-kubernetes-list-type": "map"})),
        ["openAPIV3Schema.properties[l].x-kubernetes-list-map-keys: Required value: must not be empty if \
          x-kubernetes-list-type is map"]
    );
    assert_eq!(
        list(json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]})),
        ["openAPIV3Schema.properties[l].items.properties[k].default: Required value: this property is in \
          x-kubernetes-list-map-keys, so it must have a default or be a required property"]
    );
    assert_eq!(
        list(json!({"x-kubernetes-list-type": "set"})),
        [
            r#"openAPIV3Schema.properties[l].items.x-kubernetes-map-type: Invalid value: "null": must be atomic as item of a list with x-kubernetes-list-type=set"#
        ]
    );
    assert_eq!(
        refused(&json!({"type": "object", "properties": {"a": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": false}}})),
        [
            "openAPIV3Schema.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or \
          undefined"
        ]
    );
}

#[test]
fn a_default_must_be_valid_and_pruned() {
    assert_eq!(
        refused(&json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}})),
        [
            r#"openAPIV3Schema.properties[a].default: Invalid value: "string": openAPIV3Schema.properties[a].default in body must be of type integer: "string""#
        ]
    );
    assert_eq!(
        refused(&json!({"type": "object", "properties": {"a": {"type": "object", "default": {"b": 1}}}})),
        [r#"openAPIV3Schema.properties[a].default: Invalid value: {"b":1}: must not have unknown fields"#]
    );
}

#[test]
fn a_schema_that_is_too_deep_is_refused() {
    let mut schema = json!({"type": "string"});
    for _ in 0..=DEPTH_MAX {
        schema = json!({"type": "object", "properties": {"a": schema}});
    }
    assert!(refused(&schema).iter().any(|error| error.contains("at most 256 levels")));
}
