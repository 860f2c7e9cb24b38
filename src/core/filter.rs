//! The filter contract: what a route runs on its events between the selector and the sinks.

use std::time::Duration;

use bytestring::ByteString;

use super::delivery::Reason;
use super::envelope::Envelope;

/// What a filter says of one envelope. There is one verdict for each input, in order.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Goes on unchanged.
    Pass,
    /// Goes nowhere: an explicit, counted answer.
    Drop,
    /// Cannot be processed: goes to the dead letter with the reason.
    Reject(Reason),
    /// Try again after so long; the order key waits.
    Retry(Duration),
    /// These take its place and share its receipt. None at all counts as [`Verdict::Drop`].
    Emit(Vec<Output>),
}

/// One envelope a filter emits.
#[derive(Clone, Debug)]
pub struct Output {
    /// The named output: only `to:` entries with this `output:` take it; `None` for the main one.
    pub name: Option<ByteString>,
    /// The envelope. One with the input's `id` is given a new one: `id/route/n`.
    pub envelope: Envelope,
}

/// A step of a route. Runs on filter threads, never on the runtime's workers, and may keep state.
pub trait Filter: Send {
    /// One verdict for each envelope, in order. A short answer rejects the rest.
    fn process(&mut self, batch: &[&Envelope]) -> Vec<Verdict>;

    /// How `explain` and `graph` name it.
    fn name(&self) -> ByteString;
}
