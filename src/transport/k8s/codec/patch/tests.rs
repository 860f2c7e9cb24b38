//! The rules of patches; the examples of the RFCs; and what must hold for any patch.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A kind with a list of each kind of strategy.
fn schema() -> Value {
    let port = json!({"properties": {"port": {"type": "integer"}, "protocol": {"type": "string"}}});
    json!({
        "type": "object",
        "properties": {
            "metadata": {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}], "default": {}},
            "spec": {"type": "object", "properties": {
                "containers": {
                    "type": "array",
                    "x-kubernetes-patch-strategy": "merge",
                    "x-kubernetes-patch-merge-key": "name",
                    "items": {"allOf": [{"$ref": "#/components/schemas/Container"}], "default": {}}
                },
                "volumes": {
                    "type": "array",
                    "x-kubernetes-patch-strategy": "merge,retainKeys",
                    "x-kubernetes-patch-merge-key": "name",
                    "items": {"type": "object"}
                },
                "strategy": {"type": "object", "x-kubernetes-patch-strategy": "retainKeys"},
                "whole": {"type": "object", "x-kubernetes-patch-strategy": "replace"},
                "args": {"type": "array", "items": {"type": "string"}},
                "set": {"type": "array", "x-kubernetes-patch-strategy": "merge", "items": {"type": "string"}}
            }}
        },
        "components": {"schemas": {
            "ObjectMeta": {"type": "object", "properties": {"labels": {"type": "object"}}},
            "Container": {"type": "object", "properties": {"ports": {
                "type": "array",
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": "port",
                "items": port
            }}},
            "Loop": {"$ref": "#/components/schemas/Loop"}
        }}
    })
}

#[track_caller]
fn merges(doc: Value, patch: Value, expected: Value) {
    assert_eq!(strategic_merge(&doc, &patch, Some(&schema())), Ok(expected), "{doc} with {patch}");
}

#[track_caller]
fn refuses(doc: Value, patch: Value, code: u16, message: &str) {
    let error = strategic_merge(&doc, &patch, Some(&schema())).unwrap_err();
    assert!(error.code() == code && error.to_string().contains(message), "{patch}: {error:?}");
}

fn patched(doc: &Value, patch: Value) -> Result<Value, PatchError> {
    json_patch(doc, patch.to_string().as_bytes())
}

#[test]
fn merge_patch_does_what_the_rfc_lists() {
    for (doc, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(merge_patch(&doc, &patch), expected, "{doc} with {patch}");
    }
}

#[test]
fn json_patch_does_its_operations_in_order() {
    let doc = json!({"a": {"b": [1, 2]}, "x~y/z": 1});
    for (patch, expected) in [
        (json!([]), doc.clone()),
        (
            json!([{"op": "add", "path": "/a/c", "value": 3}]),
            json!({"a": {"b": [1, 2], "c": 3}, "x~y/z": 1}),
        ),
        (json!([{"op": "add", "path": "/a/b/1", "value": 3}]), json!({"a": {"b": [1, 3, 2]}, "x~y/z": 1})),
        (json!([{"op": "add", "path": "/a/b/-", "value": 3}]), json!({"a": {"b": [1, 2, 3]}, "x~y/z": 1})),
        (json!([{"op": "add", "path": "/a/b/-1", "value": 3}]), json!({"a": {"b": [1, 2, 3]}, "x~y/z": 1})),
        (json!([{"op": "remove", "path": "/x~0y~1z"}]), json!({"a": {"b": [1, 2]}})),
        (json!([{"op": "remove", "path": "/a/b/0"}]), json!({"a": {"b": [2]}, "x~y/z": 1})),
        (
            json!([{"op": "replace", "path": "/a/b/-1", "value": 9}]),
            json!({"a": {"b": [1, 9]}, "x~y/z": 1}),
        ),
        (
            json!([{"op": "replace", "path": "/new", "value": 9}]),
            json!({"a": {"b": [1, 2]}, "x~y/z": 1, "new": 9}),
        ),
        (json!([{"op": "replace", "path": "", "value": {"b": 1}}]), json!({"b": 1})),
        (json!([{"op": "move", "from": "/a/b", "path": "/b"}]), json!({"a": {}, "x~y/z": 1, "b": [1, 2]})),
        (
            json!([{"op": "copy", "from": "/a/b/0", "path": "/b"}]),
            json!({"a": {"b": [1, 2]}, "x~y/z": 1, "b": 1}),
        ),
        (json!([{"op": "add", "path": "/n"}]), json!({"a": {"b": [1, 2]}, "x~y/z": 1, "n": null})),
        (
            json!([{"op": "test", "path": "/a/b", "value": [1, 2]}, {"op": "test", "path": "/nope", "value": null},
                   {"op": "test", "path": "", "value": doc}]),
            doc.clone(),
        ),
    ] {
        assert_eq!(patched(&doc, patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn a_failing_operation_is_a_422_that_does_not_say_why() {
    let doc = json!({"a": [1], "s": 1});
    for (patch, why) in [
        (json!([{"op": "test", "path": "/s", "value": 0}]), "operation 0: testing value /s failed"),
        (json!([{"op": "test", "path": "/s", "value": 1.0}]), "testing value"),
        (json!([{"op": "remove", "path": "/nope"}]), "the document has no `/nope`"),
        (json!([{"op": "add", "path": "/nope/x", "value": 1}]), "the document has no `/nope/x`"),
        (json!([{"op": "add", "path": "/s/x", "value": 1}]), "the document has no `/s/x`"),
        (json!([{"op": "add", "path": "", "value": 1}]), "the document has no ``"),
        (json!([{"op": "replace", "path": "", "value": 1}]), "an object or an array"),
        (json!([{"op": "add", "path": "/a/3", "value": 1}]), "index 3 is beyond the array"),
        (json!([{"op": "add", "path": "/a/-3", "value": 1}]), "index -3 is beyond the array"),
        (json!([{"op": "remove", "path": "/a/1"}]), "index 1 is beyond the array"),
        (json!([{"op": "remove", "path": "/a/x"}]), "`x` is no index"),
        (json!([{"op": "move", "path": "/b"}]), "`from` is missing"),
        (json!([{"op": "add", "value": 1}]), "`path` is missing"),
        (
            json!([{"op": "test", "path": "/s", "value": 1}, {"op": "set", "path": "/s"}]),
            "operation 1: `set` is no operation",
        ),
    ] {
        let error = patched(&doc, patch.clone()).unwrap_err();
        assert_eq!((error.code(), error.reason()), (422, "Invalid"), "{patch}");
        assert_eq!(error.to_string(), "the server rejected our request due to an error in our request");
        assert!(error.why().contains(why), "{patch}: {}", error.why());
    }
}

#[test]
fn a_json_patch_that_cannot_be_read_is_a_400() {
    for (patch, message) in [
        ("[", "error decoding patch: unexpected end of JSON input"),
        (
            "{}",
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        ("[1]", "error decoding patch: "),
        (r#"[{"op": 1}]"#, "error decoding patch: "),
        ("[]x", "error decoding patch: "),
    ] {
        let error = json_patch(&json!({}), patch.as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.reason()), (400, "BadRequest"), "{patch}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn a_json_patch_is_bounded_in_bytes_operations_copies_and_depth() {
    let doc = json!({"a": {}});
    let error = json_patch(&doc, &vec![b' '; PATCH_MAX + 1]).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (413, "Request entity too large: limit is 3145728")
    );
    let test = json!({"op": "test", "path": "/a", "value": {}});
    assert_eq!(patched(&doc, vec![test.clone(); OPERATIONS_MAX].into()), Ok(doc.clone()));
    let error = patched(&doc, vec![test; OPERATIONS_MAX + 1].into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    // The whole is copied into itself: it would double with each operation.
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let error = patched(&json!({"a": ["x"]}), vec![double; 100].into()).unwrap_err();
    assert!(
        error.why().contains("nests more than") || error.why().contains("the copies have more"),
        "{error:?}"
    );
    let wide = json!({"a": "x".repeat(100_000)});
    let copies: Vec<_> =
        (0..100).map(|at| json!({"op": "copy", "from": "/a", "path": format!("/{at}")})).collect();
    assert!(patched(&wide, copies.into()).unwrap_err().why().contains("the copies have more"));
    let nest = |levels: usize| json!([{"op": "add", "path": "/a".repeat(levels), "value": {}}]);
    let mut deep = doc;
    for levels in 2..DEPTH_MAX {
        deep = patched(&deep, nest(levels)).unwrap();
    }
    assert!(patched(&deep, nest(DEPTH_MAX)).unwrap_err().why().contains("nests more than"));
}

#[test]
fn maps_merge_and_lists_without_strategy_are_replaced() {
    merges(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"args": ["x", "y"], "n": 1}}),
        json!({"metadata": {"labels": {"b": null, "c": "3"}}, "spec": {"args": ["z"], "n": 2, "gone": null}}),
        json!({"metadata": {"labels": {"a": "1", "c": "3"}}, "spec": {"args": ["z"], "n": 2}}),
    );
}

#[test]
fn a_merging_list_finds_its_elements_by_the_merge_key() {
    merges(
        json!({"spec": {"containers": [
            {"name": "a", "image": "1", "ports": [{"port": 80, "protocol": "TCP"}]}, {"name": "b"}
        ]}}),
        json!({"spec": {"containers": [
            {"name": "c"}, {"name": "a", "image": "2", "ports": [{"port": 80, "protocol": null}, {"port": 81}]}
        ]}}),
        json!({"spec": {"containers": [
            {"name": "c"}, {"name": "a", "image": "2", "ports": [{"port": 80}, {"port": 81}]}, {"name": "b"}
        ]}}),
    );
}

#[test]
fn a_directive_deletes_or_replaces_elements() {
    let doc = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
    merges(
        doc.clone(),
        json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "d", "$patch": "merge"}]}}),
        json!({"spec": {"containers": [{"name": "d"}, {"name": "a"}, {"name": "c"}]}}),
    );
    merges(
        doc.clone(),
        json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z", "image": null}]}}),
        json!({"spec": {"containers": [{"name": "z"}]}}),
    );
    merges(
        doc.clone(),
        json!({"spec": {"containers": [{"$patch": "replace"}]}}),
        json!({"spec": {"containers": []}}),
    );
    merges(doc.clone(), json!({"spec": {"$patch": "replace", "n": 1}}), json!({"spec": {"n": 1}}));
    merges(doc.clone(), json!({"spec": {"$patch": "delete", "n": 1}}), json!({"spec": {}}));
    refuses(doc.clone(), json!({"spec": {"$patch": "drop"}}), 500, "unknown patch type");
    refuses(doc.clone(), json!({"spec": {"containers": [{"$patch": 1}]}}), 500, "unknown patch type");
    refuses(
        doc,
        json!({"spec": {"containers": [{"image": "x"}]}}),
        500,
        "does not contain declared merge key: name",
    );
}

#[test]
fn a_set_merges_without_repetition_and_loses_what_is_deleted() {
    merges(
        json!({"spec": {"set": ["a", "b"]}}),
        json!({"spec": {"set": ["c", "a"]}}),
        json!({"spec": {"set": ["c", "a", "b"]}}),
    );
    merges(
        json!({"spec": {"set": ["a", "b", "c"]}}),
        json!({"spec": {"$deleteFromPrimitiveList/set": ["b", "x"]}}),
        json!({"spec": {"set": ["a", "c"]}}),
    );
    merges(
        json!({"spec": {}}),
        json!({"spec": {"$deleteFromPrimitiveList/set": ["b"]}}),
        json!({"spec": {}}),
    );
    for wrong in [json!({"$deleteFromPrimitiveList": []}), json!({"$deleteFromPrimitiveList/set": "b"})] {
        refuses(json!({}), wrong, 400, "invalid patch format of primitive list");
    }
}

#[test]
fn the_order_of_elements_is_the_directives_then_the_lists_own() {
    merges(
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}}),
        json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "d"}, {"name": "a"}],
            "containers": [{"name": "d"}]
        }}),
        json!({"spec": {"containers": [{"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "a"}]}}),
    );
    merges(
        json!({"spec": {"set": ["a", "b", "c"]}}),
        json!({"spec": {"$setElementOrder/set": ["c", "a"], "$deleteFromPrimitiveList/set": ["b"]}}),
        json!({"spec": {"set": ["c", "a"]}}),
    );
    merges(
        json!({"spec": {}}),
        json!({"spec": {"$setElementOrder/set": ["b", "a"], "set": ["b"]}}),
        json!({"spec": {"set": ["b"]}}),
    );
    merges(json!({"spec": {}}), json!({"spec": {"$setElementOrder/set": ["a"]}}), json!({"spec": {}}));
    let wrong = json!({"spec": {"$setElementOrder/set": ["a", "b"], "set": ["b", "a"]}});
    refuses(json!({"spec": {}}), wrong, 500, "doesn't match $setElementOrder list");
}

#[test]
fn retained_keys_are_all_that_a_map_keeps() {
    merges(
        json!({"spec": {"strategy": {"type": "Rolling", "rolling": {"max": 1}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
    merges(
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        json!({"spec": {"volumes": [{"$retainKeys": ["name", "secret"], "name": "v", "secret": {"s": 1}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "secret": {"s": 1}}]}}),
    );
    for wrong in [json!({"$retainKeys": ["a"], "b": 1}), json!({"$retainKeys": "a"})] {
        refuses(json!({"a": 1}), wrong, 400, "invalid patch format of retainKeys");
    }
}

#[test]
fn metadata_merges_owners_and_finalizers_without_a_schema() {
    let doc = json!({"metadata": {"finalizers": ["a"], "ownerReferences": [{"uid": "1", "name": "x"}]}});
    let patch = json!({"metadata": {"finalizers": ["b"],
                                    "ownerReferences": [{"uid": "2"}, {"uid": "1", "name": "y"}]}});
    let merged = strategic_merge(&doc, &patch, None).unwrap();
    let expected = json!({"metadata": {"finalizers": ["b", "a"],
                                       "ownerReferences": [{"uid": "2"}, {"uid": "1", "name": "y"}]}});
    assert_eq!(merged, expected);
    let elsewhere = json!({"spec": {"metadata": {"finalizers": ["a"]}}});
    let patch = json!({"spec": {"metadata": {"finalizers": ["b"]}}});
    assert_eq!(strategic_merge(&elsewhere, &patch, None).unwrap(), patch);
}

#[test]
fn what_was_not_there_is_taken_without_directives_and_nulls() {
    merges(
        json!({}),
        json!({"spec": {"containers": [{"name": "a", "x": null}, {"name": "b", "$patch": "delete"}],
                        "map": {"$patch": "delete", "n": 1}, "$deleteFromPrimitiveList/set": ["a"]}}),
        json!({"spec": {"containers": [{"name": "a"}], "map": {}}}),
    );
    merges(
        json!({"spec": {"whole": {"a": 1}}}),
        json!({"spec": {"whole": {"b": 2}}}),
        json!({"spec": {"whole": {"b": 2}}}),
    );
}

#[test]
fn a_strategic_patch_of_a_wrong_shape_is_refused() {
    let set = json!({"spec": {"set": ["a"], "containers": [{"name": "a"}]}});
    refuses(
        set.clone(),
        json!([]),
        400,
        "cannot unmarshal array into Go value of type map[string]interface {}",
    );
    refuses(set.clone(), json!({"spec": {"set": [["a"]]}}), 422, "the server rejected our request");
    refuses(set.clone(), json!({"spec": {"set": [{"a": 1}]}}), 500, "list element types are not identical");
    refuses(set.clone(), json!({"spec": {"$setElementOrder/set": 1}}), 500, "expected a []interface {}");
    refuses(set.clone(), json!({"spec": {"$setElementOrder": []}}), 400, "setElementOrder");
    let deep = (0..DEPTH_MAX).fold(json!({}), |inner, _| json!({"a": inner}));
    refuses(set, deep, 400, "nests more than");
    let endless = json!({"$ref": "#/components/schemas/Loop", "components": schema()["components"]});
    assert!(strategic_merge(&json!({"a": {}}), &json!({"a": {"b": 1}}), Some(&endless)).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        prop_oneof![
            "[a-c]",
            Just("delete".to_owned()),
            Just("replace".to_owned()),
            Just("merge".to_owned())
        ]
        .prop_map(Value::from),
    ];
    let name = prop_oneof![
        4 => prop_oneof![Just("metadata"), Just("spec"), Just("containers"), Just("set"), Just("name"), Just("ports")],
        1 => prop_oneof![
            Just("$patch"), Just("$retainKeys"), Just("$setElementOrder/set"), Just("$setElementOrder/containers"),
            Just("$deleteFromPrimitiveList/set"), Just("$setElementOrder"), Just("finalizers")
        ]
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone().prop_map(str::to_owned), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_strategic_merge_never_panics(doc in any_json(), patch in any_json(), schema in proptest::option::of(Just(schema()))) {
        if let Ok(merged) = strategic_merge(&doc, &patch, schema.as_ref()) {
            prop_assert!(merged.is_object());
        }
    }

    #[test]
    fn a_merge_patch_applied_twice_is_applied_once(doc in any_json(), patch in any_json()) {
        let once = merge_patch(&doc, &patch);
        prop_assert_eq!(&merge_patch(&once, &patch), &once);
    }

    #[test]
    fn an_empty_patch_changes_no_object(doc in any_json()) {
        if doc.is_object() {
            prop_assert_eq!(&merge_patch(&doc, &json!({})), &doc);
            prop_assert_eq!(&strategic_merge(&doc, &json!({}), None).unwrap(), &doc);
            prop_assert_eq!(&json_patch(&doc, b"[]").unwrap(), &doc);
        }
    }

    #[test]
    fn a_merge_patch_that_is_no_object_is_the_result(doc in any_json(), patch in any_json()) {
        if !patch.is_object() {
            prop_assert_eq!(merge_patch(&doc, &patch), patch);
        }
    }

    #[test]
    fn a_json_patch_never_panics(
        doc in any_json(),
        operations in proptest::collection::vec(
            ("add|remove|replace|move|copy|test", "(/(spec|set|0|-1|-|name)){0,3}", "(/(spec|set|1|name)){0,3}", any_json()),
            0..6,
        ),
    ) {
        let operations: Value = operations
            .into_iter()
            .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
            .collect();
        match patched(&doc, operations.clone()) {
            Ok(once) => prop_assert!(operations != json!([]) || once == doc),
            Err(error) => prop_assert_eq!(error.code(), 422),
        }
    }
}
