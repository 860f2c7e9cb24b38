//! Writes of state this connector owns: a retained message each, confirmed by its acknowledgement.
//!
//! MQTT knows no conditional write: a precondition is checked against what the bus has seen, and between
//! that and the broker whoever writes last wins.

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::oneshot;

use super::super::codec::{self, Origin};
use super::super::config::{Publication, Qos, Version};
use crate::core::bus::Ingress;
use crate::core::delivery::Outcome;
use crate::core::envelope::Version as StateVersion;
use crate::core::write::{Confirmed, Operation, Precondition, Write};
use crate::core::{Cause, Envelope, Key, Refused, Topic};
use crate::schema::cloudevents::ContentMode;

/// A write on its way to the broker.
#[derive(Debug)]
pub(super) struct StateWrite {
    publish: Publish,
    /// What the table holds once the broker has it: No Local keeps our own message from coming back.
    confirmed: Envelope,
    version: StateVersion,
    owner: bytestring::ByteString,
    answer: oneshot::Sender<Result<Confirmed, Refused>>,
}

impl StateWrite {
    /// The retained message that a write asks for; `None` when it is answered already.
    pub(super) fn prepare(
        write: Write,
        origin: &mut Origin,
        bus: &Ingress,
        version: Version,
    ) -> Option<Self> {
        let Write { key, operation, precondition, dry_run, answer, .. } = write;
        let owner = bus.connector().clone();
        let message = check(bus, &key, &operation, &precondition)
            .and_then(|()| message(&key, operation, origin, version));
        match message {
            Ok((_, _, state)) if dry_run => {
                // Whoever asked may have gone.
                drop(answer.send(Ok(state.into())));
                None
            }
            Ok((publish, confirmed, state)) => {
                Some(Self { publish, confirmed, version: state, owner, answer })
            }
            Err(refused) => {
                drop(answer.send(Err(refused)));
                None
            }
        }
    }

    /// The message.
    pub(super) fn publish(&self) -> &Publish {
        &self.publish
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }

    /// Answers the write. Returns what the table holds now.
    pub(super) fn answer(self, outcome: Outcome) -> Option<Envelope> {
        let refused = match outcome {
            Outcome::Delivered | Outcome::Filtered => {
                drop(self.answer.send(Ok(self.version.into())));
                return Some(self.confirmed);
            }
            Outcome::Rejected(message) => Refused::Owner {
                owner: self.owner,
                reason: "Rejected".into(),
                status: if message.contains("NotAuthorized") { 403 } else { 400 },
                message,
                body: Bytes::new(),
            },
            Outcome::Undelivered(_) => Refused::Timeout { owner: self.owner },
        };
        drop(self.answer.send(Err(refused)));
        None
    }
}

fn check(
    bus: &Ingress,
    key: &Key,
    operation: &Operation,
    precondition: &Precondition,
) -> Result<(), Refused> {
    if matches!(operation, Operation::Delete) && bus.get(key).is_none() {
        return Err(Refused::NotFound);
    }
    if *precondition == Precondition::Any {
        return Ok(());
    }
    bus.snapshot().check(key, precondition)
}

fn message(
    key: &Key,
    operation: Operation,
    origin: &mut Origin,
    version: Version,
) -> Result<(Publish, Envelope, StateVersion), Refused> {
    if key.type_url != Key::VALUE {
        return Err(Refused::Invalid(format!("MQTT holds {} only, not {}", Key::VALUE, key.type_url)));
    }
    codec::check_topic(&key.name).map_err(|e| Refused::Invalid(e.to_string()))?;
    let topic = Topic::parse(key.name.clone()).map_err(|e| Refused::Invalid(e.to_string()))?;
    let envelope = match operation {
        Operation::Put(envelope) => {
            let mut envelope = *envelope;
            // Read back from the broker after a restart, it must not look as if it had been here before.
            for mark in ["mborigin", "mbhops"] {
                drop(envelope.extensions.remove(mark));
            }
            envelope
        }
        Operation::Delete => Envelope::delete(topic, key.clone(), "", Cause::Deleted),
        Operation::Patch { media_type, .. } => return Err(Refused::UnsupportedMediaType(media_type)),
    };
    // 3.1.1 has no place for attributes, and a device that reads state expects the value alone.
    let mode = if version == Version::V5 { ContentMode::Binary } else { ContentMode::Data };
    let publication = Publication { qos: Qos::AtLeastOnce, retain: true, mode };
    let publish = codec::encode(&envelope, &key.name, publication, version)
        .map_err(|reason| Refused::Invalid(reason.to_string()))?;
    let deleted = publish.payload.is_empty();
    let state = if deleted { StateVersion::new() } else { codec::state_version(&publish) };
    let mut back = publish.clone();
    back.payload = Bytes::copy_from_slice(&back.payload);
    let confirmed = codec::decode(back, origin, true).map_err(|e| Refused::Invalid(e.to_string()))?;
    Ok((publish, confirmed, state))
}
