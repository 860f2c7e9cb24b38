//! The test's own hands in the server: objects, numbered Events, and the truth of what happened.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::event_form;
use super::kinds::{EVENT, Target};
use super::store::{ChangeType, State, now, now_micro};
use super::write::Call;
use super::{Hostile, patch};

/// An object as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) uid: String,
    pub(crate) rv: u64,
    pub(crate) value: Value,
}

/// One change that happened, told by the server.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) change: ChangeType,
    /// The resource version it made.
    pub(crate) rv: u64,
    /// `namespace/name`, or the name of what is in no namespace.
    pub(crate) key: String,
    pub(crate) uid: String,
    /// The object after it; before a deletion.
    pub(crate) value: Value,
}

/// The field manager of what the test itself writes.
pub(crate) const TEST: &str = "test";

impl Hostile {
    /// Creates an object; `value` is what there is beside its name. Answers it as stored.
    pub(crate) fn create(&self, kind: &str, namespace: &str, name: &str, mut value: Value) -> Value {
        let target = Target { name: None, ..self.target(kind, namespace, name) };
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        value["metadata"]["name"] = name.into();
        self.name_type(&mut value, target.kind);
        let (object, _) =
            self.shared.create(&target, value, &call()).expect("the test creates what it may");
        Value::clone(&object)
    }

    /// Replaces an object, but for its identity, whatever its version.
    pub(crate) fn update(&self, kind: &str, namespace: &str, name: &str, mut value: Value) -> Value {
        let target = self.target(kind, namespace, name);
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        value["metadata"]["name"] = name.into();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.shift_remove("resourceVersion");
        }
        self.name_type(&mut value, target.kind);
        let (object, _) = self.shared.replace(&target, value, &call()).expect("the test replaces what is");
        Value::clone(&object)
    }

    /// Merges a patch into an object.
    pub(crate) fn patch(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Value {
        let target = self.target(kind, namespace, name);
        let body = patch.to_string();
        let media_type = "application/merge-patch+json";
        let written = self.shared.patch(&target, media_type, body.as_bytes(), &call());
        Value::clone(&written.expect("the test patches what is").0)
    }

    /// Deletes an object; whether it is gone already: one with finalizers is not.
    pub(crate) fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let target = self.target(kind, namespace, name);
        self.shared.delete(&target, &Value::Null, &call()).expect("the test deletes what is").1
    }

    /// Creates the Event `ev-<number>` in a namespace, about a Pod `pod-<number mod 7>`.
    pub(crate) fn emit(&self, namespace: &str, number: u64) -> Value {
        let seconds = now();
        let pod = format!("pod-{}", number % 7);
        let event = json!({
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod},
            "reason": REASONS[number as usize % REASONS.len()], "message": format!("event number {number}"),
            "type": if number.is_multiple_of(3) { "Warning" } else { "Normal" },
            "source": {"component": "generator"}, "reportingComponent": "generator", "reportingInstance": "g-1",
            "count": 1, "firstTimestamp": seconds, "lastTimestamp": seconds,
        });
        self.create("Event", namespace, &event_name(number), event)
    }

    /// Repeats an Event: the old way with its count, or the new way with its series.
    pub(crate) fn repeat(&self, namespace: &str, name: &str, series: bool) -> Value {
        let key = format!("{namespace}/{name}");
        let event = {
            let state = self.shared.state.lock();
            state.objects(EVENT).get(&key).map(|event| Value::clone(event)).expect("an Event to repeat")
        };
        let change = if series {
            let count = event["series"]["count"].as_u64().unwrap_or(1) + 1;
            json!({"series": {"count": count, "lastObservedTime": now_micro()}})
        } else {
            json!({"count": event["count"].as_u64().unwrap_or(1) + 1, "lastTimestamp": now()})
        };
        self.patch("Event", namespace, name, &change)
    }

    /// Emits the Events of these numbers in random namespaces; after each, one of them may be repeated, with this
    /// probability. Answers how many repeats there were.
    pub(crate) fn emit_many(&self, numbers: std::ops::Range<u64>, repeats: f64) -> u64 {
        let namespaces: Vec<String> = {
            let state = self.shared.state.lock();
            state.objects(super::kinds::NAMESPACE).keys().cloned().collect()
        };
        let mut emitted: Vec<(String, String)> = Vec::new();
        let mut repeated = 0;
        for number in numbers {
            let at = self.shared.chaos.pick(0..namespaces.len() as u64) as usize;
            self.emit(&namespaces[at], number);
            emitted.push((namespaces[at].clone(), event_name(number)));
            if (self.shared.chaos.pick(0..1_000_000) as f64) < repeats * 1_000_000.0 {
                let (namespace, name) = &emitted[self.shared.chaos.pick(0..emitted.len() as u64) as usize];
                self.repeat(namespace, name, self.shared.chaos.coin());
                repeated += 1;
            }
        }
        repeated
    }

    /// The oldest `count` Events reach the end of their life: deleted by nobody. Answers how many there were.
    pub(crate) fn expire_events(&self, count: usize) -> usize {
        let oldest = {
            let state = self.shared.state.lock();
            let mut events: Vec<(u64, String)> =
                state.objects(EVENT).iter().map(|(key, event)| (version_of(event), key.clone())).collect();
            events.sort_unstable();
            events.truncate(count);
            events
        };
        let state = &mut *self.shared.state.lock();
        for (_, key) in &oldest {
            state.commit(EVENT, key, None);
        }
        self.shared.changed.send_replace(());
        oldest.len()
    }

    /// Objects of a kind by `namespace/name`, or name: the truth a client must arrive at.
    pub(crate) fn objects(&self, kind: &str) -> BTreeMap<String, Object> {
        let state = self.shared.state.lock();
        let object = |value: &Value| Object {
            uid: value["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            rv: version_of(value),
            value: value.clone(),
        };
        let objects = state.objects(number_of(&state, kind)).iter();
        objects.map(|(key, value)| (key.clone(), object(value))).collect()
    }

    /// Every change of a kind since the server began, in order, compacted ones too.
    pub(crate) fn history(&self, kind: &str) -> Vec<Happened> {
        let state = self.shared.state.lock();
        let number = number_of(&state, kind);
        let of_kind = state.changes().iter().filter(|change| change.kind == number);
        let told = of_kind.map(|change| {
            let value = change.object();
            Happened {
                change: change.change_type(),
                rv: change.rv,
                key: change.key.clone(),
                uid: value["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                value,
            }
        });
        told.collect()
    }

    /// The newest resource version of a kind's storage.
    pub(crate) fn rv(&self, kind: &str) -> u64 {
        let state = self.shared.state.lock();
        state.rv(number_of(&state, kind))
    }

    /// An Event, as stored, in the form of events.k8s.io/v1.
    pub(crate) fn as_events_v1(event: &Value) -> Value {
        event_form::to_events_v1(event)
    }

    fn target(&self, kind: &str, namespace: &str, name: &str) -> Target {
        let state = self.shared.state.lock();
        let kind = number_of(&state, kind);
        let namespace = state.kinds[kind].namespaced.then(|| namespace.to_owned());
        let name = Some(name.to_owned());
        Target { kind, events_v1: false, namespace, name, subresource: None, watch: false }
    }

    fn name_type(&self, value: &mut Value, kind: usize) {
        let state = self.shared.state.lock();
        let about = &state.kinds[kind];
        let types = json!({"apiVersion": about.api_version(), "kind": about.kind});
        patch::merge(value, &types, false, 0);
    }
}

/// Reasons of generated Events, by number.
const REASONS: [&str; 5] = ["Scheduled", "Pulled", "Created", "BackOff", "Unhealthy"];

/// `ev-000123`.
pub(crate) fn event_name(number: u64) -> String {
    format!("ev-{number:06}")
}

fn call() -> Call {
    Call { author: TEST.to_owned(), ..Call::default() }
}

fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|rv| rv.parse().ok()).unwrap_or(0)
}

fn number_of(state: &State, kind: &str) -> usize {
    let named = |about: &super::Kind| about.kind == kind;
    state.kinds.iter().position(named).unwrap_or_else(|| panic!("the hostile server has no kind {kind}"))
}
