//! The breaker of a plugin: one that fails too often is left alone for a while, in all routes that have it.
//!
//! It belongs to one version of a file: a new one begins afresh.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many faults within [`WINDOW`] open it.
pub(super) const FAULTS: usize = 10;
/// Faults older than this are forgotten.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// How long it is open the first time; doubles each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest it is open at a time.
const LONGEST: Duration = Duration::from_mins(5);
/// How long all others wait for what a trial finds; if it takes longer, another is tried.
const TRIAL: Duration = Duration::from_secs(1);

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Call the plugin.
    Closed,
    /// Call it with one event: it was open, and its time is over. Only one is told so at a time.
    Trial,
    /// Leave it alone for so long.
    Open(Duration),
}

/// Counts the faults of a plugin over all routes, and says whether it is called.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// As [`Counts::is_open`]: while it is closed a look costs no lock and no clock.
    open: AtomicBool,
    counts: Mutex<Counts>,
}

impl Breaker {
    /// What may be done now.
    pub(super) fn gate(&self) -> Gate {
        if self.is_open() { self.counts.lock().gate(Instant::now()) } else { Gate::Closed }
    }

    /// Whether it is open or on trial.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The plugin failed, in a trial or not; gives for how long the breaker opened, where it did.
    pub(super) fn failed(&self, in_trial: bool) -> Option<Duration> {
        let mut counts = self.counts.lock();
        let pause = counts.failed(in_trial, Instant::now());
        self.open.store(counts.is_open(), Ordering::Release);
        pause
    }

    /// The plugin did well in a trial; gives whether that closed the breaker.
    pub(super) fn answered(&self) -> bool {
        let mut counts = self.counts.lock();
        let closed = counts.answered(Instant::now());
        self.open.store(counts.is_open(), Ordering::Release);
        closed
    }
}

/// What a breaker knows.
#[derive(Debug, Default)]
struct Counts {
    /// When the last faults were, at most [`FAULTS`].
    faults: VecDeque<Instant>,
    /// Until when it is open, or its trial is due.
    until: Option<Instant>,
    /// Times it opened, each less than a [`WINDOW`] after it closed.
    times: u32,
    /// When it closed last.
    closed: Option<Instant>,
}

impl Counts {
    fn gate(&mut self, now: Instant) -> Gate {
        match self.until {
            None => Gate::Closed,
            Some(until) if until <= now => {
                self.until = Some(now + TRIAL);
                Gate::Trial
            }
            Some(until) => Gate::Open(until - now),
        }
    }

    fn is_open(&self) -> bool {
        self.until.is_some()
    }

    fn failed(&mut self, in_trial: bool, now: Instant) -> Option<Duration> {
        if self.is_open() && !in_trial {
            // Another route's call, begun before it opened: it says nothing new.
            return None;
        }
        while self.faults.front().is_some_and(|first| now.saturating_duration_since(*first) > WINDOW) {
            self.faults.pop_front();
        }
        self.faults.push_back(now);
        if self.faults.len() < FAULTS && self.until.is_none() {
            return None;
        }
        self.faults.clear();
        if self.until.is_none() && self.closed.is_some_and(|at| now.saturating_duration_since(at) > WINDOW)
        {
            self.times = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.times.min(16)).min(LONGEST);
        self.times = self.times.saturating_add(1);
        self.until = Some(now + pause);
        Some(pause)
    }

    fn answered(&mut self, now: Instant) -> bool {
        let was_open = self.until.take().is_some();
        if was_open {
            self.closed = Some(now);
        }
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(counts: &mut Counts, times: usize, now: Instant) -> Option<Duration> {
        (0..times).fold(None, |_, _| counts.failed(false, now))
    }

    #[test]
    fn it_opens_after_so_many_faults_and_is_on_trial_when_its_time_is_over() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        assert_eq!(fail(&mut counts, FAULTS - 1, now), None);
        assert_eq!(counts.gate(now), Gate::Closed);
        assert_eq!(counts.failed(false, now), Some(FIRST));
        assert_eq!(counts.gate(now), Gate::Open(FIRST));
        assert_eq!(counts.gate(now + FIRST), Gate::Trial);
        assert!(counts.answered(now + FIRST));
        assert_eq!(counts.gate(now + FIRST), Gate::Closed);
    }

    #[test]
    fn one_tries_while_the_others_wait_and_another_where_nothing_comes_of_it() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        fail(&mut counts, FAULTS, now);
        let due = now + FIRST;
        assert_eq!(counts.gate(due), Gate::Trial);
        assert_eq!(counts.gate(due), Gate::Open(TRIAL));
        assert_eq!(counts.gate(due + TRIAL), Gate::Trial);
    }

    #[test]
    fn a_call_that_began_before_it_opened_makes_it_no_longer() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        fail(&mut counts, FAULTS, now);
        assert_eq!(fail(&mut counts, FAULTS, now), None);
        assert_eq!(counts.gate(now), Gate::Open(FIRST));
    }

    #[test]
    fn old_faults_are_forgotten() {
        let (mut counts, mut now) = (Counts::default(), Instant::now());
        for _ in 0..10 * FAULTS {
            assert_eq!(counts.failed(false, now), None);
            now += WINDOW / (FAULTS as u32 - 1) + Duration::from_millis(1);
        }
    }

    #[test]
    fn a_trial_that_fails_opens_it_for_longer_up_to_a_bound() {
        let (mut counts, mut now) = (Counts::default(), Instant::now());
        let mut pause = fail(&mut counts, FAULTS, now).unwrap();
        for _ in 0..40 {
            now += pause;
            assert_eq!(counts.gate(now), Gate::Trial);
            let next = counts.failed(true, now).unwrap();
            assert_eq!(next, (pause * 2).min(LONGEST));
            pause = next;
        }
    }

    #[test]
    fn one_that_was_closed_for_long_starts_short_again() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        fail(&mut counts, FAULTS, now);
        counts.answered(now);
        assert_eq!(fail(&mut counts, FAULTS, now), Some(FIRST * 2), "closed for no time");
        counts.answered(now);
        assert_eq!(fail(&mut counts, FAULTS, now + WINDOW * 2), Some(FIRST));
    }
}
