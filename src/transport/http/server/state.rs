//! `/v1/state`: list and read state, and write it through its owner.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::access::Caller;
use super::encoded::to_json;
use super::problem::Problem;
use super::publish::{SEQ, query};
use crate::config::values::Duration;
use crate::core::access::Action;
use crate::core::record::Record;
use crate::core::selector::Selector;
use crate::core::state::version_of;
use crate::core::write::{Operation, Precondition, Stored};
use crate::core::{Envelope, Key, Seq, Topic};
use crate::schema::cloudevents::media::{self, is_json};
use crate::schema::kinds::proto_name;
use crate::schema::{address, protobuf, ttl};
use crate::transport::http::codec::media_type;

/// Items of a page when the client names no number, and the most it may name.
const PAGE: usize = 500;
const PAGE_MAX: usize = 5000;
/// A page ends when its items have so many bytes; one item is always given.
const PAGE_BYTES: usize = 8 << 20;
/// The header that tells the owner's version of a key.
const VERSION: &str = "mb-version";
/// The header with which a writer tells how long its value holds.
const TTL: &str = "mb-ttl";

/// The query of all three methods.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    #[serde(rename = "type")]
    type_url: Option<String>,
    name: Option<String>,
    scope: Option<String>,
    limit: Option<usize>,
    #[serde(rename = "continue")]
    token: Option<String>,
    dry_run: bool,
}

/// Where a listing goes on; opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    seq: u64,
    scope: String,
    type_url: String,
    name: String,
}

impl Wanted {
    fn key(&self) -> Option<Key> {
        let name = self.name.clone()?;
        let scope = self.scope.clone().unwrap_or_else(|| Key::LOCAL.to_owned());
        let type_url = self.type_url.clone().unwrap_or_else(|| Key::VALUE.to_owned());
        Some(Key::new(scope, type_url, name))
    }
}

/// One key as its data or as a whole event, or without `name` a page of keys.
pub(super) async fn read(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = || {
        let caller = Caller::of(&shared.bus, request.headers())?;
        let wanted: Wanted = query(request.uri())?;
        match wanted.key() {
            Some(key) => one(&shared, &caller, &key, request.headers()),
            None => page(&shared, &caller, &wanted),
        }
    };
    answer().unwrap_or_else(IntoResponse::into_response)
}

/// Writes a key: the body becomes its data.
pub(super) async fn put(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    write(&shared, request, false).await.unwrap_or_else(IntoResponse::into_response)
}

/// Deletes a key.
pub(super) async fn delete(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    write(&shared, request, true).await.unwrap_or_else(IntoResponse::into_response)
}

fn one(shared: &Shared, caller: &Caller, key: &Key, headers: &HeaderMap) -> Result<Response, Problem> {
    let found = shared.bus.get(key);
    let topic = match &found {
        Some(record) => record.envelope.topic.clone(),
        None => topic_of(key)?,
    };
    caller.authorize(Action::Read, &topic)?;
    let record =
        found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no key {key}")))?;
    let mut response = Response::new(Body::empty());
    let answer = response.headers_mut();
    insert(answer, ETAG, format!("\"{}\"", record.seq));
    answer.insert(VARY, HeaderValue::from_static("accept"));
    answer.insert(SEQ, HeaderValue::from(record.seq.0));
    insert(answer, HeaderName::from_static(VERSION), version_of(&record).to_string());
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|tags| tags.split(',')).any(|tag| names(tag, record.seq)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let envelope = &record.envelope;
    if wants_event(headers) {
        insert(answer, CONTENT_TYPE, format!("{}; charset=UTF-8", media::JSON));
        *response.body_mut() = Body::from(to_json(record.seq, envelope));
        return Ok(response);
    }
    let media_type = envelope.datacontenttype.as_deref().unwrap_or("application/octet-stream");
    let as_json = proto_name(&key.type_url).is_some() && !is_json(media_type) && accepts(headers, is_json);
    insert(answer, CONTENT_TYPE, if as_json { "application/json" } else { media_type }.to_owned());
    // What was stored is data, never a page of ours.
    answer.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer.insert("content-security-policy", HeaderValue::from_static("sandbox"));
    *response.body_mut() = if as_json {
        Body::from(shared.kinds.descriptors().show(&key.type_url, &envelope.data).json.to_string())
    } else {
        Body::from(envelope.data.clone())
    };
    Ok(response)
}

/// Whether the client asks for the whole event rather than its data.
fn wants_event(headers: &HeaderMap) -> bool {
    accepts(headers, media::is_cloudevents_json)
}

/// Whether the client names a media type that is wanted.
fn accepts(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|types| types.split(',')).any(wanted)
}

/// The data of a protobuf message, which a client may also send as JSON.
///
/// # Errors
/// 400 for what is no JSON, 422 for what is no such message, naming the field.
fn message(shared: &Shared, key: &Key, envelope: &mut Envelope) -> Result<(), Problem> {
    let Some(message) = proto_name(&key.type_url) else { return Ok(()) };
    let invalid = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{message}: {why}"));
    let descriptors = shared.kinds.descriptors();
    if envelope.datacontenttype.as_deref().is_some_and(is_json) {
        let json = serde_json::from_slice(&envelope.data)
            .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
        envelope.data =
            descriptors.read(&key.type_url, &json).map_err(|error| invalid(error.to_string()))?;
    } else {
        descriptors.check(&key.type_url, &envelope.data).map_err(|error| {
            invalid(format!(
                "{error}; the body is its bytes, or its JSON with content-type application/json"
            ))
        })?;
    }
    envelope.datacontenttype = Some(protobuf::MEDIA_TYPE.into());
    Ok(())
}

fn page(shared: &Shared, caller: &Caller, wanted: &Wanted) -> Result<Response, Problem> {
    let limit = match wanted.limit.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => limit,
        limit => {
            return Err(Problem::bad_request(format!("limit is {limit}: it must be 1 to {PAGE_MAX}")));
        }
    };
    let (at, after) = match &wanted.token {
        None => (None, None),
        Some(token) => {
            let (seq, key) = read_token(token).ok_or_else(|| {
                Problem::bad_request("continue is no token that an earlier page gave as next")
            })?;
            (Some(seq), Some(key))
        }
    };
    let selector = Selector {
        scope: wanted.scope.clone().map(Into::into),
        type_url: wanted.type_url.clone().map(Into::into),
        ..Selector::default()
    };
    let list = |limit| shared.bus.list(&selector, at, after.as_ref(), limit);
    let gone = |gone: crate::core::log::Gone| Problem::gone(gone.oldest);
    let mut found = list(limit).map_err(gone)?;
    let fits = that_fit(&found.items);
    if fits < found.items.len() {
        // Asked anew with the smaller number, so that the bus keeps this position for the next page.
        found = list(fits).map_err(gone)?;
    }
    let mut body = Vec::from(&b"{\"items\":["[..]);
    for record in &found.items {
        if caller.may(Action::Read, &record.envelope.topic) {
            if !body.ends_with(b"[") {
                body.push(b',');
            }
            body.extend_from_slice(&to_json(record.seq, &record.envelope));
        }
    }
    body.extend_from_slice(format!("],\"seq\":\"{}\"", found.seq).as_bytes());
    if let Some(next) = &found.next {
        body.extend_from_slice(format!(",\"next\":\"{}\"", write_token(found.seq, next)).as_bytes());
    }
    body.push(b'}');
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, Bytes::from(body)).into_response())
}

/// How many of the records a page may hold.
fn that_fit(records: &[Arc<Record>]) -> usize {
    let mut bytes = 0;
    let fitting = records.iter().take_while(|record| {
        bytes += record.envelope.weight();
        bytes <= PAGE_BYTES
    });
    fitting.count().max(1).min(records.len())
}

async fn write(shared: &Shared, request: Request, delete: bool) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    if shared.shutdown.is_draining() {
        return Err(Problem::unavailable("the bus is shutting down"));
    }
    let caller = Caller::of(&shared.bus, &head.headers)?;
    let wanted: Wanted = query(&head.uri)?;
    let key = wanted.key().ok_or_else(|| Problem::bad_request("name= is missing: which key?"))?;
    let held = shared.bus.get(&key);
    let topic = match &held {
        Some(record) => record.envelope.topic.clone(),
        None => topic_of(&key)?,
    };
    caller.authorize(Action::Write, &topic)?;
    let precondition = precondition(&head.headers, held.as_deref())?;
    let conditional = precondition != Precondition::Any;
    let read = shared.bodies.read(&head.headers, body).await?;
    let operation = if delete {
        Operation::Delete
    } else {
        let mut envelope = Envelope::event(topic, "", "", "");
        envelope.datacontenttype =
            media_type(&head.headers).map_err(|error| Problem::bad_request(error.to_string()))?;
        envelope.data = read.bytes.clone();
        message(shared, &key, &mut envelope)?;
        if let Some(text) = head.headers.get(TTL) {
            set_ttl(&mut envelope, text)?;
        }
        Operation::Put(Box::new(envelope))
    };
    shared.stats.received.add(1);
    let written = shared.bus.write(key, operation, precondition, wanted.dry_run).await;
    let stored = written.map_err(|refused| Problem::of_write(&refused, conditional))?;
    Ok(answer_write(&stored, delete, wanted.dry_run))
}

fn set_ttl(envelope: &mut Envelope, text: &HeaderValue) -> Result<(), Problem> {
    let parsed = text.to_str().unwrap_or("?").parse::<Duration>();
    let set = parsed.and_then(|duration| ttl::set(&mut envelope.extensions, duration.0));
    set.map_err(|why| Problem::bad_request(format!("{TTL}: {why}")))
}

fn answer_write(stored: &Stored, delete: bool, dry_run: bool) -> Response {
    let created = stored.created && !delete && !dry_run;
    let mut response = if created { StatusCode::CREATED } else { StatusCode::OK }.into_response();
    let headers = response.headers_mut();
    insert(headers, HeaderName::from_static(VERSION), stored.version.to_string());
    if !dry_run {
        headers.insert(SEQ, HeaderValue::from(stored.seq.0));
        if !delete {
            insert(headers, ETAG, format!("\"{}\"", stored.seq));
        }
    }
    response
}

/// What must hold for the write, from `If-Match` and `If-None-Match`.
fn precondition(headers: &HeaderMap, held: Option<&Record>) -> Result<Precondition, Problem> {
    let failed = |detail: &str| Problem::new(StatusCode::PRECONDITION_FAILED, detail);
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?").trim());
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::Any),
        (None, Some("*")) => Ok(Precondition::Absent),
        (Some("*"), None) => match held {
            Some(record) => Ok(Precondition::Seq(record.seq)),
            None => Err(failed("the key does not exist")),
        },
        (Some(tag), None) if tag.contains(',') => {
            Err(Problem::bad_request("If-Match names several tags: name one, as a read gave it"))
        }
        (Some(tag), None) => match unquote(tag).and_then(|tag| tag.parse().ok()) {
            Some(seq) => Ok(Precondition::Seq(seq)),
            // A tag we never gave matches nothing.
            None => Err(failed("If-Match holds no tag of ours: \"SEQ\", as a read gave it")),
        },
        _ => Err(Problem::bad_request(
            "give If-Match: \"SEQ\", or If-None-Match: *, to make a write conditional",
        )),
    }
}

/// Whether an entity tag of `If-None-Match` names this position; weak comparison, as reads have it.
fn names(tag: &str, seq: Seq) -> bool {
    let tag = tag.trim();
    tag == "*" || unquote(tag.strip_prefix("W/").unwrap_or(tag)).is_some_and(|tag| tag == seq.to_string())
}

fn unquote(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

/// The topic of a key that does not exist yet: where the rules of access look, and where its changes go.
fn topic_of(key: &Key) -> Result<Topic, Problem> {
    address::topic_of(key).map_err(|reason| match Topic::parse(key.name.clone()) {
        Ok(topic) if &*key.type_url == Key::VALUE && topic.is_reserved() => {
            Problem::reserved(topic.as_str())
        }
        _ => Problem::bad_request(format!("{key}: {reason}")),
    })
}

fn write_token(seq: Seq, after: &Key) -> String {
    let token = Continue {
        seq: seq.0,
        scope: after.scope.to_string(),
        type_url: after.type_url.to_string(),
        name: after.name.to_string(),
    };
    // Numbers and text always become JSON.
    BASE64URL_NOPAD.encode(&serde_json::to_vec(&token).unwrap_or_default())
}

fn read_token(token: &str) -> Option<(Seq, Key)> {
    let json = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
    let token: Continue = serde_json::from_slice(&json).ok()?;
    Some((Seq(token.seq), Key::new(token.scope, token.type_url, token.name)))
}

/// Sets a header unless its value cannot stand in one.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(name, value);
    }
}
