//! The state table: the last value of every key, as the log's records make it.
//!
//! All of it is persistent, so a snapshot is a clone and reading one holds up no writer. Applying a record
//! is deterministic: the same log gives the same table.

use std::ops::Bound;
use std::sync::Arc;

use bytestring::ByteString;
use imbl::{OrdMap, Vector};

use super::envelope::{Change, Envelope, Key, Seq, Version};
use super::error::Refused;
use super::log::Gone;
use super::packed::Packed;
use super::receipt::Receipt;
use super::record::Record;
use super::write::Precondition;

/// The bounds of the table. A full one refuses new keys and never evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBound {
    /// Most keys.
    pub max_keys: usize,
    /// Most bytes of all values, as [`RingBound`](super::log::RingBound) counts them but without those they replaced,
    /// and of the deletions remembered: these are forgotten first.
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
    types: OrdMap<Type, OrdMap<ByteString, Held>>,
    /// How many keys they have.
    len: usize,
    /// The last change of every key, and remembered deletions.
    changes: OrdMap<u64, Held>,
    /// Their sequences, the oldest first, and what they weigh.
    tombstones: Vector<(u64, usize)>,
    buried: usize,
    bytes: usize,
    /// The sequence of the last record applied.
    seq: Seq,
    /// Deletions up to here are forgotten.
    forgotten: Seq,
}

/// The keys of a type in a scope stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Type {
    scope: ByteString,
    type_url: ByteString,
}

/// A consistent view of the table: a clone, which costs nothing and never changes.
pub type Snapshot = Arc<State>;

/// The last change of a key: its record while the log holds it, then a packed form of it.
#[derive(Clone, Debug)]
pub struct Held(Form);

#[derive(Clone, Debug)]
enum Form {
    Whole(Arc<Record>),
    Packed(Arc<Packed>),
}

impl Held {
    /// One that the log holds.
    pub(crate) fn whole(record: Arc<Record>) -> Self {
        Self(Form::Whole(record))
    }

    /// The sequence of the change.
    pub fn seq(&self) -> Seq {
        match &self.0 {
            Form::Whole(record) => record.seq,
            Form::Packed(packed) => packed.seq,
        }
    }

    /// The record. One that was packed is put together again, without the value before it.
    pub fn record(&self) -> Arc<Record> {
        match &self.0 {
            Form::Whole(record) => Arc::clone(record),
            Form::Packed(packed) => Arc::new(packed.record()),
        }
    }

    /// The envelope of the change.
    pub(crate) fn envelope(self) -> Arc<Envelope> {
        match self.0 {
            Form::Whole(record) => Arc::clone(&record.envelope),
            Form::Packed(packed) => Arc::new(packed.envelope()),
        }
    }

    /// The version it gave its key: see [`version_of`].
    pub(crate) fn version(&self) -> Version {
        match &self.0 {
            Form::Whole(record) => version_of(record),
            Form::Packed(packed) => {
                let version = packed.version();
                if version.is_empty() { packed.seq.to_string().into() } else { version }
            }
        }
    }

    /// Whether it is a change of a scope and type.
    fn is_of(&self, scope: &str, type_url: &str) -> bool {
        match &self.0 {
            Form::Whole(record) => record
                .envelope
                .change
                .key()
                .is_some_and(|key| key.type_url == *type_url && key.scope == *scope),
            Form::Packed(packed) => packed.is_of(scope, type_url),
        }
    }

    pub(crate) fn receipt(&self) -> Receipt {
        match &self.0 {
            Form::Whole(record) => record.receipt.clone(),
            Form::Packed(packed) => packed.receipt(),
        }
    }

    fn weight(&self) -> usize {
        match &self.0 {
            Form::Whole(record) => record.weight,
            Form::Packed(packed) => packed.weight,
        }
    }
}

impl State {
    /// An empty table that follows a log beginning after `start`.
    pub fn new(bound: StateBound, start: Seq) -> Self {
        Self {
            bound,
            types: OrdMap::new(),
            len: 0,
            changes: OrdMap::new(),
            tombstones: Vector::new(),
            buried: 0,
            bytes: 0,
            seq: start,
            forgotten: start,
        }
    }

    /// The record that made the key what it is.
    pub fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.held(key).map(|held| held.record())
    }

    pub(crate) fn held(&self, key: &Key) -> Option<Held> {
        self.types.get(&Type::of(key))?.get(&key.name).cloned()
    }

    /// The position this table shows: that of the last record applied.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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
    ) -> impl Iterator<Item = &'a Held> {
        self.named(scope, type_url, after).map(|(_, held)| held)
    }

    /// The names of a scope and type in order, those after `after` only. Costs less than what they stand for.
    pub fn names<'a>(
        &'a self,
        scope: &'a str,
        type_url: &'a str,
        after: Option<&Key>,
    ) -> impl Iterator<Item = &'a ByteString> {
        self.named(Some(scope), Some(type_url), after).map(|(name, _)| name)
    }

    fn named<'a>(
        &'a self,
        scope: Option<&'a str>,
        type_url: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a ByteString, &'a Held)> {
        let first = Type {
            scope: ByteString::from(scope.unwrap_or_default()),
            type_url: ByteString::from(scope.and(type_url).unwrap_or_default()),
        };
        let after = after.map(|key| (Type::of(key), key.name.clone()));
        let from = match &after {
            Some((after, _)) if *after >= first => after.clone(),
            _ => first,
        };
        // The range ends with the scope, and with the type where the scope is fixed: it is never scanned on.
        let within = move |key: &Type| {
            scope.is_none_or(|scope| key.scope == scope)
                && (scope.is_none() || type_url.is_none_or(|type_url| key.type_url == type_url))
        };
        self.types
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(key, _)| within(key))
            .filter(move |(key, _)| type_url.is_none_or(|type_url| key.type_url == type_url))
            .flat_map(move |(key, names)| {
                let from = match &after {
                    Some((after, name)) if after == key => Bound::Excluded(name.clone()),
                    _ => Bound::Unbounded,
                };
                names.range((from, Bound::Unbounded))
            })
    }

    /// The types there are in a scope, in order.
    pub fn types<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a ByteString> {
        let from = Type { scope: ByteString::from(scope), type_url: ByteString::new() };
        let range = self.types.range((Bound::Included(from), Bound::Unbounded));
        range.take_while(move |(key, _)| key.scope == *scope).map(|(key, _)| &key.type_url)
    }

    /// The last change of every key changed after `after`, deletions included, in order of sequence.
    ///
    /// # Errors
    /// [`Gone`] when a deletion since then is forgotten.
    pub fn changes_after(&self, after: Seq) -> Result<impl Iterator<Item = &Held>, Gone> {
        if after < self.forgotten {
            return Err(Gone { oldest: self.forgotten });
        }
        let from = (Bound::Excluded(after.0), Bound::Unbounded);
        Ok(self.changes.range(from).map(|(_, held)| held))
    }

    /// As [`changes_after`](Self::changes_after), of a scope and type only: others cost no more than a look at them.
    ///
    /// # Errors
    /// [`Gone`] when a deletion since then is forgotten.
    pub fn changes_of<'a>(
        &'a self,
        scope: &'a str,
        type_url: &'a str,
        after: Seq,
    ) -> Result<impl Iterator<Item = &'a Held>, Gone> {
        Ok(self.changes_after(after)?.filter(move |held| held.is_of(scope, type_url)))
    }

    /// Whether a precondition holds for the key now.
    ///
    /// # Errors
    /// [`Refused::Conflict`] with what the table has.
    pub fn check(&self, key: &Key, precondition: &Precondition) -> Result<(), Refused> {
        if *precondition == Precondition::Any {
            return Ok(());
        }
        let current = self.held(key).map(|held| (held.seq(), held.version()));
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
        let old = self.held(key).map(|held| held.weight());
        if old.is_none() && self.len >= self.bound.max_keys {
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
        match &record.envelope.change {
            Change::Occurred => return,
            Change::Put(key, _) => {
                self.bytes += record.weight;
                let names = self.types.entry(Type::of(key)).or_default();
                let old = names.insert(key.name.clone(), Held::whole(Arc::clone(record)));
                self.len += usize::from(old.is_none());
                self.replaced(old);
            }
            Change::Delete(key, ..) => {
                let of = Type::of(key);
                let old = self.types.get_mut(&of).and_then(|names| names.remove(&key.name));
                if self.types.get(&of).is_some_and(OrdMap::is_empty) {
                    self.types.remove(&of);
                }
                self.len -= usize::from(old.is_some());
                self.replaced(old);
                self.bury(record);
            }
        }
        self.changes.insert(record.seq.0, Held::whole(Arc::clone(record)));
        // What is there comes before what is remembered of what was.
        while self.bytes + self.buried > self.bound.max_bytes && self.forget() {}
    }

    /// Packs what the log has let go.
    pub(crate) fn pack(&mut self, record: &Record) {
        let Some(change) = self.changes.get_mut(&record.seq.0) else { return };
        let Some(packed) = Packed::of(record).map(Arc::new) else { return };
        *change = Held(Form::Packed(Arc::clone(&packed)));
        if let Change::Put(key, _) = &record.envelope.change
            && let Some(names) = self.types.get_mut(&Type::of(key))
        {
            // The name too, lest it keep what it was a part of.
            names.insert(packed.name(), Held(Form::Packed(packed)));
        }
    }

    fn replaced(&mut self, old: Option<Held>) {
        if let Some(old) = old {
            self.bytes -= old.weight();
            self.changes.remove(&old.seq().0);
        }
    }

    fn bury(&mut self, record: &Record) {
        self.tombstones.push_back((record.seq.0, record.weight));
        self.buried += record.weight;
        if self.tombstones.len() > self.bound.max_tombstones {
            self.forget();
        }
    }

    /// Forgets the oldest deletion; `false` when there is none.
    fn forget(&mut self) -> bool {
        let Some((oldest, weight)) = self.tombstones.pop_front() else { return false };
        self.buried -= weight;
        self.changes.remove(&oldest);
        // Deletions are buried in order. Were one not, what was forgotten before it would stay forgotten.
        debug_assert!(self.forgotten < Seq(oldest), "{oldest} is forgotten after {}", self.forgotten);
        self.forgotten = self.forgotten.max(Seq(oldest));
        true
    }
}

impl Type {
    fn of(key: &Key) -> Self {
        Self { scope: key.scope.clone(), type_url: key.type_url.clone() }
    }
}

/// The version a record gives its key: the source's own, or the sequence where it gave none.
pub fn version_of(record: &Record) -> Version {
    match &record.envelope.change {
        Change::Put(_, version) | Change::Delete(_, version, _) if !version.is_empty() => version.clone(),
        _ => record.seq.to_string().into(),
    }
}
