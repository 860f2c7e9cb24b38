//! Envelopes as the typed events of the world `filter-plugin`, and its verdicts back. Nothing is copied on the way in:
//! the records borrow from the envelopes until the engine writes them into the guest's memory.

use super::bindings::meshbus::filter::types::{
    AttrValueParam, AttrValueResult, Attributes, Body, Event, Timestamp as Instant, Verdict as Answer,
};
use super::patch::{Change, Data, emit, reason, word};
use super::settings::{Body as Shows, Shown, TOPIC};
use crate::core::envelope::{Envelope, Value};
use crate::core::filter::{Input, Verdict};
use crate::core::timestamp::Timestamp;

/// An extension as the guest sees it.
type Extension<'e> = (&'e str, AttrValueParam<'e>);

/// Calls `call` with `inputs` as a guest is shown them.
pub(super) fn with_events<R>(
    inputs: &[Input<'_>],
    shown: &Shown,
    call: impl FnOnce(&[Event<'_>]) -> R,
) -> R {
    // One allocation for the extensions of all: an event borrows its part.
    let room = inputs.iter().map(|input| input.envelope.extensions.len() + 1).sum();
    let mut extensions: Vec<Extension<'_>> = Vec::with_capacity(room);
    let mut counts = Vec::with_capacity(inputs.len());
    for input in inputs {
        let before = extensions.len();
        push_extensions(input.envelope, shown, &mut extensions);
        counts.push(extensions.len() - before);
    }
    let mut rest = extensions.as_slice();
    let mut events = Vec::with_capacity(inputs.len());
    for (input, count) in inputs.iter().zip(counts) {
        let (own, after) = rest.split_at(count);
        rest = after;
        events.push(event(input, shown, own));
    }
    call(&events)
}

/// The verdict that `answer` is for `input`.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn verdict(input: &Envelope, answer: Answer) -> Result<Verdict, String> {
    match answer {
        Answer::Pass => Ok(Verdict::Pass),
        Answer::Drop(why) => Ok(Verdict::Drop(why.as_deref().and_then(word))),
        Answer::Retry(millis) => Ok(Verdict::Retry(std::time::Duration::from_millis(millis.into()))),
        Answer::DeadLetter(why) => Ok(Verdict::Reject(reason(&why))),
        Answer::Emit(outputs) => {
            let mut changes = Vec::with_capacity(outputs.len());
            for output in outputs {
                let mut patch = Vec::with_capacity(output.patch.len());
                for (name, value) in output.patch {
                    patch.push((name.into(), value.map(taken).transpose()?));
                }
                let data = match output.data {
                    Body::Keep => Data::Keep,
                    Body::None => Data::None,
                    Body::Bytes(bytes) => Data::Bytes(bytes.into()),
                };
                changes.push(Change { patch, data, to: output.to.map(Into::into) });
            }
            emit(input, changes)
        }
    }
}

/// Seconds and nanoseconds since 1970.
pub(super) fn instant(time: &Timestamp) -> Instant {
    let (seconds, nanoseconds) = time.unix();
    Instant { seconds, nanoseconds }
}

/// The time of so many seconds and nanoseconds since 1970.
///
/// # Errors
/// It is outside the years 1 to 9999, or a second has more nanoseconds than it can.
pub(super) fn timestamp(seconds: i64, nanoseconds: u32) -> Result<Timestamp, String> {
    let nanos = i32::try_from(nanoseconds).ok().filter(|nanos| *nanos < 1_000_000_000);
    nanos
        .and_then(|nanos| Timestamp::from_unix(seconds, nanos))
        .ok_or_else(|| format!("there is no time {seconds} s {nanoseconds} ns after 1970"))
}

fn push_extensions<'e>(envelope: &'e Envelope, shown: &Shown, into: &mut Vec<Extension<'e>>) {
    let own = envelope.extensions.iter().filter(|(name, _)| ***name != *TOPIC && shown.attribute(name));
    into.extend(own.map(|(name, value)| (&**name, given(value))));
    if shown.attribute(TOPIC) {
        into.push((TOPIC, AttrValueParam::Text(envelope.topic.as_str())));
    }
}

fn event<'e>(input: &Input<'e>, shown: &Shown, extensions: &'e [Extension<'e>]) -> Event<'e> {
    let envelope = input.envelope;
    let text = |name: &str, text: &'e str| if shown.attribute(name) { text } else { "" };
    let option = |name: &str, text: Option<&'e str>| text.filter(|_| shown.attribute(name));
    let has_data = shown.body == Shows::Full && !envelope.data.is_empty();
    Event {
        attributes: Attributes {
            id: text("id", &envelope.id),
            source: text("source", &envelope.source),
            type_: text("type", &envelope.kind),
            subject: option("subject", envelope.subject.as_deref()),
            time: envelope.time.as_ref().filter(|_| shown.attribute("time")).map(instant),
            datacontenttype: option("datacontenttype", envelope.datacontenttype.as_deref()),
            dataschema: option("dataschema", envelope.dataschema.as_deref()),
            extensions,
        },
        data: has_data.then_some(&*envelope.data),
        attempt: input.attempt,
    }
}

fn given(value: &Value) -> AttrValueParam<'_> {
    match value {
        Value::Boolean(value) => AttrValueParam::Boolean(*value),
        Value::Integer(value) => AttrValueParam::Integer(*value),
        Value::String(text) => AttrValueParam::Text(text),
        Value::Binary(bytes) => AttrValueParam::Binary(bytes),
        Value::Uri(text) => AttrValueParam::Uri(text),
        Value::UriRef(text) => AttrValueParam::UriRef(text),
        Value::Timestamp(time) => AttrValueParam::Time(instant(time)),
    }
}

fn taken(value: AttrValueResult) -> Result<Value, String> {
    Ok(match value {
        AttrValueResult::Boolean(value) => Value::Boolean(value),
        AttrValueResult::Integer(value) => Value::Integer(value),
        AttrValueResult::Text(text) => Value::String(text.into()),
        AttrValueResult::Binary(bytes) => Value::Binary(bytes.into()),
        AttrValueResult::Uri(text) => Value::Uri(text.into()),
        AttrValueResult::UriRef(text) => Value::UriRef(text.into()),
        AttrValueResult::Time(time) => Value::Timestamp(timestamp(time.seconds, time.nanoseconds)?),
    })
}
