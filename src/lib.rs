//! meshbus: one bus for everything a mesh watches.
pub mod core;
