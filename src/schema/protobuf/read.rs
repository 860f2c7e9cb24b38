//! JSON as messages.
//!
//! Messages, lists, tables and `Any` are gone through here, which gives errors their place and bytes their order; what
//! a single value may be is the library's to say.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::{DEPTH_MAX, Descriptors, InvalidJson, TYPE, VALUE, has_own_json, is_leaf};
use crate::core::suggest;

/// Most values of an enumeration that an error names.
const NAMED_MAX: usize = 12;

type Result<T> = std::result::Result<T, InvalidJson>;

/// Where in the JSON, from the inside out.
#[derive(Clone, Copy)]
struct Place<'a> {
    outer: Option<&'a Place<'a>>,
    part: Part<'a>,
    /// How many messages it is in.
    depth: usize,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Whole,
    Field(&'a str),
    Item(usize),
    Key(&'a str),
}

impl<'a> Place<'a> {
    const WHOLE: Self = Self { outer: None, part: Part::Whole, depth: 0 };

    fn at(&'a self, part: Part<'a>) -> Self {
        Self { outer: Some(self), part, depth: self.depth }
    }

    fn wrong(&self, reason: impl Into<String>) -> InvalidJson {
        InvalidJson { path: self.to_string(), reason: reason.into() }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outer = self.outer.map(ToString::to_string).unwrap_or_default();
        let dot = if outer.is_empty() { "" } else { "." };
        match self.part {
            Part::Whole => Ok(()),
            Part::Field(name) => write!(f, "{outer}{dot}{name}"),
            Part::Item(at) => write!(f, "{outer}[{at}]"),
            Part::Key(key) => write!(f, "{outer}[{key}]"),
        }
    }
}

/// See [`Descriptors::read`].
pub(super) fn message(all: &Descriptors, type_url: &str, json: &Value) -> Result<Bytes> {
    let place = Place::WHOLE;
    let bytes = match (json, all.of_url(type_url)) {
        // A type with JSON of its own may have a member of this name there.
        (Value::Object(object), of)
            if of.as_ref().is_none_or(|of| !has_own_json(of.full_name()) && object.contains_key(TYPE)) =>
        {
            let named = object.get(TYPE).map_or(Some(type_url), Value::as_str);
            if named.and_then(|named| named.rsplit('/').next()) != type_url.rsplit('/').next() {
                let place = place.at(Part::Field(TYPE));
                return Err(place.wrong(format!("must be {type_url}, the type of the resource")));
            }
            typed(all, type_url, object, &place)
        }
        (_, Some(of)) => one(all, &of, json, &place),
        (_, None) => Err(unknown_type(type_url, &place)),
    };
    bytes.map(Bytes::from)
}

/// A message whose type stands in its JSON.
fn typed(
    all: &Descriptors,
    type_url: &str,
    object: &Map<String, Value>,
    place: &Place<'_>,
) -> Result<Vec<u8>> {
    let of = all.of_url(type_url);
    let own_json = of.as_ref().is_some_and(|of| has_own_json(of.full_name()));
    let has_value = of.as_ref().is_some_and(|of| of.get_field_by_json_name(VALUE).is_some());
    if let (2, Some(Value::String(text)), false, false) =
        (object.len(), object.get(VALUE), own_json, has_value)
        && object.contains_key(TYPE)
    {
        // What was shown because nobody could read it, or what somebody else encoded.
        let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
        return bytes
            .map_err(|error| place.at(Part::Field(VALUE)).wrong(format!("is not base64: {error}")));
    }
    let of = of.ok_or_else(|| unknown_type(type_url, place))?;
    if !own_json {
        return fields(all, &of, object, Some(TYPE), place);
    }
    if let Some(other) = object.keys().find(|name| !matches!(name.as_str(), TYPE | VALUE)) {
        let reason = format!("is unknown: a {} stands in {VALUE}", of.full_name());
        return Err(place.at(Part::Field(other)).wrong(reason));
    }
    let value = object.get(VALUE);
    let value = value.ok_or_else(|| place.wrong(format!("{VALUE} is missing: the {}", of.full_name())))?;
    one(all, &of, value, &place.at(Part::Field(VALUE)))
}

fn unknown_type(type_url: &str, place: &Place<'_>) -> InvalidJson {
    place.wrong(format!(
        "the type {type_url} is not known here: give its bytes, {{\"{TYPE}\": \"{type_url}\", \"{VALUE}\": BASE64}}, \
         or its descriptors in the configuration (descriptors: [FILE])"
    ))
}

/// The bytes of a message, in its own form of JSON where it has one.
fn one(all: &Descriptors, of: &MessageDescriptor, json: &Value, place: &Place<'_>) -> Result<Vec<u8>> {
    let place = &Place { depth: place.depth + 1, ..*place };
    if place.depth > DEPTH_MAX {
        return Err(place.wrong(format!("is nested in more than {DEPTH_MAX} messages")));
    }
    match (of.full_name().strip_prefix("google.protobuf."), json) {
        (Some("Any"), Value::Object(object)) => any(all, object, place),
        (Some("Struct"), Value::Object(object)) => table(object, place),
        (Some("ListValue"), Value::Array(items)) => list(items, place),
        (Some("Value"), json) => value(json, place),
        (Some(name), json) if is_leaf(name) => {
            let message = DynamicMessage::deserialize(of.clone(), json.clone());
            message.map(|message| message.encode_to_vec()).map_err(|error| place.wrong(error.to_string()))
        }
        (_, Value::Object(object)) => fields(all, of, object, None, place),
        (Some("ListValue"), other) => Err(place.wrong(format!("is {}, not a list", what(other)))),
        (_, other) => Err(place.wrong(format!("is {}, not an object: {}", what(other), of.full_name()))),
    }
}

/// A message by its fields, in order of their numbers; one member of the JSON may be none of them.
fn fields(
    all: &Descriptors,
    of: &MessageDescriptor,
    object: &Map<String, Value>,
    but: Option<&str>,
    place: &Place<'_>,
) -> Result<Vec<u8>> {
    let mut encoded: Vec<(u32, &str, Vec<u8>)> = Vec::with_capacity(object.len());
    let mut chosen: Vec<(String, &str)> = Vec::new();
    for (name, json) in object.iter().filter(|(name, _)| but != Some(name.as_str())) {
        let place = place.at(Part::Field(name));
        let field = of.get_field_by_json_name(name).or_else(|| of.get_field_by_name(name));
        let field = field.ok_or_else(|| place.wrong(unknown_field(of, name)))?;
        if json.is_null() && !takes_null(&field) {
            continue;
        }
        if let Some((_, other, _)) = encoded.iter().find(|(number, _, _)| *number == field.number()) {
            return Err(place.wrong(format!("is the same field as {other}: give one of them")));
        }
        if let Some(oneof) = field.containing_oneof() {
            if let Some((_, other)) = chosen.iter().find(|(have, _)| have == oneof.name()) {
                return Err(place.wrong(format!("and {other} exclude each other: give one of them")));
            }
            chosen.push((oneof.name().to_owned(), name));
        }
        encoded.push((field.number(), name, self::field(all, of, &field, json, &place)?));
    }
    encoded.sort_unstable_by_key(|(number, _, _)| *number);
    Ok(encoded.into_iter().flat_map(|(_, _, bytes)| bytes).collect())
}

fn unknown_field(of: &MessageDescriptor, name: &str) -> String {
    let names: Vec<String> = of.fields().map(|field| field.json_name().to_owned()).collect();
    format!("is no field of {}; {}", of.full_name(), suggest::hint(name, &names))
}

fn takes_null(field: &FieldDescriptor) -> bool {
    !field.is_list()
        && !field.is_map()
        && match field.kind() {
            Kind::Message(of) => of.full_name() == "google.protobuf.Value",
            Kind::Enum(of) => of.full_name() == "google.protobuf.NullValue",
            _ => false,
        }
}

/// One field with its key: all of its items, all of its entries.
fn field(
    all: &Descriptors,
    of: &MessageDescriptor,
    field: &FieldDescriptor,
    json: &Value,
    place: &Place<'_>,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let kind = field.kind();
    match (json, kind.as_message()) {
        (Value::Object(entries), Some(entry)) if field.is_map() => {
            let mut sorted: Vec<(&String, &Value)> = entries.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            for (key, json) in sorted {
                delimited(&mut bytes, field, &map_entry(all, entry, key, json, &place.at(Part::Key(key)))?);
            }
        }
        (other, _) if field.is_map() => {
            return Err(place.wrong(format!("is {}, not an object", what(other))));
        }
        (Value::Array(items), Some(of)) if field.is_list() => {
            for (at, json) in items.iter().enumerate() {
                delimited(&mut bytes, field, &one(all, of, json, &place.at(Part::Item(at)))?);
            }
        }
        (Value::Array(items), None) if field.is_list() => match leaf(of, field, json, place) {
            Ok(all) => bytes = all,
            // Which of them it is.
            Err(whole) => {
                let each = items.iter().enumerate();
                let mut first = each.map(|(at, item)| {
                    let alone = Value::Array(vec![item.clone()]);
                    leaf(of, field, &alone, &place.at(Part::Item(at)))
                });
                return Err(first.find_map(Result::err).unwrap_or(whole));
            }
        },
        (other, _) if field.is_list() => return Err(place.wrong(format!("is {}, not a list", what(other)))),
        (json, Some(of)) => delimited(&mut bytes, field, &one(all, of, json, place)?),
        (json, None) => bytes = leaf(of, field, json, place)?,
    }
    Ok(bytes)
}

/// An entry of a table: a message of key and value.
fn map_entry(
    all: &Descriptors,
    entry: &MessageDescriptor,
    key: &str,
    json: &Value,
    place: &Place<'_>,
) -> Result<Vec<u8>> {
    let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let key = match (key_field.kind(), key) {
        (Kind::Bool, "true") => Value::Bool(true),
        (Kind::Bool, "false") => Value::Bool(false),
        _ => Value::String(key.to_owned()),
    };
    if json.is_null() && !takes_null(&value_field) {
        return Err(place.wrong("is null: an entry has a value"));
    }
    let mut bytes = leaf(entry, &key_field, &key, place)?;
    bytes.extend(field(all, entry, &value_field, json, place)?);
    Ok(bytes)
}

/// A field without messages in it.
fn leaf(
    of: &MessageDescriptor,
    field: &FieldDescriptor,
    json: &Value,
    place: &Place<'_>,
) -> Result<Vec<u8>> {
    let alone: Map<String, Value> = [(field.name().to_owned(), json.clone())].into_iter().collect();
    match DynamicMessage::deserialize(of.clone(), Value::Object(alone)) {
        Ok(message) => Ok(message.encode_to_vec()),
        Err(error) => Err(place.wrong(match (field.kind(), json) {
            (Kind::Enum(of), Value::String(name)) => {
                let known: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
                let more = if known.len() > NAMED_MAX { ", …" } else { "" };
                let known: Vec<String> = known.into_iter().take(NAMED_MAX).collect();
                format!("{name:?} is no {}: one of {}{more}", of.full_name(), known.join(", "))
            }
            _ => error.to_string(),
        })),
    }
}

fn any(all: &Descriptors, object: &Map<String, Value>, place: &Place<'_>) -> Result<Vec<u8>> {
    if object.is_empty() {
        return Ok(Vec::new());
    }
    let type_url = match object.get(TYPE) {
        Some(Value::String(type_url)) if !type_url.is_empty() => type_url,
        Some(_) => return Err(place.at(Part::Field(TYPE)).wrong("must be the URL of a type")),
        None => {
            let reason =
                format!("{TYPE} is missing: the type of what is held here, type.googleapis.com/NAME");
            return Err(place.wrong(reason));
        }
    };
    let data = typed(all, type_url, object, place)?;
    let mut bytes = Vec::with_capacity(type_url.len() + data.len() + 8);
    prost::encoding::string::encode(1, type_url, &mut bytes);
    if !data.is_empty() {
        prost::encoding::bytes::encode(2, &data, &mut bytes);
    }
    Ok(bytes)
}

/// `google.protobuf.Struct`, its entries in order of key.
fn table(object: &Map<String, Value>, place: &Place<'_>) -> Result<Vec<u8>> {
    let mut sorted: Vec<(&String, &Value)> = object.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut bytes = Vec::new();
    for (key, json) in sorted {
        let mut entry = Vec::new();
        if !key.is_empty() {
            prost::encoding::string::encode(1, key, &mut entry);
        }
        let place = Place { depth: place.depth + 1, ..place.at(Part::Key(key)) };
        prost::encoding::bytes::encode(2, &value(json, &place)?, &mut entry);
        prost::encoding::bytes::encode(1, &entry, &mut bytes);
    }
    Ok(bytes)
}

/// `google.protobuf.ListValue`.
fn list(items: &[Value], place: &Place<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (at, json) in items.iter().enumerate() {
        let place = Place { depth: place.depth + 1, ..place.at(Part::Item(at)) };
        prost::encoding::bytes::encode(1, &value(json, &place)?, &mut bytes);
    }
    Ok(bytes)
}

/// `google.protobuf.Value`: any JSON.
fn value(json: &Value, place: &Place<'_>) -> Result<Vec<u8>> {
    if place.depth > DEPTH_MAX {
        return Err(place.wrong(format!("is nested in more than {DEPTH_MAX} messages")));
    }
    let mut bytes = Vec::new();
    match json {
        Value::Null => prost::encoding::int32::encode(1, &0, &mut bytes),
        Value::Number(number) => {
            prost::encoding::double::encode(2, &number.as_f64().unwrap_or(f64::NAN), &mut bytes);
        }
        Value::String(text) => prost::encoding::string::encode(3, text, &mut bytes),
        Value::Bool(flag) => prost::encoding::bool::encode(4, flag, &mut bytes),
        Value::Object(object) => prost::encoding::bytes::encode(5, &table(object, place)?, &mut bytes),
        Value::Array(items) => prost::encoding::bytes::encode(6, &list(items, place)?, &mut bytes),
    }
    Ok(bytes)
}

/// Adds a message as the value of a field.
fn delimited(bytes: &mut Vec<u8>, field: &FieldDescriptor, message: &[u8]) {
    if field.is_group() {
        encode_key(field.number(), WireType::StartGroup, bytes);
        bytes.extend_from_slice(message);
        encode_key(field.number(), WireType::EndGroup, bytes);
        return;
    }
    encode_key(field.number(), WireType::LengthDelimited, bytes);
    encode_varint(message.len() as u64, bytes);
    bytes.extend_from_slice(message);
}

fn what(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
