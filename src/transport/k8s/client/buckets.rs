//! Token buckets, one for each of many things: so many at once, then one more every while.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::super::config::FrequencyConfig;

/// Most things that are told apart; of more, those that were quiet for longest begin anew.
const THINGS_MAX: usize = 8192;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Buckets<K> {
    all: HashMap<K, Bucket, RandomState>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    /// How many were held back since one passed.
    held_back: u64,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(super) fn new() -> Self {
        Self { all: HashMap::default() }
    }

    /// Takes a token of a thing. `Ok` tells how many were held back before it, `Err` how many with it.
    pub(super) fn take(&mut self, thing: &K, rate: FrequencyConfig) -> Result<u64, u64> {
        let now = Instant::now();
        if self.all.len() >= THINGS_MAX && !self.all.contains_key(thing) {
            self.forget();
        }
        let burst = f64::from(rate.burst);
        let bucket =
            self.all.entry(thing.clone()).or_insert(Bucket { tokens: burst, filled: now, held_back: 0 });
        let fresh = (now - bucket.filled).as_secs_f64() / rate.per.0.as_secs_f64();
        bucket.tokens = (bucket.tokens + fresh).min(burst);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(std::mem::take(&mut bucket.held_back));
        }
        bucket.held_back += 1;
        Err(bucket.held_back)
    }

    /// Lets the older half go.
    fn forget(&mut self) {
        let mut times: Vec<Instant> = self.all.values().map(|bucket| bucket.filled).collect();
        times.sort_unstable();
        if let Some(middle) = times.get(times.len() / 2).copied() {
            self.all.retain(|_, bucket| bucket.filled > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b7_so_many_pass_at_once_then_one_each_while_and_what_was_held_back_is_told() {
        let rate = FrequencyConfig { burst: 2, per: Duration::from_secs(10).into() };
        let mut buckets = Buckets::new();
        assert_eq!([buckets.take(&"a", rate), buckets.take(&"a", rate)], [Ok(0), Ok(0)]);
        assert_eq!([buckets.take(&"a", rate), buckets.take(&"a", rate)], [Err(1), Err(2)]);
        assert_eq!(buckets.take(&"b", rate), Ok(0), "each on its own");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([buckets.take(&"a", rate), buckets.take(&"a", rate)], [Ok(2), Err(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let rate = FrequencyConfig { burst: 1, per: Duration::from_secs(10).into() };
        let mut buckets = Buckets::new();
        for number in 0..THINGS_MAX * 3 {
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(buckets.take(&number, rate), Ok(0));
        }
        assert!(buckets.all.len() <= THINGS_MAX);
    }
}
