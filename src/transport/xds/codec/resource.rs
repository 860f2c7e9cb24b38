//! One resource as it stands in responses, encoded once for all streams and both variants of the protocol.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::core::Seq;

/// The field of resources in both responses, and of the message in a `Resource`.
const RESOURCES: u32 = 2;
const VERSION: u32 = 1;
const NAME: u32 = 3;
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
    bytes: Bytes,
    any_at: usize,
}

impl Encoded {
    /// Encodes the message `value` of the type.
    pub fn new(seq: Seq, name: ByteString, version: ByteString, type_url: &str, value: &[u8]) -> Self {
        let any = text_len(TYPE_URL, type_url.len()) + text_len(VALUE, value.len());
        let any_field = key_len(RESOURCES) + encoded_len_varint(any as u64) + any;
        let resource = text_len(VERSION, version.len()) + text_len(NAME, name.len()) + any_field;
        let len = key_len(RESOURCES) + encoded_len_varint(resource as u64) + resource;
        let mut bytes = BytesMut::with_capacity(len);
        put_len(&mut bytes, RESOURCES, resource);
        put_text(&mut bytes, VERSION, version.as_bytes());
        put_text(&mut bytes, NAME, name.as_bytes());
        let any_at = bytes.len();
        put_len(&mut bytes, RESOURCES, any);
        put_text(&mut bytes, TYPE_URL, type_url.as_bytes());
        put_text(&mut bytes, VALUE, value);
        Self { seq, name, version, bytes: bytes.freeze(), any_at }
    }

    /// A name and a version without a message; for incremental responses only.
    pub fn bodiless(seq: Seq, name: ByteString, version: ByteString) -> Self {
        let resource = text_len(VERSION, version.len()) + text_len(NAME, name.len());
        let mut bytes = BytesMut::new();
        put_len(&mut bytes, RESOURCES, resource);
        put_text(&mut bytes, VERSION, version.as_bytes());
        put_text(&mut bytes, NAME, name.as_bytes());
        let any_at = bytes.len();
        Self { seq, name, version, bytes: bytes.freeze(), any_at }
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
