//! The protobuf format: `application/cloudevents+protobuf` and `application/cloudevents-batch+protobuf`
//! ([protobuf format 1.0.2](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/protobuf-format.md)).
//!
//! All attribute types pass both ways. An instant passes as seconds and nanoseconds, so the sender's
//! spelling of a time (its offset) is lost here and nowhere else.

use bytes::{Buf, Bytes};
use bytestring::ByteString;
use meshbus_proto::cloudevents::cloud_event::Data;
use meshbus_proto::cloudevents::cloud_event_attribute_value::Attr;
use meshbus_proto::cloudevents::{CloudEvent, CloudEventAttributeValue};
use meshbus_proto::google;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::attributes::{self, check_required, check_specversion, is_context, set_extension, set_text};
use super::{keep, media};
use crate::core::{DecodeError, Envelope, Timestamp, Topic, Value};

/// The `events` field of `CloudEventBatch`.
const EVENTS: u32 = 1;
/// What the type of a message in an `Any` starts with.
const TYPE_URL_PREFIX: &str = "type.googleapis.com/";
/// The media type of a protobuf message.
const MESSAGE: &str = "application/protobuf";
/// 0001-01-01T00:00:00Z, before which protobuf has no instants.
const FIRST_SECOND: i64 = -62_135_596_800;

/// Writes an event in the protobuf format.
///
/// Data goes into `proto_data` where it is a protobuf message whose type `dataschema` names
/// (`application/protobuf` and `type.googleapis.com/…`), into `text_data` where the media type says text or
/// JSON and the bytes are UTF-8, else into `binary_data`. Empty data has no field.
pub fn encode(envelope: &Envelope) -> Vec<u8> {
    message(envelope).encode_to_vec()
}

/// Writes a batch in the protobuf format.
pub fn encode_batch<'a>(batch: impl IntoIterator<Item = &'a Envelope>) -> Vec<u8> {
    let mut out = Vec::new();
    for envelope in batch {
        prost::encoding::message::encode(EVENTS, &message(envelope), &mut out);
    }
    out
}

/// Reads one event; it is given `topic`.
///
/// `proto_data` becomes the bytes of the message in it, with `datacontenttype` set to
/// `application/protobuf` and `dataschema` to the type's URL where the event has none of its own.
///
/// # Errors
/// No such message, a `specversion` other than 1.0, an attribute missing or wrong.
pub fn decode(bytes: &Bytes, topic: Topic) -> Result<Envelope, DecodeError> {
    read_event(bytes.clone(), topic)
}

/// Reads a batch of at most `limit` events, each of which is given `topic`.
///
/// # Errors
/// The outer error is the batch's: no such message, more than `limit`. An inner one is one event's, as
/// [`decode`] has it, its offset that of the event.
pub fn decode_batch(
    bytes: &Bytes,
    topic: &Topic,
    limit: usize,
) -> Result<Vec<Result<Envelope, DecodeError>>, DecodeError> {
    // Not read as a whole: one bad event would spoil all, and many empty ones take much memory.
    let mut events = Vec::new();
    let mut rest = bytes.clone();
    while let Some((at, event)) = next_event(bytes.len(), &mut rest)? {
        if events.len() == limit {
            return Err(DecodeError::at(at, format!("a batch has at most {limit} events here")));
        }
        events.push(
            read_event(event, topic.clone()).map_err(|error| DecodeError { offset: Some(at), ..error }),
        );
    }
    Ok(events)
}

/// Takes the next event off a batch of `whole` bytes, with its offset.
fn next_event(whole: usize, rest: &mut Bytes) -> Result<Option<(usize, Bytes)>, DecodeError> {
    while rest.has_remaining() {
        let at = whole - rest.len();
        let wrong = |error: prost::DecodeError| DecodeError::at(at, format!("is no batch: {error}"));
        let (field, wire_type) = decode_key(rest).map_err(wrong)?;
        if field != EVENTS {
            skip_field(wire_type, field, rest, DecodeContext::default()).map_err(wrong)?;
            continue;
        }
        if wire_type != WireType::LengthDelimited {
            return Err(DecodeError::at(at, "is no batch: field 1 is no message"));
        }
        let length = usize::try_from(decode_varint(rest).map_err(wrong)?).unwrap_or(usize::MAX);
        if length > rest.len() {
            return Err(DecodeError::at(at, "is no batch: an event ends after the message"));
        }
        return Ok(Some((at, rest.split_to(length))));
    }
    Ok(None)
}

fn message(envelope: &Envelope) -> CloudEvent {
    let mut message = CloudEvent {
        id: envelope.id.to_string(),
        source: envelope.source.to_string(),
        spec_version: "1.0".to_owned(),
        r#type: envelope.kind.to_string(),
        ..CloudEvent::default()
    };
    let mut set = |name: &str, attr: Attr| {
        message.attributes.insert(name.to_owned(), CloudEventAttributeValue { attr: Some(attr) });
    };
    let present =
        |text: &Option<ByteString>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(subject) = present(&envelope.subject) {
        set("subject", Attr::CeString(subject));
    }
    if let Some(media_type) = present(&envelope.datacontenttype) {
        set("datacontenttype", Attr::CeString(media_type));
    }
    if let Some(schema) = present(&envelope.dataschema) {
        set("dataschema", Attr::CeUri(schema));
    }
    if let Some(time) = &envelope.time {
        set("time", instant(time));
    }
    for (name, value) in envelope.extensions.iter() {
        let attr = match value {
            Value::Boolean(value) => Attr::CeBoolean(*value),
            Value::Integer(value) => Attr::CeInteger(*value),
            Value::String(text) => Attr::CeString(text.to_string()),
            Value::Binary(bytes) => Attr::CeBytes(bytes.clone()),
            Value::Uri(text) => Attr::CeUri(text.to_string()),
            Value::UriRef(text) => Attr::CeUriRef(text.to_string()),
            Value::Timestamp(time) => instant(time),
        };
        set(name, attr);
    }
    message.data = data(envelope);
    message
}

/// As text where protobuf has no such instant.
fn instant(time: &Timestamp) -> Attr {
    let nanos = time.unix_nanos();
    let second = 1_000_000_000;
    match (i64::try_from(nanos.div_euclid(second)), i32::try_from(nanos.rem_euclid(second))) {
        (Ok(seconds), Ok(nanos)) if seconds >= FIRST_SECOND => {
            Attr::CeTimestamp(google::Timestamp { seconds, nanos })
        }
        _ => Attr::CeString(time.text().to_string()),
    }
}

fn data(envelope: &Envelope) -> Option<Data> {
    if envelope.data.is_empty() {
        return None;
    }
    let is_message = envelope
        .datacontenttype
        .as_deref()
        .is_some_and(|media_type| media::essence(media_type).eq_ignore_ascii_case(MESSAGE));
    if is_message
        && let Some(type_url) = &envelope.dataschema
        && type_url.starts_with(TYPE_URL_PREFIX)
    {
        let (type_url, value) = (type_url.to_string(), envelope.data.clone());
        return Some(Data::ProtoData(google::Any { type_url, value }));
    }
    Some(match attributes::as_text(envelope) {
        Some(text) => Data::TextData(text.to_owned()),
        None => Data::BinaryData(envelope.data.clone()),
    })
}

fn read_event(bytes: Bytes, topic: Topic) -> Result<Envelope, DecodeError> {
    let whole = bytes.len();
    let message = CloudEvent::decode(bytes)
        .map_err(|error| DecodeError::new(format!("is no io.cloudevents.v1.CloudEvent: {error}")))?;
    check_specversion(&message.spec_version)?;
    let mut envelope = Envelope::event(topic, "", "", "");
    for (name, text) in [("id", message.id), ("source", message.source), ("type", message.r#type)] {
        set_text(&mut envelope, name, text.into())?;
    }
    for (name, value) in message.attributes {
        if let Some(attr) = value.attr {
            read_attribute(&mut envelope, &name, attr)?;
        }
    }
    check_required(&envelope)?;
    match message.data {
        None => {}
        Some(Data::BinaryData(data)) => envelope.data = keep(data, whole),
        Some(Data::TextData(text)) => envelope.data = Bytes::from(text),
        Some(Data::ProtoData(any)) => {
            envelope.data = keep(any.value, whole);
            if envelope.datacontenttype.is_none() {
                envelope.datacontenttype = Some(ByteString::from_static(MESSAGE));
            }
            if envelope.dataschema.is_none() {
                set_text(&mut envelope, "dataschema", any.type_url.into())?;
            }
        }
    }
    Ok(envelope)
}

fn read_attribute(envelope: &mut Envelope, name: &str, attr: Attr) -> Result<(), DecodeError> {
    if matches!(name, "id" | "source" | "type" | "specversion") {
        return Err(DecodeError::new(format!("attribute {name:?} has its own field and is no map entry")));
    }
    let value = match attr {
        Attr::CeBoolean(value) => Value::Boolean(value),
        Attr::CeInteger(value) => Value::Integer(value),
        Attr::CeString(text) => Value::String(text.into()),
        Attr::CeBytes(bytes) => Value::Binary(Bytes::copy_from_slice(&bytes)),
        Attr::CeUri(text) => Value::Uri(text.into()),
        Attr::CeUriRef(text) => Value::UriRef(text.into()),
        Attr::CeTimestamp(time) => Value::Timestamp(read_instant(name, time)?),
    };
    if !is_context(name) {
        return set_extension(envelope, name, value);
    }
    match value {
        Value::Timestamp(time) if name == "time" => {
            envelope.time = Some(time);
            Ok(())
        }
        Value::String(text) | Value::Uri(text) | Value::UriRef(text) => set_text(envelope, name, text),
        _ => Err(DecodeError::new(format!("attribute {name:?} must be a string"))),
    }
}

fn read_instant(name: &str, time: google::Timestamp) -> Result<Timestamp, DecodeError> {
    let in_range = time.seconds >= FIRST_SECOND && (0..1_000_000_000).contains(&time.nanos);
    let instant = in_range.then(|| Timestamp::from_unix(time.seconds, time.nanos)).flatten();
    instant.ok_or_else(|| {
        DecodeError::new(format!(
            "attribute {name:?} is no instant of the years 1 to 9999 with nanos below 10^9"
        ))
    })
}

#[cfg(test)]
mod tests;
