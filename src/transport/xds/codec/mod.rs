//! The wire: gRPC's framing and status, the bytes of discovery responses, and what a request asks for. Pure.

pub mod cluster;
pub mod demand;
pub mod frame;
pub mod kinds;
pub mod mcp;
pub mod resource;
pub mod response;
pub mod services;
pub mod status;
