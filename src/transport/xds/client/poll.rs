//! Who is connected to a control plane of istio, which tells that only to who asks: a second stream on the connection asks at
//! an interval, and what differs from the answer before is put into the client's scope, or deleted.
//!
//! Where no answer comes nothing is known, so nothing changes: what was told last stays, as everything does that a client
//! has of a server that is away.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::xds::Node;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::calls::{Call, Calls};
use super::session::reading;
use crate::core::bus::Ingress;
use crate::core::state::Snapshot;
use crate::core::stats::ConnectorStats;
use crate::core::{Change, Envelope, Error, Key, Timestamp, Version};
use crate::schema::own;
use crate::transport::Link;
use crate::transport::xds::codec::debug::{CONNECTIONS_MAX, Connected, Connection, answer, question};
use crate::transport::xds::codec::named::digest_of;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::config::ClientConfig;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait after failures, each of which waits twice as long as the one before; a longer interval stays.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// Failures in a row after which also those are told that may pass: of connections that end.
const PASSING_MAX: u32 = 3;
/// Connections that are published at a time.
const BATCH: usize = 256;

/// What is kept from connection to connection.
#[derive(Debug, Default)]
pub(super) struct Polled {
    /// In a row.
    failures: u32,
    /// When it is asked again after a failure.
    until: Option<Instant>,
    /// Whether it was told that it fails.
    told: bool,
    /// Whether it was told that there are too many.
    too_many: bool,
}

/// Why no answer came.
struct Failure {
    reason: String,
    /// Whether the server says so, and will again.
    lasting: bool,
}

struct Poll<'a> {
    name: &'a ByteString,
    bus: &'a Ingress,
    stats: &'a ConnectorStats,
    interval: Duration,
    node: Node,
    calls: &'a Calls,
    polled: &'a mut Polled,
}

/// Polls on a connection for as long as it lasts, where the settings say so. Dropped at any time it deletes nothing that
/// an answer has not told to be gone.
pub(super) async fn run(
    config: &ClientConfig,
    calls: &Calls,
    link: &Link,
    polled: &mut Polled,
) -> Infallible {
    let Some(interval) = config.poll_debug else { return std::future::pending().await };
    // Features of the client change how resources are told, and this is to be told plainly.
    let node = Node { client_features: Vec::new(), ..config.node(link.bus.name()) };
    let (name, bus, stats) = (&link.name, &link.bus, &*link.stats);
    let mut poll = Poll { name, bus, stats, interval: interval.0, node, calls, polled };
    loop {
        if let Some(until) = poll.polled.until {
            sleep_until(until).await;
        }
        let failure = poll.stream().await;
        poll.failed(&failure);
    }
}

impl Poll<'_> {
    /// One stream, until something fails.
    async fn stream(&mut self) -> Failure {
        let mut call = self.calls.stream(Variant::Sotw);
        let mut node = Some(self.node.clone());
        loop {
            let asked = Instant::now();
            let answered = timeout(PATIENCE, ask(&mut call, node.take())).await;
            let message = match answered {
                Ok(Ok(message)) => message,
                Ok(Err(error)) => return ended(&error, call.responses.status()),
                Err(_) => {
                    let reason = format!("no answer in {} s", PATIENCE.as_secs());
                    return Failure { reason, lasting: true };
                }
            };
            match self.read(message).await {
                Ok(connected) => self.take(connected).await,
                Err(status) => return Failure { reason: status.to_string(), lasting: true },
            }
            self.succeeded();
            // Of what comes unasked nothing is known.
            while let Ok(message) = timeout_at(asked + self.interval, call.responses.next()).await {
                if let Err(error) = message {
                    return ended(&error, call.responses.status());
                }
            }
        }
    }

    async fn read(&self, message: Bytes) -> Result<Connected, Status> {
        let name = self.name.clone();
        reading(message.len(), move || answer(message, &name)).await
    }

    /// Puts what differs from the table.
    async fn take(&mut self, Connected { connections, malformed, left_out }: Connected) {
        self.stats.following.listed.add(1);
        self.stats.received.add(connections.len() as u64);
        self.stats.malformed.add(malformed as u64);
        self.stats.following.held_back.add(left_out as u64);
        if left_out > 0 && !std::mem::replace(&mut self.polled.too_many, true) {
            warn!(connector = %self.name, left_out, most = CONNECTIONS_MAX, "more are connected than are kept");
        }
        let snapshot = self.bus.snapshot();
        let mut resync = self.bus.resync(Some(ByteString::from_static(own::CONNECTION)));
        let mut connections = connections.into_iter().peekable();
        while connections.peek().is_some() {
            let mut batch = Vec::new();
            for connection in connections.by_ref().take(BATCH) {
                match self.change(&snapshot, connection) {
                    Ok(envelope) => batch.push(envelope),
                    Err(key) => resync.keep(key),
                }
            }
            for receipt in resync.put(batch).await {
                if let Err(refused) = receipt.stored() {
                    self.stats.following.held_back.add(1);
                    debug!(connector = %self.name, %refused, "a connection is not stored");
                }
            }
            // Others have their turn while many are put.
            tokio::task::yield_now().await;
        }
        resync.commit().await;
    }

    /// The change that a connection is to the table.
    ///
    /// # Errors
    /// Its key, where it is none, or cannot be one.
    fn change(&self, snapshot: &Snapshot, Connection { id, data }: Connection) -> Result<Envelope, Key> {
        let scope = self.bus.scope();
        let key = Key::new(scope.clone(), own::CONNECTION, id);
        let version: Version = digest_of(data.to_string().as_bytes()).into();
        let held = snapshot.get(&key);
        if held.is_some_and(|held| matches!(&held.envelope.change, Change::Put(_, at) if *at == version)) {
            return Err(key);
        }
        let Ok(topic) = own::foreign_connection_topic("xds", scope, &key.name) else {
            self.stats.malformed.add(1);
            return Err(key);
        };
        let mut envelope = own::put(topic, key.clone(), &data, Timestamp::now());
        envelope.change = Change::Put(key, version);
        Ok(envelope)
    }

    fn succeeded(&mut self) {
        if self.polled.told {
            info!(connector = %self.name, peer = self.calls.peer, "who is connected to the server is told again");
        }
        self.polled.failures = 0;
        self.polled.told = false;
        self.polled.until = None;
    }

    fn failed(&mut self, Failure { reason, lasting }: &Failure) {
        self.stats.following.gaps.add(1);
        let Polled { failures, until, told, .. } = &mut *self.polled;
        let wait = wait_after(self.interval, *failures);
        *failures = failures.saturating_add(1);
        *until = Some(Instant::now() + wait);
        let (peer, seconds) = (&self.calls.peer, wait.as_secs());
        if *told || !lasting && *failures < PASSING_MAX {
            debug!(connector = %self.name, peer, reason, seconds, "who is connected to the server is not told");
            return;
        }
        *told = true;
        warn!(
            connector = %self.name, peer, reason, seconds,
            "who is connected to the server is not told, and asked for again: istiod tells it to identities of its own \
             namespace only, a bus to whom may administer bus/connections/#; without poll_debug nobody asks"
        );
    }
}

/// Asks, and waits for the answer.
async fn ask(call: &mut Call, node: Option<Node>) -> Result<Bytes, Error> {
    // It fails where the stream has ended, which the responses tell.
    let _sent = call.requests.send(question(node)).await;
    call.responses.next().await
}

/// A stream that ended. Without a status, and with this one, it is the connection or the server that ends.
fn ended(error: &Error, status: Option<Code>) -> Failure {
    let lasting = !matches!(status, None | Some(Code::Ok | Code::Unavailable));
    Failure { reason: error.to_string(), lasting }
}

/// How long it is waited after a failure, before which there were so many.
fn wait_after(interval: Duration, failures: u32) -> Duration {
    let wait = interval.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    wait.min(WAIT_MAX.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_twice_as_long_up_to_a_bound_that_no_interval_goes_below() {
        let seconds = |interval, failures| wait_after(Duration::from_secs(interval), failures).as_secs();
        assert_eq!([0, 1, 2, 5, u32::MAX].map(|failures| seconds(10, failures)), [10, 20, 40, 300, 300]);
        assert_eq!([0, 1, 9].map(|failures| seconds(600, failures)), [600, 600, 600]);
    }
}
