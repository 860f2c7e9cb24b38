//! Routes: cursors in the log that filter and hand on, and the router that holds them.
//!
//! A route takes each matching record once, in order of its key, and answers its receipt when every sink
//! has answered. A key whose delivery fails waits; other keys go on. What is rejected too often goes to the
//! dead letter; while that fails, nothing is acknowledged.

mod chain;
mod explain;
mod inbox;
mod lanes;
mod sink;
mod stage;
#[cfg(test)]
mod tests;
mod threads;
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::bus::Bus;
use super::consumer::{Consumer, Role, Source};
use super::delivery::{Guarantee, Mailbox, Target};
use super::envelope::Key;
use super::selector::{Predicate, TopicFilter};
use super::stats::RouteStats;
use super::template::Template;
use super::topic::Topic;
use crate::core::filter::FilterSpec;
use inbox::News;
use threads::FilterThreads;

pub use explain::{Explanation, FilterExplanation, SinkExplanation};
pub(crate) use inbox::{Inbox, Parcel, Seat};
pub use worker::Worker;

/// Most workers, however many processors there are.
pub(crate) const WORKERS_MAX: usize = 16;

/// The longest pause after a failure, whatever the configuration says.
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// When the log is full and this route has not answered its oldest record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Publishers wait.
    #[default]
    Block,
    /// The record goes to the dead letter.
    DeadLetter,
    /// The record is dropped, counted.
    DropOldest,
}

/// How often and how fast a rejected delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Rejections until the dead letter, at least 1.
    pub max_attempts: u32,
    /// The first pause; doubles each time, with jitter.
    pub initial: Duration,
    /// The longest pause; of more than a day, a day.
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 8, initial: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The pause after the `n`th failure in a row: doubling, capped, with jitter over its upper half.
    fn pause(self, n: u32) -> Duration {
        let doubled = self.initial.saturating_mul(1 << n.saturating_sub(1).min(20));
        doubled.min(self.max).min(PAUSE_MAX).mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

/// Where a route sends.
#[derive(Clone, Debug)]
pub enum Sink {
    /// To a connector.
    Connector {
        /// Its name.
        name: ByteString,
        /// Its inbox.
        mailbox: Arc<Mailbox>,
        /// Address and settings.
        target: Target,
    },
    /// Back into the bus, as an event on the rendered topic.
    Bus {
        /// The topic.
        topic: Template,
    },
    /// Into the state of the bus's own key space: the key that lives at the rendered topic.
    State {
        /// The topic.
        topic: Template,
        /// Says which key lives where.
        key_at: KeyAt,
    },
}

/// The key that lives at a topic, the scope of a plain value being the one that is given; `None` where none does.
pub type KeyAt = fn(&Topic, &str) -> Option<Key>;

/// One `to:` entry.
#[derive(Clone, Debug)]
pub struct To {
    /// Only what a filter emits under this name; `None` for the main output.
    pub output: Option<ByteString>,
    /// Where it goes.
    pub sink: Sink,
}

/// A route as configured.
#[derive(Debug)]
pub struct RouteSpec {
    /// Its name.
    pub name: ByteString,
    /// What it takes, any of these; empty means all.
    pub from: Vec<Source>,
    /// What it wants of that, all of these.
    pub predicates: Vec<Arc<dyn Predicate>>,
    /// What is done with that before it goes anywhere, in order.
    pub filters: Vec<FilterSpec>,
    /// Where that goes, all of these.
    pub to: Vec<To>,
    /// How it tries again.
    pub retry: Retry,
    /// Where what is rejected for good goes.
    pub dead_letter: Sink,
    /// What gives way when the log is full.
    pub when_full: WhenFull,
    /// Deliveries under way at once, over all sinks.
    pub in_flight: usize,
}

impl RouteSpec {
    fn sources(&self) -> Vec<Source> {
        if self.from.is_empty() {
            return vec![Source { connector: None, topic: None }];
        }
        self.from.clone()
    }

    fn filters(&self) -> Vec<Option<TopicFilter>> {
        self.sources().into_iter().map(|source| source.topic).collect()
    }

    fn role(&self, route: &Shared) -> Role {
        Role::Route {
            route: route.id,
            from: self.sources(),
            blocks: self.when_full == WhenFull::Block,
            inbox: Arc::clone(&route.inbox),
            seat: route.seat,
        }
    }

    /// The sink of its `to` entry of that index; its dead letter for `None`.
    fn sink(&self, to: Option<usize>) -> Option<&Sink> {
        match to {
            Some(index) => self.to.get(index).map(|to| &to.sink),
            None => Some(&self.dead_letter),
        }
    }

    /// The least sure of its sinks; `None` when all are on the bus itself.
    pub fn weakest(&self) -> Option<&Guarantee> {
        let guarantee = |to: &To| match &to.sink {
            Sink::Connector { target, .. } => Some(target.guarantee.assurance),
            Sink::Bus { .. } | Sink::State { .. } => None,
        };
        let weakest = self.to.iter().filter(|to| guarantee(to).is_some()).min_by_key(|to| guarantee(to))?;
        match &weakest.sink {
            Sink::Connector { target, .. } => Some(&target.guarantee),
            Sink::Bus { .. } | Sink::State { .. } => None,
        }
    }
}

/// A running route, as the router and its worker share it.
#[derive(Debug)]
pub(crate) struct Shared {
    id: u64,
    /// Its worker, and its number there.
    inbox: Arc<Inbox>,
    seat: Seat,
    spec: ArcSwap<RouteSpec>,
    stats: Arc<RouteStats>,
    threads: Arc<FilterThreads>,
    /// `None` when it is removed.
    attached: Mutex<Option<Attached>>,
}

/// What stands for a route at the bus, and its filters.
type Attached = (Arc<Consumer>, Vec<Option<TopicFilter>>);

/// The routes of a bus.
#[derive(Debug)]
pub struct Router {
    bus: Bus,
    routes: Mutex<Routes>,
    threads: Arc<FilterThreads>,
    /// How many workers there are at most.
    workers: usize,
}

#[derive(Debug, Default)]
struct Routes {
    by_name: HashMap<ByteString, Arc<Shared>>,
    /// Of the workers there are.
    inboxes: Vec<Arc<Inbox>>,
    /// Routes made so far.
    made: u64,
}

impl Router {
    /// No routes yet.
    pub fn new(bus: Bus) -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
        Self { bus, routes: Mutex::default(), threads: Arc::new(FilterThreads::new()), workers }
    }

    /// Adds a route, or gives a running one a new specification.
    ///
    /// A new route begins with what comes next. The routes share as many workers as there are processors; where
    /// a new route begins one more, it is returned, and the caller runs it. A running route keeps its cursor and
    /// what is under way: nothing is missed or taken twice by the change.
    pub fn set(&self, spec: RouteSpec) -> Option<Worker> {
        let mut routes = self.routes.lock();
        if let Some(route) = routes.by_name.get(&spec.name) {
            route.replace(&self.bus, spec);
            return None;
        }
        routes.made += 1;
        let id = routes.made;
        self.add(&mut routes, id, Arc::new(spec), Arc::default())
    }

    /// Gives the routes whose worker has ended before its time, by a panic, to others. They begin with what comes
    /// next: what they had was undelivered. Returns the workers to be run.
    pub fn restore(&self) -> Vec<Worker> {
        let mut routes = self.routes.lock();
        let orphans = routes.by_name.extract_if(|_, route| route.inbox.routes().is_none());
        let orphans: Vec<Arc<Shared>> = orphans.map(|(_, route)| route).collect();
        let restored = orphans.into_iter().filter_map(|route| {
            route.detach(&self.bus);
            self.add(&mut routes, route.id, route.spec.load_full(), Arc::clone(&route.stats))
        });
        restored.collect()
    }

    fn add(
        &self,
        routes: &mut Routes,
        id: u64,
        spec: Arc<RouteSpec>,
        stats: Arc<RouteStats>,
    ) -> Option<Worker> {
        let (inbox, seat, worker) = routes.seat(&self.bus, self.workers);
        let filters = spec.filters();
        let route = Arc::new(Shared {
            id,
            inbox,
            seat,
            spec: ArcSwap::new(Arc::clone(&spec)),
            stats,
            threads: Arc::clone(&self.threads),
            attached: Mutex::default(),
        });
        // Before its first record.
        route.inbox.tell(News::Added(seat, Arc::clone(&route)));
        let (consumer, ()) = self.bus.attach(spec.role(&route), &filters, |_| ());
        *route.attached.lock() = Some((consumer, filters));
        routes.by_name.insert(spec.name.clone(), route);
        worker
    }

    /// Removes a route: it takes nothing more and finishes what it has. A worker ends with its last route.
    pub fn remove(&self, name: &str) {
        let Some(route) = self.routes.lock().by_name.remove(name) else { return };
        route.detach(&self.bus);
        route.inbox.tell(News::Removed(route.seat));
    }

    /// Name, specification and counters of every route, by name.
    pub fn routes(&self) -> Vec<(ByteString, Arc<RouteSpec>, Arc<RouteStats>)> {
        let routes = self.routes.lock();
        let listed = routes.by_name.iter();
        let mut listed: Vec<_> = listed
            .map(|(name, route)| (name.clone(), route.spec.load_full(), Arc::clone(&route.stats)))
            .collect();
        listed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        listed
    }

    /// Whether no route has anything waiting or under way.
    pub fn is_idle(&self) -> bool {
        self.routes.lock().inboxes.iter().all(|inbox| inbox.is_idle())
    }
}

impl Routes {
    /// A seat for a new route: at a new worker while there are fewer than `workers`, else at the one with the
    /// fewest routes.
    fn seat(&mut self, bus: &Bus, workers: usize) -> (Arc<Inbox>, Seat, Option<Worker>) {
        // Those that have ended take no routes.
        self.inboxes.retain(|inbox| inbox.routes().is_some());
        if self.inboxes.len() >= workers
            && let Some(inbox) = self.inboxes.iter().min_by_key(|inbox| inbox.routes())
            && let Some(seat) = inbox.seat()
        {
            return (Arc::clone(inbox), seat, None);
        }
        let inbox = Arc::new(Inbox::default());
        self.inboxes.push(Arc::clone(&inbox));
        let worker = Worker::new(bus.clone(), Arc::clone(&inbox));
        (Arc::clone(&inbox), inbox.seat().unwrap_or_default(), Some(worker))
    }
}

impl Shared {
    /// No more records come.
    fn detach(&self, bus: &Bus) {
        if let Some((consumer, filters)) = self.attached.lock().take() {
            bus.detach(&consumer, &filters);
        }
    }

    /// Swaps the specification; where `from:` changed, what stands for it at the bus too, under one lock of the
    /// bus.
    fn replace(&self, bus: &Bus, spec: RouteSpec) {
        let mut attached = self.attached.lock();
        let spec = Arc::new(spec);
        let old = self.spec.swap(Arc::clone(&spec));
        // Before the first record that only the new one takes.
        self.inbox.tell(News::Changed(self.seat, Arc::clone(&spec)));
        let same_queue = old.sources() == spec.sources() && old.when_full == spec.when_full;
        if !same_queue && let Some((consumer, old_filters)) = attached.take() {
            let filters = spec.filters();
            let fresh = bus.exchange(&consumer, &old_filters, spec.role(self), &filters);
            *attached = Some((fresh, filters));
        }
    }
}
