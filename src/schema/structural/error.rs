//! What is wrong with a field, in the words a Kubernetes API server uses.
//!
//! A [`FieldError`] is one cause of an `Invalid` Status; [`aggregate`] makes the sentence of several.

use std::fmt;

use serde_json::{Number, Value};

/// Most errors told of one object: more help nobody.
pub const ERRORS_MAX: usize = 100;

/// Longest text of a wrong value that is repeated in an error, in bytes.
const VALUE_MAX: usize = 4096;

/// Why a field is wrong, as the `reason` of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldErrorReason {
    /// What it refers to is not there.
    FieldValueNotFound,
    /// It is missing.
    FieldValueRequired,
    /// It is there twice.
    FieldValueDuplicate,
    /// It breaks a rule.
    FieldValueInvalid,
    /// It is of another type.
    FieldValueTypeInvalid,
    /// It is none of the values there are.
    FieldValueNotSupported,
    /// It must not be set.
    FieldValueForbidden,
    /// It has too many bytes.
    FieldValueTooLong,
    /// It has too many items.
    FieldValueTooMany,
}

impl FieldErrorReason {
    /// The word in `details.causes[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FieldValueNotFound => "FieldValueNotFound",
            Self::FieldValueRequired => "FieldValueRequired",
            Self::FieldValueDuplicate => "FieldValueDuplicate",
            Self::FieldValueInvalid => "FieldValueInvalid",
            Self::FieldValueTypeInvalid => "FieldValueTypeInvalid",
            Self::FieldValueNotSupported => "FieldValueNotSupported",
            Self::FieldValueForbidden => "FieldValueForbidden",
            Self::FieldValueTooLong => "FieldValueTooLong",
            Self::FieldValueTooMany => "FieldValueTooMany",
        }
    }

    /// How a sentence about it begins.
    fn title(self) -> &'static str {
        match self {
            Self::FieldValueNotFound => "Not found",
            Self::FieldValueRequired => "Required value",
            Self::FieldValueDuplicate => "Duplicate value",
            Self::FieldValueInvalid | Self::FieldValueTypeInvalid => "Invalid value",
            Self::FieldValueNotSupported => "Unsupported value",
            Self::FieldValueForbidden => "Forbidden",
            Self::FieldValueTooLong => "Too long",
            Self::FieldValueTooMany => "Too many",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where: `spec.ports[0].name`; `<nil>` where the rule is about no single field.
    pub path: String,
    /// The word.
    pub reason: FieldErrorReason,
    /// The sentence of the cause, without the path: `Invalid value: -4: must be positive`.
    pub message: String,
}

impl FieldError {
    /// It is missing; `detail` may be empty.
    pub fn required(path: impl Into<String>, detail: &str) -> Self {
        Self::bare(FieldErrorReason::FieldValueRequired, path, detail)
    }

    /// It must not be set; `detail` may be empty.
    pub fn forbidden(path: impl Into<String>, detail: &str) -> Self {
        Self::bare(FieldErrorReason::FieldValueForbidden, path, detail)
    }

    /// The value breaks a rule.
    pub fn invalid(path: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::valued(FieldErrorReason::FieldValueInvalid, path, value, detail)
    }

    /// The text breaks a rule.
    pub fn invalid_text(path: impl Into<String>, value: &str, detail: &str) -> Self {
        Self::invalid(path, &Value::from(value), detail)
    }

    /// The value is of another type than it should be.
    pub fn type_invalid(path: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::valued(FieldErrorReason::FieldValueTypeInvalid, path, value, detail)
    }

    /// The value is there more than once.
    pub fn duplicate(path: impl Into<String>, value: &Value) -> Self {
        Self::valued(FieldErrorReason::FieldValueDuplicate, path, value, "")
    }

    /// The value is none of those there are.
    pub fn not_supported<S: AsRef<str>>(path: impl Into<String>, value: &Value, supported: &[S]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|text| quote(text.as_ref())).collect();
        let detail = match quoted.as_slice() {
            [] => String::new(),
            quoted => format!("supported values: {}", quoted.join(", ")),
        };
        Self::valued(FieldErrorReason::FieldValueNotSupported, path, value, &detail)
    }

    /// It has more bytes than it may have.
    pub fn too_long(path: impl Into<String>, bytes_max: u64) -> Self {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {bytes_max} {unit}");
        Self::bare(FieldErrorReason::FieldValueTooLong, path, &detail)
    }

    /// It has more items than it may have.
    pub fn too_many(path: impl Into<String>, items: usize, items_max: u64) -> Self {
        let unit = if items_max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {items_max} {unit}");
        Self::valued(FieldErrorReason::FieldValueTooMany, path, &Value::from(items), &detail)
    }

    fn bare(reason: FieldErrorReason, path: impl Into<String>, detail: &str) -> Self {
        let mut message = reason.title().to_owned();
        push_detail(&mut message, detail);
        Self { path: path.into(), reason, message }
    }

    fn valued(reason: FieldErrorReason, path: impl Into<String>, value: &Value, detail: &str) -> Self {
        let mut message = format!("{}: {}", reason.title(), shown(value));
        push_detail(&mut message, detail);
        Self { path: path.into(), reason, message }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for FieldError {}

/// The sentence of several errors: the only one as it is, else `[a, b]`; the same sentence is said once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut sentences: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let sentence = error.to_string();
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    match sentences.as_mut_slice() {
        [only] => std::mem::take(only),
        several => format!("[{}]", several.join(", ")),
    }
}

fn push_detail(message: &mut String, detail: &str) {
    if !detail.is_empty() {
        message.push_str(": ");
        message.push_str(detail);
    }
}

/// A value as errors show it: text quoted, numbers plain, the rest as JSON.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => quote(text),
        Value::Null => quote("null"),
        Value::Number(number) => shown_number(number),
        other => other.to_string(),
    };
    if text.len() <= VALUE_MAX {
        return text;
    }
    text.char_indices().take_while(|(at, _)| *at < VALUE_MAX).map(|(_, c)| c).collect()
}

/// A number as the API server prints it: shortest digits, an exponent only for what is very large or small.
pub(super) fn shown_number(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    number.as_f64().map_or_else(|| number.to_string(), shown_float)
}

/// A float as `%v` of Go prints it.
pub(super) fn shown_float(float: f64) -> String {
    const EXPONENT_FROM: i32 = 21;
    if float == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..EXPONENT_FROM).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{float}"),
    }
}

/// Text in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    use fmt::Write as _;
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => {
                // Writing to a string cannot fail.
                write!(quoted, "\\x{:02x}", u32::from(c)).unwrap_or_default();
            }
            c if c.is_ascii() || is_printable(c) => quoted.push(c),
            c if c <= '\u{ffff}' => write!(quoted, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => write!(quoted, "\\U{:08x}", u32::from(c)).unwrap_or_default(),
        }
    }
    quoted.push('"');
    quoted
}

/// What Go calls printable, of what is no ASCII. After another character, as `Debug` escapes a mark that has none to
/// combine with.
fn is_printable(c: char) -> bool {
    let mut text = [0; 5];
    let (first, rest) = text.split_at_mut(1);
    first.fill(b'a');
    let length = 1 + c.encode_utf8(rest).len();
    let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
    text.is_some_and(|text| text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_the_server_shows_them() {
        assert_eq!(shown(&json!(-4)), "-4");
        assert_eq!(shown(&json!(0.5)), "0.5");
        assert_eq!(shown(&json!(1e21)), "1e+21");
        assert_eq!(shown(&json!(1e6)), "1000000");
        assert_eq!(shown(&json!(1.5e-7)), "1.5e-07");
        assert_eq!(shown(&json!("a\"b\n")), r#""a\"b\n""#);
        assert_eq!(shown(&json!(null)), r#""null""#);
        assert_eq!(shown(&json!({"a": [1]})), r#"{"a":[1]}"#);
        assert_eq!(shown(&json!(true)), "true");
    }

    #[test]
    fn what_go_does_not_print_is_escaped() {
        for (text, expected) in [
            ("a'\u{e9}e\u{301}\u{1f600}", "\"a'\u{e9}e\u{301}\u{1f600}\""),
            ("\u{7}\u{1b}\u{7f}", r#""\a\x1b\x7f""#),
            ("\u{85}\u{a0}\u{200b}\u{2028}\u{feff}", r#""\u0085\u00a0\u200b\u2028\ufeff""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quote(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        assert!(shown(&json!("ä".repeat(10_000))).len() <= VALUE_MAX + 1);
    }

    #[test]
    fn several_errors_stand_in_brackets_and_the_same_once() {
        let missing = FieldError::required("spec.a", "");
        let extra = FieldError::forbidden("spec.b", "no");
        assert_eq!(aggregate(std::slice::from_ref(&missing)), "spec.a: Required value");
        assert_eq!(
            aggregate(&[missing.clone(), extra, missing]),
            "[spec.a: Required value, spec.b: Forbidden: no]"
        );
        assert_eq!(aggregate(&[]), "[]");
    }

    #[test]
    fn every_reason_has_its_sentence() {
        let unsupported = FieldError::not_supported("spec.c", &json!("x"), &["a", "b"]);
        assert_eq!(
            unsupported.to_string(),
            r#"spec.c: Unsupported value: "x": supported values: "a", "b""#
        );
        assert_eq!(
            FieldError::too_many("t", 3, 2).to_string(),
            "t: Too many: 3: must have at most 2 items"
        );
        assert_eq!(FieldError::too_long("t", 2).to_string(), "t: Too long: may not be more than 2 bytes");
        assert_eq!(FieldError::duplicate("t", &json!("a")).to_string(), r#"t: Duplicate value: "a""#);
        let typed = FieldError::type_invalid("t", &json!("string"), "must be of type integer");
        assert_eq!(typed.reason.as_str(), "FieldValueTypeInvalid");
        assert_eq!(typed.message, r#"Invalid value: "string": must be of type integer"#);
    }
}
