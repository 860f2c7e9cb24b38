//! `POST /` and `POST /v1/publish`: events in, answered when every route has them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Shared;
use super::access::Caller;
use super::encoded::TOPIC;
use super::problem::{EventProblem, Problem};
use crate::core::access::Action;
use crate::core::error::causes;
use crate::core::{DecodeError, Envelope, Outcome, Receipt, Refused, Seq, Topic, uuid};
use crate::transport::http::codec::{self, Message, Unreadable};

/// The header that tells the position of what was published or written.
pub(super) const SEQ: &str = "mb-seq";
/// Bytes of `mborigin`, without the bus's name, and of `mbhops` with its number.
const MARKS: usize = "mborigin".len() + "mbhops".len() + 4;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    topic: Option<String>,
}

/// One event of a request, and its `id` where it could be read.
struct Entry {
    id: Option<String>,
    event: Result<Envelope, Problem>,
}

/// What became of one event: its position, where it has one.
type Fate = Result<Option<Seq>, Problem>;

/// Publishes what the request holds.
pub(super) async fn publish(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match take_in(&shared, request).await {
        Ok(seq) => {
            let mut response = StatusCode::ACCEPTED.into_response();
            if let Some(seq) = seq {
                response.headers_mut().insert(SEQ, HeaderValue::from(seq.0));
            }
            response
        }
        Err(problem) => {
            debug!(listener = %shared.name, status = %problem.status, detail = problem.detail, "not taken");
            problem.into_response()
        }
    }
}

/// Grants what a webhook sender asks for first (CloudEvents webhook specification 4): all may send, as far
/// as each request's own token says.
pub(super) async fn permit(headers: HeaderMap) -> Response {
    let mut response = StatusCode::OK.into_response();
    let answer = response.headers_mut();
    answer.insert("allow", HeaderValue::from_static("POST, OPTIONS"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        answer.insert("webhook-allowed-origin", origin.clone());
        answer.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    }
    response
}

/// Reads a query, refusing parameters that do not exist.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(query)| query)
        .map_err(|error| Problem::bad_request(causes(&error)))
}

async fn take_in(shared: &Shared, request: Request) -> Result<Option<Seq>, Problem> {
    let (head, body) = request.into_parts();
    if shared.shutdown.is_draining() {
        return Err(Problem::unavailable("the bus is shutting down"));
    }
    let caller = Caller::of(&shared.bus, &head.headers)?;
    let wanted: Wanted = query(&head.uri)?;
    let topic = wanted.topic.map(|text| parse_topic(&text)).transpose()?;
    if let Some(topic) = &topic {
        // Before the body is read: who may not publish costs no memory.
        caller.authorize(Action::Publish, topic)?;
    }
    let body = shared.bodies.read(&head.headers, body).await.inspect_err(|problem| {
        if problem.status == StatusCode::PAYLOAD_TOO_LARGE {
            shared.stats.oversize.add(1);
        }
    })?;
    let (entries, is_batch) = read(shared, &head.headers, &body.bytes)?;
    let entries: Vec<Entry> = entries
        .into_iter()
        .map(|entry| Entry {
            event: entry.event.and_then(|event| place(shared, &caller, topic.as_ref(), event)),
            ..entry
        })
        .collect();
    let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
    let mut fates = send(shared, entries).await;
    if is_batch { answer_batch(ids, fates) } else { fates.pop().unwrap_or(Ok(None)) }
}

/// The events of a message, and whether it is a batch.
fn read(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Result<(Vec<Entry>, bool), Problem> {
    let malformed = |error: &Unreadable| {
        shared.stats.malformed.add(1);
        Problem::from(error)
    };
    let config = &shared.config;
    let message = codec::decode(headers, body, &shared.unplaced, config.compat, config.max_batch)
        .map_err(|error| malformed(&error))?;
    let one = |event: Envelope| vec![Entry { id: Some(event.id.to_string()), event: Ok(event) }];
    match message {
        Message::Event(event) => Ok((one(*event), false)),
        Message::Plain => {
            let source = format!("//meshbus/http/{}", shared.name);
            let event = codec::plain(headers, body, shared.unplaced.clone(), uuid::timed(), source);
            Ok((one(event.map_err(|error| malformed(&error))?), false))
        }
        Message::Batch(batch) => {
            let entry = |event: Result<Envelope, DecodeError>| Entry {
                id: event.as_ref().ok().map(|event| event.id.to_string()),
                event: event.map_err(|error| malformed(&Unreadable::Malformed(error))),
            };
            Ok((batch.into_iter().map(entry).collect(), true))
        }
    }
}

/// Gives an event its topic, if the caller may publish there.
fn place(
    shared: &Shared,
    caller: &Caller,
    topic: Option<&Topic>,
    mut event: Envelope,
) -> Result<Envelope, Problem> {
    event.topic = if let Some(topic) = topic {
        topic.clone()
    } else {
        let text = shared.topic.render(&event, "").map_err(|reason| {
            Problem::bad_request(format!("no topic for the event: {reason}; or give ?topic="))
        })?;
        parse_topic(&text)?
    };
    // What readers are told the topic is, is for the bus to say; until here a topic template could use it.
    drop(event.extensions.remove(TOPIC));
    if event.topic.is_reserved() {
        return Err(Problem::reserved(event.topic.as_str()));
    }
    caller.authorize(Action::Publish, &event.topic)?;
    Ok(event)
}

fn parse_topic(text: &str) -> Result<Topic, Problem> {
    Topic::parse(text).map_err(|error| Problem::bad_request(format!("topic {error}")))
}

/// Publishes what can be, in order, and waits for the routes, at most `ack_timeout` in all.
async fn send(shared: &Shared, entries: Vec<Entry>) -> Vec<Fate> {
    let deadline = Instant::now() + shared.config.ack_timeout.0;
    let late =
        || Problem::unavailable(format!("no answer from the routes in {}", shared.config.ack_timeout));
    let mut events = Vec::with_capacity(entries.len());
    let mut refused = Vec::with_capacity(entries.len());
    let max = shared.bus.max_event();
    // What the bus adds before it weighs: origin and hops.
    let marks = shared.bus.name().len() + MARKS;
    for entry in entries {
        match entry.event {
            Ok(event) => {
                refused.push(Ok(event.weight() + marks > max));
                events.push(event);
            }
            Err(problem) => refused.push(Err(problem)),
        }
    }
    shared.stats.received.add(events.len() as u64);
    let receipts = timeout_at(deadline, shared.bus.publish(events)).await;
    let mut receipts = receipts.map(Vec::into_iter);
    let mut fates = Vec::with_capacity(refused.len());
    for refused in refused {
        let may_be_large = match refused {
            Ok(may_be_large) => may_be_large,
            Err(problem) => {
                fates.push(Err(problem));
                continue;
            }
        };
        let receipt = receipts.as_mut().ok().and_then(Iterator::next);
        let outcome = match &receipt {
            Some(receipt) => timeout_at(deadline, receipt.delivered()).await.ok(),
            None => None,
        };
        fates.push(match (&receipt, outcome) {
            (Some(receipt), Some(outcome)) => {
                judge(receipt, outcome, may_be_large).inspect_err(|problem| {
                    shared.stats.oversize.add(u64::from(problem.status == StatusCode::PAYLOAD_TOO_LARGE));
                })
            }
            _ => Err(late()),
        });
    }
    fates
}

/// The answer that a receipt stands for. `may_be_large`: with what the bus adds the event is over `max_event`.
fn judge(receipt: &Receipt, outcome: Outcome, may_be_large: bool) -> Fate {
    match (outcome, receipt.stored()) {
        (Outcome::Delivered | Outcome::Filtered, stored) => Ok(stored.ok()),
        (Outcome::Rejected(_), Err(refused @ Refused::Invalid(_))) if may_be_large => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, refused.to_string()))
        }
        (Outcome::Rejected(_), Err(refused)) => Err(Problem::from(refused)),
        (Outcome::Rejected(reason), Ok(_)) => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason.to_string()))
        }
        (Outcome::Undelivered(reason), _) => Err(Problem::unavailable(reason.to_string())),
    }
}

/// One answer for a batch: the worst. What asks to be sent again is worse than what never will be taken.
fn answer_batch(ids: Vec<Option<String>>, fates: Vec<Fate>) -> Fate {
    let total = fates.len();
    let mut last = None;
    let mut errors = Vec::new();
    for (index, (id, fate)) in ids.into_iter().zip(fates).enumerate() {
        match fate {
            Ok(seq) => last = last.max(seq),
            Err(Problem { status, detail, .. }) => errors.push(EventProblem { index, id, status, detail }),
        }
    }
    let worst = errors.iter().map(|error| error.status).max_by_key(StatusCode::is_server_error);
    let Some(mut status) = worst else { return Ok(last) };
    if !status.is_server_error() && errors.iter().any(|error| error.status != status) {
        status = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Err(Problem::batch(status, total, errors))
}
