//! NATS messages and envelopes, both ways: the CloudEvents
//! [NATS binding](https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md)
//! (1.0.3 draft), and messages that are no CloudEvents at all. Pure.
//!
//! [`Decoder`] tells the forms apart; [`Encoder`] writes them; [`message_id`] is what JetStream recognises a
//! repetition by. Both keep what repeats from message to message: topics, names of headers, room for text.

use std::borrow::Cow;
use std::collections::HashMap;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use bytestring::ByteString;
use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};

use crate::core::envelope::check_name;
use crate::core::error::InvalidEnvelope;
use crate::core::spelling::from_subject;
use crate::core::{Change, DecodeError, Envelope, Timestamp, Topic, Value};
use crate::schema::cloudevents::{
    ContentMode, EXTENSIONS_MAX, for_each_attribute, json, media, percent, protobuf, set_attribute,
};

#[cfg(test)]
mod tests;

/// The CloudEvents type of a message that was none.
pub const MESSAGE_TYPE: &str = "dev.meshbus.message.v1";
/// The attribute that names the bus an envelope first entered; see [`ORIGIN_HEADER`].
pub const ORIGIN: &str = "mborigin";
/// The attribute that counts the buses an envelope has passed.
pub const HOPS: &str = "mbhops";
/// The attribute that says why a message could not be read.
pub const REASON: &str = "mbreason";
/// [`ORIGIN`] where no attribute is carried: in content mode `data`.
pub const ORIGIN_HEADER: &str = "Mb-Origin";
/// [`HOPS`] where no attribute is carried.
pub const HOPS_HEADER: &str = "Mb-Hops";
/// What starts the name of an attribute's header, in any case.
const PREFIX: &str = "ce-";
/// As sdk-go spells it, which looks its headers up with regard to case.
const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
/// Most names of headers an [`Encoder`] remembers; others are made anew each time.
const NAMES_MAX: usize = 512;
/// Most topics a [`Decoder`] remembers; beyond, it forgets them and begins anew.
const TOPICS_MAX: usize = 1024;
/// Data shorter than this is copied out of the connection's read buffer, which a kept event would hold on to.
const SHARE_MIN: usize = 4096;
/// Most characters of a reason that is carried as an attribute.
const REASON_MAX: usize = 512;

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The subject it was published to.
    pub subject: &'a str,
    /// Its headers; NATS has them in no order.
    pub headers: Option<&'a HeaderMap>,
    /// Its payload.
    pub payload: &'a Bytes,
}

/// The context of a message that brings none of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// `STREAM/SEQUENCE` with JetStream, which a redelivery repeats; else unique.
    pub id: ByteString,
    /// `//nats/CLUSTER-OR-HOST/STREAM` with JetStream, else `//nats/CONNECTOR`.
    pub source: ByteString,
    /// When the stream stored it; core NATS does not say.
    pub time: Option<Timestamp>,
}

/// Reads messages.
#[derive(Debug, Default)]
pub struct Decoder {
    topics: HashMap<ByteString, Topic, RandomState>,
    /// Text of the attributes of one message, so that they share one allocation.
    text: String,
    spans: Vec<Span>,
}

/// An attribute's header in a [`Decoder`]'s text: its name in lower case, then its value.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    value: usize,
    end: usize,
}

/// What the headers of a message say.
#[derive(Default)]
struct Headers<'a> {
    content_type: Option<&'a str>,
    /// One of the required attributes is among them.
    binary: bool,
    /// Why an attribute cannot be read; only matters in a binary message.
    wrong: Option<DecodeError>,
}

impl Decoder {
    /// Reads a message.
    ///
    /// - `content-type: application/cloudevents…`: structured, JSON or protobuf.
    /// - One of the required attributes as a header `ce-…`: binary. Other headers are not kept.
    /// - No content type, and the payload is a valid event in the JSON format: structured, as the binding has
    ///   it for servers without headers (1.0.2).
    /// - Anything else is data: `context` gives what identifies it, `content-type` becomes `datacontenttype`,
    ///   headers whose lower-case names are legal attribute names become extensions, all others are dropped.
    ///
    /// # Errors
    /// A subject that spells no topic or a reserved one, or a CloudEvent that breaks the binding or the format.
    pub fn decode(
        &mut self,
        message: Message<'_>,
        context: impl FnOnce() -> Context,
    ) -> Result<Envelope, DecodeError> {
        let topic = self.topic(message.subject)?;
        let headers = self.scan(message.headers);
        match headers.content_type {
            Some(media_type) if media::is_cloudevents(media_type) => {
                structured(media_type, message.payload, topic)
            }
            _ if headers.binary => match headers.wrong {
                Some(error) => Err(error),
                None => self.binary(message.payload, topic),
            },
            None if looks_structured(message.payload) => json::decode(message.payload, topic.clone())
                .or_else(|_| Ok(data(message, topic, None, context()))),
            content_type => Ok(data(message, topic, content_type, context())),
        }
    }

    fn topic(&mut self, subject: &str) -> Result<Topic, DecodeError> {
        if let Some(known) = self.topics.get(subject) {
            return Ok(known.clone());
        }
        let topic = from_subject(subject).map_err(|error| DecodeError::new(error.to_string()))?;
        if topic.is_reserved() {
            // The bus would refuse it; here it can still go to the dead letter.
            return Err(DecodeError::new(format!("topic {topic} is reserved: only state lives there")));
        }
        if self.topics.len() >= TOPICS_MAX {
            self.topics.clear();
        }
        self.topics.insert(subject.into(), topic.clone());
        Ok(topic)
    }

    /// Goes through the headers once and collects the attributes among them.
    fn scan<'a>(&mut self, headers: Option<&'a HeaderMap>) -> Headers<'a> {
        let mut found = Headers::default();
        self.text.clear();
        self.spans.clear();
        for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
            let name: &str = name.as_ref();
            if let Some(attribute) = attribute_of(name) {
                for value in values {
                    if let Err(error) = self.collect(attribute, value.as_str()) {
                        found.wrong = Some(DecodeError::new(format!("header {name}: {error}")));
                    } else if let Some(span) = self.spans.last() {
                        let name = self.text.get(span.start..span.value);
                        found.binary |= matches!(name, Some("specversion" | "id" | "source" | "type"));
                    }
                }
            } else if name.eq_ignore_ascii_case("content-type") {
                found.content_type = values.first().map(HeaderValue::as_str);
            }
        }
        found
    }

    fn collect(&mut self, attribute: &str, value: &str) -> Result<(), DecodeError> {
        let unquoted = percent::unquote(value.as_bytes());
        let text = percent::decode(&unquoted, false)?;
        let start = self.text.len();
        self.text.push_str(attribute);
        if let Some(name) = self.text.get_mut(start..) {
            name.make_ascii_lowercase();
        }
        let value = self.text.len();
        self.text.push_str(&text);
        self.spans.push(Span { start, value, end: self.text.len() });
        Ok(())
    }

    /// The event whose attributes are collected.
    fn binary(&self, payload: &Bytes, topic: Topic) -> Result<Envelope, DecodeError> {
        let mut envelope = Envelope::event(topic, "", "", "");
        // Two more are what the bus adds.
        envelope.extensions.reserve(self.spans.len().saturating_sub(4) + 2);
        let shared = ByteString::from(self.text.as_str());
        let part = |from: usize, to: usize| shared.get(from..to).map(|part| shared.slice_ref(part));
        let mut versions = 0;
        for span in &self.spans {
            let (Some(name), Some(text)) = (part(span.start, span.value), part(span.value, span.end))
            else {
                continue;
            };
            versions += usize::from(name == "specversion");
            // Headers are unordered: of two that say the same, no one could tell which counts.
            if is_set(&envelope, &name) {
                return Err(DecodeError::new(format!("the header ce-{name} is given twice, in any case")));
            }
            set(&mut envelope, name, text)?;
        }
        if versions != 1 {
            return Err(DecodeError::new("a CloudEvent needs the header ce-specversion, once"));
        }
        for (name, text) in [("id", &envelope.id), ("source", &envelope.source), ("type", &envelope.kind)] {
            if text.is_empty() {
                return Err(DecodeError::new(format!("the header ce-{name} is missing")));
            }
        }
        envelope.data = keep(payload);
        Ok(envelope)
    }
}

/// Whether the attribute has a value already.
fn is_set(envelope: &Envelope, name: &str) -> bool {
    match name {
        "id" => !envelope.id.is_empty(),
        "source" => !envelope.source.is_empty(),
        "type" => !envelope.kind.is_empty(),
        "subject" => envelope.subject.is_some(),
        "time" => envelope.time.is_some(),
        "datacontenttype" => envelope.datacontenttype.is_some(),
        "dataschema" => envelope.dataschema.is_some(),
        _ => envelope.extensions.get(name).is_some(),
    }
}

/// Sets one attribute of a binary message; an extension in plain ASCII shares name and text as they are.
fn set(envelope: &mut Envelope, name: ByteString, text: ByteString) -> Result<(), DecodeError> {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if is_context(&name) || !plain || envelope.extensions.len() >= EXTENSIONS_MAX {
        return set_attribute(envelope, &name, text)
            .map_err(|error| DecodeError::new(format!("header ce-{name}: {error}")));
    }
    check_name(&name)?;
    envelope.extensions.set(name, Value::String(text));
    Ok(())
}

/// An envelope for the dead letter: the payload of a message that [`Decoder`] refused, and why.
pub fn undecodable(message: Message<'_>, topic: Topic, context: Context, reason: &str) -> Envelope {
    let mut envelope = data(message, topic, None, context);
    if message.subject.bytes().all(|byte| byte.is_ascii_graphic()) {
        envelope.subject = Some(message.subject.into());
    }
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    envelope.extensions.set(REASON, reason);
    envelope
}

/// What JetStream recognises a repetition by (`Nats-Msg-Id`): 128 bits of a hash over source, id, subject and
/// change, in hexadecimal. The subject is in it because one event may go to several.
pub fn message_id(envelope: &Envelope, subject: &str) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        // The length first, so that no two lists of parts are one text.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&envelope.source);
    part(&envelope.id);
    part(subject);
    let (tag, key, version) = match &envelope.change {
        Change::Occurred => ("", None, None),
        Change::Put(key, version) => ("put", Some(key), Some(version)),
        Change::Delete(key, version, _) => ("delete", Some(key), Some(version)),
    };
    part(tag);
    if let (Some(key), Some(version)) = (key, version) {
        for text in [&key.scope, &key.type_url, &key.name, version] {
            part(text);
        }
    }
    let digest = hash.finalize();
    data_encoding::HEXLOWER.encode(digest.get(..16).unwrap_or(&digest))
}

/// A message to be published.
#[derive(Debug)]
pub struct Encoded {
    /// Empty in content mode `data` where no origin is known.
    pub headers: HeaderMap,
    /// The payload; shared with the envelope where it is its data.
    pub payload: Bytes,
}

/// Writes envelopes; remembers the names of headers it has made.
#[derive(Debug, Default)]
pub struct Encoder {
    names: HashMap<ByteString, HeaderName, RandomState>,
}

impl Encoder {
    /// Writes one envelope.
    ///
    /// # Errors
    /// An extension whose name is none of CloudEvents', in content mode `binary`.
    pub fn encode(&mut self, envelope: &Envelope, mode: ContentMode) -> Result<Encoded, InvalidEnvelope> {
        let mut headers = HeaderMap::new();
        match mode {
            ContentMode::Binary => {
                let mut wrong = None;
                for_each_attribute(envelope, |name, text| match self.name(name) {
                    Ok(header) => headers.insert(header, value(text)),
                    Err(error) => wrong = Some(error),
                });
                if let Some(error) = wrong {
                    return Err(error);
                }
                Ok(Encoded { headers, payload: envelope.data.clone() })
            }
            ContentMode::Structured => {
                headers.insert(CONTENT_TYPE, media::JSON);
                Ok(Encoded { headers, payload: json::encode(envelope).into() })
            }
            ContentMode::Data => {
                for (attribute, header) in [(ORIGIN, ORIGIN_HEADER), (HOPS, HOPS_HEADER)] {
                    if let Some(found) = envelope.extensions.get(attribute) {
                        headers.insert(HeaderName::from_static(header), value(&found.to_text()));
                    }
                }
                Ok(Encoded { headers, payload: envelope.data.clone() })
            }
        }
    }

    fn name(&mut self, attribute: &str) -> Result<HeaderName, InvalidEnvelope> {
        match attribute {
            "specversion" => return Ok(HeaderName::from_static("ce-specversion")),
            "id" => return Ok(HeaderName::from_static("ce-id")),
            "source" => return Ok(HeaderName::from_static("ce-source")),
            "type" => return Ok(HeaderName::from_static("ce-type")),
            "subject" => return Ok(HeaderName::from_static("ce-subject")),
            "time" => return Ok(HeaderName::from_static("ce-time")),
            "datacontenttype" => return Ok(HeaderName::from_static("ce-datacontenttype")),
            "dataschema" => return Ok(HeaderName::from_static("ce-dataschema")),
            _ => {}
        }
        if let Some(known) = self.names.get(attribute) {
            return Ok(known.clone());
        }
        check_name(attribute)?;
        let name = HeaderName::try_from(format!("{PREFIX}{attribute}"))
            .map_err(|_| InvalidEnvelope::new(attribute, "is no name of a NATS header"))?;
        if self.names.len() < NAMES_MAX {
            self.names.insert(attribute.into(), name.clone());
        }
        Ok(name)
    }
}

/// Percent-encoding leaves printable ASCII only, so that no line break can get into a header.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from(percent::encode(text).into_owned())
}

fn is_context(name: &str) -> bool {
    matches!(
        name,
        "specversion" | "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema"
    )
}

/// The rest of a header's name after `ce-`, in any case.
fn attribute_of(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

/// Whether it is worth reading as JSON: an object that names `specversion` somewhere.
fn looks_structured(payload: &[u8]) -> bool {
    payload.trim_ascii_start().first() == Some(&b'{')
        && str::from_utf8(payload).is_ok_and(|text| text.contains("\"specversion\""))
}

fn structured(media_type: &str, payload: &Bytes, topic: Topic) -> Result<Envelope, DecodeError> {
    if media::is_cloudevents_json(media_type) || media::essence(media_type) == "application/cloudevents" {
        json::decode(payload, topic)
    } else if media::is_cloudevents_protobuf(media_type) {
        protobuf::decode(payload, topic)
    } else {
        let media_type: String = media_type.chars().take(80).collect();
        Err(DecodeError::new(format!(
            "content-type {media_type:?} is not taken over NATS: send {} or {}, one event a message",
            media::JSON,
            media::PROTOBUF
        )))
    }
}

fn data(message: Message<'_>, topic: Topic, content_type: Option<&str>, context: Context) -> Envelope {
    let mut envelope = Envelope::event(topic, context.id, context.source, MESSAGE_TYPE);
    envelope.time = context.time;
    envelope.data = keep(message.payload);
    if let Some(content_type) = content_type {
        // One that is no text is no media type either; the data still counts.
        drop(set_attribute(&mut envelope, "datacontenttype", content_type.into()));
    }
    for (name, values) in message.headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        let attribute = match name {
            ORIGIN_HEADER => ORIGIN.into(),
            HOPS_HEADER => HOPS.into(),
            _ => name.to_ascii_lowercase(),
        };
        if check_name(&attribute).is_err() {
            continue;
        }
        let text = match values.as_slice() {
            [own] if matches!(name, ORIGIN_HEADER | HOPS_HEADER) => own_text(own),
            [one] => one.as_str().into(),
            several => several.iter().map(HeaderValue::as_str).collect::<Vec<_>>().join(", "),
        };
        // What no attribute can hold is dropped, as a name that none can have.
        drop(set_attribute(&mut envelope, &attribute, text.into()));
    }
    envelope
}

/// The one kind of header in a message that is no CloudEvent whose value this codec has encoded.
fn own_text(value: &HeaderValue) -> String {
    percent::decode(value.as_str().as_bytes(), false).map_or_else(|_| value.to_string(), Cow::into_owned)
}

fn keep(payload: &Bytes) -> Bytes {
    if payload.len() < SHARE_MIN { Bytes::copy_from_slice(payload) } else { payload.clone() }
}
