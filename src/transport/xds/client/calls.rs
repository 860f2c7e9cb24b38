//! The calls on one connection: a stream of the aggregated service, and what else is asked of the same server.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, stream};
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use tokio::sync::mpsc;

use crate::core::error::causes;
use crate::core::{Error, ErrorKind};
use crate::transport::xds::codec::frame::Frames;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::services::aggregated;
use crate::transport::xds::codec::status::{Code, STATUS, Status};

/// Requests that may wait for the connection.
const REQUESTS_WAITING: usize = 4;

/// What is sent on a stream: frames, from a queue.
pub(super) type Sent = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// A connection on which calls can be made. It lasts as long as this or a call of it.
pub(super) struct Calls {
    /// The server: `127.0.0.1:15010`.
    pub(super) peer: String,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    /// Most bytes of an answer.
    pub(super) max_response: usize,
    pub(super) sender: SendRequest<Sent>,
}

/// An open stream.
pub(super) struct Call {
    /// The server: `127.0.0.1:15010`.
    pub(super) peer: String,
    /// What is sent, framed.
    pub(super) requests: mpsc::Sender<Bytes>,
    /// What comes.
    pub(super) responses: Responses,
}

/// What comes on a stream. Servers send the head of their answer with the first response only.
pub(super) struct Responses {
    peer: String,
    frames: Frames,
    state: State,
    /// With which status it ended.
    status: Option<Status>,
}

/// Why a call of one request has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The server says why.
    Refused(Status),
    /// It broke: whether the server has done it is not known.
    Broken(String),
}

enum State {
    Opening(BoxFuture<'static, hyper::Result<Response<Incoming>>>),
    Open(Incoming),
}

impl Calls {
    /// Opens a stream of the aggregated service.
    pub(super) fn stream(&self, variant: Variant) -> Call {
        let (requests, waiting) = mpsc::channel(REQUESTS_WAITING);
        let responses = self.open(aggregated(variant), frames(waiting));
        Call { peer: self.peer.clone(), requests, responses }
    }

    /// Makes a call of one request, which is given in its frame, and gives the response to it.
    ///
    /// # Errors
    /// The server's own status, or how the call broke.
    pub(super) async fn unary(&self, path: &'static str, frame: Bytes) -> Result<Bytes, Unanswered> {
        let body = stream::iter([Ok(Frame::data(frame))]);
        let mut responses = self.open(path, StreamBody::new(Box::pin(body)));
        let answer = responses.next().await;
        let error = match &answer {
            // The status follows the message.
            Ok(_) => responses.next().await.err(),
            Err(_) => None,
        };
        match (answer, responses.status) {
            (_, Some(status)) if status.code != Code::Ok => Err(Unanswered::Refused(status)),
            (Ok(message), _) if error.is_some() => Ok(message),
            (Ok(_), _) => Err(Unanswered::Broken("the server answers one request twice".to_owned())),
            (Err(error), _) => Err(Unanswered::Broken(causes(&error))),
        }
    }

    fn open(&self, path: &'static str, body: Sent) -> Responses {
        let request = self.request(path, body);
        let mut sender = self.sender.clone();
        // The connection goes on for as long as the body is read.
        let opening = async move { sender.send_request(request).await };
        Responses {
            peer: self.peer.clone(),
            frames: Frames::new(self.max_response),
            state: State::Opening(opening.boxed()),
            status: None,
        }
    }

    fn request(&self, path: &'static str, body: Sent) -> Request<Sent> {
        let mut request = Request::new(body);
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        *request.method_mut() = http::Method::POST;
        // It has a scheme and an authority, so that it is a URI with any path.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

fn frames(waiting: mpsc::Receiver<Bytes>) -> Sent {
    StreamBody::new(Box::pin(stream::unfold(waiting, |mut waiting| async {
        let frame = waiting.recv().await?;
        Some((Ok(Frame::data(frame)), waiting))
    })))
}

impl Responses {
    /// With which status the server ended the stream.
    pub(super) fn status(&self) -> Option<Code> {
        self.status.as_ref().map(|status| status.code)
    }

    /// The next message. May be dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// The stream ended: with which status, or how it broke.
    pub(super) async fn next(&mut self) -> Result<Bytes, Error> {
        let Self { peer, frames, state, status } = self;
        loop {
            match state {
                State::Opening(opening) => {
                    let response = opening.await.map_err(|error| broken(peer, &error))?;
                    *state = State::Open(checked(peer, response, status)?);
                }
                State::Open(body) => {
                    if let Some(message) = frames.take().map_err(|status| unreadable(peer, &status))? {
                        return Ok(message);
                    }
                    match body.frame().await {
                        None => return Err(ended(peer, None)),
                        Some(Err(error)) => return Err(broken(peer, &error)),
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(piece) => frames.push(&piece),
                            Err(trailers) => {
                                let trailers = trailers.into_trailers().unwrap_or_default();
                                let ends = Status::of_trailers(&trailers);
                                status.clone_from(&ends);
                                return Err(ended(peer, ends));
                            }
                        },
                    }
                }
            }
        }
    }
}

/// The body of an answer that is one of gRPC; `status` is what it ended with at once.
fn checked(
    peer: &str,
    response: Response<Incoming>,
    status: &mut Option<Status>,
) -> Result<Incoming, Error> {
    let headers = response.headers();
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if response.status() != StatusCode::OK || !headers.get(CONTENT_TYPE).is_some_and(grpc) {
        let kind = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
            _ => ErrorKind::Protocol,
        };
        let reason = format!("answers HTTP {} and no gRPC", response.status().as_u16());
        *status = Some(Status::new(Code::of_http(response.status()), reason.clone()));
        return Err(Error::new(kind, peer).because(reason));
    }
    // Without a body the status stands in the head.
    if response.body().is_end_stream() || headers.contains_key(STATUS) {
        let ends = Status::of_trailers(headers);
        status.clone_from(&ends);
        return Err(ended(peer, ends));
    }
    Ok(response.into_body())
}

/// A stream that ended in order.
fn ended(peer: &str, status: Option<Status>) -> Error {
    let status = status.unwrap_or_else(|| Status::new(Code::Unknown, "the stream ended without a status"));
    let kind = match status.code {
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Denied,
        Code::Unimplemented | Code::InvalidArgument => ErrorKind::Protocol,
        _ => ErrorKind::Disconnected,
    };
    let reason = match status.code {
        Code::Ok => "the server ended the stream".to_owned(),
        Code::Unimplemented => format!("{status}: it may have the other variant only, see mode"),
        _ => status.to_string(),
    };
    Error::new(kind, peer).because(reason)
}

/// A response that cannot be read on.
fn unreadable(peer: &str, status: &Status) -> Error {
    let hint = if status.code == Code::ResourceExhausted { ": raise max_response" } else { "" };
    Error::new(ErrorKind::Protocol, peer).because(format!("{status}{hint}"))
}

fn broken(peer: &str, error: &hyper::Error) -> Error {
    Error::new(ErrorKind::Disconnected, peer).because(causes(error))
}
