//! What waits for one stream: bounded, and level-based when the bound is reached.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytestring::ByteString;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::item::{Batch, Item};
use crate::core::Seq;

/// Where a feed leaves changes for a stream.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Tells streams apart.
    pub(super) id: u64,
    /// Tells connections apart, of which each has streams.
    pub(super) peer: SocketAddr,
    max: usize,
    waiting: Mutex<Waiting>,
    /// Whether the stream has been rung for and has not looked since.
    rung: AtomicBool,
    stream: AtomicWaker,
}

/// What a stream finds.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) entries: VecDeque<Entry>,
    /// Changes in them.
    len: usize,
    /// More came than may wait: what was changed after this position has to be looked up.
    pub(super) lost: Option<Seq>,
    /// Nothing will come any more.
    pub(super) ends: bool,
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
    pub(super) fn new(id: u64, peer: SocketAddr, max: usize) -> Self {
        Self {
            id,
            peer,
            max,
            waiting: Mutex::default(),
            rung: AtomicBool::new(false),
            stream: AtomicWaker::new(),
        }
    }

    /// Leaves an entry; `before` is the position up to which the feed had told before it. The stream learns of it when
    /// it is [rung](Self::ring) for.
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
    }

    /// Says that what was changed after `since` has to be looked up, once the stream is rung for.
    pub(super) fn lose(&self, since: Seq) {
        let mut waiting = self.waiting.lock();
        waiting.lost = Some(waiting.lost.unwrap_or(since).min(since));
    }

    /// Says that nothing will come any more, once the stream is rung for.
    pub(super) fn end(&self) {
        self.waiting.lock().ends = true;
    }

    /// Wakes the stream.
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.stream.wake();
    }

    /// Takes all there is.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Waits until there may be something. For one stream; cancel safe.
    pub(super) async fn arrived(&self) {
        poll_fn(|cx| self.poll_arrived(cx)).await;
    }

    fn poll_arrived(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.rung.load(Ordering::Relaxed) {
            self.stream.register(cx.waker());
        }
        // Looked at after that: what rings in between wakes.
        if self.rung.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
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
