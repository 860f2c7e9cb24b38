//! One resource as it stands in responses, encoded once for all streams and both variants of the protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use meshbus_proto::google;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::core::Seq;

/// The field of resources in both responses, and of the message in a `Resource`.
const RESOURCES: u32 = 2;
const VERSION: u32 = 1;
const NAME: u32 = 3;
const ALIASES: u32 = 4;
const TTL: u32 = 6;
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// A resource as the field `resources` of a `DeltaDiscoveryResponse`, whose end is that field of a `DiscoveryResponse`:
/// the `Any`, which has the same number in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its last change.
    pub seq: Seq,
    /// Its name.
    pub name: ByteString,
    /// Its version.
    pub version: ByteString,
    /// How long it holds without another word, where it tells that.
    pub ttl: Option<Duration>,
    /// Its other names.
    pub aliases: Vec<ByteString>,
    bytes: Bytes,
    any_at: usize,
}

/// What a resource may say beside its message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Its other names.
    pub aliases: &'a [ByteString],
    /// How long it holds without another word.
    pub ttl: Option<Duration>,
}

impl Encoded {
    /// Encodes the message `value` of the type.
    pub fn new(seq: Seq, name: ByteString, version: ByteString, type_url: &str, value: &[u8]) -> Self {
        Self::put(seq, name, version, Extra::default(), Some((type_url, value)))
    }

    /// As [`new`](Self::new), with what else there is to say.
    pub fn with(
        seq: Seq,
        name: ByteString,
        version: ByteString,
        extra: Extra<'_>,
        (type_url, value): (&str, &[u8]),
    ) -> Self {
        Self::put(seq, name, version, extra, Some((type_url, value)))
    }

    /// A name and a version without a message; for incremental responses only.
    pub fn bodiless(seq: Seq, name: ByteString, version: ByteString, extra: Extra<'_>) -> Self {
        Self::put(seq, name, version, extra, None)
    }

    /// The same without its message, by which a client is told that it still holds; one that has none is its own.
    pub fn word(self: &Arc<Self>) -> Arc<Self> {
        if self.is_beat() {
            return Arc::clone(self);
        }
        let extra = Extra { aliases: &self.aliases, ttl: self.ttl };
        Arc::new(Self::bodiless(self.seq, self.name.clone(), self.version.clone(), extra))
    }

    /// Whether it says but that the resource still holds.
    pub fn is_beat(&self) -> bool {
        self.ttl.is_some() && self.sotw().is_empty()
    }

    fn put(
        seq: Seq,
        name: ByteString,
        version: ByteString,
        Extra { aliases, ttl }: Extra<'_>,
        message: Option<(&str, &[u8])>,
    ) -> Self {
        let life = ttl.map(|ttl| google::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or_default(),
        });
        let any = message
            .map(|(type_url, value)| text_len(TYPE_URL, type_url.len()) + text_len(VALUE, value.len()));
        let field = |number, len: usize| key_len(number) + encoded_len_varint(len as u64) + len;
        let resource = text_len(VERSION, version.len())
            + text_len(NAME, name.len())
            + aliases.iter().map(|alias| text_len(ALIASES, alias.len())).sum::<usize>()
            + life.as_ref().map_or(0, |life| field(TTL, life.encoded_len()))
            + any.map_or(0, |any| field(RESOURCES, any));
        let mut bytes = BytesMut::with_capacity(field(RESOURCES, resource));
        put_len(&mut bytes, RESOURCES, resource);
        put_text(&mut bytes, VERSION, version.as_bytes());
        put_text(&mut bytes, NAME, name.as_bytes());
        for alias in aliases {
            put_text(&mut bytes, ALIASES, alias.as_bytes());
        }
        if let Some(life) = &life {
            put_len(&mut bytes, TTL, life.encoded_len());
            bytes.put_slice(&life.encode_to_vec());
        }
        let any_at = bytes.len();
        if let Some(((type_url, value), any)) = message.zip(any) {
            put_len(&mut bytes, RESOURCES, any);
            put_text(&mut bytes, TYPE_URL, type_url.as_bytes());
            put_text(&mut bytes, VALUE, value);
        }
        Self { seq, name, version, ttl, aliases: aliases.to_vec(), bytes: bytes.freeze(), any_at }
    }

    /// The field of an incremental response.
    pub fn delta(&self) -> &[u8] {
        &self.bytes
    }

    /// The field of a response of the state of the world.
    pub fn sotw(&self) -> &[u8] {
        self.bytes.get(self.any_at..).unwrap_or_default()
    }

    /// Bytes it takes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The bytes of a text field; none where it is empty.
pub(super) fn text_len(field: u32, len: usize) -> usize {
    if len == 0 { 0 } else { key_len(field) + encoded_len_varint(len as u64) + len }
}

/// Writes a text field; not where it is empty.
pub(super) fn put_text(out: &mut impl BufMut, field: u32, text: &[u8]) {
    if !text.is_empty() {
        put_len(out, field, text.len());
        out.put_slice(text);
    }
}

/// Writes the start of a field with so many bytes.
pub(super) fn put_len(out: &mut impl BufMut, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}
