//! The server role: takes events in and answers each when every route has it.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use meshbus::core::bus::Ingress;
use meshbus::core::delivery::{Guarantee, Outcome};
use meshbus::core::stats::ConnectorStats;
use meshbus::core::template::Template;
use meshbus::core::{Error, Receipt};
use meshbus::runtime::listener;
use meshbus::runtime::shutdown::Shutdown;
use meshbus::transport::{Announcement, Connector, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::codec::{self, Frame, Frames};
use super::config::ServerConfig;

/// Most connections at a time; further ones wait in the system's queue.
const CONNECTIONS: usize = 64;
/// Most events of one connection that routes have not answered; then it is not read.
const WINDOW: usize = 256;

/// Serves one address.
#[derive(Debug)]
pub(super) struct Server {
    config: ServerConfig,
    topic: Template,
}

/// One client's connection.
struct Connection {
    stream: TcpStream,
    bus: Ingress,
    stats: Arc<ConnectorStats>,
    shutdown: Shutdown,
    topic: Template,
    max_frame: usize,
}

/// An answer that is due: known at once, or when the routes have answered.
enum Due {
    Now(Outcome),
    Later(Receipt),
}

impl Server {
    pub(super) fn new(config: ServerConfig, topic: Template) -> Self {
        Self { config, topic }
    }

    async fn serve(&self, link: &mut Link) -> Result<(), Error> {
        let socket = listener::bind(&self.config.listen).await?;
        link.ready.up();
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = socket.accept(), if connections.len() < CONNECTIONS => {
                    // What failed was that one connection.
                    let Ok((stream, _)) = accepted else { continue };
                    link.stats.connected.add(1);
                    let connection = Connection {
                        stream,
                        bus: link.bus.clone(),
                        stats: Arc::clone(&link.stats),
                        shutdown: link.shutdown.clone(),
                        topic: self.topic.clone(),
                        max_frame: self.config.max_frame.bytes(),
                    };
                    connections.push(connection.serve());
                }
                Some(()) = connections.next() => {}
                () = link.shutdown.drain() => break,
            }
        }
        // Each ends when it has answered what it took.
        while connections.next().await.is_some() {}
        Ok(())
    }
}

impl Connection {
    /// Until the client goes or the drain is done. What is unanswered then is the client's to send again.
    async fn serve(mut self) {
        let (mut reader, mut writer) = self.stream.split();
        let (mut frames, mut read, mut out) =
            (Frames::new(self.max_frame), BytesMut::new(), BytesMut::new());
        let mut due: VecDeque<Due> = VecDeque::with_capacity(WINDOW);
        let mut draining = false;
        while !(draining && due.is_empty() && out.is_empty()) {
            // Every branch can be dropped half-way without losing anything.
            tokio::select! {
                n = reader.read_buf(&mut read), if !draining && due.len() < WINDOW => {
                    if !matches!(n, Ok(1..)) {
                        return;
                    }
                }
                outcome = first(due.front()) => {
                    due.pop_front();
                    if codec::put_answer(&mut out, &outcome).is_err() {
                        return;
                    }
                }
                written = writer.write_buf(&mut out), if !out.is_empty() => {
                    if written.is_err() {
                        return;
                    }
                }
                () = self.shutdown.drain(), if !draining => draining = true,
            }
            while !draining
                && due.len() < WINDOW
                && let Some(frame) = frames.next(&mut read)
            {
                due.push_back(take(frame, &self.bus, &self.stats, &self.topic, self.max_frame).await);
            }
        }
    }
}

/// Publishes what a frame holds. A frame that cannot be read is answered like any other, and counted.
async fn take(frame: Frame, bus: &Ingress, stats: &ConnectorStats, topic: &Template, max: usize) -> Due {
    let frame = match frame {
        Frame::Whole(frame) => frame,
        Frame::Oversize(length) => {
            stats.oversize.add(1);
            let reason = format!("{length} bytes are over the server's max_frame of {max}");
            return Due::Now(Outcome::Rejected(reason.into()));
        }
    };
    let envelope = match codec::event(&frame, topic) {
        Ok(envelope) => envelope,
        Err(error) => {
            stats.malformed.add(1);
            return Due::Now(Outcome::Rejected(format!("no event in the JSON format: {error}").into()));
        }
    };
    stats.received.add(1);
    // Waits while the log is full: this client's other answers wait with it, and it is not read.
    let receipt = bus.publish(vec![envelope]).await.pop();
    receipt.map_or(Due::Now(Outcome::Undelivered("the bus gave no receipt".into())), Due::Later)
}

/// Waits for the oldest answer; for ever where none is due.
async fn first(due: Option<&Due>) -> Outcome {
    match due {
        Some(Due::Now(outcome)) => outcome.clone(),
        Some(Due::Later(receipt)) => receipt.delivered().await,
        None => pending().await,
    }
}

impl Connector for Server {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.serve(link))
    }

    fn ingress(&self) -> Guarantee {
        super::guarantee("answered when every route has it")
    }

    fn announce(&self) -> Option<Announcement> {
        let address = format!("pipe://{}", self.config.listen);
        let try_it = format!("nc {}", self.config.listen.replace(':', " "));
        Some(Announcement { address, try_it })
    }
}
