//! The data of kinds whose objects are made around it: what a write's `spec` says it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::kind::Kind;
use crate::core::Key;
use crate::schema::protobuf::{InvalidJson, MEDIA_TYPE};
use crate::transport::k8s::codec::status::{Reason, Status};

/// The annotation in which `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The annotation that tells a name which no path segment spells.
pub(super) const NAME: &str = "meshbus.dev/name";

/// The data of an object, and its media type.
///
/// Of a `Value` the spec says which: `json`, `text` or `base64`, and `contentType`. Of a protobuf message the spec is
/// its JSON; of others the spec itself is the data.
///
/// # Errors
/// 422 naming the field.
pub(super) fn data(kind: &Kind, object: &Value) -> Result<(Bytes, String), Status> {
    let spec = object.get("spec").filter(|spec| !spec.is_null());
    if kind.stored_as != Key::VALUE {
        let spec =
            spec.ok_or_else(|| wrong(kind, object, "spec", "Required value: it becomes the data"))?;
        if let Some(messages) = &kind.messages {
            return match messages.read(&kind.stored_as, spec) {
                Ok(data) => Ok((data, MEDIA_TYPE.to_owned())),
                Err(InvalidJson { path, reason }) => {
                    let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
                    let detail = format!("Invalid value: {reason}");
                    Err(wrong(kind, object, &format!("spec{dot}{path}"), &detail))
                }
            };
        }
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

/// Writes a message's spec as it will be read: in `lowerCamelCase`, without fields that say nothing.
///
/// # Errors
/// As [`data`].
pub(super) fn normalize(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    let Some(messages) = &kind.messages else { return Ok(()) };
    let (data, _) = data(kind, object)?;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("spec".to_owned(), messages.show(&kind.stored_as, &data).json);
    }
    Ok(())
}

/// Takes out of the metadata what is not kept of a message; gives the names of what its writer may miss.
pub(super) fn lost(object: &mut Value) -> Vec<String> {
    let Some(metadata) = super::metadata::of(object) else { return Vec::new() };
    let mut lost = Vec::new();
    for part in ["labels", "annotations"] {
        let Some(Value::Object(mut entries)) = metadata.remove(part) else { continue };
        let name = entries.remove(NAME);
        entries.remove(LAST_APPLIED);
        if !entries.is_empty() {
            lost.push(format!("metadata.{part}"));
        }
        if let Some(name) = name {
            metadata.insert(part.to_owned(), json!({ NAME: name }));
        }
    }
    metadata.remove("managedFields");
    for part in ["finalizers", "ownerReferences"] {
        lost.extend(metadata.remove(part).map(|_| format!("metadata.{part}")));
    }
    lost
}

/// The spec that a patch by `kubectl apply` carries as what was applied last.
///
/// Clients compute such a patch from what was applied before, which is kept with objects of the API and not with
/// messages. What they apply now is whole in the same patch.
pub(super) fn applied_spec(kind: &Kind, patch: &Value) -> Option<Value> {
    kind.messages.as_ref()?;
    let annotations = patch.pointer("/metadata/annotations")?;
    let applied: Value = serde_json::from_str(annotations.get(LAST_APPLIED)?.as_str()?).ok()?;
    applied.get("spec").cloned()
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
