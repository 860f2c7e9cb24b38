//! Rows W1 to W14: watches.

use std::time::Duration;

use serde_json::json;

use super::super::testing::{serve, serve_on, soon};
use super::{MAP, MAPS, fill, map};
use crate::core::bus::{Bus, BusOptions};
use crate::core::log::RingBound;
use crate::core::state::StateBound;

fn told(what: &str, name: &str, seq: crate::core::Seq) -> (String, String, u64) {
    (what.to_owned(), name.to_owned(), seq.0)
}

#[tokio::test]
async fn w1_w2_a_watch_without_position_begins_with_what_there_is() {
    let served = serve("").await;
    let a = served.put(MAP, "web/a", &map("a", json!({}))).await;
    for query in ["watch=1", "watch=true&resourceVersion=0"] {
        let mut watch = served.watch(&format!("{MAPS}?{query}")).await;
        assert_eq!(watch.told().await, told("ADDED", "a", a));
    }
    let mut watch = served.watch("/api/v1/watch/namespaces/web/configmaps").await;
    assert_eq!(watch.told().await, told("ADDED", "a", a));
    let b = served.put(MAP, "web/b", &map("b", json!({}))).await;
    assert_eq!(watch.told().await, told("ADDED", "b", b));
    let b = served.put(MAP, "web/b", &map("b", json!({"x": "y"}))).await;
    assert_eq!(watch.told().await, told("MODIFIED", "b", b));
    served.put(MAP, "db/c", &map("c", json!({}))).await;
    let b = served.delete(MAP, "web/b").await;
    let gone = watch.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["labels"]),
        (&json!("DELETED"), &json!({"x": "y"}))
    );
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], b.to_string(), "w9: of the deletion");
    served.end().await;
}

#[tokio::test]
async fn w2_a_watch_goes_on_after_its_position() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    let at = served.bus.figures().seq;
    let b = served.put(MAP, "web/b", &map("b", json!({}))).await;
    let mut watch = served.watch(&format!("{MAPS}?watch=1&resourceVersion={at}")).await;
    assert_eq!(watch.told().await, told("ADDED", "b", b));
    let a = served.delete(MAP, "web/a").await;
    assert_eq!(watch.told().await, told("DELETED", "a", a));
    served.end().await;
}

#[tokio::test]
async fn w3_a_position_that_is_gone_is_told_in_the_stream() {
    let served = serve("").await;
    let answer = served.get(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let event = answer.ok();
    assert_eq!(
        (&event["type"], &event["object"]["reason"], &event["object"]["code"]),
        (&json!("ERROR"), &json!("Expired"), &json!(410))
    );
    assert!(
        event["object"]["message"].as_str().unwrap().starts_with("too old resource version: 1 ("),
        "{event}"
    );
    served.end().await;
}

#[tokio::test]
async fn w3_a_position_whose_deletions_are_forgotten_is_gone() {
    let options = BusOptions {
        changes: RingBound { max: 4, ..RingBound::default() },
        state: StateBound { max_tombstones: 1, ..StateBound::default() },
        ..BusOptions::default()
    };
    let served = serve_on(Bus::new(options), "").await;
    fill(&served, &["a", "b", "c"]).await;
    let at = served.bus.figures().seq;
    for name in ["web/a", "web/b", "web/c"] {
        served.delete(MAP, name).await;
    }
    fill(&served, &["d", "e", "f", "g"]).await;
    let event = served.get(&format!("{MAPS}?watch=1&resourceVersion={at}")).await.ok();
    assert_eq!(event["object"]["code"], 410);
    served.end().await;
}

#[tokio::test]
async fn w3_a_position_that_is_not_reached_is_gone() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    let at = served.bus.figures().seq.0;
    let watch = async |at: u64, query: &str| {
        served.get(&format!("{MAPS}?watch=1&resourceVersion={at}&timeoutSeconds=1&{query}")).await
    };
    for query in ["", "labelSelector=n%3Da", "allowWatchBookmarks=true"] {
        let event = watch(at + 1, query).await.ok();
        assert_eq!(
            (&event["type"], &event["object"]["reason"], &event["object"]["code"]),
            (&json!("ERROR"), &json!("Expired"), &json!(410)),
            "{query}"
        );
        let expected = format!("too large resource version: {}, current: {at}: ", at + 1);
        assert!(event["object"]["message"].as_str().unwrap().starts_with(&expected), "{event}");
    }
    let events = served.get(&format!("/api/v1/events?watch=1&resourceVersion={}", at + 1)).await.ok();
    assert_eq!(events["object"]["code"], 410);
    assert!(watch(at, "").await.body.is_empty(), "the last one told is held");
    served.end().await;
}

#[tokio::test]
async fn w4_the_end_of_the_initial_state_is_marked() {
    let served = serve("").await;
    fill(&served, &["a", "b"]).await;
    let at = served.bus.figures().seq;
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = served.watch(&path).await;
    assert_eq!(watch.told().await.1, "a");
    assert_eq!(watch.told().await.1, "b");
    let mark = watch.next().await.unwrap();
    let expected = json!({"type": "BOOKMARK", "object": {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": at.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}}});
    assert_eq!(mark, expected);
    let c = served.put(MAP, "web/c", &map("c", json!({}))).await;
    assert_eq!(watch.told().await, told("ADDED", "c", c));
    served.end().await;
}

#[tokio::test]
async fn w5_what_does_not_go_together_is_refused() {
    let served = serve("").await;
    for (query, message) in [
        (
            "sendInitialEvents=true",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "resourceVersionMatch=NotOlderThan&resourceVersion=0",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    ] {
        let (reason, told) = served.get(&format!("{MAPS}?watch=1&{query}")).await.failure(422);
        assert_eq!(
            (&*reason, told),
            (
                "Invalid",
                format!(
                    "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {message}"
                )
            )
        );
    }
    served.end().await;
}

#[tokio::test]
async fn w6_w7_bookmarks_come_and_the_end_is_clean() {
    let served = serve("bookmark_interval: 300ms").await;
    fill(&served, &["a"]).await;
    let at = served.bus.figures().seq;
    let mut watch = served
        .watch(&format!("{MAPS}?watch=1&resourceVersion={at}&allowWatchBookmarks=true&timeoutSeconds=1"))
        .await;
    // Of another kind: it moves the position only.
    let other = served.put("core/v1/Namespace", "/x", &json!({"metadata": {}})).await;
    let mut marks = Vec::new();
    while let Some(event) = watch.next().await {
        assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
        marks.push(event["object"]["metadata"]["resourceVersion"].clone());
    }
    assert!(marks.len() >= 3 && marks.last() == Some(&json!(other.to_string())), "{marks:?}");
    let quiet = served.get(&format!("{MAPS}?watch=1&resourceVersion={at}&timeoutSeconds=1")).await;
    assert!(quiet.body.is_empty(), "no bookmarks where none were asked for: {:?}", quiet.body);
    served.end().await;
}

#[tokio::test]
async fn w8_w9_what_leaves_a_selector_is_deleted_and_what_enters_added() {
    let served = serve("").await;
    fill(&served, &["1", "2"]).await;
    let at = served.bus.figures().seq;
    let mut watch = served.watch(&format!("{MAPS}?watch=1&resourceVersion={at}&labelSelector=n%3D2")).await;
    served.put(MAP, "web/1", &map("1", json!({"n": "9"}))).await;
    let left = served.put(MAP, "web/2", &map("2", json!({"n": "two"}))).await;
    let entered = served.put(MAP, "web/1", &map("1", json!({"n": "2"}))).await;
    let changed = served.put(MAP, "web/1", &map("1", json!({"n": "2", "x": "y"}))).await;
    let gone = watch.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["labels"]),
        (&json!("DELETED"), &json!({"n": "2"})),
        "the last state that matched"
    );
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], left.to_string());
    assert_eq!(watch.told().await, told("ADDED", "1", entered));
    assert_eq!(watch.told().await, told("MODIFIED", "1", changed));
    served.end().await;
}

#[tokio::test]
async fn w10_all_watches_see_one_order() {
    let served = serve("").await;
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(served.watch(&format!("{MAPS}?watch=1")).await);
    }
    let mut expected = Vec::new();
    for n in 0..50 {
        let name = (n % 7).to_string();
        expected.push(
            served.put(MAP, &format!("web/{name}"), &map(&name, json!({"n": n.to_string()}))).await.0,
        );
    }
    for watch in &mut watches {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.push(watch.told().await.2);
        }
        assert!(seen.is_sorted() && seen.last() == expected.last());
    }
    served.end().await;
}

#[tokio::test]
async fn w11_a_table_describes_its_columns_once() {
    let served = serve("").await;
    fill(&served, &["a", "b"]).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut watch = served.watch_with(&format!("{MAPS}?watch=1"), &accept).await;
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert!(first["object"]["columnDefinitions"].is_array());
    assert_eq!(second["object"]["columnDefinitions"], json!(null));
    assert_eq!(
        (&second["object"]["rows"][0]["cells"][0], second["object"]["rows"].as_array().unwrap().len()),
        (&json!("b"), 1)
    );
    let accept = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let mut watch = served.watch_with(&format!("{MAPS}?watch=1"), &accept).await;
    assert_eq!(watch.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
    served.end().await;
}

#[tokio::test]
async fn w13_a_watch_that_is_too_slow_ends_and_holds_up_nobody() {
    let served = serve("max_queued: 8").await;
    let slow = served
        .open("GET", &format!("{MAPS}?watch=1&resourceVersion={}", served.bus.figures().seq), &[], b"")
        .await;
    let big = json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(512 * 1024)}});
    soon(async {
        for _ in 0..100 {
            served.put(MAP, "web/a", &big).await;
            // Lets the server write what the connection takes.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let read = soon(http_body_util::BodyExt::collect(slow.into_body())).await;
    let read = read.expect("a clean end").to_bytes();
    assert!(read.ends_with(b"}\n") && read.len() < 100 * 512 * 1024);
    assert_eq!(served.stats.lost.get(), 1);
    served.end().await;
}

#[tokio::test]
async fn a_watch_of_one_name_sees_no_other() {
    let served = serve("").await;
    fill(&served, &["a", "b"]).await;
    for path in [
        format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da"),
        "/api/v1/watch/namespaces/web/configmaps/a".to_owned(),
        "/api/v1/configmaps?watch=1&fieldSelector=metadata.name%3Da".to_owned(),
    ] {
        let mut watch = served.watch(&path).await;
        assert_eq!(watch.told().await.1, "a");
        served.put(MAP, "web/b", &map("b", json!({"t": fastrand::u32(..).to_string()}))).await;
        let a = served.put(MAP, "web/a", &map("a", json!({"t": fastrand::u32(..).to_string()}))).await;
        assert_eq!(watch.told().await, told("MODIFIED", "a", a), "{path}");
    }
    served.end().await;
}

#[tokio::test]
async fn the_end_of_the_server_ends_watches_cleanly() {
    let served = serve("").await;
    let mut watch = served.watch(&format!("{MAPS}?watch=1")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    served.end().await;
    assert_eq!(watch.next().await, None);
}
