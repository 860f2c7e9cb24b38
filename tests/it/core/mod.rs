//! The core through its public interface: laws of bus, log, state, receipts and routes.

mod bus;
mod delivery;
mod ending;
mod envelope;
mod filters;
mod rest;
mod routes;
mod state;
mod state_output;

use bytes::Bytes;
use meshbus::core::log::RingBound;
use meshbus::core::{Bus, BusOptions, Envelope, Key, Topic};

/// A bus whose rings hold `max` records each.
pub(super) fn small_bus(max: usize) -> Bus {
    let bound = RingBound { max, max_bytes: 1 << 30 };
    Bus::new(BusOptions { name: "test".into(), changes: bound, events: bound, ..BusOptions::default() })
}

/// Event number `n` on `topic`.
pub(super) fn event(topic: &str, n: usize) -> Envelope {
    let topic = Topic::parse(topic).expect("a test's topic is valid");
    let mut event = Envelope::event(topic, n.to_string(), "/test", "test.v1");
    event.data = Bytes::from(n.to_string());
    event
}

/// A value of the local scope.
pub(super) fn value(name: &str, data: &str) -> Envelope {
    let topic = Topic::parse(format!("state/{name}")).expect("a test's name is valid");
    Envelope::put(topic, Key::new(Key::LOCAL, Key::VALUE, name), "", Bytes::from(data.to_owned()))
}
