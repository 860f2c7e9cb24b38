//! How the watches of a connector are, and with that whether it is ready.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::transport::Ready;

/// How long a watch that worked may be without success before the connector is not ready.
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Most watches whose trouble is told at a time.
const TOLD: usize = 3;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Board {
    watches: Mutex<Vec<Health>>,
    standby: Mutex<bool>,
}

#[derive(Debug)]
struct Health {
    name: String,
    worked: bool,
    /// Since when, and what is wrong.
    trouble: Option<(Instant, String)>,
}

impl Board {
    /// For watches of these names.
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        let started = || Some((Instant::now(), "not listed yet".to_owned()));
        let watches = names.map(|name| Health { name, worked: false, trouble: started() }).collect();
        Self { watches: Mutex::new(watches), standby: Mutex::new(false) }
    }

    /// The watch of this number works.
    pub(super) fn good(&self, number: usize) {
        if let Some(health) = self.watches.lock().get_mut(number) {
            health.worked = true;
            health.trouble = None;
        }
    }

    /// The watch of this number does not work.
    pub(super) fn bad(&self, number: usize, reason: &str) {
        if let Some(health) = self.watches.lock().get_mut(number) {
            let since = health.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            health.trouble = Some((since, reason.to_owned()));
        }
    }

    /// Waits until each watch has listed what there is.
    pub(super) async fn listed(&self) {
        while !self.watches.lock().iter().all(|health| health.worked) {
            sleep(LOOK).await;
        }
    }

    /// Whether another one watches, which is as it should be.
    pub(super) fn stand_by(&self, stands_by: bool) {
        *self.standby.lock() = stands_by;
    }

    /// What stands against being ready.
    fn verdict(&self) -> Result<(), String> {
        if *self.standby.lock() {
            return Ok(());
        }
        let watches = self.watches.lock();
        let troubles: Vec<String> = watches
            .iter()
            .filter_map(|health| {
                let (since, reason) = health.trouble.as_ref()?;
                let late = !health.worked || since.elapsed() >= GRACE;
                late.then(|| format!("{}: {reason}", health.name))
            })
            .take(TOLD)
            .collect();
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) }
    }

    /// Keeps a connector's readiness; never ends.
    pub(super) async fn keep(&self, ready: &Ready) {
        let mut told = None;
        loop {
            let verdict = self.verdict();
            if told.as_ref() != Some(&verdict) {
                match &verdict {
                    Ok(()) => ready.up(),
                    Err(reason) => ready.down(reason.clone()),
                }
                told = Some(verdict);
            }
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b11_a_connector_is_ready_while_every_watch_works_or_did_a_moment_ago() {
        let board = Board::new(["a", "b"].into_iter().map(str::to_owned));
        board.good(0);
        board.bad(1, "no such kind");
        assert_eq!(board.verdict(), Err("b: no such kind".to_owned()));
        board.good(1);
        assert_eq!(board.verdict(), Ok(()));
        board.bad(1, "away");
        tokio::time::sleep(GRACE / 2).await;
        board.bad(1, "still away");
        assert_eq!(board.verdict(), Ok(()), "a moment is no trouble");
        tokio::time::sleep(GRACE / 2).await;
        assert_eq!(board.verdict(), Err("b: still away".to_owned()));
        board.stand_by(true);
        assert_eq!(board.verdict(), Ok(()));
    }
}
