//! Protobuf messages, as XDS resources are, as objects of the API: what a message says is `spec`.

use serde_json::{Value, json};

use crate::core::data::is_json;
use crate::core::spelling::object_name;
use crate::core::{Envelope, Key};
use crate::schema::kinds::{group_version_kind, proto_name};
use crate::schema::protobuf::{Descriptors, Shown};

/// The annotation of the true name, where the object's name only stands for it.
pub const NAME: &str = "meshbus.dev/name";

/// A message as JSON, which somebody may also have stored it as.
pub fn shown(envelope: &Envelope, type_url: &str, messages: &Descriptors) -> Shown {
    match serde_json::from_slice(&envelope.data) {
        Ok(json @ Value::Object(_)) if is_json(envelope.datacontenttype.as_deref()) => {
            Shown { json, complete: true }
        }
        _ => messages.show(type_url, &envelope.data),
    }
}

/// What is written of a message into a cluster, where kinds take names of DNS only. `None` for what is no message, or one
/// that no kind can have the name of.
///
/// # Errors
/// Where a part of it would be lost.
pub fn object(key: &Key, envelope: &Envelope, messages: &Descriptors) -> Result<Option<Value>, String> {
    let Some(message) = proto_name(&key.type_url) else { return Ok(None) };
    let Some(named) = group_version_kind(&key.type_url) else { return Ok(None) };
    let shown = shown(envelope, &key.type_url, messages);
    if !shown.complete {
        return Err(format!("{message} {:?} has fields that `descriptors` do not know", key.name));
    }
    let name = object_name(&key.name);
    let metadata = if name == *key.name {
        json!({ "name": name })
    } else {
        json!({"name": name, "annotations": {NAME: *key.name}})
    };
    Ok(Some(json!({
        "apiVersion": format!("{}/{}", named.group, named.version),
        "kind": named.kind,
        "metadata": metadata,
        "spec": shown.json,
    })))
}

#[cfg(feature = "envoy")]
#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    fn written(name: &str, data: &'static [u8]) -> Result<Option<Value>, String> {
        let key = Key::new("istiod", CLUSTER, name);
        let topic = "xds/istiod/envoy.config.cluster.v3.Cluster/c".parse().unwrap();
        let envelope = Envelope::put(topic, key.clone(), "1", data);
        object(&key, &envelope, &Descriptors::built_in())
    }

    #[test]
    fn a_message_is_an_object_of_its_kind_by_a_name_of_dns() {
        let spec = json!({"name": "web"});
        let object = |metadata: Value| json!({"apiVersion": "cluster.config.envoy/v3", "kind": "Cluster", "metadata": metadata, "spec": spec});
        assert_eq!(written("web", b"\x0a\x03web"), Ok(Some(object(json!({"name": "web"})))));
        let named = written("outbound|80||a.b", b"\x0a\x03web").unwrap().unwrap();
        let (name, metadata) = (named["metadata"]["name"].clone(), named["metadata"].clone());
        assert!(name.as_str().unwrap().starts_with("outbound-80-a-b-"), "{name}");
        let annotations = json!({NAME: "outbound|80||a.b"});
        assert_eq!(metadata, json!({"name": name, "annotations": annotations}));
    }

    #[test]
    fn what_would_lose_a_part_is_none() {
        let error = written("web", b"\x0a\x03web\xd2\xc1\x3e\x01x").unwrap_err();
        assert!(error.contains("envoy.config.cluster.v3.Cluster \"web\" has fields"), "{error}");
    }

    #[test]
    fn what_is_no_message_is_none() {
        let key = Key::new("local", Key::VALUE, "a");
        let envelope = Envelope::put("a".parse().unwrap(), key.clone(), "1", "x");
        assert_eq!(object(&key, &envelope, &Descriptors::built_in()), Ok(None));
    }
}
