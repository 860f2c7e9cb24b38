//! Publications on their way to the broker, and the answers they wait for.
//!
//! What is not acknowledged outlives the connection: on a resumed session it is sent again with its packet
//! identifier and DUP, as MQTT-4.4.0-1 demands, else as a new publication; in both cases in the first order
//! and before anything new, so that first occurrences keep their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{PubAck, PubAckReason, PubRec, PubRecReason, PubRel, Publish};
use tracing::{debug, warn};

use super::super::codec;
use super::super::config::{Publication, Version};
use super::super::frame::{self, Packet};
use super::connection::{Connection, Limits};
use super::state::StateWrite;
use crate::core::delivery::{BEHIND, Delivery, Outcome, Reason};
use crate::core::stats::ConnectorStats;
use crate::core::{Envelope, Error};

/// Most deliveries taken from the mailbox at once.
pub(super) const BATCH: usize = 256;
/// Bytes in the output buffer above which nothing more is put there.
const OUTPUT_MAX: usize = 256 * 1024;
/// After so many connections lost without an answer to the oldest publication, it is taken for the cause.
const LOSSES_MAX: u8 = 5;
/// Most topic aliases used.
const ALIASES_MAX: u16 = 1024;

/// Everything on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    version: Version,
    /// Our own bound on publications without acknowledgement.
    own_limit: usize,
    /// That and the broker's.
    limit: usize,
    /// Whether topics are shortened by aliases.
    alias: bool,
    aliases: HashMap<Bytes, u16>,
    /// Taken, not sent yet.
    waiting: VecDeque<Work>,
    /// Sent with QoS 0, with the position in the stream at which each is out.
    unwritten: VecDeque<(u64, Delivery)>,
    /// By packet identifier, less one.
    slots: Vec<Slot>,
    free: VecDeque<u16>,
    /// To be sent again, before anything new.
    again: VecDeque<u16>,
    /// How many slots are in use.
    busy: usize,
    sent: u64,
    /// Whether the broker may hold a half-done QoS 2 exchange under identifiers we have not used yet.
    haunted: bool,
    stats: Arc<ConnectorStats>,
}

/// What is published: for a route, or as state.
#[derive(Debug)]
pub(super) enum Work {
    /// A route's delivery.
    Delivery(Delivery),
    /// A write of state this connector owns.
    State(Box<StateWrite>),
}

#[derive(Debug, Default)]
struct Slot {
    /// Whether the broker may hold a half-done QoS 2 exchange under this identifier.
    haunted: bool,
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    work: Work,
    /// Order of the first sending.
    order: u64,
    /// Whether PUBREC came and PUBREL went.
    released: bool,
    /// Connections lost while it was the oldest.
    losses: u8,
    /// Whether to set DUP when it is sent again.
    dup: bool,
}

impl Outgoing {
    /// With at most `in_flight` publications without acknowledgement.
    pub(super) fn new(version: Version, in_flight: u16, alias: bool, stats: Arc<ConnectorStats>) -> Self {
        Self {
            version,
            own_limit: in_flight.into(),
            limit: in_flight.into(),
            alias: alias && version == Version::V5,
            aliases: HashMap::new(),
            waiting: VecDeque::new(),
            unwritten: VecDeque::new(),
            slots: Vec::new(),
            free: VecDeque::new(),
            again: VecDeque::new(),
            busy: 0,
            sent: 0,
            haunted: true,
            stats,
        }
    }

    /// A connection is made: what was not acknowledged on the last one goes first.
    pub(super) fn resume(&mut self, connection: &Connection) {
        self.limit = self.own_limit.min(connection.limits.in_flight.into());
        self.aliases.clear();
        if !connection.session_present {
            self.haunted = false;
        }
        let mut unanswered: Vec<(u64, u16)> = Vec::with_capacity(self.busy);
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if !connection.session_present {
                slot.haunted = false;
            }
            if let Some(sent) = &mut slot.sent {
                sent.dup = connection.session_present;
                // Without its session the broker has forgotten what it had received only half.
                sent.released &= connection.session_present;
                unanswered.push((sent.order, at as u16 + 1));
            }
        }
        unanswered.sort_unstable();
        self.again = unanswered.into_iter().map(|(_, pkid)| pkid).collect();
    }

    /// The connection is lost: nothing is answered, all that is unanswered goes again.
    pub(super) fn lost(&mut self) {
        while let Some((_, delivery)) = self.unwritten.pop_back() {
            self.waiting.push_front(Work::Delivery(delivery));
        }
        if let Some(oldest) = self.oldest()
            && let Some(sent) = self.sent_mut(oldest)
        {
            sent.losses += 1;
            if sent.losses >= LOSSES_MAX {
                self.blame(
                    "the connection was lost 5 times with this the oldest unacknowledged publication",
                );
            }
        }
        self.again.clear();
    }

    /// The broker closed for a reason that only a publication can have given it: the oldest one's fault, since
    /// it answers in order. Sent again, it would close every connection.
    pub(super) fn blame(&mut self, reason: &str) {
        if let Some(oldest) = self.oldest() {
            self.abandon(oldest, Outcome::Rejected(reason.into()));
        }
    }

    /// How many deliveries may be taken from the mailbox now.
    pub(super) fn room(&self) -> usize {
        if self.waiting.is_empty() { BATCH } else { 0 }
    }

    /// Whether nothing waits and nothing is unanswered.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.busy == 0 && self.unwritten.is_empty()
    }

    /// Takes deliveries.
    pub(super) fn take(&mut self, deliveries: &mut Vec<Delivery>) {
        self.waiting.extend(deliveries.drain(..).map(Work::Delivery));
    }

    /// Takes a write of state.
    pub(super) fn write(&mut self, write: StateWrite) {
        self.waiting.push_back(Work::State(Box::new(write)));
    }

    /// Sends what may be sent now.
    pub(super) fn pump(&mut self, connection: &mut Connection) -> Result<(), Error> {
        while connection.backlog() < OUTPUT_MAX {
            // The broker may allow less than on the last connection.
            if !self.again.is_empty() && self.busy - self.again.len() >= self.limit {
                break;
            }
            if let Some(pkid) = self.again.pop_front() {
                self.send_again(pkid, connection)?;
                continue;
            }
            let Some(work) = self.waiting.pop_front() else { break };
            if work.is_recalled() {
                work.answer(Outcome::Undelivered(BEHIND.into()));
                continue;
            }
            let publish = match self.encode(&work, connection.limits) {
                Ok(publish) => publish,
                Err(reason) => {
                    work.answer(Outcome::Rejected(reason));
                    continue;
                }
            };
            if publish.qos == QoS::AtMostOnce {
                self.transmit(publish, connection)?;
                if let Work::Delivery(delivery) = work {
                    self.unwritten.push_back((connection.position(), delivery));
                }
                continue;
            }
            let Some(pkid) = self.allocate() else {
                self.waiting.push_front(work);
                break;
            };
            self.send_first(pkid, work, publish, connection)?;
        }
        Ok(())
    }

    /// So many bytes are out: publications with QoS 0 that end before are delivered.
    pub(super) fn written(&mut self, position: u64) {
        while self.unwritten.front().is_some_and(|(end, _)| *end <= position) {
            if let Some((_, delivery)) = self.unwritten.pop_front() {
                self.stats.sent.add(1);
                delivery.answer(Outcome::Delivered);
            }
        }
    }

    /// PUBACK. Returns the state that is confirmed by it.
    pub(super) fn puback(&mut self, ack: &PubAck) -> Option<Envelope> {
        let outcome = match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Outcome::Delivered,
            refused => {
                let said = ack.properties.as_ref().and_then(|p| p.reason_string.as_deref());
                Outcome::Rejected(explain("PUBACK", puback_code(refused), &format!("{refused:?}"), said))
            }
        };
        self.finish(ack.pkid, outcome)
    }

    /// PUBREC: half of QoS 2.
    pub(super) fn pubrec(&mut self, ack: &PubRec, connection: &mut Connection) -> Result<(), Error> {
        match ack.reason {
            PubRecReason::Success | PubRecReason::NoMatchingSubscribers => {
                if let Some(sent) = self.sent_mut(ack.pkid) {
                    sent.released = true;
                }
                // Also for one we do not know: PUBCOMP then frees it at the broker.
                connection.send(Packet::PubRel(PubRel::new(ack.pkid, None)))
            }
            refused => {
                let said = ack.properties.as_ref().and_then(|p| p.reason_string.as_deref());
                let reason = explain("PUBREC", pubrec_code(refused), &format!("{refused:?}"), said);
                drop(self.finish(ack.pkid, Outcome::Rejected(reason)));
                Ok(())
            }
        }
    }

    /// PUBCOMP: the end of QoS 2.
    pub(super) fn pubcomp(&mut self, pkid: u16) {
        // One that answers the PUBREL ahead of a first use finds a publication not yet released.
        if self.sent_mut(pkid).is_some_and(|sent| sent.released) {
            drop(self.finish(pkid, Outcome::Delivered));
        }
    }

    fn send_first(
        &mut self,
        pkid: u16,
        work: Work,
        mut publish: Publish,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        self.sent += 1;
        let order = self.sent;
        publish.pkid = pkid;
        let Some(slot) = self.slots.get_mut(usize::from(pkid) - 1) else { return Ok(()) };
        let exorcise = publish.qos == QoS::ExactlyOnce && std::mem::take(&mut slot.haunted);
        slot.sent = Some(Sent { work, order, released: false, losses: 0, dup: false });
        if exorcise {
            // A process before us may have died between PUBLISH and PUBREL under this identifier: the broker
            // would take ours for a repetition and drop it (MQTT-4.3.3-10). PUBREL first ends that exchange.
            connection.send(Packet::PubRel(PubRel::new(pkid, None)))?;
        }
        self.transmit(publish, connection)
    }

    fn send_again(&mut self, pkid: u16, connection: &mut Connection) -> Result<(), Error> {
        let version = self.version;
        let limits = connection.limits;
        let Some(sent) = self.sent_mut(pkid) else { return Ok(()) };
        if sent.released {
            return connection.send(Packet::PubRel(PubRel::new(pkid, None)));
        }
        if let Work::State(write) = &sent.work
            && write.is_given_up()
        {
            self.abandon(pkid, Outcome::Undelivered("nobody waits any more".into()));
            return Ok(());
        }
        if sent.work.is_recalled() {
            self.abandon(pkid, Outcome::Undelivered(BEHIND.into()));
            return Ok(());
        }
        let dup = sent.dup;
        match encode(&sent.work, version, limits) {
            Ok(mut publish) => {
                publish.pkid = pkid;
                publish.dup = dup;
                self.transmit(publish, connection)
            }
            Err(reason) => {
                self.abandon(pkid, Outcome::Rejected(reason));
                Ok(())
            }
        }
    }

    fn transmit(&mut self, mut publish: Publish, connection: &mut Connection) -> Result<(), Error> {
        if self.alias && connection.limits.aliases > 0 {
            self.shorten(&mut publish, connection.limits.aliases.min(ALIASES_MAX));
        }
        connection.send(Packet::Publish(publish))
    }

    fn shorten(&mut self, publish: &mut Publish, most: u16) {
        let properties = publish.properties.get_or_insert_default();
        if let Some(alias) = self.aliases.get(&publish.topic) {
            properties.topic_alias = Some(*alias);
            publish.topic = Bytes::new();
        } else if self.aliases.len() < usize::from(most) {
            let alias = self.aliases.len() as u16 + 1;
            self.aliases.insert(publish.topic.clone(), alias);
            properties.topic_alias = Some(alias);
        }
    }

    fn encode(&self, work: &Work, limits: Limits) -> Result<Publish, Reason> {
        let encoded = encode(work, self.version, limits);
        if let Ok(publish) = &encoded
            && frame::size(self.version, publish) > limits.packet
        {
            self.stats.oversize.add(1);
            let size = frame::size(self.version, publish);
            return Err(format!(
                "a packet of {size} bytes, more than the {} the broker takes",
                limits.packet
            )
            .into());
        }
        encoded
    }

    fn allocate(&mut self) -> Option<u16> {
        if self.busy >= self.limit {
            return None;
        }
        let pkid = self.free.pop_front().or_else(|| {
            let pkid = u16::try_from(self.slots.len() + 1).ok()?;
            self.slots.push(Slot { haunted: self.haunted, sent: None });
            Some(pkid)
        })?;
        self.busy += 1;
        Some(pkid)
    }

    /// Answers a publication in the broker's place, which may hold a half-done exchange under the identifier.
    fn abandon(&mut self, pkid: u16, outcome: Outcome) {
        if let Some(slot) = usize::from(pkid).checked_sub(1).and_then(|at| self.slots.get_mut(at)) {
            slot.haunted = true;
        }
        drop(self.finish(pkid, outcome));
    }

    /// Answers the publication under `pkid` and frees the identifier.
    fn finish(&mut self, pkid: u16, outcome: Outcome) -> Option<Envelope> {
        let slot = usize::from(pkid).checked_sub(1).and_then(|at| self.slots.get_mut(at));
        let Some(sent) = slot.and_then(|slot| slot.sent.take()) else {
            debug!(pkid, "acknowledgement of nothing");
            return None;
        };
        self.free.push_back(pkid);
        self.busy -= 1;
        match &outcome {
            Outcome::Rejected(reason) => warn!(pkid, %reason, "publication rejected"),
            Outcome::Undelivered(_) => {}
            Outcome::Delivered | Outcome::Filtered => self.stats.sent.add(1),
        }
        sent.work.answer(outcome)
    }

    fn sent_mut(&mut self, pkid: u16) -> Option<&mut Sent> {
        let at = usize::from(pkid).checked_sub(1)?;
        self.slots.get_mut(at)?.sent.as_mut()
    }

    /// The identifier of the publication that has waited longest for its answer.
    fn oldest(&self) -> Option<u16> {
        let sent =
            self.slots.iter().enumerate().filter_map(|(at, slot)| Some((slot.sent.as_ref()?.order, at)));
        sent.min().map(|(_, at)| at as u16 + 1)
    }
}

impl Work {
    /// Whether an earlier one of its key has failed, which it must not overtake.
    fn is_recalled(&self) -> bool {
        matches!(self, Self::Delivery(delivery) if delivery.is_recalled())
    }

    /// Gives the one answer. Returns the state that is confirmed by it.
    fn answer(self, outcome: Outcome) -> Option<Envelope> {
        match self {
            Self::Delivery(delivery) => {
                delivery.answer(outcome);
                None
            }
            Self::State(write) => write.answer(outcome),
        }
    }
}

fn encode(work: &Work, version: Version, limits: Limits) -> Result<Publish, Reason> {
    let publish = match work {
        Work::State(write) => write.publish().clone(),
        Work::Delivery(delivery) => {
            let publication = *delivery.options::<Publication>().ok_or("not an MQTT target")?;
            let topic = delivery.address.as_ref().ok_or("the target has no topic")?;
            codec::encode(&delivery.envelope, topic, publication, version)?
        }
    };
    if publish.retain && !limits.retain {
        return Err(ByteString::from_static("the broker retains nothing"));
    }
    if publish.qos > codec::qos(limits.qos) {
        return Err(format!("the broker takes at most QoS {}", limits.qos.number()).into());
    }
    Ok(publish)
}

fn explain(packet: &str, code: u8, name: &str, said: Option<&str>) -> Reason {
    let said = said.map(|text| format!(": {text}")).unwrap_or_default();
    format!("{packet} 0x{code:02x} {name}{said}").into()
}

fn puback_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

fn pubrec_code(reason: PubRecReason) -> u8 {
    match reason {
        PubRecReason::Success => 0,
        PubRecReason::NoMatchingSubscribers => 0x10,
        PubRecReason::UnspecifiedError => 0x80,
        PubRecReason::ImplementationSpecificError => 0x83,
        PubRecReason::NotAuthorized => 0x87,
        PubRecReason::TopicNameInvalid => 0x90,
        PubRecReason::PacketIdentifierInUse => 0x91,
        PubRecReason::QuotaExceeded => 0x97,
        PubRecReason::PayloadFormatInvalid => 0x99,
    }
}
