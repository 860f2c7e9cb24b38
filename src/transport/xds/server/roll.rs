//! What the bus is told of connections: the first change at once, what comes within an interval of it together at its end,
//! so that ten thousand clients that come at once are some publications rather than ten thousand.
//!
//! Of a key the last change counts. One that came and went in between was never there.
//!
//! One task publishes, [`Roll::run`], so that nothing overtakes what waits for room in the log, and a stream that ends
//! meanwhile takes nothing with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::core::bus::Ingress;
use crate::core::stats::ConnectorStats;
use crate::core::{Bus, Change, Envelope, Key};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Roll {
    bus: Ingress,
    stats: Arc<ConnectorStats>,
    interval: Duration,
    /// Most changes that wait; beyond, who has more to tell waits, too.
    max: usize,
    state: Mutex<State>,
    more: Notify,
    /// Changes at the end of each publication.
    told: watch::Sender<()>,
    closing: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// In the order in which keys came.
    waiting: BTreeMap<u64, Envelope>,
    places: HashMap<Key, u64>,
    last: u64,
    /// The keys of the publication that is under way: whether they are in the table is not known.
    telling: HashSet<Key>,
    /// When something may be told again.
    next: Instant,
    /// Whether nobody tells what waits any more.
    closed: bool,
}

/// What became of changes that were to be told.
enum Left {
    /// They are in the next publication, which begins now.
    Now,
    /// They are in the next publication.
    Later,
    /// Nothing: too many wait.
    Full(Vec<Envelope>),
    /// Nothing: who has something to tell does it.
    Closed(Vec<Envelope>),
}

impl Roll {
    /// Tells as little as once an `interval`, with up to `max` changes.
    pub(super) fn new(bus: Ingress, stats: Arc<ConnectorStats>, interval: Duration, max: usize) -> Self {
        let state = State {
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            last: 0,
            telling: HashSet::new(),
            next: Instant::now(),
            closed: false,
        };
        Self {
            bus,
            stats,
            interval,
            max,
            state: Mutex::new(state),
            more: Notify::new(),
            told: watch::Sender::new(()),
            closing: CancellationToken::new(),
        }
    }

    /// Tells changes of keys: before it returns where nothing was told within the interval.
    pub(super) async fn tell(&self, mut batch: Vec<Envelope>) {
        let mut told = self.told.subscribe();
        loop {
            match self.add_all(batch) {
                Left::Later => return,
                Left::Now => {
                    // Fails only where there is no roll any more.
                    drop(told.changed().await);
                    return;
                }
                // Nobody waits for these: whoever wants them finds them in the table.
                Left::Closed(batch) => return drop(Bus::publish(&self.bus, batch).await),
                Left::Full(left) => {
                    batch = left;
                    drop(told.changed().await);
                }
            }
        }
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

    /// Tells what waits at the end of each interval, until it is closed and nothing waits, or the grace period is over.
    pub(super) async fn run(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = self.more.notified() => {}
                () = self.closing.cancelled() => {}
            }
            let next = self.state.lock().next;
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.closing.cancelled() => {}
            }
            let Some(batch) = self.take() else {
                if self.closing.is_cancelled() {
                    return;
                }
                continue;
            };
            tokio::select! {
                receipts = Bus::publish(&self.bus, batch) => drop(receipts),
                () = shutdown.end() => return,
            }
            self.state.lock().telling.clear();
            self.told.send_replace(());
        }
    }

    /// Tells what waits without waiting any longer; what comes later is told one by one.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    fn take(&self) -> Option<Vec<Envelope>> {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        if waiting.is_empty() {
            state.closed = self.closing.is_cancelled();
            return None;
        }
        state.telling = std::mem::take(&mut state.places).into_keys().collect();
        state.next = Instant::now() + self.interval;
        Some(waiting.into_values().collect())
    }

    fn add_all(&self, batch: Vec<Envelope>) -> Left {
        let mut state = self.state.lock();
        if state.closed {
            return Left::Closed(batch);
        }
        if state.waiting.len() >= self.max {
            return Left::Full(batch);
        }
        let now = Instant::now() >= state.next && state.waiting.is_empty() && state.telling.is_empty();
        for change in batch {
            self.add(&mut state, change);
        }
        drop(state);
        self.more.notify_one();
        if now { Left::Now } else { Left::Later }
    }

    fn add(&self, state: &mut State, change: Envelope) {
        let Some(key) = change.change.key().cloned() else { return };
        let ends = matches!(change.change, Change::Delete(..));
        let never_there = ends && !state.telling.contains(&key) && self.bus.get(&key).is_none();
        let place = state.places.get(&key).copied();
        // What takes the place of another is one change less to tell, and what was never there is none.
        self.stats.following.held_back.add(u64::from(place.is_some()) + u64::from(never_there));
        if never_there {
            state.places.remove(&key);
            place.and_then(|place| state.waiting.remove(&place));
            return;
        }
        let place = place.unwrap_or_else(|| {
            state.last += 1;
            state.places.insert(key, state.last);
            state.last
        });
        state.waiting.insert(place, change);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::core::bus::BusOptions;
    use crate::core::consumer::Overflow;
    use crate::core::selector::{Selector, TopicFilter};
    use crate::core::subscription::{Message, Start, Subscription};
    use crate::core::{Timestamp, Topic};
    use crate::schema::own;
    use crate::transport::xds::server::testing::soon;

    fn roll(max: usize) -> (Bus, Arc<Roll>) {
        let bus = Bus::new(BusOptions { name: "test".into(), ..BusOptions::default() });
        let ingress = bus.ingress("ads", Key::LOCAL);
        let roll = Roll::new(ingress, Arc::default(), Duration::ZERO, max);
        (bus, Arc::new(roll))
    }

    fn running(roll: &Arc<Roll>) -> tokio::task::JoinHandle<()> {
        let roll = Arc::clone(roll);
        task::spawn("roll", async move { roll.run(&Shutdown::new()).await })
    }

    fn put(id: &str, value: &str) -> Envelope {
        let topic = own::connection_topic("xds", id).unwrap();
        own::put(topic, own::key("Connection", id.to_owned()), &value.into(), Timestamp::now())
    }

    fn end(id: &str) -> Envelope {
        own::delete(own::connection_topic("xds", id).unwrap(), own::key("Connection", id.to_owned()))
    }

    fn is_there(bus: &Bus, id: &str) -> bool {
        bus.get(&own::key("Connection", id.to_owned())).is_some()
    }

    /// Makes the bus full: nothing is taken before the subscription is read.
    async fn fill(bus: &Bus) -> Subscription {
        let filter = TopicFilter::parse("test").unwrap();
        let held = bus.subscribe(Selector::topic(filter), Start::Now, 1, Overflow::Block).unwrap();
        let event = || Envelope::event(Topic::parse("test").unwrap(), "1", "/test", "test");
        for _ in 0..2 {
            bus.publish(vec![event()]).await;
        }
        assert!(bus.publish(vec![event()]).now_or_never().is_none(), "the bus is full");
        held
    }

    /// Waits until a publication is under way.
    async fn under_way(roll: &Roll) {
        soon(async {
            while roll.state.lock().telling.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn read_all(mut held: Subscription, until: impl Fn() -> bool) {
        soon(async {
            while !until() {
                tokio::select! {
                    message = held.next() => assert!(matches!(message, Some(Message::Batch(_)))),
                    () = tokio::task::yield_now() => {}
                }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn who_ends_while_the_bus_is_full_does_not_stay() {
        let (bus, roll) = roll(16);
        let run = running(&roll);
        let held = fill(&bus).await;
        assert!(roll.tell(vec![put("a", "1")]).now_or_never().is_none(), "the bus is full");
        under_way(&roll).await;
        // The first is on its way, so that a later one and the end are not of what was never there.
        roll.tell(vec![put("a", "2")]).await;
        roll.leave(end("a"));
        roll.tell(vec![put("b", "1")]).await;
        read_all(held, || is_there(&bus, "b")).await;
        assert!(!is_there(&bus, "a"));
        roll.close();
        soon(run).await.unwrap();
    }

    #[tokio::test]
    async fn a_close_tells_all_that_waits_for_room() {
        let (bus, roll) = roll(16);
        let run = running(&roll);
        let held = fill(&bus).await;
        assert!(roll.tell(vec![put("a", "1")]).now_or_never().is_none(), "the bus is full");
        under_way(&roll).await;
        roll.tell(vec![put("b", "1")]).await;
        roll.close();
        roll.leave(end("a"));
        read_all(held, || run.is_finished()).await;
        assert!(!is_there(&bus, "a") && is_there(&bus, "b"));
        // Nobody tells what comes now but who has it.
        roll.tell(vec![put("c", "1")]).await;
        assert!(is_there(&bus, "c"));
    }

    #[tokio::test]
    async fn no_more_wait_than_may_and_who_came_and_went_takes_no_room() {
        let (bus, roll) = roll(2);
        for id in ["a", "b", "c", "d"] {
            assert!(roll.tell(vec![put(id, "1")]).now_or_never().is_none(), "nobody tells it");
            roll.leave(end(id));
        }
        assert_eq!(roll.state.lock().waiting.len(), 0);
        assert!(roll.tell(vec![put("a", "1")]).now_or_never().is_none(), "nobody tells it");
        roll.tell(vec![put("b", "1")]).await;
        let mut waits = Box::pin(roll.tell(vec![put("c", "1")]));
        assert!((&mut waits).now_or_never().is_none(), "no room");
        let run = running(&roll);
        soon(waits).await;
        roll.close();
        soon(run).await.unwrap();
        assert!(["a", "b", "c"].iter().all(|id| is_there(&bus, id)));
    }
}
