//! What there is to see of informers that are not in step: in what they differ, what they were told last, what the bus
//! and the system say of their connections, and whether time heals it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use meshbus::core::Timestamp;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::informers::{entry, truth};
use super::python::{Held, Informer};
use super::rig::Api;
use crate::process::until;

/// How long informers have.
const IN_STEP: Duration = Duration::from_mins(2);
/// How long those that took longer are looked at, in all. kube-rs ends a watch after 290 s and asks again, so what comes
/// into step about then was told nothing by a stream that it had no reason to leave.
const LOOKED_AT: Duration = Duration::from_secs(310);
/// How long the bus has to say what it holds.
const TRUTH: Duration = Duration::from_secs(30);
/// Outcomes kept of each informer.
const KEPT: usize = 50;
/// Differences shown of each class.
const SHOWN: usize = 5;

/// The last outcomes of an informer's watcher.
#[derive(Clone, Default)]
pub(super) struct Outcomes(Arc<Mutex<VecDeque<Outcome>>>);

/// One, or many of a list in a row.
struct Outcome {
    since: Timestamp,
    last: Timestamp,
    times: usize,
    what: &'static str,
    about: String,
}

/// An object of a list: those in a row are one outcome.
const LISTED: &str = "listed";

impl Outcomes {
    /// What a watcher gave.
    pub(super) fn note(&self, outcome: &Result<watcher::Event<ConfigMap>, watcher::Error>) {
        let about = |object: &ConfigMap| {
            let version = object.resource_version().unwrap_or_default();
            format!("{} at resourceVersion {version}", entry(object).0)
        };
        match outcome {
            Ok(watcher::Event::Apply(object)) => self.push("applied", about(object)),
            Ok(watcher::Event::Delete(object)) => self.push("deleted", about(object)),
            Ok(watcher::Event::Init) => self.push("begins a list", String::new()),
            Ok(watcher::Event::InitApply(object)) => self.push(LISTED, about(object)),
            Ok(watcher::Event::InitDone) => self.push("has the list", String::new()),
            Err(error) => self.failed(error),
        }
    }

    pub(super) fn failed(&self, error: &(impl Display + std::fmt::Debug)) {
        let text: String = format!("{error}: {error:?}").chars().take(600).collect();
        self.push("failed", text);
    }

    pub(super) fn push(&self, what: &'static str, about: String) {
        let (now, mut kept) = (Timestamp::now(), self.0.lock());
        if let Some(last) = kept.back_mut().filter(|last| what == LISTED && last.what == LISTED) {
            (last.last, last.times, last.about) = (now, last.times + 1, about);
            return;
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Outcome { since: now.clone(), last: now, times: 1, what, about });
    }

    fn show(&self) {
        for Outcome { since, last, times, what, about } in &*self.0.lock() {
            match times {
                1 => println!("    {} {what} {about}", since.text()),
                _ => println!("    {} to {} {what} {times}, the last: {about}", since.text(), last.text()),
            }
        }
    }
}

/// An informer of kube-rs.
pub(super) struct Watched {
    pub(super) who: &'static str,
    pub(super) store: Store<ConfigMap>,
    pub(super) outcomes: Outcomes,
}

impl Watched {
    fn held(&self) -> Held {
        self.store.state().iter().map(|object| entry(object)).collect()
    }
}

/// Informers that are to have what is expected.
pub(super) struct Scene<'a> {
    pub(super) what: String,
    pub(super) api: &'a Api,
    pub(super) client: &'a Client,
    pub(super) informers: &'a [Watched],
    pub(super) expected: &'a Held,
    pub(super) since: Instant,
}

impl Scene<'_> {
    /// Waits until each of kube-rs has it.
    pub(super) async fn in_step(&self, python: &mut Informer) {
        for it in self.informers {
            let what = format!("{} is in step", it.who);
            self.wait(&what, python, || it.held() == *self.expected).await;
        }
    }

    /// Waits until `ready`; shows all there is to see where that takes too long, and fails.
    pub(super) async fn wait(&self, what: &str, python: &mut Informer, mut ready: impl FnMut() -> bool) {
        let waits = until(what, IN_STEP * 2, async || ready().then_some(()));
        if timeout(IN_STEP, waits).await.is_err() {
            self.fail(&format!("not within {IN_STEP:?}: {what}"), python).await;
        }
    }

    /// Shows all there is to see, and fails.
    pub(super) async fn fail(&self, why: &str, python: &mut Informer) -> ! {
        println!("{}: {why}. What there is to see at {}:", self.what, Timestamp::now().text());
        let truth = self.truth().await;
        self.bus().await;
        self.connections();
        self.compare(&truth, python).await;
        self.look_on(&truth).await;
        println!("After {} s:", self.since.elapsed().as_secs());
        self.compare(&truth, python).await;
        panic!("{}: {why}; see above", self.what);
    }

    /// What the bus holds now, and whether it is what it held before.
    async fn truth(&self) -> Held {
        let Ok(truth) = timeout(TRUTH, truth(self.client)).await else {
            println!("  the bus: gives no list within {TRUTH:?}");
            return self.expected.clone();
        };
        println!("  the bus: {} objects; before, {}", truth.len(), differences(self.expected, &truth));
        truth
    }

    async fn compare(&self, truth: &Held, python: &mut Informer) {
        for it in self.informers {
            println!("  {}: {}; it was told:", it.who, differences(&it.held(), truth));
            it.outcomes.show();
        }
        let told = python.now().await;
        let relists = told.relists;
        println!("  Python: {}; listed {relists} times; it was told:", differences(&told.objects, truth));
        told.outcomes.iter().for_each(|outcome| println!("    {outcome}"));
    }

    /// What its metrics say: `meshbus_consumers` are the open watches, `lost` counts those that were too slow.
    async fn bus(&self) {
        let (_, text) = self.api.bus.health("/metrics").await.unwrap_or_default();
        println!("  metrics of the bus ({} bytes), all but zeros:", text.len());
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        samples.for_each(|sample| println!("    {sample}"));
    }

    /// What waits in the sockets, as the system has it: a peer that does not read shows as a queue.
    fn connections(&self) {
        let of = format!("( sport = :{0} or dport = :{0} )", self.api.port);
        match Command::new("ss").args(["-tnpo", &of]).output() {
            Ok(shown) => println!("  connections:\n{}", String::from_utf8_lossy(&shown.stdout)),
            Err(error) => println!("  connections: no ss: {error}"),
        }
    }

    /// Waits on, to see who comes into step after all, and when.
    async fn look_on(&self, truth: &Held) {
        let behind = |it: &&Watched| it.held() != *truth;
        let mut late: Vec<&Watched> = self.informers.iter().filter(behind).collect();
        while !late.is_empty() && self.since.elapsed() < LOOKED_AT {
            sleep(Duration::from_secs(1)).await;
            late.retain(|it| {
                let behind = behind(it);
                if !behind {
                    println!("  {} came into step after {} s", it.who, self.since.elapsed().as_secs());
                }
                behind
            });
        }
        for it in late {
            println!("  {} did not come into step", it.who);
        }
    }
}

/// In what an informer differs: what it does not have, has otherwise, and has that is gone, with the first few of each.
fn differences(has: &Held, truth: &Held) -> String {
    let missing = truth.iter().filter(|(key, _)| !has.contains_key(*key));
    let missing: Vec<String> = missing.map(|(key, value)| format!("{key} {value:?}")).collect();
    let stale = truth.iter().filter_map(|(key, value)| Some((key, has.get(key)?, value)));
    let stale = stale.filter(|(_, has, value)| has != value);
    let stale: Vec<String> =
        stale.map(|(key, has, value)| format!("{key} {has:?} instead of {value:?}")).collect();
    let extra = has.iter().filter(|(key, _)| !truth.contains_key(*key));
    let extra: Vec<String> = extra.map(|(key, value)| format!("{key} {value:?}")).collect();
    let classes = [("missing", missing), ("stale", stale), ("extra", extra)].map(|(class, found)| {
        let first = &found[..found.len().min(SHOWN)];
        if found.is_empty() { format!("{class} 0") } else { format!("{class} {} {first:?}", found.len()) }
    });
    classes.join(", ")
}
