//! One connection of an HTTP server: HTTP/1.1 or HTTP/2 with upgrades, bounded in headers, idle time and the
//! patience for a peer that stops reading. What answers requests is the caller's.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tracing::debug;

use super::gather::Gather;
use super::parting::part;
use super::shutdown::Shutdown;
use super::stall::Stall;
use crate::core::error::BoxError;

/// How long a client may leave what we send unread.
pub const STALL: Duration = Duration::from_secs(30);
/// How long a connection may stay without a new request, where each is an end in itself.
pub const IDLE: Duration = Duration::from_mins(2);

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a request's headers, and for the first request.
    pub header_timeout: Duration,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Most bytes of a request's headers.
    pub max_header_bytes: usize,
    /// Most requests of one HTTP/2 connection at a time.
    pub max_streams: u32,
    /// How long it may stay without a new request; `None` where one request is as long as the connection.
    pub idle: Option<Duration>,
    /// Whether what its streams send is gathered into fewer writes; not with upgrades, which another task takes over.
    pub gathers: bool,
}

/// Serves one connection until it closes, falls idle, or the shutdown.
pub async fn serve<T, B, A, F>(io: T, peer: SocketAddr, limits: Limits, shutdown: &Shutdown, answer: A)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size((limits.max_header_bytes * 2).max(16 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.max_streams)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let requests = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&requests);
    let service = hyper::service::service_fn(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        answer(request)
    });
    let io = Stall::new(io, STALL);
    let io = if limits.gathers { Gather::new(io) } else { Gather::plain(io) };
    let mut serving =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io.clone()), service));
    let mut draining = false;
    let mut seen = 0;
    // The first request must come as soon as headers must: which protocol it speaks takes bytes, too.
    let mut patience = limits.header_timeout;
    loop {
        let mut protocol = |cx: &mut Context<'_>| serving.as_mut().poll(cx);
        tokio::select! {
            result = io.run(&mut protocol) => {
                if let Err(error) = result.map_err(BoxError::from).flatten() {
                    debug!(%peer, error, "connection ended");
                }
                // Not one that another task may have taken over.
                if limits.gathers {
                    part(io).await;
                }
                return;
            }
            () = shutdown.drain(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
            () = sleep(patience) => {
                let now = requests.load(Ordering::Relaxed);
                if now == 0 {
                    return;
                }
                if now == seen && limits.idle.is_some() {
                    serving.as_mut().graceful_shutdown();
                }
                seen = now;
                patience = limits.idle.unwrap_or(IDLE);
            }
        }
    }
}
