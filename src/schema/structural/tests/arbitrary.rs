//! What holds for any schema and any object.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::*;

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z<>\\[\\]/.%]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Words of schemas and of objects, so that what is made means something now and then.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "b",
        "metadata",
        "kind",
        "apiVersion",
        "spec",
        "type",
        "properties",
        "items",
        "anyOf",
        "allOf",
        "oneOf",
        "not",
        "default",
        "enum",
        "required",
        "pattern",
        "nullable",
        "additionalProperties",
        "minimum",
        "maxLength",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "$ref",
        "labels",
    ])
    .prop_map(str::to_owned)
}

/// Schemas that compile.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "integer", "minimum": 0, "nullable": true})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
    ];
    let node = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| json!({"type": "object", "properties": {"a": a, "b": b}})),
            inner.clone().prop_map(|each| json!({"type": "object", "additionalProperties": each})),
            inner.prop_map(|items| json!({"type": "array", "items": items})),
        ]
    });
    (node.clone(), node)
        .prop_map(|(a, spec)| json!({"type": "object", "properties": {"a": a, "spec": spec}}))
}

proptest! {
    #[test]
    fn nothing_panics_on_any_json(schema in arbitrary_json(), mut object in arbitrary_json()) {
        let compiled = [Structural::compile(&schema), Structural::compile_built_in(&schema)];
        for compiled in compiled.into_iter().flatten() {
            compiled.default(&mut object);
            compiled.validate(&object);
            compiled.prune(&mut object);
            compiled.scalar_at(".a.b").ok();
        }
        meta::validate(&object, true, names::dns_subdomain);
        meta::validate_update(&object, &schema);
    }

    #[test]
    fn pruning_and_defaulting_twice_is_as_once(schema in schema(), object in arbitrary_json()) {
        let compiled = Structural::compile(&schema).unwrap();
        let mut once = object.clone();
        compiled.prune(&mut once);
        let mut twice = once.clone();
        prop_assert_eq!(compiled.prune(&mut twice), Vec::<String>::new());
        prop_assert_eq!(&once, &twice);
        compiled.default(&mut once);
        let mut again = once.clone();
        compiled.default(&mut again);
        prop_assert_eq!(once, again);
    }
}
