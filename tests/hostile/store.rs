//! What the hostile API server keeps: objects, every change of them, and what was asked of it.
//!
//! Changes are never forgotten, so a test can hold what a client saw against all that happened; compaction only says
//! which resource versions a client may still start from.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::{EVENT, Kind, NAMESPACE};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeType {
    Added,
    Modified,
    Deleted,
}

/// One change, as it was committed.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The resource version it made; of a deletion, the deletion's.
    pub(crate) rv: u64,
    /// Index into the table of kinds.
    pub(crate) kind: usize,
    /// `namespace/name`, or the name of what is in no namespace.
    pub(crate) key: String,
    pub(crate) old: Option<Arc<Value>>,
    pub(crate) new: Option<Arc<Value>>,
}

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) user_agent: String,
    pub(crate) watch: bool,
}

/// One write that was committed.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) verb: &'static str,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The field manager.
    pub(crate) author: String,
    pub(crate) rv: u64,
    /// Whether a client did it, and not the test itself.
    pub(crate) by_client: bool,
}

/// One source of resource versions.
#[derive(Debug, Default)]
struct Counter {
    rv: u64,
    compacted: u64,
}

/// Everything, under one lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) kinds: Vec<Kind>,
    objects: Vec<BTreeMap<String, Arc<Value>>>,
    changes: Vec<Change>,
    main: Counter,
    /// Of Events, when they are kept in a storage of their own.
    events: Option<Counter>,
    /// Where the caches of all kinds but Events begin.
    cached_from: u64,
    pub(crate) requests: Vec<Request>,
    pub(crate) writes: Vec<Write>,
}

/// Most changes in one test, and most requests: beyond, the test itself is wrong.
const RECORDS_MAX: usize = 2_000_000;

impl State {
    pub(crate) fn new(kinds: Vec<Kind>, first: u64, separate_events: bool) -> Self {
        let counter = |rv| Counter { rv, compacted: rv };
        Self {
            objects: vec![BTreeMap::new(); kinds.len()],
            kinds,
            changes: Vec::new(),
            main: counter(first),
            events: separate_events.then(|| counter(first / 3)),
            cached_from: first,
            requests: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn counter(&self, kind: usize) -> &Counter {
        self.events.as_ref().filter(|_| kind == EVENT).unwrap_or(&self.main)
    }

    fn counter_mut(&mut self, kind: usize) -> &mut Counter {
        self.events.as_mut().filter(|_| kind == EVENT).unwrap_or(&mut self.main)
    }

    /// The newest resource version.
    pub(crate) fn rv(&self, kind: usize) -> u64 {
        self.counter(kind).rv
    }

    /// The oldest resource version that can be listed exactly.
    pub(crate) fn compacted(&self, kind: usize) -> u64 {
        self.counter(kind).compacted
    }

    /// The oldest resource version a watch may start from.
    pub(crate) fn watchable_from(&self, kind: usize) -> u64 {
        let compacted = self.compacted(kind);
        if kind == EVENT { compacted } else { compacted.max(self.cached_from) }
    }

    /// Objects of a kind by key, now.
    pub(crate) fn objects(&self, kind: usize) -> &BTreeMap<String, Arc<Value>> {
        &self.objects[kind]
    }

    /// Objects of a kind by key, as they were at `rv`.
    pub(crate) fn objects_at(&self, kind: usize, rv: u64) -> BTreeMap<String, Arc<Value>> {
        let mut objects = self.objects[kind].clone();
        for change in self.changes.iter().rev().filter(|change| change.kind == kind) {
            if change.rv <= rv {
                break;
            }
            match &change.old {
                Some(old) => objects.insert(change.key.clone(), Arc::clone(old)),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Index of the first change of a kind after `rv`.
    pub(crate) fn first_after(&self, kind: usize, rv: u64) -> usize {
        let before = |change: &Change| change.kind == kind && change.rv <= rv;
        self.changes.iter().rposition(before).map_or(0, |at| at + 1)
    }

    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.objects[NAMESPACE].contains_key(name)
    }

    /// Makes `new` the object of this key, or none; answers it with its resource version.
    pub(crate) fn commit(
        &mut self,
        kind: usize,
        key: &str,
        new: Option<Value>,
    ) -> (u64, Option<Arc<Value>>) {
        assert!(self.changes.len() < RECORDS_MAX, "more than {RECORDS_MAX} changes in one test");
        let counter = self.counter_mut(kind);
        counter.rv += 1;
        let rv = counter.rv;
        let new = new.map(|mut object| {
            object["metadata"]["resourceVersion"] = rv.to_string().into();
            Arc::new(object)
        });
        let old = match &new {
            Some(object) => self.objects[kind].insert(key.to_owned(), Arc::clone(object)),
            None => self.objects[kind].remove(key),
        };
        self.changes.push(Change { rv, kind, key: key.to_owned(), old, new: new.clone() });
        (rv, new)
    }

    /// Others wrote `by` times, then all resource versions before were compacted away.
    pub(crate) fn compact(&mut self, by: u64) {
        for counter in std::iter::once(&mut self.main).chain(&mut self.events) {
            counter.rv += by;
            counter.compacted = counter.rv;
        }
    }

    /// The caches start again from what is stored.
    pub(crate) fn drop_caches(&mut self) {
        self.cached_from = self.main.rv;
    }

    pub(crate) fn log(&mut self, request: Request) {
        assert!(self.requests.len() < RECORDS_MAX, "more than {RECORDS_MAX} requests in one test");
        self.requests.push(request);
    }
}

impl Change {
    pub(crate) fn change_type(&self) -> ChangeType {
        match (&self.old, &self.new) {
            (None, _) => ChangeType::Added,
            (Some(_), Some(_)) => ChangeType::Modified,
            (Some(_), None) => ChangeType::Deleted,
        }
    }

    /// The object: of a deletion, its last state with the deletion's resource version.
    pub(crate) fn object(&self) -> Value {
        match (&self.new, &self.old) {
            (Some(new), _) => Value::clone(new),
            (None, Some(old)) => with_version(old, self.rv),
            (None, None) => json!({}),
        }
    }
}

/// The object with another resource version.
pub(crate) fn with_version(object: &Value, rv: u64) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = rv.to_string().into();
    object
}

/// Now, as `metadata` has it: whole seconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, in microseconds.
pub(crate) fn now_micro() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
