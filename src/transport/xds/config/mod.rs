//! Settings, read into checked values.

mod client;
mod server;

pub use client::{ClientConfig, Mode, SubscribeConfig};
pub use server::{NodeRule, ServerConfig};
