//! Snapshots kept for lists that are read page by page, so that all pages show one position.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::Seq;
use crate::core::state::Snapshot;

/// Most snapshots kept.
const KEPT: usize = 32;
/// How long a list may take over all its pages.
const FOR: Duration = Duration::from_mins(5);

/// The snapshots of lists that have further pages.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<VecDeque<(Instant, Snapshot)>>);

impl Pages {
    /// Keeps a snapshot.
    pub(super) fn keep(&self, snapshot: &Snapshot) {
        let mut kept = self.0.lock();
        Self::forget(&mut kept);
        if kept.iter().any(|(_, have)| have.seq() == snapshot.seq()) {
            return;
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), Snapshot::clone(snapshot)));
    }

    /// The snapshot at a position, where it is still kept.
    pub(super) fn at(&self, seq: Seq) -> Option<Snapshot> {
        let mut kept = self.0.lock();
        Self::forget(&mut kept);
        kept.iter()
            .find(|(_, snapshot)| snapshot.seq() == seq)
            .map(|(_, snapshot)| Snapshot::clone(snapshot))
    }

    fn forget(kept: &mut VecDeque<(Instant, Snapshot)>) {
        while kept.front().is_some_and(|(since, _)| since.elapsed() > FOR) {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::state::{State, StateBound};

    #[tokio::test(start_paused = true)]
    async fn r6_a_position_is_kept_for_a_while_and_no_more_than_so_many() {
        let pages = Pages::default();
        let at = |seq| Arc::new(State::new(StateBound::default(), Seq(seq)));
        for seq in 1..=KEPT as u64 + 1 {
            pages.keep(&at(seq));
            pages.keep(&at(seq));
        }
        assert!(pages.at(Seq(1)).is_none(), "the oldest went");
        assert_eq!(pages.at(Seq(2)).unwrap().seq(), Seq(2));
        tokio::time::advance(FOR + Duration::from_secs(1)).await;
        assert!(pages.at(Seq(2)).is_none(), "too long ago");
    }
}
