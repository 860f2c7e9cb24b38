//! Every fault strikes as it says, is counted, and leaves the truth alone.

use std::time::Duration;

use serde_json::json;

use crate::hostile::{Fault, Hostile, Options, event_name};

use super::client::{EVENTS, Next, WIDGETS, ask, get, names, send, version, watch};

async fn start() -> Hostile {
    Hostile::start(7, Options::default()).await
}

async fn follow(hostile: &Hostile) -> super::client::Lines {
    watch(hostile, &format!("{WIDGETS}?watch=1&resourceVersion={}", hostile.rv("Widget"))).await
}

#[tokio::test]
async fn a_watch_can_be_gone_at_its_start_or_empty() {
    let hostile = start().await;
    hostile.force(Fault::GoneAtStart, 1);
    hostile.force(Fault::EmptyWatch, 1);
    let cursor = hostile.rv("Event");
    let path = format!("{EVENTS}?watch=1&resourceVersion={cursor}");
    let gone = get(&hostile, &path).await;
    assert_eq!((gone.code, &gone.body["reason"]), (410, &json!("Expired")));
    let mut empty = watch(&hostile, &path).await;
    assert_eq!((empty.code, empty.next().await), (200, Next::End));
    let (word, status) = watch(&hostile, &path).await.line().await;
    assert_eq!((word.as_str(), &status["code"]), ("ERROR", &json!(410)), "the version is gone for good");
    assert_eq!((hostile.happened(Fault::GoneAtStart), hostile.happened(Fault::EmptyWatch)), (1, 1));
}

#[tokio::test]
async fn a_running_watch_can_break_off_inside_a_line_after_one_or_with_410() {
    let hostile = start().await;
    let create = |name: &str| hostile.create("Widget", "default", name, json!({"spec": {"size": 1}}));
    let mut lines = follow(&hostile).await;
    hostile.force(Fault::CutInLine, 1);
    create("a");
    assert!(matches!(lines.next().await, Next::Broken(bytes) if bytes > 0));
    let mut lines = follow(&hostile).await;
    hostile.force(Fault::CutBetweenLines, 1);
    create("b");
    assert_eq!(lines.change().await.1, "b");
    assert_eq!(lines.next().await, Next::Broken(0));
    let mut lines = follow(&hostile).await;
    hostile.force(Fault::GoneInStream, 1);
    create("c");
    assert_eq!(lines.line().await.0, "ERROR");
    assert_eq!(lines.next().await, Next::End);
    for fault in [Fault::CutInLine, Fault::CutBetweenLines, Fault::GoneInStream] {
        assert_eq!(hostile.happened(fault), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn refusals_of_a_busy_server_come_before_anything_is_done() {
    let hostile = start().await;
    let body = json!({"metadata": {"name": "m"}, "data": {"k": "v"}}).to_string();
    let maps = "/api/v1/namespaces/default/configmaps";
    hostile.force(Fault::TooManyRequests, 1);
    let busy = ask(&hostile, "POST", maps, &body).await;
    assert_eq!((busy.code, busy.headers["retry-after"].as_bytes()), (429, b"1".as_slice()));
    hostile.force(Fault::Unavailable, 1);
    assert_eq!(ask(&hostile, "POST", maps, &body).await.code, 503);
    hostile.force(Fault::Reset, 1);
    assert!(send(&hostile, "POST", maps, &[], &body).await.is_none());
    assert!(hostile.objects("ConfigMap").is_empty());
    hostile.force(Fault::AnswerLost, 1);
    assert!(send(&hostile, "POST", maps, &[], &body).await.is_none());
    assert_eq!(hostile.objects("ConfigMap").len(), 1, "the answer was lost, not the write");
    hostile.force(Fault::GatewayTimeout, 1);
    assert_eq!(get(&hostile, maps).await.code, 504);
}

#[tokio::test]
async fn pages_expire_forget_their_rest_and_caches_lag() {
    let hostile = start().await;
    for name in ["a", "b", "c"] {
        hostile.create("Widget", "default", name, json!({}));
    }
    hostile.force(Fault::NoRemaining, 1);
    let page = get(&hostile, &format!("{WIDGETS}?limit=1")).await.body;
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    hostile.force(Fault::PageExpiry, 1);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let expired = get(&hostile, &format!("{WIDGETS}?continue={token}")).await;
    let token = expired.body["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&get(&hostile, &format!("{WIDGETS}?continue={token}")).await.body), ["b", "c"]);
    hostile.force(Fault::Stale, 1);
    let stale = get(&hostile, &format!("{WIDGETS}?resourceVersion=0")).await.body;
    assert!(version(&stale) < hostile.rv("Widget"));
    assert_eq!(hostile.happened(Fault::Stale), 1);
}

#[tokio::test]
async fn a_trickled_body_is_whole() {
    let hostile = start().await;
    let mut lines = watch(&hostile, &format!("{WIDGETS}?watch=1")).await;
    hostile.set_fault(Fault::Trickle, 1.0);
    let mut slow = watch(&hostile, &format!("{WIDGETS}?watch=1")).await;
    let stored = hostile.create("Widget", "default", "a", json!({"spec": {"text": "x".repeat(5_000)}}));
    assert_eq!(slow.line().await, lines.line().await);
    assert_eq!(get(&hostile, &format!("{WIDGETS}/a")).await.body, stored);
    assert!(hostile.happened(Fault::Trickle) >= 2);
}

#[tokio::test]
async fn a_restart_keeps_the_store_and_the_port_and_empties_caches() {
    let hostile = start().await;
    hostile.create("Widget", "default", "a", json!({}));
    hostile.emit("default", 1);
    let before = hostile.rv("Widget");
    hostile.create("Widget", "default", "b", json!({}));
    let mut lines = follow(&hostile).await;
    hostile.stop().await;
    assert!(matches!(lines.next().await, Next::Broken(0)));
    assert!(send(&hostile, "GET", WIDGETS, &[], "").await.is_none(), "nobody listens");
    hostile.go_on().await;
    assert_eq!(names(&get(&hostile, WIDGETS).await.body), ["a", "b"]);
    let resume = |path: &str| format!("{path}?watch=1&timeoutSeconds=1&resourceVersion={before}");
    assert_eq!(watch(&hostile, &resume(WIDGETS)).await.line().await.0, "ERROR", "caches start empty");
    let mut events = watch(&hostile, &resume(EVENTS)).await;
    assert_eq!(events.next().await, Next::End, "Events are watched in the storage, which stayed");
    hostile.force(Fault::Restart, 1);
    assert!(send(&hostile, "GET", WIDGETS, &[], "").await.is_none());
    hostile.restart().await;
    assert_eq!(get(&hostile, WIDGETS).await.code, 200);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off() {
    let options = Options { slow_watcher: Duration::from_millis(50), ..Options::default() };
    let hostile = Hostile::start(7, options).await;
    let _unread = watch(&hostile, &format!("{WIDGETS}?watch=1")).await;
    let text = "x".repeat(200_000);
    for number in 0..200 {
        hostile.create("Widget", "default", &format!("w{number}"), json!({"spec": {"text": text}}));
    }
    let cut = async {
        while hostile.slow_watchers() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cut).await.expect("it is cut off");
}

#[tokio::test]
async fn generated_events_are_numbered_repeated_and_told_in_full() {
    let options =
        Options { namespaces: vec!["team".to_owned()], separate_events: true, ..Options::default() };
    let hostile = Hostile::start(7, options).await;
    let repeats = hostile.emit_many(0..200, 0.3);
    hostile.lose_history();
    assert_eq!(hostile.objects("Event").len(), 200);
    let history = hostile.history("Event");
    assert_eq!(history.len() as u64, 200 + repeats);
    assert!(history.windows(2).all(|pair| pair[0].rv < pair[1].rv), "versions only grow");
    let objects = hostile.objects("Event");
    assert!(objects.keys().any(|key| key.ends_with(&format!("/{}", event_name(123)))));
    for namespace in ["default", "kube-system", "team"] {
        assert!(objects.keys().any(|key| key.split('/').next() == Some(namespace)), "none in {namespace}");
    }
    let before = hostile.rv("Event");
    hostile.create("Widget", "default", "a", json!({}));
    assert_eq!(hostile.rv("Event"), before, "Events count for themselves");
}

#[tokio::test]
async fn the_truth_survives_a_storm() {
    let hostile = Hostile::start(11, Options::default().all_faults(0.1)).await;
    let mut asked = 0;
    for number in 0..300 {
        hostile.create("Widget", "default", &format!("w{number}"), json!({}));
        if let Some(answer) = send(&hostile, "GET", &format!("{WIDGETS}?limit=5"), &[], "").await {
            asked += u32::from(answer.status() == 200);
        }
    }
    assert!(asked > 0);
    hostile.quiet();
    hostile.restart().await;
    let list = get(&hostile, WIDGETS).await.body;
    assert_eq!(names(&list).len(), 300);
    let score = hostile.score();
    for fault in [Fault::Reset, Fault::TooManyRequests, Fault::Restart, Fault::Compaction, Fault::Trickle] {
        assert!(score.iter().any(|(one, times)| *one == fault && *times > 0), "{fault:?} in {score:?}");
    }
}
