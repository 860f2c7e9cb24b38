//! Filters: the kinds that a route's `filters:` may name, and the table of them.
//!
//! A kind is one file (or folder), and one line in [`KINDS`]. It reads its settings without any I/O and gives a
//! [`FilterFactory`]; [`core::filter`](crate::core::filter) holds the contract of what that makes.
//!
//! | kind | does |
//! |---|---|
//! | `set` | sets attributes from templates |
//! | `remove` | removes attributes |
//! | `rename` | gives attributes other names |
//! | `topic` | puts the event on another topic |
//! | `pick` | keeps some fields of JSON data |
//! | `drop_fields` | removes some fields of JSON data |
//! | `rate_limit` | lets so many through in a time, in all or for each key |
//! | `dedupe` | drops what has been there: the same `source` and `id` |
//! | `delay` | holds each event for a time |
//! | `wasm` | whatever a plugin does |

use std::sync::Arc;

use schemars::Schema;

use crate::config::{ConfigError, Section};
use crate::core::filter::FilterFactory;

pub mod attributes;
pub mod dedupe;
pub mod delay;
pub mod fields;
pub mod rate_limit;
mod stateless;
pub mod topic;
#[cfg(feature = "wasm")]
pub mod wasm;

/// A kind of filter, as an entry of `filters:` names it: `{set: {…}}`.
pub trait Kind: Sync {
    /// The word for it in configuration.
    fn name(&self) -> &'static str;

    /// The JSON Schema of its settings.
    fn schema(&self) -> Schema;

    /// Reads its settings; files named in it are relative to the directory of [`Section::file`]. No I/O: see
    /// [`FilterFactory::prepare`].
    ///
    /// # Errors
    /// Names the place in the file and what would be right.
    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError>;
}

/// The table of kinds. Another is a file, its `mod` above, and a line here.
pub static KINDS: &[&dyn Kind] = &[
    &attributes::Set,
    &attributes::Remove,
    &attributes::Rename,
    &topic::Retopic,
    &fields::Pick,
    &fields::DropFields,
    &rate_limit::RateLimit,
    &dedupe::Dedupe,
    &delay::Delay,
    #[cfg(feature = "wasm")]
    &wasm::Wasm,
];

#[cfg(test)]
mod tests;
