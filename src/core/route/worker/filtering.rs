//! How a worker sends what it takes through its routes' filters, and goes on with what comes out.

use std::cmp::Reverse;
use std::sync::Arc;

use bytestring::ByteString;
use tokio::time::Instant;

use super::{TAKEN_ON, Worker};
use crate::core::delivery::Reason;
use crate::core::drops::Dropped;
use crate::core::envelope::Envelope;
use crate::core::filter::BATCH_MAX;
use crate::core::route::chain::{Entry, Piece};
use crate::core::route::inbox::Seat;
use crate::core::route::stage::Step;

impl Worker {
    /// Puts a task's envelope behind those of its key that wait for the filters of its specification.
    pub(super) fn enter_stage(&mut self, task: usize, envelope: Arc<Envelope>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        let Some(Some(route)) = self.routes.get_mut(entry.seat) else { return };
        // Held until all that the filters make of it has come out.
        entry.open += 1;
        let stage = route.stage.get_or_insert_default();
        stage.set_filters(&entry.spec.filters);
        entry.filtered_by = stage.listener();
        let seat = entry.seat;
        let entry = Entry {
            task,
            seq: entry.record.seq,
            since: entry.record.at,
            max_attempts: entry.spec.retry.max_attempts,
        };
        stage.enter(entry, envelope);
        self.look_at_stage(seat);
    }

    /// Goes on with what a route's filters have done.
    pub(super) fn leave_stage(&mut self, seat: Seat, pieces: Vec<Piece>) {
        let now = self.now;
        let Some(route) = self.route(seat) else { return };
        let Some(stage) = &mut route.stage else { return };
        let mut steps = Vec::new();
        stage.returned(pieces, now, &mut steps);
        route.shared.stats.retried.add(stage.take_retried());
        for step in steps {
            match step {
                Step::Send(task, envelope, output) => {
                    let looped = self.hand_on(task, &envelope, output.as_ref());
                    if let Some(task) = self.tasks.get_mut(task) {
                        task.looped |= looped;
                    }
                }
                Step::Bury(task, envelope, reason, attempts) => {
                    self.bury(task, &envelope, reason, attempts);
                }
                Step::Drop(task, filter, why) => self.tell_dropped(task, filter, why),
                Step::End(task) => self.end(task),
            }
        }
        self.touch(seat);
        self.look_at_stage(seat);
        if !self.is_filtering(seat)
            && let Some(route) = self.route(seat)
            && route.spec.filters.is_empty()
        {
            // A reload took the filters away, and what they remember goes with the last event they had.
            route.stage = None;
        }
    }

    /// Whether a route's filters have something of its, or will.
    pub(super) fn is_filtering(&self, seat: Seat) -> bool {
        let route = self.routes.get(seat).and_then(Option::as_ref);
        route.and_then(|route| route.stage.as_ref()).is_some_and(|stage| !stage.is_empty())
    }

    /// Notes a route whose filters may have something to do.
    pub(super) fn look_at_stage(&mut self, seat: Seat) {
        if let Some(Some(route)) = self.routes.get_mut(seat)
            && route.stage.is_some()
            && !std::mem::replace(&mut route.to_filter, true)
        {
            self.to_filter.push_back(seat);
        }
    }

    /// Hands filters their next batches, and gives when the next pause is over.
    pub(super) fn filter(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, seat))) = self.pauses.peek().copied() {
            if due > self.now {
                break;
            }
            self.pauses.pop();
            self.look_at_stage(seat);
        }
        while let Some(seat) = self.to_filter.pop_front() {
            self.start_batch(seat);
        }
        self.pauses.peek().map(|Reverse((due, _))| *due)
    }

    /// Hands a route's filters their next batch.
    fn start_batch(&mut self, seat: Seat) {
        let now = self.now;
        let Some(Some(route)) = self.routes.get_mut(seat) else { return };
        route.to_filter = false;
        let Some(stage) = &mut route.stage else { return };
        if let Some(due) = stage.wake(now)
            && route.due.is_none_or(|known| due < known || known <= now)
        {
            route.due = Some(due);
            self.pauses.push(Reverse((due, seat)));
        }
        // Filters make many events of one: what they have made goes on first.
        if route.jobs >= route.spec.in_flight.saturating_mul(TAKEN_ON) {
            return;
        }
        let limit = BATCH_MAX.min(route.spec.in_flight);
        if let Some(batch) = stage.next_batch(limit, now) {
            let (inbox, name) = (Arc::clone(&self.inbox), route.spec.name.clone());
            route.shared.threads.run(Box::new(move || inbox.filtered(seat, batch.run(&name))));
            self.touch(seat);
        }
    }

    /// Makes the jobs of an envelope for the sinks with this output; says whether it was kept from one because it
    /// came in by that connector.
    pub(super) fn hand_on(
        &mut self,
        task: usize,
        envelope: &Arc<Envelope>,
        output: Option<&ByteString>,
    ) -> bool {
        let Some(spec) = self.tasks.get(task).map(|task| Arc::clone(&task.spec)) else { return false };
        let mut looped = false;
        for (index, to) in spec.to.iter().enumerate().filter(|(_, to)| to.output.as_ref() == output) {
            let ingress = self.tasks.get(task).map(|task| &task.record.ingress);
            if to.sink.connector().is_some_and(|name| Some(name) == ingress) {
                looped = true;
                continue;
            }
            self.add_job(task, Some(index), Arc::clone(envelope), &to.sink, None, 0);
        }
        looped
    }

    /// Tells those who watch the route what a filter dropped of a task.
    fn tell_dropped(&self, task: usize, filter: ByteString, why: Option<Reason>) {
        if let Some(task) = self.tasks.get(task)
            && let Some(Some(route)) = self.routes.get(task.seat)
        {
            let dropped = || Dropped { record: Arc::clone(&task.record), filter, why };
            route.shared.stats.drops.tell(dropped);
        }
    }

    /// Lets go of a task that has left the stage; closes it where nothing of it was sent, or all is answered.
    fn end(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.open -= 1;
        if task.open > 0 {
            return;
        }
        let gravest = task.gravest.clone();
        if !task.sent
            && let Some(Some(route)) = self.routes.get(task.seat)
        {
            let stats = &route.shared.stats;
            (if task.looped { &stats.looped } else { &stats.by_filter }).add(1);
        }
        self.close(id, gravest);
    }
}
