//! Answers: JSON bodies, `Status` for what went wrong, and streams that end when their client leaves.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::Either;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use crate::transport::k8s::codec::status::{Reason, Status};

/// JSON, as its media type.
pub(super) const JSON: &str = "application/json";

/// An answer to one request.
pub(super) type Answer = Response<Body>;

/// Pieces of a body as they come.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// A body: whole, or in pieces.
pub(super) struct Body(Either<Bytes, Pieces>);

impl Body {
    /// All of it.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Either::Left(bytes.into()))
    }

    /// What the stream gives; its state is boxed once, here.
    pub(super) fn pieces(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Either::Right(Box::pin(stream)))
    }

    /// What it is made of.
    pub(super) fn into_parts(self) -> Either<Bytes, Pieces> {
        self.0
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Either::Left(bytes) if bytes.is_empty() => Poll::Ready(None),
            Either::Left(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Either::Right(pieces) => {
                pieces.as_mut().poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Either::Left(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Either::Left(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Either::Right(_) => SizeHint::default(),
        }
    }
}

/// A body of this media type.
pub(super) fn of(code: StatusCode, media_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// A JSON value.
pub(super) fn json(code: StatusCode, value: &Value) -> Answer {
    let mut text = value.to_string();
    text.push('\n');
    of(code, JSON, Body::whole(text))
}

/// A failure.
pub(super) fn status(status: &Status) -> Answer {
    let mut answer = json(status.code, &status.encode());
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after);
    if seconds > 0 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Text for people.
pub(super) fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    of(code, "text/plain; charset=utf-8", Body::whole(text))
}

/// What nobody serves.
pub(super) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A method that a resource does not take.
pub(super) fn method_not_allowed(allowed: &'static str) -> Answer {
    let message = "the server does not allow this method on the requested resource";
    let mut answer = status(&Status::new(Reason::MethodNotAllowed, message));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
