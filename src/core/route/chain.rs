//! A chain: the filters of a route as they run, and what their verdicts make of a batch.
//!
//! Runs on a filter thread. Pieces come in the order of their keys, those of one key together, and go out so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashSet;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::delivery::Reason;
use crate::core::envelope::{Envelope, Seq};
use crate::core::error::panic_message;
use crate::core::filter::{
    BATCH_MAX, Filter, FilterSpec, Input, OUTPUT_BYTES_MAX, OUTPUTS_MAX, Output, PAUSE_MAX, Verdict,
};

/// The shortest pause: what asks again at once would keep a thread busy.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// What guards against loops, which no filter may change.
pub(super) const LOOP_GUARD: [&str; 2] = ["mborigin", "mbhops"];

/// The filters of a route. Shared by the specifications that have the same ones.
#[derive(Debug, Default)]
pub(super) struct Chain {
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    spec: FilterSpec,
    name: ByteString,
    /// Whether it is only tried.
    apart: bool,
    /// Shared by the chains that a reload made one of the other: they keep the filter and its state.
    running: Arc<Running>,
}

/// One filter; `None` before its first batch and after a panic. Locked for a call: only one batch of a route is
/// under way.
#[derive(Default)]
struct Running(Mutex<Option<Box<dyn Filter>>>);

/// How a record comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The worker's number for the record.
    pub(super) task: usize,
    pub(super) seq: Seq,
    /// When the bus took it in.
    pub(super) since: Instant,
    /// Failures until the dead letter.
    pub(super) max_attempts: u32,
}

/// What a record brings to all that its filters make of it.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) entry: Entry,
    /// The record's order key.
    pub(super) key: u64,
    pub(super) chain: Arc<Chain>,
    /// Outputs made of it, over all filters.
    outputs: AtomicUsize,
}

/// An envelope on its way through a chain.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) root: Arc<Root>,
    pub(super) envelope: Arc<Envelope>,
    /// The filter that is asked next.
    at: usize,
    /// How often that was asked already, and how often it failed.
    calls: u32,
    failures: u32,
    pub(super) state: State,
}

/// How far a piece is.
#[derive(Clone, Debug)]
pub(super) enum State {
    Waiting,
    Paused(Instant),
    Done(Fate),
}

/// What becomes of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// To the sinks with this output.
    Sent(Option<ByteString>),
    /// Filtered out by the filter of that index, which may say why.
    Dropped(usize, Option<Reason>),
    /// To the dead letter, after so many attempts.
    Rejected(Reason, u32),
}

/// What all calls of a batch share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) route: &'a str,
    pub(super) now: Instant,
}

impl Root {
    pub(super) fn new(entry: Entry, key: u64, chain: Arc<Chain>) -> Self {
        Self { entry, key, chain, outputs: AtomicUsize::new(0) }
    }
}

impl Piece {
    pub(super) fn new(root: Arc<Root>, envelope: Arc<Envelope>) -> Self {
        Self { root, envelope, at: 0, calls: 0, failures: 0, state: State::Waiting }
    }

    /// The index of the filter that is asked next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// When its pause is over.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Paused(due) => Some(due),
            _ => None,
        }
    }

    /// Whether it waits after a failure.
    pub(super) fn is_retried(&self) -> bool {
        self.failures > 0 && self.due().is_some()
    }

    /// Ends its pause.
    pub(super) fn resume(&mut self) {
        if self.due().is_some() {
            self.state = State::Waiting;
        }
    }

    fn done(mut self, fate: Fate) -> Self {
        self.state = State::Done(fate);
        self
    }

    /// On to the next filter, as `envelope`.
    fn passed(&self, envelope: Arc<Envelope>) -> Self {
        let at = self.at + 1;
        Self { root: Arc::clone(&self.root), envelope, at, calls: 0, failures: 0, state: State::Waiting }
    }

    fn dropped(self, why: Option<Reason>) -> Self {
        let at = self.at;
        self.done(Fate::Dropped(at, why))
    }

    fn rejected(self, reason: Reason) -> Self {
        let attempts = self.failures + 1;
        self.done(Fate::Rejected(reason, attempts))
    }

    fn paused(mut self, after: Duration, now: Instant) -> Self {
        self.state = State::Paused(now + after.clamp(PAUSE_MIN, PAUSE_MAX));
        self
    }
}

impl Chain {
    /// The chain of `specs`; filters that `before` has too go on running with their state.
    pub(super) fn after(before: &Self, specs: &[FilterSpec]) -> Self {
        let mut kept: Vec<&Link> = before.links.iter().collect();
        let links = specs.iter().map(|spec| {
            let same = kept.iter().position(|link| link.spec.fingerprint == spec.fingerprint);
            let running = same.map(|at| Arc::clone(&kept.remove(at).running)).unwrap_or_default();
            Link { spec: spec.clone(), name: spec.factory.name(), apart: false, running }
        });
        Self { links: links.collect() }
    }

    /// A chain of `specs` that is only tried: nothing it does touches one that runs.
    pub(super) fn apart(specs: &[FilterSpec]) -> Self {
        let mut chain = Self::after(&Self::default(), specs);
        chain.links.iter_mut().for_each(|link| link.apart = true);
        chain
    }

    /// Whether it is the chain of `specs`.
    pub(super) fn is_of(&self, specs: &[FilterSpec]) -> bool {
        self.links.len() == specs.len()
            && self.links.iter().zip(specs).all(|(link, spec)| link.spec.fingerprint == spec.fingerprint)
    }

    /// The name of the filter of that index.
    pub(super) fn name(&self, at: usize) -> ByteString {
        self.links.get(at).map(|link| link.name.clone()).unwrap_or_default()
    }

    /// How many filters there are.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether any of its filters is to hear what became of a record.
    pub(super) fn wants_settled(&self) -> bool {
        self.links.iter().any(|link| link.spec.factory.wants_settled())
    }

    /// Tells the filters that want to hear it.
    pub(super) fn settled(&self, seq: Seq, taken: bool) {
        for link in self.links.iter().filter(|link| link.spec.factory.wants_settled()) {
            link.guarded(|running| {
                if let Some(filter) = running {
                    filter.settled(seq, taken);
                }
                Ok(())
            })
            // It was logged; the filter is built anew.
            .unwrap_or_default();
        }
    }

    /// Takes a batch as far as it goes.
    pub(super) fn run(&self, mut pieces: Vec<Piece>, call: Call<'_>) -> Vec<Piece> {
        for at in 0..self.links.len() {
            pieces = self.step(at, pieces, call);
        }
        for piece in &mut pieces {
            if piece.at >= self.links.len() && !piece.is_done() {
                piece.state = State::Done(Fate::Sent(None));
            }
        }
        pieces
    }

    /// Asks one filter about those that have come to it.
    pub(super) fn step(&self, at: usize, pieces: Vec<Piece>, call: Call<'_>) -> Vec<Piece> {
        let Some(link) = self.links.get(at) else { return pieces };
        let mut after = Vec::with_capacity(pieces.len());
        let mut rest = pieces.into_iter().peekable();
        // The order key of the last piece looked at, and whether one of that key has stopped.
        let mut held: Option<(u64, bool)> = None;
        while rest.peek().is_some() {
            let mut segment: Vec<(Piece, bool)> = Vec::new();
            let mut asked = 0;
            while asked < BATCH_MAX
                && let Some(piece) = rest.next()
            {
                let stopped = matches!(held, Some((key, true)) if key == piece.root.key);
                let asks = piece.at == at && matches!(piece.state, State::Waiting) && !stopped;
                held = Some((piece.root.key, stopped || matches!(piece.state, State::Paused(_))));
                asked += usize::from(asks);
                segment.push((piece, asks));
            }
            let last = segment.last().map(|(piece, _)| piece.root.key);
            let before = after.len();
            link.ask(segment, call, &mut after);
            // What stopped in this call holds up those of its key in the next.
            let new =
                after.iter().skip(before).rev().take_while(|piece: &&Piece| Some(piece.root.key) == last);
            if let Some((_, stopped)) = &mut held {
                *stopped |= new.into_iter().any(|piece| matches!(piece.state, State::Paused(_)));
            }
        }
        after
    }
}

impl Link {
    /// Asks the filter about those of `segment` that are marked, and adds what becomes of all.
    fn ask(&self, segment: Vec<(Piece, bool)>, call: Call<'_>, after: &mut Vec<Piece>) {
        let asked = segment.iter().filter(|(_, asks)| *asks).map(|(piece, _)| piece);
        let inputs: Vec<Input<'_>> = asked
            .map(|piece| Input {
                envelope: &piece.envelope,
                attempt: piece.calls.saturating_add(1),
                seq: piece.root.entry.seq,
                route: call.route,
                since: piece.root.entry.since,
                now: call.now,
            })
            .collect();
        if inputs.is_empty() {
            return after.extend(segment.into_iter().map(|(piece, _)| piece));
        }
        let (verdicts, failure) = match self.verdicts(&inputs) {
            Ok(verdicts) if verdicts.len() > inputs.len() => (Vec::new(), count(&verdicts, &inputs)),
            Ok(verdicts) => {
                let failure = count(&verdicts, &inputs);
                (verdicts, failure)
            }
            Err(reason) => (Vec::new(), reason),
        };
        let mut verdicts = verdicts.into_iter();
        for (mut piece, asks) in segment {
            if !asks {
                after.push(piece);
                continue;
            }
            piece.calls = piece.calls.saturating_add(1);
            let verdict = verdicts.next().unwrap_or_else(|| Verdict::Reject(failure.clone()));
            self.carry_out(piece, verdict, call, after);
        }
    }

    /// The verdicts; an error where the filter could not be built or panicked.
    fn verdicts(&self, inputs: &[Input<'_>]) -> Result<Vec<Verdict>, Reason> {
        self.guarded(|running| {
            let filter = match running {
                Some(filter) => filter,
                none if self.apart => none.insert(self.spec.factory.build_apart()?),
                none => none.insert(self.spec.factory.build()?),
            };
            Ok(filter.process(inputs))
        })
    }

    /// Calls the filter. One that panics is dropped, and built anew for the next batch.
    fn guarded<T>(
        &self,
        call: impl FnOnce(&mut Option<Box<dyn Filter>>) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let mut running = self.running.0.lock();
        let called = catch_unwind(AssertUnwindSafe(|| call(&mut running)));
        called.unwrap_or_else(|payload| {
            let broken = running.take();
            drop(catch_unwind(AssertUnwindSafe(|| drop(broken))));
            let reason = format!("it panicked: {}", panic_message(payload.as_ref()));
            tracing::error!(filter = %self.name, %reason, "filter panicked");
            Err(reason.into())
        })
    }

    fn carry_out(&self, piece: Piece, verdict: Verdict, call: Call<'_>, after: &mut Vec<Piece>) {
        match verdict {
            Verdict::Pass => after.push(piece.passed(Arc::clone(&piece.envelope))),
            Verdict::Drop(why) => after.push(piece.dropped(why)),
            Verdict::Emit(outputs) if outputs.is_empty() => after.push(piece.dropped(None)),
            Verdict::Reject(reason) => after.push(piece.rejected(self.says(&reason))),
            Verdict::Hold(pause) => after.push(piece.paused(pause, call.now)),
            Verdict::Retry(pause) => after.push(self.failed(piece, pause, call.now)),
            Verdict::Change(envelope) => after.push(match changed(&piece.envelope, *envelope) {
                Ok(envelope) => piece.passed(Arc::new(envelope)),
                Err(reason) => piece.rejected(self.says(&reason)),
            }),
            Verdict::Emit(outputs) => self.emit(piece, outputs, call.route, after),
        }
    }

    fn failed(&self, mut piece: Piece, pause: Duration, now: Instant) -> Piece {
        if piece.failures + 1 >= piece.root.entry.max_attempts {
            return piece.rejected(self.says("it failed for the last time"));
        }
        piece.failures += 1;
        piece.paused(pause, now)
    }

    fn emit(&self, piece: Piece, outputs: Vec<Output>, route: &str, after: &mut Vec<Piece>) {
        let made = piece.root.outputs.fetch_add(outputs.len(), Ordering::Relaxed) + outputs.len();
        let checked = if made > OUTPUTS_MAX {
            Err(format!("{made} outputs of one event; at most {OUTPUTS_MAX}").into())
        } else {
            emitted(&piece.envelope, outputs, route)
        };
        match checked {
            Err(reason) => after.push(piece.rejected(self.says(&reason))),
            Ok(outputs) => after.extend(outputs.into_iter().map(|Output { name, envelope }| {
                let next = piece.passed(Arc::new(envelope));
                if name.is_some() { next.done(Fate::Sent(name)) } else { next }
            })),
        }
    }

    fn says(&self, reason: &str) -> Reason {
        format!("filter {}: {reason}", self.name).into()
    }
}

/// Why there are not as many verdicts as inputs.
fn count(verdicts: &[Verdict], inputs: &[Input<'_>]) -> Reason {
    format!("it gave {} verdicts on {} events", verdicts.len(), inputs.len()).into()
}

/// What takes the place of an envelope, checked.
fn changed(input: &Envelope, mut envelope: Envelope) -> Result<Envelope, Reason> {
    if (&envelope.source, &envelope.id) != (&input.source, &input.id) {
        return Err("it changed `source` or `id` without emitting".into());
    }
    complete(input, &mut envelope)?;
    Ok(envelope)
}

/// Emitted envelopes with ids of their own, checked.
fn emitted(input: &Envelope, mut outputs: Vec<Output>, route: &str) -> Result<Vec<Output>, Reason> {
    let mut bytes = 0_usize;
    for (at, output) in outputs.iter_mut().enumerate() {
        if output.envelope.id == input.id {
            output.envelope.id = format!("{}/{route}/{}", input.id, at + 1).into();
        }
        complete(input, &mut output.envelope)?;
        bytes = bytes.saturating_add(output.envelope.weight());
    }
    if bytes > OUTPUT_BYTES_MAX {
        return Err(format!("{bytes} bytes of outputs of one event; at most {OUTPUT_BYTES_MAX}").into());
    }
    match twin(&outputs) {
        Some(id) => Err(format!("two outputs have the source and id {id:?}").into()),
        None => Ok(outputs),
    }
}

/// The id of an output that has another's `source` and `id`.
fn twin(outputs: &[Output]) -> Option<String> {
    let mut seen = HashSet::with_capacity(outputs.len());
    let mut made = outputs.iter().map(|output| (&*output.envelope.source, &*output.envelope.id));
    made.find(|identity| !seen.insert(*identity)).map(|(_, id)| id.to_owned())
}

/// Checks that all is there that sinks rely on, and that loops are still seen.
fn complete(input: &Envelope, envelope: &mut Envelope) -> Result<(), Reason> {
    for name in LOOP_GUARD {
        match input.extensions.get(name) {
            Some(value) => envelope.extensions.set(name, value.clone()),
            None => drop(envelope.extensions.remove(name)),
        }
    }
    for (name, text) in [("id", &envelope.id), ("source", &envelope.source), ("type", &envelope.kind)] {
        if text.is_empty() {
            return Err(format!("{name} of what it made is empty").into());
        }
    }
    envelope.validate().map_err(|error| format!("what it made is no event: {error}").into())
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}
