//! The steps of a path to a field, in the forms and the order of `FieldsV1`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

/// A single value, as it stands for an item of a set or in the key of an item.
#[derive(Clone, Debug)]
pub enum Scalar {
    /// A number; a whole one is never a fraction: `1.0` is `1`.
    Number(Number),
    /// A text.
    String(String),
    /// A truth value.
    Bool(bool),
    /// Nothing, said expressly.
    Null,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of a map: `f:name`.
    Field(String),
    /// An item of a list, by its key fields in order of name: `k:{"name":"x"}`.
    Key(Vec<(String, Scalar)>),
    /// An item of a set, by its value: `v:"x"`.
    Value(Scalar),
    /// An item of a list, by its place: `i:0`.
    Index(usize),
}

impl Scalar {
    /// A value that is single; `None` for maps and lists.
    pub fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(is) => Self::Bool(*is),
            Value::String(text) => Self::String(text.clone()),
            Value::Number(number) => Self::Number(whole(number)),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::String(_) => 1,
            Self::Bool(_) => 2,
            Self::Null => 3,
        }
    }
}

/// A number without a fraction that says nothing.
fn whole(number: &Number) -> Number {
    // Beyond this a float no longer tells one whole number from the next.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT) {
        Some(float) => Number::from(float as i64),
        None => number.clone(),
    }
}

impl Ord for Scalar {
    /// Numbers by their size, then texts, truth values and null.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => {
                let float = |number: &Number| number.as_f64().unwrap_or_default();
                // Large whole numbers that are one as floats are told apart by their digits.
                float(left).total_cmp(&float(right)).then_with(|| left.as_i128().cmp(&right.as_i128()))
            }
            (Self::String(left), Self::String(right)) => left.cmp(right),
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "{}", Value::from(text.as_str())),
            Self::Bool(is) => write!(f, "{is}"),
            Self::Null => f.write_str("null"),
        }
    }
}

impl Element {
    /// The step to a field of a map.
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// Reads a name of `FieldsV1`. `None` for kinds of steps that are not known.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(2)?;
        match kind {
            "f:" => Some(Self::Field(rest.to_owned())),
            "k:" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let fields = fields.iter().map(|(name, value)| Some((name.clone(), Scalar::of(value)?)));
                Self::key(fields.collect::<Option<Vec<_>>>()?)
            }
            "v:" => Scalar::of(&serde_json::from_str(rest).ok()?).map(Self::Value),
            "i:" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// The step to an item with these key fields; `None` without any.
    pub fn key(mut fields: Vec<(String, Scalar)>) -> Option<Self> {
        fields.sort();
        (!fields.is_empty()).then_some(Self::Key(fields))
    }

    /// As a name of `FieldsV1`.
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                    .collect();
                format!("k:{{{}}}", fields.join(","))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }
}

impl fmt::Display for Element {
    /// As paths are shown: `.spec`, `[name="x"]`, `[="a"]`, `[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}
