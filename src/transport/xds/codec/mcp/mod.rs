//! Objects of Kubernetes as istio's configuration clients take them (MCP over XDS), and back: metadata apart, and what an
//! object specifies as a message.
//!
//! Two things do not come back: `status` is not told, and of a kind without `spec` (`ConfigMap`) the fields stand in `spec`.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::google::{
    Any, Kind, ListValue, Struct, Timestamp as ProtoTimestamp, Value as ProtoValue,
};
use meshbus_proto::mcp::{Metadata, Resource};
use prost::Message;
use serde_json::{Map, Value, json};

use super::received::{Fault, Found};
use crate::core::Timestamp;
use crate::schema::kinds::{PROTO_PREFIX, group_version_kind};
use crate::schema::protobuf::{Descriptors, opaque};

/// The type of what is made here.
pub const RESOURCE: &str = "type.googleapis.com/istio.mcp.v1alpha1.Resource";
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
/// When nothing was created: the first second of the year 1, as Go writes no time.
const NEVER: i64 = -62_135_596_800;
/// The groups whose kinds are messages, too: `networking.istio.io` has those of `istio.networking`.
const ISTIO: &str = ".istio.io";

/// The message for an object. The body is the message of its kind where that is known, else a `Struct`; `None` for what is
/// no object.
pub fn resource(
    descriptors: &Descriptors,
    (type_url, name, version): (&str, &str, &str),
    data: &[u8],
) -> Option<Vec<u8>> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(data) else { return None };
    let texts = |name: &str| -> BTreeMap<String, String> {
        let texts = object.get("metadata").and_then(|metadata| metadata.get(name)?.as_object());
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        texts.into_iter().flatten().filter_map(text).collect()
    };
    let created = object.get("metadata").and_then(|it| it.get("creationTimestamp")?.as_str());
    let metadata = Metadata {
        name: name.to_owned(),
        create_time: created.and_then(|text| Timestamp::parse(text).ok()).map(|time| instant(&time)),
        version: version.to_owned(),
        labels: texts("labels"),
        annotations: texts("annotations"),
    };
    let spec = object.remove("spec").unwrap_or_else(|| {
        for name in ["apiVersion", "kind", "metadata", "status"] {
            object.remove(name);
        }
        Value::Object(object)
    });
    let body = Some(body(descriptors, type_url, spec));
    Some(Resource { metadata: Some(metadata), body }.encode_to_vec())
}

/// The object of the type that a message tells, as its JSON and by the name of its key. What it specifies is JSON where
/// `descriptors` know all of it, else its type and bytes: `{"@type": TYPE_URL, "value": BASE64}`.
///
/// # Errors
/// By name, as far as it has one: what is no such message, or is named as no object is, or whose body is none.
pub fn object(descriptors: &Descriptors, type_url: &str, message: Bytes) -> Result<Found, Fault> {
    let fault = |name: Option<&str>, reason: String| Fault { name: name.map(ByteString::from), reason };
    let Resource { metadata, body } = Resource::decode(message)
        .map_err(|error| fault(None, format!("is no istio.mcp.v1alpha1.Resource: {error}")))?;
    let metadata = metadata.unwrap_or_default();
    let given = (!metadata.name.is_empty()).then_some(&*metadata.name);
    let (namespace, name) = namespace_and_name(&metadata.name).map_err(|reason| fault(given, reason))?;
    let key = format!("{namespace}/{name}");
    let spec = spec(descriptors, body).map_err(|reason| fault(Some(&key), reason))?;
    let kind = group_version_kind(type_url)
        .ok_or_else(|| fault(Some(&key), format!("is of {type_url}, which is no group/version/Kind")))?;
    let api_version = match &*kind.group {
        "core" => kind.version,
        group => format!("{group}/{}", kind.version),
    };
    let object = json!({
        "apiVersion": api_version,
        "kind": kind.kind,
        "metadata": metadata_of(&metadata, namespace, name),
        "spec": spec,
    });
    let version = (!metadata.version.is_empty()).then(|| metadata.version.into());
    Ok(Found { name: key.into(), version, data: object.to_string().into() })
}

/// Objects are named `namespace/name`, those without a namespace `/name`; istio's description has `/namespace/name`, too.
fn namespace_and_name(text: &str) -> Result<(&str, &str), String> {
    let parts: Vec<&str> = text.split('/').collect();
    match *parts.as_slice() {
        [""] => Err("has no name".to_owned()),
        [namespace, name] if !name.is_empty() => Ok((namespace, name)),
        ["", namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok((namespace, name)),
        _ => Err("is no name of an object: NAMESPACE/NAME, or /NAME where it has no namespace".to_owned()),
    }
}

fn spec(descriptors: &Descriptors, body: Option<Any>) -> Result<Value, String> {
    let body = body.filter(|body| !body.type_url.is_empty());
    let Any { type_url, value } = body.ok_or("has no body: the message of what it specifies is missing")?;
    descriptors
        .check(&type_url, &value)
        .map_err(|reason| format!("its body cannot be decoded as {type_url}: {reason}"))?;
    let shown = descriptors.show(&type_url, &value);
    // An object that lacks something would be written so wherever a route takes it.
    Ok(if shown.complete { shown.json } else { opaque(&type_url, &value) })
}

fn metadata_of(told: &Metadata, namespace: &str, name: &str) -> Value {
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    let mut add = |name: &str, value: Value| metadata.insert(name.to_owned(), value);
    if !namespace.is_empty() {
        add("namespace", json!(namespace));
    }
    if !told.labels.is_empty() {
        add("labels", json!(told.labels));
    }
    if !told.annotations.is_empty() {
        add("annotations", json!(told.annotations));
    }
    // To the second, as objects have it.
    let created = told.create_time.as_ref().filter(|time| time.seconds != NEVER);
    if let Some(time) = created.and_then(|time| Timestamp::from_unix(time.seconds, 0)) {
        add("creationTimestamp", json!(&**time.text()));
    }
    if !told.version.is_empty() {
        add("resourceVersion", json!(told.version));
    }
    Value::Object(metadata)
}

fn body(descriptors: &Descriptors, type_url: &str, spec: Value) -> Any {
    let message = message_of(type_url).filter(|message| descriptors.knows(message));
    if let Some(message) = message
        && let Ok(value) = descriptors.read(&message, &spec)
    {
        return Any { type_url: message, value };
    }
    let fields = match spec {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    Any { type_url: STRUCT.to_owned(), value: fields_of(fields).encode_to_vec().into() }
}

fn message_of(type_url: &str) -> Option<String> {
    let kind = group_version_kind(type_url)?;
    let package = kind.group.strip_suffix(ISTIO)?;
    Some(format!("{PROTO_PREFIX}istio.{package}.{}.{}", kind.version, kind.kind))
}

fn fields_of(fields: Map<String, Value>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name, value_of(value))).collect() }
}

fn value_of(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::Null(0),
        Value::Bool(bool) => Kind::Bool(bool),
        Value::Number(number) => Kind::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::String(text),
        Value::Array(values) => {
            Kind::List(ListValue { values: values.into_iter().map(value_of).collect() })
        }
        Value::Object(fields) => Kind::Struct(fields_of(fields)),
    };
    ProtoValue { kind: Some(kind) }
}

fn instant(time: &Timestamp) -> ProtoTimestamp {
    const SECOND: i128 = 1_000_000_000;
    let nanos = time.unix_nanos();
    ProtoTimestamp {
        seconds: i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default(),
        nanos: i32::try_from(nanos.rem_euclid(SECOND)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
