//! A route as its worker has it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::TAKEN_ON;
use crate::core::consumer::Entry;
use crate::core::record::Record;
use crate::core::route::stage::Stage;
use crate::core::route::{RouteSpec, Shared, Sink, To, WhenFull};

/// Fewest records in a backlog of which it is asked whether the log let them go.
const SWEEP_MIN: usize = 1024;

#[derive(Debug)]
pub(super) struct Route {
    pub(super) shared: Arc<Shared>,
    pub(super) spec: Arc<RouteSpec>,
    /// Only where it has had filters.
    pub(super) stage: Option<Box<Stage>>,
    /// When the worker looks at the stage again.
    pub(super) due: Option<Instant>,
    /// Records taken and not answered.
    pub(super) tasks: usize,
    /// Deliveries of them that are not done.
    pub(super) jobs: usize,
    pub(super) under_way: usize,
    /// What waits for room, in order, each with whether the log keeps it for us.
    backlog: VecDeque<(Entry, bool)>,
    /// How much of the first of the backlog is taken.
    taken: usize,
    /// Records in the backlog.
    pub(super) waiting: usize,
    /// When there are so many, those that the log let go are looked for.
    sweep_at: usize,
    /// No record comes any more.
    pub(super) removed: bool,
    /// In the worker's list of that name.
    pub(super) hungry: bool,
    pub(super) to_filter: bool,
    pub(super) touched: bool,
}

impl Route {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            spec: shared.spec.load_full(),
            shared,
            stage: None,
            due: None,
            tasks: 0,
            jobs: 0,
            under_way: 0,
            backlog: VecDeque::new(),
            taken: 0,
            waiting: 0,
            sweep_at: SWEEP_MIN,
            removed: false,
            hungry: false,
            to_filter: false,
            touched: false,
        }
    }

    /// Reads each line of the route itself.
    pub(super) fn head(&self) -> usize {
        self.tasks + self.waiting + usize::from(self.touched)
    }

    /// Reads what the route refers to.
    pub(super) fn body(&self) -> usize {
        let stats = &self.shared.stats;
        self.spec.in_flight + self.spec.to.len() + self.spec.name.len() + stats.taken.get() as usize
    }

    /// Reads each line of its sinks.
    pub(super) fn sinks(&self) -> usize {
        let sink = |to: &To| match &to.sink {
            Sink::Connector { name, target, .. } => {
                name.len() + usize::from(target.pipelined) + Arc::strong_count(&target.options)
            }
            Sink::Bus { topic } | Sink::State { topic, .. } => topic.text().len(),
        };
        self.spec.to.iter().map(sink).sum::<usize>() + self.shared.stats.delivered.get() as usize
    }

    /// Whether it may take a record on.
    pub(super) fn has_room(&self) -> bool {
        self.tasks < self.spec.in_flight.saturating_mul(TAKEN_ON)
    }

    /// Whether it may send a delivery.
    pub(super) fn may_send(&self) -> bool {
        self.under_way < self.spec.in_flight
    }

    /// Whether it is removed, and all it took is answered.
    pub(super) fn is_done(&self) -> bool {
        self.removed && self.tasks == 0 && self.waiting == 0
    }

    /// Puts records behind those that wait.
    pub(super) fn push(&mut self, entry: Entry, held: bool) {
        self.waiting += entry.records().len();
        self.backlog.push_back((entry, held));
    }

    /// Takes from the backlog what the log has let go, where the log need not keep anything for this route: else
    /// such records would be held here without a bound. Each is looked at once for each doubling.
    pub(super) fn sweep(&mut self) -> Vec<(Arc<Record>, bool)> {
        if self.waiting < self.sweep_at || self.spec.when_full == WhenFull::Block {
            return Vec::new();
        }
        let (mut evicted, mut kept) = (Vec::new(), VecDeque::new());
        while let Some((record, held)) = self.next_record() {
            if record.is_evicted() {
                evicted.push((record, held));
            } else {
                kept.push_back((Entry::One(record), held));
            }
        }
        (self.waiting, self.backlog) = (kept.len(), kept);
        self.sweep_at = SWEEP_MIN.max(2 * self.waiting);
        evicted
    }

    /// The record that has waited longest, and whether the log keeps it for us.
    pub(super) fn next_record(&mut self) -> Option<(Arc<Record>, bool)> {
        loop {
            let (entry, held) = self.backlog.front()?;
            if let Some(record) = entry.records().get(self.taken) {
                self.taken += 1;
                self.waiting -= 1;
                return Some((Arc::clone(record), *held));
            }
            self.backlog.pop_front();
            self.taken = 0;
        }
    }

    /// Sets its gauges.
    pub(super) fn show(&self) {
        let stats = &self.shared.stats;
        let under_way = self.under_way + self.stage.as_ref().map_or(0, |stage| stage.under_way());
        stats.in_flight.set(under_way as u64);
        stats.waiting.set((self.waiting + self.tasks).saturating_sub(under_way) as u64);
    }
}
