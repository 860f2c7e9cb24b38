//! Patches of objects: [JSON Patch](json_patch) (RFC 6902), [JSON Merge Patch](merge_patch) (RFC 7386) and
//! [strategic merge patch](strategic_merge), whose lists merge as the kind's schema says.
//!
//! All of them are functions of the object and the patch; the object is left as it is, and an error is what
//! the API server would answer.

use serde_json::{Map, Value};

mod json;
mod list;
mod strategic;

#[cfg(test)]
mod tests;

pub use json::{OPERATIONS_MAX, json_patch};
pub use strategic::strategic_merge;

/// The largest patch that is read, in bytes: also what the copies of one JSON Patch may add up to.
pub const PATCH_MAX: usize = 3 * 1024 * 1024;
/// The deepest that patches and what they make may nest: what the reader of JSON accepts.
pub const DEPTH_MAX: usize = 127;

/// Why a patch was not applied. `Display` is the message of the `Status` the API server answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// The patch does not fit the object. The server does not tell why; [`PatchError::why`] does.
    #[error("the server rejected our request due to an error in our request")]
    Invalid(String),
    /// The patch is larger, or has more operations, than is allowed.
    #[error("Request entity too large: {0}")]
    TooLarge(String),
    /// A strategic merge patch contradicts the kind's schema or itself.
    #[error("{0}")]
    Unmergeable(String),
}

impl PatchError {
    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Invalid(_) => 422,
            Self::TooLarge(_) => 413,
            Self::Unmergeable(_) => 500,
        }
    }

    /// The reason of the `Status`. The server gives none for what it cannot merge.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Invalid(_) => "Invalid",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::Unmergeable(_) => "",
        }
    }

    /// What exactly is wrong, for logs and the details of the `Status`.
    pub fn why(&self) -> &str {
        match self {
            Self::BadRequest(why) | Self::Invalid(why) | Self::TooLarge(why) | Self::Unmergeable(why) => {
                why
            }
        }
    }
}

/// The object with a JSON Merge Patch applied (RFC 7386): null removes, objects merge, all else replaces.
///
/// Deeper than [`DEPTH_MAX`] levels, which no reader of JSON lets through, the patch replaces.
pub fn merge_patch(doc: &Value, patch: &Value) -> Value {
    merge(doc, patch, DEPTH_MAX)
}

fn merge(doc: &Value, patch: &Value, depth: usize) -> Value {
    let (Value::Object(fields), Some(depth)) = (patch, depth.checked_sub(1)) else { return patch.clone() };
    let mut merged = doc.as_object().cloned().unwrap_or_else(Map::new);
    for (name, value) in fields {
        if value.is_null() {
            merged.shift_remove(name);
        } else {
            let before = merged.get(name).unwrap_or(&Value::Null);
            let after = merge(before, value, depth);
            merged.insert(name.clone(), after);
        }
    }
    Value::Object(merged)
}

/// Whether a value nests at most this deep; a scalar does not nest.
fn nests_within(value: &Value, depth: usize) -> bool {
    let inner = |value: &Value| depth.checked_sub(1).is_some_and(|depth| nests_within(value, depth));
    match value {
        Value::Array(elements) => depth > 0 && elements.iter().all(inner),
        Value::Object(fields) => depth > 0 && fields.values().all(inner),
        _ => true,
    }
}

/// What Go calls the type of a value: messages have it.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
