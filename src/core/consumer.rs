//! Consumers: those who take records from the bus, and the queues of subscriptions.
//!
//! A batch is one allocation that all who match share; putting it on a queue is a reference count and a
//! push. What comes record by record is put together again when it is taken. A subscription's queue is bounded
//! by its limit; what routes take goes to the inbox of their worker, bounded by the log whose records it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::record::{Record, Records};
use super::route::{Inbox, Parcel, Seat};
use super::selector::TopicFilter;

/// Most records that came one by one and are taken as one batch.
const TOGETHER: usize = 256;

/// What becomes of events a subscription is too slow for. State is always resynchronised instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Publishers wait until there is room.
    Block,
    /// The oldest go, counted: [`Message::Lost`](super::subscription::Message::Lost).
    DropOldest,
    /// The subscription ends.
    #[default]
    Disconnect,
}

/// One entry of a route's `from:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Only what came in by this connector.
    pub connector: Option<ByteString>,
    /// Only these topics. None: all but the bus's own (`bus/`) and dead letters (`dead/`).
    pub topic: Option<TopicFilter>,
}

/// Who reads a queue.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Subscription {
        max: usize,
        overflow: Overflow,
        /// Whether events are nothing to it, so that a flood of them takes none of its room.
        changes_only: bool,
    },
    Route {
        /// The route's number in lineages; the same over reloads.
        route: u64,
        from: Vec<Source>,
        /// Whether the log must keep what this route has not answered.
        blocks: bool,
        /// Its worker, and its number there.
        inbox: Arc<Inbox>,
        seat: Seat,
    },
}

/// Who takes records, and the queue of a subscription.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) id: u64,
    pub(crate) role: Role,
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// Records in `entries`.
    len: usize,
    /// Events dropped since the reader last looked.
    lost: u64,
    /// Changes were dropped: the reader must read the table again.
    stale: bool,
    closed: bool,
    /// Counted in the bus's number of full blocking subscriptions.
    full: bool,
}

/// What is put on a queue at once.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Batch(Records),
    One(Arc<Record>),
}

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Taken {
    Batch(Records),
    Lost(u64),
    Stale,
    Closed,
}

impl Consumer {
    pub(crate) fn new(id: u64, role: Role) -> Arc<Self> {
        Arc::new(Self { id, role, queue: Mutex::default(), arrived: Notify::new() })
    }

    /// Puts records on the queue; called under the bus's lock, so they come in order. `full` counts the
    /// blocking subscriptions that are over their limit.
    pub(crate) fn push(&self, entry: Entry, full: &AtomicUsize) {
        let (max, overflow) = match &self.role {
            Role::Subscription { changes_only: true, .. }
                if !entry.records().iter().any(|record| record.is_change()) =>
            {
                return;
            }
            Role::Subscription { max, overflow, .. } => (*max, *overflow),
            Role::Route { inbox, seat, blocks, .. } => {
                return inbox.push(std::iter::once(Parcel { seat: *seat, entry, held: *blocks }));
            }
        };
        let mut queue = self.queue.lock();
        if queue.closed {
            return;
        }
        // A reader waits only for a queue that it found empty under this lock.
        let wake = !queue.is_readable();
        queue.len += entry.records().len();
        queue.entries.push_back(entry);
        if queue.len > max {
            queue.overflow(max, overflow, full);
        }
        drop(queue);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// What is there now.
    fn try_take(&self, full: &AtomicUsize, room: &Notify) -> Option<Taken> {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.stale) {
            return Some(Taken::Stale);
        }
        if queue.lost > 0 {
            return Some(Taken::Lost(std::mem::take(&mut queue.lost)));
        }
        let Some(batch) = queue.take() else {
            return queue.closed.then_some(Taken::Closed);
        };
        if let Role::Subscription { max, .. } = self.role
            && queue.full
            && queue.len <= max / 2
        {
            queue.full = false;
            full.fetch_sub(1, Ordering::AcqRel);
            room.notify_waiters();
        }
        Some(Taken::Batch(batch))
    }

    /// Waits for what comes. Cancel safe.
    pub(crate) async fn take(&self, full: &AtomicUsize, room: &Notify) -> Taken {
        loop {
            let arrived = self.arrived.notified();
            if let Some(taken) = self.try_take(full, room) {
                return taken;
            }
            arrived.await;
        }
    }

    /// Takes nothing more in. What waits can still be taken.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Ends a subscription: what waits is dropped, and where it blocks it blocks no more.
    pub(crate) fn abandon(&self, full: &AtomicUsize, room: &Notify) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        if std::mem::take(&mut queue.full) {
            full.fetch_sub(1, Ordering::AcqRel);
        }
        let entries = std::mem::take(&mut queue.entries);
        queue.len = 0;
        drop(queue);
        drop(entries);
        room.notify_waiters();
    }
}

impl Queue {
    fn is_readable(&self) -> bool {
        self.closed || self.stale || self.lost > 0 || !self.entries.is_empty()
    }

    /// The next batch: as it was put, or of records that were put one by one.
    fn take(&mut self) -> Option<Records> {
        let batch: Records = match self.entries.pop_front()? {
            Entry::Batch(batch) => batch,
            Entry::One(first) => {
                let ones = self.entries.iter().take(TOGETHER - 1);
                let more = ones.take_while(|entry| matches!(entry, Entry::One(_))).count();
                if more == 0 {
                    Arc::new([first])
                } else {
                    let more = self.entries.drain(..more).filter_map(Entry::into_one);
                    std::iter::once(first).chain(more).collect()
                }
            }
        };
        self.len -= batch.len();
        Some(batch)
    }

    fn overflow(&mut self, max: usize, overflow: Overflow, full: &AtomicUsize) {
        let holds_events = |queue: &Self| {
            queue.entries.iter().any(|entry| entry.records().iter().any(|record| !record.is_change()))
        };
        match overflow {
            _ if self.full => return,
            Overflow::Block if holds_events(self) => {
                self.full = true;
                full.fetch_add(1, Ordering::AcqRel);
                return;
            }
            Overflow::Disconnect if holds_events(self) => {
                self.closed = true;
                self.entries.clear();
                self.len = 0;
                return;
            }
            _ => {}
        }
        while self.len > max
            && let Some(entry) = self.entries.pop_front()
        {
            let records = entry.records();
            self.len -= records.len();
            let changes = records.iter().filter(|record| record.is_change()).count();
            self.lost += (records.len() - changes) as u64;
            self.stale |= changes > 0;
        }
        if self.stale {
            // The table tells it all again, so waiting changes would only be told twice; events stay.
            let waiting = std::mem::take(&mut self.entries);
            let events = waiting.iter().flat_map(Entry::records).filter(|record| !record.is_change());
            self.entries = events.map(|record| Entry::One(Arc::clone(record))).collect();
            self.len = self.entries.len();
        }
    }
}

impl Entry {
    pub(crate) fn records(&self) -> &[Arc<Record>] {
        match self {
            Self::Batch(records) => records,
            Self::One(record) => std::slice::from_ref(record),
        }
    }

    fn into_one(self) -> Option<Arc<Record>> {
        match self {
            Self::Batch(_) => None,
            Self::One(record) => Some(record),
        }
    }
}
