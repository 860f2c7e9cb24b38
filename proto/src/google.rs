//! `package google.protobuf`: the two well-known types that [`cloudevents`](crate::cloudevents) refers to.

/// Any message, serialized, with the URL of its type.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Any {
    /// Its last path segment is the full name of the message.
    #[prost(string, tag = "1")]
    pub type_url: ::prost::alloc::string::String,
    /// The serialized message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: ::prost::bytes::Bytes,
}

/// An instant, independent of any time zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, from the year 1 to the year 9999.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds of the second, counted forward, 0 to 999 999 999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
