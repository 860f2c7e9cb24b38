//! What a watch brings, and of what it may not be stopped.

use std::time::Duration;

use meshbus::core::Value;
use serde_json::json;

use super::{Process, files, wait};
use crate::hostile::{self, Fault, Hostile, Kind, Options, event_name};

const WIDGETS: &str = "watch: [{type: example.com/v1/Widget}]\ncursor: {store: none}";
const EVENTS: &str = "watch: [{type: v1/Event}]\ncursor: {store: none}";

#[tokio::test]
async fn what_there_is_and_what_changes_comes_onto_the_bus() {
    let hostile = Hostile::start(1, Options::default()).await;
    hostile.create("Widget", "default", "a", json!({"spec": {"size": 1}}));
    let files = files(&hostile);
    let process = Process::start(&files, WIDGETS);
    wait("the first", || process.told().len() == 1).await;
    hostile.patch("Widget", "default", "a", &json!({"spec": {"size": 2}}));
    hostile.create("Widget", "kube-system", "b", json!({}));
    hostile.delete("Widget", "default", "a");
    process.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    wait("the rest", || process.told().len() == 4).await;
    let history: Vec<String> = hostile
        .history("Widget")
        .iter()
        .map(|change| {
            let mark = if format!("{:?}", change.change) == "Deleted" { "-" } else { "" };
            format!("{mark}{}@{}", change.key, change.rv)
        })
        .collect();
    assert_eq!(process.told(), history);
    let told = process.told.lock().clone();
    let envelope = &told[0].envelope;
    assert_eq!(envelope.topic.as_str(), "k8s/east/example.com/v1/Widget/default/a");
    for (name, value) in
        [("kind", "Widget"), ("apiversion", "example.com/v1"), ("namespace", "default"), ("name", "a")]
    {
        assert_eq!(envelope.extensions.get(name), Some(&Value::from(value.to_owned())), "{name}");
    }
    assert!(!envelope.data.windows(13).any(|bytes| bytes == b"managedFields"));
    let last = told.last().unwrap();
    assert_eq!(&*last.envelope.kind, "dev.meshbus.resource.deleted.v1");
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&last.envelope.data).unwrap()["spec"]["size"],
        2
    );
    process.stop().await;
}

#[tokio::test]
async fn lists_are_streamed_where_the_server_has_that_and_pages_otherwise() {
    // Served, refused, and served without the bookmark that ends the list.
    for (watch_list, list_bookmark) in [(true, true), (false, true), (true, false)] {
        let options = Options { watch_list, list_bookmark, ..Options::default() };
        let hostile = Hostile::start(1, options).await;
        for number in 0..20 {
            hostile.create("Widget", "default", &format!("w{number}"), json!({"spec": {"size": number}}));
            hostile.emit("default", number);
        }
        let files = files(&hostile);
        let settings = "watch: [{type: example.com/v1/Widget}, {type: v1/Event}]\ncursor: {store: none}\n\
                        timeout: 1s\npage_size: 3";
        let process = Process::start(&files, settings);
        process.converged(&hostile, "Widget", "example.com/v1/Widget").await;
        process.converged(&hostile, "Event", "core/v1/Event").await;
        wait("each once", || process.told().len() == 40).await;
        let told = process.told.lock().clone();
        let events = told.iter().filter(|told| told.name.contains("/ev-"));
        let versions: Vec<u64> = events.map(|told| told.version.parse().unwrap()).collect();
        assert!(versions.is_sorted(), "Events come in the order in which they happened: {versions:?}");
        // Another list, when the position is gone: what went meanwhile is told.
        wait("both watches", || hostile.watchers() == 2).await;
        hostile.stop().await;
        hostile.delete("Widget", "default", "w3");
        hostile.lose_history();
        hostile.go_on().await;
        wait("the deletion", || process.told().len() == 41).await;
        assert!(process.told()[40].starts_with("-default/w3@"));
        let asked = |name: &str| {
            let list = |request: &&hostile::Request| {
                request.path.ends_with("/widgets") && request.query.contains_key(name)
            };
            hostile.requests().iter().filter(list).count()
        };
        let (streams, pages) = (asked("sendInitialEvents"), asked("limit"));
        match (watch_list, list_bookmark) {
            (true, true) => assert!(streams >= 2 && pages == 0, "{streams} streams, {pages} pages"),
            // Asked once, and not again.
            _ => assert!(streams == 1 && pages >= 14, "{streams} streams, {pages} pages"),
        }
        process.stop().await;
    }
}

#[tokio::test]
async fn all_kinds_of_the_cluster_are_told_to_those_who_show_them() {
    for aggregated_discovery in [true, false] {
        let hostile = Hostile::start(1, Options { aggregated_discovery, ..Options::default() }).await;
        let files = files(&hostile);
        let process = Process::start(&files, WIDGETS);
        wait("the kinds", || !process.kinds.of("east").is_empty()).await;
        let kinds = process.kinds.of("east");
        let of = |kind: &str| kinds.iter().find(|definition| definition.kind == kind).unwrap().clone();
        assert_eq!((of("Widget").plural.as_str(), of("Widget").namespaced), ("widgets", true));
        assert!(of("Widget").status && !of("Namespace").namespaced);
        assert_eq!(of("Deployment").type_url, "apps/v1/Deployment");
        process.stop().await;
    }
}

#[tokio::test]
async fn a_kind_that_is_missing_or_refused_takes_no_other_with_it() {
    let hostile = Hostile::start(1, Options::default()).await;
    hostile.create("ConfigMap", "default", "m", json!({"data": {"a": "b"}}));
    let files = files(&hostile);
    let settings = "watch: [{type: example.com/v1/Gadget}, {type: v1/ConfigMap},\n\
                    \x20 {type: v1/Pod, field_selector: \"spec.nonsense=a\"}]\ncursor: {store: none}";
    let process = Process::start(&files, settings);
    process.converged(&hostile, "ConfigMap", "core/v1/ConfigMap").await;
    wait("both troubles told", || {
        let reason = process.not_ready().unwrap_or_default();
        reason.contains("example.com/v1/Gadget: the cluster has no such kind")
            && reason.contains("core/v1/Pod: 400 BadRequest")
    })
    .await;
    process.stop().await;
}

#[tokio::test]
async fn b10_many_namespaces_are_one_watch_and_selectors_are_the_servers() {
    let namespaces = vec!["one".to_owned(), "two".to_owned(), "three".to_owned()];
    let hostile = Hostile::start(1, Options { namespaces, ..Options::default() }).await;
    let files = files(&hostile);
    let settings = "watch: [{type: v1/ConfigMap, namespaces: [one, two], label_selector: \"app in (a,b)\"}]\n\
                    cursor: {store: none}";
    let process = Process::start(&files, settings);
    wait("one watch", || hostile.watchers() == 1).await;
    for (namespace, label) in [("one", "a"), ("one", "c"), ("two", "b"), ("three", "a")] {
        let name = format!("{namespace}-{label}");
        hostile.create("ConfigMap", namespace, &name, json!({"metadata": {"labels": {"app": label}}}));
    }
    hostile.patch("ConfigMap", "two", "two-b", &json!({"metadata": {"labels": {"app": "x"}}}));
    wait("what is covered", || process.told().len() == 3).await;
    let names: Vec<String> = process.table("core/v1/ConfigMap").into_keys().collect();
    assert_eq!(names, ["one/one-a"]);
    assert_eq!(hostile.watchers(), 1);
    process.stop().await;
}

#[tokio::test]
async fn metadata_only_brings_no_more_than_that() {
    let hostile = Hostile::start(1, Options::default()).await;
    hostile.create(
        "ConfigMap",
        "default",
        "m",
        json!({"data": {"a": "b"}, "metadata": {"labels": {"x": "y"}}}),
    );
    let files = files(&hostile);
    let settings = "watch: [{type: v1/ConfigMap, metadata_only: true}]\ncursor: {store: none}";
    let process = Process::start(&files, settings);
    wait("it", || process.told().len() == 1).await;
    let (_, object) = process.table("core/v1/ConfigMap").remove("default/m").unwrap();
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert_eq!((object.get("data"), &object["metadata"]["labels"]["x"]), (None, &json!("y")));
    process.stop().await;
}

#[tokio::test]
async fn b4_repeats_tell_count_and_delta_and_the_end_of_life_is_no_news() {
    for group in ["v1", "events.k8s.io/v1"] {
        let hostile = Hostile::start(1, Options::default()).await;
        let files = files(&hostile);
        let process = Process::start(&files, &EVENTS.replace("v1", group));
        wait("the watch", || hostile.watchers() == 1).await;
        hostile.emit("default", 1);
        hostile.repeat("default", &event_name(1), false);
        hostile.repeat("default", &event_name(1), true);
        wait("each repeat", || process.told().len() == 3).await;
        let told = process.told.lock().clone();
        let attribute =
            |at: usize, name: &str| told[at].envelope.attribute(name).map(|value| value.to_string());
        assert_eq!(
            (attribute(0, "eventcount"), attribute(0, "eventdelta")),
            (Some("1".into()), Some("1".into()))
        );
        assert_eq!(
            (attribute(1, "eventcount"), attribute(1, "eventdelta")),
            (Some("2".into()), Some("1".into()))
        );
        assert_eq!(attribute(0, "reason").as_deref(), Some("Pulled"));
        assert_eq!(attribute(0, "involvedkind").as_deref(), Some("Pod"));
        assert_eq!(attribute(0, "involvedname").as_deref(), Some("pod-1"));
        assert_eq!(process.table("core/v1/Event").len(), 1, "one key, whichever group");
        hostile.expire_events(1);
        wait("it goes from the table", || process.table("core/v1/Event").is_empty()).await;
        hostile.emit("default", 2);
        wait("the next", || process.told().len() == 4).await;
        assert!(process.told().iter().all(|told| !told.starts_with('-')), "{:?}", process.told());
        process.stop().await;
    }
}

#[tokio::test]
async fn b5_the_first_start_tells_as_much_as_it_should() {
    for (start, count) in [("all", 3), ("now", 0), ("{since: 1h}", 3)] {
        let hostile = Hostile::start(1, Options::default()).await;
        for number in 0..3 {
            hostile.emit("default", number);
        }
        let files = files(&hostile);
        let settings = format!("watch: [{{type: v1/Event, start: {start}}}]\ncursor: {{store: none}}");
        let process = Process::start(&files, &settings);
        wait("the table is whole", || process.table("core/v1/Event").len() == 3).await;
        hostile.emit("default", 9);
        wait("what comes", || process.told().len() == count + 1).await;
        process.stop().await;
    }
}

#[tokio::test]
async fn a_line_too_long_takes_no_other_with_it() {
    let hostile = Hostile::start(1, Options::default()).await;
    let files = files(&hostile);
    let process = Process::start(&files, &format!("{WIDGETS}\nmax_object: 8KiB"));
    wait("the watch", || hostile.watchers() == 1).await;
    hostile.create("Widget", "default", "big", json!({"spec": {"text": "x".repeat(20_000)}}));
    hostile.create("Widget", "default", "small", json!({}));
    wait("the small one", || process.told().len() == 1).await;
    assert_eq!(process.table("example.com/v1/Widget").into_keys().collect::<Vec<_>>(), ["default/small"]);
    process.stop().await;
}

#[tokio::test]
async fn an_object_of_the_same_name_is_another_one() {
    let hostile = Hostile::start(1, Options::default()).await;
    hostile.create("Widget", "default", "a", json!({"spec": {"size": 1}}));
    let files = files(&hostile);
    let process = Process::start(&files, WIDGETS);
    wait("the first", || process.told().len() == 1).await;
    hostile.stop().await;
    hostile.delete("Widget", "default", "a");
    hostile.create("Widget", "default", "a", json!({"spec": {"size": 2}}));
    hostile.lose_history();
    hostile.go_on().await;
    wait("both changes", || process.told().len() == 3).await;
    assert!(process.told()[1].starts_with("-default/a@"), "{:?}", process.told());
    process.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    process.stop().await;
}

#[tokio::test]
async fn b3_gone_in_every_way_it_is_said_is_a_list_and_what_differs() {
    for fault in [Fault::GoneAtStart, Fault::EmptyWatch, Fault::GoneInStream] {
        for (kind, settings, type_url) in
            [("Widget", WIDGETS, "example.com/v1/Widget"), ("Event", EVENTS, "core/v1/Event")]
        {
            let hostile = Hostile::start(1, Options::default()).await;
            let files = files(&hostile);
            let process = Process::start(&files, settings);
            wait("the watch", || hostile.watchers() == 1).await;
            let make = |number: u64| match kind {
                "Event" => drop(hostile.emit("default", number)),
                _ => drop(hostile.create("Widget", "default", &format!("w{number}"), json!({}))),
            };
            (0..20).for_each(make);
            wait("the first", || process.told().len() == 20).await;
            hostile.force(fault, if fault == Fault::EmptyWatch { 5 } else { 1 });
            if fault != Fault::GoneInStream {
                hostile.disconnect();
            }
            (20..40).for_each(make);
            process.converged(&hostile, kind, type_url).await;
            wait("each once", || process.told().len() == 40).await;
            let told = process.told.lock().clone();
            if kind == "Event" {
                let versions: Vec<u64> = told.iter().map(|told| told.version.parse().unwrap()).collect();
                assert!(versions.is_sorted(), "Events come in order: {versions:?}");
            }
            assert!(hostile.happened(fault) > 0);
            process.stop().await;
        }
    }
}

#[tokio::test]
async fn a_kind_that_comes_later_is_watched_when_it_is_there() {
    // Seen from the client, a kind whose discovery fails at first is one that comes later.
    let options = Options {
        kinds: vec![Kind::custom("example.com", "v1", "Widget", "widgets")],
        ..Options::default()
    };
    let hostile = Hostile::start(1, options).await;
    let files = files(&hostile);
    hostile.stop().await;
    let process = Process::start(&files, WIDGETS);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(process.not_ready().is_some());
    hostile.go_on().await;
    hostile.create("Widget", "default", "a", json!({}));
    process.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    wait("ready", || process.not_ready().is_none()).await;
    process.stop().await;
}
