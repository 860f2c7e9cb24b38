//! CloudEvents over HTTP ([HTTP protocol binding 1.0.2]): messages to envelopes and back, without I/O.
//!
//! What is written is strict: attribute values are percent-encoded as section 3.1.3.2 asks. What is read is
//! lenient: raw UTF-8 and values in double quotes, which older senders write, are taken too. Peers that know
//! no percent-encoding either way (Go and Java SDKs) are met with [`Compat::Raw`].
//!
//! [HTTP protocol binding 1.0.2]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::core::{DecodeError, Envelope, Topic};
use crate::schema::cloudevents::{for_each_attribute, json, media, percent, protobuf, set_attribute};

#[cfg(test)]
mod tests;

/// What binary mode puts before an attribute's name.
pub const PREFIX: &str = "ce-";
/// Most headers a message may have, in and out.
pub const HEADERS_MAX: usize = 64;
/// Most bytes all names and values of a message's headers may have, in and out.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The `type` of an event made from a plain body.
pub const PLAIN_TYPE: &str = "dev.meshbus.message.v1";

/// How attribute values stand in headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// Percent-encoded, as the binding says.
    #[default]
    Spec,
    /// As they are, in UTF-8, neither encoded nor decoded: what Go and Java SDKs send and read.
    Raw,
}

/// How events are laid out in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Attributes in headers, data as the body.
    #[default]
    Binary,
    /// One event, all in the body.
    Structured,
    /// Several events in the body.
    Batch,
    /// The data alone; attributes are lost.
    Data,
}

/// The event format of structured and batch messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `application/cloudevents+json`
    #[default]
    Json,
    /// `application/cloudevents+protobuf`
    Protobuf,
}

/// What a message holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// One event, from binary or structured mode.
    Event(Box<Envelope>),
    /// Events, each readable or not.
    Batch(Vec<Result<Envelope, DecodeError>>),
    /// No CloudEvent at all: neither its media type nor any `ce-` header. See [`plain`].
    Plain,
}

/// Why a message holds no events that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The media type is none we read.
    #[error(
        "media type {0:?} is not supported: use application/cloudevents+json, application/cloudevents+protobuf, their -batch forms, or ce- headers"
    )]
    MediaType(String),
    /// Too many headers, or too long ones.
    #[error("the headers are too large: at most {HEADERS_MAX} of them and {HEADER_BYTES_MAX} bytes")]
    Headers,
    /// The message breaks a rule.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Why an envelope cannot be written as a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unwritable(pub String);

/// Reads the events of a message, at most `batch_max`; they are given `topic`.
///
/// # Errors
/// Says which header or which byte is wrong; nothing of the message is taken then.
pub fn decode(
    headers: &HeaderMap,
    body: &Bytes,
    topic: &Topic,
    compat: Compat,
    batch_max: usize,
) -> Result<Message, Unreadable> {
    within_budget(headers)?;
    let content_type = single(headers, &CONTENT_TYPE)?;
    let Some(content_type) = content_type else {
        return unstructured(headers, body, topic, compat);
    };
    match structure(content_type)? {
        Structure::None => unstructured(headers, body, topic, compat),
        Structure::Event(Format::Json) => Ok(Message::Event(Box::new(json::decode(body, topic.clone())?))),
        Structure::Event(Format::Protobuf) => {
            Ok(Message::Event(Box::new(protobuf::decode(body, topic.clone())?)))
        }
        Structure::Batch(Format::Json) => Ok(Message::Batch(json::decode_batch(body, topic, batch_max)?)),
        Structure::Batch(Format::Protobuf) => {
            Ok(Message::Batch(protobuf::decode_batch(body, topic, batch_max)?))
        }
    }
}

/// Makes an event of a plain body: the media type it came with, and the caller's `id` and `source`.
///
/// # Errors
/// When the media type is no text.
pub fn plain(
    headers: &HeaderMap,
    body: &Bytes,
    topic: Topic,
    id: impl Into<ByteString>,
    source: impl Into<ByteString>,
) -> Result<Envelope, Unreadable> {
    let mut envelope = Envelope::event(topic, id, source, PLAIN_TYPE);
    envelope.datacontenttype = media_type(headers)?;
    envelope.data = body.clone();
    envelope.validate().map_err(DecodeError::from)?;
    Ok(envelope)
}

/// The media type of a message's body, as sent.
///
/// # Errors
/// When there are several, or it is not visible ASCII.
pub fn media_type(headers: &HeaderMap) -> Result<Option<ByteString>, DecodeError> {
    let Some(value) = single(headers, &CONTENT_TYPE)? else { return Ok(None) };
    match value.to_str() {
        Ok(text) => Ok((!text.trim().is_empty()).then(|| text.trim().into())),
        Err(_) => Err(DecodeError::new("header content-type holds bytes that are not ASCII")),
    }
}

/// Checks the budget of a message's headers: [`HEADERS_MAX`] and [`HEADER_BYTES_MAX`].
///
/// # Errors
/// [`Unreadable::Headers`].
pub fn within_budget(headers: &HeaderMap) -> Result<(), Unreadable> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(Unreadable::Headers);
    }
    Ok(())
}

/// Writes one event as the headers and the body of a message. [`Mode::Batch`] gives a batch of one.
///
/// # Errors
/// When an attribute cannot stand in a header, or the headers would break the budget: structured mode has
/// neither limit.
pub fn encode(
    envelope: &Envelope,
    mode: Mode,
    format: Format,
    compat: Compat,
) -> Result<(HeaderMap, Bytes), Unwritable> {
    match (mode, format) {
        (Mode::Binary, _) => Ok((binary_headers(envelope, compat)?, envelope.data.clone())),
        (Mode::Data, _) => {
            let mut headers = HeaderMap::with_capacity(1);
            write_content_type(&mut headers, envelope)?;
            Ok((headers, envelope.data.clone()))
        }
        (Mode::Structured, Format::Json) => {
            Ok((of_type("application/cloudevents+json; charset=UTF-8"), json::encode(envelope).into()))
        }
        (Mode::Structured, Format::Protobuf) => {
            Ok((of_type(media::PROTOBUF), protobuf::encode(envelope).into()))
        }
        (Mode::Batch, _) => Ok(encode_batch([envelope], format)),
    }
}

/// Writes events as the headers and the body of one batch message.
pub fn encode_batch<'a>(
    envelopes: impl IntoIterator<Item = &'a Envelope>,
    format: Format,
) -> (HeaderMap, Bytes) {
    match format {
        Format::Json => (
            of_type("application/cloudevents-batch+json; charset=UTF-8"),
            json::encode_batch(envelopes).into(),
        ),
        Format::Protobuf => (of_type(media::PROTOBUF_BATCH), protobuf::encode_batch(envelopes).into()),
    }
}

/// What the media type says about the body.
enum Structure {
    None,
    Event(Format),
    Batch(Format),
}

fn structure(content_type: &HeaderValue) -> Result<Structure, Unreadable> {
    let Ok(text) = content_type.to_str() else {
        return Err(DecodeError::new("header content-type holds bytes that are not ASCII").into());
    };
    if !media::is_cloudevents(text) {
        return Ok(Structure::None);
    }
    let utf8 = charset(text)
        .is_none_or(|name| name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii"));
    match media::essence(text).to_ascii_lowercase().as_str() {
        media::JSON if utf8 => Ok(Structure::Event(Format::Json)),
        media::JSON_BATCH if utf8 => Ok(Structure::Batch(Format::Json)),
        media::PROTOBUF => Ok(Structure::Event(Format::Protobuf)),
        media::PROTOBUF_BATCH => Ok(Structure::Batch(Format::Protobuf)),
        _ => Err(Unreadable::MediaType(text.chars().take(120).collect())),
    }
}

/// The `charset` of a media type, unquoted.
fn charset(media_type: &str) -> Option<&str> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

/// Binary mode when there is any `ce-` header, else no CloudEvent.
fn unstructured(
    headers: &HeaderMap,
    body: &Bytes,
    topic: &Topic,
    compat: Compat,
) -> Result<Message, Unreadable> {
    if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(Message::Event(Box::new(binary(headers, body, topic, compat)?)));
    }
    Ok(Message::Plain)
}

fn binary(
    headers: &HeaderMap,
    body: &Bytes,
    topic: &Topic,
    compat: Compat,
) -> Result<Envelope, DecodeError> {
    match headers.get("ce-specversion").map(HeaderValue::as_bytes) {
        Some(b"1.0") => {}
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            return Err(DecodeError::new(format!(
                "header ce-specversion is {other:?}: only \"1.0\" is read"
            )));
        }
        None => return Err(missing("specversion")),
    }
    let mut envelope = Envelope::event(topic.clone(), "", "", "");
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        let Some(value) = single(headers, name)? else { continue };
        if attribute == "specversion" {
            continue;
        }
        let in_header = |error: DecodeError| DecodeError::new(format!("header {name}: {}", error.reason));
        let text = read_value(value.as_bytes(), compat).map_err(in_header)?;
        set_attribute(&mut envelope, attribute, text).map_err(in_header)?;
    }
    // Content-Type is the attribute's place; a ce-datacontenttype, which is none, only stands in for it.
    if let Some(media_type) = media_type(headers)? {
        envelope.datacontenttype = Some(media_type);
    }
    let required = [("id", &envelope.id), ("source", &envelope.source), ("type", &envelope.kind)];
    if let Some((name, _)) = required.iter().find(|(_, text)| text.is_empty()) {
        return Err(missing(name));
    }
    envelope.data = body.clone();
    envelope.validate()?;
    Ok(envelope)
}

fn missing(attribute: &str) -> DecodeError {
    DecodeError::new(format!("header {PREFIX}{attribute} is missing or empty: a CloudEvent requires it"))
}

/// The one value of `name`: a repeated header could be read differently by two readers.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, DecodeError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(DecodeError::new(format!("header {name} is given more than once")));
    }
    Ok(value)
}

/// An attribute's text from its header: unquoted, then percent-decoded (section 3.1.3.2).
fn read_value(value: &[u8], compat: Compat) -> Result<ByteString, DecodeError> {
    let text = match compat {
        Compat::Spec => percent::decode(&percent::unquote(value), false)?.into_owned(),
        Compat::Raw => percent::decode(value, true)?.into_owned(),
    };
    Ok(text.into())
}

fn binary_headers(envelope: &Envelope, compat: Compat) -> Result<HeaderMap, Unwritable> {
    let mut headers = HeaderMap::with_capacity(8 + envelope.extensions.len());
    let mut wrong = None;
    for_each_attribute(envelope, |name, text| {
        if name == "datacontenttype" || wrong.is_some() {
            return;
        }
        match header(name, text, compat) {
            Ok((name, value)) => drop(headers.insert(name, value)),
            Err(error) => wrong = Some(error),
        }
    });
    if let Some(error) = wrong {
        return Err(error);
    }
    write_content_type(&mut headers, envelope)?;
    if within_budget(&headers).is_err() {
        return Err(Unwritable(format!(
            "the attributes need more than {HEADERS_MAX} headers or {HEADER_BYTES_MAX} bytes: use content_mode: structured"
        )));
    }
    Ok(headers)
}

fn header(name: &str, text: &str, compat: Compat) -> Result<(HeaderName, HeaderValue), Unwritable> {
    let encoded = match compat {
        Compat::Spec => percent::encode(text),
        Compat::Raw => Cow::Borrowed(text),
    };
    let header = HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes());
    let value = HeaderValue::from_bytes(encoded.as_bytes());
    match (header, value) {
        (Ok(header), Ok(value)) => Ok((header, value)),
        (Err(_), _) => Err(Unwritable(format!("attribute {name:?} has no header name: a-z and 0-9 only"))),
        (_, Err(_)) => {
            Err(Unwritable(format!("attribute {name} holds a character that no header can hold: {text:?}")))
        }
    }
}

fn write_content_type(headers: &mut HeaderMap, envelope: &Envelope) -> Result<(), Unwritable> {
    let Some(media_type) = &envelope.datacontenttype else { return Ok(()) };
    let printable = media_type.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match HeaderValue::from_str(media_type) {
        Ok(value) if printable => {
            headers.insert(CONTENT_TYPE, value);
            Ok(())
        }
        _ => {
            Err(Unwritable(format!("datacontenttype {media_type:?} cannot stand in a Content-Type header")))
        }
    }
}

fn of_type(media_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        })
    }
}
