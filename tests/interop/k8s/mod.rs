//! The Kubernetes API that the bus serves, against real clients, and the client role, against real servers.

mod apiserver;
mod asks;
mod bad_input;
mod cli;
mod events;
mod evidence;
mod in_step;
mod informers;
pub(crate) mod kubectl;
mod python;
mod recordings;
mod replay;
pub(crate) mod rig;
mod through;
mod wants;
#[cfg(feature = "envoy")]
mod xds;
