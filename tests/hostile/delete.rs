//! Deletion, and what every committed write has in common.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use super::chaos::Fault;
use super::kinds::{NAMESPACE, Target};
use super::selector::Selector;
use super::status::Refusal;
use super::store::{State, Write, now};
use super::write::{Call, Written, key_of};

impl Shared {
    /// Deletes one object; answers it as it was, and whether it is gone already.
    pub(crate) fn delete(&self, target: &Target, options: &Value, call: &Call) -> Result<Written, Refusal> {
        let state = &mut *self.state.lock();
        let kind = state.kinds[target.kind].clone();
        let (key, name) = key_of(&kind, target);
        let old = state.objects(target.kind).get(&key).cloned();
        let old = old.ok_or_else(|| Refusal::not_found(&kind, &name))?;
        let wanted = &options["preconditions"];
        let known = &old["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !wanted["uid"].is_null() && wanted["uid"] != known["uid"] {
            let what = format!(
                "the UID in the precondition ({}) does not match the UID in record ({}). The object might have \
                 been deleted and then recreated",
                text(&wanted["uid"]),
                text(&known["uid"])
            );
            return Err(Refusal::precondition(&kind, &name, &what));
        }
        if !wanted["resourceVersion"].is_null() && wanted["resourceVersion"] != known["resourceVersion"] {
            let what = format!(
                "the ResourceVersion in the precondition ({}) does not match the ResourceVersion in record ({}). \
                 The object might have been modified",
                text(&wanted["resourceVersion"]),
                text(&known["resourceVersion"])
            );
            return Err(Refusal::precondition(&kind, &name, &what));
        }
        if call.dry_run {
            return Ok((old, true));
        }
        Ok(self.delete_in(state, target.kind, &key, &old, call))
    }

    fn delete_in(
        &self,
        state: &mut State,
        kind: usize,
        key: &str,
        old: &Arc<Value>,
        call: &Call,
    ) -> Written {
        let held = old["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        if held {
            if !old["metadata"]["deletionTimestamp"].is_null() {
                return (Arc::clone(old), false);
            }
            let mut new = Value::clone(old);
            new["metadata"]["deletionTimestamp"] = now().into();
            new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            return (self.commit(state, kind, key, new, call, "delete"), false);
        }
        if kind == NAMESPACE {
            let mut new = Value::clone(old);
            new["metadata"]["deletionTimestamp"] = now().into();
            new["status"] = json!({"phase": "Terminating"});
            let terminating = self.commit(state, kind, key, new, call, "delete");
            self.empty_namespace(state, key, call);
            self.remove(state, kind, key, call);
            return (terminating, false);
        }
        self.remove(state, kind, key, call);
        (Arc::clone(old), true)
    }

    /// A namespace takes with it what is in it.
    fn empty_namespace(&self, state: &mut State, namespace: &str, call: &Call) {
        let prefix = format!("{namespace}/");
        for kind in (0..state.kinds.len()).filter(|kind| *kind != NAMESPACE) {
            if !state.kinds[kind].namespaced {
                continue;
            }
            let inside = |key: &&String| key.starts_with(&prefix);
            let keys: Vec<String> = state.objects(kind).keys().filter(inside).cloned().collect();
            for key in keys {
                self.remove(state, kind, &key, call);
            }
        }
    }

    /// Deletes all that match, each with a change of its own; answers them as they were.
    pub(crate) fn delete_collection(
        &self,
        target: &Target,
        selector: &Selector,
        call: &Call,
    ) -> Vec<Arc<Value>> {
        let state = &mut *self.state.lock();
        let prefix = target.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let found: Vec<(String, Arc<Value>)> = state
            .objects(target.kind)
            .iter()
            .filter(|(key, object)| key.starts_with(&prefix) && selector.matches(object))
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for (key, object) in found.iter().filter(|_| !call.dry_run) {
            self.delete_in(state, target.kind, key, object, call);
        }
        found.into_iter().map(|(_, object)| object).collect()
    }

    pub(super) fn commit(
        &self,
        state: &mut State,
        kind: usize,
        key: &str,
        new: Value,
        call: &Call,
        verb: &'static str,
    ) -> Arc<Value> {
        let (rv, stored) = state.commit(kind, key, Some(new));
        self.wrote(state, kind, key, rv, call, verb);
        stored.unwrap_or_default()
    }

    pub(super) fn remove(&self, state: &mut State, kind: usize, key: &str, call: &Call) {
        let (rv, _) = state.commit(kind, key, None);
        self.wrote(state, kind, key, rv, call, "delete");
    }

    fn wrote(&self, state: &mut State, kind: usize, key: &str, rv: u64, call: &Call, verb: &'static str) {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        state.writes.push(Write {
            verb,
            kind: state.kinds[kind].kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            author: call.author.clone(),
            rv,
            by_client: call.by_client,
        });
        if self.chaos.strikes(Fault::Compaction) {
            state.compact(self.chaos.pick(1..10));
        }
        self.changed.send_replace(());
    }
}
