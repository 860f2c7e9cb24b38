//! The wire: gRPC's framing and status, the bytes of discovery responses, and what a request asks for. Pure.

pub mod cluster;
pub mod debug;
pub mod demand;
pub mod follow;
pub mod frame;
pub mod kinds;
pub mod mcp;
pub mod named;
pub mod received;
pub mod refer;
pub mod refusal;
pub mod resource;
pub mod response;
pub mod services;
pub mod status;
pub mod tls;
pub mod waiting;
pub mod wants;
