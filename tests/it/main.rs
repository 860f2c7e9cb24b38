//! The one integration-test binary: laws that need no peer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod app;
mod case;
mod cesql;
mod cli;
mod config;
mod conformance;
mod core;
mod derive;
#[cfg(feature = "wasm")]
#[path = "../guests/mod.rs"]
mod guests;
#[path = "../hostile/mod.rs"]
mod hostile;
mod k8s;
#[cfg(feature = "wasm")]
mod plugin;
mod sixth;
mod start;
#[path = "../conformance/mod.rs"]
mod suite;
mod tidy;
#[cfg(feature = "wasm")]
mod wasm;
