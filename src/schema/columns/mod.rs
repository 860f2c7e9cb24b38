//! Printer columns: what of an object stands in the cells of a table, for the API's Table and for people.
//!
//! A column of a `CustomResourceDefinition` is a path; one of a built-in kind may be computed.
//!
//! | column's type | cell |
//! |---|---|
//! | any, and the path selects nothing | null |
//! | string | the first value as text; objects and arrays as JSON with sorted keys |
//! | integer, number | the first value if it is a number, without its fraction for an integer; else null |
//! | boolean | the first value if it is one, else null |
//! | date | how long ago the first value is; `<unknown>` if it is empty, `<invalid>` if it is no RFC 3339 time |

use std::str::FromStr;

use serde_json::{Map, Value};

mod duration;
mod path;

#[cfg(test)]
mod tests;

pub use duration::human_duration;
pub use path::{JsonPath, PathError};

/// Deepest value that is shown as JSON.
const DEPTH_MAX: usize = 128;
/// Largest integer that every reader of JSON numbers keeps.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// The exponent from which floats are written with one.
const FLOAT_EXPONENT: i32 = 6;
/// 0001-01-01T00:00:00Z in Unix seconds.
const YEAR_ONE: i64 = -62_135_596_800;

/// The type of a column, as `OpenAPI` and `CustomResourceDefinition`s name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
    /// `date`
    Date,
}

/// Where a column's cell comes from.
#[derive(Clone, Debug)]
pub enum Cell {
    /// The first value at a path, in the form of the column's type.
    Path(JsonPath),
    /// A function of the object and the current Unix time in seconds.
    Computed(fn(&Value, i64) -> Value),
}

/// One column of a kind's table.
#[derive(Clone, Debug)]
pub struct Column {
    /// The header: `Ready`
    pub name: String,
    /// How the value is shown.
    pub kind: ColumnKind,
    /// `OpenAPI` format: `name`, `int32`, `date-time`; mostly empty.
    pub format: String,
    /// What the column tells.
    pub description: String,
    /// 0 is always shown, more only in wide tables.
    pub priority: i32,
    /// Where the cell comes from.
    pub cell: Cell,
}

/// Why a definition of a column is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// A field is missing or of a wrong type.
    #[error("a printer column needs the string `{0}`")]
    Missing(&'static str),
    /// The type is none of a column's.
    #[error("printer column type `{0}` is none of string, integer, number, boolean and date")]
    Kind(String),
    /// The path cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The cell of a column for an object, at a Unix time in seconds.
pub fn cell(column: &Column, object: &Value, now: i64) -> Value {
    match &column.cell {
        Cell::Computed(compute) => compute(object, now),
        Cell::Path(path) => path.first(object).map_or(Value::Null, |value| column.kind.show(value, now)),
    }
}

/// How long ago an RFC 3339 time was, at a Unix time in seconds: `5m30s`. `<unknown>` if there is none.
pub fn age(time: &str, now: i64) -> String {
    if time.is_empty() || time == "null" {
        return "<unknown>".to_owned();
    }
    match unix_time(time) {
        // The zero time of the server's language stands for none.
        Some(YEAR_ONE) => "<unknown>".to_owned(),
        Some(then) => human_duration(now.saturating_sub(then)),
        None => "<invalid>".to_owned(),
    }
}

impl Column {
    /// A column that shows the value at a path.
    ///
    /// # Errors
    ///
    /// Which part of the path cannot be read.
    pub fn path(name: &str, kind: ColumnKind, path: &str) -> Result<Self, PathError> {
        Ok(Self {
            name: name.to_owned(),
            kind,
            format: String::new(),
            description: format!("Custom resource definition column (in JSONPath format): {path}"),
            priority: 0,
            cell: Cell::Path(path.parse()?),
        })
    }

    /// A column that is computed, always shown, without format.
    pub fn computed(
        name: &str,
        kind: ColumnKind,
        description: &str,
        compute: fn(&Value, i64) -> Value,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            format: String::new(),
            description: description.to_owned(),
            priority: 0,
            cell: Cell::Computed(compute),
        }
    }

    /// Reads an entry of `additionalPrinterColumns`. A missing description names the path, as the API
    /// server's does.
    ///
    /// # Errors
    ///
    /// What is missing or wrong.
    pub fn from_definition(definition: &Value) -> Result<Self, ColumnError> {
        let text = |name: &'static str| definition.get(name).and_then(Value::as_str);
        let needed = |name: &'static str| text(name).ok_or(ColumnError::Missing(name));
        let mut column = Self::path(needed("name")?, needed("type")?.parse()?, needed("jsonPath")?)?;
        text("format").unwrap_or_default().clone_into(&mut column.format);
        if let Some(description) = text("description").filter(|text| !text.is_empty()) {
            description.clone_into(&mut column.description);
        }
        let priority = definition.get("priority").and_then(Value::as_i64);
        column.priority = priority.and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0);
        Ok(column)
    }
}

impl FromStr for ColumnKind {
    type Err = ColumnError;

    fn from_str(name: &str) -> Result<Self, ColumnError> {
        let kinds = [Self::String, Self::Integer, Self::Number, Self::Boolean, Self::Date];
        let found = kinds.into_iter().find(|kind| kind.as_str() == name);
        found.ok_or_else(|| ColumnError::Kind(name.to_owned()))
    }
}

impl ColumnKind {
    /// The name of the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
        }
    }

    fn show(self, value: &Value, now: i64) -> Value {
        match (self, value) {
            (Self::String, _) => Value::String(text(value)),
            (Self::Integer, Value::Number(number)) => {
                number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).into()
            }
            (Self::Number, Value::Number(number)) => match number.as_f64() {
                // Without a fraction there is no decimal point either.
                Some(float) if float.fract() == 0.0 && float.abs() <= INTEGER_MAX => (float as i64).into(),
                _ => value.clone(),
            },
            (Self::Boolean, Value::Bool(_)) => value.clone(),
            (Self::Date, Value::String(time)) => age(time, now).into(),
            _ => Value::Null,
        }
    }
}

/// A value as the text of a cell.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            number.as_f64().map(float).unwrap_or_default()
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => sorted(value, DEPTH_MAX).to_string(),
    }
}

/// The shortest form of a float, as the server's language writes it: with an exponent from 1e+06 on and
/// below 1e-04.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..FLOAT_EXPONENT).contains(&power) {
        return value.to_string();
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// The value with the keys of its objects in order; what is deeper than `depth` is left out.
fn sorted(value: &Value, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> =
                fields.iter().map(|(key, value)| (key.clone(), sorted(value, depth))).collect();
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Object(Map::from_iter(fields))
        }
        Value::Array(elements) => elements.iter().map(|value| sorted(value, depth)).collect(),
        _ => value.clone(),
    }
}

/// Seconds since 1970 of an RFC 3339 time with a capital `T` and `Z` or an offset.
fn unix_time(time: &str) -> Option<i64> {
    let (date, clock) = time.split_once('T')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+Z".contains(&byte));
    let zoned = clock.ends_with('Z') || clock.get(clock.len().checked_sub(6)?..)?.starts_with(['+', '-']);
    if date.len() != 10
        || clock.len() < 9
        || clock.as_bytes().get(5) != Some(&b':')
        || !plain(date)
        || !plain(clock)
        || !zoned
    {
        return None;
    }
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
