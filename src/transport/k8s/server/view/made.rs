//! Objects made around what is no object of the API: values, XDS resources, the bus's own things, events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::core::data::is_json;
use crate::core::record::Record;
use crate::core::spelling::path_segment;
use crate::core::state::version_of;
use crate::core::{Envelope, Key, uuid};
use crate::schema::cloudevents;
use crate::schema::protobuf::MEDIA_TYPE;
use crate::transport::k8s::codec::message::{NAME, shown};
use crate::transport::k8s::server::kind::Kind;

/// The annotation of data's media type.
const CONTENT_TYPE: &str = "meshbus.dev/content-type";

/// The object around a key's data.
pub(super) fn object(kind: &Kind, api_version: &str, record: &Record) -> Value {
    let envelope = &record.envelope;
    let mut metadata = Map::new();
    complete(&mut metadata, kind, record);
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind.definition.kind));
    object.insert("metadata".to_owned(), Value::Null);
    let name = envelope.change.key().map_or("", |key| &key.name);
    if kind.stored_as == Key::VALUE {
        object.insert("spec".to_owned(), value(envelope));
        object.insert("status".to_owned(), status(record, name));
    } else if let Some(messages) = &kind.messages {
        let shown = shown(envelope, &kind.stored_as, messages);
        object.insert("spec".to_owned(), shown.json);
        let mut status = status(record, name);
        if let (false, Some(status)) = (shown.complete, status.as_object_mut()) {
            status.insert("unknownFields".to_owned(), json!(true));
        }
        object.insert("status".to_owned(), status);
    } else {
        own(&mut object, envelope);
    }
    if let Some(media_type) = &envelope.datacontenttype
        && !is_plain_json(media_type)
        && !(kind.messages.is_some() && &**media_type == MEDIA_TYPE)
    {
        annotate(&mut metadata, CONTENT_TYPE, media_type);
    }
    object.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(object)
}

/// The object of an event of the log.
pub(super) fn occurrence(kind: &Kind, api_version: &str, record: &Record) -> Value {
    let mut metadata = Map::new();
    let name = format!("{}/{}", record.envelope.topic, record.seq);
    describe(&mut metadata, &name, record);
    let spec: Value =
        serde_json::from_slice(&cloudevents::json::encode(&record.envelope)).unwrap_or_default();
    json!({
        "apiVersion": api_version,
        "kind": kind.definition.kind,
        "metadata": metadata,
        "spec": spec,
        "status": {"topic": record.envelope.topic.as_str(), "resourceName": name},
    })
}

/// The name that the object of an event has.
pub(in super::super) fn occurrence_name(record: &Record) -> String {
    path_segment(&format!("{}/{}", record.envelope.topic, record.seq)).into_owned()
}

/// Puts in what every object's metadata has; what is stored of it stays where it is not the server's to say.
pub(super) fn complete(metadata: &mut Map<String, Value>, kind: &Kind, record: &Record) {
    let Some(key) = record.envelope.change.key() else { return };
    let (namespace, name) = kind.true_name(key);
    describe(metadata, name, record);
    if !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    if !metadata.contains_key("uid") {
        metadata.insert("uid".to_owned(), json!(uid(key)));
    }
}

/// Sets an annotation.
pub(super) fn annotate(metadata: &mut Map<String, Value>, name: &str, value: &str) {
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if !annotations.is_object() {
        *annotations = json!({});
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(name.to_owned(), json!(value));
    }
}

fn describe(metadata: &mut Map<String, Value>, name: &str, record: &Record) {
    let segment = path_segment(name);
    metadata.insert("name".to_owned(), json!(segment));
    metadata.insert("resourceVersion".to_owned(), json!(record.seq.to_string()));
    if !metadata.contains_key("creationTimestamp") {
        metadata.insert("creationTimestamp".to_owned(), time(&record.envelope));
    }
    if segment != name {
        annotate(metadata, NAME, name);
    }
}

/// To the second and in UTC, as objects have their times; null where there is none.
fn time(envelope: &Envelope) -> Value {
    let time = envelope.time.as_ref().and_then(|time| jiff::Timestamp::from_second(time.unix().0).ok());
    time.map_or(Value::Null, |time| json!(time.to_string()))
}

/// The same for a key at all times: there is no other record of when it began.
fn uid(key: &Key) -> String {
    uuid::of(&[&key.scope, &key.type_url, &key.name])
}

/// A plain value: JSON as it is, other text as text, the rest in base64.
fn value(envelope: &Envelope) -> Value {
    let mut spec = Map::new();
    if let Some(media_type) = &envelope.datacontenttype {
        spec.insert("contentType".to_owned(), json!(**media_type));
    }
    if is_json(envelope.datacontenttype.as_deref())
        && let Ok(value) = serde_json::from_slice::<Value>(&envelope.data)
    {
        spec.insert("json".to_owned(), value);
    } else if let Ok(text) = std::str::from_utf8(&envelope.data) {
        spec.insert("text".to_owned(), json!(text));
    } else {
        spec.insert("base64".to_owned(), json!(STANDARD.encode(&envelope.data)));
    }
    Value::Object(spec)
}

/// A thing of the bus's own: its `spec` and `status` where its data has them, else the data as spec.
fn own(object: &mut Map<String, Value>, envelope: &Envelope) {
    match serde_json::from_slice(&envelope.data) {
        Ok(Value::Object(mut data)) if data.contains_key("spec") || data.contains_key("status") => {
            for part in ["spec", "status"] {
                if let Some(part_value) = data.remove(part) {
                    object.insert(part.to_owned(), part_value);
                }
            }
        }
        Ok(data) => drop(object.insert("spec".to_owned(), data)),
        Err(_) => drop(object.insert("spec".to_owned(), value(envelope))),
    }
}

fn status(record: &Record, name: &str) -> Value {
    json!({"version": *version_of(record), "source": *record.ingress, "resourceName": name})
}

fn is_plain_json(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_of_the_whole_key() {
        let of = |name: &str| uid(&Key::new("local", Key::VALUE, name));
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_eq!(of("a").len(), 36);
        assert_eq!(of("a").split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
