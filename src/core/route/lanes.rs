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
    waiting: Waiting<(u64, JobId)>,
    failed: Vec<(u64, JobId)>,
    under_way: usize,
    pipelined: bool,
    /// Noted in [`Ready`].
    is_ready: bool,
    paused: bool,
    pause: Duration,
    /// Shared by the jobs under way of a pipelined lane.
    recall: Option<Recall>,
}

/// A queue that allocates nothing for the first: most have no more.
#[derive(Debug)]
struct Waiting<T> {
    first: Option<T>,
    more: VecDeque<T>,
}

/// Lanes that may send, in the order in which they became able to, by their routes, which take turns.
#[derive(Debug, Default)]
struct Ready {
    by_seat: HashMap<Seat, OfRoute>,
    turns: VecDeque<Seat>,
    /// Routes that are not among the turns.
    held: usize,
}

#[derive(Debug, Default)]
struct OfRoute {
    lanes: Waiting<u64>,
    /// It has as much under way as it may, and no turn until it [resumes](Lanes::resume).
    held: bool,
}

/// All lanes of a worker.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_key: HashMap<u64, Lane>,
    ready: Ready,
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

    /// The next job that may be sent, and for a pipelined lane how it is called back. A route that may not send
    /// now waits until it [resumes](Self::resume).
    pub(super) fn pop(&mut self, may_send: impl Fn(Seat) -> bool) -> Option<(JobId, Option<Recall>)> {
        loop {
            let lane_id = self.ready.next(&may_send)?;
            let Some(lane) = self.by_key.get_mut(&lane_id) else { continue };
            lane.is_ready = false;
            if !lane.is_open() {
                // It failed, or came under a stricter target, after it was found ready: it goes on when what is
                // under way is back.
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

    /// A route may send again.
    pub(super) fn resume(&mut self, seat: Seat) {
        self.ready.resume(seat);
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
                lane.paused = false;
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
            lane.paused = true;
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

    fn enqueue(ready: &mut Ready, lane_id: u64, lane: &mut Lane) {
        if !lane.is_ready && lane.is_open() {
            lane.is_ready = true;
            ready.push(lane.seat, lane_id);
        }
    }
}

impl Ready {
    fn push(&mut self, seat: Seat, lane_id: u64) {
        let of_route = self.by_seat.entry(seat).or_default();
        if of_route.lanes.is_empty() {
            self.turns.push_back(seat);
        }
        of_route.lanes.push_back(lane_id);
    }

    /// A lane of the route whose turn it is; routes that may not send lose their turn.
    fn next(&mut self, may_send: impl Fn(Seat) -> bool) -> Option<u64> {
        loop {
            let seat = self.turns.pop_front()?;
            let Entry::Occupied(mut of_route) = self.by_seat.entry(seat) else { continue };
            if !may_send(seat) {
                of_route.get_mut().held = true;
                self.held += 1;
                continue;
            }
            let lane_id = of_route.get_mut().lanes.pop_front();
            if of_route.get().lanes.is_empty() {
                of_route.remove();
            } else {
                self.turns.push_back(seat);
            }
            return lane_id;
        }
    }

    fn resume(&mut self, seat: Seat) {
        // Nearly always none is held, and that is seen without hashing.
        if self.held > 0
            && let Some(of_route) = self.by_seat.get_mut(&seat)
            && std::mem::take(&mut of_route.held)
        {
            self.held -= 1;
            self.turns.push_back(seat);
        }
    }
}

impl<T> Waiting<T> {
    fn push_back(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.more.push_back(item),
        }
    }

    fn push_front(&mut self, item: T) {
        if let Some(second) = self.first.replace(item) {
            self.more.push_front(second);
        }
    }

    fn pop_front(&mut self) -> Option<T> {
        let item = self.first.take()?;
        self.first = self.more.pop_front();
        Some(item)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { first: None, more: VecDeque::new() }
    }
}

impl Lane {
    /// Whether its next job may be sent, as far as the lane goes.
    fn is_open(&self) -> bool {
        let free = self.under_way == 0 || self.pipelined;
        free && !self.paused && self.failed.is_empty() && !self.waiting.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.failed.is_empty() && self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever fails and however often, under any limits, each lane's jobs are done, and in order where it
        /// is not pipelined.
        #[test]
        fn a_key_keeps_its_order_over_retries_and_every_job_is_done(
            jobs in proptest::collection::vec((0u64..4, 0usize..2), 1..60),
            pipelined in any::<bool>(),
            limits in (1usize..4, 1usize..4),
            steps in proptest::collection::vec((any::<usize>(), prop::bool::weighted(0.3)), 0..300),
        ) {
            let limit = |seat: Seat| if seat == 0 { limits.0 } else { limits.1 };
            let lane_of = |job: JobId| jobs[job].0 * 2 + jobs[job].1 as u64;
            let mut lanes = Lanes::default();
            let mut under_way: Vec<JobId> = Vec::new();
            let mut done: Vec<JobId> = Vec::new();
            let mut now = Instant::now();
            let mut steps = steps.into_iter();
            let mut coming = 0..jobs.len();
            for _ in 0..5000 {
                if let Some(job) = coming.next() {
                    lanes.push(lane_of(job), jobs[job].1, job as u64, job, pipelined);
                }
                lanes.wake(now);
                let counts = [0, 1].map(|seat| under_way.iter().filter(|job| jobs[**job].1 == seat).count());
                let started = lanes.pop(|seat| counts[seat] < limit(seat));
                under_way.extend(started.as_ref().map(|(job, _)| *job));
                if started.is_some() && steps.len() % 3 > 0 {
                    continue;
                }
                let (which, fails) = steps.next().unwrap_or((0, false));
                if under_way.is_empty() {
                    now += Duration::from_millis(1);
                    continue;
                }
                let job = under_way.swap_remove(which % under_way.len());
                lanes.resume(jobs[job].1);
                if fails {
                    lanes.failed(lane_of(job), job as u64, job, Duration::from_millis(10), now);
                } else {
                    lanes.done(lane_of(job), now);
                    done.push(job);
                }
                now += Duration::from_millis(1);
            }
            prop_assert_eq!(done.len(), jobs.len(), "no job is left behind");
            for lane in 0..8 {
                let order: Vec<_> = done.iter().filter(|job| lane_of(**job) == lane).collect();
                prop_assert!(pipelined || order.is_sorted());
            }
            prop_assert!(lanes.by_key.is_empty(), "an idle lane takes no memory");
            prop_assert!(lanes.ready.by_seat.is_empty() && lanes.ready.turns.is_empty());
        }
    }

    #[test]
    fn a_route_at_its_limit_goes_on_with_any_of_its_lanes_when_one_job_is_back() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        for (job, lane) in [(0, 1), (1, 1), (2, 2)] {
            lanes.push(lane, 0, job as u64, job, true);
        }
        let one_at_a_time = |under_way: usize| move |_| under_way < 1;
        assert_eq!(lanes.pop(one_at_a_time(0)).map(|(job, _)| job), Some(0));
        assert!(lanes.pop(one_at_a_time(1)).is_none());
        // The lane of the failed job is paused; the other one need not wait for it.
        lanes.resume(0);
        lanes.failed(1, 0, 0, Duration::from_secs(30), now);
        assert_eq!(lanes.pop(one_at_a_time(0)).map(|(job, _)| job), Some(2));
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
