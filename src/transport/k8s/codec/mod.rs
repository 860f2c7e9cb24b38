//! The Kubernetes API's forms: objects and envelopes, Status, selectors, patches, server-side apply, built-in
//! kinds. Pure, and shared by the client and the server role.

pub mod apply;
pub mod builtin;
pub mod crd;
pub mod envelope;
pub mod event;
pub mod event_attributes;
pub mod message;
pub mod object;
pub mod patch;
pub mod proto;
pub mod received;
pub mod selector;
pub mod status;
pub mod strict;
