//! Field selectors: `metadata.name=web-0,status.phase!=Running`.
//!
//! A value can hold `,`, `=` and `\` behind a backslash. Which fields a kind has is the kind's matter: whoever
//! lists checks [`FieldSelector::requirements`] and answers [`unsupported`] for a field it does not know.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write as _};
use std::str::FromStr;

use super::{SelectorError, check_length};

/// The field that pins one object.
const NAME: &str = "metadata.name";
/// The field that pins one namespace.
const NAMESPACE: &str = "metadata.namespace";

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's label as the kind names it: `metadata.name`, `involvedObject.kind`.
    pub field: String,
    /// Whether the field must differ from [`value`](Self::value) instead of being equal.
    pub negated: bool,
    /// The value, without escapes. A missing field is the empty value.
    pub value: String,
}

/// Conditions that must all hold, in the order of their text. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FromStr for FieldSelector {
    type Err = SelectorError;

    /// Reads the text of the parameter `fieldSelector`.
    ///
    /// # Errors
    ///
    /// What the API server would answer.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let mut requirements = Vec::new();
        for term in terms(text).filter(|term| !term.is_empty()) {
            let (field, negated, value) = split(term).ok_or_else(|| {
                SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                negated,
                value: unescape(value)?,
            });
        }
        requirements.sort_by_cached_key(ToString::to_string);
        Ok(Self(requirements))
    }
}

impl FieldSelector {
    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conditions, in the order of their text.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }

    /// Whether an object with the fields that `field` looks up is selected. A missing field is empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        self.0.iter().all(|requirement| {
            let equal = field(&requirement.field).as_deref().unwrap_or("") == requirement.value;
            equal != requirement.negated
        })
    }

    /// The one value that `field` must have, if it is bound to one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let bound = self.0.iter().find(|requirement| !requirement.negated && requirement.field == field);
        bound.map(|requirement| requirement.value.as_str())
    }

    /// The one name that can be selected, if there is one: a list is then a look-up.
    /// The other conditions must still be held against what is found.
    pub fn name(&self) -> Option<&str> {
        self.exact(NAME)
    }

    /// The one namespace that can be selected, if there is one.
    pub fn namespace(&self) -> Option<&str> {
        self.exact(NAMESPACE)
    }
}

impl Display for FieldSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Display for FieldRequirement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, if self.negated { "!=" } else { "=" })?;
        for char in self.value.chars() {
            if matches!(char, '\\' | ',' | '=') {
                f.write_char('\\')?;
            }
            f.write_char(char)?;
        }
        Ok(())
    }
}

/// The message of a 400 `BadRequest` about a field the kind does not select by.
pub fn unsupported(field: &str) -> String {
    format!("field label not supported: {field}")
}

/// The terms between the commas that no backslash stands before.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |char| {
        let splits = char == ',' && !escaped;
        escaped = char == '\\' && !escaped;
        splits
    })
}

/// The field, whether it must differ, and the value with its escapes. The first operator counts.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let (field, value) = term.split_once('=')?;
    // `a!=b` also differs when an exclamation mark ends the field: no field's label has one.
    match field.strip_suffix('!') {
        Some(field) => Some((field, true, value)),
        None => Some((field, false, value.strip_prefix('=').unwrap_or(value))),
    }
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let refuse = |why: &str| SelectorError(format!("invalid field selector: {why}"));
    let mut unescaped = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(special @ ('\\' | ',' | '=')) => unescaped.push(special),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(refuse(&format!("invalid escape sequence: \\{other}")));
                }
            },
            // The server shows the character's number.
            ',' | '=' => return Err(refuse(&format!("unescaped character in value: {}", char as u32))),
            _ => unescaped.push(char),
        }
    }
    Ok(unescaped)
}
