//! What has been sent and waits for the server's answer, in the order it was sent.
//!
//! Every answer comes by a number that ends the subject it is sent to. Answers mostly come in order, so the
//! window is a queue with gaps, and the oldest entry is the first to be overdue. No timer, channel or map for
//! a single message.

use std::collections::VecDeque;

use async_nats::Subject;
use tokio::time::Instant;

use crate::core::Delivery;

/// A delivery with the subject it goes to.
pub(super) type Addressed = (Subject, Delivery);

/// What waits for one answer.
#[derive(Debug)]
pub(super) enum Sent {
    /// A publish that a stream acknowledges.
    Stream(Addressed),
    /// Core publishes, in front of an echo that shows the server has read them.
    Core {
        /// Never empty.
        deliveries: Vec<Addressed>,
        /// Whether refusals would have come by now; see [`Sink`](super::sink::Sink).
        settled: bool,
    },
}

#[derive(Debug)]
struct Entry {
    sent: Sent,
    at: Instant,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Window {
    entries: VecDeque<Option<Entry>>,
    /// The number the next entry gets.
    next: u64,
    deliveries: usize,
}

impl Window {
    /// Numbers start at 1: 0 is for what no window waits for.
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), next: 1, deliveries: 0 }
    }

    /// How many deliveries wait.
    pub(super) fn len(&self) -> usize {
        self.deliveries
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries == 0
    }

    /// The number the next [`push`](Self::push) takes.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn push(&mut self, sent: Sent, at: Instant) {
        self.deliveries += count(&sent);
        self.entries.push_back(Some(Entry { sent, at }));
        self.next += 1;
    }

    /// Whether a stream's acknowledgement is what `number` waits for; `None` when nothing does.
    pub(super) fn is_stream(&self, number: u64) -> Option<bool> {
        let entry = self.entries.get(self.index(number)?)?.as_ref()?;
        Some(matches!(entry.sent, Sent::Stream(_)))
    }

    /// What waits under `number`; `None` when it was taken or given up already, or never was.
    pub(super) fn take(&mut self, number: u64) -> Option<Sent> {
        let index = self.index(number)?;
        let sent = self.entries.get_mut(index)?.take()?.sent;
        self.deliveries -= count(&sent);
        self.trim();
        Some(sent)
    }

    /// The oldest entry, when it was sent before `limit`.
    pub(super) fn overdue(&mut self, limit: Instant) -> Option<Sent> {
        self.trim();
        let oldest = self.entries.front_mut()?;
        if oldest.as_ref().is_none_or(|entry| entry.at > limit) {
            return None;
        }
        let sent = oldest.take()?.sent;
        self.deliveries -= count(&sent);
        self.trim();
        Some(sent)
    }

    /// Takes out every delivery to `subject`, as the server refused it.
    pub(super) fn refused(&mut self, subject: &str) -> Vec<Delivery> {
        let mut refused = Vec::new();
        for slot in &mut self.entries {
            match slot.take() {
                Some(Entry { sent: Sent::Stream((to, delivery)), .. }) if *to == *subject => {
                    refused.push(delivery);
                }
                Some(Entry { sent: Sent::Core { deliveries, settled }, at }) => {
                    let (out, kept): (Vec<_>, Vec<_>) =
                        deliveries.into_iter().partition(|(to, _)| **to == *subject);
                    refused.extend(out.into_iter().map(|(_, delivery)| delivery));
                    if !kept.is_empty() {
                        *slot = Some(Entry { sent: Sent::Core { deliveries: kept, settled }, at });
                    }
                }
                other => *slot = other,
            }
        }
        self.deliveries -= refused.len();
        self.trim();
        refused
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Sent> + '_ {
        self.deliveries = 0;
        self.entries.drain(..).flatten().map(|entry| entry.sent)
    }

    fn index(&self, number: u64) -> Option<usize> {
        let first = self.next - self.entries.len() as u64;
        usize::try_from(number.checked_sub(first)?).ok()
    }

    fn trim(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
        }
    }
}

impl Sent {
    /// Its deliveries.
    pub(super) fn into_deliveries(self) -> Vec<Delivery> {
        match self {
            Self::Stream((_, delivery)) => vec![delivery],
            Self::Core { deliveries, .. } => deliveries.into_iter().map(|(_, delivery)| delivery).collect(),
        }
    }
}

fn count(sent: &Sent) -> usize {
    match sent {
        Sent::Stream(_) => 1,
        Sent::Core { deliveries, .. } => deliveries.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::delivery::Answers;
    use crate::core::{Envelope, Outcome, Seq, Topic};

    struct Deaf;

    impl Answers for Deaf {
        fn answer(&self, _: u64, _: Outcome) {}
    }

    fn to(subject: &str) -> Addressed {
        let envelope = Envelope::event(Topic::parse("a").unwrap(), "1", "s", "t");
        let delivery =
            Delivery::new(Arc::new(envelope), Seq(1), "r".into(), Arc::new(()), Arc::new(Deaf), 0);
        (subject.into(), delivery)
    }

    fn stream(subject: &str) -> Sent {
        Sent::Stream(to(subject))
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_entry_in_any_order_and_only_once() {
        let mut window = Window::new();
        let now = Instant::now();
        let numbers: Vec<u64> = ["a", "b", "c"]
            .iter()
            .map(|subject| {
                let number = window.next();
                window.push(stream(subject), now);
                number
            })
            .collect();
        for number in [numbers[1], numbers[0], numbers[2]] {
            assert!(window.take(number).is_some());
            assert!(window.take(number).is_none());
        }
        assert!(window.is_empty());
        assert!(window.take(0).is_none() && window.take(99).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_overdue_first_and_a_late_answer_finds_nothing() {
        let mut window = Window::new();
        let start = Instant::now();
        window.push(stream("a"), start);
        tokio::time::advance(Duration::from_secs(1)).await;
        window.push(stream("b"), Instant::now());
        assert!(window.overdue(start).is_some());
        assert!(window.overdue(start).is_none());
        assert!(window.take(1).is_none());
        assert_eq!(window.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_subject_leaves_its_batch_alone() {
        let mut window = Window::new();
        let now = Instant::now();
        window.push(Sent::Core { deliveries: vec![to("a"), to("b"), to("a")], settled: false }, now);
        window.push(stream("a"), now);
        window.push(stream("b"), now);
        assert_eq!(window.refused("a").len(), 3);
        assert_eq!(window.len(), 2);
        assert_eq!(window.drain().count(), 2);
        assert!(window.is_empty());
    }
}
