//! The tree of an expression: names, functions, patterns and networks are looked up once, when it is made.

use super::attribute::Attribute;
use super::error::Span;
use super::function::Function;
use super::like::Pattern;
use super::network::Network;
use super::value::{Type, Value};
use crate::core::data::Path;

/// A part of an expression, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    pub(super) span: Span,
    /// Levels of the tree from here down, at least 1.
    pub(super) depth: usize,
}

/// What a part is.
#[derive(Clone, Debug)]
pub(super) enum ExprKind {
    Literal(Value<'static>),
    Get(Subject),
    Exists(Subject),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    /// At least two, of one operator.
    Logic(Logic, Vec<Expr>),
    Compare(Comparison, Box<[Expr; 2]>),
    Calculate(Arithmetic, Box<[Expr; 2]>),
    Like(Box<Expr>, Pattern),
    In(Box<Expr>, Vec<Expr>),
    Call(Function, Vec<Expr>),
    /// Whether an address is in one of these networks: `IP_IN`, an extension.
    IpIn(Box<Expr>, Vec<Network>),
    /// A function that there is not, or not with so many arguments.
    Unknown,
}

/// What an event is asked for.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Attribute(Attribute),
    /// A value of its JSON data, an extension.
    Data(Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Expr {
    /// The type of its values, where the event does not decide it.
    pub(super) fn kind(&self) -> Option<Type> {
        match &self.kind {
            ExprKind::Literal(value) => Some(value.kind()),
            ExprKind::Get(_) => None,
            ExprKind::Negate(_) | ExprKind::Calculate(..) => Some(Type::Integer),
            ExprKind::Call(function, _) => Some(function.returns()),
            ExprKind::Exists(_)
            | ExprKind::Not(_)
            | ExprKind::Logic(..)
            | ExprKind::Compare(..)
            | ExprKind::Like(..)
            | ExprKind::In(..)
            | ExprKind::IpIn(..)
            | ExprKind::Unknown => Some(Type::Boolean),
        }
    }

    /// The parts it is directly made of.
    pub(super) fn parts(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Literal(_) | ExprKind::Get(_) | ExprKind::Exists(_) | ExprKind::Unknown => Vec::new(),
            ExprKind::Not(of) | ExprKind::Negate(of) | ExprKind::Like(of, _) | ExprKind::IpIn(of, _) => {
                vec![of]
            }
            ExprKind::Logic(_, of) | ExprKind::Call(_, of) => of.iter().collect(),
            ExprKind::Compare(_, of) | ExprKind::Calculate(_, of) => of.iter().collect(),
            ExprKind::In(of, set) => std::iter::once(&**of).chain(set).collect(),
        }
    }
}
