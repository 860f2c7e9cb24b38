//! Tests against real peers: brokers, killed, stopped and started again under load; clients of Kubernetes and of XDS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says on standard output what it measured"
)]

// What the tests share.
mod bus;
mod chaos;
mod faults;
mod forms;
#[path = "../hostile/mod.rs"]
mod hostile;
mod ledger;
mod nats;
mod peers;
mod process;
mod senders;
mod stand_in;
mod stored;
#[path = "../conformance/mod.rs"]
mod suite;
mod webhook;

// The tests.
mod bad_input;
mod cli;
mod conformance;
mod drain;
mod footprint;
mod http_back_pressure;
mod http_to_jetstream;
mod isolation;
mod jetstream_to_webhook;
mod k8s;
mod mqtt;
mod mqtt_to_jetstream;
mod pairs;
#[cfg(feature = "wasm")]
mod plugins;
mod reload;
mod xds;
