//! One node of a compiled schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use super::format::Format;

/// The types a schema may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Number,
    Integer,
    Boolean,
    Array,
    Object,
}

impl Kind {
    pub(super) const NAMES: [&'static str; 6] =
        ["array", "boolean", "integer", "number", "object", "string"];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "number" => Self::Number,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// A type of a single value, by which objects can be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// `string`
    String,
    /// `boolean`
    Boolean,
    /// `integer`
    Integer,
}

/// What fields there may be besides the named ones.
#[derive(Clone, Debug, Default)]
pub(super) enum Additional {
    /// Nothing is said: they are pruned, and valid.
    #[default]
    Unsaid,
    /// `true`
    Any,
    /// `false`
    None,
    /// Each of them is this.
    Each(Box<Node>),
}

/// What a list is to a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// A pattern as it was written, and compiled; equal ones are shared.
pub(super) type Pattern = Arc<(String, Regex)>;

/// A bound of a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) value: f64,
    pub(super) exclusive: bool,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) kind: Option<Kind>,
    pub(super) int_or_string: bool,
    pub(super) preserve_unknown: bool,
    pub(super) embedded: bool,
    pub(super) nullable: bool,
    /// Whether it is a number of 64 bits.
    pub(super) wide: bool,
    pub(super) default: Option<Value>,
    pub(super) properties: BTreeMap<String, Node>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Node>>,
    pub(super) list_type: ListType,
    pub(super) list_map_keys: Vec<String>,
    /// What only a few nodes have.
    pub(super) checks: Option<Box<Checks>>,
}

/// Rules about a value beyond its type.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    pub(super) maximum: Option<Bound>,
    pub(super) minimum: Option<Bound>,
    pub(super) multiple_of: Option<f64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_length: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) unique_items: bool,
    pub(super) pattern: Option<Pattern>,
    pub(super) format: Option<(String, Format)>,
    pub(super) required: Vec<String>,
    pub(super) allowed: Vec<Value>,
    pub(super) all_of: Vec<Node>,
    pub(super) any_of: Vec<Node>,
    pub(super) one_of: Vec<Node>,
    pub(super) not: Option<Box<Node>>,
}

impl Node {
    /// The type of the field at a path of names.
    pub(super) fn scalar_at(&self, json_path: &str) -> Result<Option<ScalarKind>, String> {
        let path = json_path.strip_prefix('.').filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| "must be a simple json path starting with .".to_owned())?;
        let mut node = self;
        for name in path.split('.') {
            let child = match (node.properties.get(name), &node.additional) {
                (Some(child), _) => child,
                (None, Additional::Each(each)) => each,
                (None, _) => return Err(format!("does not refer to a valid field: no field {name:?}")),
            };
            node = child;
        }
        Ok(match node.kind {
            Some(Kind::String) => Some(ScalarKind::String),
            Some(Kind::Boolean) => Some(ScalarKind::Boolean),
            Some(Kind::Integer) => Some(ScalarKind::Integer),
            _ => None,
        })
    }
}
