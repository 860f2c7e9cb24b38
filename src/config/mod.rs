//! Configuration: YAML files that know the place of every key and value, and what they mean.
//!
//! In reading order: text becomes a located tree (`tree`, variables replaced by `env`), several files merge
//! (`merge`), a [`Section`] of it is read as a type (`de`), and all of it as a [`Config`] (`load`, `connectors`,
//! `routes`, `filters`, [`settings`]). Whatever is wrong is a [`ConfigError`] with file, line, column, path, reason and
//! hint. `print` shows what is in force without secrets, and tells by fingerprints what changed; `schema` is
//! for editors. [`values`] are the scalar types that all sections share.

mod connectors;
mod de;
mod derive;
mod descriptors;
mod env;
mod error;
mod exposure;
mod filters;
mod load;
mod merge;
mod path;
mod print;
mod routes;
mod schema;
mod section;
pub mod settings;
pub use crate::core::suggest;
mod tree;
pub mod values;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

pub use connectors::{ConnectorConfig, Role};
pub use derive::DeriveConfig;
pub use env::{Lookup, process_environment};
pub use error::ConfigError;
pub use exposure::{EXPOSURE_HINT, check_exposure, is_loopback};
pub use filters::{FILTERS_MAX, FilterConfig};
pub use load::Config;
pub use print::Fingerprint;
pub use routes::{Destination, IN_FLIGHT_MAX, RouteConfig, Sink, Source};
pub use section::Section;
pub use settings::{
    AccessRule, Backoff, EventLog, Expectation, Listener, LogFormat, LogType, Logging, Permission, Retry,
    Ring, Shutdown, State, TestCase, TestInput, WhenFull,
};
pub use tree::{DEPTH_MAX, FILE_MAX, NODES_MAX};
pub use yaml::to_yaml;
