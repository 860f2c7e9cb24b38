//! The small HTTP server under the admin and the health port: plain hyper, so that both work in every build.
//!
//! Bounds: 64 connections, 5 s for a request's headers (idle connections included), 64 of them in 64 KiB, a body of
//! 1 MiB within 10 s.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::debug;

use super::listener::serve_connections;
use super::shutdown::Shutdown;

/// Most connections at a time.
pub(super) const CONNECTIONS: u32 = 64;
/// Longest body of a request, in bytes.
pub(super) const BODY_MAX: usize = 1 << 20;

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Answer = Response<Body>;

/// Answers requests on `listener` until the drain; answers under way are finished.
pub(super) async fn serve<F>(listener: TcpListener, shutdown: &Shutdown, answer: F)
where
    F: Fn(Request<Bytes>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    serve_connections(listener, CONNECTIONS, shutdown, |stream, peer| {
        let connection = connection(stream, shutdown.clone(), Arc::clone(&answer));
        async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection failed");
            }
        }
    })
    .await;
}

fn connection<F>(
    stream: TcpStream,
    shutdown: Shutdown,
    answer: Arc<F>,
) -> impl Future<Output = hyper::Result<()>> + Send
where
    F: Fn(Request<Bytes>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            Ok::<_, Infallible>(match read(request).await {
                Ok(request) => answer(request).await,
                Err(refused) => refused,
            })
        }
    });
    async move {
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_headers(HEADERS_MAX)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
        );
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.drain() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }
}

async fn read(request: Request<Incoming>) -> Result<Request<Bytes>, Answer> {
    let (parts, body) = request.into_parts();
    let too_long =
        || problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is longer than {BODY_MAX} bytes"));
    // A client that says so beforehand is spared the sending.
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_long());
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(error)) => {
            Err(problem(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")))
        }
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// An answer of `media_type`, never cached.
pub(super) fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

pub(super) fn json(status: StatusCode, body: &Value) -> Answer {
    answer(status, "application/json", format!("{body}\n"))
}

/// What went wrong, in RFC 9457's form.
pub(super) fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail});
    answer(status, "application/problem+json", format!("{body}\n"))
}

pub(super) fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allow}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// Whether the method only reads.
pub(super) fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether the client would rather have JSON than text.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|text| text.contains("json")))
}
