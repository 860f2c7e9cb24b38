//! Subscriptions: following what matches, from a snapshot, a position, or now on.
//!
//! A subscription to state is level-based: a reader that falls behind reads the table again instead of
//! what it missed. What a selector's expression wants is decided here, on the reader's own task.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;

use super::bus::Bus;
use super::consumer::{Consumer, Role, Taken};
use super::envelope::{Cause, Change, Envelope, Seq};
use super::log::{Gone, Ring};
use super::publish::DELETED;
use super::record::{Record, Records};
use super::selector::{Selector, TopicFilter};
use super::state::{Held, Snapshot};
use super::view::View;

/// Records read from the log or the table at a time.
const CHUNK: usize = 256;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Now,
    /// With the state as it is, then what comes next.
    Snapshot,
    /// With what came after this position, which this log has told: one that it has not reached is [`Gone`] as well.
    After(Seq),
}

/// What a subscription tells, in order.
#[derive(Clone, Debug)]
pub enum Message {
    /// Records that match.
    Batch(Records),
    /// The state that matches follows, whole; what it does not name is gone.
    SnapshotBegin,
    /// The snapshot is complete and shows this position.
    SnapshotEnd(Seq),
    /// So many events were dropped because the reader was too slow.
    Lost(u64),
    /// The position to go on from is no longer held; the subscription is over.
    Gone(Gone),
}

/// One reader's view of the bus. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    bus: Bus,
    selector: Selector,
    filter: Option<TopicFilter>,
    role: Role,
    phase: Phase,
    /// The last position told; a live subscription skips what is not after it.
    seen: Seq,
    consumer: Option<Arc<Consumer>>,
}

#[derive(Debug)]
enum Phase {
    /// Reading the log after `seen`, not on the queue yet.
    Replay,
    /// Telling a snapshot; what comes meanwhile waits on the queue.
    Snapshot {
        begun: bool,
        /// What may match, as the table holds it: each is looked at when its turn comes.
        rest: VecDeque<Held>,
        seq: Seq,
    },
    Live,
    Over,
}

impl Subscription {
    pub(crate) fn open(bus: Bus, selector: Selector, start: Start, role: Role) -> Result<Self, Gone> {
        let filter = selector.topic.clone();
        let seen = Seq::default();
        let mut subscription =
            Self { bus, selector, filter, role, phase: Phase::Live, seen, consumer: None };
        match start {
            Start::Now => subscription.go_live(),
            Start::Snapshot => subscription.begin_snapshot(),
            Start::After(seq) => {
                subscription.seen = seq;
                subscription.phase = Phase::Replay;
                subscription.read_on(1)?;
            }
        }
        Ok(subscription)
    }

    /// The next thing to tell; `None` when it is over: the bus closed it, or it was too slow for its events.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match &mut self.phase {
                Phase::Over => return None,
                Phase::Replay => match self.replay() {
                    Ok(Some(message)) => return Some(message),
                    Ok(None) => {}
                    Err(gone) => {
                        self.phase = Phase::Over;
                        return Some(Message::Gone(gone));
                    }
                },
                Phase::Snapshot { .. } => return Some(self.tell_snapshot()),
                Phase::Live => {
                    let Some(consumer) = self.consumer.clone() else {
                        self.phase = Phase::Over;
                        continue;
                    };
                    let shared = &self.bus.0;
                    match consumer.take(&shared.full, &shared.room).await {
                        Taken::Batch(records) => {
                            if let Some(message) = self.select(&records, true) {
                                return Some(message);
                            }
                        }
                        Taken::Lost(n) => return Some(Message::Lost(n)),
                        Taken::Stale => self.begin_snapshot(),
                        Taken::Closed => self.phase = Phase::Over,
                    }
                }
            }
        }
    }

    fn go_live(&mut self) {
        let filters = std::slice::from_ref(&self.filter);
        let (consumer, seq) = self.bus.attach(self.role.clone(), filters, |inner| inner.state.seq());
        self.consumer = Some(consumer);
        self.seen = seq;
        self.phase = Phase::Live;
    }

    /// Takes a snapshot; the queue is attached under the same lock, so nothing is missed after it.
    fn begin_snapshot(&mut self) {
        let snapshot: Snapshot = if self.consumer.is_some() {
            self.bus.snapshot()
        } else {
            let filters = std::slice::from_ref(&self.filter);
            let (consumer, snapshot) =
                self.bus.attach(self.role.clone(), filters, |inner| Arc::new(inner.state.clone()));
            self.consumer = Some(consumer);
            snapshot
        };
        let (scope, type_url) = (self.selector.scope.as_deref(), self.selector.type_url.as_deref());
        let rest = snapshot.range(scope, type_url, None).cloned().collect();
        self.phase = Phase::Snapshot { begun: false, rest, seq: snapshot.seq() };
    }

    fn tell_snapshot(&mut self) -> Message {
        let Phase::Snapshot { begun, rest, seq } = &mut self.phase else {
            return Message::SnapshotBegin;
        };
        if !std::mem::replace(begun, true) {
            return Message::SnapshotBegin;
        }
        let wanted = |record: &Arc<Record>| self.selector.matches(&record.envelope).unwrap_or(false);
        let mut records = Vec::new();
        while let Some(held) = rest.pop_front() {
            records.extend(Some(held.record()).filter(wanted));
            if records.len() == CHUNK {
                break;
            }
        }
        if !records.is_empty() {
            return Message::Batch(records.into());
        }
        let seq = *seq;
        // Events are not in a snapshot: only changes it already shows are skipped, in `select`.
        self.seen = self.seen.max(seq);
        self.phase = Phase::Live;
        Message::SnapshotEnd(seq)
    }

    /// Reads on from the log; `None` when it has gone live, or nothing of what it read matches.
    fn replay(&mut self) -> Result<Option<Message>, Gone> {
        let records = self.read_on(CHUNK)?;
        Ok(self.select(&records, self.filter.is_none()))
    }

    /// Up to `limit` records after `seen`; fewer means that the queue is attached and nothing is missed.
    fn read_on(&mut self, limit: usize) -> Result<Records, Gone> {
        let ring = self.selector.is_of_state().then_some(Ring::Changes);
        let seen = self.seen;
        // The table still knows the last change of each key: enough for a level-based watch, unless it has to tell
        // what left a selector, for which it would have to know what each key was before.
        let by_table = ring.is_some() && self.selector.predicates.is_empty();
        if limit == 1 {
            // Only asks whether the position is held, before the first message.
            let inner = self.bus.0.inner.lock();
            if seen > inner.state.seq() {
                // One that is not reached was told by another log, or before the clock was set back: waiting for it
                // would skip, and for good, whatever comes until then.
                let held = inner.log.read(ring, Seq::default(), 1);
                return Err(held.err().unwrap_or(Gone { oldest: Seq::default() }));
            }
            return match inner.log.read(ring, seen, 1) {
                Err(_) if by_table && inner.state.changes_after(seen).is_ok() => Ok(Arc::new([])),
                Err(gone) => Err(gone),
                Ok(_) => Ok(Arc::new([])),
            };
        }
        // What is packed is put together again without the lock.
        let whole = |held: Vec<Held>| held.iter().map(Held::record).collect();
        let read = |inner: &super::bus::Inner| -> Result<Vec<Held>, Gone> {
            match inner.log.read(ring, seen, limit) {
                Ok(records) => Ok(records.into_iter().map(Held::whole).collect()),
                Err(gone) if by_table => match inner.state.changes_after(seen) {
                    Ok(changes) => Ok(changes.take(limit).cloned().collect()),
                    Err(_) => Err(gone),
                },
                Err(gone) => Err(gone),
            }
        };
        let records = read(&self.bus.0.inner.lock())?;
        if records.len() == limit {
            return Ok(whole(records));
        }
        let filters = std::slice::from_ref(&self.filter);
        let (consumer, records) = self.bus.attach(self.role.clone(), filters, |inner| read(inner));
        match records {
            Ok(records) if records.len() < limit => {
                self.consumer = Some(consumer);
                self.phase = Phase::Live;
                Ok(whole(records))
            }
            // More came in between: once more around.
            Ok(_) => {
                self.bus.detach(&consumer, filters);
                Ok(Arc::new([]))
            }
            Err(gone) => {
                self.bus.detach(&consumer, filters);
                Err(gone)
            }
        }
    }

    /// What of a batch matches; `on_topic` when its topics are known to. A batch that matches whole is
    /// handed on as it is, shared.
    fn select(&mut self, records: &Records, on_topic: bool) -> Option<Message> {
        let seen = self.seen;
        let last = records.last()?.seq;
        // After a resynchronisation the queue holds changes that the snapshot has told already.
        let untold = |record: &Record| record.seq > seen || !record.is_change();
        let plain = on_topic && self.selector.predicates.is_empty() && !self.selector.is_of_state();
        let selected: Records = if plain && records.iter().all(|record| untold(record)) {
            Arc::clone(records)
        } else {
            records.iter().filter(|record| untold(record)).filter_map(|record| self.view(record)).collect()
        };
        self.seen = self.seen.max(last);
        (!selected.is_empty()).then_some(Message::Batch(selected))
    }

    /// The record as this selector sees it: itself, a deletion when the key left the selector, or nothing.
    fn view(&self, record: &Arc<Record>) -> Option<Arc<Record>> {
        let matches = |event: &View<'_>| self.selector.sees(event).unwrap_or(false);
        if matches(&View::of_record(record)) {
            return Some(Arc::clone(record));
        }
        let previous = record.previous.as_ref().filter(|previous| matches(&View::of(previous)))?;
        let Change::Put(key, version) = &record.envelope.change else {
            // The key left altogether: the deletion is told as it is, whatever its own attributes match.
            return Some(Arc::clone(record));
        };
        let mut left = Envelope::clone(&record.envelope);
        left.change = Change::Delete(key.clone(), version.clone(), Cause::Unmatched);
        left.data = previous.data.clone();
        left.kind = ByteString::from_static(DELETED);
        left.extensions.set("mbcause", Cause::Unmatched.as_str());
        let (ingress, receipt) = (record.ingress.clone(), record.receipt.clone());
        Some(Arc::new(Record {
            weight: record.weight,
            previous: record.previous.clone(),
            replaces: true,
            via: record.via.clone(),
            ..Record::new(record.seq, Arc::new(left), ingress, record.at, receipt)
        }))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.bus.detach(&consumer, std::slice::from_ref(&self.filter));
            consumer.abandon(&self.bus.0.full, &self.bus.0.room);
        }
    }
}
