//! When to break what: a plan drawn from the seed, printed in full, and a counter of progress that drives it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use tokio::task::JoinHandle;

/// `MESHBUS_SEED`, else a new one. Printed, so that a failed run can be repeated.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("MESHBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed: repeat with MESHBUS_SEED={seed}");
    seed
}

/// `short` in a common run, `long` with `MESHBUS_LONG=1`.
pub(crate) fn sized<T>(short: T, long: T) -> T {
    if std::env::var_os("MESHBUS_LONG").is_some_and(|long| long != "0") { long } else { short }
}

/// One fault: once `at` events are stored, and a little later, for so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) later: Duration,
    pub(crate) down: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} + {:?} for {:?}", self.at, self.later, self.down)
    }
}

/// `count` faults of one process, anywhere between the first and the last tenth of the way.
pub(crate) fn plan(name: &str, seed: u64, count: usize, events: usize) -> Vec<Fault> {
    // The name is part of the seed: two processes do not die at the same points.
    let salt = name.bytes().fold(0u64, |salt, byte| salt.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = fastrand::Rng::with_seed(seed ^ salt);
    let (first, last) = (events as u64 / 20, events as u64 * 9 / 10);
    let mut faults = Vec::with_capacity(count);
    for _ in 0..count {
        faults.push(Fault {
            at: random.u64(first..last),
            later: Duration::from_millis(random.u64(0..300)),
            down: Duration::from_millis(random.u64(50..1500)),
        });
    }
    faults.sort_by_key(|fault| fault.at);
    for fault in &faults {
        println!("plan: {name} {fault}");
    }
    faults
}

/// How many messages a stream holds, read again and again while its server may be away.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Follows a stream until the handle is dropped or aborted.
    pub(crate) fn follow(stream: jetstream::stream::Stream) -> (Self, JoinHandle<()>) {
        let stored = Arc::new(AtomicU64::new(0));
        let progress = Self(stored.clone());
        let task = tokio::spawn(async move {
            loop {
                let asked = tokio::time::timeout(Duration::from_secs(1), stream.get_info()).await;
                if let Ok(Ok(info)) = asked {
                    stored.store(info.state.messages, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        (progress, task)
    }

    pub(crate) fn stored(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until so many are stored.
    pub(crate) async fn reach(&self, stored: u64) {
        while self.stored() < stored {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
