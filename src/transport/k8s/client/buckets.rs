//! Token buckets, one for each of many things: so many at once, then one more every while.
//!
//! What is held back is counted, with the first of it, until another passes or the time for one more has come.

use std::future::pending;
use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::time::{Instant, sleep_until};

use super::super::config::FrequencyConfig;

/// Most things that are told apart; of more, those that were quiet for longest begin anew.
const THINGS_MAX: usize = 8192;

/// See the [module](self). `H` is what is known of the first that is held back.
#[derive(Debug)]
pub(super) struct Buckets<K, H = ()> {
    all: HashMap<K, Bucket<H>, RandomState>,
    /// What was held back of things that are not told apart any more.
    forgotten: Vec<(u64, H)>,
    /// Not later than the first time at which something held back is due.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Bucket<H> {
    tokens: f64,
    filled: Instant,
    /// How many were held back since one passed, and the first of them.
    held_back: Option<(u64, H)>,
}

impl<K: Hash + Eq + Clone, H> Buckets<K, H> {
    pub(super) fn new() -> Self {
        Self { all: HashMap::default(), forgotten: Vec::new(), due: None }
    }

    /// Takes a token of a thing. `Ok` tells how many were held back before it, `Err` how many with it.
    pub(super) fn take(
        &mut self,
        thing: &K,
        rate: FrequencyConfig,
        held: impl FnOnce() -> H,
    ) -> Result<u64, u64> {
        let now = Instant::now();
        if self.all.len() >= THINGS_MAX && !self.all.contains_key(thing) {
            self.forget(now);
        }
        let burst = f64::from(rate.burst);
        let fresh = || Bucket { tokens: burst, filled: now, held_back: None };
        let bucket = self.all.entry(thing.clone()).or_insert_with(fresh);
        let fresh = (now - bucket.filled).as_secs_f64() / rate.per.0.as_secs_f64();
        bucket.tokens = (bucket.tokens + fresh).min(burst);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(bucket.held_back.take().map_or(0, |(count, _)| count));
        }
        let (count, _) = bucket.held_back.get_or_insert_with(|| (0, held()));
        *count += 1;
        let (count, due) = (*count, bucket.due(rate));
        self.due = Some(self.due.map_or(due, |first| first.min(due)));
        Err(count)
    }

    /// When to ask [`take_due`](Self::take_due); `None` while nothing is held back.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes nothing due before so long.
    pub(super) fn put_off(&mut self, time: Duration) {
        self.due = self.due.map(|due| due.max(Instant::now() + time));
    }

    /// How many were held back of each thing of which one more may pass by then, and the first of them.
    pub(super) fn take_due(&mut self, rate: FrequencyConfig, by: Instant) -> Vec<(u64, H)> {
        let mut taken = std::mem::take(&mut self.forgotten);
        self.due = None;
        for bucket in self.all.values_mut().filter(|bucket| bucket.held_back.is_some()) {
            let due = bucket.due(rate);
            if due <= by {
                taken.extend(bucket.held_back.take());
            } else {
                self.due = Some(self.due.map_or(due, |first| first.min(due)));
            }
        }
        taken
    }

    /// Lets the older half go; what was held back of it is due at once.
    fn forget(&mut self, now: Instant) {
        let mut times: Vec<Instant> = self.all.values().map(|bucket| bucket.filled).collect();
        times.sort_unstable();
        let Some(middle) = times.get(times.len() / 2).copied() else { return };
        for (_, bucket) in self.all.extract_if(|_, bucket| bucket.filled <= middle) {
            self.forgotten.extend(bucket.held_back);
        }
        // For those who never ask.
        self.forgotten.truncate(THINGS_MAX);
        if !self.forgotten.is_empty() {
            self.due = Some(now);
        }
    }
}

impl<H> Bucket<H> {
    /// When one more may pass.
    fn due(&self, rate: FrequencyConfig) -> Instant {
        self.filled + rate.per.0.mul_f64((1.0 - self.tokens).max(0.0))
    }
}

/// Waits until then; for ever where there is no such time.
pub(super) async fn when(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b7_so_many_pass_at_once_then_one_each_while_and_what_was_held_back_is_told() {
        let rate = FrequencyConfig { burst: 2, per: Duration::from_secs(10).into() };
        let mut buckets = Buckets::new();
        let mut take = |thing| buckets.take(&thing, rate, || ());
        assert_eq!([take("a"), take("a")], [Ok(0), Ok(0)]);
        assert_eq!([take("a"), take("a")], [Err(1), Err(2)]);
        assert_eq!(take("b"), Ok(0), "each on its own");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([take("a"), take("a")], [Ok(2), Err(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn b7_what_was_held_back_is_due_when_one_more_may_pass() {
        let rate = FrequencyConfig { burst: 1, per: Duration::from_secs(10).into() };
        let mut buckets = Buckets::new();
        let start = Instant::now();
        assert_eq!((buckets.take(&"a", rate, || 0), buckets.due()), (Ok(0), None));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!([buckets.take(&"a", rate, || 1), buckets.take(&"a", rate, || 2)], [Err(1), Err(2)]);
        let due = start + Duration::from_secs(10);
        let late = buckets.due().unwrap();
        assert!(late.max(due) - late.min(due) < Duration::from_millis(1));
        assert_eq!(buckets.take_due(rate, due - Duration::from_secs(1)), []);
        when(buckets.due()).await;
        assert_eq!(buckets.take_due(rate, Instant::now()), [(2, 1)], "the first of them stands for all");
        assert_eq!(buckets.due(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(buckets.take(&"a", rate, || 3), Ok(0), "to tell takes no token");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let rate = FrequencyConfig { burst: 1, per: Duration::from_hours(1).into() };
        let mut buckets = Buckets::new();
        let mut summed_up = 0;
        for number in 0..THINGS_MAX * 3 {
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(buckets.take(&number, rate, || ()), Ok(0));
            assert_eq!(buckets.take(&number, rate, || ()), Err(1));
            if buckets.due() == Some(Instant::now()) {
                summed_up += buckets.take_due(rate, Instant::now()).len();
            }
        }
        assert!(buckets.all.len() <= THINGS_MAX);
        let last = buckets.take_due(rate, Instant::now() + Duration::from_hours(2)).len();
        assert_eq!(summed_up + last, THINGS_MAX * 3, "and what it held back is not lost");
    }
}
