//! How watches begin, go on and end.

use serde_json::json;

use crate::hostile::{Hostile, Options};

use super::client::{EVENTS, Next, WIDGETS, ask, get, version, watch};

async fn start() -> Hostile {
    Hostile::start(1, Options::default()).await
}

#[tokio::test]
async fn a_watch_from_a_compacted_version_gets_410_in_the_stream_and_ends() {
    let hostile = start().await;
    for (path, kind, says) in [
        (WIDGETS, "Widget", "too old resource version: "),
        (EVENTS, "Event", "The resourceVersion for the"),
    ] {
        let before = hostile.rv(kind);
        hostile.lose_history();
        let mut lines = watch(&hostile, &format!("{path}?watch=1&resourceVersion={before}")).await;
        assert_eq!(lines.code, 200);
        let (word, status) = lines.line().await;
        assert_eq!(
            (word.as_str(), &status["code"], &status["reason"]),
            ("ERROR", &json!(410), &json!("Expired"))
        );
        assert!(status["message"].as_str().unwrap().starts_with(says), "{status}");
        assert_eq!(lines.next().await, Next::End);
        let exact =
            get(&hostile, &format!("{path}?resourceVersion={before}&resourceVersionMatch=Exact")).await;
        assert_eq!((exact.code, &exact.body["reason"]), (410, &json!("Expired")));
    }
}

#[tokio::test]
async fn a_running_watch_survives_compaction() {
    let hostile = start().await;
    let now = hostile.rv("Widget");
    let mut lines = watch(&hostile, &format!("{WIDGETS}?watch=1&resourceVersion={now}")).await;
    hostile.lose_history();
    hostile.create("Widget", "default", "a", json!({}));
    assert_eq!(lines.change().await, ("ADDED".to_owned(), "a".to_owned(), hostile.rv("Widget")));
}

#[tokio::test]
async fn initial_events_end_with_an_annotated_bookmark_for_every_kind() {
    let hostile = start().await;
    hostile.create("Widget", "default", "a", json!({}));
    hostile.emit("default", 1);
    for (path, kind) in [(WIDGETS, "Widget"), (EVENTS, "Event")] {
        let query =
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut lines = watch(&hostile, &format!("{path}?{query}")).await;
        assert_eq!(lines.line().await.0, "ADDED");
        let (word, bookmark) = lines.line().await;
        assert_eq!((word.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!(kind)));
        assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        assert_eq!(version(&bookmark), hostile.rv(kind));
    }
}

#[tokio::test]
async fn initial_events_need_the_match_and_may_be_unsupported() {
    let hostile = start().await;
    for query in ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan&resourceVersion=0"] {
        let refused = get(&hostile, &format!("{WIDGETS}?watch=1&{query}")).await;
        assert_eq!((refused.code, &refused.body["reason"]), (422, &json!("Invalid")), "{query}");
    }
    let hostile = Hostile::start(2, Options { watch_list: false, ..Options::default() }).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let refused = get(&hostile, &format!("{WIDGETS}?{query}")).await;
    assert_eq!(refused.code, 422);
    assert!(refused.body["message"].as_str().unwrap().contains("WatchList feature gate"));
}

#[tokio::test]
async fn bookmarks_come_for_all_kinds_but_events() {
    let hostile = start().await;
    let query = "watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion";
    let mut lines = watch(&hostile, &format!("{WIDGETS}?{query}={}", hostile.rv("Widget"))).await;
    hostile.create("Namespace", "", "elsewhere", json!({}));
    let (word, bookmark) = lines.line().await;
    assert_eq!((word.as_str(), version(&bookmark)), ("BOOKMARK", hostile.rv("Widget")));
    let mut lines = watch(&hostile, &format!("{EVENTS}?{query}={}", hostile.rv("Event"))).await;
    assert_eq!(lines.next().await, Next::End, "an Event watch is quiet until its timeout");
}

#[tokio::test]
async fn what_leaves_a_selector_is_deleted_and_what_enters_is_added() {
    let hostile = start().await;
    let labelled = |value: &str| json!({"metadata": {"labels": {"n": value}}});
    hostile.create("Widget", "default", "a", labelled("2"));
    let now = hostile.rv("Widget");
    let path = format!("{WIDGETS}?watch=1&resourceVersion={now}&labelSelector=n%3D2");
    let mut lines = watch(&hostile, &path).await;
    hostile.patch("Widget", "default", "a", &labelled("two"));
    let (word, object) = lines.line().await;
    assert_eq!((word.as_str(), version(&object)), ("DELETED", now + 1));
    assert_eq!(object["metadata"]["labels"]["n"], "2", "the last state that matched");
    hostile.patch("Widget", "default", "a", &labelled("2"));
    assert_eq!(lines.change().await, ("ADDED".to_owned(), "a".to_owned(), now + 2));
    hostile.delete("Widget", "default", "a");
    assert_eq!(
        lines.change().await,
        ("DELETED".to_owned(), "a".to_owned(), now + 3),
        "the deletion's version"
    );
}

#[tokio::test]
async fn a_watch_without_version_begins_with_what_there_is() {
    let hostile = start().await;
    hostile.create("Widget", "default", "b", json!({}));
    hostile.create("Widget", "default", "a", json!({}));
    let mut lines = watch(&hostile, &format!("{WIDGETS}?watch=1")).await;
    assert_eq!(lines.change().await.1, "a");
    assert_eq!(lines.change().await.1, "b");
    assert_eq!(hostile.watchers(), 1);
    hostile.patch("Widget", "default", "b", &json!({"spec": {"size": 1}}));
    assert_eq!(lines.change().await, ("MODIFIED".to_owned(), "b".to_owned(), hostile.rv("Widget")));
}

#[tokio::test]
async fn events_expire_as_deletions() {
    let hostile = start().await;
    hostile.emit("default", 1);
    hostile.emit("default", 2);
    let mut lines = watch(
        &hostile,
        &format!("/apis/events.k8s.io/v1/events?watch=1&resourceVersion={}", hostile.rv("Event")),
    )
    .await;
    assert_eq!(hostile.expire_events(1), 1);
    let (word, event) = lines.line().await;
    assert_eq!((word.as_str(), &event["metadata"]["name"]), ("DELETED", &json!("ev-000001")));
    assert_eq!((version(&event), &event["note"]), (hostile.rv("Event"), &json!("event number 1")));
}

#[tokio::test]
async fn a_watch_of_metadata_shows_no_more() {
    let hostile = start().await;
    hostile.create("Widget", "default", "a", json!({"spec": {"size": 1}}));
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let path = format!("{WIDGETS}?watch=1&timeoutSeconds=1");
    let answer = super::client::ask_with(&hostile, "GET", &path, &[("accept", accept)], "").await;
    assert_eq!(answer.body["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(answer.body["object"].get("spec"), None);
    assert_eq!(ask(&hostile, "GET", &path, "").await.body["object"]["spec"]["size"], 1);
}
