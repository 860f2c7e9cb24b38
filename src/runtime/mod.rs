//! The runtime: what runs connectors, listens, and shows how everything is.
//!
//! [`task`] is the only place that spawns; [`supervisor`] keeps connectors running; [`shutdown`] ends them in two
//! steps; [`listener`], [`tls`], [`certificate`], [`connection`] and [`request`] serve addresses; [`watch`] hears signals
//! and changed files; [`telemetry`], [`metrics`], [`admin`] and [`health`] let people and machines look in.

pub mod admin;
pub mod backoff;
#[cfg(any(feature = "k8s", feature = "xds"))]
pub mod certificate;
pub mod connection;
mod gather;
pub mod health;
pub mod listener;
pub mod metrics;
mod parting;
pub mod request;
mod serve;
pub mod shutdown;
mod stall;
pub mod supervisor;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod watch;
