//! `package io.cloudevents.v1`: the messages of `cloudevents.proto`, CloudEvents 1.0.2.

/// One event.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CloudEvent {
    /// Required.
    #[prost(string, tag = "1")]
    pub id: ::prost::alloc::string::String,
    /// Required; a URI reference.
    #[prost(string, tag = "2")]
    pub source: ::prost::alloc::string::String,
    /// Required.
    #[prost(string, tag = "3")]
    pub spec_version: ::prost::alloc::string::String,
    /// Required.
    #[prost(string, tag = "4")]
    pub r#type: ::prost::alloc::string::String,
    /// Optional and extension attributes.
    #[prost(btree_map = "string, message", tag = "5")]
    pub attributes:
        ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, CloudEventAttributeValue>,
    /// The data; none where it is absent.
    #[prost(oneof = "cloud_event::Data", tags = "6, 7, 8")]
    pub data: ::core::option::Option<cloud_event::Data>,
}

/// Nested types of [`CloudEvent`]. Upstream nests the attribute value here too; on the wire it is the same.
pub mod cloud_event {
    /// The data by its type.
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Data {
        /// Bytes.
        #[prost(bytes = "bytes", tag = "6")]
        BinaryData(::prost::bytes::Bytes),
        /// Text.
        #[prost(string, tag = "7")]
        TextData(::prost::alloc::string::String),
        /// A protobuf message.
        #[prost(message, tag = "8")]
        ProtoData(crate::google::Any),
    }
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct CloudEventAttributeValue {
    /// One of the seven types; none is an unset attribute.
    #[prost(oneof = "cloud_event_attribute_value::Attr", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub attr: ::core::option::Option<cloud_event_attribute_value::Attr>,
}

/// Nested types of [`CloudEventAttributeValue`].
pub mod cloud_event_attribute_value {
    /// The value by its type.
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Attr {
        /// Boolean.
        #[prost(bool, tag = "1")]
        CeBoolean(bool),
        /// Integer.
        #[prost(int32, tag = "2")]
        CeInteger(i32),
        /// String.
        #[prost(string, tag = "3")]
        CeString(::prost::alloc::string::String),
        /// Binary.
        #[prost(bytes = "bytes", tag = "4")]
        CeBytes(::prost::bytes::Bytes),
        /// URI.
        #[prost(string, tag = "5")]
        CeUri(::prost::alloc::string::String),
        /// URI reference.
        #[prost(string, tag = "6")]
        CeUriRef(::prost::alloc::string::String),
        /// Timestamp.
        #[prost(message, tag = "7")]
        CeTimestamp(crate::google::Timestamp),
    }
}

/// Several events, of no stated relationship.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CloudEventBatch {
    /// The events.
    #[prost(message, repeated, tag = "1")]
    pub events: ::prost::alloc::vec::Vec<CloudEvent>,
}
