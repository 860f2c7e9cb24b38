//! What becomes of the managers by writes other than applies.

use super::*;

#[test]
fn own_what_they_change_and_take_it_from_others() {
    let schema = schema();
    let created = update(None, widget(json!({"size": 1})), writer("b"), Typing::of(Some(&schema)));
    assert_eq!(fields(&created, "b"), json!({"f:spec": {".": {}, "f:size": {}}}));
    let live = applied(&[("a", json!({"size": 1, "color": "red", "on": true}))]);
    let live = updated(&live, later("b"), |object| object["spec"] = json!({"size": 2, "on": true}));
    assert_eq!(fields(&live, "a"), json!({"f:spec": {"f:on": {}}}));
    assert_eq!(fields(&live, "b"), json!({"f:spec": {"f:size": {}}}));
    assert_eq!(entry_of(&live, "b")["time"], LATER);
}

#[test]
fn that_only_remove_keep_their_time() {
    let schema = schema();
    let spec = json!({"size": 1, "color": "red"});
    let live = update(None, widget(spec), writer("b"), Typing::of(Some(&schema)));
    let live = updated(&live, later("b"), |object| {
        object["spec"] = json!({"size": 1});
        object["metadata"]["generation"] = json!(2);
    });
    assert_eq!(entry_of(&live, "b")["time"], NOW);
    assert_eq!(fields(&live, "b"), json!({"f:spec": {".": {}, "f:size": {}}}));
}

#[test]
fn that_change_nothing_leave_everything() {
    let live = applied(&[("a", json!({"size": 1}))]);
    assert_eq!(updated(&live, later("b"), |_| ()), live);
}

#[test]
fn that_put_one_value_in_the_place_of_a_map_take_what_was_in_it() {
    let live = applied(&[("a", json!({"free": {"m": {"x": 1}, "n": 1}}))]);
    let live = updated(&live, writer("b"), |object| object["spec"]["free"]["m"] = json!(5));
    assert_eq!(fields(&live, "a"), json!({"f:spec": {"f:free": {"f:n": {}}}}));
    assert_eq!(fields(&live, "b"), json!({"f:spec": {"f:free": {"f:m": {}}}}));
}

#[test]
fn may_end_that_fields_are_managed() {
    let live = applied(&[("a", json!({"size": 1}))]);
    for nothing in [json!([]), json!([{}])] {
        let reset =
            updated(&live, writer("b"), |object| object["metadata"]["managedFields"] = nothing.clone());
        assert_eq!(reset, widget(json!({"size": 1})));
        // And so it stays until somebody applies.
        let next = updated(&reset, writer("b"), |object| object["spec"]["size"] = json!(2));
        assert_eq!(managers(&next), Vec::<String>::new());
    }
}

#[test]
fn may_tell_the_managers_and_what_cannot_be_read_is_passed_over() {
    let live = applied(&[("a", json!({"size": 1, "color": "red"}))]);
    let renamed = updated(&live, writer("b"), |object| {
        object["metadata"]["managedFields"][0]["manager"] = json!("c");
        object["spec"]["size"] = json!(2);
    });
    assert_eq!(managers(&renamed), ["c", "b"]);
    assert_eq!(fields(&renamed, "c"), json!({"f:spec": {"f:color": {}}}));
    for nonsense in [json!([{}, {}]), json!([{"manager": "c"}]), json!("x"), json!(null)] {
        let kept =
            updated(&live, writer("b"), |object| object["metadata"]["managedFields"] = nonsense.clone());
        assert_eq!(kept, live, "{nonsense}");
    }
}

#[test]
fn of_a_subresource_do_not_tell_the_managers() {
    let live = applied(&[("a", json!({"size": 1}))]);
    let status = Writer { subresource: Some("status"), ..writer("b") };
    let told = updated(&live, status, |object| {
        object["metadata"]["managedFields"] = json!([]);
        object["status"] = json!({"ready": "yes"});
    });
    assert_eq!(managers(&told), ["a", "b"]);
    assert_eq!(fields(&told, "b"), json!({"f:status": {".": {}, "f:ready": {}}}));
}

#[test]
fn of_the_main_resource_leave_the_status_to_who_has_it() {
    let live = applied(&[("a", json!({"size": 1}))]);
    let status = Writer { subresource: Some("status"), ..writer("b") };
    let live = updated(&live, status, |object| object["status"] = json!({"ready": "yes"}));
    let live = updated(&live, writer("c"), |object| object["status"] = json!(null));
    assert_eq!(managers(&live), ["a", "b"]);
    assert_eq!(fields(&live, "b"), json!({"f:status": {".": {}, "f:ready": {}}}));
}

#[test]
fn of_the_oldest_are_put_together_by_version() {
    let mut live = update(None, widget(json!({"free": {}})), writer("first"), Typing::of(None));
    for n in 0..30 {
        let (manager, now) = (format!("m{n}"), format!("2026-11-22T07:00:{n:02}Z"));
        let api_version = if n % 2 == 0 { "example.com/v1" } else { "example.com/v2" };
        let writer = Writer { manager: &manager, now: &now, api_version, ..writer("") };
        live = updated(&live, writer, |object| object["spec"]["free"][format!("f{n}")] = json!(n));
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), UPDATERS_MAX);
    let ancient = entries.iter().filter(|entry| entry["manager"] == ANCIENT);
    let mut ancient: Vec<&str> = ancient.map(|entry| entry["apiVersion"].as_str().unwrap()).collect();
    ancient.sort_unstable();
    assert_eq!(ancient, ["example.com/v1", "example.com/v2"]);
    // Nothing is lost: every field has one who put it there.
    let all = Entries::of(&live).unwrap().all_fields();
    let shown: Vec<String> = all.paths().iter().map(|path| shown(path)).collect();
    for n in 0..30 {
        assert!(shown.contains(&format!(".spec.free.f{n}")), "f{n}");
    }
}

#[test]
fn of_items_that_are_not_told_apart_are_of_all_of_them() {
    let schema = schema();
    let typing = Typing::of(Some(&schema));
    let live = update(None, widget(json!({"names": ["a", "a"]})), writer("x"), typing);
    assert_eq!(fields(&live, "x")["f:spec"]["f:names"], json!({".": {}, "v:\"a\"": {}}));
    let live = updated(&live, writer("y"), |object| object["spec"]["names"] = json!(["a"]));
    assert_eq!(fields(&live, "x")["f:spec"]["f:names"], json!({}));
}
