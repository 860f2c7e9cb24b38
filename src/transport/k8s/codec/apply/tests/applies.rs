//! What becomes of an object that somebody applies, and of its managers.

use super::*;

#[test]
fn own_what_they_list() {
    let live = applied(&[("a", json!({"size": 1, "tags": ["p"], "part": {"a": "x"}, "box": {"c": 1}}))]);
    let listed = json!({"f:box": {}, "f:part": {"f:a": {}}, "f:size": {}, "f:tags": {}});
    assert_eq!(fields(&live, "a"), json!({"f:spec": listed}));
    let deduced = apply(None, &widget(json!({"m": {"l": [1]}})), writer("a"), false, Typing::of(None));
    let listed = json!({"f:spec": {"f:m": {".": {}, "f:l": {}}}});
    assert_eq!(fields(&deduced.unwrap(), "a")["f:spec"]["f:m"], listed["f:spec"]["f:m"]);
}

#[test]
fn conflict_with_whom_they_change_and_force_takes_it() {
    let schema = schema();
    let live = applied(&[("a", json!({"size": 1, "color": "red"}))]);
    let ApplyError::Conflicts(conflicts) = refused(&live, json!({"size": 5}), "b") else { panic!() };
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.size"
    );
    let wanted = widget(json!({"size": 5}));
    let forced = apply(Some(&live), &wanted, writer("b"), true, Typing::of(Some(&schema))).unwrap();
    assert_eq!(forced["spec"], json!({"size": 5, "color": "red"}));
    assert_eq!(fields(&forced, "a"), json!({"f:spec": {"f:color": {}}}));
}

#[test]
fn share_what_is_the_same_and_tell_no_time_of_what_changes_nothing() {
    let live = applied(&[("a", json!({"size": 1, "color": "red"})), ("b", json!({"size": 1}))]);
    assert_eq!(fields(&live, "a"), json!({"f:spec": {"f:color": {}, "f:size": {}}}));
    assert_eq!(fields(&live, "b"), json!({"f:spec": {"f:size": {}}}));
    assert_eq!(entry_of(&live, "a")["time"], NOW);
    assert_eq!(entry_of(&live, "b").get("time"), None);
}

#[test]
fn conflicts_are_told_by_manager_without_a_time() {
    let live = applied(&[("b", json!({"color": "red", "names": ["x"], "part": {"a": "x"}}))]);
    let live = updated(&live, writer("edit"), |object| object["spec"]["size"] = json!(1));
    let wanted = json!({"size": 5, "color": "blue", "part": {"a": "y"}});
    let ApplyError::Conflicts(conflicts) = refused(&live, wanted, "c") else { panic!() };
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 3 conflicts: conflicts with \"b\":\n- .spec.color\n- .spec.part.a\n\
         conflicts with \"edit\" using example.com/v1:\n- .spec.size"
    );
}

#[test]
fn take_away_what_is_no_longer_listed_and_nobody_else_has() {
    let live = applied(&[
        ("a", json!({"ports": [{"port": 80, "name": "w"}, {"port": 443}], "color": "red"})),
        ("b", json!({"color": "red"})),
        ("a", json!({"ports": [{"port": 443}]})),
    ]);
    assert_eq!(live["spec"], json!({"ports": [{"port": 443}], "color": "red"}));
}

#[test]
fn take_away_the_map_with_the_last_of_its_fields() {
    let live = applied(&[("a", json!({"size": 1, "part": {"a": "x"}})), ("a", json!({"size": 1}))]);
    assert_eq!(live["spec"], json!({"size": 1}));
    let schema = schema();
    let mut wanted = widget(json!({}));
    wanted.as_object_mut().unwrap().remove("spec");
    let nothing = apply(Some(&live), &wanted, writer("a"), false, Typing::of(Some(&schema))).unwrap();
    assert_eq!(nothing, wanted);
}

#[test]
fn take_away_with_a_map_what_nobody_has_in_it() {
    let live = applied(&[("a", json!({"size": 1, "part": {"a": "x"}}))]);
    // A default is nobody's.
    let mut live = updated(&live, writer("b"), |object| {
        object["spec"]["part"]["b"] = json!("y");
        object["spec"]["on"] = json!(true);
    });
    live["metadata"]["managedFields"][1]["fieldsV1"] = json!({"f:spec": {"f:on": {}}});
    let schema = schema();
    let left =
        apply(Some(&live), &widget(json!({"size": 1})), writer("a"), false, Typing::of(Some(&schema)));
    assert_eq!(left.unwrap()["spec"], json!({"size": 1, "on": true}));
}

#[test]
fn leave_no_null_for_a_map_that_another_had_as_empty() {
    let live = applied(&[
        ("b", json!({"size": 1, "part": {}})),
        ("a", json!({"part": {"a": "x"}})),
        ("a", json!({"size": 1})),
    ]);
    assert_eq!(live["spec"], json!({"size": 1}));
    assert_eq!(fields(&live, "b"), json!({"f:spec": {"f:part": {}, "f:size": {}}}));
}

#[test]
fn keep_what_updates_have_of_a_map_they_let_go() {
    let live = applied(&[("a", json!({"size": 1, "part": {"a": "x"}}))]);
    let live = updated(&live, writer("edit"), |object| object["spec"]["part"]["b"] = json!("y"));
    let schema = schema();
    let left =
        apply(Some(&live), &widget(json!({"size": 1})), writer("a"), false, Typing::of(Some(&schema)));
    assert_eq!(left.unwrap()["spec"], json!({"size": 1, "part": {"b": "y"}}));
}

#[test]
fn again_change_nothing() {
    let schema = schema();
    let wanted = widget(json!({"size": 1, "names": ["b", "a"], "part": {}}));
    let live = apply(None, &wanted, writer("a"), false, Typing::of(Some(&schema))).unwrap();
    assert_eq!(apply(Some(&live), &wanted, later("a"), false, Typing::of(Some(&schema))), Ok(live));
}

#[test]
fn in_another_version_are_those_of_the_same_manager() {
    let live = applied(&[("a", json!({"size": 1, "color": "red"}))]);
    let schema = schema();
    let newer = Writer { api_version: "example.com/v2", ..later("a") };
    let live = apply(Some(&live), &widget(json!({"size": 1})), newer, false, Typing::of(Some(&schema)));
    let live = live.unwrap();
    assert_eq!(managers(&live), ["a"]);
    assert_eq!(entry_of(&live, "a")["apiVersion"], "example.com/v2");
    assert_eq!(live["spec"], json!({"size": 1}));
}

#[test]
fn to_what_nobody_is_told_of_leave_all_of_it_to_who_was_before() {
    let schema = schema();
    let live = widget(json!({"size": 1, "color": "red"}));
    let ApplyError::Conflicts(conflicts) = refused(&live, json!({"size": 2}), "a") else { panic!() };
    assert_eq!(conflicts[0].manager, "\"before-first-apply\" using example.com/v1");
    let wanted = widget(json!({"size": 1}));
    let live = apply(Some(&live), &wanted, writer("a"), false, Typing::of(Some(&schema))).unwrap();
    assert_eq!(managers(&live), ["a", "before-first-apply"]);
    assert_eq!(
        fields(&live, "before-first-apply"),
        json!({"f:spec": {".": {}, "f:color": {}, "f:size": {}}})
    );
}

#[test]
fn of_the_status_own_the_status_alone() {
    let schema = schema();
    let mut wanted = widget(json!({"size": 1}));
    wanted["status"] = json!({"ready": "yes"});
    let typing = Typing::of(Some(&schema));
    let mut main = apply(None, &wanted, writer("a"), false, typing).unwrap();
    assert_eq!(fields(&main, "a"), json!({"f:spec": {"f:size": {}}}));
    main.as_object_mut().unwrap().remove("status");
    let status = Writer { subresource: Some("status"), ..writer("a") };
    let both = apply(Some(&main), &wanted, status, false, typing).unwrap();
    let entry = both["metadata"]["managedFields"][1].clone();
    assert_eq!(entry["subresource"], "status");
    assert_eq!(entry["fieldsV1"], json!({"f:status": {"f:ready": {}}}));
}

#[test]
fn that_are_not_of_the_type_are_refused_as_the_server_does() {
    let schema = schema();
    let wrong =
        |spec: Value| match apply(None, &widget(spec), writer("a"), false, Typing::of(Some(&schema))) {
            Err(ApplyError::Untyped(why)) => {
                let head = "failed to create typed patch object (default/a; example.com/v1, Kind=Widget): ";
                why.strip_prefix(head).unwrap_or(&why).to_owned()
            }
            other => panic!("{other:?}"),
        };
    assert_eq!(
        wrong(json!({"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]})),
        ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]"
    );
    assert_eq!(wrong(json!({"names": ["a", "a"]})), ".spec.names: duplicate entries for key [=\"a\"]");
    assert_eq!(
        wrong(json!({"ports": [{"name": "x"}]})),
        ".spec.ports: element 0: associative list with keys has an element that omits key field \
         \"port\" (and doesn't have default value)"
    );
    assert_eq!(
        wrong(json!({"size": "3", "color": 1})),
        "errors:\n  .spec.size: expected numeric (int or float), got string\n  \
         .spec.color: expected string, got &value.valueUnstructured{Value:1}"
    );
    assert_eq!(wrong(json!({"on": "x"})), ".spec.on: expected boolean, got &{x}");
}

#[test]
fn with_managers_in_them_are_refused() {
    let mut wanted = widget(json!({}));
    wanted["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        apply(None, &wanted, writer("a"), false, Typing::of(None)),
        Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()))
    );
}

#[test]
fn put_items_in_their_order_among_those_of_others() {
    let live = applied(&[("a", json!({"names": ["a", "x", "b", "y"]}))]);
    let schema = schema();
    let wanted = widget(json!({"names": ["b", "n", "a"]}));
    let live = apply(Some(&live), &wanted, writer("b"), false, Typing::of(Some(&schema))).unwrap();
    assert_eq!(live["spec"]["names"], json!(["x", "b", "y", "n", "a"]));
}

#[test]
fn that_have_a_map_as_null_leave_it() {
    let live = applied(&[("a", json!({"part": {"a": "x"}})), ("b", json!({"part": null}))]);
    assert_eq!(live["spec"], json!({"part": {"a": "x"}}));
}

#[test]
fn merge_the_metadata_of_every_object() {
    let meta = |labels: Value, finalizers: Value, owner: &str| {
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a",
            "labels": labels, "finalizers": finalizers, "ownerReferences": [{"uid": owner, "name": "n"}]}})
    };
    let live =
        apply(None, &meta(json!({"x": "1"}), json!(["f"]), "u"), writer("a"), false, Typing::of(None))
            .unwrap();
    let wanted = meta(json!({"y": "2"}), json!(["g"]), "v");
    let live = apply(Some(&live), &wanted, writer("b"), false, Typing::of(None)).unwrap();
    assert_eq!(live["metadata"]["labels"], json!({"x": "1", "y": "2"}));
    assert_eq!(live["metadata"]["finalizers"], json!(["f", "g"]));
    assert_eq!(
        fields(&live, "b"),
        json!({"f:metadata": {
            "f:finalizers": {"v:\"g\"": {}}, "f:labels": {"f:y": {}},
            "f:ownerReferences": {"k:{\"uid\":\"v\"}": {}}}})
    );
}

#[test]
fn merge_the_metadata_of_embedded_objects() {
    let template = |label: &str| json!({"template": {"metadata": {"finalizers": [label]}}});
    let live = applied(&[("a", template("f")), ("b", template("g"))]);
    assert_eq!(live["spec"], json!({"template": {"metadata": {"finalizers": ["f", "g"]}}}));
}

#[test]
fn of_kubectl_take_over_what_its_own_apply_set() {
    let last = json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"size": 1}}).to_string();
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = widget(json!({"size": 1, "color": "red"}));
    object["metadata"]["annotations"] = json!({annotation: last});
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let live = update(None, object, writer("kubectl-client-side-apply"), typing);
    let wanted = widget(json!({"size": 2}));
    let refused = apply(Some(&live), &wanted, writer("other"), false, typing);
    assert!(matches!(refused, Err(ApplyError::Conflicts(_))), "{refused:?}");
    let live = apply(Some(&live), &wanted, writer("kubectl"), false, typing).unwrap();
    assert_eq!(live["spec"], json!({"size": 2, "color": "red"}));
    assert_eq!(
        live["metadata"]["annotations"][annotation],
        "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\",\
         \"namespace\":\"default\"},\"spec\":{\"size\":2}}\n"
    );
    // What it did not set is another's still.
    let refused = apply(Some(&live), &widget(json!({"color": "blue"})), writer("kubectl"), false, typing);
    assert!(matches!(refused, Err(ApplyError::Conflicts(_))), "{refused:?}");
}
