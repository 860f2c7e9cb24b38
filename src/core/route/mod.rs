//! Routes: cursors in the log that filter and hand on, and the router that holds them.
//!
//! A route takes each matching record once, in order of its key, and answers its receipt when every sink
//! has answered. A key whose delivery fails waits; other keys go on. What is rejected too often goes to the
//! dead letter; while that fails, nothing is acknowledged.

mod chain;
mod explain;
mod lanes;
mod sink;
mod stage;
#[cfg(test)]
mod tests;
mod threads;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bus::Bus;
use super::consumer::{Consumer, Role, Source};
use super::delivery::{Answers, Guarantee, Mailbox, Outcome, Target};
use super::selector::{Predicate, TopicFilter};
use super::stats::RouteStats;
use super::template::Template;
use crate::core::filter::FilterSpec;
use threads::FilterThreads;

pub use explain::{Explanation, FilterExplanation, SinkExplanation};
pub use worker::Worker;

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
    /// The longest pause.
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
        doubled.min(self.max).mul_f64(0.5 + 0.5 * fastrand::f64())
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
}

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

    fn role(&self, route: u64) -> Role {
        Role::Route { route, from: self.sources(), blocks: self.when_full == WhenFull::Block }
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
            Sink::Bus { .. } => None,
        };
        let weakest = self.to.iter().filter(|to| guarantee(to).is_some()).min_by_key(|to| guarantee(to))?;
        match &weakest.sink {
            Sink::Connector { target, .. } => Some(&target.guarantee),
            Sink::Bus { .. } => None,
        }
    }
}

/// A running route, as the router and the worker share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: u64,
    pub(crate) bus: Bus,
    pub(crate) spec: ArcSwap<RouteSpec>,
    pub(crate) stats: Arc<RouteStats>,
    pub(crate) answered: Arc<Answered>,
    /// What the filters have done and the worker has not looked at yet.
    filtered: Mutex<Option<Vec<chain::Piece>>>,
    threads: Arc<FilterThreads>,
    control: Mutex<Control>,
    /// No record waits and no delivery is under way.
    idle: AtomicBool,
}

#[derive(Debug, Default)]
struct Control {
    /// Queues the worker has not picked up, in order.
    inputs: Vec<Arc<Consumer>>,
    /// The queue that is attached now, and its filters.
    attached: Option<(Arc<Consumer>, Vec<Option<TopicFilter>>)>,
}

/// The answers a worker has not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    answers: Mutex<Vec<(u64, Outcome)>>,
    pub(crate) arrived: Notify,
}

impl Answers for Answered {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        let mut answers = self.answers.lock();
        answers.push((ticket, outcome));
        // The worker takes all there are at once: only the first needs to wake it.
        let first = answers.len() == 1;
        drop(answers);
        if first {
            self.arrived.notify_one();
        }
    }
}

impl Answered {
    fn take(&self, into: &mut Vec<(u64, Outcome)>) {
        std::mem::swap(&mut *self.answers.lock(), into);
    }
}

/// The routes of a bus.
#[derive(Debug)]
pub struct Router {
    bus: Bus,
    routes: Mutex<HashMap<ByteString, Arc<Shared>>>,
    next: AtomicU64,
    threads: Arc<FilterThreads>,
}

impl Router {
    /// No routes yet.
    pub fn new(bus: Bus) -> Self {
        Self {
            bus,
            routes: Mutex::default(),
            next: AtomicU64::new(1),
            threads: Arc::new(FilterThreads::new()),
        }
    }

    /// Adds a route, or gives a running one a new specification.
    ///
    /// A new route begins with what comes next and returns its worker, which the caller runs. A running one
    /// keeps its cursor and what is under way: nothing is missed or taken twice by the change.
    pub fn set(&self, spec: RouteSpec) -> Option<Worker> {
        let mut routes = self.routes.lock();
        if let Some(route) = routes.get(&spec.name) {
            route.replace(spec);
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let filters = spec.filters();
        let (consumer, ()) = self.bus.attach(spec.role(id), &filters, |_| ());
        let name = spec.name.clone();
        let route = Arc::new(Shared {
            id,
            bus: self.bus.clone(),
            spec: ArcSwap::from_pointee(spec),
            stats: Arc::default(),
            answered: Arc::default(),
            filtered: Mutex::default(),
            threads: Arc::clone(&self.threads),
            control: Mutex::new(Control {
                inputs: vec![Arc::clone(&consumer)],
                attached: Some((consumer, filters)),
            }),
            idle: AtomicBool::new(true),
        });
        routes.insert(name, Arc::clone(&route));
        Some(Worker::new(route))
    }

    /// Removes a route: it takes nothing more, finishes what it has and then its worker ends.
    pub fn remove(&self, name: &str) {
        if let Some(route) = self.routes.lock().remove(name) {
            let attached = route.control.lock().attached.take();
            if let Some((consumer, filters)) = attached {
                self.bus.detach(&consumer, &filters);
            }
            route.answered.arrived.notify_one();
        }
    }

    /// Name, specification and counters of every route, by name.
    pub fn routes(&self) -> Vec<(ByteString, Arc<RouteSpec>, Arc<RouteStats>)> {
        let mut routes: Vec<_> = self
            .routes
            .lock()
            .iter()
            .map(|(name, route)| (name.clone(), route.spec.load_full(), Arc::clone(&route.stats)))
            .collect();
        routes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        routes
    }

    /// Whether no route has anything waiting or under way.
    pub fn is_idle(&self) -> bool {
        self.routes.lock().values().all(|route| {
            let queued = route.control.lock().attached.as_ref().is_some_and(|(input, _)| input.len() > 0);
            !queued && route.idle.load(Ordering::Acquire)
        })
    }
}

impl Shared {
    /// Swaps the specification; where `from:` changed, the queue too, under one lock of the bus.
    fn replace(&self, spec: RouteSpec) {
        let mut control = self.control.lock();
        let old = self.spec.load_full();
        let (role, filters) = (spec.role(self.id), spec.filters());
        let same_queue = old.sources() == spec.sources() && old.when_full == spec.when_full;
        self.spec.store(Arc::new(spec));
        if !same_queue && let Some((consumer, old_filters)) = control.attached.take() {
            let fresh = self.bus.exchange(&consumer, &old_filters, role, &filters);
            control.inputs.push(Arc::clone(&fresh));
            control.attached = Some((fresh, filters));
        }
        drop(control);
        self.answered.arrived.notify_one();
    }

    /// Whether nothing more can come: the router let go of it.
    fn is_removed(&self) -> bool {
        self.control.lock().attached.is_none()
    }

    /// Queues added since the last call, in order.
    fn new_inputs(&self) -> Vec<Arc<Consumer>> {
        std::mem::take(&mut self.control.lock().inputs)
    }
}
