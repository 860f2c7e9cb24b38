//! Numbers of JSON against the bounds of a schema: whole ones are compared as such.

use serde_json::{Number, Value};

use super::error::{shown_float, shown_number};
use super::node::Bound;

/// Whether it has no fraction; beyond 2^53 no float is known to have none.
pub(super) fn is_whole(number: &Number) -> bool {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    !number.is_f64()
        || number.as_f64().is_some_and(|float| float.fract() == 0.0 && float.abs() <= WHOLE_MAX)
}

/// Equal as JSON has it: `1` is `1.0`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// A bound as the server prints it beside such a number: whole beside a whole one.
pub(super) fn bound_text(number: &Number, bound: f64) -> String {
    match (number.as_i64(), to_i64(bound)) {
        (Some(_), Some(whole)) => whole.to_string(),
        _ => Number::from_f64(bound).map_or_else(|| shown_float(bound), |bound| shown_number(&bound)),
    }
}

/// The whole part, where it fits.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked before the cast")]
fn to_i64(float: f64) -> Option<i64> {
    const LIMIT: f64 = 9.2e18;
    (float.abs() < LIMIT).then_some(float as i64)
}

pub(super) fn exceeds(number: &Number, bound: Bound) -> bool {
    match (number.as_i64(), to_i64(bound.value)) {
        (Some(whole), Some(max)) => whole > max || bound.exclusive && whole == max,
        _ => number
            .as_f64()
            .is_some_and(|float| float > bound.value || bound.exclusive && float >= bound.value),
    }
}

pub(super) fn falls_below(number: &Number, bound: Bound) -> bool {
    match (number.as_i64(), to_i64(bound.value)) {
        (Some(whole), Some(min)) => whole < min || bound.exclusive && whole == min,
        _ => number
            .as_f64()
            .is_some_and(|float| float < bound.value || bound.exclusive && float <= bound.value),
    }
}

pub(super) fn is_multiple(number: &Number, factor: f64) -> bool {
    if factor <= 0.0 {
        return true;
    }
    match (number.as_i64(), to_i64(factor).filter(|_| factor.fract() == 0.0)) {
        (Some(whole), Some(factor)) => whole.checked_rem(factor) == Some(0),
        _ => number.as_f64().is_none_or(|float| {
            let ratio = float / factor;
            (ratio - ratio.round()).abs() < 1e-9
        }),
    }
}
