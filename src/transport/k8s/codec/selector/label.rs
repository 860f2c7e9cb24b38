//! Label selectors: `app=web,tier in (front,back),!canary`.
//!
//! | written | holds when the label |
//! |---|---|
//! | `k=v`, `k==v` | is there and equal |
//! | `k!=v` | is not equal, or is not there |
//! | `k in (a,b)` | is there and one of them |
//! | `k notin (a,b)` | is none of them, or is not there |
//! | `k`, `!k` | is there; is not there |
//! | `k>5`, `k<5` | is there and an integer that is greater or less |

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::{SelectorError, check_length};
use crate::schema::structural::names::{label_key, label_value};
use crate::schema::structural::quote;

/// The operators as the server lists them when it found none.
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

/// How a requirement relates the label's value to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `k=v`
    Equals,
    /// `k==v`: the same, but shown as it was written.
    DoubleEquals,
    /// `k!=v`
    NotEquals,
    /// `k in (a,b)`
    In,
    /// `k notin (a,b)`
    NotIn,
    /// `k>5`
    GreaterThan,
    /// `k<5`
    LessThan,
    /// `k`
    Exists,
    /// `!k`
    DoesNotExist,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    key: String,
    operator: Operator,
    /// Sorted and without repetition; one of an exact match, none of an existence.
    values: Vec<String>,
}

/// Conditions that must all hold, in the order of their keys. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<LabelRequirement>);

impl FromStr for LabelSelector {
    type Err = SelectorError;

    /// Reads the text of the parameter `labelSelector`.
    ///
    /// # Errors
    ///
    /// What the API server would answer.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let mut requirements = Parser::new(text).parse().map_err(SelectorError)?;
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Self(requirements))
    }
}

impl LabelSelector {
    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conditions, in the order of their keys.
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.0
    }

    /// Whether an object with the labels that `label` looks up is selected.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// The one value that the label `key` must have, if it is bound to one.
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.0.iter().filter(|requirement| requirement.key == key).find_map(|requirement| {
            match (requirement.operator, requirement.values.as_slice()) {
                (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value.as_str()),
                _ => None,
            }
        })
    }
}

impl LabelRequirement {
    /// A condition of these parts; the order of `values` does not matter.
    ///
    /// # Errors
    ///
    /// What the API server would answer: a key or value no label can have, too few or too many values,
    /// or a bound that is no integer.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errors = Vec::new();
        let key_errors = label_key(key);
        if !key_errors.is_empty() {
            errors.push(format!("key: Invalid value: {}: {}", quote(key), key_errors.join("; ")));
        }
        values.sort_unstable();
        values.dedup();
        errors.extend(operator.check(&values));
        for (at, value) in values.iter().enumerate() {
            let value_errors = label_value(value);
            if !value_errors.is_empty() {
                let why = value_errors.join("; ");
                errors.push(format!("values[{at}][{key}]: Invalid value: {}: {why}", quote(value)));
            }
        }
        match errors.as_slice() {
            [] => Ok(Self { key: key.to_owned(), operator, values }),
            [error] => Err(SelectorError(error.clone())),
            _ => Err(SelectorError(format!("[{}]", errors.join(", ")))),
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How the label's value must relate to [`values`](Self::values).
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted: one for an exact match or a bound, none for an existence.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether the condition holds for a label of this value, or for none.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let is_one = |value: &str| self.values.iter().any(|own| own == value);
        let order = |value: &str| {
            let bound: i64 = self.values.first()?.parse().ok()?;
            Some(value.parse::<i64>().ok()?.cmp(&bound))
        };
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(is_one),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(is_one),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(order).is_some_and(std::cmp::Ordering::is_gt),
            Operator::LessThan => value.and_then(order).is_some_and(std::cmp::Ordering::is_lt),
        }
    }
}

impl Operator {
    /// What is wrong with the number or the form of the values.
    fn check(self, values: &[String]) -> Option<String> {
        let shown = || values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(",");
        let wrong = |why: &str| Some(format!("values: Invalid value: [{}]: {why}", shown()));
        match (self, values) {
            (Self::In | Self::NotIn, []) => wrong("for 'in', 'notin' operators, values set can't be empty"),
            (Self::Exists | Self::DoesNotExist, [_, ..]) => {
                wrong("values set must be empty for exists and does not exist")
            }
            (Self::Equals | Self::DoubleEquals | Self::NotEquals, [] | [_, _, ..]) => {
                wrong("exact-match compatibility requires one single value")
            }
            (Self::GreaterThan | Self::LessThan, [bound]) => bound.parse::<i64>().is_err().then(|| {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                format!("values[0]: Invalid value: {}: {why}", quote(bound))
            }),
            (Self::GreaterThan | Self::LessThan, _) => {
                wrong("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        }
    }
}

impl Display for LabelSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Display for LabelRequirement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// The kinds of a token. `in` and `notin` are identifiers wherever no operator can stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Identifier,
    Not,
    Comma,
    Open,
    Close,
    Operator(Operator),
    End,
}

/// Reads requirements off the text, one token at a time.
struct Parser<'a> {
    rest: &'a str,
    next: (Token, &'a str),
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut parser = Self { rest: text, next: (Token::End, "") };
        parser.take();
        parser
    }

    fn parse(mut self) -> Result<Vec<LabelRequirement>, String> {
        let mut requirements = Vec::new();
        match self.next {
            (Token::End, _) => return Ok(requirements),
            (Token::Identifier | Token::Not, _) => {}
            (_, found) => {
                return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
            }
        }
        loop {
            let requirement =
                self.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?;
            requirements.push(requirement);
            match self.take() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {}
                (_, found) => return Err(format!("found '{found}', expected: ',' or 'end of string'")),
            }
            let (token, found) = self.next;
            if !matches!(token, Token::Identifier | Token::Not) {
                return Err(format!("found '{found}', expected: identifier after ','"));
            }
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, String> {
        let negated = self.next.0 == Token::Not;
        if negated {
            self.take();
        }
        let (token, key) = self.take();
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let errors = label_key(key);
        if !errors.is_empty() {
            return Err(format!("<nil>: Invalid value: {}: {}", quote(key), errors.join("; ")));
        }
        let (operator, values) = if negated {
            (Operator::DoesNotExist, Vec::new())
        } else if matches!(self.next.0, Token::End | Token::Comma) {
            (Operator::Exists, Vec::new())
        } else {
            let operator = self.operator()?;
            let values = match operator {
                Operator::In | Operator::NotIn => self.values()?,
                _ => vec![self.exact_value()?],
            };
            (operator, values)
        };
        LabelRequirement::new(key, operator, values).map_err(|SelectorError(why)| why)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        match self.take() {
            (Token::Operator(operator), _) => Ok(operator),
            (Token::Identifier, "in") => Ok(Operator::In),
            (Token::Identifier, "notin") => Ok(Operator::NotIn),
            (_, found) => Err(format!("found '{found}', expected: {OPERATORS}")),
        }
    }

    /// `(a,b)`; nothing between two delimiters is the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, found) = self.take();
        if token != Token::Open {
            return Err(format!("found '{found}' expected: '('"));
        }
        if !matches!(self.next.0, Token::Identifier | Token::Comma | Token::Close) {
            return Err(format!("found '{}', expected: ',', ')' or identifier", self.next.1));
        }
        let mut values = Vec::new();
        loop {
            if self.next.0 == Token::Identifier {
                values.push(self.take().1.to_owned());
                if !matches!(self.next.0, Token::Comma | Token::Close) {
                    return Err(format!("found '{}', expected: ',' or ')'", self.next.1));
                }
            } else {
                values.push(String::new());
            }
            match self.take() {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(values),
                (_, found) => return Err(format!("found '{found}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.next.0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.take() {
            (Token::Identifier, value) => Ok(value.to_owned()),
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// The next token, which is then behind us. The end stays.
    fn take(&mut self) -> (Token, &'a str) {
        let taken = self.next;
        let rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let special = [
            ("==", Token::Operator(Operator::DoubleEquals)),
            ("!=", Token::Operator(Operator::NotEquals)),
            ("=", Token::Operator(Operator::Equals)),
            (">", Token::Operator(Operator::GreaterThan)),
            ("<", Token::Operator(Operator::LessThan)),
            ("!", Token::Not),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
        ];
        let found = special.iter().find(|(symbol, _)| rest.starts_with(symbol));
        let (token, length) = match found {
            Some((symbol, token)) => (*token, symbol.len()),
            None if rest.is_empty() => (Token::End, 0),
            None => (Token::Identifier, rest.find(ends_identifier).unwrap_or(rest.len())),
        };
        let (text, rest) = rest.split_at_checked(length).unwrap_or((rest, ""));
        (self.rest, self.next) = (rest, (token, text));
        taken
    }
}

fn ends_identifier(char: char) -> bool {
    matches!(char, '=' | '!' | '(' | ')' | ',' | '>' | '<' | ' ' | '\t' | '\r' | '\n')
}
