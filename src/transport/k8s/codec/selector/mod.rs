//! Label and field selectors of lists and watches: read, shown, and held against an object.
//!
//! Both are read as release 1.36 reads them, and refused in its words: clients and people know these.
//! `Display` writes the canonical form, which reads back as the same selector.

mod field;
mod label;

#[cfg(test)]
mod tests;

pub use field::{FieldRequirement, FieldSelector, unsupported};
pub use label::{LabelRequirement, LabelSelector, Operator};

/// The longest selector that is read, in bytes.
pub const SELECTOR_MAX: usize = 256 * 1024;

/// Why a selector was refused, in the words of the API server: a 400 `BadRequest` with this message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// Refuses what is too long to be worth reading.
fn check_length(text: &str) -> Result<(), SelectorError> {
    if text.len() > SELECTOR_MAX {
        return Err(SelectorError(format!(
            "the selector has {} bytes, which is more than the {SELECTOR_MAX} that are read",
            text.len()
        )));
    }
    Ok(())
}
