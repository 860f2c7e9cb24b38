//! The listener and its connections, which can be broken off, reset, and taken down for a while.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::Shared;
use super::route;

/// How often a port that was left is tried again.
const REBIND: Duration = Duration::from_millis(20);
/// Tries before the port counts as taken by another.
const REBINDS_MAX: usize = 250;

/// A connection that ends with a reset when it is told to.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

/// Breaks one connection off from inside a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    reset: Arc<AtomicBool>,
    broken: Arc<Notify>,
}

impl Breaker {
    /// Resets the connection; never returns, as there is nobody left to answer.
    pub(crate) async fn reset(&self) -> ! {
        self.reset.store(true, Ordering::SeqCst);
        self.broken.notify_one();
        pending().await
    }
}

/// Listens whenever the server is up, until the task is aborted.
pub(crate) async fn run(shared: Arc<Shared>, first: TcpListener, address: SocketAddr) {
    let mut up = shared.up.subscribe();
    let mut listener = Some(first);
    loop {
        if !*up.borrow_and_update() {
            listener = None;
            shared.listening.send_replace(false);
            if up.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => rebind(address).await,
        };
        shared.listening.send_replace(true);
        tokio::select! {
            accepted = open.accept() => {
                if let Ok((stream, _)) = accepted {
                    // Subscribed before the listener can close: no connection outlives its generation.
                    let generation = shared.generation.subscribe();
                    tokio::spawn(connection(Arc::clone(&shared), stream, generation));
                }
                listener = Some(open);
            }
            _ = up.changed() => listener = Some(open),
        }
    }
}

async fn rebind(address: SocketAddr) -> TcpListener {
    for _ in 0..REBINDS_MAX {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(REBIND).await;
    }
    panic!("the port of the hostile server, {address}, is taken by another")
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, mut generation: watch::Receiver<u64>) {
    let breaker = Breaker::default();
    let wire = Wire { stream, reset: Arc::clone(&breaker.reset) };
    let broken = Arc::clone(&breaker.broken);
    let service = service_fn(move |request| {
        let (shared, breaker) = (Arc::clone(&shared), breaker.clone());
        async move { Ok::<_, io::Error>(route::answer(shared, request, breaker).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(wire), service);
    tokio::select! {
        // What a connection ends with is the client's to judge.
        _ = served => {}
        () = broken.notified() => {}
        _ = generation.changed() => {}
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            // A socket that is closed already cannot be reset.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
