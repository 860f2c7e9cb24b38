//! A route's worker: one task that takes records, hands deliveries to sinks and sees each answered.

mod filtering;

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::OptionFuture;
use slab::Slab;
use tokio::time::{Instant, sleep_until};

use super::chain::Chain;
use super::lanes::{JobId, Lanes, Recall};
use super::stage::Stage;
use super::{RouteSpec, Shared, Sink, WhenFull, sink};
use crate::core::consumer::{Consumer, Role, Taken};
use crate::core::delivery::{Answers, Delivery, Mailbox, Outcome, Reason};
use crate::core::envelope::{Envelope, Key};
use crate::core::publish::Origin;
use crate::core::receipt::graver;
use crate::core::record::{Record, Records};
use crate::core::topic::Topic;

/// Records taken on, as a multiple of the in-flight limit: keys that wait leave room for keys that go on.
const TAKEN_ON: usize = 4;
/// Records taken on in one turn, so that answers are looked at in between.
const TURN: usize = 256;

/// One record that this route has taken and not answered.
#[derive(Debug)]
struct Task {
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

/// Runs one route. Made by [`Router::set`](super::Router::set); ends when the route is removed and done.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    spec: Arc<RouteSpec>,
    inputs: VecDeque<Arc<Consumer>>,
    /// The batch in hand, how much of it is taken, and whether the log keeps it for us.
    batch: Option<(Records, usize, bool)>,
    tasks: Slab<Task>,
    jobs: Slab<Job>,
    lanes: Lanes,
    stage: Stage,
    /// Jobs made so far.
    made: u64,
    under_way: usize,
    outbox: Vec<(Arc<Mailbox>, Vec<Delivery>)>,
    /// The time of this turn: the clock is read once for all that is seen to in it.
    now: Instant,
    /// The log keeps something for us no longer: publishers may have room.
    let_go: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            spec: shared.spec.load_full(),
            shared,
            inputs: VecDeque::new(),
            batch: None,
            tasks: Slab::new(),
            jobs: Slab::new(),
            lanes: Lanes::default(),
            stage: Stage::default(),
            made: 0,
            under_way: 0,
            outbox: Vec::new(),
            now: Instant::now(),
            let_go: false,
        }
    }

    /// Runs until the route is removed and everything it took is answered. Dropped earlier, what it holds
    /// is undelivered.
    pub async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut answers = Vec::new();
        loop {
            self.spec = shared.spec.load_full();
            shared.answered.take(&mut answers);
            self.now = Instant::now();
            for (ticket, outcome) in answers.drain(..) {
                self.answered(ticket as JobId, outcome);
            }
            self.leave_stage();
            let took = self.take_on();
            let due = [self.lanes.wake(self.now), self.filter()].into_iter().flatten().min();
            self.send();
            self.show_figures();
            if std::mem::take(&mut self.let_go) {
                shared.bus.0.room.notify_waiters();
            }
            if took {
                tokio::task::consume_budget().await;
                continue;
            }
            if self.is_done() {
                return;
            }
            self.wait(due).await;
        }
    }

    /// Waits for an answer, a record there is room for, or the end of a pause.
    async fn wait(&mut self, due: Option<Instant>) {
        let input = self.inputs.front().filter(|_| self.has_room());
        let arrival = OptionFuture::from(input.map(|input| input.arrived()));
        let pause = OptionFuture::from(due.map(sleep_until));
        tokio::select! {
            () = self.shared.answered.arrived.notified() => {}
            Some(()) = arrival => {}
            Some(()) = pause => {}
        }
    }

    fn has_room(&self) -> bool {
        self.tasks.len() < self.spec.in_flight.saturating_mul(TAKEN_ON)
    }

    fn is_done(&mut self) -> bool {
        self.inputs.extend(self.shared.new_inputs());
        let idle = self.tasks.is_empty() && self.batch.is_none();
        let waiting = self.inputs.iter().any(|input| input.len() > 0);
        self.shared.idle.store(idle && !waiting, Ordering::Release);
        idle && self.inputs.is_empty() && self.shared.is_removed()
    }

    fn show_figures(&self) {
        let stats = &self.shared.stats;
        let in_hand = self.batch.as_ref().map_or(0, |(records, at, _)| records.len() - at);
        let queued: usize = self.inputs.iter().map(|input| input.len()).sum();
        let under_way = self.under_way + self.stage.under_way();
        stats.in_flight.set(under_way as u64);
        stats.waiting.set((queued + in_hand + self.tasks.len()).saturating_sub(under_way) as u64);
    }

    /// Takes records on while there is room; `false` when there is nothing to do.
    fn take_on(&mut self) -> bool {
        let mut took = false;
        for _ in 0..TURN {
            if !self.has_room() {
                return took;
            }
            let Some((record, held)) = self.next_record() else { return took };
            took = true;
            self.admit(record, held);
        }
        took
    }

    fn next_record(&mut self) -> Option<(Arc<Record>, bool)> {
        loop {
            if let Some((records, at, held)) = &mut self.batch {
                if let Some(record) = records.get(*at) {
                    *at += 1;
                    return Some((Arc::clone(record), *held));
                }
                self.batch = None;
            }
            self.inputs.extend(self.shared.new_inputs());
            let input = self.inputs.front()?;
            // Not idle from before the queue is emptied: the drain looks at both.
            self.shared.idle.store(false, Ordering::Release);
            let bus = &self.shared.bus.0;
            match input.try_take(&bus.full, &bus.room)? {
                Taken::Batch(records) => {
                    let held = matches!(input.role, Role::Route { blocks: true, .. });
                    self.batch = Some((records, 0, held));
                }
                Taken::Closed => drop(self.inputs.pop_front()),
                Taken::Lost(_) | Taken::Stale => {}
            }
        }
    }

    /// Decides what becomes of a record.
    fn admit(&mut self, record: Arc<Record>, held: bool) {
        let spec = Arc::clone(&self.spec);
        self.shared.stats.taken.add(1);
        let envelope = Arc::clone(&record.envelope);
        let evicted = record.is_evicted();
        let task = Task {
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
            self.shared.stats.dropped.add(1);
            return self.close(task, Outcome::Rejected("dropped as the oldest: the log was full".into()));
        }
        if evicted && spec.when_full == WhenFull::DeadLetter {
            return self.bury(task, &envelope, "the log was full".into(), 0);
        }
        match spec.wants(&envelope) {
            Ok(true) => {}
            Ok(false) => {
                self.shared.stats.filtered.add(1);
                return self.close(task, Outcome::Filtered);
            }
            Err(_) => {
                self.shared.stats.errored.add(1);
                return self.close(task, Outcome::Filtered);
            }
        }
        if !spec.filters.is_empty() {
            return self.enter_stage(task, envelope);
        }
        let looped = self.hand_on(task, &envelope, None);
        if self.tasks.get(task).is_some_and(|task| task.open == 0) {
            let stats = &self.shared.stats;
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
        let order = self.made;
        self.made += 1;
        let hasher = foldhash::fast::FixedState::with_seed(1);
        let lane = hasher.hash_one((sink.connector(), to.is_none(), envelope.order_key()));
        let job = Job { task, to, envelope, lane, order, rejections, absences: 0, verdict };
        let id = self.jobs.insert(job);
        self.lanes.push(lane, order, id, sink.pipelined());
    }

    /// Sends a task's envelope to the dead letter.
    fn bury(&mut self, task: usize, envelope: &Envelope, reason: Reason, rejections: u32) {
        let Some(entry) = self.tasks.get(task) else { return };
        let spec = Arc::clone(&entry.spec);
        let dead = sink::dead(envelope, &spec, &reason, rejections);
        self.add_job(task, None, dead, &spec.dead_letter, Some(reason), rejections);
    }

    /// Hands on what may go, up to the in-flight limit.
    fn send(&mut self) {
        while self.under_way < self.spec.in_flight {
            let Some((id, recall)) = self.lanes.pop() else { break };
            self.under_way += 1;
            self.dispatch(id, recall);
        }
        for (mailbox, deliveries) in &mut self.outbox {
            if !deliveries.is_empty() {
                mailbox.send(deliveries.drain(..));
            }
        }
        if self.outbox.len() > 16 {
            self.outbox.clear();
        }
    }

    fn dispatch(&mut self, id: JobId, recall: Option<Recall>) {
        let Some(job) = self.jobs.get(id) else { return };
        let Some(task) = self.tasks.get_mut(job.task) else { return };
        let answers: Arc<dyn Answers> = Arc::clone(&self.shared.answered) as Arc<dyn Answers>;
        let is_gone = |spec: &RouteSpec| matches!(spec.sink(job.to), Some(Sink::Connector { mailbox, .. }) if mailbox.is_closed());
        if is_gone(&task.spec) {
            // A reload took the connector away: the route as it is now says where this goes.
            task.spec = Arc::clone(&self.spec);
            if is_gone(&task.spec) && self.shared.is_removed() {
                // It took the route away with it: who published this must not wait for either.
                return self.let_go(id);
            }
        }
        let spec = Arc::clone(&task.spec);
        let Some(sink) = spec.sink(job.to) else { return answers.answer(id as u64, Outcome::Filtered) };
        let (envelope, seq) = (Arc::clone(&job.envelope), task.record.seq);
        let address = match sink.render(&envelope, &spec.name) {
            Ok(address) => address,
            Err(reason) => return self.refused(id, reason),
        };
        match sink {
            Sink::Connector { mailbox, target, .. } => {
                let (route, options) = (spec.name.clone(), Arc::clone(&target.options));
                let mut delivery = Delivery::new(envelope, seq, route, options, answers, id as u64);
                delivery.address = address;
                delivery.recall = recall;
                delivery.attempt = job.rejections + job.absences + 1;
                match self.outbox.iter_mut().find(|(have, _)| Arc::ptr_eq(have, mailbox)) {
                    Some((_, deliveries)) => deliveries.push(delivery),
                    None => self.outbox.push((Arc::clone(mailbox), vec![delivery])),
                }
            }
            Sink::Bus { .. } => {
                let topic = address.unwrap_or_default();
                self.republish(id, &envelope, &topic, &recall.unwrap_or_default());
            }
        }
    }

    /// Ends a job that nothing can deliver any more; its source keeps the event or sends it again.
    fn let_go(&mut self, id: JobId) {
        self.under_way -= 1;
        self.finish(id, Outcome::Undelivered("its route and connector were removed".into()));
    }

    /// Publishes a job's envelope on the bus; its receipt answers the job.
    fn republish(&mut self, id: JobId, envelope: &Envelope, topic: &str, recall: &Recall) {
        if recall.load(Ordering::Relaxed) {
            let behind = Outcome::Undelivered("an earlier one of its key failed".into());
            return self.shared.answered.answer(id as u64, behind);
        }
        let Some(task) = self.jobs.get(id).and_then(|job| self.tasks.get(job.task)) else { return };
        let topic = match Topic::parse(topic) {
            Ok(topic) => topic,
            Err(error) => return self.refused(id, error.to_string().into()),
        };
        let mut via = task.record.via.as_ref().map_or_else(Vec::new, |via| via.to_vec());
        via.push(self.shared.id);
        let (connector, scope) = (task.record.ingress.clone(), Key::LOCAL.into());
        let origin = Origin { connector: &connector, scope: &scope, via: Some(via.into()) };
        let Some(receipt) = self.shared.bus.try_publish(&origin, sink::republished(envelope, topic)) else {
            recall.store(true, Ordering::Relaxed);
            let full = Outcome::Undelivered("the log is full".into());
            return self.shared.answered.answer(id as u64, full);
        };
        if let Err(refused) = receipt.stored() {
            return self.refused(id, refused.to_string().into());
        }
        receipt.forward(Arc::clone(&self.shared.answered) as Arc<dyn Answers>, id as u64);
    }

    /// What can never be sent goes to the dead letter at once; a dead letter that cannot, waits.
    fn refused(&mut self, id: JobId, reason: Reason) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.to.is_none() {
            return self.shared.answered.answer(id as u64, Outcome::Undelivered(reason));
        }
        job.rejections = u32::MAX - 1;
        self.shared.answered.answer(id as u64, Outcome::Rejected(reason));
    }

    /// Sees to the answer of one delivery.
    fn answered(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let Some(task) = self.tasks.get(job.task) else { return };
        self.under_way -= 1;
        let (retry, order, now) = (task.spec.retry, job.order, self.now);
        let to = job.to.and_then(|index| task.spec.to.get(index)).map(|to| &to.sink);
        let final_no = matches!(to, Some(Sink::Bus { .. })) && job.rejections == 0;
        let pause = match &outcome {
            Outcome::Rejected(_) if job.to.is_some() => {
                if final_no {
                    // A route behind the bus output rejected it, and its dead letter has it.
                    return self.finish(id, outcome);
                }
                job.absences = 0;
                job.rejections = job.rejections.saturating_add(1);
                if job.rejections >= retry.max_attempts {
                    return self.give_up(id, outcome);
                }
                retry.pause(job.rejections)
            }
            Outcome::Rejected(reason) | Outcome::Undelivered(reason) => {
                tracing::debug!(route = %task.spec.name, seq = task.record.seq.0, %reason, "not delivered, trying again");
                job.absences = job.absences.saturating_add(1);
                retry.pause(job.absences)
            }
            Outcome::Delivered | Outcome::Filtered => {
                let dead = job.to.is_none();
                let stats = &self.shared.stats;
                (if dead { &stats.dead } else { &stats.delivered }).add(1);
                return self.finish(id, outcome);
            }
        };
        self.shared.stats.retried.add(1);
        self.lanes.failed(job.lane, order, id, pause, now);
    }

    /// The sink said no for the last time.
    fn give_up(&mut self, id: JobId, outcome: Outcome) {
        let Outcome::Rejected(reason) = outcome else { return };
        let Some(job) = self.jobs.get(id) else { return };
        let (task, envelope) = (job.task, Arc::clone(&job.envelope));
        // A rendering that fails never was an attempt.
        let attempts = if job.rejections == u32::MAX { 0 } else { job.rejections };
        self.bury(task, &envelope, reason, attempts);
        self.finish(id, Outcome::Filtered);
    }

    /// Ends a job, and its task with the last of them.
    fn finish(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.try_remove(id) else { return };
        self.lanes.done(job.lane, self.now);
        let outcome = job.verdict.map_or(outcome, Outcome::Rejected);
        let Some(task) = self.tasks.get_mut(job.task) else { return };
        task.open -= 1;
        if graver(&outcome, &task.gravest) {
            task.gravest = outcome;
        }
        if task.open == 0 {
            let gravest = task.gravest.clone();
            self.close(job.task, gravest);
        }
    }

    /// Answers a record.
    fn close(&mut self, task: usize, outcome: Outcome) {
        if let Some(mut task) = self.tasks.try_remove(task) {
            if let Some(chain) = task.filtered_by.take() {
                let taken = matches!(outcome, Outcome::Delivered | Outcome::Filtered);
                self.stage.settled(chain, task.record.seq, taken);
            }
            self.shared.stats.latency.record(self.now.saturating_duration_since(task.record.at));
            self.let_go |= task.held;
            task.answer(outcome);
        }
    }
}

impl Task {
    fn answer(self, outcome: Outcome) {
        release(&self.record, self.held, outcome);
    }
}

fn release(record: &Record, held: bool, outcome: Outcome) {
    if held {
        record.holds.fetch_sub(1, Ordering::AcqRel);
    }
    record.receipt.answer(outcome);
}

impl Drop for Worker {
    fn drop(&mut self) {
        let ended = || Outcome::Undelivered("the route ended".into());
        for task in self.tasks.drain() {
            task.answer(ended());
        }
        if let Some((records, at, held)) = self.batch.take() {
            for record in records.iter().skip(at) {
                release(record, held, ended());
            }
        }
        let bus = &self.shared.bus.0;
        self.inputs.extend(self.shared.new_inputs());
        for input in self.inputs.drain(..) {
            input.abandon(&bus.full, &bus.room);
        }
        bus.room.notify_waiters();
    }
}
