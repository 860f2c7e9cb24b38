//! The JSON format: `application/cloudevents+json` and `application/cloudevents-batch+json`
//! ([JSON format 1.0.2](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md)).
//!
//! JSON data is never parsed into values and written anew: its bytes are embedded as they are and taken out
//! as they are, so numbers, key order and duplicate keys pass unchanged. An event is written on one line:
//! line breaks between the tokens of embedded JSON become spaces, and space around it is lost. That is the
//! only change made to data, ever. See [`encode`] and [`decode`] for which member carries what.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::attributes::{self, check_required, check_specversion, context, is_context, set_extension};
use super::{EXTENSIONS_MAX, keep, media};
use crate::core::{DecodeError, Envelope, Topic, Value};

/// Most members of one event's object: the attributes, and what CloudEvents defines itself.
const MEMBERS_MAX: usize = EXTENSIONS_MAX + 10;

/// Standard alphabet; peers differ on whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes an event in the JSON format, on one line.
///
/// Data goes into `data` as JSON where the media type says JSON or is absent and the bytes are valid JSON,
/// into `data` as a string where it says text and the bytes are UTF-8, else into `data_base64`. Empty data
/// has no member. A `null` of no declared type goes into `data_base64`, since peers read `data: null` as
/// no data.
pub fn encode(envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity(envelope));
    write_event(&mut out, envelope);
    out
}

/// Writes a batch in the JSON format, on one line.
pub fn encode_batch<'a>(batch: impl IntoIterator<Item = &'a Envelope>) -> Vec<u8> {
    let mut out = vec![b'['];
    for envelope in batch {
        if out.len() > 1 {
            out.push(b',');
        }
        out.reserve(capacity(envelope));
        write_event(&mut out, envelope);
    }
    out.push(b']');
    out
}

/// Reads one event; it is given `topic`.
///
/// - `data` is taken as its raw JSON bytes where the media type says JSON or is absent (which is then set to
///   `application/json`, as the format says), else the text of its string; of another type, a value that is
///   no string is taken raw.
/// - `data: null` is no data, unless a JSON media type is declared: then it is the payload `null`.
/// - Extensions keep their JSON type: boolean, 32-bit integer, string. Any attribute that is `null` is absent.
///
/// Nothing is recursive: data may be nested as deep as the message is long.
///
/// # Errors
/// No UTF-8, a byte order mark, no JSON object, a member twice or more of them than 266, a `specversion`
/// other than 1.0, an attribute missing or wrong, `data` and `data_base64` together. With the byte offset
/// where one can be told.
pub fn decode(bytes: &Bytes, topic: Topic) -> Result<Envelope, DecodeError> {
    let text = text(bytes)?;
    read_event(bytes, text, topic)
}

/// Reads a batch of at most `limit` events, each of which is given `topic`.
///
/// # Errors
/// The outer error is the batch's: no UTF-8, no JSON array, more than `limit`. An inner one is one event's,
/// as [`decode`] has it, its offset counted from the start of the batch.
pub fn decode_batch(
    bytes: &Bytes,
    topic: &Topic,
    limit: usize,
) -> Result<Vec<Result<Envelope, DecodeError>>, DecodeError> {
    let text = text(bytes)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let events = Elements { limit }.deserialize(&mut json).map_err(|error| syntax(text, &error))?;
    json.end().map_err(|error| syntax(text, &error))?;
    Ok(events.into_iter().map(|event| read_event(bytes, event.get(), topic.clone())).collect())
}

/// What an event takes when little needs escaping.
fn capacity(envelope: &Envelope) -> usize {
    let attributes: usize = context(envelope).iter().map(|(_, text)| text.len()).sum();
    192 + attributes + 40 * envelope.extensions.len() + envelope.data.len() * 4 / 3
}

fn write_event(out: &mut Vec<u8>, envelope: &Envelope) {
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    for (name, text) in context(envelope) {
        if !text.is_empty() || matches!(name, "id" | "source" | "type") {
            write_name(out, name);
            write_string(out, text);
        }
    }
    for (name, value) in envelope.extensions.iter() {
        write_name(out, name);
        match value {
            Value::Boolean(_) | Value::Integer(_) => out.extend_from_slice(value.to_text().as_bytes()),
            Value::String(text) | Value::Uri(text) | Value::UriRef(text) => write_string(out, text),
            Value::Binary(bytes) => write_base64(out, bytes),
            Value::Timestamp(time) => write_string(out, time.text()),
        }
    }
    write_data(out, envelope);
    out.push(b'}');
}

fn write_data(out: &mut Vec<u8>, envelope: &Envelope) {
    if envelope.data.is_empty() {
        return;
    }
    let declared = envelope.datacontenttype.as_deref();
    if declared.is_none_or(media::is_json) {
        if let Some(json) = valid_json(&envelope.data)
            && (declared.is_some() || json != b"null")
        {
            write_name(out, "data");
            let start = out.len();
            out.extend_from_slice(json);
            // Inside a JSON string a line break is always escaped, so these are between tokens.
            for byte in out.iter_mut().skip(start) {
                *byte = if matches!(*byte, b'\r' | b'\n') { b' ' } else { *byte };
            }
            return;
        }
    } else if let Some(text) = attributes::as_text(envelope) {
        write_name(out, "data");
        return write_string(out, text);
    }
    write_name(out, "data_base64");
    write_base64(out, &envelope.data);
}

/// The bytes without space around them, if they are one JSON value.
fn valid_json(data: &[u8]) -> Option<&[u8]> {
    // Skipping a value does not look at the UTF-8 in its strings.
    let text = str::from_utf8(data).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(data.trim_ascii())
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    write_string(out, name);
    out.push(b':');
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Text always serializes, and writing to a vector cannot fail.
    serde_json::to_writer(out, text).ok();
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    general_purpose::STANDARD.encode_string(bytes, &mut text);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn text(bytes: &Bytes) -> Result<&str, DecodeError> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(DecodeError::at(0, "starts with a byte order mark, which JSON does not allow"));
    }
    str::from_utf8(bytes).map_err(|error| DecodeError::at(error.valid_up_to(), "is not UTF-8"))
}

/// Reads the event `json`, which is a part of the message `whole`.
fn read_event(whole: &Bytes, json: &str, topic: Topic) -> Result<Envelope, DecodeError> {
    let at = |part: &str| part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    let members: Members<'_> = serde_json::from_str(json).map_err(|error| {
        let mut error = syntax(json, &error);
        error.offset = error.offset.map(|offset| offset + at(json));
        error
    })?;
    read_members(whole, &members.0, topic).map_err(|(member, mut error)| {
        error.offset = Some(member.map_or_else(|| at(json), |member| at(member.value.get())));
        error
    })
}

/// What is wrong, and the member it is about; none for what is not there.
type Wrong<'m, 'a> = (Option<&'m Member<'a>>, DecodeError);

fn read_members<'m, 'a>(
    whole: &Bytes,
    members: &'m [Member<'a>],
    topic: Topic,
) -> Result<Envelope, Wrong<'m, 'a>> {
    let mut sorted: Vec<&Member<'_>> = members.iter().collect();
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some([_, twice]) = sorted.array_windows().find(|[a, b]| a.name == b.name) {
        let name: String = twice.name.chars().take(80).collect();
        return Err((Some(twice), DecodeError::new(format!("member {name:?} is there twice"))));
    }
    let find = |name: &str| {
        let member = sorted.binary_search_by(|member| (*member.name).cmp(name)).ok();
        member.and_then(|at| sorted.get(at).copied()).filter(|member| !member.is_null())
    };
    // First, so that an event of another version is told so rather than of what that version has.
    let version = find("specversion")
        .ok_or_else(|| (None, DecodeError::new("attribute \"specversion\" is required: \"1.0\"")))?;
    if version.value.get() != "\"1.0\"" {
        check_version(version.value.get()).map_err(|error| (Some(version), error))?;
    }

    let mut envelope = Envelope::event(topic, "", "", "");
    for member in members {
        if !matches!(&*member.name, "specversion" | "data" | "data_base64") {
            read_attribute(&mut envelope, member).map_err(|error| (Some(member), error))?;
        }
    }
    check_required(&envelope).map_err(|error| (None, error))?;

    // Not through `find`, which drops `null`: a `null` can be data.
    let data = members.iter().find(|member| member.name == "data");
    match (data, find("data_base64")) {
        (Some(data), Some(base64)) if !data.is_null() => {
            let reason = "data and data_base64 are both there: an event has one of them";
            return Err((Some(base64), DecodeError::new(reason)));
        }
        (_, Some(base64)) => {
            envelope.data = read_base64(base64).map_err(|error| (Some(base64), error))?;
        }
        (Some(data), None) => {
            read_data(&mut envelope, whole, data).map_err(|error| (Some(data), error))?;
        }
        (None, None) => {}
    }
    Ok(envelope)
}

fn check_version(raw: &str) -> Result<(), DecodeError> {
    if !raw.starts_with('"') {
        return Err(DecodeError::new("attribute \"specversion\" must be a JSON string: \"1.0\""));
    }
    check_specversion(&string(raw).unwrap_or_default())
}

fn read_attribute(envelope: &mut Envelope, member: &Member<'_>) -> Result<(), DecodeError> {
    let (name, raw) = (&*member.name, member.value.get());
    if raw.starts_with('"') {
        let text = string(raw).map_err(|error| DecodeError::new(format!("attribute {name:?}: {error}")))?;
        return attributes::set_text(envelope, name, ByteString::from(&*text));
    }
    if raw == "null" {
        return Ok(());
    }
    if is_context(name) {
        return Err(DecodeError::new(format!("attribute {name:?} must be a JSON string")));
    }
    let value = match (raw, raw.parse::<i32>()) {
        ("true", _) => Value::Boolean(true),
        ("false", _) => Value::Boolean(false),
        (_, Ok(number)) => Value::Integer(number),
        _ => {
            return Err(DecodeError::new(format!(
                "attribute {name:?} must be a string, a boolean or a 32-bit integer"
            )));
        }
    };
    set_extension(envelope, name, value)
}

fn read_base64(member: &Member<'_>) -> Result<Bytes, DecodeError> {
    let raw = member.value.get();
    if !raw.starts_with('"') {
        return Err(DecodeError::new("data_base64 must be a JSON string"));
    }
    let text = string(raw).map_err(|error| DecodeError::new(format!("data_base64: {error}")))?;
    let data = BASE64.decode(text.as_bytes());
    data.map(Bytes::from).map_err(|error| DecodeError::new(format!("data_base64 is no base64: {error}")))
}

fn read_data(envelope: &mut Envelope, whole: &Bytes, member: &Member<'_>) -> Result<(), DecodeError> {
    let raw = member.value.get();
    let json = envelope.datacontenttype.as_deref().map(media::is_json);
    if member.is_null() && json != Some(true) {
        return Ok(());
    }
    if json == Some(false) && raw.starts_with('"') {
        let text = string(raw).map_err(|error| DecodeError::new(format!("data: {error}")))?;
        envelope.data = match text {
            Cow::Borrowed(text) => keep(whole.slice_ref(text.as_bytes()), whole.len()),
            Cow::Owned(text) => Bytes::from(text),
        };
        return Ok(());
    }
    if json.is_none() {
        envelope.datacontenttype = Some(ByteString::from_static("application/json"));
    }
    envelope.data = keep(whole.slice_ref(raw.as_bytes()), whole.len());
    Ok(())
}

/// The text of a JSON string that is known to be well-formed, copied only where it has escapes.
fn string(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        // All that can be wrong in a string that was skipped over: half a surrogate pair.
        _ => serde_json::from_str(raw)
            .map(Cow::Owned)
            .map_err(|_| "the string has an escape of no character"),
    }
}

/// The error of `serde_json`, its line and column as a byte offset.
fn syntax(text: &str, error: &serde_json::Error) -> DecodeError {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let reason = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    let Some(lines_before) = line.checked_sub(1) else {
        return DecodeError::new(reason);
    };
    let start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    DecodeError::at((start + column.saturating_sub(1)).min(text.len()), reason)
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Member<'a> {
    name: Cow<'a, str>,
    value: &'a RawValue,
}

impl Member<'_> {
    fn is_null(&self) -> bool {
        self.value.get() == "null"
    }
}

/// The members of an event's object, their values not looked into.
struct Members<'a>(Vec<Member<'a>>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom(format!("an event has at most {MEMBERS_MAX} members")));
            }
            members.push(Member { name, value: map.next_value()? });
        }
        Ok(members)
    }
}

/// The elements of a batch's array, not looked into.
struct Elements {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch of events as a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = seq.next_element()? {
            if events.len() == self.limit {
                return Err(A::Error::custom(format!("a batch has at most {} events here", self.limit)));
            }
            events.push(event);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
