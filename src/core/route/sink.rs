//! What a route sends: rendered addresses, bus outputs and dead letters.

use std::sync::Arc;

use bytestring::ByteString;

use super::chain::LOOP_GUARD;
use super::{KeyAt, RouteSpec, Sink};
use crate::core::delivery::Reason;
use crate::core::envelope::{Cause, Change, Envelope, Key, Version};
use crate::core::state::version_of;
use crate::core::{Bus, Timestamp, Topic};

/// How types of the bus's own things begin.
const OWN: &str = "meshbus.dev/";
/// Longest text of `mbreason`, in characters.
const REASON_MAX: usize = 512;

impl Sink {
    /// The connector's name; `None` for the bus.
    pub fn connector(&self) -> Option<&ByteString> {
        match self {
            Self::Connector { name, .. } => Some(name),
            Self::Bus { .. } | Self::State { .. } => None,
        }
    }

    /// What `explain` calls a sink that is no connector.
    pub(super) fn word(&self) -> ByteString {
        ByteString::from_static(if matches!(self, Self::State { .. }) { "state" } else { "bus" })
    }

    /// Whether several deliveries of one key may be under way.
    pub(super) fn pipelined(&self) -> bool {
        match self {
            Self::Connector { target, .. } => target.pipelined,
            // The log keeps the order in which it is handed records.
            Self::Bus { .. } | Self::State { .. } => true,
        }
    }

    /// The address for an envelope.
    pub(super) fn render(&self, envelope: &Envelope, route: &str) -> Result<Option<ByteString>, Reason> {
        let template = match self {
            Self::Connector { target, .. } => target.address.as_ref(),
            Self::Bus { topic } | Self::State { topic, .. } => Some(topic),
        };
        template.map(|template| template.render(envelope, route)).transpose()
    }

    /// How `explain` and `graph` write it.
    pub fn text(&self) -> String {
        match self {
            Self::Connector { name, target, .. } => match &target.address {
                Some(address) => format!("{name} {}", address.text()),
                None => name.to_string(),
            },
            Self::Bus { topic } => format!("bus {}", topic.text()),
            Self::State { topic, .. } => format!("state {}", topic.text()),
        }
    }
}

/// The event that a bus output publishes: the envelope on another topic, no longer the state of a key.
pub(super) fn republished(envelope: &Envelope, topic: crate::core::Topic) -> Envelope {
    let mut envelope = envelope.clone();
    envelope.topic = topic;
    envelope.change = Change::Occurred;
    envelope
}

/// The change of state that a state output makes: of the key at `topic`, to the envelope's data; it goes with an envelope
/// that is a deletion, or without data. `None` where it is gone already.
///
/// # Errors
/// Says why no key of the bus's own lives there.
pub(super) fn retained(
    bus: &Bus,
    envelope: &Envelope,
    topic: Topic,
    key_at: KeyAt,
) -> Result<Option<Envelope>, Reason> {
    let Some(key) = key_at(&topic, Key::LOCAL) else {
        return Err(format!("no state lives at {topic}").into());
    };
    if key.scope != Key::LOCAL {
        return Err(format!("{topic} is of the scope {}, which the bus does not own", key.scope).into());
    }
    if topic.is_reserved() && key.type_url.starts_with(OWN) {
        return Err(format!("{topic} is what the bus says of itself").into());
    }
    if matches!(envelope.change, Change::Delete(..)) || envelope.data.is_empty() {
        let Some(held) = bus.get(&key) else { return Ok(None) };
        let (topic, version) = (held.envelope.topic.clone(), version_of(&held));
        return Ok(Some(guarded(Envelope::delete(topic, key, version, Cause::Deleted), envelope)));
    }
    let mut change = Envelope::put(topic, key, Version::default(), envelope.data.clone());
    change.datacontenttype.clone_from(&envelope.datacontenttype);
    change.time = Some(envelope.time.clone().unwrap_or_else(Timestamp::now));
    Ok(Some(guarded(change, envelope)))
}

/// A change with the origin and the hops of what it is made of, or buses that copy each other's state never end.
fn guarded(mut change: Envelope, of: &Envelope) -> Envelope {
    for name in LOOP_GUARD {
        if let Some(value) = of.extensions.get(name) {
            change.extensions.set(name, value.clone());
        }
    }
    change
}

/// The envelope with the reasons why it is dead.
pub(super) fn dead(envelope: &Envelope, spec: &RouteSpec, reason: &str, attempts: u32) -> Arc<Envelope> {
    let mut envelope = envelope.clone();
    // The reason may quote a peer: attributes hold no control characters.
    let reason: String =
        reason.chars().take(REASON_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let extensions = &mut envelope.extensions;
    extensions.set("mbroute", spec.name.clone());
    extensions.set("mbreason", reason);
    extensions.set("mbattempts", i32::try_from(attempts).unwrap_or(i32::MAX));
    Arc::new(envelope)
}
