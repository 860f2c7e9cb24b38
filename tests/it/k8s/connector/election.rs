//! Several buses and one cluster: one watches, and another goes on where it was.

use std::collections::HashSet;
use std::time::Duration;

use meshbus::core::write::{Operation, Precondition};
use meshbus::core::{Key, Refused};
use serde_json::json;

use super::{Process, files, wait};
use crate::hostile::{Hostile, Options};

const SETTINGS: &str = "watch: [{type: example.com/v1/Widget}]\ncursor: {store: lease}\n\
    leader_election: {namespace: default, name: lead, lease_duration: 2s, renew_deadline: 1s, retry_period: 200ms}";

#[tokio::test]
async fn b8_one_watches_and_a_standby_takes_over_where_it_was() {
    let hostile = Hostile::start(4, Options::default()).await;
    hostile.create("Widget", "default", "a", json!({}));
    let files = files(&hostile);
    let first = Process::start(&files, SETTINGS);
    wait("the first leads", || first.told().len() == 1).await;
    let second = Process::start(&files, SETTINGS);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(hostile.watchers(), 1, "a standby watches nothing");
    assert!(second.told().is_empty() && second.not_ready().is_none());
    let key = Key::new("east", "example.com/v1/Widget", "default/a");
    let refused = second.bus.write(key, Operation::Delete, Precondition::Any, false).await;
    let Err(Refused::Owner { status: 503, message, .. }) = refused else { panic!("{refused:?}") };
    let leader = hostile.objects("Lease").remove("default/lead").unwrap().value;
    let leader = leader["spec"]["holderIdentity"].as_str().unwrap();
    assert!(message.contains(leader) && message.contains("default/lead"), "{message}");
    assert_eq!(hostile.objects("Widget").len(), 1);
    first.stop().await;
    hostile.create("Widget", "default", "b", json!({}));
    wait("the second leads", || second.told().len() == 1).await;
    assert!(second.told()[0].starts_with("default/b@"), "only what is new: {:?}", second.told());
    second.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    let lease = hostile.objects("Lease").remove("default/lead").unwrap().value;
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    second.stop().await;
}

#[tokio::test]
async fn b8_who_cannot_renew_stops_before_another_begins() {
    let hostile = Hostile::start(4, Options::default()).await;
    let files = files(&hostile);
    let first = Process::start(&files, SETTINGS);
    wait("the first leads", || hostile.watchers() == 1).await;
    // Another one takes the Lease away, as if this one had been cut off for long.
    hostile.patch("Lease", "default", "lead", &json!({"spec": {"holderIdentity": "another"}}));
    wait("it has stopped", || hostile.watchers() == 0).await;
    hostile.create("Widget", "default", "a", json!({}));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(first.told().is_empty());
    wait("it takes over when that one is not heard of", || first.told().len() == 1).await;
    first.stop().await;
}

#[tokio::test]
async fn b8_among_several_nothing_is_missed_while_they_are_killed_in_turn() {
    let hostile = Hostile::start(4, Options::default()).await;
    let files = files(&hostile);
    let mut told = HashSet::new();
    let mut number = 0;
    let mut waiting = Process::start(&files, SETTINGS);
    for _ in 0..3 {
        let leading = std::mem::replace(&mut waiting, Process::start(&files, SETTINGS));
        wait("one leads", || hostile.watchers() == 1).await;
        for _ in 0..20 {
            hostile.create("Widget", "default", &format!("w{number}"), json!({}));
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all = std::sync::Arc::clone(&leading.told);
        leading.kill().await;
        told.extend(all.lock().iter().map(|told| told.name.clone()));
    }
    wait("every one told", || {
        let mut told = told.clone();
        told.extend(waiting.told.lock().iter().map(|told| told.name.clone()));
        told.len() == number
    })
    .await;
    waiting.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    waiting.stop().await;
}
