//! The filter contract: what a route runs on its events between the selector and the sinks.
//!
//! A route's filters run in order, each on what the one before let through, on threads of their own: see
//! [`route`](super::route). A filter sees every envelope once for each time it is asked again: what a later
//! filter or a sink retries does not pass an earlier one twice.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::time::Instant;

use super::delivery::Reason;
use super::envelope::{Envelope, Seq};

/// Most envelopes in one call of [`Filter::process`].
pub const BATCH_MAX: usize = 64;
/// Most outputs of one [`Verdict::Emit`]; more reject the input.
pub const OUTPUTS_MAX: usize = 256;
/// Most bytes of one [`Verdict::Emit`], over all its outputs, as [`Envelope::weight`] counts; more reject the
/// input.
pub const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// Longest [`Verdict::Retry`] and [`Verdict::Hold`]; a longer one is taken as this.
pub const PAUSE_MAX: Duration = Duration::from_hours(24);

/// One envelope that a filter is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The envelope as the filters before left it.
    pub envelope: &'a Envelope,
    /// 1 for the first time this filter is asked about it; one more after each retry and each hold.
    pub attempt: u32,
    /// The place in the log of what this descends from; all that was made of one event has one.
    pub seq: Seq,
    /// The route's name.
    pub route: &'a str,
    /// When the bus took in what this descends from.
    pub since: Instant,
    /// The time of this call, the same for the whole batch.
    pub now: Instant,
}

/// What a filter says of one envelope. There is one verdict for each input, in order.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Goes on unchanged.
    Pass,
    /// Goes nowhere: an explicit, counted answer, with a word on why for who asks: `explain` and `tap`.
    Drop(Option<Reason>),
    /// Cannot be processed: goes to the dead letter with the reason.
    Reject(Reason),
    /// Failed: ask again after so long; the order key waits. Counts as an attempt of the route's `retry`, after
    /// the last of which it goes to the dead letter.
    Retry(Duration),
    /// Not yet: ask again after so long; the order key waits. No failure, thus asked as often as it takes.
    Hold(Duration),
    /// Goes on as this: the same occurrence with other attributes, topic or data. It must keep `source` and `id`.
    Change(Box<Envelope>),
    /// These take its place and share its receipt. None at all counts as [`Verdict::Drop`].
    ///
    /// At most [`OUTPUTS_MAX`] and [`OUTPUT_BYTES_MAX`]; each must hold what CloudEvents asks for, and no two
    /// have one `source` and `id`.
    Emit(Vec<Output>),
}

/// One envelope a filter emits.
#[derive(Clone, Debug)]
pub struct Output {
    /// The named output: it goes past the filters that follow, to the `to:` entries with this `output:`. `None`
    /// goes on to the next filter, and after the last to the entries without one.
    pub name: Option<ByteString>,
    /// The envelope. One with the input's `id` is given a new one: `id/route/n`, n from 1 by its place.
    pub envelope: Envelope,
}

/// A step of a route. Runs on filter threads, never on the runtime's workers, by one thread at a time, and may
/// keep state.
///
/// A panic rejects the events of its batch, and the filter is built anew.
pub trait Filter: Send {
    /// One verdict for each input, in order. A short or long answer rejects the whole batch.
    ///
    /// Several inputs of one order key may be in a batch, in their order. The answers to those behind a
    /// [`Verdict::Retry`] or [`Verdict::Hold`] stand, and are carried out after it.
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict>;

    /// What was asked about under this place is answered: it was taken, thus delivered or filtered, or else rejected or
    /// undelivered. Called before the next batch, where the factory [wants](FilterFactory::wants_settled) it.
    fn settled(&mut self, _seq: Seq, _taken: bool) {}
}

/// A filter as configured: makes the one that runs. Shared by all that read the configuration.
pub trait FilterFactory: Send + Sync + fmt::Debug {
    /// How `explain`, `graph`, reasons and logs name it: the kind, and what tells it from others: `set`,
    /// `wasm redact.wasm`.
    fn name(&self) -> ByteString;

    /// Whether it may emit to named outputs: a `to:` entry's `output:` needs one such filter before it.
    fn has_outputs(&self) -> bool {
        false
    }

    /// The files it reads. When one changes the configuration is read again, and [`prepare`](Self::prepare) called.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Whether its filters are to hear what became of the events they were asked about.
    fn wants_settled(&self) -> bool {
        false
    }

    /// Reads and checks what [`build`](Self::build) needs: files, compilation. Called on a thread that may
    /// block, before a configuration is taken up; an error keeps the old one.
    ///
    /// # Errors
    /// Says what is wrong and how to mend it.
    fn prepare(&self) -> Result<(), Reason> {
        Ok(())
    }

    /// A fresh filter. Called on a filter thread when its route has its first event, and after a panic. Should be
    /// quick.
    ///
    /// # Errors
    /// Says why not; the events of that batch are rejected, and the next batch tries again.
    fn build(&self) -> Result<Box<dyn Filter>, Reason>;

    /// As [`build`](Self::build), for `explain` and `test`, once for each event: what becomes of it is held against no
    /// filter of a route.
    ///
    /// # Errors
    /// As of `build`.
    fn build_apart(&self) -> Result<Box<dyn Filter>, Reason> {
        self.build()
    }
}

/// One entry of a route's `filters:`.
#[derive(Clone, Debug)]
pub struct FilterSpec {
    /// Kind and settings as text: where a reload keeps it, the running filter is kept, and with it its state.
    pub fingerprint: ByteString,
    /// Makes it.
    pub factory: Arc<dyn FilterFactory>,
}
