//! From a call to a stream, or to the status that refuses it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::caller::Caller;
use super::clients::Clients;
use super::exchange::{Exchange, Service};
use super::requests::Requests;
use super::stream::Stream;
use super::update::Updates;
use crate::transport::xds::codec::services::{self, Call};
use crate::transport::xds::codec::status::{Code, Status};

/// The body of an answer: a stream, or nothing.
pub(super) type Body = StreamBody<Frames>;
type Frames = Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

pub(super) fn answer(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    subject: Option<&ByteString>,
    request: Request<Incoming>,
) -> Response<Body> {
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if request.method() != HttpMethod::POST || !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    match open(shared, peer, subject, request) {
        Ok(stream) => {
            let mut response = Response::new(stream);
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            response
        }
        Err(status) => {
            let mut response = Response::new(empty());
            *response.headers_mut() = status.trailers();
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            response
        }
    }
}

fn open(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    subject: Option<&ByteString>,
    request: Request<Incoming>,
) -> Result<Body, Status> {
    let call = services::call(request.uri().path()).ok_or_else(|| {
        let text = format!("there is no method {}", request.uri().path());
        Status::new(Code::Unimplemented, text)
    })?;
    check_encoding(request.headers())?;
    let caller = Caller::of(&shared.bus, request.headers(), subject)?;
    let Ok(seat) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let text = format!("{} streams are open, the most there may be", shared.config.max_streams);
        return Err(Status::new(Code::ResourceExhausted, text));
    };
    let max = shared.config.max_request.0 as usize;
    let requests = Requests::new(request.into_body(), max, shared.budget.clone());
    let shared = Arc::clone(shared);
    // Boxed: the future that yields frames moves them each time.
    let frames: Frames = match call {
        Call::Discovery(method) => {
            let stream = Box::new(Stream::new(shared, method, caller, peer, requests));
            Box::pin(stream::unfold((stream, seat), |(mut stream, seat)| async move {
                let frame = stream.next().await?;
                Some((Ok(frame), (stream, seat)))
            }))
        }
        Call::Update { once } => {
            let updates = Updates::new(Arc::clone(&shared), caller, peer);
            exchange(Exchange::new(shared, requests, Service::Updates(updates), once), seat)
        }
        Call::ClientStatus { once } => {
            let clients = Clients::new(Arc::clone(&shared), caller)?;
            exchange(Exchange::new(shared, requests, Service::Clients(clients), once), seat)
        }
    };
    Ok(StreamBody::new(frames))
}

fn exchange(exchange: Exchange, seat: OwnedSemaphorePermit) -> Frames {
    Box::pin(stream::unfold((Box::new(exchange), seat), |(mut exchange, seat)| async move {
        let frame = exchange.next().await?;
        Some((Ok(frame), (exchange, seat)))
    }))
}

/// # Errors
/// `UNIMPLEMENTED` for compressed requests.
fn check_encoding(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("grpc-encoding") {
        Some(encoding) if encoding != "identity" => {
            let text = format!("grpc-encoding {encoding:?} is not supported: use identity");
            Err(Status::new(Code::Unimplemented, text))
        }
        _ => Ok(()),
    }
}

fn empty() -> Body {
    StreamBody::new(Box::pin(stream::empty()))
}
