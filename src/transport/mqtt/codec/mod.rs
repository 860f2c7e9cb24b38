//! MQTT messages and envelopes (CloudEvents MQTT protocol binding 1.0.2, MQTT 5.0 and 3.1.1).
//!
//! | MQTT | envelope |
//! |---|---|
//! | topic name | topic, verbatim |
//! | MQTT 5 user properties with `specversion`, or with `id`, `source` and `type` | binary mode: each is an attribute, without prefix; of duplicates the last counts, names no attribute can have are left out |
//! | MQTT 5 content type `application/cloudevents+json` (or `+protobuf`) | structured mode |
//! | no properties, payload a JSON object with `specversion` | structured mode; all that 3.1.1 has |
//! | anything else | an event of its own: generated `id`, source `//mqtt/<connector>`, type `dev.meshbus.message.v1`; user properties that can be extensions are kept |
//! | content type | `datacontenttype` |
//! | payload | data |
//! | retain flag, where the subscription takes it for state | `Put` of (scope, `meshbus.dev/v1/Value`, topic), version = hash of properties and payload; an empty payload is `Delete` |
//! | message expiry, response topic, correlation data, payload format indicator | not mapped; nothing is ever published to a response topic |

use std::fmt::Write as _;

use bytes::Bytes;
use bytestring::ByteString;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use sha2::{Digest, Sha256};

use super::config::{Publication, Qos, Version};
use crate::core::delivery::Reason;
use crate::core::envelope::check_name;
use crate::core::topic::InvalidTopic;
use crate::core::{Cause, Change, DecodeError, Envelope, Key, Topic};
use crate::schema::cloudevents::{
    ContentMode, EXTENSIONS_MAX, for_each_attribute, json, media, protobuf, set_attribute,
};

/// Type of a message that was no CloudEvent.
pub(super) const MESSAGE_TYPE: &str = "dev.meshbus.message.v1";
/// Most bytes of a string in MQTT: its length is a 16-bit number.
const STRING_MAX: usize = 65_535;

/// What decoding needs to know of the connector, and its source of identifiers.
#[derive(Debug)]
pub(super) struct Origin {
    source: ByteString,
    scope: ByteString,
    dead: Topic,
    ids: Ids,
}

/// Unique identifiers for messages that have none: random for each run, counted within.
#[derive(Debug)]
struct Ids {
    prefix: String,
    next: u64,
}

impl Origin {
    /// For messages that come in by `connector` and whose state is in `scope`.
    ///
    /// # Errors
    /// When the connector's name is too long for a topic.
    pub(super) fn new(connector: &str, scope: ByteString) -> Result<Self, InvalidTopic> {
        let prefix = format!("{:016x}", fastrand::u64(..));
        Ok(Self {
            source: format!("//mqtt/{connector}").into(),
            scope,
            dead: Topic::from_tokens(["dead", connector])?,
            ids: Ids { prefix, next: 0 },
        })
    }

    fn id(&mut self) -> ByteString {
        let Ids { prefix, next } = &mut self.ids;
        *next += 1;
        let mut id = String::with_capacity(32);
        // Writing to a String cannot fail.
        let _infallible = write!(id, "{prefix}-{next}");
        id.into()
    }
}

/// Reads a message; `state` says that its topic names a key.
///
/// # Errors
/// When the topic is none of ours, or a CloudEvent breaks the rules of its context or its JSON.
pub(super) fn decode(publish: Publish, origin: &mut Origin, state: bool) -> Result<Envelope, DecodeError> {
    let topic = decode_topic(&publish.topic)?;
    let change = state.then(|| decode_change(&publish, &topic, origin));
    let properties = publish.properties.unwrap_or_default();
    let mut envelope = if change.as_ref().is_some_and(|change| matches!(change, Change::Delete(..))) {
        // Nothing can be structured in an empty payload.
        decode_binary(publish.payload, properties, topic)?
    } else {
        match properties.content_type.as_deref() {
            Some(declared) if media::is_cloudevents(declared) => {
                decode_structured(declared, &publish.payload, topic)?
            }
            None if properties.user_properties.is_empty() => match sniff(&publish.payload, &topic) {
                Some(envelope) => envelope,
                None => decode_binary(publish.payload, properties, topic)?,
            },
            _ => decode_binary(publish.payload, properties, topic)?,
        }
    };
    if let Some(change) = change {
        envelope.change = change;
        // State lives long: it must not hold on to the read buffer it was cut from.
        envelope.data = Bytes::copy_from_slice(&envelope.data);
    } else if envelope.id.is_empty() && envelope.source.is_empty() && envelope.kind.is_empty() {
        envelope.id = origin.id();
        envelope.source = origin.source.clone();
        envelope.kind = ByteString::from_static(MESSAGE_TYPE);
    }
    envelope.validate()?;
    Ok(envelope)
}

/// The event that stands for a message that could not be read, or that the bus refused: it goes to
/// `dead/<connector>`.
pub(super) fn dead_letter(origin: &mut Origin, topic: &[u8], data: Bytes, reason: &str) -> Envelope {
    let (dead, source) = (origin.dead.clone(), origin.source.clone());
    let mut envelope = Envelope::event(dead, origin.id(), source, MESSAGE_TYPE);
    let subject = printable(&String::from_utf8_lossy(topic));
    envelope.subject = (!subject.is_empty()).then(|| subject.into());
    envelope.extensions.set("mbreason", printable(reason));
    envelope.data = data;
    envelope
}

/// Writes an envelope as a message to `topic`. The packet identifier is set when it is sent.
///
/// # Errors
/// Says what the message cannot carry; sent all the same, it would end the connection, or not be this event.
pub(super) fn encode(
    envelope: &Envelope,
    topic: &ByteString,
    publication: Publication,
    version: Version,
) -> Result<Publish, Reason> {
    check_topic(topic).map_err(|e| Reason::from(e.to_string()))?;
    let mut publish = Publish {
        qos: qos(publication.qos),
        retain: publication.retain,
        topic: topic.as_bytes().clone(),
        ..Publish::default()
    };
    let deleted = matches!(envelope.change, Change::Delete(..));
    // Without the required attributes there is no event, only data.
    let mode = if envelope.id.is_empty() { ContentMode::Data } else { publication.mode };
    let mut properties = PublishProperties::default();
    match mode {
        _ if deleted && publication.retain => {
            // Only an empty payload clears what the broker retains; who listens still learns what went.
            if mode == ContentMode::Binary {
                encode_attributes(envelope, &mut properties)?;
            }
        }
        ContentMode::Structured => {
            publish.payload = json::encode(envelope).into();
            properties.content_type = Some(media::JSON.to_owned());
        }
        ContentMode::Binary => {
            encode_attributes(envelope, &mut properties)?;
            publish.payload = envelope.data.clone();
        }
        ContentMode::Data => {
            properties.content_type = envelope.datacontenttype.as_deref().map(str::to_owned);
            publish.payload = envelope.data.clone();
        }
    }
    if properties.content_type.as_ref().is_some_and(|media| media.len() > STRING_MAX) {
        return Err(too_long("datacontenttype"));
    }
    if publish.payload.is_empty() && publication.retain && !deleted {
        return Err(
            "an empty retained message deletes what the broker retains: use content_mode: structured"
                .into(),
        );
    }
    if version == Version::V5 {
        publish.properties = Some(properties);
    }
    Ok(publish)
}

/// The version of the state that a message carries: a hash of all that is kept of it.
pub(super) fn state_version(publish: &Publish) -> ByteString {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    // No properties and empty ones are the same message.
    let properties = publish.properties.as_ref();
    part(properties.and_then(|p| p.content_type.as_deref()).unwrap_or_default().as_bytes());
    for (name, value) in properties.map(|p| p.user_properties.as_slice()).unwrap_or_default() {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(&publish.payload);
    let digest = hash.finalize();
    data_encoding::HEXLOWER.encode(digest.get(..16).unwrap_or_default()).into()
}

/// Whether a broker takes a message to `topic`: a wildcard, a control character or a topic of the broker's
/// own ends the connection at most.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check_topic(topic: &str) -> Result<(), InvalidTopic> {
    if topic.starts_with('$') {
        return Err(InvalidTopic::new(
            topic,
            "is the broker's own: a topic to publish to does not begin with $",
        ));
    }
    // MQTT-1.5.4: what a receiver may take for malformed, and Mosquitto does.
    let malformed = |c: char| c.is_control() || is_noncharacter(c);
    if !topic.is_ascii() && topic.contains(malformed) {
        return Err(InvalidTopic::new(
            topic,
            "is no topic: it holds a control character or a non-character",
        ));
    }
    Topic::parse(topic).map(drop)
}

/// Whether `topic` matches `filter` (MQTT 5 section 4.7); wildcards do not reach a first level with `$`.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// MQTT's own type.
pub(super) fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// The topic is copied: it lives on in caches, and must not hold on to the read buffer it was cut from.
fn decode_topic(topic: &Bytes) -> Result<Topic, DecodeError> {
    let text = std::str::from_utf8(topic).map_err(|_| DecodeError::new("the topic is not UTF-8"))?;
    Topic::parse(text).map_err(|e| DecodeError::new(e.to_string()))
}

fn decode_change(publish: &Publish, topic: &Topic, origin: &Origin) -> Change {
    let key = Key::new(origin.scope.clone(), ByteString::from_static(Key::VALUE), topic.text().clone());
    if publish.payload.is_empty() {
        Change::Delete(key, ByteString::new(), Cause::Deleted)
    } else {
        Change::Put(key, state_version(publish))
    }
}

fn decode_structured(declared: &str, payload: &Bytes, topic: Topic) -> Result<Envelope, DecodeError> {
    if media::is_cloudevents_json(declared) {
        json::decode(payload, topic)
    } else if media::is_cloudevents_protobuf(declared) {
        protobuf::decode(payload, topic)
    } else {
        let declared: String = declared.chars().take(80).collect();
        Err(DecodeError::new(format!("content type {declared:?} is not supported: use {}", media::JSON)))
    }
}

/// A structured event without a content type: a JSON object that has `specversion`.
fn sniff(payload: &Bytes, topic: &Topic) -> Option<Envelope> {
    let text = payload.trim_ascii_start();
    let field = b"\"specversion\"";
    if text.first() != Some(&b'{') || !text.windows(field.len()).any(|window| window == field) {
        return None;
    }
    // What only looks like an event is data like any other.
    json::decode(payload, topic.clone()).ok()
}

/// Binary mode, and messages that are no events: those leave `id`, `source` and `type` empty.
fn decode_binary(
    payload: Bytes,
    properties: PublishProperties,
    topic: Topic,
) -> Result<Envelope, DecodeError> {
    let mut envelope = Envelope::event(topic, "", "", "");
    envelope.data = payload;
    let user = properties.user_properties;
    let has = |wanted: &str| user.iter().any(|(name, _)| name == wanted);
    if has("specversion") || (has("id") && has("source") && has("type")) {
        envelope.extensions.reserve(user.len().saturating_sub(4).min(EXTENSIONS_MAX));
        for (name, value) in user {
            if is_attribute(&name) {
                set_attribute(&mut envelope, &name, value.into())?;
            }
        }
        for (name, value) in [("id", &envelope.id), ("source", &envelope.source), ("type", &envelope.kind)]
        {
            if value.is_empty() {
                return Err(DecodeError::new(format!("the event has no {name}")));
            }
        }
    } else {
        // A CloudEvent with more would be an error; here they are somebody's notes.
        for (name, value) in user.into_iter().take(EXTENSIONS_MAX) {
            if check_name(&name).is_ok() && !value.contains(|c: char| c.is_control() || is_noncharacter(c))
            {
                envelope.extensions.set(name, ByteString::from(value));
            }
        }
    }
    if let Some(media) = properties.content_type {
        envelope.datacontenttype = Some(media.into());
    }
    Ok(envelope)
}

fn is_attribute(name: &str) -> bool {
    matches!(
        name,
        "specversion" | "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema"
    ) || check_name(name).is_ok()
}

fn encode_attributes(envelope: &Envelope, properties: &mut PublishProperties) -> Result<(), Reason> {
    let mut long = None;
    let user = &mut properties.user_properties;
    user.reserve(6 + envelope.extensions.len());
    for_each_attribute(envelope, |name, text| {
        if text.len() > STRING_MAX || name.len() > STRING_MAX {
            long = Some(name.to_owned());
        } else if name != "datacontenttype" {
            user.push((name.to_owned(), text.to_owned()));
        }
    });
    if let Some(name) = long {
        return Err(too_long(&name));
    }
    properties.content_type = envelope.datacontenttype.as_deref().map(str::to_owned);
    Ok(())
}

fn too_long(name: &str) -> Reason {
    format!("attribute {name} is longer than {STRING_MAX} bytes, the most a property holds").into()
}

/// Text without what CloudEvents forbids, cut to 1024 characters.
fn printable(text: &str) -> String {
    text.chars().filter(|&c| !c.is_control() && !is_noncharacter(c)).take(1024).collect()
}

fn is_noncharacter(c: char) -> bool {
    (0xfdd0..=0xfdef).contains(&u32::from(c)) || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests;
