//! Writes of a connection that carries many streams, gathered: what these send at about the same time is one write.
//!
//! HTTP/2 writes each longer frame by itself, and a runtime runs a connection as soon as the first of its streams has
//! something to send. Where a thousand streams are told the same, that is a thousand writes, each of which costs more
//! than all that came before it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

/// Bytes that are gathered at most; more than that waits for the peer to read.
const GATHERED_MAX: usize = 64 << 10;

/// One connection, of which a clone is given to who speaks the protocol, and another to [`Gather::run`], which writes.
#[derive(Debug)]
pub(crate) struct Gather<T>(Arc<Mutex<Output<T>>>);

/// Polls who speaks the protocol.
pub(crate) type Protocol<'a, R> = dyn FnMut(&mut Context<'_>) -> Poll<R> + Send + 'a;

#[derive(Debug)]
struct Output<T> {
    io: T,
    /// Whether each write goes out at once.
    plain: bool,
    /// What is not written yet.
    bytes: BytesMut,
    /// Whether something was written that the connection may still hold, as one with TLS does.
    unflushed: bool,
}

impl<T> Gather<T> {
    /// Gathers what is written.
    pub(crate) fn new(io: T) -> Self {
        Self::with(io, false)
    }

    /// Writes everything at once: what a connection is for that is taken over by another task.
    pub(crate) fn plain(io: T) -> Self {
        Self::with(io, true)
    }

    fn with(io: T, plain: bool) -> Self {
        Self(Arc::new(Mutex::new(Output { io, plain, bytes: BytesMut::new(), unflushed: false })))
    }
}

impl<T> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    /// Runs the protocol on the connection, which must have its clone; writes what it has said when it has no more to
    /// say, after all others that were to run have run: they may have more for it.
    ///
    /// Cancel safe: may be made anew at any time.
    pub(crate) async fn run<R>(&self, protocol: &mut Protocol<'_, R>) -> io::Result<R> {
        if self.0.lock().plain {
            return Ok(poll_fn(protocol).await);
        }
        loop {
            let (said, written) =
                poll_fn(|cx| Poll::Ready((protocol(cx), self.0.lock().poll_write_out(cx)))).await;
            if let Poll::Ready(Err(error)) = written {
                return Err(error);
            }
            // What it said last it has seen written, as it has shut down the connection, or that cannot be written.
            if let Poll::Ready(output) = said {
                return Ok(output);
            }
            until_woken().await;
            // Behind all that is ready to run.
            yield_now().await;
        }
    }
}

/// Waits until the task is woken, for whatever reason: who polled before has left its waker.
async fn until_woken() {
    let mut woken = false;
    poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl<T: AsyncWrite + Unpin> Output<T> {
    /// Writes all that is gathered.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(count);
            self.unflushed = true;
        }
        if self.unflushed {
            // An idle connection keeps no room.
            self.bytes = BytesMut::new();
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The room that there is for more, which is never none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= GATHERED_MAX {
            ready!(self.poll_write_out(cx))?;
        }
        Poll::Ready(Ok(GATHERED_MAX - self.bytes.len()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut output = self.0.lock();
        if output.plain {
            return Pin::new(&mut output.io).poll_write_vectored(cx, bufs);
        }
        let room = ready!(output.poll_room(cx))?;
        let mut taken = 0;
        for buf in bufs {
            let part = buf.get(..room - taken).unwrap_or(buf);
            output.bytes.extend_from_slice(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        let output = self.0.lock();
        !output.plain || output.io.is_write_vectored()
    }

    /// Leaves what is gathered to [`Gather::run`].
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.0.lock();
        if output.plain { Pin::new(&mut output.io).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.0.lock();
        ready!(output.poll_write_out(cx))?;
        Pin::new(&mut output.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// Most messages of a test.
    const STREAMS: usize = 100;

    /// Counts writes.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// A protocol that writes and flushes each message that streams send, and ends when none is left that may.
    async fn speak<T: AsyncWrite + Send + Unpin>(io: Gather<T>, mut said: mpsc::Receiver<Vec<u8>>) {
        let (mut out, mut waiting) = (io.clone(), VecDeque::<Vec<u8>>::new());
        let mut closed = false;
        let mut protocol = |cx: &mut Context<'_>| loop {
            while let Some(message) = waiting.front_mut() {
                let count = ready!(Pin::new(&mut out).poll_write(cx, message)).unwrap();
                message.drain(..count);
                if message.is_empty() {
                    waiting.pop_front();
                    ready!(Pin::new(&mut out).poll_flush(cx)).unwrap();
                }
            }
            if closed {
                return Pin::new(&mut out).poll_shutdown(cx);
            }
            match ready!(said.poll_recv(cx)) {
                Some(message) => waiting.push_back(message),
                None => closed = true,
            }
        };
        io.run(&mut protocol).await.unwrap().unwrap();
    }

    /// What comes out of an odd end, and in how many writes.
    async fn exchange(plain: bool, room: usize, streams: Vec<Vec<u8>>) -> (Vec<u8>, usize) {
        let (ours, mut theirs) = duplex(room);
        let writes = Arc::new(AtomicUsize::new(0));
        let io = Counted(ours, Arc::clone(&writes));
        let io = if plain { Gather::plain(io) } else { Gather::new(io) };
        let (sender, said) = mpsc::channel(STREAMS);
        let connection = tokio::spawn(speak(io, said));
        for message in streams {
            let sender = sender.clone();
            tokio::spawn(async move { sender.send(message).await.unwrap() });
        }
        drop(sender);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        connection.await.unwrap();
        (all, writes.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_many_streams_say_at_a_time_is_one_write() {
        let streams: Vec<_> = (0..50).map(|n| vec![n; 1000]).collect();
        let expected = streams.concat();
        assert_eq!(exchange(false, 1 << 20, streams.clone()).await, (expected.clone(), 1));
        assert_eq!(exchange(true, 1 << 20, streams).await, (expected, 50));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_holds_up_what_is_more_than_is_gathered() {
        let (ours, mut theirs) = duplex(16);
        let io = Gather::new(ours);
        let (sender, said) = mpsc::channel(STREAMS);
        let connection = tokio::spawn(speak(io.clone(), said));
        for n in 0..100 {
            sender.try_send(vec![n; 1000]).unwrap();
        }
        drop(sender);
        for _ in 0..100 {
            yield_now().await;
        }
        let held = io.0.lock().bytes.len();
        assert!(held > GATHERED_MAX - 1100 && held <= GATHERED_MAX, "{held}");
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        connection.await.unwrap();
        assert_eq!(all, (0..100).flat_map(|n| vec![n; 1000]).collect::<Vec<_>>());
        assert_eq!(io.0.lock().bytes.capacity(), 0, "an idle connection keeps no room");
    }

    #[tokio::test]
    async fn what_the_connection_itself_holds_is_flushed_though_that_takes_long() {
        let (ours, mut theirs) = duplex(16);
        let io = Gather::new(BufWriter::new(ours));
        io.clone().write_all(&[7; 1000]).await.unwrap();
        let connection = tokio::spawn(async move { io.run::<()>(&mut |_| Poll::Pending).await });
        let mut all = vec![0; 1000];
        let read = theirs.read_exact(&mut all);
        timeout(Duration::from_secs(10), read).await.expect("in time").unwrap();
        assert_eq!(all, [7; 1000]);
        connection.abort();
    }

    #[tokio::test]
    async fn a_connection_that_breaks_ends_who_speaks() {
        let (ours, theirs) = duplex(16);
        drop(theirs);
        let io = Gather::new(ours);
        let mut out = io.clone();
        out.write_all(b"lost").await.unwrap();
        let error = io.run::<()>(&mut |_| Poll::Pending).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn all_that_is_said_arrives_in_order_whatever_its_length(
            lengths in prop::collection::vec(prop_oneof![0..100_usize, 60_000..140_000_usize], 0..12),
            room in 1..100_000_usize,
        ) {
            let streams: Vec<_> = lengths.iter().zip(0..).map(|(len, n)| vec![n; *len]).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (all, _) = runtime.block_on(exchange(false, room, streams.clone()));
            prop_assert_eq!(all, streams.concat());
        }
    }
}
