//! The client role: sends what routes deliver and gives each delivery the server's answer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use meshbus::core::delivery::{Assurance, Delivery, Guarantee, Outcome};
use meshbus::core::{Error, ErrorKind};
use meshbus::transport::{Connector, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::codec::{self, ANSWER_MAX, Frame, Frames};
use super::config::ClientConfig;

/// Most events under way without an answer.
const WINDOW: usize = 256;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends to one server.
#[derive(Debug)]
pub(super) struct Client {
    config: ClientConfig,
}

impl Client {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { config }
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let unreachable = || Error::new(ErrorKind::Unreachable, &self.config.address);
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.config.address)).await {
            Ok(connected) => connected.map_err(|error| unreachable().because(error)),
            Err(late) => Err(unreachable().because(late)),
        }
    }

    /// One connection's life. Returning an error drops what is under way, unanswered: it comes again in the
    /// next run. The supervisor calls that, and drops this future when the grace period is over.
    async fn exchange(&self, link: &mut Link) -> Result<(), Error> {
        let (mut reader, mut writer) = self.connect().await?.into_split();
        link.stats.connected.add(1);
        link.ready.up();
        let error = |kind| Error::new(kind, &self.config.address);
        let lost = |cause: std::io::Error| error(ErrorKind::Disconnected).because(cause);
        let (mut frames, mut read, mut out) = (Frames::new(ANSWER_MAX), BytesMut::new(), BytesMut::new());
        let mut under_way: VecDeque<Delivery> = VecDeque::with_capacity(WINDOW);
        let mut inbox = Vec::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            let room = WINDOW - under_way.len();
            // Every branch can be dropped half-way without losing anything.
            tokio::select! {
                n = link.deliveries.recv(&mut inbox, room), if open && room > 0 && out.is_empty() => {
                    open = n > 0;
                    for delivery in inbox.drain(..) {
                        match codec::put_event(&mut out, &delivery.envelope) {
                            Ok(()) => under_way.push_back(delivery),
                            Err(reason) => delivery.answer(Outcome::Rejected(reason.into())),
                        }
                    }
                }
                written = writer.write_buf(&mut out), if !out.is_empty() => drop(written.map_err(lost)?),
                n = reader.read_buf(&mut read) => {
                    if n.map_err(lost)? == 0 {
                        return Err(error(ErrorKind::Disconnected).because("the server closed the connection"));
                    }
                    while let Some(frame) = frames.next(&mut read) {
                        let Frame::Whole(frame) = frame else {
                            return Err(error(ErrorKind::Protocol).because("an answer is too long"));
                        };
                        let (Some(outcome), Some(delivery)) = (codec::answer(&frame), under_way.pop_front()) else {
                            return Err(error(ErrorKind::Protocol).because("an answer to nothing, or none"));
                        };
                        if outcome == Outcome::Delivered {
                            link.stats.sent.add(1);
                        }
                        delivery.answer(outcome);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Connector for Client {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.exchange(link))
    }

    fn ingress(&self) -> Guarantee {
        let because = "a pipe client takes nothing in".into();
        Guarantee { assurance: Assurance::AtMostOnce, identity: false, because }
    }
}
