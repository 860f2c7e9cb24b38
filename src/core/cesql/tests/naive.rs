//! A second evaluator, as plain as can be: values are owned, text is a list of characters, numbers are wide,
//! data is read by `serde_json`. Both must say the same of everything.

#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "texts of tests are short")]

use proptest::prelude::*;

use super::super::ast::{Arithmetic, Comparison, Logic, Subject};
use super::super::function::Function;
use super::*;
use crate::core::data::{Path, Step};

#[derive(Clone, Debug, PartialEq)]
enum Plain {
    B(bool),
    I(i64),
    S(String),
}
use Plain::{B, I, S};

/// An error, and the value beside it that only the operation itself gives.
type Plainly = Result<Plain, (ErrorKind, Option<Plain>)>;

fn err(kind: ErrorKind) -> Plainly {
    Err((kind, None))
}

fn zero(expr: &Expr) -> Plain {
    match expr.kind() {
        Some(Type::Integer) => I(0),
        Some(Type::String) => S(String::new()),
        _ => B(false),
    }
}

/// Value and error of an expression.
fn naive(expr: &Expr, text: &str, event: &Envelope) -> (Plain, Option<ErrorKind>) {
    match eval(expr, text, event) {
        Ok(value) => (value, None),
        Err((kind, own)) => (own.unwrap_or_else(|| zero(expr)), Some(kind)),
    }
}

/// An operand: what it has of its own beside an error does not reach further.
fn part(expr: &Expr, text: &str, event: &Envelope) -> Plainly {
    eval(expr, text, event).map_err(|(kind, _)| (kind, None))
}

fn as_i(value: &Plain) -> Option<i64> {
    match value {
        B(value) => Some(i64::from(*value)),
        I(value) => Some(*value),
        S(text) => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
            let number = text.trim_start_matches('+').parse().ok().filter(|_| plain)?;
            (-2_147_483_648..=2_147_483_647).contains(&number).then_some(number)
        }
    }
}

fn as_b(value: &Plain) -> Option<bool> {
    match value {
        B(value) => Some(*value),
        I(_) => None,
        S(text) => match text.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
    }
}

fn as_s(value: &Plain) -> String {
    match value {
        B(value) => value.to_string(),
        I(value) => value.to_string(),
        S(text) => text.clone(),
    }
}

fn number(value: i64) -> Plainly {
    if value == i64::from(value as i32) { Ok(I(value)) } else { err(ErrorKind::Math) }
}

fn equal(left: &Plain, right: &Plain) -> Result<bool, (ErrorKind, Option<Plain>)> {
    let cast = (ErrorKind::Cast, None);
    match right {
        B(right) => as_b(left).map(|left| left == *right).ok_or(cast),
        I(right) => as_i(left).map(|left| left == *right).ok_or(cast),
        S(right) => Ok(as_s(left) == *right),
    }
}

fn subject(subject: &Subject, text: &str, event: &Envelope) -> Plainly {
    match subject {
        Subject::Attribute(_) => {
            let name = text.trim_start().trim_start_matches("EXISTS").trim().to_lowercase();
            match (name.as_str(), event.extensions.get(&name)) {
                (_, Some(crate::core::Value::Boolean(value))) => Ok(B(*value)),
                (_, Some(crate::core::Value::Integer(value))) => Ok(I((*value).into())),
                ("mbtopic", _) => Ok(S(event.topic.to_string())),
                (name, _) => match event.attribute(name) {
                    Some(value) => Ok(S(value.to_string())),
                    None => err(ErrorKind::MissingAttribute),
                },
            }
        }
        Subject::Data(path) => data(path, event),
    }
}

fn data(path: &Path, event: &Envelope) -> Plainly {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&event.data) else {
        return err(ErrorKind::MissingAttribute);
    };
    let mut at = &json;
    for step in path.steps() {
        let below = match step {
            Step::Member(member) => at.get(member.name()),
            Step::Item(number) => at.get(number),
        };
        at = below.unwrap_or(&serde_json::Value::Null);
    }
    match at {
        serde_json::Value::Null => err(ErrorKind::MissingAttribute),
        serde_json::Value::Bool(value) => Ok(B(*value)),
        serde_json::Value::Number(number) => {
            Ok(as_i(&S(number.to_string())).map_or_else(|| S(number.to_string()), I))
        }
        serde_json::Value::String(text) => Ok(S(text.clone())),
        _ => err(ErrorKind::Cast),
    }
}

fn eval(expr: &Expr, text: &str, event: &Envelope) -> Plainly {
    let here = expr.span.of(text);
    let value = |expr| part(expr, text, event);
    let int = |expr| as_i(&value(expr)?).ok_or((ErrorKind::Cast, None));
    match &expr.kind {
        ExprKind::Literal(Value::Boolean(value)) => Ok(B(*value)),
        ExprKind::Literal(Value::Integer(value)) => Ok(I((*value).into())),
        ExprKind::Literal(Value::String(value)) => Ok(S(value.to_string())),
        ExprKind::Get(what) => subject(what, here, event),
        ExprKind::Exists(what) => {
            Ok(B(!matches!(subject(what, here, event), Err((ErrorKind::MissingAttribute, _)))))
        }
        ExprKind::Not(of) => match as_b(&value(of)?) {
            Some(value) => Ok(B(!value)),
            None => Err((ErrorKind::Cast, Some(B(true)))),
        },
        ExprKind::Negate(of) => number(-int(of)?),
        ExprKind::Logic(logic, operands) => combine(*logic, operands, text, event),
        ExprKind::Compare(how, of) => Ok(B(match how {
            Comparison::Equal => equal(&value(&of[0])?, &value(&of[1])?)?,
            Comparison::NotEqual => !equal(&value(&of[0])?, &value(&of[1])?)?,
            Comparison::Less => int(&of[0])? < int(&of[1])?,
            Comparison::LessOrEqual => int(&of[0])? <= int(&of[1])?,
            Comparison::Greater => int(&of[0])? > int(&of[1])?,
            Comparison::GreaterOrEqual => int(&of[0])? >= int(&of[1])?,
        })),
        ExprKind::Calculate(how, of) => match (how, int(&of[0])?, int(&of[1])?) {
            (Arithmetic::Add, a, b) => number(a + b),
            (Arithmetic::Subtract, a, b) => number(a - b),
            (Arithmetic::Multiply, a, b) => number(a * b),
            (_, _, 0) => err(ErrorKind::Math),
            (Arithmetic::Divide, a, b) => number(a / b),
            (Arithmetic::Remainder, a, b) => number(a % b),
        },
        ExprKind::Like(of, _) => {
            let quoted = here.rsplit_once(" LIKE ").unwrap().1;
            let pattern: Vec<char> = quoted.trim_matches('\'').chars().collect();
            Ok(B(like(&as_s(&value(of)?).chars().collect::<Vec<_>>(), &pattern)))
        }
        ExprKind::In(of, set) => {
            let wanted = value(of)?;
            for element in set {
                if equal(&value(element)?, &wanted)? {
                    return Ok(B(true));
                }
            }
            Ok(B(false))
        }
        ExprKind::Call(function, arguments) => {
            let mut values = Vec::new();
            for argument in arguments {
                let is_number = match function {
                    Function::Abs => true,
                    Function::Left | Function::Right | Function::Substring => !values.is_empty(),
                    _ => false,
                };
                values.push(if is_number { I(int(argument)?) } else { value(argument)? });
            }
            call(*function, &values)
        }
        ExprKind::IpIn(..) => unreachable!("has its own tests"),
        ExprKind::Unknown => err(ErrorKind::MissingFunction),
    }
}

fn combine(logic: Logic, operands: &[Expr], text: &str, event: &Envelope) -> Plainly {
    let mut result = None;
    for operand in operands {
        let next = as_b(&part(operand, text, event)?).ok_or((ErrorKind::Cast, None))?;
        let all = match (logic, result) {
            (_, None) => next,
            (Logic::And, Some(all)) => all && next,
            (Logic::Or, Some(all)) => all || next,
            (Logic::Xor, Some(all)) => all != next,
        };
        if (logic == Logic::And && !all) || (logic == Logic::Or && all) {
            return Ok(B(all));
        }
        result = Some(all);
    }
    Ok(B(result.unwrap()))
}

/// By trying everything.
fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        ['\\', c @ ('%' | '_'), rest @ ..] | [c, rest @ ..] => {
            text.first() == Some(c) && like(&text[1..], rest)
        }
    }
}

fn call(function: Function, arguments: &[Plain]) -> Plainly {
    let text = |at: usize| as_s(&arguments[at]);
    let chars = || text(0).chars().collect::<Vec<char>>();
    let int = |at: usize| as_i(&arguments[at]).ok_or((ErrorKind::Cast, None));
    let refused = |value: Option<Plain>| Err((ErrorKind::FunctionEvaluation, value));
    let some = |chars: &[char]| Ok(S(chars.iter().collect()));
    match function {
        Function::Length => Ok(I(chars().len() as i64)),
        Function::Concat => Ok(S(arguments.iter().map(as_s).collect())),
        Function::ConcatWs => Ok(S(arguments[1..].iter().map(as_s).collect::<Vec<_>>().join(&text(0)))),
        Function::Lower => Ok(S(text(0).to_lowercase())),
        Function::Upper => Ok(S(text(0).to_uppercase())),
        Function::Trim => Ok(S(text(0).trim_matches(char::is_whitespace).to_owned())),
        Function::Left | Function::Right => {
            let (all, count) = (chars(), int(1)?);
            if count < 0 {
                return refused(Some(S(text(0))));
            }
            let count = (count as usize).min(all.len());
            some(if function == Function::Left { &all[..count] } else { &all[all.len() - count..] })
        }
        Function::Substring => {
            let (all, from) = (chars(), int(1)?);
            let count = if arguments.len() > 2 { int(2)? } else { i64::MAX };
            let length = all.len() as i64;
            if from > length || from < -length || count < 0 {
                return refused(None);
            }
            if from == 0 {
                return Ok(S(String::new()));
            }
            let skip = if from > 0 { from - 1 } else { length + from };
            some(&all.into_iter().skip(skip as usize).take(count as usize).collect::<Vec<_>>())
        }
        Function::Abs => match int(0)? {
            -2_147_483_648 => Err((ErrorKind::Math, Some(I(2_147_483_647)))),
            value => Ok(I(value.abs())),
        },
        Function::Int => Ok(I(int(0)?)),
        Function::Bool => match &arguments[0] {
            I(value) => Ok(B(*value != 0)),
            other => as_b(other).map(B).ok_or((ErrorKind::Cast, None)),
        },
        Function::String => Ok(S(text(0))),
        Function::IsInt => Ok(B(as_i(&arguments[0]).is_some())),
        Function::IsBool => Ok(B(as_b(&arguments[0]).is_some() || matches!(arguments[0], I(_)))),
    }
}

fn leaf() -> impl Strategy<Value = String> {
    let some = proptest::sample::select(vec![
        "TRUE",
        "FALSE",
        "0",
        "1",
        "-1",
        "3",
        "7",
        "2147483647",
        "-2147483648",
        "''",
        "'true'",
        "'FALSE'",
        "'12'",
        "'+3'",
        "'BackOff'",
        "'a%b'",
        "' x '",
        "'Ünit'",
        "id",
        "type",
        "subject",
        "reason",
        "count",
        "text7",
        "least",
        "yes",
        "empty",
        "missing",
        "mbtopic",
        "data.n",
        "data.big",
        "data.part",
        "data.yes",
        "data.none",
        "data.list",
        "data.list[0]",
        "data.list[1].x",
        "data.labels['app.kubernetes.io/name']",
        "data.Case",
        "data.deep.a.b",
        "data",
        "EXISTS missing",
        "EXISTS reason",
        "EXISTS data.n",
        "EXISTS data.none",
        "NOPE(1)",
    ]);
    some.prop_map(str::to_owned)
}

fn any_expression() -> impl Strategy<Value = String> {
    leaf().prop_recursive(5, 60, 4, |inner| {
        let infix = proptest::sample::select(vec![
            "AND", "OR", "XOR", "=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%",
        ]);
        let one = proptest::sample::select(vec![
            "LENGTH", "LOWER", "UPPER", "TRIM", "ABS", "INT", "BOOL", "STRING", "IS_INT", "IS_BOOL", "CONCAT",
        ]);
        let two = proptest::sample::select(vec!["LEFT", "RIGHT", "SUBSTRING", "CONCAT", "CONCAT_WS"]);
        let three = proptest::sample::select(vec!["SUBSTRING", "CONCAT", "CONCAT_WS"]);
        let i = inner;
        prop_oneof![
            4 => (i.clone(), infix.clone(), i.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            2 => (i.clone(), infix.clone(), leaf(), infix, leaf())
                .prop_map(|(a, op, b, and, c)| format!("({a}) {op} {b} {and} {c}")),
            1 => i.clone().prop_map(|a| format!("NOT ({a})")),
            1 => i.clone().prop_map(|a| format!("- ({a})")),
            1 => (i.clone(), "[ab1%_e]{0,5}").prop_map(|(a, pattern)| format!("({a}) LIKE '{pattern}'")),
            1 => (i.clone(), i.clone(), leaf()).prop_map(|(a, b, c)| format!("({a}) NOT IN ({b}, {c})")),
            1 => (i.clone(), leaf(), leaf(), leaf()).prop_map(|(a, b, c, d)| format!("({a}) IN ({b}, {c}, {d})")),
            2 => (one, i.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            2 => (two, i.clone(), i.clone()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            1 => (three, i.clone(), i.clone(), i).prop_map(|(f, a, b, c)| format!("{f}({a}, {b}, {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn both_evaluators_say_the_same(text in any_expression()) {
        let event = event();
        let Ok(expression) = Expression::parse(&text) else { return Ok(()) };
        let view = View::of(&event);
        let outcome = expression.evaluate(&view);
        let value = match outcome.value {
            Value::Boolean(value) => B(value),
            Value::Integer(value) => I(value.into()),
            Value::String(ref text) => S(text.to_string()),
        };
        let (wanted, error) = naive(&expression.0.tree, &text, &event);
        prop_assert_eq!((value, outcome.error.map(|error| error.kind)), (wanted, error), "{}", text);
    }
}
