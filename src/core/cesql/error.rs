//! What goes wrong with an expression: in its text, or for one event.

use std::fmt;

use super::value::Value;

/// Bytes of an expression, from and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// From the start of this to the end of `other`.
    pub(super) fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }

    /// What stands there.
    pub(super) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Its first column, in characters from 1.
    pub(super) fn column(self, text: &str) -> usize {
        text.get(..self.start as usize).map_or(0, |before| before.chars().count()) + 1
    }
}

/// The kinds of errors, by the words of the specification's conformance kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is no expression.
    Parse,
    /// Division by zero, or a result beyond 32 bits.
    Math,
    /// A value is not of the type that is needed and cannot be read as one.
    Cast,
    /// The event has no such attribute, or its data no such value.
    MissingAttribute,
    /// There is no function of this name with so many arguments.
    MissingFunction,
    /// A function cannot do what it is asked.
    FunctionEvaluation,
    /// Anything else: a bound is reached.
    Generic,
}

impl ErrorKind {
    /// All, in the order of their codes.
    const ALL: [Self; 7] = [
        Self::Parse,
        Self::Math,
        Self::Cast,
        Self::MissingAttribute,
        Self::MissingFunction,
        Self::FunctionEvaluation,
        Self::Generic,
    ];

    /// The conformance kit's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Math => "math",
            Self::Cast => "cast",
            Self::MissingAttribute => "missingAttribute",
            Self::MissingFunction => "missingFunction",
            Self::FunctionEvaluation => "functionEvaluation",
            Self::Generic => "generic",
        }
    }

    /// A small number that stands for it.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no expression. Displayed as `column 9: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct SyntaxError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl SyntaxError {
    pub(super) fn new(text: &str, span: Span, reason: impl Into<String>) -> Self {
        Self { column: span.column(text), reason: reason.into() }
    }

    /// Where it is in the expression: `column 9`, and the line where there are several.
    pub fn place(&self, text: &str) -> String {
        let (number, _, before) = self.line(text);
        let column = before + 1;
        if text.contains('\n') {
            format!("line {number}, column {column}")
        } else {
            format!("column {column}")
        }
    }

    /// The line of the expression with a caret below the place, for a terminal.
    pub fn render(&self, text: &str) -> String {
        let (_, line, before) = self.line(text);
        let before: String =
            line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{line}\n{before}^ {}", self.reason)
    }

    /// The line it is in, from 1, and the characters before it there.
    fn line<'t>(&self, text: &'t str) -> (usize, &'t str, usize) {
        let mut before = self.column.saturating_sub(1);
        let mut last = (1, text, before);
        for (at, line) in text.split('\n').enumerate() {
            last = (at + 1, line, before);
            let length = line.chars().count();
            if before <= length {
                break;
            }
            before -= length + 1;
        }
        last
    }
}

/// An evaluation met an error: its kind, where, and in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct EvaluationError {
    /// What kind.
    pub kind: ErrorKind,
    /// Where in the expression, in characters from 1.
    pub column: usize,
    /// What happened.
    pub message: String,
}

/// An error on its way out of an evaluation. Words are made of it only when somebody reads them.
#[derive(Clone, Debug)]
pub(super) struct Fault<'a> {
    pub(super) kind: ErrorKind,
    /// The operation that met it.
    pub(super) by: Span,
    /// What was wrong.
    pub(super) at: Span,
    pub(super) detail: &'static str,
    /// What the operation gives nevertheless, where that is not the zero of its type; operations around it give
    /// the zero of theirs.
    pub(super) own: Option<Value<'a>>,
}

impl Fault<'_> {
    /// In words, for the expression it comes from.
    pub(super) fn describe(&self, text: &str) -> EvaluationError {
        let message = format!("{} {}", self.at.of(text), self.detail);
        EvaluationError { kind: self.kind, column: self.at.column(text), message }
    }
}
