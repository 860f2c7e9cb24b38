//! What the bus is told of connections: the first change at once, what comes within an interval of it together at its end,
//! so that ten thousand clients that come at once are some publications rather than ten thousand.
//!
//! Of a key the last change counts. One that came and went in between was never there.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::core::bus::Ingress;
use crate::core::stats::ConnectorStats;
use crate::core::{Bus, Change, Envelope, Key};
use crate::runtime::task;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Roll {
    bus: Ingress,
    stats: Arc<ConnectorStats>,
    interval: Duration,
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug)]
struct State {
    /// In the order in which keys came; what is told no more is `None`.
    waiting: Vec<Option<Envelope>>,
    places: HashMap<Key, usize>,
    /// When something may be told again.
    next: Instant,
    /// Whether a publication is under way: what comes meanwhile must not overtake it.
    telling: bool,
    /// Whether nobody tells what waits any more.
    closed: bool,
}

/// A publication under way; ends it also where whoever waits for it has gone.
struct Telling<'a>(&'a Roll);

impl Roll {
    pub(super) fn new(bus: Ingress, stats: Arc<ConnectorStats>, interval: Duration) -> Self {
        let state = State {
            waiting: Vec::new(),
            places: HashMap::new(),
            next: Instant::now(),
            telling: false,
            closed: false,
        };
        Self { bus, stats, interval, state: Mutex::new(state), more: Notify::new() }
    }

    /// Tells changes of keys: before it returns where nothing was told within the interval.
    pub(super) async fn tell(&self, batch: Vec<Envelope>) {
        let Some((batch, _telling)) = self.take_or_leave(batch) else { return };
        // Nobody waits for these: whoever wants them finds them in the table.
        drop(Bus::publish(&self.bus, batch).await);
    }

    /// Tells the end of a key, when something may be told again.
    pub(super) fn leave(&self, gone: Envelope) {
        let mut state = self.state.lock();
        if !state.closed {
            self.add(&mut state, gone);
            drop(state);
            self.more.notify_one();
            return;
        }
        drop(state);
        let bus = Bus::clone(&self.bus);
        // At the end of the process there is no runtime any more, and no bus to tell.
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(task::spawn("xds connection", async move { drop(bus.publish(vec![gone]).await) }));
        }
    }

    /// Tells what waits at the end of each interval; never ends.
    pub(super) async fn run(&self) {
        loop {
            self.more.notified().await;
            let next = self.state.lock().next;
            sleep_until(next).await;
            self.tell_waiting().await;
        }
    }

    /// Tells what waits; what comes later is told one by one.
    pub(super) async fn close(&self) {
        self.state.lock().closed = true;
        self.tell_waiting().await;
    }

    async fn tell_waiting(&self) {
        let Some((batch, _telling)) = self.take() else { return };
        drop(Bus::publish(&self.bus, batch).await);
    }

    fn take(&self) -> Option<(Vec<Envelope>, Telling<'_>)> {
        let mut state = self.state.lock();
        if state.telling {
            // At its end it is looked again.
            return None;
        }
        state.places.clear();
        let batch: Vec<_> = std::mem::take(&mut state.waiting).into_iter().flatten().collect();
        if batch.is_empty() {
            return None;
        }
        Some((batch, self.begin(&mut state)))
    }

    /// The batch where it may be told now; else it is left to wait.
    fn take_or_leave(&self, batch: Vec<Envelope>) -> Option<(Vec<Envelope>, Telling<'_>)> {
        let mut state = self.state.lock();
        let at_once = Instant::now() >= state.next && state.waiting.is_empty() && !state.telling;
        if at_once || state.closed {
            return Some((batch, self.begin(&mut state)));
        }
        for change in batch {
            self.add(&mut state, change);
        }
        drop(state);
        self.more.notify_one();
        None
    }

    fn begin(&self, state: &mut State) -> Telling<'_> {
        state.telling = true;
        state.next = Instant::now() + self.interval;
        Telling(self)
    }

    fn add(&self, state: &mut State, change: Envelope) {
        let Some(key) = change.change.key().cloned() else { return };
        let ends = matches!(change.change, Change::Delete(..));
        let place = state.places.get(&key).copied();
        let Some(slot) = place.and_then(|at| state.waiting.get_mut(at)) else {
            state.places.insert(key, state.waiting.len());
            state.waiting.push(Some(change));
            return;
        };
        let never_there = ends && self.bus.get(&key).is_none();
        self.stats.following.held_back.add(if never_there { 2 } else { 1 });
        *slot = (!never_there).then_some(change);
        if never_there {
            state.places.remove(&key);
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.telling = false;
        let waits = !state.waiting.is_empty();
        drop(state);
        if waits {
            self.0.more.notify_one();
        }
    }
}
