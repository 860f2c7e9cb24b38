//! Every fault at once, while objects and Events come and go, and the process is killed now and then.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::json;

use super::{Process, files, wait};
use crate::hostile::{FAULTS, Fault, Hostile, Options, event_name};

const SETTINGS: &str = "watch: [{type: example.com/v1/Widget}, {type: v1/Event}]\n\
                        cursor: {store: file, path: FILE}\npage_size: 7\nin_flight: 64\ntimeout: 2s";
const WIDGET: &str = "example.com/v1/Widget";

/// Some changes of Widgets: created, changed, deleted, created anew.
fn stir(hostile: &Hostile, dice: &mut fastrand::Rng) {
    let name = format!("w{}", dice.u8(0..20));
    let key = format!("default/{name}");
    if !hostile.objects("Widget").contains_key(&key) {
        hostile.create("Widget", "default", &name, json!({"spec": {"size": dice.u16(..)}}));
    } else if dice.u8(0..4) == 0 {
        hostile.delete("Widget", "default", &name);
    } else {
        hostile.patch("Widget", "default", &name, &json!({"spec": {"size": dice.u16(..)}}));
    }
}

/// What a consumer of the route believes there is, having applied all it was told.
fn believed(process: &Process, from: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut state = from;
    for told in process.told.lock().iter().filter(|told| told.envelope.topic.as_str().contains("/Widget/"))
    {
        if told.deleted {
            state.remove(&told.name);
        } else {
            state.insert(told.name.clone(), told.version.clone());
        }
    }
    state
}

fn truth(hostile: &Hostile) -> BTreeMap<String, String> {
    hostile.objects("Widget").into_iter().map(|(name, object)| (name, object.rv.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_alone_leaves_table_and_consumers_with_the_truth() {
    for (at, fault) in FAULTS.into_iter().enumerate() {
        // Lists come in both ways.
        let watch_list = at % 2 == 1 && fault != Fault::NoRemaining;
        let options = Options { retry_after: 0, watch_list, ..Options::default() };
        let hostile = Hostile::start(at as u64, options).await;
        let files = files(&hostile);
        let process = Process::start(&files, SETTINGS);
        wait("the watches", || hostile.watchers() == 2).await;
        let mut dice = fastrand::Rng::with_seed(at as u64);
        let often = if matches!(fault, Fault::Restart | Fault::Compaction) { 0.05 } else { 0.3 };
        hostile.set_fault(fault, often);
        for _ in 0..60 {
            stir(&hostile, &mut dice);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        hostile.quiet();
        process.converged(&hostile, "Widget", WIDGET).await;
        wait(&format!("{fault:?}: the consumer believes the truth"), || {
            believed(&process, BTreeMap::new()) == truth(&hostile)
        })
        .await;
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_faults_and_kills_leave_table_and_consumers_with_the_truth_and_every_event_told() {
    for seed in 0..4 {
        let options = Options { retry_after: 0, watch_list: seed % 2 == 0, ..Options::default() };
        let hostile = Hostile::start(seed, options).await;
        let files = files(&hostile);
        let mut dice = fastrand::Rng::with_seed(seed);
        for fault in FAULTS {
            let rare = matches!(fault, Fault::Restart | Fault::Compaction | Fault::GoneAtStart);
            hostile.set_fault(fault, if rare { 0.01 } else { 0.05 });
        }
        let mut state = BTreeMap::new();
        let mut events = HashSet::new();
        let mut number = 0;
        for round in 0..4 {
            let process = Process::start(&files, SETTINGS);
            for _ in 0..40 {
                stir(&hostile, &mut dice);
                hostile.emit("default", number);
                number += 1;
                tokio::time::sleep(Duration::from_millis(dice.u64(0..8))).await;
            }
            if round == 3 {
                hostile.quiet();
                process.converged(&hostile, "Widget", WIDGET).await;
                process.converged(&hostile, "Event", "core/v1/Event").await;
                let believes = || believed(&process, state.clone()) == truth(&hostile);
                for _ in 0..1000 {
                    if believes() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(
                    believed(&process, state.clone()),
                    truth(&hostile),
                    "the consumer believes the truth"
                );
                let all: HashSet<String> =
                    (0..number).map(|number| format!("default/{}", event_name(number))).collect();
                wait("every Event told", || {
                    let told = process.told.lock();
                    let mut seen = events.clone();
                    seen.extend(told.iter().map(|told| told.name.clone()));
                    all.is_subset(&seen)
                })
                .await;
                process.stop().await;
                continue;
            }
            let told = std::sync::Arc::clone(&process.told);
            process.kill().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let told = told.lock();
            for told in told.iter() {
                if told.envelope.topic.as_str().contains("/Event/") {
                    events.insert(told.name.clone());
                } else if told.deleted {
                    state.remove(&told.name);
                } else {
                    state.insert(told.name.clone(), told.version.clone());
                }
            }
        }
    }
}
