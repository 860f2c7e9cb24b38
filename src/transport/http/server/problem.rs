//! Problem details ([RFC 9457]): how every refusal is answered.
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::super::codec::Unreadable;
use crate::core::{Refused, Seq};

/// Why a request was not served.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    reserved: bool,
    /// The owner takes no writes.
    read_only: bool,
    errors: Vec<EventProblem>,
    oldest: Option<Seq>,
}

/// A problem as it is sent.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    /// Of a batch: which events failed, and why.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [EventProblem],
    /// The oldest position that can still be resumed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
}

/// Why one event of a batch was not taken.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventProblem {
    /// Its place in the batch, from 0.
    pub(crate) index: usize,
    /// Its `id`, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(serialize_with = "as_number")]
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// How long a client is asked to wait before it tries again, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl Problem {
    /// A problem of the kind that `status` has.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail, reserved: false, read_only: false, errors: Vec::new(), oldest: None }
    }

    /// The request itself is wrong.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// What the request names is only served later, or elsewhere; it comes again.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// A publication where only state lives.
    pub(crate) fn reserved(topic: &str) -> Self {
        let detail =
            format!("topic {topic:?} is reserved for state: k8s/, xds/, flows/ and bus/ take no events");
        Self { reserved: true, ..Self::new(StatusCode::FORBIDDEN, detail) }
    }

    /// A position that the log no longer holds.
    pub(crate) fn gone(oldest: Seq) -> Self {
        let detail = "the position is no longer held: start from=snapshot, or from=now";
        Self { oldest: Some(oldest), ..Self::new(StatusCode::GONE, detail) }
    }

    /// The answer to a batch in which some events were not taken.
    pub(crate) fn batch(status: StatusCode, total: usize, errors: Vec<EventProblem>) -> Self {
        let detail = format!("{} of {total} events were not taken", errors.len());
        Self { errors, ..Self::new(status, detail) }
    }

    /// A refused write of state; `conditional` when the request named a precondition.
    pub(crate) fn of_write(refused: &Refused, conditional: bool) -> Self {
        let status = match refused {
            Refused::Conflict { .. } if conditional => StatusCode::PRECONDITION_FAILED,
            Refused::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            other => status_of(other),
        };
        let read_only = status == StatusCode::METHOD_NOT_ALLOWED;
        Self { read_only, ..Self::new(status, refused.to_string()) }
    }
}

impl From<&Refused> for Problem {
    fn from(refused: &Refused) -> Self {
        Self::new(status_of(refused), refused.to_string())
    }
}

impl From<&Unreadable> for Problem {
    fn from(unreadable: &Unreadable) -> Self {
        let status = match unreadable {
            Unreadable::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Unreadable::Headers => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Unreadable::Malformed(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, unreadable.to_string())
    }
}

/// The status that says what the bus said.
fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Conflict { .. } => StatusCode::CONFLICT,
        Refused::NotFound => StatusCode::NOT_FOUND,
        Refused::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refused::Owner { status, .. } => StatusCode::from_u16(*status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::BAD_GATEWAY),
        Refused::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        Refused::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refused::Full(_) | Refused::Closed => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Forbidden(_) => StatusCode::FORBIDDEN,
    }
}

fn kind_of(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 => ("urn:meshbus:problem:malformed", "Malformed request"),
        401 => ("urn:meshbus:problem:unauthorized", "Who are you"),
        403 => ("urn:meshbus:problem:forbidden", "Forbidden"),
        404 => ("urn:meshbus:problem:not-found", "Not found"),
        405 => ("urn:meshbus:problem:method-not-allowed", "Method not allowed"),
        408 => ("urn:meshbus:problem:timeout", "Request took too long"),
        409 => ("urn:meshbus:problem:conflict", "Conflict"),
        410 => ("urn:meshbus:problem:gone", "Position gone"),
        412 => ("urn:meshbus:problem:precondition", "Precondition failed"),
        413 => ("urn:meshbus:problem:too-large", "Too large"),
        415 => ("urn:meshbus:problem:media-type", "Media type not supported"),
        422 => ("urn:meshbus:problem:rejected", "Rejected"),
        431 => ("urn:meshbus:problem:headers", "Headers too large"),
        501 => ("urn:meshbus:problem:not-implemented", "Not implemented"),
        503 => ("urn:meshbus:problem:undelivered", "Not delivered, try again"),
        504 => ("urn:meshbus:problem:owner-silent", "The owner did not answer"),
        507 => ("urn:meshbus:problem:full", "Full"),
        _ => ("about:blank", status.canonical_reason().unwrap_or("Error")),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (kind, title) = if self.reserved {
            ("urn:meshbus:problem:reserved-topic", "Reserved topic")
        } else {
            kind_of(self.status)
        };
        let body = Body {
            kind,
            title,
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            oldest: self.oldest.map(|seq| seq.to_string()),
        };
        // A map of text and numbers always becomes JSON.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, RETRY_SECONDS)),
            StatusCode::UNAUTHORIZED => {
                drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            _ => {}
        }
        if self.read_only {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
