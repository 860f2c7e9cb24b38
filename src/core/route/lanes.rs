//! Lanes: what keeps the order of a key across retries while other keys go on.
//!
//! A lane is one order key of one route at one sink. It lets one job be under way at a time, or any number where the
//! sink keeps order itself. When a job fails the lane waits for those under way, puts what failed back in
//! order at its head, pauses, and goes on; what was sent behind a failure and not begun is called back.
//! Pure: time is passed in, sending is the caller's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tokio::time::Instant;

use super::inbox::Seat;

/// A job's number in the worker's table.
pub(super) type JobId = usize;

/// Set when a job of a pipelined lane failed: those sent behind it are not to be begun.
pub(super) type Recall = Arc<AtomicBool>;

/// Recalls of lanes that went well, kept for the next ones.
const SPARE_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Lane {
    seat: Seat,
    waiting: Waiting,
    failed: Vec<(u64, JobId)>,
    under_way: usize,
    pipelined: bool,
    /// In `ready`, stalled or paused: not to be put into `ready` again.
    queued: bool,
    paused: bool,
    pause: Duration,
    /// Shared by the jobs under way of a pipelined lane.
    recall: Option<Recall>,
}

/// A queue of jobs that allocates nothing for the first: most keys have no more.
#[derive(Debug, Default)]
struct Waiting {
    first: Option<(u64, JobId)>,
    more: VecDeque<(u64, JobId)>,
}

/// All lanes of a worker.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_key: HashMap<u64, Lane>,
    /// Lanes that may send, in the order in which they became able to.
    ready: VecDeque<u64>,
    /// Lanes that could send, of routes that have as much under way as they may.
    stalled: HashMap<Seat, VecDeque<u64>>,
    paused: BinaryHeap<Reverse<(Instant, u64)>>,
    spare: Vec<Recall>,
}

impl Lanes {
    /// Adds a job at the end of its lane. `order` rises with the records.
    pub(super) fn push(&mut self, lane_id: u64, seat: Seat, order: u64, job: JobId, pipelined: bool) {
        let lane = self.by_key.entry(lane_id).or_default();
        lane.seat = seat;
        // Two targets of one connector may share a lane; the stricter one rules it.
        lane.pipelined = pipelined && (lane.pipelined || lane.is_empty());
        lane.waiting.push_back((order, job));
        Self::enqueue(&mut self.ready, lane_id, lane);
    }

    /// The next job that may be sent, and for a pipelined lane how it is called back. Lanes of routes that may
    /// not send now wait until they [resume](Self::resume).
    pub(super) fn pop(&mut self, may_send: impl Fn(Seat) -> bool) -> Option<(JobId, Option<Recall>)> {
        loop {
            let lane_id = self.ready.pop_front()?;
            let Some(lane) = self.by_key.get_mut(&lane_id) else { continue };
            if lane.paused {
                continue;
            }
            lane.queued = false;
            if !lane.failed.is_empty() || lane.waiting.is_empty() {
                // It failed after it was found ready: it goes on when all that is under way is back.
                continue;
            }
            if !may_send(lane.seat) {
                lane.queued = true;
                self.stalled.entry(lane.seat).or_default().push_back(lane_id);
                continue;
            }
            let Some((_, job)) = lane.waiting.pop_front() else { continue };
            lane.under_way += 1;
            let recall = lane.pipelined.then(|| {
                let spare = || self.spare.pop().unwrap_or_default();
                Arc::clone(lane.recall.get_or_insert_with(spare))
            });
            Self::enqueue(&mut self.ready, lane_id, lane);
            return Some((job, recall));
        }
    }

    /// A route may send one more: a lane of its goes on.
    pub(super) fn resume(&mut self, seat: Seat) {
        // Nearly always none is stalled, and that is seen without hashing.
        if self.stalled.is_empty() {
            return;
        }
        let Entry::Occupied(mut lanes) = self.stalled.entry(seat) else { return };
        // One that has failed meanwhile goes on when its pause is over.
        let paused = |lane_id: &u64| self.by_key.get(lane_id).is_none_or(|lane| lane.paused);
        while let Some(lane_id) = lanes.get_mut().pop_front() {
            if !paused(&lane_id) {
                self.ready.push_back(lane_id);
                break;
            }
        }
        if lanes.get().is_empty() {
            lanes.remove();
        }
    }

    /// A route may send more than before: all its lanes go on.
    pub(super) fn resume_all(&mut self, seat: Seat) {
        self.ready.extend(self.stalled.remove(&seat).into_iter().flatten());
    }

    /// A job that was under way is done.
    pub(super) fn done(&mut self, lane_id: u64, now: Instant) {
        let Some(lane) = self.by_key.get_mut(&lane_id) else { return };
        lane.under_way -= 1;
        self.settle(lane_id, now);
    }

    /// A job that was under way failed: it is sent again, first of its lane, after `pause`.
    pub(super) fn failed(&mut self, lane_id: u64, order: u64, job: JobId, pause: Duration, now: Instant) {
        let Some(lane) = self.by_key.get_mut(&lane_id) else { return };
        lane.under_way -= 1;
        lane.failed.push((order, job));
        lane.pause = lane.pause.max(pause);
        self.settle(lane_id, now);
    }

    /// Wakes lanes whose pause is over; returns when the next one's is.
    pub(super) fn wake(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((due, lane_id))) = self.paused.peek().copied() {
            if due > now {
                return Some(due);
            }
            self.paused.pop();
            if let Some(lane) = self.by_key.get_mut(&lane_id) {
                (lane.queued, lane.paused) = (false, false);
                Self::enqueue(&mut self.ready, lane_id, lane);
            }
        }
        None
    }

    fn settle(&mut self, lane_id: u64, now: Instant) {
        let Some(lane) = self.by_key.get_mut(&lane_id) else { return };
        if lane.under_way == 0 && !lane.failed.is_empty() {
            lane.failed.sort_unstable();
            for job in lane.failed.drain(..).rev() {
                lane.waiting.push_front(job);
            }
            (lane.queued, lane.paused) = (true, true);
            lane.recall = None;
            self.paused.push(Reverse((now + std::mem::take(&mut lane.pause), lane_id)));
        } else if lane.is_empty() {
            let recall = self.by_key.remove(&lane_id).and_then(|lane| lane.recall);
            // None is under way that could share it.
            let unused = |recall: &Recall| !recall.load(Ordering::Relaxed);
            if let Some(recall) = recall.filter(unused).filter(|_| self.spare.len() < SPARE_MAX) {
                self.spare.push(recall);
            }
        } else {
            Self::enqueue(&mut self.ready, lane_id, lane);
        }
    }

    fn enqueue(ready: &mut VecDeque<u64>, lane_id: u64, lane: &mut Lane) {
        let open = lane.under_way == 0 || lane.pipelined;
        if !lane.queued && open && lane.failed.is_empty() && !lane.waiting.is_empty() {
            lane.queued = true;
            ready.push_back(lane_id);
        }
    }
}

impl Waiting {
    fn push_back(&mut self, job: (u64, JobId)) {
        match self.first {
            None => self.first = Some(job),
            Some(_) => self.more.push_back(job),
        }
    }

    fn push_front(&mut self, job: (u64, JobId)) {
        if let Some(second) = self.first.replace(job) {
            self.more.push_front(second);
        }
    }

    fn pop_front(&mut self) -> Option<(u64, JobId)> {
        let job = self.first.take()?;
        self.first = self.more.pop_front();
        Some(job)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.failed.is_empty() && self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever fails and however often, each lane's jobs are done in order when it is not pipelined.
        #[test]
        fn a_key_keeps_its_order_over_retries(
            jobs in proptest::collection::vec((0u64..4, any::<bool>()), 1..60),
            failures in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut lanes = Lanes::default();
            for (order, (lane, _)) in jobs.iter().enumerate() {
                lanes.push(*lane, 0, order as u64, order, false);
            }
            let mut now = Instant::now();
            let mut failures = failures.into_iter();
            let mut done: Vec<(u64, JobId)> = Vec::new();
            for _ in 0..1000 {
                lanes.wake(now);
                while let Some((job, _)) = lanes.pop(|_| true) {
                    let lane = jobs[job].0;
                    if failures.next() == Some(true) {
                        lanes.failed(lane, job as u64, job, Duration::from_millis(10), now);
                    } else {
                        lanes.done(lane, now);
                        done.push((lane, job));
                    }
                }
                now += Duration::from_millis(10);
            }
            prop_assert_eq!(done.len(), jobs.len());
            for lane in 0..4 {
                let order: Vec<_> = done.iter().filter(|(l, _)| *l == lane).map(|(_, job)| *job).collect();
                prop_assert!(order.is_sorted());
            }
            prop_assert!(lanes.by_key.is_empty(), "an idle lane takes no memory");
        }
    }

    #[test]
    fn a_pipelined_lane_waits_for_all_under_way_before_it_sends_a_failed_one_again() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        for job in 0..4 {
            lanes.push(7, 0, job as u64, job, true);
        }
        let sent: Vec<_> = (0..3).filter_map(|_| lanes.pop(|_| true).map(|(job, _)| job)).collect();
        assert_eq!(sent, [0, 1, 2]);
        lanes.failed(7, 1, 1, Duration::from_millis(5), now);
        assert!(lanes.pop(|_| true).is_none(), "a failure holds the lane");
        lanes.failed(7, 2, 2, Duration::from_millis(1), now);
        lanes.done(7, now);
        assert_eq!(lanes.wake(now), Some(now + Duration::from_millis(5)));
        lanes.wake(now + Duration::from_millis(5));
        let again: Vec<_> = std::iter::from_fn(|| lanes.pop(|_| true).map(|(job, _)| job)).collect();
        assert_eq!(again, [1, 2, 3]);
    }
}
