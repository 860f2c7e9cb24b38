//! Envelopes as the flat frames of the world `packed-filter-plugin`, and its answers back: version 1 of
//! `plugins/wit/packed.md`.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::patch::{Answers, Change, Data, emit, reason, word};
use super::settings::{Body, Shown, TOPIC};
use super::typed::{instant, timestamp};
use crate::core::envelope::{Envelope, Value};
use crate::core::filter::{Input, OUTPUTS_MAX, Verdict};
use crate::core::timestamp::Timestamp;

const VERSION: u8 = 1;
const BOOLEAN: u8 = 0;
const INTEGER: u8 = 1;
const TEXT: u8 = 2;
const BINARY: u8 = 3;
const URI: u8 = 4;
const URI_REF: u8 = 5;
const TIME: u8 = 6;
/// Bytes of an event's attributes, usually.
const USUAL: usize = 512;
/// Bytes of an event before its attributes: its size, attempt and count of attributes.
const HEAD: usize = 10;

/// Writes `inputs` as a guest is shown them over what `out` held.
pub(super) fn encode(inputs: &[Input<'_>], shown: &Shown, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    for input in inputs {
        // The attributes of most events are less; more only means to grow once more.
        out.reserve(input.envelope.data.len() + USUAL);
        encode_event(input, shown, out);
    }
}

/// The verdicts in `answer`, one for each of `inputs`, of which a wrong one says what is wrong with it.
///
/// # Errors
/// The answer does not follow the layout.
pub(super) fn decode(inputs: &[Input<'_>], answer: Bytes) -> Result<Answers, String> {
    let mut answer = Answer { bytes: answer, at: 0 };
    if answer.byte()? != VERSION {
        return Err(format!("the packed answer is not of version {VERSION}"));
    }
    let mut answers = Answers::with_capacity(inputs.len());
    for input in inputs {
        // What most events get is not worth a call.
        match answer.byte()? {
            0 => answers.push(Ok(Verdict::Pass)),
            tag => answers.push(verdict(input.envelope, tag, &mut answer)?),
        }
    }
    match answer.left() {
        0 => Ok(answers),
        left => Err(format!("{left} bytes follow the last verdict of the packed answer")),
    }
}

/// One event as it is written.
struct Frame<'o> {
    shown: &'o Shown,
    attributes: u16,
    out: &'o mut Vec<u8>,
}

fn encode_event(input: &Input<'_>, shown: &Shown, out: &mut Vec<u8>) {
    let envelope = input.envelope;
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let mut frame = Frame { shown, attributes: 0, out };
    frame.text("id", TEXT, Some(&envelope.id));
    frame.text("source", URI_REF, Some(&envelope.source));
    frame.text("type", TEXT, Some(&envelope.kind));
    frame.text("subject", TEXT, envelope.subject.as_deref());
    if let Some(time) = &envelope.time
        && frame.begins("time")
    {
        frame.time(time);
    }
    frame.text("datacontenttype", TEXT, envelope.datacontenttype.as_deref());
    frame.text("dataschema", URI, envelope.dataschema.as_deref());
    for (name, value) in envelope.extensions.iter() {
        if **name != *TOPIC && frame.begins(name) {
            frame.value(value);
        }
    }
    frame.text(TOPIC, TEXT, Some(envelope.topic.as_str()));
    let count = frame.attributes;
    if shown.body == Body::Full && !envelope.data.is_empty() {
        out.push(1);
        str32(&envelope.data, out);
    } else {
        out.push(0);
    }
    let size = (out.len() - start - size_of::<u32>()) as u32;
    if let Some(head) = out.get_mut(start..start + HEAD) {
        let (size_at, rest) = head.split_at_mut(4);
        let (attempt_at, count_at) = rest.split_at_mut(4);
        size_at.copy_from_slice(&size.to_le_bytes());
        attempt_at.copy_from_slice(&input.attempt.to_le_bytes());
        count_at.copy_from_slice(&count.to_le_bytes());
    }
}

impl Frame<'_> {
    /// Writes the name of an attribute that is shown; `false` for one that is not, or that the layout cannot hold.
    #[inline]
    fn begins(&mut self, name: &str) -> bool {
        let (Ok(length), Some(count)) = (u8::try_from(name.len()), self.attributes.checked_add(1)) else {
            return false;
        };
        if !self.shown.attribute(name) {
            return false;
        }
        self.attributes = count;
        self.out.push(length);
        self.out.extend_from_slice(name.as_bytes());
        true
    }

    #[inline]
    fn text(&mut self, name: &str, tag: u8, text: Option<&str>) {
        if let Some(text) = text
            && self.begins(name)
        {
            self.bytes(tag, text.as_bytes());
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Boolean(value) => self.out.extend_from_slice(&[BOOLEAN, u8::from(*value)]),
            Value::Integer(value) => {
                self.out.push(INTEGER);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Value::String(text) => self.bytes(TEXT, text.as_bytes()),
            Value::Binary(bytes) => self.bytes(BINARY, bytes),
            Value::Uri(text) => self.bytes(URI, text.as_bytes()),
            Value::UriRef(text) => self.bytes(URI_REF, text.as_bytes()),
            Value::Timestamp(time) => self.time(time),
        }
    }

    fn time(&mut self, time: &Timestamp) {
        let instant = instant(time);
        self.out.push(TIME);
        self.out.extend_from_slice(&instant.seconds.to_le_bytes());
        self.out.extend_from_slice(&instant.nanoseconds.to_le_bytes());
    }

    #[inline]
    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        let [a, b, c, d] = (bytes.len() as u32).to_le_bytes();
        self.out.extend_from_slice(&[tag, a, b, c, d]);
        self.out.extend_from_slice(bytes);
    }
}

fn str32(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// One verdict. The outer error is of the layout, after which nothing can be read; the inner of what it says.
fn verdict(input: &Envelope, tag: u8, answer: &mut Answer) -> Result<Result<Verdict, String>, String> {
    Ok(match tag {
        1 => {
            let why = answer.text32()?;
            Ok(Verdict::Drop(word(&why)))
        }
        2 => {
            let count = answer.number().map(u16::from_le_bytes)?;
            if usize::from(count) > OUTPUTS_MAX {
                return Err(format!(
                    "the packed answer has {count} outputs of one event; at most {OUTPUTS_MAX}"
                ));
            }
            let outputs = (0..count).map(|_| change(answer)).collect::<Result<_, _>>()?;
            emit(input, outputs)
        }
        3 => Ok(Verdict::Retry(Duration::from_millis(answer.number().map(u32::from_le_bytes)?.into()))),
        4 => Ok(Verdict::Reject(reason(&answer.text32()?))),
        tag => return Err(unknown("verdict", tag)),
    })
}

fn change(answer: &mut Answer) -> Result<Change, String> {
    let count = answer.number().map(u16::from_le_bytes)?;
    let mut patch = Vec::new();
    for _ in 0..count {
        let name = answer.text8()?;
        let value = match answer.byte()? {
            0 => None,
            1 => Some(value(answer)?),
            tag => return Err(unknown("patch", tag)),
        };
        patch.push((name, value));
    }
    let data = match answer.byte()? {
        0 => Data::Keep,
        1 => Data::None,
        2 => Data::Bytes(answer.bytes32()?),
        tag => return Err(unknown("body", tag)),
    };
    Ok(Change { patch, data, to: Some(answer.text8()?).filter(|to| !to.is_empty()) })
}

fn value(answer: &mut Answer) -> Result<Value, String> {
    Ok(match answer.byte()? {
        BOOLEAN => Value::Boolean(answer.byte()? != 0),
        INTEGER => Value::Integer(answer.number().map(i32::from_le_bytes)?),
        TEXT => Value::String(answer.text32()?),
        BINARY => Value::Binary(answer.bytes32()?),
        URI => Value::Uri(answer.text32()?),
        URI_REF => Value::UriRef(answer.text32()?),
        TIME => {
            let seconds = answer.number().map(i64::from_le_bytes)?;
            Value::Timestamp(timestamp(seconds, answer.number().map(u32::from_le_bytes)?)?)
        }
        tag => return Err(unknown("value", tag)),
    })
}

fn unknown(what: &str, tag: u8) -> String {
    format!("the packed answer has a {what} of the unknown tag {tag}")
}

/// An answer as far as it is read. Texts and data are parts of it that share its memory; all else is copied out.
struct Answer {
    bytes: Bytes,
    at: usize,
}

impl Answer {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Where the next `length` bytes are.
    fn take(&mut self, length: usize) -> Result<Range<usize>, String> {
        let left = self.left();
        if length > left {
            return Err(format!(
                "the packed answer ends where {length} more bytes should follow, {left} do"
            ));
        }
        let taken = self.at..self.at + length;
        self.at = taken.end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        let bytes = self.bytes.get(taken).and_then(|bytes| bytes.try_into().ok());
        Ok(bytes.unwrap_or([0; N]))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte.ok_or_else(|| "the packed answer ends where a byte more should follow".to_owned())
    }

    fn bytes32(&mut self) -> Result<Bytes, String> {
        let length = self.number().map(u32::from_le_bytes)?;
        let taken = self.take(length as usize)?;
        Ok(self.bytes.slice(taken))
    }

    fn text32(&mut self) -> Result<ByteString, String> {
        self.bytes32().and_then(utf8)
    }

    fn text8(&mut self) -> Result<ByteString, String> {
        let length = self.byte()?;
        let taken = self.take(length.into())?;
        utf8(self.bytes.slice(taken))
    }
}

fn utf8(bytes: Bytes) -> Result<ByteString, String> {
    ByteString::try_from(bytes).map_err(|_| "the packed answer has a text that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
