//! Messages as JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field};
use serde_json::{Map, Number, Value, json};

use super::{DEPTH_MAX, Descriptors, Shown, TYPE, VALUE, has_own_json, is_leaf, opaque};

/// One message on its way to JSON.
struct Showing<'a> {
    all: &'a Descriptors,
    complete: bool,
}

/// See [`Descriptors::show`].
pub(super) fn message(all: &Descriptors, type_url: &str, data: &[u8]) -> Shown {
    let mut showing = Showing { all, complete: true };
    let json = match all.decode(type_url, data) {
        Some(message) => showing.message(&message, 0),
        None => opaque(type_url, data),
    };
    Shown { json, complete: showing.complete }
}

impl Showing<'_> {
    fn message(&mut self, message: &DynamicMessage, depth: usize) -> Value {
        self.complete &= message.unknown_fields().next().is_none();
        let of = message.descriptor();
        match of.full_name().strip_prefix("google.protobuf.") {
            Some("Any") => self.any(message, depth),
            Some("Struct") => self.only_field(message, "fields", depth).unwrap_or_else(|| json!({})),
            Some("ListValue") => self.only_field(message, "values", depth).unwrap_or_else(|| json!([])),
            Some("Value") => self.value(message, depth),
            Some(name) if name.ends_with("Value") && is_leaf(name) => {
                let wrapped = of.get_field_by_name("value");
                wrapped.map_or(Value::Null, |field| scalar(&field.kind(), &message.get_field(&field)))
            }
            // One that is out of its range has no such JSON: its fields are shown.
            Some(name) if is_leaf(name) => {
                serde_json::to_value(message).unwrap_or_else(|_| Value::Object(self.fields(message, depth)))
            }
            _ => Value::Object(self.fields(message, depth)),
        }
    }

    fn fields(&mut self, message: &DynamicMessage, depth: usize) -> Map<String, Value> {
        message
            .fields()
            .map(|(field, value)| (field.json_name().to_owned(), self.field(&field.kind(), value, depth)))
            .collect()
    }

    fn field(&mut self, kind: &Kind, value: &Field, depth: usize) -> Value {
        match value {
            Field::Message(message) => self.message(message, depth + 1),
            Field::List(items) => items.iter().map(|item| self.field(kind, item, depth)).collect(),
            Field::Map(entries) => {
                let kind =
                    kind.as_message().map(|entry: &MessageDescriptor| entry.map_entry_value_field().kind());
                let Some(kind) = kind else { return Value::Null };
                // In order of key: a table of hashes has none.
                let sorted: BTreeMap<&MapKey, &Field> = entries.iter().collect();
                let entry = |(key, value): (&MapKey, &Field)| (text(key), self.field(&kind, value, depth));
                Value::Object(sorted.into_iter().map(entry).collect())
            }
            scalar => self::scalar(kind, scalar),
        }
    }

    /// The one field of a well-known type that is its list or its table.
    fn only_field(&mut self, message: &DynamicMessage, name: &str, depth: usize) -> Option<Value> {
        let field = message.descriptor().get_field_by_name(name)?;
        let value = message.has_field(&field).then(|| message.get_field(&field))?;
        Some(self.field(&field.kind(), &value, depth))
    }

    fn value(&mut self, message: &DynamicMessage, depth: usize) -> Value {
        match message.fields().next() {
            Some((field, _)) if field.name() == "null_value" => Value::Null,
            Some((field, value)) => self.field(&field.kind(), value, depth),
            None => Value::Null,
        }
    }

    fn any(&mut self, message: &DynamicMessage, depth: usize) -> Value {
        let field = |name: &str| message.get_field_by_name(name);
        let (type_url, data) = (field("type_url"), field("value"));
        let type_url = type_url.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
        let data = data.as_ref().and_then(|value| value.as_bytes()).map_or(&[][..], |data| &data[..]);
        if type_url.is_empty() && data.is_empty() {
            return json!({});
        }
        // Each is decoded anew, so depth is counted over all of them.
        let held = self.all.decode(type_url, data).filter(|_| depth < DEPTH_MAX);
        let Some(held) = held else { return opaque(type_url, data) };
        if has_own_json(held.descriptor().full_name()) {
            return json!({ TYPE: type_url, VALUE: self.message(&held, depth + 1) });
        }
        self.complete &= held.unknown_fields().next().is_none();
        let mut object = Map::new();
        object.insert(TYPE.to_owned(), json!(type_url));
        object.extend(self.fields(&held, depth + 1));
        Value::Object(object)
    }
}

fn text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn scalar(kind: &Kind, value: &Field) -> Value {
    match (kind, value) {
        (Kind::Enum(of), Field::EnumNumber(_)) if of.full_name() == "google.protobuf.NullValue" => {
            Value::Null
        }
        (Kind::Enum(of), Field::EnumNumber(number)) => {
            of.get_value(*number).map_or_else(|| json!(number), |value| json!(value.name()))
        }
        (_, Field::Bool(value)) => json!(value),
        (_, Field::I32(value) | Field::EnumNumber(value)) => json!(value),
        (_, Field::U32(value)) => json!(value),
        // As text: readers of JSON have 53 bits.
        (_, Field::I64(value)) => json!(value.to_string()),
        (_, Field::U64(value)) => json!(value.to_string()),
        // By its own shortest text, or 0.1 would be 0.10000000149011612.
        (_, Field::F32(value)) => float(value.to_string().parse().unwrap_or(f64::from(*value))),
        (_, Field::F64(value)) => float(*value),
        (_, Field::String(value)) => json!(value),
        (_, Field::Bytes(value)) => json!(STANDARD.encode(value)),
        (_, Field::Message(_) | Field::List(_) | Field::Map(_)) => Value::Null,
    }
}

fn float(value: f64) -> Value {
    let special = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    // Whole numbers without a fraction, as all others write them.
    if value.fract() == 0.0
        && value.abs() < 9_007_199_254_740_992.0
        && !(value == 0.0 && value.is_sign_negative())
    {
        return json!(value as i64);
    }
    Number::from_f64(value).map_or_else(|| json!(special), Value::Number)
}
