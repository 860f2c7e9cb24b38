//! Lists: the objects of a kind at one position, in order of their keys, in pieces.
//!
//! A list is read from a snapshot, which costs nothing to take and never changes. Its objects are written a piece
//! at a time, as fast as the client reads, so that a list of any length takes the memory of a piece.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;

use super::accept::{self, Media, Wanted};
use super::access::Caller;
use super::answer::{self, Answer, Body};
use super::call::{Call, Resource};
use super::kind::{Form, Kind};
use super::position::{Match, Options, Token, reach};
use super::writer::{Writer, now};
use super::{Shared, compress, view};
use crate::core::access::Action;
use crate::core::record::Record;
use crate::core::state::{Held, Snapshot};
use crate::core::{Key, Seq};
use crate::transport::k8s::codec::status::{Reason, Status};

pub(super) use super::selection::Selection;

/// Most events of the log that are listed: the newest.
pub(super) const OCCURRENCES_MAX: usize = 1000;
/// Bytes of a piece; the last object of one may exceed it.
const PIECE: usize = 64 * 1024;
/// Records read at a time.
const TOGETHER: usize = 64;
/// Longest list that becomes YAML, as bytes of JSON.
const YAML_MAX: usize = 8 << 20;
/// Records looked at for one piece, wanted or not, so that a selector that wants few holds up nobody.
const LOOKED_AT: usize = 4096;
/// Remaining items that are counted; of more, a page does not say how many.
const COUNTED: usize = 10_000;
/// Changes looked at to find that nothing of a kind has changed since a position.
const CHANGES: usize = 100_000;

/// What is told of a token whose position is no longer kept.
const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that \
    were created, modified, or deleted between the time the first chunk was returned and now may show up in the \
    list.";

/// Answers a list.
///
/// # Errors
/// As [`Options::of`], [`Selection::of`] and [`accept::form`]; 403, 410 and 504.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    caller: &Caller,
    call: &Call,
    resource: &Resource,
    permit: OwnedSemaphorePermit,
) -> Result<Answer, Status> {
    let form = accept::form(&call.headers, Wanted::List)?;
    let options = Options::of(call, false)?;
    let kind = &resource.kind;
    let selection = Selection::of(shared, call, kind)?;
    let namespace = resource.namespace.as_str();
    caller.authorize_collection(Action::Read, &call.scope, "list", kind, namespace)?;
    let snapshot = match snapshot(shared, call, kind, &options).await {
        Ok(snapshot) => snapshot,
        Err(status) => {
            let token = options.token.filter(|_| status.code == StatusCode::GONE);
            return token.map(|token| expired(&status, token)).ok_or(status);
        }
    };
    let rows = Rows {
        shared: Arc::clone(shared),
        caller: caller.clone(),
        kind: Arc::clone(kind),
        selection,
        namespace: namespace.to_owned(),
        source: Source::Nothing,
    };
    let (rows, metadata) = page(rows, call, &options, &snapshot).await;
    let writer = Writer::new(shared, call, kind, form.shape);
    let list = Pieces { rows, waiting: VecDeque::new(), writer, now: now(), first: true, _permit: permit };
    match form.media {
        Media::Json => Ok(json_list(list, &metadata, call).await),
        Media::Yaml => yaml_list(list, &metadata).await,
    }
}

/// The state to show: as it is, or at the position asked for.
async fn snapshot(
    shared: &Arc<Shared>,
    call: &Call,
    kind: &Kind,
    options: &Options,
) -> Result<Snapshot, Status> {
    if let Some(token) = &options.token {
        return match token.at() {
            None => Ok(shared.bus.snapshot()),
            Some(at) => shared.pages.at(at).ok_or_else(|| Status::new(Reason::Expired, TOO_OLD)),
        };
    }
    let Some(version) = options.version.filter(|version| *version != Seq::default()) else {
        return Ok(shared.bus.snapshot());
    };
    reach(shared, version).await?;
    let current = shared.bus.snapshot();
    // Pages of a list show one position, so a limit asks for exactly this one.
    let exact = options.matched == Some(Match::Exact) || options.matched.is_none() && options.limit > 0;
    if !exact || current.seq() == version {
        return Ok(current);
    }
    if let Some(kept) = shared.pages.at(version) {
        return Ok(kept);
    }
    // Where nothing of the kind has changed since, the table as it is shows that position as well.
    let same = current.changes_after(version).ok().map(|changes| {
        let mut changes = changes.take(CHANGES + 1).enumerate();
        let is_one = |held: &Held| {
            held.record()
                .envelope
                .change
                .key()
                .is_some_and(|key| key.scope == call.scope && key.type_url == kind.stored_as)
        };
        changes.all(|(at, held)| at < CHANGES && !is_one(held))
    });
    if same == Some(true) {
        return Ok(current);
    }
    Err(Status::new(Reason::Expired, "The resourceVersion for the provided list is too old."))
}

/// The 410 of a list that cannot go on, with a token that goes on with the state as it is.
fn expired(status: &Status, token: Token) -> Answer {
    let mut body = status.encode();
    if let Some(metadata) = body.get_mut("metadata") {
        *metadata = json!({"continue": token.now().text()});
    }
    answer::json(status.code, &body)
}

/// The rows of one page, and the metadata of its list.
async fn page(mut rows: Rows, call: &Call, options: &Options, snapshot: &Snapshot) -> (Rows, Value) {
    let at = snapshot.seq();
    let mut metadata = json!({"resourceVersion": at.to_string()});
    if rows.kind.form == Form::Occurrence {
        let events = rows.shared.bus.recent_events(OCCURRENCES_MAX);
        rows.source = Source::These(events.into_iter().filter(|record| rows.wants(record)).collect());
        return (rows, metadata);
    }
    if rows
        .selection
        .namespace()
        .is_some_and(|wanted| !rows.namespace.is_empty() && wanted != rows.namespace)
    {
        return (rows, metadata);
    }
    if rows.namespace.is_empty()
        && let Some(wanted) = rows.selection.namespace()
    {
        rows.namespace = wanted.to_owned();
    }
    // One object is a look-up; without a namespace there may be one of that name in each.
    let placed = !rows.kind.definition.namespaced || !rows.namespace.is_empty();
    if let Some(name) = rows.selection.name().filter(|_| placed && options.token.is_none()) {
        let found = view::find(&rows.shared, &rows.kind, &call.scope, &rows.namespace, name);
        let found = found.and_then(|found| snapshot.get(found.envelope.change.key()?));
        rows.source = Source::These(found.into_iter().filter(|record| rows.wants(record)).collect());
        return (rows, metadata);
    }
    let key = |name: String| Key::new(call.scope.clone(), rows.kind.stored_as.clone(), name);
    let after = match &options.token {
        Some(token) => Some(key(token.name().to_owned())),
        None if rows.namespace.is_empty() => None,
        None => Some(key(format!("{}/", rows.namespace))),
    };
    let scope = call.scope.clone();
    rows.source = Source::Range { snapshot: Arc::clone(snapshot), scope, after };
    if options.limit == 0 {
        return (rows, metadata);
    }
    let mut these = VecDeque::new();
    while these.len() < options.limit {
        let Some(found) = rows.next(options.limit - these.len()) else { break };
        these.extend(found);
        if these.len() < options.limit {
            // A selector that wants few goes through many: others get their turn meanwhile.
            yield_now().await;
        }
    }
    let last = these.back().and_then(|record: &Arc<Record>| record.envelope.change.key().cloned());
    let remaining = rows.remaining();
    if let Some(last) = last.filter(|_| remaining != Some(0))
        && let Some(fields) = metadata.as_object_mut()
    {
        rows.shared.pages.keep(snapshot);
        // A list that goes on as it is stays so: each of its pages shows the state at its own time.
        fields.insert("continue".to_owned(), json!(Token::after(&last.name, at).text()));
        if let Some(remaining) = remaining.filter(|_| rows.selection.is_everything()) {
            fields.insert("remainingItemCount".to_owned(), json!(remaining));
        }
    }
    rows.source = Source::These(these);
    (rows, metadata)
}

/// Where rows come from.
enum Source {
    Nothing,
    These(VecDeque<Arc<Record>>),
    /// What comes after a key.
    Range {
        snapshot: Snapshot,
        scope: bytestring::ByteString,
        after: Option<Key>,
    },
}

/// The records of a list that the caller may see.
struct Rows {
    shared: Arc<Shared>,
    caller: Caller,
    kind: Arc<Kind>,
    selection: Selection,
    namespace: String,
    source: Source,
}

impl Rows {
    fn wants(&self, record: &Record) -> bool {
        self.caller.may(Action::Read, &record.envelope.topic)
            && self.selection.matches(&self.shared, &self.kind, record)
    }

    /// The next at most `most`, perhaps none of the many that were looked at; `None` at the end.
    fn next(&mut self, most: usize) -> Option<Vec<Arc<Record>>> {
        match &mut self.source {
            Source::Nothing => None,
            Source::These(records) if records.is_empty() => None,
            Source::These(records) => Some(records.drain(..most.min(records.len())).collect()),
            Source::Range { .. } => self.read_on(most),
        }
    }

    fn read_on(&mut self, most: usize) -> Option<Vec<Arc<Record>>> {
        let Source::Range { snapshot, scope, after } = &self.source else { return None };
        let mut found = Vec::new();
        let mut last = None;
        let range = snapshot.range(Some(scope), Some(&self.kind.stored_as), after.as_ref());
        let mut looked_at = 0;
        for record in range.map(Held::record).take_while(|record| self.is_here(record)) {
            last = record.envelope.change.key().cloned();
            looked_at += 1;
            if self.wants(&record) {
                found.push(record);
            }
            if found.len() >= most || looked_at >= LOOKED_AT {
                break;
            }
        }
        let last = last?;
        if let Source::Range { after, .. } = &mut self.source {
            *after = Some(last);
        }
        Some(found)
    }

    /// How many more there are; `None` for many.
    fn remaining(&self) -> Option<usize> {
        let Source::Range { snapshot, scope, after } = &self.source else { return Some(0) };
        let all = self.selection.is_everything();
        if all && self.caller.may_everything() {
            // All that is here is wanted: its names are enough.
            let names = snapshot.names(scope, &self.kind.stored_as, after.as_ref());
            let key =
                |name: &ByteString| Key::new(scope.clone(), self.kind.stored_as.clone(), name.clone());
            let here = names.take_while(|name| self.namespace.is_empty() || self.holds(&key(name)));
            let count = here.take(COUNTED + 1).count();
            return (count <= COUNTED).then_some(count);
        }
        let range = snapshot.range(Some(scope), Some(&self.kind.stored_as), after.as_ref());
        let mut count = 0;
        let here = range.map(Held::record).take_while(|record| self.is_here(record));
        for (looked_at, record) in here.enumerate() {
            if self.wants(&record) {
                if !all {
                    return None;
                }
                count += 1;
            }
            if looked_at >= COUNTED {
                return None;
            }
        }
        Some(count)
    }

    /// Whether a record is in the namespace that is listed; keys are in its order.
    fn is_here(&self, record: &Record) -> bool {
        self.namespace.is_empty() || record.envelope.change.key().is_some_and(|key| self.holds(key))
    }

    fn holds(&self, key: &Key) -> bool {
        self.kind.name_of(key).0 == self.namespace
    }
}

/// A list being written.
struct Pieces {
    rows: Rows,
    /// Read and not written yet.
    waiting: VecDeque<Arc<Record>>,
    writer: Writer,
    now: i64,
    first: bool,
    /// Counts against `max_in_flight` until the last piece is written.
    _permit: OwnedSemaphorePermit,
}

impl Pieces {
    /// Writes on until `out` holds so many bytes. Whether there may be more.
    async fn fill(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        while out.len() < bytes {
            let Some(record) = self.waiting.pop_front() else {
                let Some(more) = self.rows.next(TOGETHER) else {
                    Writer::put_tail(out);
                    return false;
                };
                if more.is_empty() {
                    // Many were looked at and none is wanted: others get their turn meanwhile.
                    yield_now().await;
                }
                self.waiting.extend(more);
                continue;
            };
            if !std::mem::replace(&mut self.first, false) {
                out.push(b',');
            }
            self.writer.put_item(out, &record, self.now);
        }
        true
    }
}

async fn json_list(mut list: Pieces, metadata: &Value, call: &Call) -> Answer {
    let mut out = Vec::with_capacity(4096);
    list.writer.put_head(&mut out, metadata);
    if !list.fill(&mut out, compress::FROM).await {
        return answer::of(StatusCode::OK, answer::JSON, Body::whole(out));
    }
    let rest = stream::unfold((Some(out), Some(list)), async |(first, list)| {
        if let Some(first) = first {
            return Some((Bytes::from(first), (None, list)));
        }
        let mut list = list?;
        tokio::task::consume_budget().await;
        let mut out = Vec::with_capacity(PIECE + PIECE / 4);
        let more = list.fill(&mut out, PIECE).await;
        Some((Bytes::from(out), (None, more.then_some(list))))
    });
    compress::pieces(&call.headers, answer::of(StatusCode::OK, answer::JSON, Body::pieces(rest)))
}

/// As one document: YAML is for people, and a list that is long is given to them in pages.
async fn yaml_list(mut list: Pieces, metadata: &Value) -> Result<Answer, Status> {
    let mut out = Vec::new();
    list.writer.put_head(&mut out, metadata);
    if list.fill(&mut out, YAML_MAX).await {
        let message =
            format!("a list of more than {YAML_MAX} bytes is given as application/json, or with a limit");
        return Err(Status::new(Reason::NotAcceptable, message));
    }
    let value = serde_json::from_slice(&out).unwrap_or_default();
    Ok(answer::of(StatusCode::OK, "application/yaml", Body::whole(crate::config::to_yaml(value))))
}
