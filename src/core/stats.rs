//! Counters that the core and the connectors keep, as plain atomics; telemetry renders them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::drops::Drops;

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// One more.
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less; there must have been one.
    pub fn lower(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The level.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A latency histogram: bucket `i` counts durations below 2^i * 16 microseconds, the last all others.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [Counter; Self::BUCKETS],
    sum_micros: Counter,
}

impl Latency {
    /// How many buckets there are: the last bounded one ends at about 4.5 minutes.
    pub const BUCKETS: usize = 26;

    /// The upper bound of bucket `i`; `None` for the last, which has none.
    pub fn bound(i: usize) -> Option<Duration> {
        (i + 1 < Self::BUCKETS).then(|| Duration::from_micros(16 << i))
    }

    /// Counts one duration.
    pub fn record(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let index = (64 - (micros >> 4).leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(index.min(Self::BUCKETS - 1)) {
            bucket.add(1);
        }
        self.sum_micros.add(micros);
    }

    /// Counts per bucket, not cumulated.
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|i| self.buckets.get(i).map_or(0, Counter::get))
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.get())
    }
}

/// What a connector counts itself.
#[derive(Debug, Default)]
pub struct ConnectorStats {
    /// Messages that came in and were published.
    pub received: Counter,
    /// Deliveries the peer took.
    pub sent: Counter,
    /// Messages that could not be decoded.
    pub malformed: Counter,
    /// Messages refused for their size.
    pub oversize: Counter,
    /// What the client library itself reports as lost: a core NATS slow consumer, say.
    pub lost: Counter,
    /// How often a connection was made.
    pub connected: Counter,
    /// Of connectors that follow the state of a peer.
    pub following: FollowingStats,
}

/// What a connector counts that lists and watches the state of its peer.
#[derive(Debug, Default)]
pub struct FollowingStats {
    /// How often what there is was listed.
    pub listed: Counter,
    /// How often the peer no longer had the position to go on at.
    pub gone: Counter,
    /// How often changes may have been missed in between: only what there was at the end of it was told.
    pub gaps: Counter,
    /// Changes that came again and were not published again.
    pub repeated: Counter,
    /// Changes that were not told: there were too many, or a first start leaves them out.
    pub held_back: Counter,
    /// Published changes that wait for the answers of routes.
    pub waiting: Gauge,
    /// How old the last change was when it came, in milliseconds.
    pub lag: Gauge,
    /// When it was last kept how far it has come, in seconds since 1970.
    pub kept: Gauge,
}

/// What the router counts for a route.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Records the route took from the log.
    pub taken: Counter,
    /// Answered deliveries, over all sinks.
    pub delivered: Counter,
    /// Records its expression did not want.
    pub filtered: Counter,
    /// Records of which its filters let nothing through, or only to outputs that nobody takes.
    pub by_filter: Counter,
    /// Records not sent because they had been here: same connector, own origin, too many hops.
    pub looped: Counter,
    /// Records whose expression failed to evaluate: counted as filtered with reason `error`.
    pub errored: Counter,
    /// Records `drop_oldest` let go because the log was full.
    pub dropped: Counter,
    /// Deliveries tried again.
    pub retried: Counter,
    /// Records the dead letter took.
    pub dead: Counter,
    /// Deliveries under way.
    pub in_flight: Gauge,
    /// Records that wait behind the cursor.
    pub waiting: Gauge,
    /// From the log to the last sink's answer.
    pub latency: Latency,
    /// What its filters drop, for those who watch.
    pub drops: Drops,
}
