//! Records at rest: what the log has let go and the table still holds, as one piece of bytes.
//!
//! A record whole is some fifteen allocations, half of them handles to a few bytes of text each. At rest it is two,
//! and holds nothing but itself: no value before it, no room to grow, and no buffer of which it was only a part.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;
use tokio::time::Instant;

use super::delivery::Outcome;
use super::envelope::{Cause, Change, Envelope, Extensions, Key, Seq, Value, Version};
use super::publish::{ADDED, DELETED, MODIFIED, id_of, source_of};
use super::receipt::Receipt;
use super::record::Record;
use super::timestamp::Timestamp;
use super::topic::Topic;

/// Data up to here is copied; more is kept as it came, since copying it would hold up the bus.
const COPIED_MAX: usize = 64 << 10;

/// Names of attributes that nearly every change has: a byte each.
const NAMES: [&str; 9] = [
    "mbcause",
    "mbhops",
    "mborigin",
    "mbscope",
    "mbseq",
    "partitionkey",
    "resourcename",
    "resourcetype",
    "resourceversion",
];
/// Types of changes as CloudEvents, as the bus names them.
const KINDS: [&str; 3] = [ADDED, MODIFIED, DELETED];
const CAUSES: [Cause; 4] = [Cause::Deleted, Cause::Expired, Cause::Inferred, Cause::Unmatched];

// How a value is told.
const FALSE: usize = 0;
const TRUE: usize = 1;
const INTEGER: usize = 2;
const TEXT: usize = 3;
const BINARY: usize = 4;
const URI: usize = 5;
const URI_REF: usize = 6;
const TIME: usize = 7;
/// A text that the change tells as well: its scope, its type, its name, its version, its sequence.
const FIRST_TOLD: usize = 8;

/// One change of state, packed.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) seq: Seq,
    pub(crate) weight: usize,
    at: Instant,
    replaces: bool,
    /// Where there is more to tell than that it was delivered.
    receipt: Option<Receipt>,
    /// What [`Packer::put`] writes, and the data.
    bytes: Bytes,
    /// The data, where it is not copied.
    large: Option<Box<Bytes>>,
}

impl Packed {
    /// Packs a change; `None` for an event, which is no state.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let envelope = &*record.envelope;
        let copied = envelope.data.len() <= COPIED_MAX;
        let data = if copied { &*envelope.data } else { &[] };
        let mut packer = Packer(Vec::with_capacity(512 + data.len()));
        packer.put(record)?;
        packer.0.extend_from_slice(data);
        let told = record.receipt.try_delivered() == Some(Outcome::Delivered);
        Some(Self {
            seq: record.seq,
            weight: record.weight,
            at: record.at,
            replaces: record.replaces,
            receipt: (!told).then(|| record.receipt.clone()),
            bytes: packer.0.into_boxed_slice().into(),
            large: (!copied).then(|| Box::new(envelope.data.clone())),
        })
    }

    /// The name of its key.
    pub(crate) fn name(&self) -> ByteString {
        self.reader().text()
    }

    /// The version its source gave it; empty where the sequence stands for it.
    pub(crate) fn version(&self) -> Version {
        let mut reader = self.reader();
        reader.text();
        reader.text()
    }

    /// Whether it is a change of a scope and type.
    pub(crate) fn is_of(&self, scope: &str, type_url: &str) -> bool {
        let mut reader = self.reader();
        reader.bytes();
        reader.bytes();
        reader.bytes() == *type_url.as_bytes() && reader.bytes() == *scope.as_bytes()
    }

    /// The envelope as it was.
    pub(crate) fn envelope(&self) -> Envelope {
        self.unpack().0
    }

    /// The record as it was, but for the value before it.
    pub(crate) fn record(&self) -> Record {
        let (envelope, ingress) = self.unpack();
        let mut record = Record::new(self.seq, Arc::new(envelope), ingress, self.at, self.receipt());
        record.weight = self.weight;
        record.replaces = self.replaces;
        record
    }

    /// The receipt of its publication.
    pub(crate) fn receipt(&self) -> Receipt {
        self.receipt.clone().unwrap_or_else(|| Receipt::told(self.seq))
    }

    fn unpack(&self) -> (Envelope, ByteString) {
        let mut reader = self.reader();
        let (mut envelope, ingress) = reader.head(self.seq);
        envelope.data = match &self.large {
            Some(data) => Bytes::clone(data),
            None => reader.rest,
        };
        (envelope, ingress)
    }

    fn reader(&self) -> Reader {
        Reader { rest: self.bytes.clone() }
    }
}

/// Writes all of a record but its data. [`Reader::head`] reads it.
struct Packer(Vec<u8>);

impl Packer {
    fn put(&mut self, record: &Record) -> Option<()> {
        let envelope = &*record.envelope;
        let (key, version, change) = match &envelope.change {
            Change::Occurred => return None,
            Change::Put(key, version) => (key, version, 0),
            Change::Delete(key, version, cause) => (key, version, 1 + place(&CAUSES, cause)),
        };
        self.text(&key.name);
        self.text(version);
        self.text(&key.type_url);
        self.text(&key.scope);
        self.number(change);
        self.text(&record.ingress);
        self.text(envelope.topic.as_str());
        self.unless(&envelope.id, &id_of(key, version, record.seq));
        self.unless(&envelope.source, &source_of(key));
        self.known(&KINDS, &envelope.kind);
        self.optional(envelope.subject.as_ref());
        self.optional(envelope.time.as_ref().map(Timestamp::text));
        self.optional(envelope.datacontenttype.as_ref());
        self.optional(envelope.dataschema.as_ref());
        let seq = record.seq.to_string();
        self.number(envelope.extensions.len());
        for (name, value) in envelope.extensions.iter() {
            self.known(&NAMES, name);
            self.value(value, &[&key.scope, &key.type_url, &key.name, version, &seq]);
        }
        Some(())
    }

    /// A text that is often one of those which the change tells anyway.
    fn value(&mut self, value: &Value, told: &[&str; 5]) {
        match value {
            Value::String(text) => match told.iter().position(|told| **told == **text) {
                Some(at) => self.number(FIRST_TOLD + at),
                None => self.tagged(TEXT, text.as_bytes()),
            },
            Value::Uri(text) => self.tagged(URI, text.as_bytes()),
            Value::UriRef(text) => self.tagged(URI_REF, text.as_bytes()),
            Value::Timestamp(time) => self.tagged(TIME, time.text().as_bytes()),
            Value::Binary(bytes) => self.tagged(BINARY, bytes),
            Value::Boolean(value) => self.number(if *value { TRUE } else { FALSE }),
            Value::Integer(value) => {
                self.number(INTEGER);
                self.0.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    fn tagged(&mut self, tag: usize, bytes: &[u8]) {
        self.number(tag);
        self.number(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&ByteString>) {
        self.number(usize::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    /// A text, unless it is what it is by default.
    fn unless(&mut self, text: &ByteString, default: &str) {
        self.optional(Some(text).filter(|text| ***text != *default));
    }

    fn known(&mut self, known: &[&str], text: &str) {
        let at = place(known, &text);
        self.number(at);
        if at == known.len() {
            self.text(text);
        }
    }

    /// Seven bits a byte, the lowest first; the last has its top bit clear.
    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// Where it is; behind the last where it is not.
fn place<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|have| have == one).unwrap_or(all.len())
}

/// Reads what [`Packer`] wrote. Nobody else wrote it, so what cannot be is read as nothing.
struct Reader {
    rest: Bytes,
}

impl Reader {
    /// The envelope without its data, and the connector it came in by.
    fn head(&mut self, seq: Seq) -> (Envelope, ByteString) {
        let (name, version) = (self.text(), self.text());
        let (type_url, scope) = (self.text(), self.text());
        let key = Key { scope, type_url, name };
        let cause =
            self.number().checked_sub(1).map(|at| CAUSES.get(at).copied().unwrap_or(Cause::Deleted));
        let (ingress, topic) = (self.text(), Topic::known(self.text()));
        let mut envelope = Envelope::event(topic, "", "", "");
        envelope.id = self.optional().unwrap_or_else(|| id_of(&key, &version, seq).into());
        envelope.source = self.optional().unwrap_or_else(|| source_of(&key).into());
        envelope.kind = self.known(&KINDS);
        envelope.subject = self.optional();
        envelope.time = self.optional().map(Timestamp::known);
        envelope.datacontenttype = self.optional();
        envelope.dataschema = self.optional();
        let told = [&key.scope, &key.type_url, &key.name, &version, &seq.to_string().into()];
        envelope.extensions = self.extensions(told);
        envelope.change = match cause {
            None => Change::Put(key, version),
            Some(cause) => Change::Delete(key, version, cause),
        };
        (envelope, ingress)
    }

    fn extensions(&mut self, told: [&ByteString; 5]) -> Extensions {
        let count = self.number();
        let mut extensions = Extensions::default();
        extensions.reserve(count);
        for _ in 0..count {
            let name = self.known(&NAMES);
            let value = match self.number() {
                TEXT => Value::String(self.text()),
                URI => Value::Uri(self.text()),
                URI_REF => Value::UriRef(self.text()),
                TIME => Value::Timestamp(Timestamp::known(self.text())),
                BINARY => Value::Binary(self.bytes()),
                FALSE => Value::Boolean(false),
                TRUE => Value::Boolean(true),
                INTEGER => {
                    let bytes = self.take(size_of::<i32>());
                    Value::Integer(bytes.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes)))
                }
                at => Value::String(told.get(at - FIRST_TOLD).copied().cloned().unwrap_or_default()),
            };
            extensions.set(name, value);
        }
        extensions
    }

    fn text(&mut self) -> ByteString {
        ByteString::try_from(self.bytes()).unwrap_or_default()
    }

    fn optional(&mut self) -> Option<ByteString> {
        (self.number() == 1).then(|| self.text())
    }

    fn known(&mut self, known: &[&'static str]) -> ByteString {
        match known.get(self.number()) {
            Some(text) => ByteString::from_static(text),
            None => self.text(),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.number();
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.rest.split_to(length.min(self.rest.len()))
    }

    fn number(&mut self) -> usize {
        let (mut number, mut shift) = (0, 0);
        while let Some(&byte) = self.rest.first() {
            self.rest.advance(1);
            number |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift >= usize::BITS {
                break;
            }
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Boolean),
            any::<i32>().prop_map(Value::Integer),
            "[ -~é]{0,20}".prop_map(|text| Value::String(text.into())),
            // What the key tells as well.
            prop_oneof![Just("s"), Just("t/v1/K"), Just("7")].prop_map(Value::from),
            "[a-z:/]{0,200}".prop_map(|text| Value::Uri(text.into())),
            "[a-z/]{0,9}".prop_map(|text| Value::UriRef(text.into())),
            vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Binary(bytes.into())),
            Just(Value::Timestamp(Timestamp::from_unix(1_700_000_000, 5).unwrap())),
        ]
    }

    fn change() -> impl Strategy<Value = Change> {
        let key = ("[a-z]?", "[a-zA-Z/]{0,9}", "[ -~é]{0,200}");
        (key.prop_map(|(scope, kind, name)| Key::new(scope, kind, name)), "[0-9]{0,3}", 0..5_usize)
            .prop_map(|(key, version, cause)| match CAUSES.get(cause) {
                Some(cause) => Change::Delete(key, version.into(), *cause),
                None => Change::Put(key, version.into()),
            })
    }

    fn envelope() -> impl Strategy<Value = Envelope> {
        let texts =
            ("[ -~]{0,9}", "[ -~]{0,9}", prop_oneof![Just(KINDS[1].to_owned()), "[a-z]{0,9}".boxed()]);
        let optional = || proptest::option::of("[a-z/]{0,140}");
        let names =
            prop_oneof!["[a-z]{1,9}".boxed(), proptest::sample::select(&NAMES).prop_map(str::to_owned)];
        let size = prop_oneof![0..300_usize, COPIED_MAX - 1..COPIED_MAX + 2];
        (texts, (optional(), optional(), optional()), change(), vec((names, value()), 0..12), size)
            .prop_map(|((id, source, kind), (subject, media, schema), change, extensions, size)| {
                let mut envelope = Envelope::event("a/b".parse().unwrap(), id, source, kind);
                envelope.subject = subject.map(Into::into);
                envelope.datacontenttype = media.map(Into::into);
                envelope.dataschema = schema.map(Into::into);
                envelope.time = envelope.subject.as_ref().map(|_| Timestamp::now());
                for (name, value) in extensions {
                    envelope.extensions.set(name, value);
                }
                envelope.change = change;
                envelope.data = vec![b'x'; size].into();
                envelope
            })
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_as_it_was(envelope in envelope(), seq in 0..1_u64 << 53, named: bool) {
            let mut envelope = envelope;
            let key = envelope.change.key().unwrap().clone();
            if let (true, Change::Put(_, version)) = (named, &envelope.change) {
                envelope.id = id_of(&key, version, Seq(seq)).into();
                envelope.source = source_of(&key).into();
            }
            let receipt = Receipt::told(Seq(seq));
            let mut record =
                Record::new(Seq(seq), Arc::new(envelope), "east".into(), Instant::now(), receipt);
            record.replaces = named;
            let packed = Packed::of(&record).unwrap();
            let again = packed.record();
            prop_assert_eq!(&again.envelope, &record.envelope);
            prop_assert_eq!((again.seq, again.weight, again.at), (record.seq, record.weight, record.at));
            prop_assert_eq!((&again.ingress, again.replaces), (&record.ingress, named));
            prop_assert_eq!(again.receipt.stored(), Ok(Seq(seq)));
            prop_assert_eq!(again.receipt.try_delivered(), Some(Outcome::Delivered));
            prop_assert_eq!(packed.name(), key.name);
        }
    }

    #[test]
    fn an_event_is_not_packed() {
        let event = Arc::new(Envelope::event("a".parse().unwrap(), "1", "s", "t"));
        let record = Record::new(Seq(1), event, ByteString::new(), Instant::now(), Receipt::told(Seq(1)));
        assert!(Packed::of(&record).is_none());
    }
}
