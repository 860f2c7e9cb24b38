//! OpenAPI v2, in the protobuf form of older clients (`openapi.v2.Document` of gnostic) and as JSON.
//!
//! Written field by field: numbers are those of gnostic's `OpenAPIv2.proto`. Of a schema it has what clients read: types,
//! properties, references, descriptions, required fields, and extensions as YAML.

use std::sync::Arc;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value, json};

use super::super::kind::Kind;
use super::Kinds;
use super::groups::Version;
use super::openapi3::{definitions, gvk, options};
use crate::config::yaml::to_yaml;

/// Deepest nesting of a schema that is written.
const DEPTH_MAX: usize = 64;
const GVK: &str = "x-kubernetes-group-version-kind";

/// The document as JSON.
pub(super) fn json(kinds: &Kinds) -> Vec<u8> {
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "meshbus", "version": env!("CARGO_PKG_VERSION")},
        "paths": {},
        "definitions": definitions(kinds),
    });
    document.to_string().into_bytes()
}

/// The document in protobuf.
pub(super) fn protobuf(kinds: &Kinds) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, "2.0");
    message(&mut out, 2, |info| {
        text(info, 1, "meshbus");
        text(info, 2, env!("CARGO_PKG_VERSION"));
    });
    message(&mut out, 8, |paths| kinds.iter().for_each(|kind| path(paths, kind)));
    message(&mut out, 9, |all| {
        for (name, definition) in definitions(kinds) {
            named(all, 1, &name, |out| schema(out, &definition, 0));
        }
    });
    out
}

/// The path of an object, whose patch tells old clients that they may ask for a dry run.
fn path(out: &mut Vec<u8>, kind: &Arc<Kind>) {
    if !kind.allows("patch") {
        return;
    }
    let definition = &kind.definition;
    let at = Version { group: definition.group.clone(), version: definition.version.clone() };
    let namespace = if definition.namespaced { "/namespaces/{namespace}" } else { "" };
    let name = format!("/{}{namespace}/{}/{{name}}", at.path(), definition.plural);
    named(out, 2, &name, |item| {
        message(item, 8, |operation| {
            text(operation, 5, &format!("patch{}{}", definition.version, definition.kind));
            for (name, of) in options("patch") {
                // ParametersItem, Parameter, NonBodyParameter, QueryParameterSubSchema
                message(operation, 8, |out| {
                    message(out, 1, |out| {
                        message(out, 2, |out| {
                            message(out, 3, |query| {
                                text(query, 2, "query");
                                text(query, 4, name);
                                text(query, 6, of);
                            });
                        });
                    });
                });
            }
            extension(operation, 13, GVK, &gvk(kind));
        });
    });
}

fn schema(out: &mut Vec<u8>, schema: &Value, depth: usize) {
    let Some(fields) = schema.as_object().filter(|_| depth < DEPTH_MAX) else { return };
    let word = |name: &str| fields.get(name).and_then(Value::as_str);
    for (number, name) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description")] {
        if let Some(word) = word(name) {
            text(out, number, word);
        }
    }
    for required in fields.get("required").and_then(Value::as_array).into_iter().flatten() {
        text(out, 19, required.as_str().unwrap_or_default());
    }
    if let Some(additional) = fields.get("additionalProperties").filter(|it| it.is_object()) {
        message(out, 21, |out| message(out, 1, |out| self::schema(out, additional, depth + 1)));
    }
    if let Some(of) = word("type") {
        message(out, 22, |out| text(out, 1, of));
    }
    if let Some(items) = fields.get("items").filter(|it| it.is_object()) {
        message(out, 23, |out| message(out, 1, |out| self::schema(out, items, depth + 1)));
    }
    if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
        message(out, 25, |out| each(out, properties, depth));
    }
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
        extension(out, 31, name, value);
    }
}

fn each(out: &mut Vec<u8>, properties: &Map<String, Value>, depth: usize) {
    for (name, property) in properties {
        named(out, 1, name, |out| schema(out, property, depth + 1));
    }
}

/// A name and a message: `NamedSchema`, `NamedPathItem`.
fn named(out: &mut Vec<u8>, number: u32, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, number, |out| {
        text(out, 1, name);
        message(out, 2, value);
    });
}

/// `NamedAny` with its value in YAML.
fn extension(out: &mut Vec<u8>, number: u32, name: &str, value: &Value) {
    named(out, number, name, |any| text(any, 2, &to_yaml(value.clone())));
}

fn text(out: &mut Vec<u8>, number: u32, text: &str) {
    bytes(out, number, text.as_bytes());
}

fn message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, number, &inner);
}

fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
