//! Workers: each is one task that runs many routes. It takes records, hands deliveries to sinks and sees each
//! answered.
//!
//! What one event of one of ten thousand routes touches is long out of the processor's caches, so what all
//! routes of a worker can share they do: the inbox, the tables of what is under way, the lanes, the outbox.

mod answers;
mod dispatch;
mod filtering;
mod route;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;

use slab::Slab;
use tokio::time::{Instant, sleep_until};

use super::chain::Chain;
use super::inbox::{Arrived, Inbox, News, Parcel, Seat, abandon, release};
use super::lanes::{JobId, Lanes};
use super::{RouteSpec, Sink, WhenFull, sink};
use crate::core::bus::Bus;
use crate::core::consumer::Entry;
use crate::core::delivery::{Delivery, Mailbox, Outcome, Reason};
use crate::core::envelope::Envelope;
use crate::core::record::Record;
use crate::core::view::View;
use route::Route;

/// Records taken on, as a multiple of the in-flight limit: keys that wait leave room for keys that go on.
const TAKEN_ON: usize = 4;
/// Records taken on in one turn, so that answers are looked at in between.
const TURN: usize = 256;
/// Records whose routes are [read ahead](Worker::warm_up) at once.
const TOGETHER: usize = 16;
/// Records of one route taken on before the next route has its turn.
const ROUTE_TURN: usize = 64;

/// One record that a route has taken and not answered.
#[derive(Debug)]
struct Task {
    seat: Seat,
    record: Arc<Record>,
    spec: Arc<RouteSpec>,
    /// The log keeps the record for us.
    held: bool,
    /// Deliveries not answered.
    open: usize,
    gravest: Outcome,
    /// Something was sent for it, to a sink or the dead letter.
    sent: bool,
    /// A sink was left out because it came in by that connector.
    looped: bool,
    /// Whose filters are to hear what became of it.
    filtered_by: Option<Arc<Chain>>,
}

/// One delivery of a task, over all its attempts.
#[derive(Debug)]
struct Job {
    task: usize,
    /// Index into the specification's `to`; `None` for its dead letter.
    to: Option<usize>,
    envelope: Arc<Envelope>,
    lane: u64,
    /// Its place among all jobs, in the order in which they were made.
    order: u64,
    /// Times the sink said no.
    rejections: u32,
    /// Times the sink was away since it last answered.
    absences: u32,
    /// Why it is on its way to the dead letter.
    verdict: Option<Reason>,
}

/// Runs routes. Made by [`Router::set`](super::Router::set); ends when all its routes are removed and done.
#[derive(Debug)]
pub struct Worker {
    bus: Bus,
    inbox: Arc<Inbox>,
    /// By seat.
    routes: Vec<Option<Route>>,
    news: VecDeque<News>,
    /// Routes that have records waiting here, and room for them.
    hungry: VecDeque<Seat>,
    tasks: Slab<Task>,
    jobs: Slab<Job>,
    lanes: Lanes,
    /// Routes whose filters may have something to do, and when the pauses of others are over.
    to_filter: VecDeque<Seat>,
    pauses: BinaryHeap<Reverse<(Instant, Seat)>>,
    /// Routes whose figures have changed in this turn.
    touched: Vec<Seat>,
    /// Jobs made so far.
    made: u64,
    outbox: Vec<(Arc<Mailbox>, Vec<Delivery>)>,
    /// The time of this turn: the clock is read once for all that is seen to in it.
    now: Instant,
    /// The log keeps something for us no longer: publishers may have room.
    let_go: bool,
}

impl Worker {
    pub(super) fn new(bus: Bus, inbox: Arc<Inbox>) -> Self {
        Self {
            bus,
            inbox,
            routes: Vec::new(),
            news: VecDeque::new(),
            hungry: VecDeque::new(),
            tasks: Slab::new(),
            jobs: Slab::new(),
            lanes: Lanes::default(),
            to_filter: VecDeque::new(),
            pauses: BinaryHeap::new(),
            touched: Vec::new(),
            made: 0,
            outbox: Vec::new(),
            now: Instant::now(),
            let_go: false,
        }
    }

    /// Runs until all its routes are removed and everything they took is answered. Dropped earlier, what it
    /// holds is undelivered.
    pub async fn run(mut self) {
        let inbox = Arc::clone(&self.inbox);
        let mut arrived = Arrived::default();
        loop {
            inbox.take(&mut arrived);
            self.now = Instant::now();
            for (ticket, outcome) in arrived.answers.drain(..) {
                self.answered(ticket as JobId, outcome);
            }
            for (seat, pieces) in arrived.filtered.drain(..) {
                self.leave_stage(seat, pieces);
            }
            self.news.append(&mut arrived.news);
            let took = self.take_on();
            let due = [self.lanes.wake(self.now), self.filter()].into_iter().flatten().min();
            self.send();
            self.show_figures();
            if std::mem::take(&mut self.let_go) {
                self.bus.0.room.notify_waiters();
            }
            tokio::task::consume_budget().await;
            if took || !self.hungry.is_empty() || !self.to_filter.is_empty() {
                continue;
            }
            if self.tasks.is_empty() && inbox.rest() {
                return;
            }
            match due {
                None => inbox.arrived().await,
                Some(due) => tokio::select! {
                    () = inbox.arrived() => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// Learns what is new and takes records on; `false` when there is nothing to do.
    fn take_on(&mut self) -> bool {
        let (mut left, mut took, mut warm) = (TURN, false, 0);
        // Half of a turn is for what waits here, where something does.
        let kept = if self.hungry.is_empty() { 0 } else { TURN / 2 };
        while left > kept {
            if warm == 0 {
                warm = self.warm_up();
            }
            let Some(news) = self.news.pop_front() else { break };
            took = true;
            warm -= 1;
            left -= match news {
                News::Records(parcel) => self.receive(parcel, (left - kept).min(ROUTE_TURN)).max(1),
                News::Added(seat, shared) => self.add(seat, Route::new(shared)),
                News::Changed(seat, spec) => self.change(seat, spec),
                News::Removed(seat) => self.remove(seat),
            };
        }
        while left > 0
            && let Some(seat) = self.hungry.pop_front()
        {
            took = true;
            if let Some(route) = self.route(seat) {
                route.hungry = false;
            }
            left -= self.feed(seat, left.min(ROUTE_TURN)).max(1);
        }
        took
    }

    /// Reads what the next records' routes need, step by step for several at once: one by one, each would wait for
    /// its own lines of the processor's caches. Gives how many.
    fn warm_up(&self) -> usize {
        let next = || self.news.iter().take(TOGETHER);
        let routes = || {
            next().filter_map(|news| match news {
                News::Records(parcel) => self.routes.get(parcel.seat)?.as_ref(),
                _ => None,
            })
        };
        black_box(routes().map(Route::head).sum::<usize>());
        black_box(routes().map(Route::body).sum::<usize>());
        black_box(routes().map(Route::sinks).sum::<usize>());
        next().count().max(1)
    }

    fn add(&mut self, seat: Seat, route: Route) -> usize {
        if self.routes.len() <= seat {
            self.routes.resize_with(seat + 1, || None);
        }
        if let Some(place) = self.routes.get_mut(seat) {
            *place = Some(route);
        }
        1
    }

    /// A reload: what is taken on from here on follows the new specification.
    fn change(&mut self, seat: Seat, spec: Arc<RouteSpec>) -> usize {
        if let Some(route) = self.route(seat) {
            route.spec = spec;
            self.lanes.resume(seat);
            self.look_at(seat);
            self.look_at_stage(seat);
        }
        1
    }

    fn remove(&mut self, seat: Seat) -> usize {
        if let Some(route) = self.route(seat) {
            route.removed = true;
            self.leave(seat);
        }
        1
    }

    /// Takes records on, at most `most`; the others wait. Gives how many it took.
    fn receive(&mut self, parcel: Parcel, most: usize) -> usize {
        let Some(route) = self.route(parcel.seat) else {
            parcel.abandon();
            return 0;
        };
        let Parcel { seat, entry, held } = parcel;
        match entry {
            Entry::One(record) if route.waiting == 0 && route.has_room() => {
                self.admit(seat, record, held);
                1
            }
            entry => {
                route.push(entry, held);
                let evicted = route.sweep();
                for (record, held) in evicted {
                    self.admit(seat, record, held);
                }
                self.touch(seat);
                self.feed(seat, most)
            }
        }
    }

    /// Takes on what waits, as far as there is room and at most `most`; gives how many it took.
    fn feed(&mut self, seat: Seat, most: usize) -> usize {
        let mut fed = 0;
        while fed < most
            && let Some(route) = self.route(seat).filter(|route| route.has_room())
            && let Some((record, held)) = route.next_record()
        {
            self.admit(seat, record, held);
            fed += 1;
        }
        self.look_at(seat);
        fed
    }

    /// Decides what becomes of a record.
    fn admit(&mut self, seat: Seat, record: Arc<Record>, held: bool) {
        self.touch(seat);
        let Some(route) = self.route(seat) else { return };
        route.tasks += 1;
        let (spec, stats) = (Arc::clone(&route.spec), Arc::clone(&route.shared.stats));
        stats.taken.add(1);
        let envelope = Arc::clone(&record.envelope);
        let evicted = record.is_evicted();
        let task = Task {
            seat,
            record,
            spec: Arc::clone(&spec),
            held,
            open: 0,
            gravest: Outcome::Filtered,
            sent: false,
            looped: false,
            filtered_by: None,
        };
        let task = self.tasks.insert(task);
        if evicted && spec.when_full == WhenFull::DropOldest {
            stats.dropped.add(1);
            return self.close(task, Outcome::Rejected("dropped as the oldest: the log was full".into()));
        }
        if evicted && spec.when_full == WhenFull::DeadLetter {
            return self.bury(task, &envelope, "the log was full".into(), 0);
        }
        let Some(entry) = self.tasks.get(task) else { return };
        match spec.wants(&View::of_record(&entry.record)) {
            Ok(true) => {}
            Ok(false) => {
                stats.filtered.add(1);
                return self.close(task, Outcome::Filtered);
            }
            Err(_) => {
                stats.errored.add(1);
                return self.close(task, Outcome::Filtered);
            }
        }
        // Behind those of its key that are still with filters a reload took away.
        if !spec.filters.is_empty() || self.is_filtering(seat) {
            return self.enter_stage(task, envelope);
        }
        let looped = self.hand_on(task, &envelope, None);
        if self.tasks.get(task).is_some_and(|task| task.open == 0) {
            (if looped { &stats.looped } else { &stats.filtered }).add(1);
            self.close(task, Outcome::Filtered);
        }
    }

    fn add_job(
        &mut self,
        task: usize,
        to: Option<usize>,
        envelope: Arc<Envelope>,
        sink: &Sink,
        verdict: Option<Reason>,
        rejections: u32,
    ) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        entry.open += 1;
        entry.sent = true;
        let seat = entry.seat;
        let order = self.made;
        self.made += 1;
        let hasher = foldhash::fast::FixedState::with_seed(1);
        let lane = hasher.hash_one((seat, sink.connector(), to.is_none(), envelope.order_key()));
        let job = Job { task, to, envelope, lane, order, rejections, absences: 0, verdict };
        let id = self.jobs.insert(job);
        self.lanes.push(lane, seat, order, id, sink.pipelined());
        if let Some(route) = self.route(seat) {
            route.jobs += 1;
        }
    }

    /// Sends a task's envelope to the dead letter.
    fn bury(&mut self, task: usize, envelope: &Envelope, reason: Reason, rejections: u32) {
        let Some(entry) = self.tasks.get(task) else { return };
        let spec = Arc::clone(&entry.spec);
        let dead = sink::dead(envelope, &spec, &reason, rejections);
        self.add_job(task, None, dead, &spec.dead_letter, Some(reason), rejections);
    }

    fn route(&mut self, seat: Seat) -> Option<&mut Route> {
        self.routes.get_mut(seat)?.as_mut()
    }

    /// Notes a route that has room for what waits.
    fn look_at(&mut self, seat: Seat) {
        if let Some(Some(route)) = self.routes.get_mut(seat)
            && route.waiting > 0
            && route.has_room()
            && !std::mem::replace(&mut route.hungry, true)
        {
            self.hungry.push_back(seat);
        }
    }

    /// Notes that a route's figures change.
    fn touch(&mut self, seat: Seat) {
        if let Some(Some(route)) = self.routes.get_mut(seat)
            && !std::mem::replace(&mut route.touched, true)
        {
            self.touched.push(seat);
        }
    }

    fn show_figures(&mut self) {
        for seat in self.touched.drain(..) {
            if let Some(Some(route)) = self.routes.get_mut(seat) {
                route.touched = false;
                route.show();
            }
        }
    }

    /// Lets go of a route that is removed and done.
    fn leave(&mut self, seat: Seat) {
        if self.route(seat).is_some_and(|route| route.is_done())
            && let Some(place) = self.routes.get_mut(seat)
        {
            *place = None;
            self.inbox.vacate(seat);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let ended = || Outcome::Undelivered("the route ended".into());
        for task in self.tasks.drain() {
            release(&task.record, task.held, ended());
        }
        for route in self.routes.iter_mut().flatten() {
            while let Some((record, held)) = route.next_record() {
                abandon(&record, held);
            }
        }
        let left = self.inbox.end().news;
        for news in self.news.drain(..).chain(left) {
            if let News::Records(parcel) = news {
                parcel.abandon();
            }
        }
        self.bus.0.room.notify_waiters();
    }
}
