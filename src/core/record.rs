//! Records: what the log holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytestring::ByteString;
use tokio::time::Instant;

use super::envelope::{Change, Envelope, Seq};
use super::receipt::Receipt;
use super::view::Remembered;

/// One entry of the log: an envelope with its place in the order and how it came.
#[derive(Debug)]
pub struct Record {
    /// Its place; strictly increasing over both rings.
    pub seq: Seq,
    /// What was published. Context and change are complete.
    pub envelope: Arc<Envelope>,
    /// The connector it came in by; empty for the bus itself.
    pub ingress: ByteString,
    /// The key's value before, for puts and deletes: a selector watch needs it to see what left. Only for as long
    /// as the log holds the record: what the table gives later has none.
    pub previous: Option<Arc<Envelope>>,
    /// Whether the key had a value before.
    pub replaces: bool,
    /// When it was appended, for the latency of deliveries.
    pub at: Instant,
    /// What the table is charged with for it.
    pub(crate) weight: usize,
    pub(crate) receipt: Receipt,
    /// Routes this record descends from: none of them takes it again.
    pub(crate) via: Option<Arc<[u64]>>,
    /// Routes that have not answered and whose `when_full` is `block`: the log keeps the record for them.
    pub(crate) holds: AtomicU32,
    /// Set when the log let it go while a route still had it waiting.
    pub(crate) evicted: AtomicBool,
    /// What expressions found out about the envelope, for the next that looks.
    pub(crate) remembered: Remembered,
}

/// Records that are handed on together; shared by all who take them.
pub type Records = Arc<[Arc<Record>]>;

/// What a record costs beyond its envelope: itself, its receipt, its places in the log and in the table, and what
/// the allocator adds to some fifteen allocations. As measured of changes of a kilobyte.
const RECORD_WEIGHT: usize = size_of::<Record>() + 640;

/// What a record of an envelope weighs: more than the envelope, whose weight is what its sender can see of it.
pub(crate) fn weight_of(envelope: &Envelope) -> usize {
    RECORD_WEIGHT + held(envelope)
}

fn held(envelope: &Envelope) -> usize {
    envelope.weight() + envelope.extensions.handles()
}

impl Record {
    /// A record of its own: nobody has it yet, and nothing is known of what was before.
    pub(crate) fn new(
        seq: Seq,
        envelope: Arc<Envelope>,
        ingress: ByteString,
        at: Instant,
        receipt: Receipt,
    ) -> Self {
        Self {
            seq,
            weight: weight_of(&envelope),
            envelope,
            ingress,
            previous: None,
            replaces: false,
            at,
            receipt,
            via: None,
            holds: AtomicU32::new(0),
            evicted: AtomicBool::new(false),
            remembered: Remembered::default(),
        }
    }

    /// What the log is charged with for it: also for the value before, which it keeps.
    pub(crate) fn held_weight(&self) -> usize {
        let previous = self.previous.as_deref().map_or(0, held);
        self.weight + previous
    }

    /// Whether it is a change of state; otherwise an event.
    pub fn is_change(&self) -> bool {
        self.envelope.change != Change::Occurred
    }

    /// One of the routes for which the log keeps it does no longer need that.
    pub(crate) fn let_go(&self) {
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }
}
