//! What a guest's answer means for an envelope: verdicts of both forms end here, checked.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use super::limits::{OUTPUT_NAME_MAX, REASON_MAX};
use super::settings::TOPIC;
use crate::core::envelope::{Envelope, Value, check_name};
use crate::core::filter::{Output, Verdict};
use crate::core::timestamp::Timestamp;
use crate::core::topic::Topic;

/// Attributes that tell where an event has been; whoever changes them breaks the guard against loops.
const GUARDED: [&str; 2] = ["mborigin", "mbhops"];

/// So much of an attribute's name is shown in a reason.
const NAME_SHOWN: usize = 64;

/// The data of an output.
#[derive(Debug)]
pub(super) enum Data {
    Keep,
    None,
    Bytes(Bytes),
}

/// One output as a guest tells it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) patch: Vec<(ByteString, Option<Value>)>,
    pub(super) data: Data,
    pub(super) to: Option<ByteString>,
}

/// The answers to a call, one for each event.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// In the place of a wrong one there is [`Verdict::Drop`].
    pub(super) verdicts: Vec<Verdict>,
    /// Where the wrong ones are, and what is wrong with them.
    pub(super) wrong: Vec<(usize, String)>,
}

impl Answers {
    pub(super) fn with_capacity(events: usize) -> Self {
        Self { verdicts: Vec::with_capacity(events), wrong: Vec::new() }
    }

    #[inline]
    pub(super) fn push(&mut self, answer: Result<Verdict, String>) {
        let verdict = answer.unwrap_or_else(|wrong| {
            self.wrong.push((self.verdicts.len(), wrong));
            Verdict::Drop(None)
        });
        self.verdicts.push(verdict);
    }
}

/// The verdict for `changes` of `input`; none is a drop.
///
/// # Errors
/// A change that makes no valid event of it: says which attribute and why.
pub(super) fn emit(input: &Envelope, changes: Vec<Change>) -> Result<Verdict, String> {
    let only = changes.len() == 1;
    let mut outputs = Vec::with_capacity(changes.len());
    for change in changes {
        let name = change.to.map(output_name).transpose()?;
        let mut envelope = input.clone();
        for (attribute, value) in change.patch {
            set(&mut envelope, &attribute, value).map_err(|reason| {
                format!("it sets attribute {:?}, which {reason}", cut(&attribute, NAME_SHOWN))
            })?;
        }
        match change.data {
            Data::Keep => {}
            Data::None => envelope.data = Bytes::new(),
            Data::Bytes(data) => envelope.data = data,
        }
        envelope.validate().map_err(|error| format!("its output is no event: {error}"))?;
        outputs.push(Output { name, envelope });
    }
    if only && let Some(same) = outputs.pop_if(|output| same_occurrence(output, input)) {
        return Ok(Verdict::Change(Box::new(same.envelope)));
    }
    Ok(if outputs.is_empty() { Verdict::Drop(None) } else { Verdict::Emit(outputs) })
}

/// A reason of a guest, cut to what a log line bears.
pub(super) fn reason(text: &str) -> ByteString {
    cut(text, REASON_MAX).into_owned().into()
}

/// The word on why that goes with a drop; none where it is empty.
pub(super) fn word(text: &str) -> Option<ByteString> {
    (!text.is_empty()).then(|| reason(text))
}

/// `text` cut to `max` bytes, at a character.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.split_at_checked(text.floor_char_boundary(max)) {
        Some((head, rest)) if !rest.is_empty() => format!("{head}…").into(),
        _ => text.into(),
    }
}

fn same_occurrence(output: &Output, input: &Envelope) -> bool {
    output.name.is_none() && output.envelope.id == input.id && output.envelope.source == input.source
}

fn output_name(name: ByteString) -> Result<ByteString, String> {
    if name.is_empty() || name.len() > OUTPUT_NAME_MAX {
        return Err(format!(
            "the name of an output has 1 to {OUTPUT_NAME_MAX} bytes, this one {}",
            name.len()
        ));
    }
    Ok(name)
}

/// Sets or removes one attribute by its CloudEvents name.
fn set(envelope: &mut Envelope, name: &ByteString, value: Option<Value>) -> Result<(), String> {
    match &**name {
        "id" => envelope.id = required(value)?,
        "source" => envelope.source = required(value)?,
        "type" => envelope.kind = required(value)?,
        "subject" => envelope.subject = optional(value)?,
        "datacontenttype" => envelope.datacontenttype = optional(value)?,
        "dataschema" => envelope.dataschema = optional(value)?,
        "time" => envelope.time = value.map(time).transpose()?,
        TOPIC => {
            envelope.topic =
                Topic::parse(required(value)?).map_err(|error| format!("is its topic: {error}"))?;
        }
        _ if GUARDED.contains(&&**name) => return Err("belongs to the guard against loops".to_owned()),
        _ => {
            check_name(name).map_err(|error| error.reason.to_owned())?;
            match value {
                Some(value) => envelope.extensions.set(name.clone(), value),
                None => drop(envelope.extensions.remove(name)),
            }
        }
    }
    Ok(())
}

fn required(value: Option<Value>) -> Result<ByteString, String> {
    optional(value)?.filter(|text| !text.is_empty()).ok_or_else(|| "must not be empty".to_owned())
}

fn optional(value: Option<Value>) -> Result<Option<ByteString>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text) | Value::Uri(text) | Value::UriRef(text)) => Ok(Some(text)),
        Some(_) => Err("is text".to_owned()),
    }
}

fn time(value: Value) -> Result<Timestamp, String> {
    match value {
        Value::Timestamp(time) => Ok(time),
        Value::String(text) => Timestamp::parse(text).map_err(|error| error.reason.to_owned()),
        _ => Err("is a time".to_owned()),
    }
}
