//! Back-off with jitter, for whoever tries again.

use std::time::Duration;

/// Doubles from [`Self::INITIAL`] to [`Self::MAX`]; each wait is drawn evenly from the upper half of its step,
/// so that a thousand clients of one restarted peer do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    /// The first step unless told otherwise.
    pub const INITIAL: Duration = Duration::from_millis(100);
    /// The longest step unless told otherwise.
    pub const MAX: Duration = Duration::from_secs(30);

    /// Steps from `initial` to `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, step: initial.min(max) }
    }

    /// How long to wait now; the next step is twice as long, up to the longest.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).min(self.max);
        let half = step / 2;
        half + half.mul_f64(fastrand::f64())
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        self.step = self.initial.min(self.max);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Self::INITIAL, Self::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_double_up_to_the_longest_and_each_wait_is_in_the_upper_half() {
        let mut backoff = Backoff::default();
        let mut step = Duration::from_millis(100);
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} is not in the upper half of {step:?}");
            step = (step * 2).min(Duration::from_secs(30));
        }
        assert_eq!(step, Duration::from_secs(30));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }

    #[test]
    fn waits_are_spread() {
        let waits: std::collections::HashSet<_> = (0..50).map(|_| Backoff::default().next_wait()).collect();
        assert!(waits.len() > 10, "only {} different waits", waits.len());
    }
}
