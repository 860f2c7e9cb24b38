//! Sets of fields as they are read, written and shown.

use super::*;

fn set(fields: Value) -> FieldSet {
    FieldSet::decode(&fields)
}

#[test]
fn are_written_in_order_numbers_by_size() {
    let fields = json!({"v:10": {}, "v:9": {}, "f:b": {}, "f:a": {"f:x": {}, ".": {}},
        "k:{\"protocol\":\"TCP\",\"port\":443}": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {}, "i:1": {}});
    assert_eq!(
        set(fields).encode().to_string(),
        "{\"f:a\":{\".\":{},\"f:x\":{}},\"f:b\":{},\"k:{\\\"port\\\":80,\\\"protocol\\\":\\\"TCP\\\"}\":{},\
         \"k:{\\\"port\\\":443,\\\"protocol\\\":\\\"TCP\\\"}\":{},\"v:9\":{},\"v:10\":{},\"i:1\":{}}"
    );
}

#[test]
fn are_shown_as_messages_have_them() {
    let fields = json!({"f:metadata": {"f:annotations": {"f:example.com/x": {}}},
        "f:spec": {"f:c": {"k:{\"name\":\"c\",\"port\":1}": {"f:image": {}}}, "f:s": {"v:\"x\"": {}},
        "f:l": {"i:0": {}}, ".": {}}});
    let shown: Vec<String> = set(fields).paths().iter().map(|path| shown(path)).collect();
    assert_eq!(
        shown,
        [
            ".spec",
            ".metadata.annotations.example.com/x",
            ".spec.c[name=\"c\",port=1].image",
            ".spec.l[0]",
            ".spec.s[=\"x\"]"
        ]
    );
}

#[test]
fn are_told_apart_with_or_without_what_is_below() {
    let (left, right) =
        (set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}})), set(json!({"f:a": {}, "f:d": {}})));
    assert_eq!(left.difference(&right).encode(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
    assert_eq!(left.recursive_difference(&right).encode(), json!({"f:c": {}}));
    assert_eq!(left.intersection(&right).encode(), json!({"f:a": {}}));
    assert_eq!(left.union(&right).encode(), json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}}));
}

#[test]
fn that_had_parts_of_what_is_one_field_now_have_all_of_it() {
    let live = applied(&[("a", json!({"part": {"a": "x"}, "names": ["n"]}))]);
    let mut schema = schema();
    schema["properties"]["spec"]["properties"]["part"]["x-kubernetes-map-type"] = json!("atomic");
    schema["properties"]["spec"]["properties"]["names"]["x-kubernetes-list-type"] = json!("atomic");
    let mut object = live.clone();
    object["spec"]["size"] = json!(1);
    let live = update(Some(&live), object, writer("b"), Typing::of(Some(&schema)));
    assert_eq!(fields(&live, "a"), json!({"f:spec": {"f:names": {}, "f:part": {}}}));
}

#[test]
fn deeper_than_the_bound_are_cut() {
    let deep = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"f:a": inner}));
    assert_eq!(set(deep(DEPTH_MAX)).encode(), deep(DEPTH_MAX));
    assert_eq!(set(deep(4 * DEPTH_MAX)).encode(), deep(DEPTH_MAX));
    let nested = (0..2 * DEPTH_MAX).fold(json!(1), |inner, _| json!({"a": inner}));
    let refused = apply(None, &widget(nested.clone()), writer("a"), false, Typing::of(None));
    assert!(matches!(refused, Err(ApplyError::Untyped(why)) if why.contains("100 levels")));
    let updated = update(None, widget(nested), writer("a"), Typing::of(None));
    assert_eq!(managers(&updated), ["a"]);
}
