//! Derivations: the kinds that `derive:` may name, and the table of them.
//!
//! A kind is one folder, and one line in [`KINDS`]. It reads its settings without any I/O and gives a [`Derivation`];
//! [`core::derive`](crate::core::derive) holds the contract of that, and `app/derive.rs` runs it.
//!
//! | kind | makes |
//! |---|---|
//! | `k8s_services_to_xds` | listeners, routes, clusters and endpoints for xDS of a cluster's Services |

use std::sync::Arc;

use schemars::Schema;

use crate::config::{ConfigError, Section};
use crate::core::derive::Derivation;

pub mod k8s_services;

/// A kind of derivation, as an entry of `derive:` names it: `{k8s_services_to_xds: {…}}`.
pub trait Kind: Sync {
    /// The word for it in configuration.
    fn name(&self) -> &'static str;

    /// The JSON Schema of its settings.
    fn schema(&self) -> Schema;

    /// Reads its settings. No I/O.
    ///
    /// # Errors
    /// Names the place in the file and what would be right.
    fn read(&self, section: &Section) -> Result<Arc<dyn Derivation>, ConfigError>;
}

/// The table of kinds. Another is a folder, its `mod` above, and a line here.
pub static KINDS: &[&dyn Kind] = &[&k8s_services::Services];
