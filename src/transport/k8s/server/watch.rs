//! Watches: what changes of a kind, a line each, for as long as the client listens.
//!
//! A watch is a subscription of the bus, so a change costs those whom it concerns, and a client that reads too
//! slowly holds up nobody: its stream ends, and it resumes from the position it knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, stream};
use http::StatusCode;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::accept::{self, Wanted};
use super::access::Caller;
use super::answer::{self, Answer, Body};
use super::call::{Call, Resource};
use super::encoded::Said;
use super::kind::Form;
use super::position::{Options, reach};
use super::selection::{Matching, Selection};
use super::topics::filter_of;
use super::writer::{Writer, now};
use super::{Shared, view};
use crate::core::access::Action;
use crate::core::consumer::Overflow;
use crate::core::record::Record;
use crate::core::selector::Selector;
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::{Change, Seq};
use crate::transport::k8s::codec::status::{Reason, Status};

/// Shortest time a watch lasts that does not say how long; the longest is twice as long.
const LASTS: Duration = Duration::from_mins(30);
/// Longest time a watch may ask for.
const LASTS_MAX: u64 = 24 * 3600;
/// Bytes of lines that are put into one frame.
const FRAME: usize = 64 * 1024;

/// Opens a watch.
///
/// # Errors
/// As for a list; 429 when there are too many watches.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    caller: &Caller,
    call: &Call,
    resource: &Resource,
) -> Result<Answer, Status> {
    let form = accept::form(&call.headers, Wanted::Watch)?;
    let options = Options::of(call, true)?;
    let kind = &resource.kind;
    let selection = Selection::of(shared, call, kind)?;
    caller.authorize_collection(Action::Subscribe, &call.scope, "watch", kind, &resource.namespace)?;
    let seat = Arc::clone(&shared.watches).try_acquire_owned().map_err(|_| {
        let message = format!("too many watches: max_watches is {}", shared.config.max_watches);
        Status::new(Reason::TooManyRequests, message).retry_after(1)
    })?;
    let zero = options.version.is_none_or(|version| version == Seq::default());
    let start = match (options.initial, options.version) {
        (Some(true), _) => Start::Snapshot,
        (None, _) if zero => Start::Snapshot,
        (Some(false), _) if zero => Start::Now,
        (_, Some(version)) => Start::After(version),
        (_, None) => Start::Now,
    };
    if let (Start::Snapshot, Some(version)) = (start, options.version) {
        reach(shared, version).await?;
    }
    let writer = Writer::new(shared, call, kind, form.shape);
    let from = options.version.unwrap_or_default();
    let selector = selector(shared, call, resource, &selection);
    let body = match shared.bus.subscribe(selector, start, shared.config.max_queued, Overflow::DropOldest) {
        Ok(subscription) => {
            let feed =
                Feed::new(shared, caller, call, (options, start), selection, writer, subscription, seat);
            Body::pieces(stream::unfold(feed, async |mut feed| Some((feed.next().await?, feed))))
        }
        // In the stream and not as the answer's code, which some clients take for a reason to try again.
        Err(gone) => Body::whole(gone_line(shared, from, gone.oldest)),
    };
    Ok(answer::of(StatusCode::OK, answer::JSON, body))
}

/// What the bus is asked for: topics first, by which it finds who wants a change.
fn selector(shared: &Shared, call: &Call, resource: &Resource, selection: &Selection) -> Selector {
    let kind = &resource.kind;
    if kind.form == Form::Occurrence {
        return Selector::default();
    }
    let name = resource.name.as_deref().or_else(|| selection.name());
    let namespace = match resource.namespace.as_str() {
        "" => selection.namespace().unwrap_or_default(),
        namespace => namespace,
    };
    let named = resource.name.as_deref().map(|name| {
        let found = view::find(shared, kind, &call.scope, namespace, name);
        let key = found.and_then(|found| found.envelope.change.key().cloned());
        key.unwrap_or_else(|| kind.key(&call.scope, namespace, name)).name
    });
    let selector = Selector {
        topic: filter_of(kind, &call.scope, namespace, name),
        name: named,
        ..Selector::state(call.scope.clone(), kind.stored_as.clone())
    };
    if selection.is_everything() {
        return selector;
    }
    let matching = Matching { selection: Arc::new(selection.clone()), kind: Arc::clone(kind) };
    selector.and(Arc::new(matching))
}

/// One client's watch.
struct Feed {
    shared: Arc<Shared>,
    caller: Caller,
    writer: Writer,
    selection: Option<Box<Selection>>,
    /// The form of its lines.
    wire: u64,
    subscription: Subscription,
    /// The state as it was at the beginning has been begun, or is not told.
    begun: bool,
    /// It is being told.
    initial: bool,
    /// The end of it is to be marked.
    mark_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    /// Columns have been described, which is done once.
    described: bool,
    over: bool,
    from: Seq,
    /// Counts against `max_watches` for as long as the watch lives.
    _seat: OwnedSemaphorePermit,
}

impl Feed {
    #[expect(clippy::too_many_arguments, reason = "what a request was read into, each used once")]
    fn new(
        shared: &Arc<Shared>,
        caller: &Caller,
        call: &Call,
        (options, start): (Options, Start),
        selection: Selection,
        writer: Writer,
        subscription: Subscription,
        seat: OwnedSemaphorePermit,
    ) -> Self {
        let begun = Instant::now();
        let lasts = match options.seconds {
            // Spread, so that clients that came together do not all come again together.
            0 => LASTS.mul_f64(1.0 + fastrand::f64()),
            seconds => Duration::from_secs(seconds.min(LASTS_MAX)),
        };
        let bookmarks = call.flag("allowWatchBookmarks");
        Self {
            shared: Arc::clone(shared),
            caller: caller.clone(),
            wire: writer.wire(),
            described: !writer.is_table(),
            writer,
            selection: (!selection.is_everything()).then(|| Box::new(selection)),
            subscription,
            begun: start != Start::Snapshot,
            initial: false,
            mark_end: bookmarks && options.initial == Some(true),
            bookmarks,
            next_bookmark: begun + shared.config.bookmark_interval.0,
            ends: begun + lasts,
            over: false,
            from: options.version.unwrap_or_default(),
            _seat: seat,
        }
    }

    /// The next lines; `None` when the watch is over or the bus drains.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let wakes = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
            let message = tokio::select! {
                message = self.subscription.next() => message,
                () = self.shared.shutdown.drain() => return None,
                () = sleep_until(wakes) => {
                    let ends = Instant::now() >= self.ends;
                    self.next_bookmark = Instant::now() + self.shared.config.bookmark_interval.0;
                    let lines = self.bookmark_now();
                    // Only now: a watch that is over tells nothing more, and a bookmark must not pass what waits.
                    self.over |= ends;
                    if lines.is_some() {
                        return lines;
                    }
                    continue;
                }
            };
            let mut lines = Lines::default();
            self.tell(message, &mut lines);
            self.tell_what_waits(&mut lines);
            if let Some(lines) = lines.frame() {
                return Some(lines);
            }
        }
        None
    }

    /// What is there already goes into the same frame.
    fn tell_what_waits(&mut self, lines: &mut Lines) {
        while !self.over && lines.bytes < FRAME {
            let Some(message) = self.subscription.next().now_or_never() else { return };
            self.tell(message, lines);
        }
    }

    fn tell(&mut self, message: Option<Message>, lines: &mut Lines) {
        match message {
            Some(Message::Batch(records)) => {
                self.caller.renew(&self.shared.bus);
                for record in records.iter() {
                    if let Some(line) = self.line(record) {
                        lines.push(line);
                    }
                }
            }
            Some(Message::SnapshotBegin) if !self.begun => (self.begun, self.initial) = (true, true),
            Some(Message::SnapshotEnd(seq)) => {
                self.initial = false;
                if self.mark_end {
                    lines.push(self.bookmark(seq, true));
                }
            }
            Some(Message::Gone(gone)) => {
                self.over = true;
                lines.push(gone_line(&self.shared, self.from, gone.oldest));
            }
            // It lost changes, or ended: the client resumes from the last position it has.
            Some(Message::SnapshotBegin) | None => {
                self.over = true;
                self.shared.stats.lost.add(1);
                debug!(listener = %self.shared.name, kind = %self.writer.kind().stored_as, "watch too slow, ended");
            }
            // Events that no state watch waits for.
            Some(Message::Lost(n)) if self.writer.kind().form == Form::Occurrence => {
                self.over = true;
                self.shared.stats.lost.add(n);
            }
            Some(Message::Lost(_)) => {}
        }
    }

    fn line(&mut self, record: &Arc<Record>) -> Option<Bytes> {
        let said = self.said(record)?;
        let write = |writer: &Writer, described: bool| {
            let mut line = Vec::with_capacity(record.envelope.data.len() + 512);
            line.extend_from_slice(b"{\"type\":\"");
            line.extend_from_slice(said.as_str().as_bytes());
            line.extend_from_slice(b"\",\"object\":");
            writer.put_one(&mut line, record, now(), described);
            line.extend_from_slice(b"}\n");
            Bytes::from(line)
        };
        if !std::mem::replace(&mut self.described, true) {
            return Some(write(&self.writer, true));
        }
        if self.initial {
            // Told once to each who comes: not worth keeping.
            return Some(write(&self.writer, false));
        }
        Some(self.shared.encoded.line((record.seq, said, self.wire), || write(&self.writer, false)))
    }

    /// What a record means to this watch; `None` for what it does not see.
    fn said(&self, record: &Record) -> Option<Said> {
        let envelope = &record.envelope;
        if !self.caller.may(Action::Subscribe, &envelope.topic) {
            return None;
        }
        let kind = self.writer.kind();
        let wanted =
            |selection: &Selection| selection.wants(kind, envelope, || view::occurrence_name(record));
        match &envelope.change {
            Change::Occurred => {
                let seen = kind.form == Form::Occurrence && self.selection.as_deref().is_none_or(wanted);
                seen.then_some(Said::Added)
            }
            _ if kind.form == Form::Occurrence => None,
            Change::Delete(..) => Some(Said::Deleted),
            Change::Put(..) if self.initial => Some(Said::Added),
            Change::Put(..) => {
                // A key that enters the selector is new to whoever watches with it.
                let matched = |selection: &Selection| {
                    let previous = record.previous.as_ref();
                    previous.is_some_and(|previous| selection.wants(kind, previous, String::new))
                };
                let known = self.selection.as_deref().map_or(record.replaces, matched);
                Some(if known { Said::Modified } else { Said::Added })
            }
        }
    }

    /// A bookmark at the position reached; `None` where the watch wants none or something waits to be told first.
    fn bookmark_now(&mut self) -> Option<Bytes> {
        if !self.bookmarks || self.initial {
            return None;
        }
        // What is logged up to here is on the queue: told before, the bookmark names no change that is not.
        let seq = self.shared.bus.figures().seq;
        let mut lines = Lines::default();
        self.tell_what_waits(&mut lines);
        // One that lost changes resumes before them.
        if lines.bytes < FRAME && !self.initial && !self.over {
            lines.push(self.bookmark(seq, false));
        }
        lines.frame()
    }

    fn bookmark(&self, seq: Seq, end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": seq.to_string()});
        if end && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        format!("{{\"type\":\"BOOKMARK\",\"object\":{}}}\n", self.writer.bookmark(metadata)).into()
    }
}

/// Lines on their way into one frame; a single one is not copied.
#[derive(Default)]
struct Lines {
    lines: Vec<Bytes>,
    bytes: usize,
}

impl Lines {
    fn push(&mut self, line: Bytes) {
        self.bytes += line.len();
        self.lines.push(line);
    }

    fn frame(mut self) -> Option<Bytes> {
        match self.lines.len() {
            0 => None,
            1 => self.lines.pop(),
            _ => {
                let mut frame = BytesMut::with_capacity(self.bytes);
                self.lines.iter().for_each(|line| frame.extend_from_slice(line));
                Some(frame.freeze())
            }
        }
    }
}

/// Why a watch cannot go on from where its client was, so that it lists again.
///
/// A real server is silent from a position that is not reached, as one of its siblings may have told it. The positions
/// of a bus are its own: this one is of another bus at the address, or of before the clock was set back, and its client
/// would never be told what happens until it is reached. Nor is it waited for, to be refused with 504 like that of a
/// list: clients ask again with the same position upon that.
fn gone_line(shared: &Shared, from: Seq, oldest: Seq) -> Bytes {
    let current = shared.bus.figures().seq;
    let message = if from > current {
        format!(
            "too large resource version: {from}, current: {current}: this bus has not told it, list again"
        )
    } else {
        format!("too old resource version: {from} ({oldest})")
    };
    let status = Status::new(Reason::Expired, message).encode();
    format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").into()
}
