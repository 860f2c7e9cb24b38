//! Objects against schemas, sentence by sentence, and against what a real server said.

use std::path::Path;

use serde_json::{Value, json};

use super::*;

mod arbitrary;
mod compile;

fn widget() -> Structural {
    Structural::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 0, "maximum": 10, "multipleOf": 2},
                    "ratio": {"type": "number", "exclusiveMinimum": true, "minimum": 0.5},
                    "color": {"type": "string", "enum": ["a", "b"], "default": "a"},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
                    "tags": {
                        "type": "array", "items": {"type": "string"}, "maxItems": 2, "minItems": 1,
                        "x-kubernetes-list-type": "set"
                    },
                    "ports": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"type": "string"},
                                "proto": {"type": "string", "default": "TCP"}
                            }
                        },
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"]
                    },
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "when": {"type": "string", "format": "date-time", "nullable": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1},
                    "pick": {
                        "type": "object",
                        "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                        "oneOf": [{"required": ["x"]}, {"required": ["y"]}]
                    },
                    "inner": {
                        "type": "object",
                        "x-kubernetes-embedded-resource": true,
                        "x-kubernetes-preserve-unknown-fields": true
                    }
                }
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }
    }))
    .unwrap()
}

/// What is wrong with a widget that has this beside a size.
fn wrong(spec: &Value) -> Vec<String> {
    let mut spec = spec.clone();
    spec.as_object_mut().unwrap().entry("size").or_insert(json!(4));
    widget().validate(&json!({"spec": spec})).iter().map(ToString::to_string).collect()
}

#[test]
fn numbers_keep_to_their_bounds() {
    assert_eq!(
        wrong(&json!({"size": -4})),
        ["spec.size: Invalid value: -4: spec.size in body should be greater than or equal to 0"]
    );
    assert_eq!(
        wrong(&json!({"size": 12})),
        ["spec.size: Invalid value: 12: spec.size in body should be less than or equal to 10"]
    );
    assert_eq!(
        wrong(&json!({"size": 3})),
        ["spec.size: Invalid value: 3: spec.size in body should be a multiple of 2"]
    );
    assert_eq!(
        wrong(&json!({"ratio": 0.5})),
        ["spec.ratio: Invalid value: 0.5: spec.ratio in body should be greater than 0.5"]
    );
}

#[test]
fn a_value_of_another_type_is_told_by_the_type_it_has() {
    assert_eq!(
        wrong(&json!({"size": "big"})),
        [r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#]
    );
    assert_eq!(
        wrong(&json!({"size": 4.5})).first().unwrap(),
        r#"spec.size: Invalid value: "number": spec.size in body must be of type integer: "number""#
    );
    assert_eq!(
        wrong(&json!({"tags": [1]})),
        [
            r#"spec.tags[0]: Invalid value: "integer": spec.tags[0] in body must be of type string: "integer""#
        ]
    );
    assert_eq!(
        wrong(&json!({"name": null})),
        [r#"spec.name: Invalid value: "null": spec.name in body must be of type string: "null""#]
    );
    assert!(wrong(&json!({"when": null, "size": 4.0})).is_empty());
}

#[test]
fn texts_keep_to_length_pattern_enum_and_format() {
    assert_eq!(
        wrong(&json!({"name": "A"})),
        [
            r#"spec.name: Invalid value: "A": spec.name in body should be at least 2 chars long"#,
            r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#,
        ]
    );
    assert_eq!(wrong(&json!({"name": "abcde"})), ["spec.name: Too long: may not be more than 4 bytes"]);
    assert_eq!(
        wrong(&json!({"color": "x"})),
        [r#"spec.color: Unsupported value: "x": supported values: "a", "b""#]
    );
    assert_eq!(
        wrong(&json!({"when": "noon"})),
        [r#"spec.when: Invalid value: "noon": spec.when in body must be of type date-time: "noon""#]
    );
}

#[test]
fn lists_and_maps_keep_to_their_size_and_have_each_entry_once() {
    assert_eq!(
        wrong(&json!({"tags": []})),
        ["spec.tags: Invalid value: 0: spec.tags in body should have at least 1 items"]
    );
    assert_eq!(
        wrong(&json!({"tags": ["a", "b", "c"]})),
        ["spec.tags: Too many: 3: must have at most 2 items"]
    );
    assert_eq!(wrong(&json!({"tags": ["a", "a"]})), [r#"spec.tags[1]: Duplicate value: "a""#]);
    assert_eq!(
        wrong(&json!({"ports": [{"name": "a"}, {"name": "b"}, {"name": "a"}]})),
        [r#"spec.ports[2]: Duplicate value: {"name":"a"}"#]
    );
    assert_eq!(
        wrong(&json!({"labels": {"a": "1", "b": "2"}})),
        ["spec.labels: Too many: 2: must have at most 1 item"]
    );
}

#[test]
fn what_is_required_is_missed() {
    let errors = widget().validate(&json!({"spec": {"ports": [{}]}}));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["spec.ports[0].name: Required value", "spec.size: Required value"]);
    assert_eq!(errors[0].reason, FieldErrorReason::FieldValueRequired);
}

#[test]
fn one_of_wants_exactly_one() {
    assert_eq!(
        wrong(&json!({"pick": {}})),
        [
            r#"<nil>: Invalid value: "": "spec.pick" must validate one and only one schema (oneOf). Found none valid"#,
            "spec.pick.x: Required value",
        ]
    );
    let both = r#"<nil>: Invalid value: "": "spec.pick" must validate one and only one schema (oneOf). Found 2 valid alternatives"#;
    assert_eq!(wrong(&json!({"pick": {"x": "1", "y": "2"}})), [both]);
    assert!(wrong(&json!({"pick": {"x": "1"}})).is_empty());
}

#[test]
fn an_integer_or_a_string_is_either() {
    assert!(wrong(&json!({"port": 80})).is_empty() && wrong(&json!({"port": "http"})).is_empty());
    assert_eq!(
        wrong(&json!({"port": true})).first().unwrap(),
        r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#
    );
}

#[test]
fn an_embedded_object_says_what_it_is() {
    assert_eq!(
        wrong(&json!({"inner": {"metadata": {"labels": {"a": 1}}}})),
        [
            r#"spec.inner.metadata.labels.a: Invalid value: "integer": spec.inner.metadata.labels.a in body must be of type string: "integer""#,
            "spec.inner.apiVersion: Required value: must not be empty",
            "spec.inner.kind: Required value: must not be empty",
        ]
    );
}

#[test]
fn all_of_any_of_and_not_are_held() {
    let schema = Structural::compile(&json!({
        "type": "object",
        "properties": {"n": {
            "type": "integer",
            "allOf": [{"minimum": 1}, {"maximum": 3}],
            "anyOf": [{"minimum": 2}, {"maximum": 0}],
            "not": {"enum": [3]}
        }}
    }))
    .unwrap();
    let wrong = |n: i64| aggregate(&schema.validate(&json!({"n": n})));
    assert_eq!(wrong(2), "[]");
    assert_eq!(wrong(3), r#"<nil>: Invalid value: "": "n" must not validate the schema (not)"#);
    assert!(wrong(1).contains(r#""n" must validate at least one schema (anyOf)"#));
    assert!(wrong(5).contains(r#""n" must validate all the schemas (allOf)"#));
}

#[test]
fn unknown_fields_are_pruned_and_told() {
    let mut object = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "extra": 1,
        "metadata": {"name": "a", "foo": 1, "labels": {"x": "y"}, "ownerReferences": [{"uid": "u", "bar": 1}]},
        "spec": {"size": 1, "sizzle": 4, "ports": [{"name": "a", "nope": {}}], "labels": {"any": "thing"},
                 "inner": {"apiVersion": "v1", "kind": "X", "free": {"a": 1}, "metadata": {"zip": 1}}},
        "status": {"anything": {"goes": true}}
    });
    let removed = widget().prune(&mut object);
    assert_eq!(
        removed,
        [
            "extra",
            "metadata.foo",
            "metadata.ownerReferences[0].bar",
            "spec.inner.metadata.zip",
            "spec.ports[0].nope",
            "spec.sizzle",
        ]
    );
    assert_eq!(object["status"], json!({"anything": {"goes": true}}));
    assert_eq!(object["spec"]["inner"]["free"], json!({"a": 1}));
    assert_eq!(object["spec"]["labels"], json!({"any": "thing"}));
}

#[test]
fn defaults_are_set_at_every_level_and_nulls_give_way() {
    let mut object =
        json!({"spec": {"size": 1, "name": null, "when": null, "color": null, "ports": [{"name": "a"}]}});
    widget().default(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"size": 1, "when": null, "color": "a", "ports": [{"name": "a", "proto": "TCP"}]}})
    );
}

#[test]
fn one_validation_costs_no_more_than_its_bound() {
    let alternatives: Vec<Value> = (0..2_000).map(|n| json!({"minimum": n, "maximum": n})).collect();
    let schema = Structural::compile(&json!({
        "type": "object",
        "properties": {"l": {"type": "array", "items": {"type": "integer", "oneOf": alternatives}}}
    }))
    .unwrap();
    let list: Vec<Value> = (0..100_000).map(|n| json!(n % 2_000)).collect();
    let errors = aggregate(&schema.validate(&json!({"l": list})));
    assert!(errors.contains("too large to be held against this schema"), "{errors}");
}

#[test]
fn metadata_keeps_to_its_rules() {
    let wrong = |meta: Value| -> Vec<String> {
        let object = json!({"metadata": meta});
        meta::validate(&object, true, names::dns_subdomain).iter().map(ToString::to_string).collect()
    };
    assert!(wrong(json!({"name": "a", "namespace": "default"})).is_empty());
    assert!(wrong(json!({"generateName": "a-", "namespace": "default"})).is_empty());
    assert_eq!(
        wrong(json!({"namespace": "d"})),
        ["metadata.name: Required value: name or generateName is required"]
    );
    assert_eq!(wrong(json!({"name": "a"})), ["metadata.namespace: Required value"]);
    let base = |extra: Value| {
        let mut meta = json!({"name": "a", "namespace": "default"});
        meta.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        wrong(meta)
    };
    assert!(
        base(json!({"labels": {"a b": "c"}}))[0]
            .starts_with(r#"metadata.labels: Invalid value: "a b": name part"#)
    );
    assert!(
        base(json!({"labels": {"a": "-"}}))[0]
            .starts_with(r#"metadata.labels: Invalid value: "-": a valid label"#)
    );
    assert!(base(json!({"annotations": {"Example.com/A": "x"}})).is_empty());
    assert_eq!(
        base(json!({"annotations": {"a": "x".repeat(meta::ANNOTATIONS_MAX)}})),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    assert_eq!(
        base(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]})),
        [r#"metadata.ownerReferences.uid: Invalid value: "": must not be empty"#]
    );
    assert_eq!(base(json!({"finalizers": ["a b"]})).len(), 1);
}

#[test]
fn metadata_that_identifies_cannot_change() {
    let old =
        json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "x", "finalizers": ["a/b"]}});
    let new = json!({"metadata": {"name": "a", "uid": "zzz", "deletionTimestamp": "x", "finalizers": ["a/b", "c/d"]}});
    let texts: Vec<String> = meta::validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}"#,
            r#"metadata.uid: Invalid value: "zzz": field is immutable"#,
        ]
    );
}

#[test]
fn a_recorded_server_says_the_same() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "color": {"type": "string"}, "size": {"type": "integer", "minimum": 0},
            "tags": {"type": "array", "items": {"type": "string"}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let widget = Structural::compile(&schema).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/k8s/recordings.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no recordings beside the repository");
        return;
    };
    let mut held = 0;
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let scenario = record["scenario"].as_str().unwrap();
        let body = |name: &str| serde_json::from_str::<Value>(record[name].as_str().unwrap_or("")).ok();
        let posted = record["method"] == "POST" && record["path"].as_str().unwrap().contains("/widgets");
        let (true, Some(mut object), Some(answer)) = (posted, body("request_body"), body("response_body"))
        else {
            continue;
        };
        let message = answer["message"].as_str().unwrap_or_default();
        match scenario.rsplit(':').next().unwrap() {
            "cr-invalid" => {
                let errors = widget.validate(&object);
                assert!(message.ends_with(&aggregate(&errors)), "{scenario}");
                let cause = &answer["details"]["causes"][0];
                assert_eq!(cause["message"], errors[0].message);
                assert_eq!(cause["reason"], errors[0].reason.as_str());
                assert_eq!(cause["field"], errors[0].path);
            }
            "cr-unknown-field" => {
                let removed = widget.prune(&mut object);
                assert!(message.ends_with(&format!("unknown field {}", quote(&removed[0]))), "{message}");
            }
            "create-bad-name" | "create-no-name" => {
                object["metadata"]["namespace"] = json!("default");
                let errors = meta::validate(&object, true, names::dns_subdomain);
                assert!(message.ends_with(&format!("is invalid: {}", aggregate(&errors))), "{message}");
            }
            _ => continue,
        }
        held += 1;
    }
    assert!(held >= 4, "only {held} recordings were held");
}
