//! The log: gives the sequence, and holds what happened for a bounded while.
//!
//! Two rings stand under one sequence, so that a flood of events never expires a watch of state.

use std::collections::VecDeque;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytestring::ByteString;

use super::envelope::{Envelope, Seq, Value};
use super::record::Record;

/// How many records [`Held::warm_up`] reads at once: what they touch fits the nearest cache.
const TOGETHER: usize = 64;

/// The position asked for is no longer held, or none of this log: what came after it cannot be told completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gone: the log holds what came after seq {oldest} only")]
pub struct Gone {
    /// The oldest position that can still be resumed from.
    pub oldest: Seq,
}

/// Which of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Puts and deletes.
    Changes,
    /// Events.
    Events,
}

/// The bound of one ring: whichever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingBound {
    /// Most records.
    pub max: usize,
    /// Most bytes: what envelopes weigh ([`Envelope::weight`](super::Envelope::weight)), the values they replace, and
    /// what it costs to hold them.
    pub max_bytes: usize,
}

impl Default for RingBound {
    fn default() -> Self {
        Self { max: 1_000_000, max_bytes: 256 << 20 }
    }
}

/// How full a ring is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFigures {
    /// Records held.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Where the order of records is made and kept.
///
/// The bus appends under its lock, so an implementation sees one caller at a time. A durable or replicated
/// log gives the sequence here and makes the record durable behind it; a reader of it applies records in
/// order, and applying is deterministic, so every replica holds the same table.
pub trait Log: Send + fmt::Debug {
    /// The sequence the next record gets.
    fn next_seq(&self) -> Seq;

    /// Makes room for a record of `weight` bytes in `ring`, letting the oldest go.
    ///
    /// `false` when the oldest is still held by a route whose `when_full` is `block`: nothing was let go
    /// that such a route needs, and the publisher has to wait. `let_go` is told of each record that goes.
    fn make_room(&mut self, ring: Ring, weight: usize, let_go: &mut dyn FnMut(&Record)) -> bool;

    /// Appends a record whose `seq` is [`next_seq`](Self::next_seq).
    fn append(&mut self, record: Arc<Record>);

    /// Up to `limit` records after `after`, of one ring or (`None`) of both, in order.
    ///
    /// # Errors
    /// [`Gone`] when some of them were let go, or `after` is from before this log began.
    fn read(&self, ring: Option<Ring>, after: Seq, limit: usize) -> Result<Vec<Arc<Record>>, Gone>;

    /// The newest records of a ring, at most `limit`, in order.
    fn newest(&self, ring: Ring, limit: usize) -> Vec<Arc<Record>>;

    /// How full a ring is.
    fn figures(&self, ring: Ring) -> RingFigures;
}

/// The log in memory. It ends with the process; a fresh one starts at the wall clock in microseconds, so
/// that every position from before a restart is [`Gone`].
#[derive(Debug)]
pub struct MemoryLog {
    next: Seq,
    changes: Held,
    events: Held,
}

#[derive(Debug)]
struct Held {
    bound: RingBound,
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// The newest record let go, or the sequence before the first.
    gone: Seq,
    /// How many of the oldest are in the processor's caches.
    warm: usize,
}

impl MemoryLog {
    /// An empty log within these bounds.
    pub fn new(changes: RingBound, events: RingBound) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Seq(u64::try_from(now.as_micros()).unwrap_or(1).max(1));
        Self::starting_at(start, changes, events)
    }

    /// An empty log whose first record gets `start`.
    pub fn starting_at(start: Seq, changes: RingBound, events: RingBound) -> Self {
        let before = Seq(start.0.saturating_sub(1));
        let held = |bound| Held { bound, records: VecDeque::new(), bytes: 0, gone: before, warm: 0 };
        Self { next: start, changes: held(changes), events: held(events) }
    }

    fn held(&self, ring: Ring) -> &Held {
        match ring {
            Ring::Changes => &self.changes,
            Ring::Events => &self.events,
        }
    }
}

impl Log for MemoryLog {
    fn next_seq(&self) -> Seq {
        self.next
    }

    fn make_room(&mut self, ring: Ring, weight: usize, let_go: &mut dyn FnMut(&Record)) -> bool {
        match ring {
            Ring::Changes => self.changes.make_room(weight, let_go),
            Ring::Events => self.events.make_room(weight, let_go),
        }
    }

    fn append(&mut self, record: Arc<Record>) {
        debug_assert_eq!(record.seq, self.next, "the bus numbers records from next_seq");
        self.next = Seq(record.seq.0 + 1);
        let held = if record.is_change() { &mut self.changes } else { &mut self.events };
        held.bytes += record.held_weight();
        held.records.push_back(record);
    }

    fn read(&self, ring: Option<Ring>, after: Seq, limit: usize) -> Result<Vec<Arc<Record>>, Gone> {
        let oldest = match ring {
            Some(ring) => self.held(ring).gone,
            None => self.changes.gone.max(self.events.gone),
        };
        if after < oldest {
            return Err(Gone { oldest });
        }
        let records =
            |held: Ring| (ring.is_none_or(|ring| ring == held)).then(|| self.held(held).after(after));
        let changes = records(Ring::Changes).into_iter().flatten();
        let events = records(Ring::Events).into_iter().flatten();
        Ok(merge(changes, events).take(limit).cloned().collect())
    }

    fn newest(&self, ring: Ring, limit: usize) -> Vec<Arc<Record>> {
        let records = &self.held(ring).records;
        records.range(records.len().saturating_sub(limit)..).cloned().collect()
    }

    fn figures(&self, ring: Ring) -> RingFigures {
        let held = self.held(ring);
        RingFigures { records: held.records.len(), bytes: held.bytes }
    }
}

impl Held {
    fn make_room(&mut self, weight: usize, let_go: &mut dyn FnMut(&Record)) -> bool {
        while self.records.len() >= self.bound.max || self.bytes + weight > self.bound.max_bytes {
            if self.warm == 0 {
                self.warm_up();
            }
            let Some(oldest) = self.records.front() else {
                // One record alone is over the bound: it is held alone rather than never.
                return true;
            };
            if oldest.holds.load(Ordering::Acquire) > 0 {
                return false;
            }
            oldest.evicted.store(true, Ordering::Relaxed);
            self.bytes -= oldest.held_weight();
            self.gone = oldest.seq;
            if let Some(oldest) = self.records.pop_front() {
                let_go(&oldest);
            }
            self.warm = self.warm.saturating_sub(1);
        }
        true
    }

    /// What goes next has long left the processor's caches, and letting it go would wait for one line of them
    /// after another. Read step by step for several records at once, the lines of a step come together.
    fn warm_up(&mut self) {
        let next = || self.records.iter().take(TOGETHER);
        black_box(next().map(|record| record.weight).sum::<usize>());
        black_box(next().map(|record| head(&record.envelope)).sum::<usize>());
        black_box(next().map(|record| texts(&record.envelope)).sum::<usize>());
        black_box(next().map(|record| values(&record.envelope)).sum::<usize>());
        self.warm = next().count();
    }

    fn after(&self, after: Seq) -> impl Iterator<Item = &Arc<Record>> {
        let from = self.records.partition_point(|record| record.seq <= after);
        self.records.range(from..)
    }
}

/// Reads each line of the envelope itself.
fn head(envelope: &Envelope) -> usize {
    let subject = envelope.subject.as_ref().map_or(0, |text| text.len());
    let schema = envelope.dataschema.as_ref().map_or(0, |text| text.len());
    envelope.id.len()
        + subject
        + schema
        + envelope.extensions.len()
        + envelope.topic.as_str().len()
        + envelope.data.len()
}

/// Reads a line of each allocation that the envelope refers to. One after the other without a loop, so that the
/// processor has as many as it can under way.
fn texts(envelope: &Envelope) -> usize {
    let optional = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| first(text.as_bytes()));
    first(envelope.id.as_bytes())
        + first(envelope.source.as_bytes())
        + first(envelope.kind.as_bytes())
        + first(envelope.topic.as_str().as_bytes())
        + first(&envelope.data)
        + optional(&envelope.subject)
        + optional(&envelope.datacontenttype)
        + optional(&envelope.dataschema)
        + envelope.extensions.iter().next().map_or(0, |(name, _)| name.len())
}

/// Reads a line of each allocation that its extensions refer to.
fn values(envelope: &Envelope) -> usize {
    let value = |(_, value): (&ByteString, &Value)| match value {
        Value::String(text) | Value::Uri(text) | Value::UriRef(text) => first(text.as_bytes()),
        Value::Binary(bytes) => first(bytes),
        _ => 0,
    };
    envelope.extensions.iter().map(value).sum()
}

fn first(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |byte| usize::from(*byte))
}

/// Two ordered runs as one.
fn merge<'a>(
    left: impl Iterator<Item = &'a Arc<Record>>,
    right: impl Iterator<Item = &'a Arc<Record>>,
) -> impl Iterator<Item = &'a Arc<Record>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if a.seq < b.seq => left.next(),
        (Some(_), None) => left.next(),
        _ => right.next(),
    })
}
