//! How a worker sends what it takes through its route's filters, and goes on with what comes out.

use std::sync::Arc;

use bytestring::ByteString;
use tokio::time::Instant;

use super::{TAKEN_ON, Worker};
use crate::core::envelope::Envelope;
use crate::core::filter::BATCH_MAX;
use crate::core::route::chain::Entry;
use crate::core::route::stage::Step;

impl Worker {
    /// Puts a task's envelope behind those of its key that wait for the filters of its specification.
    pub(super) fn enter_stage(&mut self, task: usize, envelope: Arc<Envelope>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        // Held until all that the filters make of it has come out.
        entry.open += 1;
        self.stage.set_filters(&entry.spec.filters);
        entry.filtered_by = self.stage.listener();
        let entry = Entry {
            task,
            seq: entry.record.seq,
            since: entry.record.at,
            max_attempts: entry.spec.retry.max_attempts,
        };
        self.stage.enter(entry, envelope);
    }

    /// Goes on with what the filters have done.
    pub(super) fn leave_stage(&mut self) {
        let Some(pieces) = self.shared.filtered.lock().take() else { return };
        let mut steps = Vec::new();
        self.stage.returned(pieces, self.now, &mut steps);
        self.shared.stats.retried.add(self.stage.take_retried());
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
                Step::End(task) => self.end(task),
            }
        }
    }

    /// Hands the filters their next batch, and gives when the next pause is over.
    pub(super) fn filter(&mut self) -> Option<Instant> {
        let due = self.stage.wake(self.now);
        // Filters make many events of one: what they have made goes on first.
        if self.jobs.len() < self.spec.in_flight.saturating_mul(TAKEN_ON) {
            let limit = BATCH_MAX.min(self.spec.in_flight);
            if let Some(batch) = self.stage.next_batch(limit, self.now) {
                let (shared, route) = (Arc::clone(&self.shared), self.spec.name.clone());
                self.shared.threads.run(Box::new(move || {
                    let pieces = batch.run(&route);
                    *shared.filtered.lock() = Some(pieces);
                    shared.answered.arrived.notify_one();
                }));
            }
        }
        due
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

    /// Lets go of a task that has left the stage; closes it where nothing of it was sent, or all is answered.
    fn end(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.open -= 1;
        if task.open > 0 {
            return;
        }
        let gravest = task.gravest.clone();
        if !task.sent {
            let stats = &self.shared.stats;
            (if task.looped { &stats.looped } else { &stats.by_filter }).add(1);
        }
        self.close(id, gravest);
    }
}
