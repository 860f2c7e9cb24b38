//! Paths into an object, as the columns of a `CustomResourceDefinition` name them.
//!
//! | written | selects |
//! |---|---|
//! | `.a`, `.a\.b`, `['a\.b']` | a field; a backslash takes the next character as it is |
//! | `['a.b']` | the field `b` of the field `a`, as the API server reads it |
//! | `.*` | all fields, or all elements |
//! | `[0]`, `[-1]`, `[1:3]`, `[::2]`, `[*]` | elements |
//! | `[?(@.type=="Ready")]` | elements that compare so: `==`, `!=`, `<`, `<=`, `>`, `>=` |
//! | `[?(@.type)]` | elements that have it |
//!
//! `$` and braces around the whole are optional. Unions and `..` are not read.

use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde_json::Value;

/// The longest path that is read, in bytes.
const PATH_MAX: usize = 4096;
/// How deep paths nest in each other: keys in brackets within filters.
const DEPTH_MAX: usize = 3;

/// A path into an object, read once and followed often.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

/// Why a path cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "JSON path `{path}`: {why}; a path is like `.spec.size` or `.conditions[?(@.type==\"Ready\")].status`"
)]
pub struct PathError {
    path: String,
    why: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// From, to (excluded) and the distance; negative ones count from the end.
    Slice {
        from: i64,
        to: Option<i64>,
        by: usize,
    },
    Filter {
        left: Operand,
        test: Option<(Operator, Operand)>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl FromStr for JsonPath {
    type Err = PathError;

    /// Reads a path.
    ///
    /// # Errors
    ///
    /// Which part of it cannot be read.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let refuse = |why: String| PathError { path: text.chars().take(100).collect(), why };
        if text.len() > PATH_MAX {
            return Err(refuse(format!("it has {} bytes, and {PATH_MAX} are read", text.len())));
        }
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let steps = steps(inner, 0).map_err(refuse)?;
        Ok(Self { text: text.to_owned(), steps })
    }
}

impl Display for JsonPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonPath {
    /// Everything the path selects, in order. Nothing where it does not fit the object: an index beyond the
    /// end, elements of what is no array, a comparison of different types.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        match follow(&self.steps, object, &mut found) {
            Some(()) => found,
            None => Vec::new(),
        }
    }

    /// The first of what the path selects.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        let mut at = object;
        // Nearly all columns are plain fields: no list of results for these.
        for (index, step) in self.steps.iter().enumerate() {
            let Step::Field(name) = step else {
                let mut found = Vec::new();
                follow(self.steps.get(index..)?, at, &mut found)?;
                return found.first().copied();
            };
            at = at.get(name)?;
        }
        Some(at)
    }
}

/// Follows the steps, one level of recursion each; `None` where one does not fit.
fn follow<'a>(steps: &[Step], at: &'a Value, found: &mut Vec<&'a Value>) -> Option<()> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(at);
        return Some(());
    };
    match (step, at) {
        (Step::Field(name), Value::Object(fields)) => match fields.get(name) {
            Some(value) => follow(rest, value, found),
            None => Some(()),
        },
        (Step::Wildcard, Value::Object(fields)) => {
            fields.values().try_for_each(|value| follow(rest, value, found))
        }
        (Step::Wildcard, Value::Array(elements)) => {
            elements.iter().try_for_each(|value| follow(rest, value, found))
        }
        (Step::Field(_) | Step::Wildcard, _) | (Step::Slice { .. }, Value::Null) => Some(()),
        (Step::Slice { from, to, by }, Value::Array(elements)) => slice(elements, *from, *to)?
            .iter()
            .step_by(*by)
            .try_for_each(|value| follow(rest, value, found)),
        (Step::Filter { left, test }, Value::Array(elements)) => elements.iter().try_for_each(|element| {
            if passes(left, test.as_ref(), element)? { follow(rest, element, found) } else { Some(()) }
        }),
        (Step::Slice { .. } | Step::Filter { .. }, _) => None,
    }
}

fn slice(elements: &[Value], from: i64, to: Option<i64>) -> Option<&[Value]> {
    let length = i64::try_from(elements.len()).ok()?;
    let absolute = |at: i64| if at < 0 { at + length } else { at };
    let (from, to) = (absolute(from), absolute(to.unwrap_or(length)));
    if from == to {
        return Some(&[]);
    }
    elements.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

fn passes(left: &Operand, test: Option<&(Operator, Operand)>, element: &Value) -> Option<bool> {
    let Some((operator, right)) = test else {
        return Some(match left {
            Operand::Literal(_) => true,
            Operand::Path(steps) => {
                let mut found = Vec::new();
                follow(steps, element, &mut found).is_some() && !found.is_empty()
            }
        });
    };
    let (left, right) = (left.one(element)?, right.one(element)?);
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => left.cmp(&right),
            // The server compares integers with integers and floats with floats only.
            (None, None) => left.as_f64()?.partial_cmp(&right.as_f64()?)?,
            _ => return None,
        },
        (Value::Bool(left), Value::Bool(right)) => match operator {
            Operator::Equal => return Some(left == right),
            Operator::NotEqual => return Some(left != right),
            _ => return None,
        },
        _ => return None,
    };
    Some(match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterOrEqual => order != Ordering::Less,
    })
}

impl Operand {
    /// The one value it stands for; `None` where there is none, or there are several.
    fn one<'a>(&'a self, element: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Path(steps) => {
                let mut found = Vec::new();
                follow(steps, element, &mut found)?;
                match found.as_slice() {
                    [one] => Some(one),
                    _ => None,
                }
            }
        }
    }
}

/// Reads steps until the end of the text.
fn steps(text: &str, depth: usize) -> Result<Vec<Step>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("paths in paths are more than {DEPTH_MAX} deep"));
    }
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let behind = rest.strip_prefix(next).unwrap_or_default();
        match next {
            ' ' | '@' | '$' => rest = behind,
            '.' if behind.starts_with('.') => return Err("`..` is not supported".to_owned()),
            '.' => {
                let (name, behind) = field(behind);
                rest = behind;
                steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name.replace('\\', "")) });
            }
            '[' => {
                let inner;
                if let Some(behind) = behind.strip_prefix("?(") {
                    (inner, rest) = filter_text(behind)?;
                    steps.push(filter(inner, depth)?);
                } else {
                    (inner, rest) = behind.split_once(']').ok_or("`[` without `]`")?;
                    bracket(inner, depth, &mut steps)?;
                }
            }
            _ => return Err(format!("`{next}` is not expected here, but `.` or `[`")),
        }
    }
    Ok(steps)
}

/// The name of a field, with its backslashes, and what follows.
fn field(text: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = text.find(|char| {
        let ends = !escaped && " \t\r\n.,[]$@{}".contains(char);
        escaped = char == '\\' && !escaped;
        ends
    });
    text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, ""))
}

/// What stands in brackets: a key, an index or a slice.
fn bracket(inner: &str, depth: usize, into: &mut Vec<Step>) -> Result<(), String> {
    if let Some(key) = inner.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))
        && !key.contains('\'')
    {
        into.extend(steps(&format!(".{key}"), depth + 1)?);
        return Ok(());
    }
    if inner == "*" {
        into.push(Step::Slice { from: 0, to: None, by: 1 });
        return Ok(());
    }
    let number = |text: Option<&str>| match text {
        None | Some("") => Ok(None),
        Some(text) if text.starts_with('+') => Err(invalid(inner)),
        Some(text) => text.parse::<i64>().map(Some).map_err(|_| invalid(inner)),
    };
    let mut parts = inner.split(':');
    let (from, to, by) = (number(parts.next())?, parts.next(), number(parts.next())?);
    if parts.next().is_some() {
        return Err(invalid(inner));
    }
    let by = match by {
        None => 1,
        Some(by) => usize::try_from(by).ok().filter(|by| *by > 0).ok_or_else(|| invalid(inner))?,
    };
    let first = from.unwrap_or(0);
    let to = match to {
        // One element: `[-1]` ends at the end.
        None => Some(first.checked_add(1).ok_or_else(|| invalid(inner))?).filter(|to| *to != 0),
        Some(to) => number(Some(to))?,
    };
    into.push(Step::Slice { from: first, to, by });
    Ok(())
}

fn invalid(inner: &str) -> String {
    format!("`[{inner}]` is no index, no slice and no key in single quotes")
}

/// The text of a filter up to its `)]`, which no quotes hold, and what follows.
fn filter_text(text: &str) -> Result<(&str, &str), String> {
    let (mut quote, mut escaped) = (None, false);
    let end = text.find(|char| {
        let ends = char == ')' && quote.is_none();
        match quote {
            None if char == '"' || char == '\'' => quote = Some(char),
            Some(open) if open == char && !escaped => quote = None,
            _ => {}
        }
        escaped = char == '\\' && !escaped;
        ends
    });
    let (inner, rest) = end.and_then(|end| text.split_at_checked(end)).ok_or("`[?(` without `)]`")?;
    let rest = rest.strip_prefix(")]").ok_or("`[?(…)` without `]`")?;
    Ok((inner, rest))
}

fn filter(inner: &str, depth: usize) -> Result<Step, String> {
    let symbols = |char: char| "!<>=".contains(char);
    let Some((left, rest)) = inner.find(symbols).and_then(|at| inner.split_at_checked(at)) else {
        return Ok(Step::Filter { left: operand(inner, depth)?, test: None });
    };
    let right = rest.trim_start_matches(symbols);
    let operator = match rest.strip_suffix(right).unwrap_or_default() {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        other => return Err(format!("`{other}` is no comparison; these are ==, !=, <, <=, > and >=")),
    };
    Ok(Step::Filter { left: operand(left, depth)?, test: Some((operator, operand(right, depth)?)) })
}

fn operand(text: &str, depth: usize) -> Result<Operand, String> {
    let text = text.trim_matches([' ', '\t']);
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote).ok_or_else(|| format!("{quote} without {quote}"))?;
            return Ok(Operand::Literal(Value::String(unquote(inner)?)));
        }
    }
    if let Some(literal) = literal(text) {
        return Ok(Operand::Literal(literal));
    }
    if text.is_empty() {
        return Err("a comparison needs two sides".to_owned());
    }
    steps(text, depth + 1).map(Operand::Path)
}

fn literal(text: &str) -> Option<Value> {
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ if text.starts_with(|char: char| char.is_ascii_digit() || char == '-' || char == '+') => {
            let integer = text.parse::<i64>().ok().map(Value::from);
            integer.or_else(|| text.parse::<f64>().ok().map(Value::from))
        }
        _ => None,
    }
}

fn unquote(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(char @ ('\\' | '"' | '\'')) => char,
                _ => {
                    return Err(format!(
                        "\"{text}\" has an escape that is not \\\\, \\\", \\', \\n, \\r or \\t"
                    ));
                }
            },
            char => char,
        });
    }
    Ok(plain)
}
