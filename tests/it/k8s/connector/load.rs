//! Many Events: held back by object, enriched without asking, and bounded by what routes answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshbus::core::Outcome;
use serde_json::json;

use super::{PATIENCE, Process, files, wait};
use crate::hostile::{Hostile, Options, event_name};

#[tokio::test]
async fn b7_what_is_told_too_often_of_one_object_is_held_back_and_summed_up() {
    let hostile = Hostile::start(6, Options::default()).await;
    let files = files(&hostile);
    let settings = "watch: [{type: v1/Event}]\ncursor: {store: none}\nfrequency: {burst: 3, per: 1s}";
    let process = Process::start(&files, settings);
    wait("the watch", || hostile.watchers() == 1).await;
    let filter = meshbus::core::selector::TopicFilter::parse("events/#").unwrap();
    let mut summaries = process
        .bus
        .subscribe(
            meshbus::core::selector::Selector::topic(filter),
            meshbus::core::subscription::Start::Now,
            10,
            meshbus::core::consumer::Overflow::Block,
        )
        .unwrap();
    hostile.emit("default", 7);
    for _ in 0..9 {
        hostile.repeat("default", &event_name(7), false);
    }
    hostile.emit("default", 8);
    wait("another object's", || process.told().iter().any(|told| told.contains("ev-000008"))).await;
    assert_eq!(process.told().len(), 4, "{:?}", process.told());
    process.converged(&hostile, "Event", "core/v1/Event").await;
    // When its time has come, and not with the next Event only.
    let summary = tokio::time::timeout(PATIENCE, summaries.next()).await;
    let Ok(Some(meshbus::core::subscription::Message::Batch(records))) = summary else {
        panic!("a summary was due: {summary:?}")
    };
    assert_eq!(&*records[0].envelope.kind, "dev.meshbus.events.suppressed.v1");
    let data: serde_json::Value = serde_json::from_slice(&records[0].envelope.data).unwrap();
    assert_eq!((&data["count"], &data["involvedObject"]["name"]), (&json!(7), &json!("pod-0")));
    hostile.repeat("default", &event_name(7), false);
    wait("one more", || process.told().len() == 5).await;
    // At the end there is no later time.
    for _ in 0..3 {
        hostile.repeat("default", &event_name(7), false);
    }
    process.converged(&hostile, "Event", "core/v1/Event").await;
    process.stop().await;
    let Some(meshbus::core::subscription::Message::Batch(records)) = summaries.next().await else {
        panic!("a summary at the end was due")
    };
    let data: serde_json::Value = serde_json::from_slice(&records[0].envelope.data).unwrap();
    assert_eq!(data["count"], 3);
}

#[tokio::test]
async fn b6_an_event_tells_labels_of_its_object_and_no_request_is_made_for_it() {
    let hostile = Hostile::start(6, Options::default()).await;
    let pod = hostile.create("Pod", "default", "p", json!({"metadata": {"labels": {"app": "shop"}}}));
    let files = files(&hostile);
    let settings = "watch: [{type: v1/Event}]\ncursor: {store: none}\nenrich: {labels: [app]}";
    let process = Process::start(&files, settings);
    wait("both watches", || hostile.watchers() == 2).await;
    let before = hostile.requests().len();
    let about = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "p",
        "uid": pod["metadata"]["uid"]});
    for number in 0..20 {
        hostile.create(
            "Event",
            "default",
            &format!("e{number}"),
            json!({"involvedObject": about, "reason": "A",
            "type": "Normal", "message": "m", "source": {"component": "c"}}),
        );
    }
    wait("all", || process.told().len() == 20).await;
    let told = process.told.lock().clone();
    assert!(told.iter().all(|told| told.envelope.attribute("labelapp").as_deref() == Some("shop")));
    assert_eq!(hostile.requests().len(), before);
    process.stop().await;
}

#[tokio::test]
async fn b7_a_watch_is_not_read_while_too_much_waits_for_its_routes() {
    let hostile = Hostile::start(6, Options::default()).await;
    let files = files(&hostile);
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let decide = Box::new(move |_: &super::Told| {
        if gate.load(Ordering::SeqCst) { Outcome::Delivered } else { Outcome::Undelivered("away".into()) }
    });
    let settings = "watch: [{type: v1/Event}]\ncursor: {store: file, path: FILE}\nin_flight: 16";
    let process = Process::start_with(&files, settings, decide);
    wait("the watch", || hostile.watchers() == 1).await;
    for number in 0..200 {
        hostile.emit("default", number);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let shown = process.table("core/v1/Event").len();
    assert!((16..=40).contains(&shown), "{shown} were taken in for 16 that may wait");
    open.store(true, Ordering::SeqCst);
    wait("all", || process.told().len() == 200).await;
    process.converged(&hostile, "Event", "core/v1/Event").await;
    process.stop().await;
}
