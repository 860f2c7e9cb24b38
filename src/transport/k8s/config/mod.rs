//! Settings of the Kubernetes transport: the client's, the server's, and a route's `to:` entry.

mod client;
mod server;
mod target;

pub use client::{
    ClientConfig, CursorConfig, ElectionConfig, EnrichConfig, EventTypes, FrequencyConfig, Start, Store,
    WatchConfig,
};
pub use server::ServerConfig;
pub use target::{EventConfig, EventOptions, Operation, TargetConfig, TargetOptions};
