//! CloudEvents SQL ([1.0](https://github.com/cloudevents/spec/blob/cesql%40v1.0.0/cesql/spec.md)):
//! expressions over events, compiled once and evaluated in place.
//!
//! Every expression has a value for every event; where something goes wrong there is an error beside it. A
//! filter takes what is `true` without an error.
//!
//! Where the specification leaves a choice:
//!
//! - From the tightest, operators bind: `NOT` `-`; `LIKE` `IN`; `*` `/` `%`; `+` `-`; comparisons; `AND`; `OR`;
//!   `XOR`. `NOT a = b` is `(NOT a) = b`.
//! - An operation on an operand with an error gives the zero of its type and that error; the first is told.
//! - Arithmetic beyond 32 bits is a math error and gives 0. A number is never read as a boolean by itself:
//!   `NOT 10` is a cast error; `BOOL(10)` is true.
//! - In text a quote is written `\'`, or twice; every other backslash is itself.
//! - Characters are Unicode scalar values. Upper and lower case are those of Unicode.
//!
//! Extensions:
//!
//! | written | is |
//! |---|---|
//! | `data.a.b`, `data.a[0]`, `data.labels['app.kubernetes.io/name']`, `data` | the value there in JSON data; `EXISTS` takes it, too |
//! | `mbtopic` | the topic the event is on |
//! | `mbscope` | the scope of the key it changes |
//! | `IP_IN(value, 'cidr', …)` | whether the address is in one of the networks; anything else is an error |
//!
//! Data is JSON where `datacontenttype` is `…/json`, `…+json` or not set. Names are compared as they are,
//! case included. Integers of 32 bits are integers; other numbers are text as written. `null`, what is not
//! there, and data that is no JSON or beyond the bounds of [`data`](super::data) is a missing attribute; a list
//! or an object is a cast error.
//!
//! Bounds: [`EXPRESSION_MAX`], [`NODES_MAX`], [`DEPTH_MAX`], [`TEXT_MAX`], and 64 characters for a part of a
//! pattern that holds `_` between two `%`.

mod ast;
mod attribute;
mod error;
mod eval;
mod function;
mod lexer;
mod like;
mod network;
mod parse;
mod serial;
mod shared;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::envelope::Envelope;
use super::selector::{Predicate, PredicateError};
use super::view::{Number, View};
use ast::{Expr, ExprKind};

pub use error::{ErrorKind, EvaluationError, Span, SyntaxError};
pub use function::TEXT_MAX;
pub use shared::Expressions;
pub use value::{Type, Value};

/// Longest expression, in bytes.
pub const EXPRESSION_MAX: usize = 16 << 10;
/// Most operators, values and calls of an expression.
pub const NODES_MAX: usize = 2048;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 100;

/// A compiled expression. Cheap to clone; equal to another of the same text.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    tree: Expr,
    /// What records remember its result by, once several ask for it.
    number: OnceLock<Number>,
}

/// What an expression gives for an event: always a value, and an error where there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The value.
    pub value: Value<'a>,
    /// What went wrong first.
    pub error: Option<EvaluationError>,
}

impl Expression {
    /// Compiles any expression.
    ///
    /// # Errors
    /// Where and what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Ok(Self::new(text, parse::parse(text)?))
    }

    /// Compiles an expression that says which events are wanted. What can never want one is refused: functions
    /// there are not, and a result that is a number or text.
    ///
    /// # Errors
    /// Where and what is wrong with the text.
    pub fn filter(text: &str) -> Result<Self, SyntaxError> {
        let tree = parse::parse(text)?;
        if let Some(unknown) = unknown(&tree) {
            let name = unknown.span.of(text).split('(').next().unwrap_or_default().trim_end();
            let reason = format!("there is no function {name} with so many arguments");
            return Err(SyntaxError::new(text, unknown.span, reason));
        }
        match tree.kind() {
            Some(Type::Boolean) | None => Ok(Self::new(text, tree)),
            Some(Type::Integer) => {
                Err(SyntaxError::new(text, tree.span, "is a number, not true or false: compare it"))
            }
            Some(Type::String) => {
                Err(SyntaxError::new(text, tree.span, "is text, not true or false: compare it"))
            }
        }
    }

    fn new(text: &str, tree: Expr) -> Self {
        Self(Arc::new(Compiled { text: text.into(), tree, number: OnceLock::new() }))
    }

    /// The text it was compiled from.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Its value for an event, and what went wrong. Never fails: the language is total.
    pub fn evaluate<'a>(&'a self, event: &'a View<'_>) -> Outcome<'a> {
        match eval::evaluate(&self.0.tree, event) {
            Ok(value) => Outcome { value, error: None },
            Err((value, fault)) => Outcome { value, error: Some(fault.describe(&self.0.text)) },
        }
    }

    /// Whether an event is wanted: the value is `true`, without an error.
    ///
    /// # Errors
    /// The kind of error; a value that is no boolean is a cast error.
    pub fn wants(&self, event: &View<'_>) -> Result<bool, ErrorKind> {
        let Some(number) = self.0.number.get() else { return self.compute(event) };
        let code = event.remember(*number, || match self.compute(event) {
            Ok(wanted) => 1 + u8::from(wanted),
            Err(kind) => 3 + kind.code(),
        });
        match code {
            1 => Ok(false),
            2 => Ok(true),
            _ => Err(ErrorKind::of_code(code.wrapping_sub(3)).unwrap_or(ErrorKind::Generic)),
        }
    }

    fn compute(&self, event: &View<'_>) -> Result<bool, ErrorKind> {
        match eval::evaluate(&self.0.tree, event) {
            Ok(Value::Boolean(value)) => Ok(value),
            Ok(_) => Err(ErrorKind::Cast),
            Err((_, fault)) => Err(fault.kind),
        }
    }
}

/// The first call of a function that there is not.
fn unknown(tree: &Expr) -> Option<&Expr> {
    match tree.kind {
        ExprKind::Unknown => Some(tree),
        _ => tree.parts().into_iter().find_map(unknown),
    }
}

impl Predicate for Expression {
    fn matches(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        self.wants(event)
            .map_err(|kind| PredicateError { kind: kind.as_str(), message: Cow::Borrowed("see explain") })
    }

    fn refusal(&self, envelope: &Envelope) -> Option<String> {
        let event = View::of(envelope);
        let outcome = self.evaluate(&event);
        match (outcome.error, outcome.value) {
            (Some(error), _) => {
                Some(format!("{} failed: {} (column {})", self.0.text, error, error.column))
            }
            (None, Value::Boolean(true)) => None,
            (None, Value::Boolean(false)) => Some(format!("{} is false", clause(&self.0, &event))),
            (None, _) => Some(format!("{} is not true or false", self.0.text)),
        }
    }

    fn text(&self) -> String {
        self.0.text.to_string()
    }
}

/// The clause that makes it false: of `a AND b` the first that is.
fn clause<'c>(compiled: &'c Compiled, event: &View<'_>) -> &'c str {
    if let ExprKind::Logic(ast::Logic::And, operands) = &compiled.tree.kind {
        let is_false =
            |operand: &&Expr| matches!(eval::evaluate(operand, event), Ok(Value::Boolean(false)));
        if let Some(operand) = operands.iter().find(is_false) {
            return operand.span.of(&compiled.text);
        }
    }
    &compiled.text
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expression {}
