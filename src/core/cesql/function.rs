//! The functions of the language.

use std::borrow::Cow;

use super::error::ErrorKind;
use super::value::{Type, Value};

/// Longest text that a function puts together, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Length,
    Concat,
    ConcatWs,
    Lower,
    Upper,
    Trim,
    Left,
    Right,
    Substring,
    Abs,
    Int,
    Bool,
    String,
    IsInt,
    IsBool,
}

/// Why a function gives no proper value: the kind, in words, and what it gives instead, if not the zero of its type.
pub(super) type Refusal<'a> = (ErrorKind, &'static str, Option<Value<'a>>);

impl Function {
    /// All: name, and how many arguments it takes at least and at most.
    const TABLE: [(&'static str, Self, usize, usize); 15] = [
        ("LENGTH", Self::Length, 1, 1),
        ("CONCAT", Self::Concat, 0, usize::MAX),
        ("CONCAT_WS", Self::ConcatWs, 1, usize::MAX),
        ("LOWER", Self::Lower, 1, 1),
        ("UPPER", Self::Upper, 1, 1),
        ("TRIM", Self::Trim, 1, 1),
        ("LEFT", Self::Left, 2, 2),
        ("RIGHT", Self::Right, 2, 2),
        ("SUBSTRING", Self::Substring, 2, 3),
        ("ABS", Self::Abs, 1, 1),
        ("INT", Self::Int, 1, 1),
        ("BOOL", Self::Bool, 1, 1),
        ("STRING", Self::String, 1, 1),
        ("IS_INT", Self::IsInt, 1, 1),
        ("IS_BOOL", Self::IsBool, 1, 1),
    ];

    /// The function of a name, in any case, with so many arguments.
    pub(super) fn find(name: &str, arguments: usize) -> Option<Self> {
        let found = Self::TABLE.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
        let (_, function, least, most) = *found;
        (least..=most).contains(&arguments).then_some(function)
    }

    /// The type of its result.
    pub(super) fn returns(self) -> Type {
        match self {
            Self::Length | Self::Abs | Self::Int => Type::Integer,
            Self::Bool | Self::IsInt | Self::IsBool => Type::Boolean,
            _ => Type::String,
        }
    }

    /// The type its argument is read as; `None` for any.
    pub(super) fn takes(self, argument: usize) -> Option<Type> {
        match (self, argument) {
            (Self::Int | Self::Bool | Self::String | Self::IsInt | Self::IsBool, _) => None,
            (Self::Abs, _) | (Self::Left | Self::Right | Self::Substring, 1..) => Some(Type::Integer),
            _ => Some(Type::String),
        }
    }

    /// Calls it with arguments of the types it takes, as many as [`find`](Self::find) was told.
    pub(super) fn call<'a>(
        self,
        arguments: impl IntoIterator<Item = Value<'a>>,
    ) -> Result<Value<'a>, Refusal<'a>> {
        let mut arguments = arguments.into_iter();
        match self {
            Self::Concat => return join("", arguments),
            Self::ConcatWs => {
                let delimiter = arguments.next().map(Value::text).unwrap_or_default();
                return join(&delimiter, arguments);
            }
            _ => {}
        }
        let first = arguments.next().unwrap_or(Type::String.zero());
        let mut number = || arguments.next().and_then(|value| value.integer());
        match self {
            Self::Left | Self::Right => cut(self == Self::Left, first.text(), number().unwrap_or(0)),
            Self::Substring => {
                let from = number().unwrap_or(0);
                substring(first.text(), from, number())
            }
            Self::Length => {
                Ok(Value::Integer(i32::try_from(first.text().chars().count()).unwrap_or(i32::MAX)))
            }
            Self::Lower => changed(first.text(), |c| c.is_ascii_lowercase(), str::to_lowercase),
            Self::Upper => changed(first.text(), |c| c.is_ascii_uppercase(), str::to_uppercase),
            Self::Trim => Ok(Value::String(match first.text() {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
            })),
            Self::Abs => {
                let value = first.integer().unwrap_or(0);
                let beyond = (ErrorKind::Math, "is beyond 32 bits", Some(Value::Integer(i32::MAX)));
                value.checked_abs().map(Value::Integer).ok_or(beyond)
            }
            Self::Int => first.integer().map(Value::Integer).ok_or((
                ErrorKind::Cast,
                "cannot be read as an integer",
                None,
            )),
            Self::Bool => first.to_boolean().map(Value::Boolean).ok_or((
                ErrorKind::Cast,
                "cannot be read as a boolean",
                None,
            )),
            Self::IsInt => Ok(Value::Boolean(first.integer().is_some())),
            Self::IsBool => Ok(Value::Boolean(first.to_boolean().is_some())),
            Self::String | Self::Concat | Self::ConcatWs => Ok(Value::String(first.text())),
        }
    }
}

fn too_long<'a>() -> Refusal<'a> {
    (ErrorKind::Generic, "gives more than 64 KiB of text", None)
}

fn join<'a>(delimiter: &str, values: impl Iterator<Item = Value<'a>>) -> Result<Value<'a>, Refusal<'a>> {
    let mut joined = String::new();
    for (at, value) in values.enumerate() {
        let (between, text) = (if at == 0 { "" } else { delimiter }, value.text());
        if joined.len() + between.len() + text.len() > TEXT_MAX {
            return Err(too_long());
        }
        joined.push_str(between);
        joined.push_str(&text);
    }
    Ok(Value::String(joined.into()))
}

/// The text in another case, or itself where all its letters have that case.
fn changed(
    text: Cow<'_, str>,
    has_case: impl Fn(char) -> bool,
    change: impl Fn(&str) -> String,
) -> Result<Value<'_>, Refusal<'_>> {
    if text.chars().all(|c| has_case(c) || c.is_ascii() && !c.is_ascii_alphabetic()) {
        return Ok(Value::String(text));
    }
    // A letter becomes at most three others.
    if text.len() > TEXT_MAX / 3 {
        return Err(too_long());
    }
    Ok(Value::String(change(&text).into()))
}

/// The first or last so many characters.
fn cut(left: bool, text: Cow<'_, str>, count: i32) -> Result<Value<'_>, Refusal<'_>> {
    let Ok(count) = usize::try_from(count) else {
        return Err((ErrorKind::FunctionEvaluation, "takes no negative number", Some(Value::String(text))));
    };
    let length = text.chars().count();
    Ok(Value::String(match (count < length, left) {
        (false, _) => text,
        (true, true) => characters(text, 0, count),
        (true, false) => characters(text, length - count, count),
    }))
}

/// The characters from position `from`, 1 for the first and -1 for the last; all or `count` of them.
fn substring(text: Cow<'_, str>, from: i32, count: Option<i32>) -> Result<Value<'_>, Refusal<'_>> {
    let refused = |detail| Err((ErrorKind::FunctionEvaluation, detail, None));
    let count = match count.map(usize::try_from) {
        None => usize::MAX,
        Some(Ok(count)) => count,
        Some(Err(_)) => return refused("takes no negative length"),
    };
    let length = text.chars().count();
    let distance = from.unsigned_abs() as usize;
    if distance > length {
        return refused("begins outside of the text");
    }
    Ok(match from {
        0 => Type::String.zero(),
        1.. => Value::String(characters(text, distance - 1, count)),
        _ => Value::String(characters(text, length - distance, count)),
    })
}

/// At most `count` characters after the first `skip`.
fn characters(text: Cow<'_, str>, skip: usize, count: usize) -> Cow<'_, str> {
    fn part(text: &str, skip: usize, count: usize) -> &str {
        let mut rest = text.chars();
        for _ in 0..skip {
            rest.next();
        }
        let from = rest.as_str();
        let end = from.char_indices().nth(count).map_or(from.len(), |(at, _)| at);
        from.get(..end).unwrap_or_default()
    }
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text, skip, count)),
        Cow::Owned(text) => Cow::Owned(part(&text, skip, count).to_owned()),
    }
}
