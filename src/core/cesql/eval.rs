//! Evaluates the tree of an expression for one event.
//!
//! An operation one of whose operands meets an error does not take place: it gives the zero of its type and
//! that error. The first error, from the left, is the one that is told.

use std::borrow::Cow;

use super::ast::{Arithmetic, Comparison, Expr, ExprKind, Logic, Subject};
use super::error::{ErrorKind, Fault, Span};
use super::function::Function;
use super::like::Pattern;
use super::network::Network;
use super::value::{Type, Value};
use crate::core::data::Found;
use crate::core::view::View;

type Evaluated<'a> = Result<Value<'a>, Fault<'a>>;

/// The value of an expression for an event.
///
/// # Errors
/// The first error, and the value beside it.
pub(super) fn evaluate<'a>(
    expr: &'a Expr,
    event: &'a View<'_>,
) -> Result<Value<'a>, (Value<'a>, Fault<'a>)> {
    value(expr, event).map_err(|mut fault| {
        let own = fault.own.take().filter(|_| fault.by == expr.span);
        (own.unwrap_or_else(|| expr.kind().unwrap_or(Type::Boolean).zero()), fault)
    })
}

fn value<'a>(expr: &'a Expr, event: &'a View<'_>) -> Evaluated<'a> {
    match &expr.kind {
        ExprKind::Literal(literal) => Ok(literal.borrowed()),
        ExprKind::Get(subject) => get(subject, expr.span, event),
        ExprKind::Negate(operand) => {
            let number = integer(operand, expr.span, event)?;
            calculated(number.checked_neg(), expr.span)
        }
        ExprKind::Calculate(arithmetic, operands) => {
            let [left, right] = &**operands;
            let (left, right) = (integer(left, expr.span, event)?, integer(right, expr.span, event)?);
            calculate(*arithmetic, left, right, expr.span)
        }
        ExprKind::Call(function, arguments) => call(*function, arguments, expr.span, event),
        _ => truth(expr, event).map(Value::Boolean),
    }
}

/// The value of an expression that is read as a boolean; without a detour over values where it is one.
fn truth<'a>(expr: &'a Expr, event: &'a View<'_>) -> Result<bool, Fault<'a>> {
    match &expr.kind {
        ExprKind::Logic(logic, operands) => combine(*logic, operands, expr.span, event),
        ExprKind::Compare(comparison, operands) => compare(*comparison, operands, expr.span, event),
        ExprKind::Not(operand) => Ok(!boolean(operand, expr.span, event, true)?),
        ExprKind::Exists(subject) => Ok(exists(subject, event)),
        ExprKind::Like(operand, pattern) => like(operand, pattern, event),
        ExprKind::In(operand, set) => is_in(operand, set, expr.span, event),
        ExprKind::IpIn(operand, networks) => ip_in(operand, networks, expr.span, event),
        ExprKind::Unknown => {
            let detail = "is no function with so many arguments";
            Err(fault(ErrorKind::MissingFunction, expr.span, expr.span, detail))
        }
        _ => boolean(expr, expr.span, event, false),
    }
}

fn fault<'a>(kind: ErrorKind, by: Span, at: Span, detail: &'static str) -> Fault<'a> {
    Fault { kind, by, at, detail, own: None }
}

fn cast<'a>(by: Span, at: Span, to: Type) -> Fault<'a> {
    let detail = match to {
        Type::Boolean => "cannot be read as a boolean",
        Type::Integer => "cannot be read as an integer",
        Type::String => "cannot be read as text",
    };
    fault(ErrorKind::Cast, by, at, detail)
}

/// An operand as a boolean, for an operation that gives `otherwise` where it is none.
fn boolean<'a>(
    operand: &'a Expr,
    by: Span,
    event: &'a View<'_>,
    otherwise: bool,
) -> Result<bool, Fault<'a>> {
    if let ExprKind::Get(_)
    | ExprKind::Literal(_)
    | ExprKind::Call(..)
    | ExprKind::Calculate(..)
    | ExprKind::Negate(_) = &operand.kind
    {
        let value = value(operand, event)?;
        let own = Some(Value::Boolean(otherwise));
        let wrong = || Fault { own, ..cast(by, operand.span, Type::Boolean) };
        return value.boolean().ok_or_else(wrong);
    }
    truth(operand, event)
}

/// An operand as a number.
fn integer<'a>(operand: &'a Expr, by: Span, event: &'a View<'_>) -> Result<i32, Fault<'a>> {
    let value = value(operand, event)?;
    value.integer().ok_or_else(|| cast(by, operand.span, Type::Integer))
}

fn get<'a>(subject: &'a Subject, span: Span, event: &'a View<'_>) -> Evaluated<'a> {
    match subject {
        Subject::Attribute(attribute) => attribute
            .of(event.envelope())
            .ok_or_else(|| fault(ErrorKind::MissingAttribute, span, span, "is missing")),
        Subject::Data(path) => {
            let wrong = |kind, detail| Err(fault(kind, span, span, detail));
            match event.json().map_or(Found::Missing, |json| json.at(path)) {
                Found::Text(text) => Ok(Value::String(text)),
                Found::Boolean(value) => Ok(Value::Boolean(value)),
                // What is no integer of the language is text as it is written.
                Found::Number(number) => {
                    let integer = number.parse().map(Value::Integer);
                    Ok(integer.unwrap_or(Value::String(Cow::Borrowed(number))))
                }
                Found::List => wrong(ErrorKind::Cast, "is a list, not a single value"),
                Found::Object => wrong(ErrorKind::Cast, "is an object, not a single value"),
                Found::Missing | Found::Null => wrong(ErrorKind::MissingAttribute, "is missing"),
            }
        }
    }
}

fn exists(subject: &Subject, event: &View<'_>) -> bool {
    match subject {
        Subject::Attribute(attribute) => attribute.of(event.envelope()).is_some(),
        Subject::Data(path) => {
            event.json().is_some_and(|json| !matches!(json.at(path), Found::Missing | Found::Null))
        }
    }
}

/// `AND` and `OR` look no further than they need; `XOR` looks at all.
fn combine<'a>(
    logic: Logic,
    operands: &'a [Expr],
    by: Span,
    event: &'a View<'_>,
) -> Result<bool, Fault<'a>> {
    let mut all = logic == Logic::And;
    for operand in operands {
        let value = boolean(operand, by, event, false)?;
        match logic {
            Logic::And if !value => return Ok(false),
            Logic::Or if value => return Ok(true),
            Logic::Xor => all ^= value,
            Logic::And | Logic::Or => {}
        }
    }
    Ok(all)
}

fn compare<'a>(
    comparison: Comparison,
    operands: &'a [Expr; 2],
    by: Span,
    event: &'a View<'_>,
) -> Result<bool, Fault<'a>> {
    let [left, right] = operands;
    match comparison {
        Comparison::Equal | Comparison::NotEqual => {
            if let Some(want) = plain(right, event)
                && let Some(have) = plain(left, event)
            {
                return Ok((have == want) == (comparison == Comparison::Equal));
            }
            let have = value(left, event)?;
            let want = value(right, event)?;
            let same = equal(have, &want).ok_or_else(|| cast(by, left.span, want.kind()))?;
            Ok(same == (comparison == Comparison::Equal))
        }
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
            let (left, right) = (integer(left, by, event)?, integer(right, by, event)?);
            Ok(match comparison {
                Comparison::Less => left < right,
                Comparison::LessOrEqual => left <= right,
                Comparison::Greater => left > right,
                _ => left >= right,
            })
        }
    }
}

/// The text of an expression that is nothing else, without a detour over values.
#[inline]
fn plain<'a>(expr: &'a Expr, event: &'a View<'_>) -> Option<&'a str> {
    match &expr.kind {
        ExprKind::Literal(Value::String(text)) => Some(text),
        ExprKind::Get(Subject::Attribute(attribute)) => attribute.text_of(event.envelope()),
        ExprKind::Get(Subject::Data(path)) => event.json()?.text_at(path),
        _ => None,
    }
}

/// Whether they are equal when the first is read as the type of the second; `None` where it cannot be.
fn equal(value: Value<'_>, like: &Value<'_>) -> Option<bool> {
    match like {
        Value::Boolean(like) => value.boolean().map(|value| value == *like),
        Value::Integer(like) => value.integer().map(|value| value == *like),
        Value::String(like) => Some(value.text() == *like),
    }
}

fn calculate<'a>(arithmetic: Arithmetic, left: i32, right: i32, by: Span) -> Evaluated<'a> {
    let result = match arithmetic {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide | Arithmetic::Remainder if right == 0 => {
            return Err(fault(ErrorKind::Math, by, by, "divides by zero"));
        }
        Arithmetic::Divide => left.checked_div(right),
        // The remainder of -2147483648 by -1 is 0, only the quotient is too large.
        Arithmetic::Remainder => Some(left.wrapping_rem(right)),
    };
    calculated(result, by)
}

fn calculated<'a>(result: Option<i32>, by: Span) -> Evaluated<'a> {
    let beyond = || fault(ErrorKind::Math, by, by, "is beyond 32 bits");
    result.map(Value::Integer).ok_or_else(beyond)
}

fn like<'a>(operand: &'a Expr, pattern: &Pattern, event: &'a View<'_>) -> Result<bool, Fault<'a>> {
    match plain(operand, event) {
        Some(text) => Ok(pattern.matches(text)),
        None => Ok(pattern.matches(&value(operand, event)?.text())),
    }
}

/// Elements are read as the type of the operand, and looked at until one is equal.
fn is_in<'a>(operand: &'a Expr, set: &'a [Expr], by: Span, event: &'a View<'_>) -> Result<bool, Fault<'a>> {
    let wanted = value(operand, event)?;
    for element in set {
        if let (Value::String(wanted), Some(have)) = (&wanted, plain(element, event)) {
            if have == wanted {
                return Ok(true);
            }
            continue;
        }
        let have = value(element, event)?;
        match equal(have, &wanted) {
            Some(true) => return Ok(true),
            Some(false) => {}
            None => return Err(cast(by, element.span, wanted.kind())),
        }
    }
    Ok(false)
}

fn ip_in<'a>(
    operand: &'a Expr,
    networks: &[Network],
    by: Span,
    event: &'a View<'_>,
) -> Result<bool, Fault<'a>> {
    let text = value(operand, event)?.text();
    match text.parse() {
        Ok(address) => Ok(networks.iter().any(|network| network.contains(address))),
        Err(_) => Err(fault(ErrorKind::FunctionEvaluation, by, operand.span, "is no IP address")),
    }
}

fn call<'a>(function: Function, arguments: &'a [Expr], by: Span, event: &'a View<'_>) -> Evaluated<'a> {
    let read = |(at, argument): (usize, &'a Expr)| {
        let value = value(argument, event)?;
        match function.takes(at) {
            Some(Type::Integer) => match value.integer() {
                Some(number) => Ok(Value::Integer(number)),
                None => Err(cast(by, argument.span, Type::Integer)),
            },
            Some(Type::String) => Ok(Value::String(value.text())),
            Some(Type::Boolean) | None => Ok(value),
        }
    };
    let mut arguments = arguments.iter().enumerate().map(read);
    let called = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => function.call([]),
        (Some(first), None, _) => function.call([first?]),
        (Some(first), Some(second), None) => function.call([first?, second?]),
        (Some(first), Some(second), Some(third)) => {
            let mut all = vec![first?, second?, third?];
            for argument in arguments {
                all.push(argument?);
            }
            function.call(all)
        }
    };
    called.map_err(|(kind, detail, own)| Fault { kind, by, at: by, detail, own })
}
