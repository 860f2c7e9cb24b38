//! The pipe's bytes: frames, events and answers. Pure functions; both roles share them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use meshbus::core::delivery::Outcome;
use meshbus::core::template::Template;
use meshbus::core::{DecodeError, Envelope, Topic};
use meshbus::schema::cloudevents::json;
use serde_json::{Value, json};

/// Most bytes of a reason on the wire, so that an answer is always small.
const REASON_MAX: usize = 512;
/// Largest answer a client reads: the reason, escaped, and what is around it.
pub(super) const ANSWER_MAX: usize = 8 * REASON_MAX;

/// One frame of the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Its bytes.
    Whole(Bytes),
    /// Longer than allowed, by its length; its bytes are passed over.
    Oversize(usize),
}

/// Cuts what is read into frames. Holds one frame and what has come after it.
#[derive(Debug)]
pub(super) struct Frames {
    max: usize,
    /// Bytes of an oversize frame that are still to be passed over.
    skip: usize,
}

impl Frames {
    /// Takes frames of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, skip: 0 }
    }

    /// The next frame of what was read, once it is whole.
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Option<Frame> {
        let passed = self.skip.min(read.len());
        read.advance(passed);
        self.skip -= passed;
        let length = u32::from_be_bytes(read.first_chunk().copied()?) as usize;
        if length > self.max {
            read.advance(4);
            self.skip = length;
            return Some(Frame::Oversize(length));
        }
        if read.len() < 4 + length {
            return None;
        }
        read.advance(4);
        Some(Frame::Whole(read.split_to(length).freeze()))
    }
}

/// Adds an event. One whose length no frame can state is refused.
pub(super) fn put_event(out: &mut BytesMut, envelope: &Envelope) -> Result<(), String> {
    put_frame(out, &json::encode(envelope))
}

/// Reads an event, which `topic` gives its topic.
pub(super) fn event(frame: &Bytes, topic: &Template) -> Result<Envelope, DecodeError> {
    // The template may name attributes, so they are read first.
    let any = Topic::parse("pipe").map_err(|error| DecodeError::new(error.to_string()))?;
    let mut envelope = json::decode(frame, any)?;
    envelope.topic = topic.render_topic(&envelope, "").map_err(|reason| DecodeError::new(&*reason))?;
    Ok(envelope)
}

/// Adds the answer to an event.
pub(super) fn put_answer(out: &mut BytesMut, outcome: &Outcome) -> Result<(), String> {
    let answer = match outcome {
        // Nobody wanted it, which is no reason to send it again.
        Outcome::Delivered | Outcome::Filtered => json!("delivered"),
        Outcome::Rejected(reason) => json!({"rejected": shortened(reason)}),
        Outcome::Undelivered(reason) => json!({"undelivered": shortened(reason)}),
    };
    put_frame(out, answer.to_string().as_bytes())
}

/// Reads an answer; `None` where it is none.
pub(super) fn answer(frame: &[u8]) -> Option<Outcome> {
    let answer: Value = serde_json::from_slice(frame).ok()?;
    let reason = |name| answer.get(name)?.as_str().map(|text| text.to_owned().into());
    if answer == "delivered" {
        return Some(Outcome::Delivered);
    }
    reason("rejected").map(Outcome::Rejected).or_else(|| reason("undelivered").map(Outcome::Undelivered))
}

fn put_frame(out: &mut BytesMut, body: &[u8]) -> Result<(), String> {
    let length = u32::try_from(body.len()).map_err(|_| format!("{} bytes fit no frame", body.len()))?;
    out.reserve(4 + body.len());
    out.put_u32(length);
    out.put_slice(body);
    Ok(())
}

fn shortened(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put_frame(&mut out, body).unwrap();
        out
    }

    #[test]
    fn a_frame_is_read_however_it_is_cut_and_an_oversize_one_is_passed_over() {
        let whole =
            [&frame(b"one")[..], &frame(b"far too long")[..], &frame(b"")[..], &frame(b"two")[..]].concat();
        for cut in 0..=whole.len() {
            let (mut frames, mut read, mut found) = (Frames::new(4), BytesMut::new(), Vec::new());
            for part in [&whole[..cut], &whole[cut..]] {
                read.extend_from_slice(part);
                found.extend(std::iter::from_fn(|| frames.next(&mut read)));
            }
            let wanted = [
                Frame::Whole("one".into()),
                Frame::Oversize(12),
                Frame::Whole(Bytes::new()),
                Frame::Whole("two".into()),
            ];
            assert_eq!(found, wanted, "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was_given_with_a_short_reason() {
        let long = "€".repeat(REASON_MAX);
        for outcome in [
            Outcome::Delivered,
            Outcome::Rejected("no \"such\" thing".into()),
            Outcome::Undelivered("away".into()),
        ] {
            let mut out = BytesMut::new();
            put_answer(&mut out, &outcome).unwrap();
            assert_eq!(answer(&out[4..]), Some(outcome));
        }
        let mut out = BytesMut::new();
        put_answer(&mut out, &Outcome::Rejected(long.into())).unwrap();
        assert!(out.len() < REASON_MAX + 64);
        assert_eq!(answer(b"{}"), None);
        assert_eq!(answer(b"\xff"), None);
    }
}
