//! The state table: the last value of every key, as the log's records make it.
//!
//! All of it is persistent, so a snapshot is a clone and reading one holds up no writer. Applying a record
//! is deterministic: the same log gives the same table.

use std::ops::Bound;
use std::sync::Arc;

use bytestring::ByteString;
use imbl::{OrdMap, Vector};

use super::envelope::{Change, Key, Seq, Version};
use super::error::Refused;
use super::log::Gone;
use super::record::Record;
use super::write::Precondition;

/// The bounds of the table. A full one refuses new keys and never evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBound {
    /// Most keys.
    pub max_keys: usize,
    /// Most bytes of all values, as [`Envelope::weight`](super::Envelope::weight) counts them.
    pub max_bytes: usize,
    /// Most deletions remembered for those who resume.
    pub max_tombstones: usize,
}

impl Default for StateBound {
    fn default() -> Self {
        Self { max_keys: 1_000_000, max_bytes: 1 << 30, max_tombstones: 100_000 }
    }
}

/// The last value of every key, by key and by the sequence of its last change.
#[derive(Clone, Debug)]
pub struct State {
    bound: StateBound,
    keys: OrdMap<Key, Arc<Record>>,
    /// The last change of every key, and remembered deletions.
    changes: OrdMap<u64, Arc<Record>>,
    /// Their sequences, the oldest first.
    tombstones: Vector<u64>,
    bytes: usize,
    /// The sequence of the last record applied.
    seq: Seq,
    /// Deletions up to here are forgotten.
    forgotten: Seq,
}

/// A consistent view of the table: a clone, which costs nothing and never changes.
pub type Snapshot = Arc<State>;

impl State {
    /// An empty table that follows a log beginning after `start`.
    pub fn new(bound: StateBound, start: Seq) -> Self {
        Self {
            bound,
            keys: OrdMap::new(),
            changes: OrdMap::new(),
            tombstones: Vector::new(),
            bytes: 0,
            seq: start,
            forgotten: start,
        }
    }

    /// The record that made the key what it is.
    pub fn get(&self, key: &Key) -> Option<&Arc<Record>> {
        self.keys.get(key)
    }

    /// The position this table shows: that of the last record applied.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The keys of a scope and type (all where `None`) in order, those after `after` only.
    pub fn range<'a>(
        &'a self,
        scope: Option<&'a str>,
        type_url: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        let first = Key::new(
            ByteString::from(scope.unwrap_or_default()),
            ByteString::from(scope.and(type_url).unwrap_or_default()),
            "",
        );
        let from = match after {
            Some(after) if *after >= first => Bound::Excluded(after.clone()),
            _ => Bound::Included(first),
        };
        // The range ends with the scope, and with the type where the scope is fixed: it is never scanned on.
        let within = move |key: &Key| {
            scope.is_none_or(|scope| key.scope == scope)
                && (scope.is_none() || type_url.is_none_or(|type_url| key.type_url == type_url))
        };
        self.keys
            .range((from, Bound::Unbounded))
            .take_while(move |(key, _)| within(key))
            .filter(move |(key, _)| type_url.is_none_or(|type_url| key.type_url == type_url))
            .map(|(_, record)| record)
    }

    /// The types there are in a scope, in order. Costs a look-up each, however many keys they have.
    pub fn types<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a ByteString> {
        let mut from = Bound::Included(Key::new(ByteString::from(scope), "", ""));
        std::iter::from_fn(move || {
            let range = (from.clone(), Bound::Unbounded);
            let (key, _) = self.keys.range(range).next().filter(|(key, _)| key.scope == *scope)?;
            // The text right after this type's in order: the next type begins there or later.
            let after = format!("{}\0", key.type_url);
            from = Bound::Included(Key::new(key.scope.clone(), after, ""));
            Some(&key.type_url)
        })
    }

    /// The last change of every key changed after `after`, deletions included, in order of sequence.
    ///
    /// # Errors
    /// [`Gone`] when a deletion since then is forgotten.
    pub fn changes_after(&self, after: Seq) -> Result<impl Iterator<Item = &Arc<Record>>, Gone> {
        if after < self.forgotten {
            return Err(Gone { oldest: self.forgotten });
        }
        let from = (Bound::Excluded(after.0), Bound::Unbounded);
        Ok(self.changes.range(from).map(|(_, record)| record))
    }

    /// Whether a precondition holds for the key now.
    ///
    /// # Errors
    /// [`Refused::Conflict`] with what the table has.
    pub fn check(&self, key: &Key, precondition: &Precondition) -> Result<(), Refused> {
        let current = self.get(key).map(|record| (record.seq, version_of(record)));
        let holds = match (precondition, &current) {
            (Precondition::Any, _) | (Precondition::Absent, None) => true,
            (Precondition::Seq(seq), Some((have, _))) => seq == have,
            (Precondition::Version(version), Some((_, have))) => version == have,
            (Precondition::Absent, Some(_)) | (Precondition::Seq(_) | Precondition::Version(_), None) => {
                false
            }
        };
        if holds { Ok(()) } else { Err(Refused::Conflict { current }) }
    }

    /// Whether the table can take a value of `weight` bytes for the key.
    ///
    /// # Errors
    /// [`Refused::Full`] naming the bound.
    pub fn admit(&self, key: &Key, weight: usize) -> Result<(), Refused> {
        let old = self.get(key).map(|record| record.weight);
        if old.is_none() && self.keys.len() >= self.bound.max_keys {
            return Err(Refused::Full(format!("state.max_keys {} reached", self.bound.max_keys)));
        }
        if self.bytes - old.unwrap_or(0) + weight > self.bound.max_bytes {
            return Err(Refused::Full(format!("state.max_bytes {} reached", self.bound.max_bytes)));
        }
        Ok(())
    }

    /// Applies the next record of the log. Events only move the position.
    pub fn apply(&mut self, record: &Arc<Record>) {
        self.seq = record.seq;
        let key = match &record.envelope.change {
            Change::Occurred => return,
            Change::Put(key, _) => {
                self.bytes += record.weight;
                self.replace(key, Some(record));
                key
            }
            Change::Delete(key, ..) => {
                self.replace(key, None);
                self.bury(record.seq.0);
                key
            }
        };
        debug_assert_eq!(self.keys.contains_key(key), matches!(record.envelope.change, Change::Put(..)));
        self.changes.insert(record.seq.0, Arc::clone(record));
    }

    fn replace(&mut self, key: &Key, record: Option<&Arc<Record>>) {
        let old = match record {
            Some(record) => self.keys.insert(key.clone(), Arc::clone(record)),
            None => self.keys.remove(key),
        };
        if let Some(old) = old {
            self.bytes -= old.weight;
            self.changes.remove(&old.seq.0);
        }
    }

    fn bury(&mut self, seq: u64) {
        self.tombstones.push_back(seq);
        if self.tombstones.len() > self.bound.max_tombstones
            && let Some(oldest) = self.tombstones.pop_front()
        {
            self.changes.remove(&oldest);
            self.forgotten = Seq(oldest);
        }
    }
}

/// The version a record gives its key: the source's own, or the sequence where it gave none.
pub fn version_of(record: &Record) -> Version {
    match &record.envelope.change {
        Change::Put(_, version) | Change::Delete(_, version, _) if !version.is_empty() => version.clone(),
        _ => record.seq.to_string().into(),
    }
}
