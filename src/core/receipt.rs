//! Receipts: what became of a publication, told to the one who published it.
//!
//! A receipt has two answers. *Stored* comes at once: the sequence the log gave, or why the bus refused.
//! *Delivered* comes when every route that took the record has answered. Each is given exactly once.
//! One batch shares one allocation; a receipt is an index into it.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::{Answers, Outcome};
use super::envelope::Seq;
use super::error::Refused;

/// The receipt of one publication. Clones share the answers; dropping it changes nothing.
#[derive(Clone)]
pub struct Receipt {
    batch: Arc<Batch>,
    index: u32,
}

struct Batch {
    slots: Slots,
    resolved: Notify,
    /// How many wait for `resolved`, so that nobody is told where nobody waits.
    waiting: AtomicUsize,
}

/// A batch of one needs no second allocation.
enum Slots {
    One(Slot),
    Many(Box<[Slot]>),
}

/// What nearly always happens needs numbers only: stored, and filtered or delivered.
struct Slot {
    /// The sequence the log gave; zero while there is none.
    stored: AtomicU64,
    /// Answers still to come. The publisher holds one until every route's claim is counted.
    pending: AtomicU32,
    /// The [`rank`] of the gravest answer so far.
    gravest: AtomicU8,
    rare: OnceLock<Box<Rare>>,
}

/// What needs more than a number.
#[derive(Default)]
struct Rare {
    refused: OnceLock<Refused>,
    fate: Mutex<Fate>,
}

#[derive(Default)]
struct Fate {
    /// The gravest answer so far, where it has a reason.
    gravest: Option<Outcome>,
    /// Whose delivery this publication is, when a route's own output was published.
    parent: Option<(Arc<dyn Answers>, u64)>,
}

impl Receipt {
    /// Receipts for a batch of `n`, none of them answered.
    pub(crate) fn batch(n: usize) -> Vec<Self> {
        let slots = match n {
            1 => Slots::One(Slot::new()),
            _ => Slots::Many((0..n).map(|_| Slot::new()).collect()),
        };
        let batch = Arc::new(Batch { slots, resolved: Notify::new(), waiting: AtomicUsize::new(0) });
        (0..n as u32).map(|index| Self { batch: Arc::clone(&batch), index }).collect()
    }

    /// A receipt that is answered already: the log or a bound refused, or a loop was cut.
    pub(crate) fn settled(refused: Refused, outcome: Outcome) -> Self {
        let batch =
            Batch { slots: Slots::One(Slot::new()), resolved: Notify::new(), waiting: AtomicUsize::new(0) };
        let receipt = Self { batch: Arc::new(batch), index: 0 };
        receipt.refuse(refused, outcome);
        receipt
    }

    /// A receipt that is answered already: stored, and delivered.
    pub(crate) fn told(seq: Seq) -> Self {
        let batch =
            Batch { slots: Slots::One(Slot::new()), resolved: Notify::new(), waiting: AtomicUsize::new(0) };
        let receipt = Self { batch: Arc::new(batch), index: 0 };
        receipt.set_stored(seq);
        receipt.answer(Outcome::Delivered);
        receipt
    }

    /// The sequence the log gave, or why the bus refused.
    ///
    /// # Errors
    /// [`Refused`], which each protocol has its own word for.
    pub fn stored(&self) -> Result<Seq, &Refused> {
        let slot = self.slot();
        match slot.stored.load(Ordering::Acquire) {
            0 => Err(slot.rare.get().and_then(|rare| rare.refused.get()).unwrap_or(&Refused::Closed)),
            seq => Ok(Seq(seq)),
        }
    }

    /// Waits for the fate over all routes that took it: the gravest of their answers, in the order
    /// filtered, delivered, rejected, undelivered. Nobody took it: delivered. Refused: rejected.
    pub async fn delivered(&self) -> Outcome {
        if let Some(outcome) = self.try_delivered() {
            return outcome;
        }
        let _waiting = Waiting::new(&self.batch.waiting);
        loop {
            let resolved = self.batch.resolved.notified();
            if let Some(outcome) = self.try_delivered() {
                return outcome;
            }
            resolved.await;
        }
    }

    /// The fate, where it is known already.
    pub fn try_delivered(&self) -> Option<Outcome> {
        let slot = self.slot();
        // Whoever waits has said so before it looks here, and whoever resolves looks for waiters after it has
        // written here: one of the two sees the other.
        if slot.pending.load(Ordering::SeqCst) > 0 {
            return None;
        }
        Some(slot.fate())
    }

    /// Records the first answer: the sequence.
    pub(crate) fn set_stored(&self, seq: Seq) {
        self.slot().stored.store(seq.0, Ordering::Release);
    }

    /// Gives both answers to a publication that never reached the log.
    pub(crate) fn refuse(&self, refused: Refused, outcome: Outcome) {
        // Set once by the publisher; a second call would be ours to mend, and changes nothing.
        drop(self.slot().rare().refused.set(refused));
        self.answer(outcome);
    }

    /// `routes` answers are to come instead of the publisher's own. Before any of them has the record.
    pub(crate) fn claim(&self, routes: u32) {
        match routes {
            0 => self.release(),
            // The publisher's hold becomes the route's.
            1 => {}
            more => drop(self.slot().pending.fetch_add(more - 1, Ordering::Relaxed)),
        }
    }

    /// Gives one of the claimed answers.
    pub(crate) fn answer(&self, outcome: Outcome) {
        let slot = self.slot();
        let rank = rank(&outcome);
        if let Outcome::Rejected(_) | Outcome::Undelivered(_) = outcome {
            let mut fate = slot.rare().fate.lock();
            if fate.gravest.as_ref().is_none_or(|gravest| graver(&outcome, gravest)) {
                fate.gravest = Some(outcome);
            }
        }
        slot.gravest.fetch_max(rank, Ordering::AcqRel);
        self.release();
    }

    /// Takes one from the answers to come.
    fn release(&self) {
        let slot = self.slot();
        if slot.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            if self.batch.waiting.load(Ordering::SeqCst) > 0 {
                self.batch.resolved.notify_waiters();
            }
            let parent = slot.rare.get().and_then(|rare| rare.fate.lock().parent.take());
            if let Some((answers, ticket)) = parent {
                answers.answer(ticket, slot.fate());
            }
        }
    }

    /// Passes the second answer on, now or when it comes.
    pub(crate) fn forward(&self, answers: Arc<dyn Answers>, ticket: u64) {
        let slot = self.slot();
        {
            let mut fate = slot.rare().fate.lock();
            // Written, not only read: whoever takes the last answer away after this sees what is put here.
            if slot.pending.fetch_add(0, Ordering::SeqCst) > 0 {
                fate.parent = Some((answers, ticket));
                return;
            }
        }
        answers.answer(ticket, slot.fate());
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a receipt's index is below its batch's length by construction"
    )]
    fn slot(&self) -> &Slot {
        match &self.batch.slots {
            Slots::One(slot) => slot,
            Slots::Many(slots) => &slots[self.index as usize],
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            stored: AtomicU64::new(0),
            pending: AtomicU32::new(1),
            gravest: AtomicU8::new(0),
            rare: OnceLock::new(),
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    /// The gravest answer, once all have come.
    fn fate(&self) -> Outcome {
        match self.gravest.load(Ordering::Acquire) {
            0 | DELIVERED => Outcome::Delivered,
            FILTERED => Outcome::Filtered,
            _ => {
                let gravest = self.rare.get().and_then(|rare| rare.fate.lock().gravest.clone());
                gravest.unwrap_or(Outcome::Delivered)
            }
        }
    }
}

/// Counts one that waits for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether one answer outranks another.
pub(crate) fn graver(outcome: &Outcome, than: &Outcome) -> bool {
    rank(outcome) > rank(than)
}

const FILTERED: u8 = 1;
const DELIVERED: u8 = 2;

/// How grave an answer is: the gravest stands for all routes. Zero is no answer.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Filtered => FILTERED,
        Outcome::Delivered => DELIVERED,
        Outcome::Rejected(_) => 3,
        Outcome::Undelivered(_) => 4,
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("stored", &self.stored())
            .field("delivered", &self.try_delivered())
            .finish()
    }
}
