//! Deliveries: what a route hands to a connector, and the one answer each must get.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::envelope::{Envelope, Seq};
use super::template::Template;

/// Why something was rejected or could not be delivered: a sentence for the dead letter and the log.
pub type Reason = ByteString;

/// The reason of one that was recalled.
pub(crate) const BEHIND: &str = "an earlier one of its key failed";

/// What became of a delivery at one sink, or of a publication over all routes that took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it, as surely as the target's [`Guarantee`] says.
    Delivered,
    /// No route or filter wanted it; an explicit answer, counted.
    Filtered,
    /// The sink said no. From a sink: tried again `max_attempts` times, then dead-lettered. On a receipt:
    /// the dead letter has it.
    Rejected(Reason),
    /// The sink is away, or never answered: tried again for as long as it is.
    Undelivered(Reason),
}

/// How sure one hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// What is lost on the way stays lost.
    AtMostOnce,
    /// Sent again until acknowledged.
    AtLeastOnce,
}

/// How sure one hop is, and why; `explain` names the weakest on a route's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// The class.
    pub assurance: Assurance,
    /// Whether a repetition carries the same `source` and `id`.
    pub identity: bool,
    /// The fact behind both, in the protocol's words: `QoS 1, persistent session`.
    pub because: ByteString,
}

/// Where a route sends: parsed once from a `to:` entry by the connector's transport.
#[derive(Clone)]
pub struct Target {
    /// Subject, topic or path, rendered for each event; `None` where the transport has a fixed one.
    pub address: Option<Template>,
    /// Whether the sink keeps the order in which it is handed deliveries even when one fails, so that
    /// several of one order key may be under way. Otherwise a key's next waits for the answer to the last.
    pub pipelined: bool,
    /// How sure delivery is.
    pub guarantee: Guarantee,
    /// Settings only the transport reads, through [`Delivery::options`].
    pub options: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("address", &self.address)
            .field("pipelined", &self.pipelined)
            .field("guarantee", &self.guarantee)
            .finish_non_exhaustive()
    }
}

/// Takes the answers of deliveries. Implemented by route workers, and by tests that count answers.
pub trait Answers: Send + Sync {
    /// The delivery that was given `ticket` is answered; called exactly once for each, must not block.
    fn answer(&self, ticket: u64, outcome: Outcome);
}

/// One envelope on its way to one sink. Dropped unanswered, it is [`Outcome::Undelivered`].
pub struct Delivery {
    /// What to send; origin and hops are already in it.
    pub envelope: Arc<Envelope>,
    /// Its position in the log.
    pub seq: Seq,
    /// Name of the route that sends it.
    pub route: ByteString,
    /// The rendered address, in the target's spelling; `None` where the target has none.
    pub address: Option<ByteString>,
    /// 1 for the first try.
    pub attempt: u32,
    /// Shared with those of its key under way, where the sink is pipelined: set when one of them fails, so
    /// that none behind it is begun.
    pub(crate) recall: Option<Arc<AtomicBool>>,
    options: Arc<dyn Any + Send + Sync>,
    answers: Option<Arc<dyn Answers>>,
    ticket: u64,
}

impl Delivery {
    /// A delivery whose one answer goes to `answers` under `ticket`.
    pub fn new(
        envelope: Arc<Envelope>,
        seq: Seq,
        route: ByteString,
        options: Arc<dyn Any + Send + Sync>,
        answers: Arc<dyn Answers>,
        ticket: u64,
    ) -> Self {
        let answers = Some(answers);
        Self { envelope, seq, route, address: None, attempt: 1, recall: None, options, answers, ticket }
    }

    /// The target's settings, as the transport's own type; `None` only for another transport's target.
    pub fn options<T: Any>(&self) -> Option<&T> {
        self.options.downcast_ref()
    }

    /// Gives the one answer.
    pub fn answer(mut self, outcome: Outcome) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Outcome) {
        if let Some(answers) = self.answers.take() {
            if let (Some(recall), Outcome::Rejected(_) | Outcome::Undelivered(_)) = (&self.recall, &outcome)
            {
                recall.store(true, Ordering::Release);
            }
            answers.answer(self.ticket, outcome);
        }
    }

    /// Whether an earlier one of its key has failed since it was handed on. A connector that has not begun it
    /// then answers that it is [`BEHIND`], undelivered; else it would overtake the retry.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recall.as_ref().is_some_and(|recall| recall.load(Ordering::Acquire))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.give(Outcome::Undelivered("dropped unanswered".into()));
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("seq", &self.seq)
            .field("route", &self.route)
            .field("address", &self.address)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// A connector's inbox. It outlives each run of the connector, so that what waits while the peer is away
/// is there for the next run. Bounded by the in-flight limits of the routes that send here.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<MailboxState>,
    /// As in the state, to be seen without the lock.
    closed: AtomicBool,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct MailboxState {
    waiting: VecDeque<Delivery>,
    closed: bool,
    /// The connector is being exchanged: what waits is for its successor.
    paused: bool,
}

impl Mailbox {
    /// Puts deliveries at the end, in order. After [`close`](Self::close) they are dropped, thus undelivered.
    pub fn send(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        let mut state = self.state.lock();
        if state.closed {
            // The answer takes the route's lock: not under ours.
            drop(state);
            drop(deliveries.into_iter().collect::<Vec<_>>());
            return;
        }
        // The reader waits only for a mailbox that it found empty under this lock, or paused.
        let wake = state.waiting.is_empty();
        state.waiting.extend(deliveries);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// No more will come: [`Deliveries::recv`] gives what waits, then `0`.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.closed.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Drops what waits, thus undelivered: for a closed mailbox whose connector has ended and reads no more.
    pub fn abandon(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        // The answers take the route's lock: not under ours.
        drop(waiting);
    }

    /// Lets the reading connector end, as [`close`](Self::close) does, but keeps what waits and what still
    /// comes for the one that reads after [`resume`](Self::resume).
    pub fn pause(&self) {
        self.state.lock().paused = true;
        self.arrived.notify_one();
    }

    /// Undoes [`pause`](Self::pause).
    pub fn resume(&self) {
        self.state.lock().paused = false;
        self.arrived.notify_one();
    }

    /// Whether it waits for the connector's successor.
    pub fn is_paused(&self) -> bool {
        self.state.lock().paused
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The reading end of a [`Mailbox`].
#[derive(Debug)]
pub struct Deliveries(pub Arc<Mailbox>);

impl Deliveries {
    /// Waits for deliveries and moves up to `limit` of them to the end of `into`, in order.
    ///
    /// Returns how many; `0` once the mailbox is closed and empty, or paused, which ends a drain: the
    /// connector then flushes and returns. Cancel safe: what was not moved stays.
    pub async fn recv(&mut self, into: &mut Vec<Delivery>, limit: usize) -> usize {
        loop {
            let arrived = self.0.arrived.notified();
            let (mut taken, mut recalled) = (0, Vec::new());
            let ended = {
                let mut state = self.0.state.lock();
                while taken < limit
                    && !state.paused
                    && let Some(delivery) = state.waiting.pop_front()
                {
                    if delivery.is_recalled() {
                        recalled.push(delivery);
                    } else {
                        into.push(delivery);
                        taken += 1;
                    }
                }
                state.closed || state.paused
            };
            for delivery in recalled {
                delivery.answer(Outcome::Undelivered(BEHIND.into()));
            }
            if taken > 0 || ended {
                return taken;
            }
            arrived.await;
        }
    }
}
