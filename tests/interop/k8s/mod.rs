//! The Kubernetes API that the bus serves, against real clients, and the client role, against real servers.

mod asks;
mod informers;
mod kubectl;
mod python;
mod recordings;
mod replay;
mod rig;
mod wants;
#[cfg(feature = "envoy")]
mod xds;
