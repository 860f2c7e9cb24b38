//! How a worker sees to answers: done, tried again, or given up for the dead letter.

use std::sync::Arc;

use super::Worker;
use crate::core::delivery::Outcome;
use crate::core::receipt::graver;
use crate::core::route::Sink;
use crate::core::route::inbox::release;
use crate::core::route::lanes::JobId;

impl Worker {
    /// Sees to the answer of one delivery.
    pub(super) fn answered(&mut self, id: JobId, outcome: Outcome) {
        self.returned(id);
        let Some(job) = self.jobs.get_mut(id) else { return };
        let Some(task) = self.tasks.get(job.task) else { return };
        let Some(Some(route)) = self.routes.get(task.seat) else { return };
        let stats = &route.shared.stats;
        let (retry, order, now) = (task.spec.retry, job.order, self.now);
        let to = job.to.and_then(|index| task.spec.to.get(index)).map(|to| &to.sink);
        let final_no = matches!(to, Some(Sink::Bus { .. } | Sink::State { .. })) && job.rejections == 0;
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
                (if dead { &stats.dead } else { &stats.delivered }).add(1);
                return self.finish(id, outcome);
            }
        };
        stats.retried.add(1);
        self.lanes.failed(job.lane, order, id, pause, now);
    }

    /// A delivery is under way no longer: its route may send another.
    pub(super) fn returned(&mut self, id: JobId) {
        let Some(task) = self.jobs.get(id).and_then(|job| self.tasks.get(job.task)) else { return };
        let seat = task.seat;
        if let Some(route) = self.route(seat) {
            route.under_way -= 1;
        }
        self.lanes.resume(seat);
        self.touch(seat);
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
    pub(super) fn finish(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.try_remove(id) else { return };
        self.lanes.done(job.lane, self.now);
        let outcome = job.verdict.map_or(outcome, Outcome::Rejected);
        let Some(task) = self.tasks.get_mut(job.task) else { return };
        task.open -= 1;
        if graver(&outcome, &task.gravest) {
            task.gravest = outcome;
        }
        let (seat, done) = (task.seat, (task.open == 0).then(|| task.gravest.clone()));
        if let Some(route) = self.route(seat) {
            route.jobs -= 1;
        }
        self.look_at_stage(seat);
        if let Some(gravest) = done {
            self.close(job.task, gravest);
        }
    }

    /// Answers a record.
    pub(super) fn close(&mut self, task: usize, outcome: Outcome) {
        let Some(mut task) = self.tasks.try_remove(task) else { return };
        if let Some(Some(route)) = self.routes.get_mut(task.seat) {
            route.tasks -= 1;
            if let (Some(chain), Some(stage)) = (task.filtered_by.take(), &mut route.stage) {
                let taken = matches!(outcome, Outcome::Delivered | Outcome::Filtered);
                stage.settled(chain, task.record.seq, taken);
            }
            route.shared.stats.latency.record(self.now.saturating_duration_since(task.record.at));
        }
        self.let_go |= task.held;
        release(&task.record, task.held, outcome);
        self.look_at(task.seat);
        self.leave(task.seat);
    }
}
