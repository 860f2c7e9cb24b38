//! What a route sends: rendered addresses, bus outputs and dead letters.

use std::sync::Arc;

use bytestring::ByteString;

use super::{RouteSpec, Sink};
use crate::core::delivery::Reason;
use crate::core::envelope::{Change, Envelope};

/// Longest text of `mbreason`, in characters.
const REASON_MAX: usize = 512;

impl Sink {
    /// The connector's name; `None` for the bus.
    pub fn connector(&self) -> Option<&ByteString> {
        match self {
            Self::Connector { name, .. } => Some(name),
            Self::Bus { .. } => None,
        }
    }

    /// Whether several deliveries of one key may be under way.
    pub(super) fn pipelined(&self) -> bool {
        match self {
            Self::Connector { target, .. } => target.pipelined,
            // The log keeps the order in which it is handed records.
            Self::Bus { .. } => true,
        }
    }

    /// The address for an envelope.
    pub(super) fn render(&self, envelope: &Envelope, route: &str) -> Result<Option<ByteString>, Reason> {
        let template = match self {
            Self::Connector { target, .. } => target.address.as_ref(),
            Self::Bus { topic } => Some(topic),
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
