//! What several transports need and none of them owns: the forms of an event that more than one protocol
//! carries.
//!
//! Everything here is a pure function between bytes and values: no `async`, no input or output, no clock.
//! A codec never panics on what a stranger sends, allocates no more than a small multiple of its input
//! (the transport bounds the input's size), and says in its error which attribute or byte is wrong.

pub mod address;
pub mod aliases;
pub mod cloudevents;
pub mod columns;
pub mod kinds;
pub mod own;
pub mod protobuf;
pub mod registry;
#[cfg(feature = "k8s")]
pub mod structural;
pub mod ttl;
