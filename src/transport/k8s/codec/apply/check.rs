//! Whether what somebody applies is of its type, in the sentences of the API server.

use serde_json::Value;

use super::element::Element;
use super::set::{DEPTH_MAX, shown};
use super::typing::{Shape, Typing};

/// Most that is told of what is wrong.
const ERRORS_MAX: usize = 32;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Its types, and its items told apart: what is applied.
    Applied,
    /// Only so much that its items have names: what is stored.
    Stored,
}

/// Checks a value.
///
/// # Errors
/// All that is wrong, as one sentence.
pub(super) fn check(value: &Value, typing: Typing<'_>, strictness: Strictness) -> Result<(), String> {
    let mut check = Check { strictness, path: Vec::new(), errors: Vec::new() };
    check.walk(value, typing);
    match check.errors.as_slice() {
        [] => Ok(()),
        [only] => Err(only.clone()),
        many => {
            let lines: Vec<String> = many.iter().map(|error| format!("\n  {error}")).collect();
            Err(format!("errors:{}", lines.concat()))
        }
    }
}

struct Check {
    strictness: Strictness,
    path: Vec<Element>,
    errors: Vec<String>,
}

impl Check {
    fn tell(&mut self, what: impl AsRef<str>) {
        if self.errors.len() < ERRORS_MAX {
            let path = shown(&self.path);
            let colon = if path.is_empty() { "" } else { ": " };
            self.errors.push(format!("{path}{colon}{}", what.as_ref()));
        }
    }

    fn walk(&mut self, value: &Value, typing: Typing<'_>) {
        if self.path.len() >= DEPTH_MAX {
            self.tell(format!("is nested more than {DEPTH_MAX} levels deep"));
            return;
        }
        if let Some(wrong) = mismatch(value, typing).filter(|_| self.strictness == Strictness::Applied) {
            self.tell(wrong);
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.below(Element::field(name), field, typing.field(name).0);
                }
            }
            Value::Array(items) => self.walk_items(items, value, typing),
            _ => {}
        }
    }

    fn walk_items(&mut self, items: &[Value], list: &Value, typing: Typing<'_>) {
        let shape = typing.shape(list);
        let mut seen = std::collections::BTreeSet::new();
        for (at, item) in items.iter().enumerate() {
            let element = match shape {
                Shape::Single | Shape::Map => Element::Index(at),
                Shape::Keyed(_) | Shape::Set => match typing.element(shape, item) {
                    Ok(element) => element,
                    Err(wrong) => return self.tell(format!("element {at}: {wrong}")),
                },
            };
            if !seen.insert(element.clone()) && self.strictness == Strictness::Applied {
                self.tell(format!("duplicate entries for key {element}"));
            }
            self.below(element, item, typing.items());
        }
    }

    fn below(&mut self, element: Element, value: &Value, typing: Typing<'_>) {
        self.path.push(element);
        self.walk(value, typing);
        self.path.pop();
    }
}

/// How a value is not of the type its schema tells. Null is of every type.
fn mismatch(value: &Value, typing: Typing<'_>) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match typing.kind()? {
        "integer" | "number" if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", go_type(value)))
        }
        "string" if !value.is_string() => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)))
        }
        "boolean" if !value.is_boolean() => Some(format!("expected boolean, got &{{{}}}", go_plain(value))),
        "array" if !value.is_array() => Some(format!("expected list, got &{{{}}}", go_plain(value))),
        "object" if !value.is_object() => Some(format!("expected map, got &{{{}}}", go_plain(value))),
        _ => None,
    }
}

/// The name that the API server's language gives a value's type.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value in the syntax of the API server's language. What is in lists and maps is left out: it may be long and deep.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => format!("{}{{…}}", go_type(value)),
        other => other.to_string(),
    }
}

/// A value as the API server prints it, with lists and maps as in [`go_syntax`].
fn go_plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => "[…]".to_owned(),
        Value::Object(_) => "map[…]".to_owned(),
        other => other.to_string(),
    }
}
