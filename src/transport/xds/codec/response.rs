//! Responses, put together from encoded resources without decoding them. All of a response but its nonce is the same
//! for every stream that is told the same, so it is made once; the nonce has a fixed length and comes last.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use meshbus_proto::google;
use meshbus_proto::xds::{ResourceError, ResourceName};
use prost::Message;

use super::frame::{PREFIX, put_prefix};
use super::resource::{Encoded, put_len, put_text, text_len};
use super::status::Status;

const VERSION: u32 = 1;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
/// Of an incremental response.
const REMOVED: u32 = 6;
/// Digits of a nonce.
const DIGITS: usize = 8;
/// Bytes of the field of a nonce.
const NONCE_LEN: usize = 2 + DIGITS;

/// The two variants of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// What a response says.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Of which variant.
    pub variant: Variant,
    /// The type.
    pub type_url: &'a str,
    /// Of all that is told.
    pub version: &'a str,
    /// What there is.
    pub resources: &'a [Arc<Encoded>],
    /// What there is not; incremental only.
    pub removed: &'a [ByteString],
    /// What there is not, and why.
    pub errors: &'a [(ByteString, Status)],
    /// Who says it: the field `control_plane`, from [`control_plane`].
    pub control_plane: &'a [u8],
}

impl Draft<'_> {
    /// The response with its frame's prefix, but for the nonce, which has to follow as [`nonce`] gives it.
    pub fn bytes(&self) -> Bytes {
        let errors = self.errors();
        let resources: usize = self.resources.iter().map(|resource| self.entry(resource).len()).sum();
        let removed: usize = self.removed.iter().map(|name| text_len(REMOVED, name.len())).sum();
        let len = text_len(VERSION, self.version.len())
            + resources
            + text_len(TYPE_URL, self.type_url.len())
            + removed
            + self.control_plane.len()
            + errors.len();
        let mut bytes = BytesMut::with_capacity(PREFIX + len);
        put_prefix(&mut bytes, len + NONCE_LEN);
        put_text(&mut bytes, VERSION, self.version.as_bytes());
        for resource in self.resources {
            bytes.put_slice(self.entry(resource));
        }
        put_text(&mut bytes, TYPE_URL, self.type_url.as_bytes());
        for name in self.removed {
            put_text(&mut bytes, REMOVED, name.as_bytes());
        }
        bytes.put_slice(self.control_plane);
        bytes.put_slice(&errors);
        bytes.freeze()
    }

    /// How many of the resources fit a response of about `max` bytes; at least one where there is one.
    pub fn fitting(variant: Variant, resources: &[Arc<Encoded>], max: usize) -> usize {
        let mut room = Room::new(variant, max);
        resources.iter().take_while(|resource| room.takes(resource)).count()
    }

    fn entry<'r>(&self, resource: &'r Encoded) -> &'r [u8] {
        entry(self.variant, resource)
    }

    fn errors(&self) -> Vec<u8> {
        let field = match self.variant {
            Variant::Sotw => 7,
            Variant::Delta => 9,
        };
        let mut bytes = Vec::new();
        for (name, status) in self.errors {
            let error = ResourceError {
                resource_name: Some(ResourceName { name: name.to_string() }),
                error_detail: Some(google::Status {
                    code: status.code as i32,
                    message: status.message.clone(),
                    details: Vec::new(),
                }),
            };
            put_len(&mut bytes, field, error.encoded_len());
            bytes.put_slice(&error.encode_to_vec());
        }
        bytes
    }
}

/// What there is room for in a response.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    variant: Variant,
    left: usize,
    empty: bool,
}

impl Room {
    /// Of about `max` bytes.
    pub fn new(variant: Variant, max: usize) -> Self {
        Self { variant, left: max, empty: true }
    }

    /// Takes the next resource where it fits; the first does, however long it is.
    pub fn takes(&mut self, resource: &Encoded) -> bool {
        let len = entry(self.variant, resource).len();
        let takes = self.empty || len <= self.left;
        (self.left, self.empty) = (self.left.saturating_sub(len), false);
        takes
    }
}

fn entry(variant: Variant, resource: &Encoded) -> &[u8] {
    match variant {
        Variant::Sotw => resource.sotw(),
        Variant::Delta => resource.delta(),
    }
}

/// The field that tells who sends a response; it has the same meaning but not the same number in both variants.
pub fn control_plane(variant: Variant, identifier: &str) -> Bytes {
    let field = match variant {
        Variant::Sotw => 6,
        Variant::Delta => 7,
    };
    let mut bytes = BytesMut::new();
    put_len(&mut bytes, field, text_len(1, identifier.len()));
    put_text(&mut bytes, 1, identifier.as_bytes());
    bytes.freeze()
}

/// The `n`th nonce of a stream as text.
pub fn nonce_text(n: u32) -> String {
    format!("{n:08x}")
}

/// The number of a nonce; `None` for what no stream of ours can have been sent.
pub fn nonce_number(text: &str) -> Option<u32> {
    let own = text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    own.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// The end of a response: the field `nonce`.
pub fn nonce(n: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(NONCE_LEN);
    put_text(&mut bytes, NONCE, nonce_text(n).as_bytes());
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use meshbus_proto::google::Any;
    use meshbus_proto::xds::{
        ControlPlane, DeltaDiscoveryResponse, DiscoveryResponse, Resource, ResourceError, ResourceName,
    };
    use proptest::prelude::*;

    use super::super::frame::Frames;
    use super::super::status::Code;
    use super::*;
    use crate::core::Seq;

    const TYPE: &str = "type.googleapis.com/x.Y";

    fn decode<M: Message + Default>(parts: [Bytes; 2]) -> M {
        let mut frames = Frames::new(1 << 20);
        frames.push(&parts[0]);
        assert_eq!(frames.take(), Ok(None), "the nonce is part of the message");
        frames.push(&parts[1]);
        M::decode(frames.take().unwrap().unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_what_the_messages_mean(
            resources in prop::collection::vec(("[a-z]{1,9}", "[0-9]{0,3}", prop::collection::vec(any::<u8>(), 0..300)), 0..5),
            removed in prop::collection::vec("[a-z]{1,5}", 0..3),
            failed in prop::collection::vec("[a-z]{1,5}", 0..3),
            version in "[0-9]{0,5}",
            n in any::<u32>(),
        ) {
            let any = |value: &Vec<u8>| Any { type_url: TYPE.into(), value: value.clone().into() };
            let encoded: Vec<_> = resources.iter().map(|(name, version, value)| {
                Arc::new(Encoded::new(Seq(1), name.clone().into(), version.clone().into(), TYPE, value))
            }).collect();
            let removed: Vec<ByteString> = removed.into_iter().map(Into::into).collect();
            let status = Status::new(Code::NotFound, "not there");
            let errors: Vec<_> = failed.iter().map(|name| (ByteString::from(name.clone()), status.clone())).collect();
            let resource_errors: Vec<_> = failed.into_iter().map(|name| ResourceError {
                resource_name: Some(ResourceName { name }),
                error_detail: Some(google::Status { code: 5, message: "not there".into(), details: vec![] }),
            }).collect();
            let plane = Some(ControlPlane { identifier: "bus".into() });
            let draft = |variant, plane| Draft {
                variant, type_url: TYPE, version: &version, resources: &encoded,
                removed: if variant == Variant::Delta { &removed } else { &[] }, errors: &errors, control_plane: plane,
            };
            let by = control_plane(Variant::Delta, "bus");
            let read: DeltaDiscoveryResponse = decode([draft(Variant::Delta, &by).bytes(), nonce(n)]);
            let expected = DeltaDiscoveryResponse {
                system_version_info: version.clone(),
                resources: resources.iter().map(|(name, version, value)| Resource {
                    name: name.clone(), version: version.clone(), resource: Some(any(value)), ..Resource::default()
                }).collect(),
                type_url: TYPE.into(),
                nonce: nonce_text(n),
                removed_resources: removed.iter().map(ToString::to_string).collect(),
                control_plane: plane.clone(),
                resource_errors: resource_errors.clone(),
                ..DeltaDiscoveryResponse::default()
            };
            prop_assert_eq!(read, expected);
            let by = control_plane(Variant::Sotw, "bus");
            let read: DiscoveryResponse = decode([draft(Variant::Sotw, &by).bytes(), nonce(n)]);
            let expected = DiscoveryResponse {
                version_info: version.clone(),
                resources: resources.iter().map(|(_, _, value)| any(value)).collect(),
                type_url: TYPE.into(),
                nonce: nonce_text(n),
                control_plane: plane,
                resource_errors,
                ..DiscoveryResponse::default()
            };
            prop_assert_eq!(read, expected);
            prop_assert_eq!(nonce_number(&nonce_text(n)), Some(n));
        }
    }

    #[test]
    fn a_nonce_that_is_none_of_ours_is_known_as_such() {
        for text in ["", "1", "2026-11-01 00:00:00", "0000000G", "+0000001", "000000001"] {
            assert_eq!(nonce_number(text), None, "{text}");
        }
    }

    #[test]
    fn a_response_is_cut_below_the_bound_and_takes_one_in_any_case() {
        let sized = |len| Arc::new(Encoded::new(Seq(1), "n".into(), "".into(), TYPE, &vec![0; len]));
        let resources = [sized(100), sized(100), sized(5000), sized(10)];
        let fitting = |from: usize| Draft::fitting(Variant::Delta, &resources[from..], 400);
        assert_eq!((fitting(0), fitting(2), fitting(3), fitting(4)), (2, 1, 1, 0));
    }
}
