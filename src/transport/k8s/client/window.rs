//! What a watch has published and its routes have not answered yet, in order.
//!
//! The cursor is what came before the first of these. It moves over what was delivered, filtered or rejected (a dead
//! letter has it then). Routes try again for as long as their sink is away, so what is undelivered in the end had its
//! route taken from it: it holds the cursor, and the watch goes back to it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;
use foldhash::fast::RandomState;
use tracing::warn;

use super::super::codec::envelope::Before;
use crate::core::delivery::Reason;
use crate::core::stats::ConnectorStats;
use crate::core::{Outcome, Receipt};

/// What is kept of a step of a watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// The receipts of what was published for it.
    pub(super) receipts: Vec<Receipt>,
    /// What is known of an object from here on; `None` within for one that is gone.
    pub(super) change: Option<(ByteString, Option<Before>)>,
    /// The position that the watch has come to by it, where it has.
    pub(super) position: Option<ByteString>,
}

/// What may be kept now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// How far the watch has come.
    pub(super) position: Option<ByteString>,
    /// What is known of objects; `None` of those that are gone.
    pub(super) changes: HashMap<ByteString, Option<Before>, RandomState>,
}

impl Progress {
    pub(super) fn is_empty(&self) -> bool {
        self.position.is_none() && self.changes.is_empty()
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Window {
    steps: VecDeque<Step>,
    done: Progress,
    held: Option<Reason>,
    /// Told how many wait.
    stats: Arc<ConnectorStats>,
}

impl Window {
    /// One that counts in these figures.
    pub(super) fn new(stats: &Arc<ConnectorStats>) -> Self {
        let stats = Arc::clone(stats);
        Self { steps: VecDeque::new(), done: Progress::default(), held: None, stats }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Takes a step.
    pub(super) fn push(&mut self, step: Step) {
        self.stats.following.waiting.raise();
        self.steps.push_back(step);
        self.settle();
    }

    /// Waits until the first that waits is answered; for ever where none waits.
    pub(super) async fn answered(&self) {
        let Some(first) = self.steps.front() else { return std::future::pending().await };
        for receipt in &first.receipts {
            receipt.delivered().await;
        }
    }

    /// Moves over what is answered.
    pub(super) fn settle(&mut self) {
        while let Some(first) = self.steps.front() {
            let mut undelivered = None;
            for receipt in &first.receipts {
                match receipt.try_delivered() {
                    None => return,
                    Some(Outcome::Undelivered(reason)) => undelivered = Some(reason),
                    Some(_) => {}
                }
            }
            let Some(step) = self.steps.pop_front() else { return };
            self.stats.following.waiting.lower();
            if let (Some(reason), None) = (undelivered, &self.held) {
                warn!(%reason, "a change was not delivered: the cursor stays before it");
                self.held = Some(reason);
            }
            if self.held.is_none() {
                self.done.changes.extend(step.change);
                self.done.position = step.position.or(self.done.position.take());
            }
        }
    }

    /// Why the cursor will not move any more, where it will not.
    pub(super) fn held(&self) -> Option<&Reason> {
        self.held.as_ref()
    }

    /// What may be kept since this was asked last.
    pub(super) fn take(&mut self) -> Progress {
        std::mem::take(&mut self.done)
    }

    /// Puts back what could not be kept.
    pub(super) fn put_back(&mut self, mut failed: Progress) {
        failed.changes.extend(self.done.changes.drain());
        failed.position = self.done.position.take().or(failed.position);
        self.done = failed;
    }

    /// Whether there is something to keep.
    pub(super) fn has_progress(&self) -> bool {
        !self.done.is_empty()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        for _ in &self.steps {
            self.stats.following.waiting.lower();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Refused;

    fn step(n: u32, receipts: Vec<Receipt>) -> Step {
        let name = ByteString::from(format!("a/{n}"));
        Step { receipts, change: Some((name, None)), position: Some(n.to_string().into()) }
    }

    fn answered(outcome: Outcome) -> Vec<Receipt> {
        vec![Receipt::settled(Refused::Closed, outcome)]
    }

    #[test]
    fn b2_the_cursor_moves_only_over_what_is_answered_in_order() {
        let mut window = Window::default();
        let open = Receipt::batch(1);
        window.push(step(1, vec![]));
        window.push(step(2, open.clone()));
        window.push(step(3, answered(Outcome::Delivered)));
        assert_eq!((window.len(), window.take().position.as_deref()), (2, Some("1")));
        open[0].answer(Outcome::Rejected("dead".into()));
        window.settle();
        let done = window.take();
        assert_eq!((done.position.as_deref(), done.changes.len()), (Some("3"), 2));
        assert!(!window.has_progress());
    }

    #[test]
    fn what_is_undelivered_holds_the_cursor() {
        let mut window = Window::default();
        window.push(step(1, answered(Outcome::Filtered)));
        window.push(step(2, answered(Outcome::Undelivered("away".into()))));
        window.push(step(3, answered(Outcome::Delivered)));
        assert_eq!((window.len(), window.take().position.as_deref()), (0, Some("1")));
        assert_eq!(window.held().map(|reason| &**reason), Some("away"));
    }

    #[test]
    fn what_could_not_be_kept_is_kept_with_what_came_after_it() {
        let mut window = Window::default();
        window.push(step(1, vec![]));
        let first = window.take();
        window.push(step(2, vec![]));
        window.put_back(first);
        let all = window.take();
        assert_eq!((all.position.as_deref(), all.changes.len()), (Some("2"), 2));
        window.push(step(3, vec![]));
        let third = window.take();
        window.put_back(third);
        assert_eq!(window.take().position.as_deref(), Some("3"));
    }
}
