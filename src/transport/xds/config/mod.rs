//! Settings, read into checked values.

mod server;

pub use server::{NodeRule, ServerConfig};
