//! Reads a tree as a Rust type through serde, so that each error is placed at the field it is about.
//!
//! A deserializer of its own, rather than the tree turned into JSON and the message read back: serde hands
//! its errors over as parts (which field, which names are allowed, what was found), and here they stay parts.

use std::fmt;

use serde::Deserializer;
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Expected, MapAccess, SeqAccess, Unexpected, Visitor};

use super::path::Step;
use super::suggest;
use super::tree::{Entry, Kind, Node, Place};

/// What separates a hint from the reason in the message of a `Deserialize` of our own.
pub(crate) const HINT: &str = "\nhint: ";

/// What serde found wrong, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
    pub(crate) place: Option<Place>,
    /// The innermost first.
    pub(crate) steps: Vec<Step>,
}

impl Fault {
    fn new(reason: impl Into<String>, hint: Option<String>) -> Self {
        Self { reason: reason.into(), hint, place: None, steps: Vec::new() }
    }

    /// The innermost place stays.
    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        if message.starts_with("data did not match any variant of untagged enum") {
            return Self::new("is none of the forms allowed here", None);
        }
        match message.split_once(HINT) {
            Some((reason, hint)) => Self::new(reason, Some(hint.to_owned())),
            None => Self::new(message, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = expected.to_string();
        let hint = match (&found, wanted.as_str()) {
            (Unexpected::Str(_), wanted) if is_number(wanted) => "write a number without quotes",
            (Unexpected::Str(_), "a boolean") => "write true or false, without quotes",
            (
                Unexpected::Unsigned(_)
                | Unexpected::Signed(_)
                | Unexpected::Float(_)
                | Unexpected::Bool(_),
                text,
            ) if text.contains("string") => "put it in quotes to make it text",
            (Unexpected::Str(_), "a sequence") => "write a list, even for one: [value]",
            (Unexpected::Unit, _) => "give it a value, or leave the field out",
            _ => return Self::new(mismatch(&found, &wanted), None),
        };
        Self::new(mismatch(&found, &wanted), Some(hint.to_owned()))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(mismatch(&found, &expected.to_string()), None)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {length} of them", yaml_word(&expected.to_string())), None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(
            format!("{variant:?} is none of the words allowed here"),
            Some(suggest::hint(variant, expected)),
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new("is no field known here", Some(suggest::hint(field, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the field `{field}` is missing"), None)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("the field `{field}` is set twice, perhaps under an older name"), None)
    }
}

fn mismatch(found: &Unexpected<'_>, wanted: &str) -> String {
    let found = match found {
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => {
            let short: String = text.chars().take(40).collect();
            let more = if short.len() < text.len() { "…" } else { "" };
            format!("the text {short:?}{more}")
        }
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    };
    format!("expected {}, found {found}", yaml_word(wanted))
}

fn is_number(wanted: &str) -> bool {
    matches!(wanted, "f32" | "f64" | "usize" | "isize")
        || wanted.trim_start_matches("a nonzero ").trim_start_matches(['u', 'i']).parse::<u8>().is_ok()
}

/// Rust's words for types, as an operator says them.
fn yaml_word(wanted: &str) -> String {
    let range = |low: i64, high: u64| format!("a whole number from {low} to {high}");
    match wanted {
        "u8" => range(0, u8::MAX.into()),
        "u16" => range(0, u16::MAX.into()),
        "u32" => range(0, u32::MAX.into()),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" => range(i8::MIN.into(), 127),
        "i16" => range(i16::MIN.into(), 32_767),
        "i32" => range(i32::MIN.into(), 2_147_483_647),
        "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "string" | "path string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        _ if wanted.starts_with("a nonzero u") => "a whole number above 0".to_owned(),
        _ if wanted.starts_with("struct ") => "a map of fields".to_owned(),
        _ => wanted.to_owned(),
    }
}

/// A value to read, and the place its errors are shown at.
#[derive(Clone, Copy)]
pub(crate) struct Value<'de> {
    node: &'de Node,
    place: &'de Place,
}

impl<'de> Value<'de> {
    /// `key` is where the key of the value stands, which is what an error about a map or list is shown at.
    pub(crate) fn new(node: &'de Node, key: Option<&'de Place>) -> Self {
        let place = key.filter(|_| node.is_collection()).unwrap_or(&node.place);
        Self { node, place }
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(text) => visitor.visit_borrowed_str(text),
            Kind::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Kind::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
        .map_err(|fault| fault.at(self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(|fault| fault.at(self.place))
    }

    /// A list is no struct: serde's derived ones would take it for their fields in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::List(_) => {
                Err(Fault::new("expected a map of fields, found a list".to_owned(), None).at(self.place))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Text(text) => visitor.visit_enum(StrDeserializer::new(text)),
            Kind::Map(entries) if entries.len() == 1 => {
                let entries = Entries { entries: entries.iter(), value: None };
                visitor.visit_enum(MapAccessDeserializer::new(entries))
            }
            _ => Err(Fault::new(format!("expected exactly one of: {}", variants.join(", ")), None)),
        }
        .map_err(|fault| fault.at(self.place))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, std::sync::Arc<Node>>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((at, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Value::new(node, None))
            .map(Some)
            .map_err(|fault| fault.at(&node.place).within(Step::Index(at)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        seed.deserialize(BorrowedStrDeserializer::new(&entry.key))
            .map(Some)
            .map_err(|fault: Fault| fault.at(&entry.place).within(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some(entry) = self.value.take() else {
            return Err(de::Error::custom("a value is read before its key"));
        };
        let value = Value::new(&entry.value, Some(&entry.place));
        seed.deserialize(value).map_err(|fault| fault.at(value.place).within(Step::Key(entry.key.clone())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
