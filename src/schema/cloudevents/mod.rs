//! CloudEvents forms that more than one transport carries.
//!
//! Follows [CloudEvents 1.0.2](https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents) and, where it
//! says more, the 1.0.3 draft. Only `specversion` 1.0 is read and written.
//!
//! | form | module | media type |
//! |---|---|---|
//! | JSON, one event or a batch | [`json`] | `application/cloudevents+json`, `application/cloudevents-batch+json` |
//! | protobuf, one event or a batch | [`protobuf`] | `application/cloudevents+protobuf`, `application/cloudevents-batch+protobuf` |
//! | binary mode, attribute by attribute | [`attributes`], header values in [`percent`] | that of the data |
//! | the Rust SDK's `Event` | [`sdk`] | – |
//!
//! The bindings themselves (header names, content modes, what is structured and what is not) belong to each
//! transport. An envelope that carries a change of state is written like any other: the bus has filled in
//! its context by then. What is read is always [`Change::Occurred`](crate::core::Change::Occurred).

#[cfg(test)]
mod arbitrary;
pub mod attributes;
pub mod json;
pub mod media;
pub mod percent;
pub mod protobuf;
pub mod sdk;

use bytes::Bytes;

pub use attributes::{for_each_attribute, set_attribute};

/// Most extension attributes one event may have; more are refused by every decoder.
pub const EXTENSIONS_MAX: usize = 256;

/// Data shorter than this is copied out of the message it came in.
const SHARE_MIN: usize = 4096;

/// How an event is laid out in a message (CloudEvents 1.0 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentMode {
    /// Attributes in the protocol's own metadata, data as the body.
    #[default]
    Binary,
    /// All in the body, in the JSON format.
    Structured,
    /// The data alone; attributes are lost.
    Data,
}

/// Makes the data of an event from a slice of its message of `whole` bytes: shared where it is most of a
/// large message, else copied, so that an event that is kept never holds on to much more than its own bytes
/// (a batch, a read buffer).
fn keep(data: Bytes, whole: usize) -> Bytes {
    if data.len() >= SHARE_MIN && data.len() >= whole / 2 { data } else { Bytes::copy_from_slice(&data) }
}
