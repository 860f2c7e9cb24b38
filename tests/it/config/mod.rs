//! Configuration: what whole files mean, and what is said of those that mean nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod descriptors;
mod examples;
mod meaning;
mod mistakes;
mod wire;
