//! Restarts: nothing is missed, and nothing that was answered comes again.

use std::collections::HashSet;
use std::time::Duration;

use meshbus::core::Outcome;
use serde_json::json;

use super::{Process, files, wait};
use crate::hostile::{Fault, Hostile, Options};

const SETTINGS: &str =
    "watch: [{type: example.com/v1/Widget}, {type: v1/Event}]\ncursor: {store: file, path: FILE}";
const WIDGET: &str = "example.com/v1/Widget";

async fn with_widgets(count: u32) -> Hostile {
    let hostile = Hostile::start(3, Options::default()).await;
    for number in 0..count {
        hostile.create("Widget", "default", &format!("w{number}"), json!({"spec": {"size": number}}));
    }
    hostile
}

#[tokio::test]
async fn b3_a_restart_goes_on_where_it_was_left_and_tells_nothing_again() {
    let hostile = with_widgets(5).await;
    hostile.emit("default", 1);
    let files = files(&hostile);
    let process = Process::start(&files, SETTINGS);
    wait("all", || process.told().len() == 6).await;
    process.stop().await;
    hostile.patch("Widget", "default", "w1", &json!({"spec": {"size": 10}}));
    hostile.patch("Widget", "default", "w1", &json!({"spec": {"size": 11}}));
    hostile.delete("Widget", "default", "w2");
    hostile.emit("default", 2);
    let process = Process::start(&files, SETTINGS);
    process.converged(&hostile, "Widget", WIDGET).await;
    process.converged(&hostile, "Event", "core/v1/Event").await;
    wait("what happened meanwhile, each change of it", || process.told().len() >= 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(process.told().len(), 4, "{:?}", process.told());
    assert_eq!(process.told().iter().filter(|told| told.starts_with("-default/w2@")).count(), 1);
    process.stop().await;
}

#[tokio::test]
async fn b4_what_went_while_the_position_was_lost_is_told_too() {
    let hostile = with_widgets(5).await;
    let files = files(&hostile);
    let process = Process::start(&files, SETTINGS);
    wait("all", || process.told().len() == 5).await;
    process.stop().await;
    hostile.delete("Widget", "default", "w2");
    hostile.patch("Widget", "default", "w3", &json!({"spec": {"size": 30}}));
    hostile.delete("Widget", "default", "w4");
    hostile.create("Widget", "default", "w4", json!({}));
    hostile.lose_history();
    let process = Process::start(&files, SETTINGS);
    process.converged(&hostile, "Widget", WIDGET).await;
    wait("what differs", || process.told().len() >= 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut told: Vec<String> =
        process.told().iter().map(|told| told.split('@').next().unwrap().to_owned()).collect();
    told.sort_unstable();
    assert_eq!(told, ["-default/w2", "-default/w4", "default/w3", "default/w4"]);
    let gone = process.told.lock().iter().find(|told| told.deleted).unwrap().envelope.clone();
    assert_eq!(gone.attribute("mbcause").as_deref(), Some("inferred"));
    let data: serde_json::Value = serde_json::from_slice(&gone.data).unwrap();
    assert_eq!(data["kind"], "Widget", "what is known of it: {data}");
    process.stop().await;
}

#[tokio::test]
async fn b2_what_no_route_has_answered_comes_again_after_a_kill() {
    let hostile = with_widgets(0).await;
    let files = files(&hostile);
    let process = Process::start_with(
        &files,
        SETTINGS,
        Box::new(|_| Outcome::Undelivered("the sink is away".into())),
    );
    wait("the watches", || hostile.watchers() == 2).await;
    for number in 0..3 {
        hostile.create("Widget", "default", &format!("w{number}"), json!({}));
    }
    process.converged(&hostile, "Widget", WIDGET).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    process.kill().await;
    hostile.delete("Widget", "default", "w1");
    let process = Process::start(&files, SETTINGS);
    process.converged(&hostile, "Widget", WIDGET).await;
    wait("each change", || process.told().len() >= 4).await;
    let told: HashSet<String> = process.told().into_iter().collect();
    assert_eq!(told.len(), 4, "{told:?}");
    process.stop().await;
}

#[tokio::test]
async fn b2_what_a_route_was_taken_from_is_told_to_the_one_in_its_place_and_the_cursor_moves_on() {
    let hostile = with_widgets(0).await;
    let files = files(&hostile);
    let away = Box::new(|_: &super::Told| Outcome::Undelivered("the sink is away".into()));
    let mut process = Process::start_with(&files, SETTINGS, away);
    wait("the watches", || hostile.watchers() == 2).await;
    for number in 0..3 {
        hostile.create("Widget", "default", &format!("w{number}"), json!({}));
    }
    hostile.patch("Widget", "default", "w0", &json!({"spec": {"size": 7}}));
    hostile.delete("Widget", "default", "w1");
    hostile.emit("default", 1);
    hostile.repeat("default", "ev-000001", false);
    process.converged(&hostile, "Widget", WIDGET).await;
    process.converged(&hostile, "Event", "core/v1/Event").await;
    process.reroute();
    wait("each change", || process.told().len() >= 7).await;
    process.converged(&hostile, "Widget", WIDGET).await;
    process.converged(&hostile, "Event", "core/v1/Event").await;
    let told = process.told();
    let of = |kind: &str| {
        hostile.history(kind).into_iter().map(|change| format!("{}@{}", change.key, change.rv))
    };
    let history: Vec<String> = of("Widget").chain(of("Event")).collect();
    for change in &history {
        let times = told.iter().filter(|told| told.trim_start_matches('-') == change).count();
        assert_eq!(times, 1, "{change} in {told:?}");
    }
    process.stop().await;
    let process = Process::start(&files, SETTINGS);
    process.converged(&hostile, "Widget", WIDGET).await;
    hostile.emit("default", 2);
    wait("what is new", || !process.told().is_empty()).await;
    assert_eq!(process.told().len(), 1, "the cursor has moved over the rest: {:?}", process.told());
    process.stop().await;
}

#[tokio::test]
async fn b3_a_page_that_expires_is_no_position_that_is_lost() {
    let hostile = with_widgets(5).await;
    let files = files(&hostile);
    let settings = format!("{SETTINGS}\npage_size: 2");
    let process = Process::start(&files, &settings);
    wait("all", || process.told().len() == 5).await;
    process.stop().await;
    hostile.patch("Widget", "default", "w1", &json!({"spec": {"size": 10}}));
    hostile.patch("Widget", "default", "w1", &json!({"spec": {"size": 11}}));
    hostile.force(Fault::PageExpiry, 1);
    let process = Process::start(&files, &settings);
    wait("each change", || process.told().len() == 2).await;
    assert_eq!(hostile.happened(Fault::PageExpiry), 1);
    process.converged(&hostile, "Widget", WIDGET).await;
    process.stop().await;
}

#[tokio::test]
async fn b2_a_change_has_the_same_identity_after_a_restart() {
    let hostile = with_widgets(3).await;
    let files = files(&hostile);
    let ids = |process: &Process| -> HashSet<(String, String)> {
        let told = process.told.lock();
        told.iter().map(|told| (told.envelope.source.to_string(), told.envelope.id.to_string())).collect()
    };
    let settings = "watch: [{type: example.com/v1/Widget}]\ncursor: {store: none}";
    let process = Process::start(&files, settings);
    wait("all", || process.told().len() == 3).await;
    let before = ids(&process);
    process.stop().await;
    let process = Process::start(&files, settings);
    wait("all again", || process.told().len() == 3).await;
    assert_eq!(ids(&process), before);
    process.stop().await;
}

#[tokio::test]
async fn a_lease_keeps_positions_without_a_volume() {
    let hostile = with_widgets(3).await;
    let settings = "watch: [{type: example.com/v1/Widget}]\n\
                    cursor: {store: lease, namespace: default, name: cursors}";
    for lost in [false, true] {
        let files = files(&hostile);
        let before = hostile.objects("Widget").len();
        let process = Process::start(&files, settings);
        wait("something kept", || {
            let lease = hostile.objects("Lease").remove("default/cursors");
            lease.is_some_and(|lease| lease.value["metadata"]["annotations"].as_object().is_some())
        })
        .await;
        process.converged(&hostile, "Widget", WIDGET).await;
        process.stop().await;
        hostile.create("Widget", "default", &format!("new-{lost}"), json!({}));
        if lost {
            hostile.lose_history();
        }
        let process = Process::start(&files, settings);
        process.converged(&hostile, "Widget", WIDGET).await;
        wait("the new one", || !process.told().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(process.told().len(), 1, "of {before} and one: {:?}", process.told());
        process.stop().await;
    }
}
