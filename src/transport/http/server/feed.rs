//! What a subscriber is told, whatever the connection it listens on: SSE frames or WebSocket messages.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Shared;
use super::access::Caller;
use super::problem::Problem;
use super::publish::query;
use crate::core::access::Action;
use crate::core::cesql::Expression;
use crate::core::consumer::Overflow;
use crate::core::record::Record;
use crate::core::selector::{Predicate, Selector, TopicFilter};
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::{Change, Envelope, Seq};
use crate::schema::cloudevents::json;

/// The query of a subscription.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    filter: Option<String>,
    #[serde(rename = "where")]
    expression: Option<String>,
    from: Option<String>,
    policy: Option<String>,
    scope: Option<String>,
    #[serde(rename = "type")]
    type_url: Option<String>,
    name: Option<String>,
}

/// One line of what a subscriber is told.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Where to resume after this line; `None` inside a snapshot, which has no such place.
    pub(super) seq: Option<Seq>,
    /// `message` for events, `put` and `delete` for changes, and the feed's own words: `snapshot_begin`,
    /// `snapshot_end`, `lost`, `gone`, `slow`.
    pub(super) name: &'static str,
    /// A CloudEvent in JSON, on one line.
    pub(super) json: Bytes,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Told {
    /// These lines, at least one.
    Lines(Vec<Line>),
    /// Nothing for a while.
    Quiet,
}

/// One subscriber's feed.
#[derive(Debug)]
pub(super) struct Feed {
    shared: Arc<Shared>,
    caller: Caller,
    subscription: Subscription,
    in_snapshot: bool,
    over: bool,
    heartbeat: Duration,
    next_heartbeat: Instant,
    /// Counts against `max_subscribers` for as long as the feed lives.
    _seat: OwnedSemaphorePermit,
}

impl Feed {
    /// Opens what a request asks for.
    ///
    /// # Errors
    /// A wrong query, 401, 403, 410 for a position that is gone, 503 when all seats are taken.
    pub(super) fn open(shared: &Arc<Shared>, request: &Request) -> Result<Self, Problem> {
        let caller = Caller::of(&shared.bus, request.headers())?;
        let wanted: Wanted = query(request.uri())?;
        let expression = wanted.expression.as_deref().map(Expression::filter).transpose();
        let expression = expression.map_err(|error| Problem::bad_request(format!("where {error}")))?;
        let filter = wanted.filter.as_deref().unwrap_or("#");
        let filter =
            TopicFilter::parse(filter).map_err(|error| Problem::bad_request(format!("filter {error}")))?;
        caller.authorize_filter(Action::Subscribe, &filter)?;
        let start = start(wanted.from.as_deref(), request)?;
        let overflow = match wanted.policy.as_deref() {
            None | Some("disconnect") => Overflow::Disconnect,
            Some("drop_oldest") => Overflow::DropOldest,
            Some("block") => {
                let detail = "policy=block would let one reader hold up every publisher: use a route";
                return Err(Problem::bad_request(detail));
            }
            Some(other) => {
                let detail = format!("policy {other:?} is none: disconnect or drop_oldest");
                return Err(Problem::bad_request(detail));
            }
        };
        let seat = Arc::clone(&shared.subscribers).try_acquire_owned().map_err(|_| {
            Problem::unavailable(format!("max_subscribers {} reached", shared.config.max_subscribers))
        })?;
        let selector = Selector {
            scope: wanted.scope.map(Into::into),
            type_url: wanted.type_url.map(Into::into),
            name: wanted.name.map(Into::into),
            predicates: expression
                .into_iter()
                .map(|expression| -> Arc<dyn Predicate> { Arc::new(expression) })
                .collect(),
            ..Selector::topic(filter)
        };
        let subscription = shared
            .bus
            .subscribe(selector, start, shared.config.max_queued, overflow)
            .map_err(|gone| Problem::gone(gone.oldest))?;
        let heartbeat = shared.config.heartbeat.0;
        Ok(Self {
            shared: Arc::clone(shared),
            caller,
            subscription,
            in_snapshot: false,
            over: false,
            heartbeat,
            next_heartbeat: Instant::now() + heartbeat,
            _seat: seat,
        })
    }

    /// What comes next; `None` when the feed is over or the bus drains.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            if self.over {
                return None;
            }
            let message = tokio::select! {
                message = self.subscription.next() => message,
                () = self.shared.shutdown.drain() => return None,
                () = sleep_until(self.next_heartbeat) => {
                    self.next_heartbeat = Instant::now() + self.heartbeat;
                    return Some(Told::Quiet);
                }
            };
            let lines = self.lines(message);
            if !lines.is_empty() {
                self.next_heartbeat = Instant::now() + self.heartbeat;
                return Some(Told::Lines(lines));
            }
        }
    }

    fn lines(&mut self, message: Option<Message>) -> Vec<Line> {
        match message {
            Some(Message::Batch(records)) => {
                self.caller.renew(&self.shared.bus);
                records.iter().filter_map(|record| self.line(record)).collect()
            }
            Some(Message::SnapshotBegin) => {
                self.in_snapshot = true;
                vec![self.word("snapshot_begin", None, &serde_json::json!({}))]
            }
            Some(Message::SnapshotEnd(seq)) => {
                self.in_snapshot = false;
                let data = serde_json::json!({"seq": seq.to_string()});
                vec![self.word("snapshot_end", Some(seq), &data)]
            }
            Some(Message::Lost(n)) => {
                self.shared.stats.lost.add(n);
                vec![self.word("lost", None, &serde_json::json!({"lost": n}))]
            }
            Some(Message::Gone(gone)) => {
                self.over = true;
                let data = serde_json::json!({"oldest": gone.oldest.to_string()});
                vec![self.word("gone", None, &data)]
            }
            None => {
                self.over = true;
                debug!(listener = %self.shared.name, "subscriber too slow, ended");
                let data = serde_json::json!({"reason": "too slow: resume after the last seq"});
                vec![self.word("slow", None, &data)]
            }
        }
    }

    fn line(&self, record: &Record) -> Option<Line> {
        let envelope = &record.envelope;
        if !self.caller.may(Action::Subscribe, &envelope.topic) {
            return None;
        }
        let name = match envelope.change {
            Change::Occurred => "message",
            Change::Put(..) => "put",
            Change::Delete(..) => "delete",
        };
        let seq = (!self.in_snapshot).then_some(record.seq);
        Some(Line { seq, name, json: self.shared.encoded.json(record) })
    }

    /// A line of the feed's own, which is a CloudEvent too.
    fn word(&self, name: &'static str, seq: Option<Seq>, data: &serde_json::Value) -> Line {
        let source = format!("//meshbus/{}", self.shared.bus.name());
        let kind = format!("dev.meshbus.subscription.{}.v1", name.replace('_', ""));
        let id = format!("{name}/{}", fastrand::u64(..));
        let mut event = Envelope::event(self.shared.unplaced.clone(), id, source, kind);
        event.datacontenttype = Some("application/json".into());
        event.data = data.to_string().into();
        Line { seq, name, json: json::encode(&event).into() }
    }
}

/// Where to begin: `Last-Event-ID`, as a client sends it when it reconnects, stands above `from`.
fn start(from: Option<&str>, request: &Request) -> Result<Start, Problem> {
    let last = request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?").trim());
    let wrong = |name: &str, text: &str| {
        Problem::bad_request(format!("{name} {text:?} is no position: now, snapshot, or a decimal seq"))
    };
    if let Some(text) = last.filter(|text| !text.is_empty()) {
        return text.parse().map(Start::After).map_err(|_| wrong("Last-Event-ID", text));
    }
    match from {
        None | Some("now") => Ok(Start::Now),
        Some("snapshot") => Ok(Start::Snapshot),
        Some(text) => text.parse().map(Start::After).map_err(|_| wrong("from", text)),
    }
}
