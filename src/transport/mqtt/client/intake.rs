//! Publications on their way into the bus, and the acknowledgements they wait for.
//!
//! A window in order of arrival: what came is published to the bus in batches, and acknowledged to the broker
//! from the front (MQTT-4.6.0-2) once its receipt says delivered. The window is the Receive Maximum, so an
//! MQTT 5 broker never sends more than fits. What does not fit all the same (QoS 0; a 3.1.1 broker with a
//! larger window of its own) first stops the reading for [`PATIENCE`]; then, since answers to pings and to our
//! own publications wait behind it, QoS 0 is dropped and counted, and QoS 1 and 2 are left unacknowledged
//! until the window is empty and a new connection makes the broker send them again, in order.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{PubAck, PubComp, PubRec, Publish};
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;
use tracing::{debug, warn};

use super::super::codec::{self, Origin};
use super::super::config::{Plan, Retained};
use super::super::frame::Packet;
use super::connection::Connection;
use crate::core::bus::Ingress;
use crate::core::delivery::Outcome;
use crate::core::stats::ConnectorStats;
use crate::core::{Envelope, Error, Receipt, Refused};

/// Most events given to the bus at once, and most that wait for it without a window of the broker's.
const BATCH: usize = 256;
/// How long reading stops for a bus that takes nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How often an event the bus could not deliver is published again before the broker is asked to.
const TRIES: u32 = 5;
/// The first wait before that; it doubles.
const RETRY: Duration = Duration::from_millis(100);

/// Everything on its way in.
pub(super) struct Intake {
    bus: Ingress,
    origin: Origin,
    stats: Arc<ConnectorStats>,
    /// Filters without their share group, and what a retained message is there.
    filters: Vec<(String, Retained)>,
    /// Most QoS 1 and 2 publications without acknowledgement.
    limit: usize,
    /// Whether the broker forgets us with the connection.
    forgets: bool,
    /// In order of arrival. Entry `i` has number `popped + i`.
    window: VecDeque<Taken>,
    popped: u64,
    /// Number of the first entry not given to the bus.
    next: u64,
    /// How many entries the broker waits for.
    unacknowledged: usize,
    /// Numbers of the entries that the publication under way is about.
    flight: Option<std::ops::Range<u64>>,
    publishing: ReusableBoxFuture<'static, Vec<Receipt>>,
    /// QoS 2 publications that are answered with PUBREC and not yet released.
    released: HashSet<u16>,
    /// What did not fit, and since when it waits.
    held: Option<(Publish, Instant)>,
    /// Whether what does not fit is dropped at once.
    overflow: bool,
    /// Whether QoS 1 and 2 wait for the next connection.
    gap: bool,
    /// Whether nothing more is taken in.
    closed: bool,
    /// Whether a message came that no subscription asks for.
    stray: bool,
}

#[derive(Debug)]
struct Taken {
    pkid: u16,
    qos: QoS,
    /// For a repetition; `None` where there is nothing to publish.
    envelope: Option<Envelope>,
    /// Whether it is a dead letter already.
    dead: bool,
    tries: u32,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    /// Not given to the bus, or the bus has not taken it yet.
    Waiting,
    /// Taken.
    Published(Receipt),
    /// To be published again then.
    Again(Instant),
    /// Done.
    Settled,
}

impl Intake {
    /// For what comes in by the connector that `bus` belongs to.
    pub(super) fn new(bus: Ingress, origin: Origin, stats: Arc<ConnectorStats>, plan: &Plan) -> Self {
        let subscriptions = &plan.settings.subscribe;
        Self {
            bus,
            origin,
            stats,
            filters: subscriptions.iter().map(|s| (s.topic.clone(), s.retained)).collect(),
            limit: plan.settings.in_flight.into(),
            forgets: plan.clean_start,
            window: VecDeque::new(),
            popped: 0,
            next: 0,
            unacknowledged: 0,
            flight: None,
            publishing: ReusableBoxFuture::new(std::future::pending()),
            released: HashSet::new(),
            held: None,
            overflow: false,
            gap: false,
            closed: false,
            stray: false,
        }
    }

    /// What decoding knows.
    pub(super) fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    /// A connection is made.
    pub(super) fn resume(&mut self, connection: &Connection) {
        if !connection.session_present {
            self.released.clear();
        }
    }

    /// The connection is lost: the broker sends again what is not acknowledged. What it does not send again
    /// and the bus does not have yet stays.
    pub(super) fn lost(&mut self) {
        self.flight = None;
        self.publishing.set(std::future::pending());
        let given = (self.next - self.popped) as usize;
        self.window.drain(..given.min(self.window.len()));
        self.window.retain(|taken| taken.qos == QoS::AtMostOnce);
        self.popped = 0;
        self.next = 0;
        self.unacknowledged = 0;
        (self.held, self.overflow, self.gap) = (None, false, false);
    }

    /// Takes nothing more in.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.held = None;
    }

    /// Whether all that was taken in is settled.
    pub(super) fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    /// Whether reading has stopped for a publication that does not fit; it is dropped at this time.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, since)| *since + PATIENCE)
    }

    /// When the front is to be published again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.window.front()?.fate {
            Fate::Again(at) if self.flight.is_none() => Some(at),
            _ => None,
        }
    }

    /// Tries again to fit what is held in; whether reading may go on.
    pub(super) fn refit(&mut self) -> bool {
        match self.held.take() {
            None => true,
            Some((publish, since)) => match self.offer(publish) {
                None => true,
                Some(publish) => {
                    self.held = Some((publish, since));
                    false
                }
            },
        }
    }

    /// The patience is over: see the module.
    pub(super) fn give_way(&mut self) {
        let Some((publish, _)) = self.held.take() else { return };
        if publish.qos == QoS::AtMostOnce {
            warn!("bus blocked: dropping messages with quality of service 0");
            self.overflow = true;
            self.stats.lost.add(1);
        } else {
            warn!(
                "window full: leaving messages to the next connection; raise in_flight above the broker's"
            );
            self.gap = true;
        }
    }

    /// Takes a publication in; `false` when it does not fit and is held: read on when [`refit`](Self::refit)
    /// says so.
    pub(super) fn accept(&mut self, publish: Publish) -> bool {
        self.held = self.offer(publish).map(|publish| (publish, Instant::now()));
        self.held.is_none()
    }

    /// Takes a publication in, or gives it back when it does not fit.
    fn offer(&mut self, publish: Publish) -> Option<Publish> {
        let sure = publish.qos != QoS::AtMostOnce;
        if self.closed || (self.gap && sure) {
            // Without a session there is no next time.
            self.stats.lost.add(u64::from(self.forgets && !self.closed));
            return None;
        }
        let waiting = self.window.len() - (self.next - self.popped) as usize;
        let fits = if sure { self.unacknowledged < self.limit } else { waiting < BATCH };
        if !fits && !sure && self.overflow {
            self.stats.lost.add(1);
            return None;
        }
        if !fits {
            return Some(publish);
        }
        self.overflow = false;
        let (pkid, qos) = (publish.pkid, publish.qos);
        if qos == QoS::ExactlyOnce && self.released.contains(&pkid) {
            // A repetition of what the bus has: only the answer was lost.
            self.push(pkid, qos, None, false);
            return None;
        }
        let (envelope, dead) = self.decode(publish);
        self.push(pkid, qos, envelope, dead);
        None
    }

    fn decode(&mut self, publish: Publish) -> (Option<Envelope>, bool) {
        let (topic, payload, retain) = (publish.topic.clone(), publish.payload.clone(), publish.retain);
        let state = match self.meaning(&topic) {
            None => {
                if !std::mem::replace(&mut self.stray, true) {
                    let topic = String::from_utf8_lossy(&topic);
                    warn!(%topic, "message of a subscription from an earlier session: acknowledged and dropped");
                }
                return (None, false);
            }
            Some(Retained::Ignore) if retain => return (None, false),
            Some(Retained::State) => retain,
            Some(_) => false,
        };
        match codec::decode(publish, &mut self.origin, state) {
            Ok(envelope) => (Some(envelope), false),
            Err(error) => {
                self.stats.malformed.add(1);
                debug!(topic = %String::from_utf8_lossy(&topic), %error, "message not understood");
                (Some(codec::dead_letter(&mut self.origin, &topic, payload, &error.to_string())), true)
            }
        }
    }

    /// A publication larger than allowed came, and was thrown away.
    pub(super) fn oversize(&mut self, topic: &Bytes, qos: QoS, pkid: u16, size: usize) {
        self.stats.oversize.add(1);
        if self.closed || (self.gap && qos != QoS::AtMostOnce) {
            return;
        }
        let reason = format!("a packet of {size} bytes is larger than max_packet_size");
        let letter = codec::dead_letter(&mut self.origin, topic, Bytes::new(), &reason);
        self.push(pkid, qos, Some(letter), true);
    }

    /// Publishes state the broker has confirmed.
    pub(super) fn confirmed(&mut self, envelope: Envelope) {
        self.push(0, QoS::AtMostOnce, Some(envelope), false);
    }

    /// PUBREL: the broker will not send it again.
    pub(super) fn pubrel(&mut self, pkid: u16, connection: &mut Connection) -> Result<(), Error> {
        self.released.remove(&pkid);
        // Also for one we do not know: a process before us may have answered it.
        connection.send(Packet::PubComp(PubComp::new(pkid, None)))
    }

    /// Gives the bus what waits, when it is not busy with the last batch.
    pub(super) fn publish(&mut self) {
        if self.flight.is_some() {
            return;
        }
        let now = Instant::now();
        let again =
            self.window.front_mut().filter(|front| matches!(front.fate, Fate::Again(at) if at <= now));
        let batch: Vec<Envelope> = if let Some(front) = again {
            front.fate = Fate::Waiting;
            self.flight = Some(self.popped..self.popped + 1);
            front.envelope.iter().cloned().collect()
        } else {
            let first = (self.next - self.popped) as usize;
            let mut batch = Vec::with_capacity((self.window.len() - first).min(BATCH));
            let start = self.next;
            for taken in self.window.iter_mut().skip(first) {
                if batch.len() == BATCH {
                    break;
                }
                self.next += 1;
                match taken.qos {
                    QoS::AtMostOnce => batch.extend(taken.envelope.take()),
                    _ => batch.extend(taken.envelope.clone()),
                }
            }
            self.flight = (!batch.is_empty()).then_some(start..self.next);
            batch
        };
        if self.flight.is_some() {
            let bus = self.bus.clone();
            self.publishing.set(async move { bus.publish(batch).await });
        }
    }

    /// Waits until the bus has taken the batch, or the front is settled. Cancel safe.
    pub(super) async fn progress(&mut self) {
        let front = match self.window.front().map(|front| &front.fate) {
            Some(Fate::Published(receipt)) => Some(receipt),
            _ => None,
        };
        let settled = async {
            match front {
                Some(receipt) => drop(receipt.delivered().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            receipts = self.publishing.get_pin(), if self.flight.is_some() => self.published(receipts),
            () = settled => {}
        }
    }

    fn published(&mut self, receipts: Vec<Receipt>) {
        let Some(flight) = self.flight.take() else { return };
        self.stats.received.add(receipts.len() as u64);
        // What needed no publication may be acknowledged and gone by now; it has no receipt either.
        let start = flight.start.max(self.popped) - self.popped;
        let end = flight.end.max(self.popped) - self.popped;
        let mut receipts = receipts.into_iter();
        for taken in self.window.iter_mut().take(end as usize).skip(start as usize) {
            if matches!(taken.fate, Fate::Settled) {
                continue;
            }
            match receipts.next() {
                Some(receipt) if taken.qos == QoS::AtMostOnce => {
                    // Nobody waits for its fate.
                    self.stats.lost.add(u64::from(receipt.stored().is_err()));
                    taken.fate = Fate::Settled;
                }
                Some(receipt) => taken.fate = Fate::Published(receipt),
                None => taken.fate = Fate::Again(Instant::now()),
            }
        }
    }

    /// Acknowledges from the front all that is settled.
    pub(super) fn settle(&mut self, connection: &mut Connection) -> Result<(), Error> {
        while let Some(front) = self.window.front_mut() {
            let outcome = match &front.fate {
                Fate::Settled => Some(Outcome::Delivered),
                Fate::Published(receipt) => match (receipt.try_delivered(), receipt.stored()) {
                    (Some(Outcome::Rejected(_)), Err(refused @ Refused::Closed)) => {
                        Some(Outcome::Undelivered(refused.to_string().into()))
                    }
                    (Some(Outcome::Rejected(reason)), Err(_)) if front.dead => {
                        Some(Outcome::Undelivered(reason))
                    }
                    (Some(Outcome::Rejected(reason)), Err(_)) => {
                        self.bury(&reason);
                        break;
                    }
                    // Not stored and yet no failure: it has been on this bus before, or deletes what is gone.
                    (outcome, _) => outcome,
                },
                Fate::Waiting | Fate::Again(_) => None,
            };
            match outcome {
                None => break,
                Some(Outcome::Undelivered(reason)) if self.closed => {
                    debug!(%reason, "leaving what was taken in to the next session");
                    self.abandon();
                    break;
                }
                Some(Outcome::Undelivered(reason)) => {
                    front.tries += 1;
                    if front.tries >= TRIES {
                        let reason = format!("the bus cannot deliver what comes: {reason}");
                        return Err(connection.disconnected(reason));
                    }
                    front.fate = Fate::Again(Instant::now() + RETRY * 2_u32.pow(front.tries - 1));
                    break;
                }
                Some(_) => self.acknowledge(connection)?,
            }
        }
        if self.gap && self.unacknowledged == 0 {
            return Err(
                connection.disconnected("window overrun: asking the broker to send again what did not fit")
            );
        }
        Ok(())
    }

    /// The bus refused the front for good: its dead letter takes its place.
    fn bury(&mut self, reason: &str) {
        let Some(front) = self.window.front_mut() else { return };
        let Some(envelope) = front.envelope.take() else { return };
        warn!(topic = %envelope.topic, %reason, "the bus refused a message");
        let topic = envelope.topic.text().as_bytes();
        front.envelope = Some(codec::dead_letter(&mut self.origin, topic, envelope.data.clone(), reason));
        front.dead = true;
        front.fate = Fate::Again(Instant::now());
    }

    fn acknowledge(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let Some(taken) = self.window.pop_front() else { return Ok(()) };
        self.popped += 1;
        self.next = self.next.max(self.popped);
        match taken.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => {
                self.unacknowledged -= 1;
                connection.send(Packet::PubAck(PubAck::new(taken.pkid, None)))
            }
            QoS::ExactlyOnce => {
                self.unacknowledged -= 1;
                self.released.insert(taken.pkid);
                connection.send(Packet::PubRec(PubRec::new(taken.pkid, None)))
            }
        }
    }

    fn abandon(&mut self) {
        self.window.clear();
        self.flight = None;
        self.unacknowledged = 0;
        (self.popped, self.next) = (0, 0);
    }

    fn push(&mut self, pkid: u16, qos: QoS, envelope: Option<Envelope>, dead: bool) {
        let fate = if envelope.is_none() { Fate::Settled } else { Fate::Waiting };
        self.unacknowledged += usize::from(qos != QoS::AtMostOnce);
        self.window.push_back(Taken { pkid, qos, envelope, dead, tries: 0, fate });
    }

    /// What a retained message to `topic` is; `None` where no subscription asks for the topic.
    fn meaning(&self, topic: &[u8]) -> Option<Retained> {
        let Ok(topic) = std::str::from_utf8(topic) else { return Some(Retained::Event) };
        self.filters.iter().find(|(filter, _)| codec::matches(filter, topic)).map(|(_, retained)| *retained)
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake")
            .field("unacknowledged", &self.unacknowledged)
            .field("gap", &self.gap)
            .finish_non_exhaustive()
    }
}
