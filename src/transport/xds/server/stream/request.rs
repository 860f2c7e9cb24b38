//! Requests of both variants, as far as they are alike.

use bytes::Bytes;
use meshbus_proto::google;
use meshbus_proto::xds::{DeltaDiscoveryRequest, DiscoveryRequest, Node};
use prost::Message;

use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::{Code, Status};

/// Most bytes kept of why a client refuses a response.
const REFUSAL_MAX: usize = 4096;

/// A request of either variant.
pub(super) enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

impl Request {
    pub(super) fn decode(variant: Variant, bytes: Bytes) -> Result<Self, Status> {
        let decoded = match variant {
            Variant::Sotw => DiscoveryRequest::decode(bytes).map(Self::Sotw),
            Variant::Delta => DeltaDiscoveryRequest::decode(bytes).map(Self::Delta),
        };
        decoded.map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the request cannot be decoded: {error}"))
        })
    }

    /// Whether it neither asks for anything nor lets anything go nor says what the client has.
    pub(super) fn is_bare(&self) -> bool {
        match self {
            Self::Sotw(request) => {
                request.resource_names.is_empty() && request.resource_locators.is_empty()
            }
            Self::Delta(request) => {
                request.resource_names_subscribe.is_empty()
                    && request.resource_names_unsubscribe.is_empty()
                    && request.resource_locators_subscribe.is_empty()
                    && request.resource_locators_unsubscribe.is_empty()
                    && request.initial_resource_versions.is_empty()
            }
        }
    }

    /// Takes out what both have: node, type, nonce, and why a response is refused.
    pub(super) fn head(&mut self) -> (Option<Node>, String, String, Option<String>) {
        let text = |status: google::Status| {
            let mut message = status.message;
            message.truncate(message.floor_char_boundary(REFUSAL_MAX));
            message
        };
        let (node, type_url, nonce, error) = match self {
            Self::Sotw(request) => (
                request.node.take(),
                &mut request.type_url,
                &mut request.response_nonce,
                request.error_detail.take(),
            ),
            Self::Delta(request) => (
                request.node.take(),
                &mut request.type_url,
                &mut request.response_nonce,
                request.error_detail.take(),
            ),
        };
        (node, std::mem::take(type_url), std::mem::take(nonce), error.map(text))
    }
}
