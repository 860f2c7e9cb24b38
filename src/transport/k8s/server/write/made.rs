//! The data of kinds whose objects are made around it: what a write's `spec` says it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::super::kind::Kind;
use crate::core::Key;
use crate::transport::k8s::codec::status::{Reason, Status};

/// The annotation that tells a name which no path segment spells.
pub(super) const NAME: &str = "meshbus.dev/name";

/// The data of an object, and its media type.
///
/// Of a `Value` the spec says which: `json`, `text` or `base64`, and `contentType`. Of others the spec itself is the
/// data, as JSON.
///
/// # Errors
/// 422 naming the field.
pub(super) fn data(kind: &Kind, object: &Value) -> Result<(Bytes, String), Status> {
    let spec = object.get("spec").filter(|spec| !spec.is_null());
    if kind.stored_as != Key::VALUE {
        let spec =
            spec.ok_or_else(|| wrong(kind, object, "spec", "Required value: it becomes the data"))?;
        return Ok((spec.to_string().into(), "application/json".to_owned()));
    }
    let field = |name: &str| spec.and_then(|spec| spec.get(name)).filter(|value| !value.is_null());
    let content_type = match field("contentType") {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            let detail = format!("Invalid value: {other}: must be a media type");
            return Err(wrong(kind, object, "spec.contentType", &detail));
        }
    };
    let (data, usual): (Bytes, &str) = match (field("json"), field("text"), field("base64")) {
        (Some(value), None, None) => (value.to_string().into(), "application/json"),
        (None, Some(Value::String(text)), None) => (text.clone().into(), "text/plain"),
        (None, None, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(text).map_err(|error| {
                wrong(kind, object, "spec.base64", &format!("Invalid value: it is not base64: {error}"))
            })?;
            (bytes.into(), "application/octet-stream")
        }
        (None, None, None) => (Bytes::new(), "application/octet-stream"),
        _ => {
            let detail = "Invalid value: give one of json (any value), text and base64 (both strings)";
            return Err(wrong(kind, object, "spec", detail));
        }
    };
    Ok((data, content_type.unwrap_or_else(|| usual.to_owned())))
}

/// The true name that an object says it has, where its `metadata.name` only stands for it.
pub(super) fn true_name(object: &Value) -> Option<&str> {
    object.pointer("/metadata/annotations")?.get(NAME)?.as_str().filter(|name| !name.is_empty())
}

fn wrong(kind: &Kind, object: &Value, field: &str, detail: &str) -> Status {
    let definition = &kind.definition;
    let name = super::metadata::text(object, "name");
    let message =
        format!("{}.{} {name:?} is invalid: {field}: {detail}", definition.kind, definition.group);
    let reason = if detail.starts_with("Required") { "FieldValueRequired" } else { "FieldValueInvalid" };
    Status::new(Reason::Invalid, message)
        .about(&definition.group, &definition.kind, name)
        .cause(reason, detail, field)
}
