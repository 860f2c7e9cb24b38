//! The breaker: a plugin that fails too often is left alone for a while.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many faults within [`WINDOW`] open it.
pub(super) const FAULTS: usize = 10;
/// Faults older than this are forgotten.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// How long it is open the first time; doubles each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest it is open at a time.
const LONGEST: Duration = Duration::from_mins(5);

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Call the plugin.
    Closed,
    /// Call it with one event: it was open, and its time is over.
    Trial,
    /// Leave it alone for so long.
    Open(Duration),
}

/// Counts faults and says whether the plugin is called.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// When the last faults were, at most [`FAULTS`].
    faults: VecDeque<Instant>,
    /// Until when it is open, or its trial is due.
    until: Option<Instant>,
    /// Times it opened, each less than a [`WINDOW`] after it closed.
    times: u32,
    /// When it closed last.
    closed: Option<Instant>,
}

impl Breaker {
    /// What may be done at `now`.
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match self.until {
            None => Gate::Closed,
            Some(until) if until <= now => Gate::Trial,
            Some(until) => Gate::Open(until - now),
        }
    }

    /// Whether it is open or on trial.
    pub(super) fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// The plugin failed; gives for how long the breaker opened, where it did.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
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

    /// The plugin answered; gives whether that closed the breaker.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        let was_open = self.until.take().is_some();
        if was_open {
            self.closed = Some(now);
        }
        was_open
    }

    /// A fresh version deserves a fresh start.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, times: usize, now: Instant) -> Option<Duration> {
        (0..times).fold(None, |_, _| breaker.failed(now))
    }

    #[test]
    fn it_opens_after_so_many_faults_and_is_on_trial_when_its_time_is_over() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(fail(&mut breaker, FAULTS - 1, now), None);
        assert_eq!(breaker.gate(now), Gate::Closed);
        assert_eq!(breaker.failed(now), Some(FIRST));
        assert_eq!(breaker.gate(now), Gate::Open(FIRST));
        assert_eq!(breaker.gate(now + FIRST), Gate::Trial);
        assert!(breaker.answered(now + FIRST));
        assert_eq!(breaker.gate(now + FIRST), Gate::Closed);
    }

    #[test]
    fn old_faults_are_forgotten() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..10 * FAULTS {
            assert_eq!(breaker.failed(now), None);
            now += WINDOW / (FAULTS as u32 - 1) + Duration::from_millis(1);
        }
    }

    #[test]
    fn a_trial_that_fails_opens_it_for_longer_up_to_a_bound() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        let mut pause = fail(&mut breaker, FAULTS, now).unwrap();
        for _ in 0..40 {
            now += pause;
            let next = breaker.failed(now).unwrap();
            assert_eq!(next, (pause * 2).min(LONGEST));
            pause = next;
        }
    }

    #[test]
    fn one_that_was_closed_for_long_starts_short_again() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        fail(&mut breaker, FAULTS, now);
        breaker.answered(now);
        assert_eq!(fail(&mut breaker, FAULTS, now), Some(FIRST * 2), "closed for no time");
        breaker.answered(now);
        assert_eq!(fail(&mut breaker, FAULTS, now + WINDOW * 2), Some(FIRST));
    }
}
