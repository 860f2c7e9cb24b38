//! A worker's inbox: records, answers and changes of its routes, each in the order in which it came.
//!
//! Records come under the bus's lock and are bounded by the log, whose records they are; answers by the
//! in-flight limits of the routes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use super::chain::Piece;
use super::{RouteSpec, Shared};
use crate::core::consumer::Entry;
use crate::core::delivery::{Answers, Outcome};
use crate::core::record::Record;

/// A route's number at its worker. Given again after the route is removed and done.
pub(crate) type Seat = usize;

/// What a worker finds.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Records and changes, in order: a change holds for the records behind it.
    pub(super) news: VecDeque<News>,
    pub(super) answers: Vec<(u64, Outcome)>,
    /// Batches that a route's filters have done.
    pub(super) filtered: Vec<(Seat, Vec<Piece>)>,
}

/// What a worker is told of one of its routes.
#[derive(Debug)]
pub(super) enum News {
    Added(Seat, Arc<Shared>),
    Changed(Seat, Arc<RouteSpec>),
    /// No record comes after this.
    Removed(Seat),
    Records(Parcel),
}

/// Records for one route.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) seat: Seat,
    pub(crate) entry: Entry,
    /// The log keeps them until they are answered.
    pub(crate) held: bool,
}

/// Where a worker is reached.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    arrived: Arrived,
    seats: Slab<()>,
    /// The worker has something of its routes in hand.
    busy: bool,
    /// The worker is gone: nothing is taken in.
    ended: bool,
}

impl Inbox {
    /// Gives a new route its seat; `None` when the worker is gone.
    pub(super) fn seat(&self) -> Option<Seat> {
        let mut state = self.state.lock();
        (!state.ended).then(|| state.seats.insert(()))
    }

    /// How many routes there are; `None` when the worker is gone.
    pub(super) fn routes(&self) -> Option<usize> {
        let state = self.state.lock();
        (!state.ended).then(|| state.seats.len())
    }

    /// A route is removed and done.
    pub(super) fn vacate(&self, seat: Seat) {
        self.state.lock().seats.try_remove(seat);
    }

    /// Tells the worker of a change.
    pub(super) fn tell(&self, news: News) {
        self.put(|arrived| arrived.news.push_back(news));
    }

    /// Hands over records; called under the bus's lock, so they come in order.
    pub(crate) fn push(&self, parcels: impl ExactSizeIterator<Item = Parcel>) {
        if parcels.len() == 0 {
            return;
        }
        let mut state = self.state.lock();
        if state.ended {
            drop(state);
            return parcels.for_each(|parcel| parcel.abandon());
        }
        let first = state.arrived.is_empty();
        state.arrived.news.extend(parcels.map(News::Records));
        drop(state);
        self.wake(first);
    }

    /// Brings back a batch from a route's filters.
    pub(super) fn filtered(&self, seat: Seat, pieces: Vec<Piece>) {
        self.put(|arrived| arrived.filtered.push((seat, pieces)));
    }

    /// Moves all there is to `into`, which is empty.
    pub(super) fn take(&self, into: &mut Arrived) {
        let mut state = self.state.lock();
        // From here on it is with the worker: the drain looks at both under this lock.
        state.busy = true;
        std::mem::swap(&mut state.arrived, into);
    }

    /// Waits until there is something to take.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The worker has nothing in hand. `true` when it has no route either and nothing waits: it is gone then.
    pub(super) fn rest(&self) -> bool {
        let mut state = self.state.lock();
        state.busy = false;
        state.ended = state.seats.is_empty() && state.arrived.is_empty();
        state.ended
    }

    /// The worker ends; gives what is left.
    pub(super) fn end(&self) -> Arrived {
        let mut state = self.state.lock();
        state.ended = true;
        state.busy = false;
        std::mem::take(&mut state.arrived)
    }

    /// Whether nothing waits and the worker has nothing in hand.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.arrived.is_empty() && !state.busy
    }

    /// Puts something in, unless the worker is gone.
    fn put(&self, put: impl FnOnce(&mut Arrived)) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        let first = state.arrived.is_empty();
        put(&mut state.arrived);
        drop(state);
        self.wake(first);
    }

    /// The worker takes all there is at once: only the first needs to wake it.
    fn wake(&self, first: bool) {
        if first {
            self.arrived.notify_one();
        }
    }
}

impl Answers for Inbox {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        self.put(|arrived| arrived.answers.push((ticket, outcome)));
    }
}

impl Arrived {
    fn is_empty(&self) -> bool {
        self.news.is_empty() && self.answers.is_empty() && self.filtered.is_empty()
    }
}

impl Parcel {
    /// Answers records that no worker sees to any more.
    pub(super) fn abandon(&self) {
        self.entry.records().iter().for_each(|record| abandon(record, self.held));
    }
}

/// Answers a record that no worker sees to any more.
pub(super) fn abandon(record: &Record, held: bool) {
    release(record, held, Outcome::Undelivered("the route ended".into()));
}

/// Answers a record, which the log need not keep any longer for this route.
pub(super) fn release(record: &Record, held: bool, outcome: Outcome) {
    if held {
        record.let_go();
    }
    record.receipt.answer(outcome);
}
