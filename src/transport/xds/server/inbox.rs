//! What waits for one stream: bounded, and level-based when the bound is reached.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::item::{Batch, Item};
use crate::core::Seq;

/// Where a feed leaves changes for a stream.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Tells streams apart.
    pub(super) id: u64,
    max: usize,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

/// What a stream finds.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) entries: VecDeque<Entry>,
    /// Changes in them.
    len: usize,
    /// More came than may wait: what was changed after this position has to be looked up.
    pub(super) lost: Option<Seq>,
}

/// What is left at once.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// For who wants all of a type.
    Batch(Arc<Batch>),
    /// For who wants this one, by name or prefix.
    One(ByteString, Arc<Item>),
}

impl Inbox {
    /// For up to `max` changes.
    pub(super) fn new(id: u64, max: usize) -> Self {
        Self { id, max, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Leaves an entry; `before` is the position up to which the feed had told before it.
    pub(super) fn push(&self, entry: Entry, before: Seq) {
        let mut waiting = self.waiting.lock();
        if waiting.lost.is_some() {
            return;
        }
        if waiting.entries.is_empty() {
            waiting.len = 0;
        }
        waiting.len += entry.len();
        if waiting.len > self.max {
            let first = waiting.entries.front().map(Entry::first);
            // All that was changed from the first of these on is looked up.
            let from = first.unwrap_or_else(|| entry.first()).min(entry.first());
            waiting.lost = Some(before.min(Seq(from.0.saturating_sub(1))));
            waiting.entries = VecDeque::new();
            waiting.len = 0;
        } else {
            waiting.entries.push_back(entry);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Says that what was changed after `since` has to be looked up.
    pub(super) fn lose(&self, since: Seq) {
        let mut waiting = self.waiting.lock();
        waiting.lost = Some(waiting.lost.unwrap_or(since).min(since));
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes all there is.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Waits until there may be something.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.items.len(),
            Self::One(..) => 1,
        }
    }

    fn first(&self) -> Seq {
        match self {
            Self::Batch(batch) => batch.items.iter().map(|item| item.seq()).min().unwrap_or_default(),
            Self::One(_, item) => item.seq(),
        }
    }
}
