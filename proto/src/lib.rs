//! Committed protobuf types that meshbus speaks, so that no build needs protoc. See `README.md`.

pub mod cloudevents;
pub mod envoy;
pub mod google;
pub mod mcp;
pub mod meshbus;
pub mod status;
pub mod xds;
