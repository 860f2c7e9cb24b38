//! What the filters of a route drop, for those who watch it happen.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::delivery::Reason;
use super::record::Record;

/// A record of which a filter let nothing through, or a part of what filters before it had made of it.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The record as the route took it.
    pub record: Arc<Record>,
    /// The filter.
    pub filter: ByteString,
    /// Its word on why.
    pub why: Option<Reason>,
}

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A filter dropped something.
    Dropped(Dropped),
    /// So many were not told of before this: the watcher was too slow.
    Lost(u64),
}

/// The watchers of a route. It is not held up by them, and without one nothing is done.
#[derive(Default)]
pub struct Drops {
    watched: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
}

struct Watcher {
    sender: Sender<Seen>,
    lost: u64,
}

impl Drops {
    /// What filters drop from now on, until it is let go of; at most `waiting` wait to be looked at.
    pub fn watch(&self, waiting: usize) -> Receiver<Seen> {
        let (sender, receiver) = channel(waiting);
        let mut watchers = self.watchers.lock();
        watchers.push(Watcher { sender, lost: 0 });
        self.watched.store(true, Ordering::Release);
        receiver
    }

    /// Tells all who watch.
    pub(crate) fn tell(&self, dropped: impl FnOnce() -> Dropped) {
        if !self.watched.load(Ordering::Acquire) {
            return;
        }
        let dropped = dropped();
        let mut watchers = self.watchers.lock();
        watchers.retain_mut(|watcher| watcher.tell(&dropped));
        self.watched.store(!watchers.is_empty(), Ordering::Release);
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drops").field("watchers", &self.watchers.lock().len()).finish_non_exhaustive()
    }
}

impl Watcher {
    /// `false` when nobody looks any more.
    fn tell(&mut self, dropped: &Dropped) -> bool {
        if self.lost > 0 && self.sender.try_send(Seen::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        match self.sender.try_send(Seen::Dropped(dropped.clone())) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}
