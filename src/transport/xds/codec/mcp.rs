//! Objects of Kubernetes as istio's configuration clients take them (MCP over XDS): metadata apart, and what an object
//! specifies as a message.

use std::collections::BTreeMap;

use meshbus_proto::google::{
    Any, Kind, ListValue, Struct, Timestamp as ProtoTimestamp, Value as ProtoValue,
};
use meshbus_proto::mcp::{Metadata, Resource};
use prost::Message;
use serde_json::{Map, Value};

use crate::core::Timestamp;
use crate::schema::kinds::{PROTO_PREFIX, group_version_kind};
use crate::schema::protobuf::Descriptors;

/// The type of what is made here.
pub const RESOURCE: &str = "type.googleapis.com/istio.mcp.v1alpha1.Resource";
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
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
mod tests {
    use super::*;

    #[test]
    fn an_object_is_its_metadata_and_what_it_specifies() {
        let data = br#"{"apiVersion":"networking.istio.io/v1","kind":"Gateway","metadata":{"name":"g","namespace":"shop",
            "creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"web"}},"spec":{"selector":{"a":"b"},"n":[1,true,null]}}"#;
        let of = ("networking.istio.io/v1/Gateway", "shop/g", "7");
        let made = resource(&Descriptors::default(), of, data).unwrap();
        let Resource { metadata, body } = Resource::decode(&made[..]).unwrap();
        let metadata = metadata.unwrap();
        assert_eq!((&*metadata.name, &*metadata.version), ("shop/g", "7"));
        assert_eq!(metadata.create_time.unwrap().seconds, 1_767_225_600);
        assert_eq!(metadata.labels["app"], "web");
        let body = body.unwrap();
        assert_eq!(body.type_url, STRUCT);
        let fields = Struct::decode(body.value).unwrap().fields;
        assert!(fields.contains_key("selector") && fields.contains_key("n"), "{fields:?}");
        assert_eq!(resource(&Descriptors::default(), of, b"[]"), None);
    }

    #[test]
    fn what_specifies_nothing_is_told_without_its_metadata() {
        let data = br#"{"kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"b"}}"#;
        let made = resource(&Descriptors::default(), ("core/v1/ConfigMap", "shop/c", "1"), data).unwrap();
        let body = Resource::decode(&made[..]).unwrap().body.unwrap();
        let fields = Struct::decode(body.value).unwrap().fields;
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["data"]);
    }

    #[test]
    fn objects_are_told_from_messages_and_from_the_own_kinds() {
        for (type_url, is) in [
            ("core/v1/Pod", true),
            ("type.googleapis.com/envoy.config.cluster.v3.Cluster", false),
            ("meshbus.dev/v1/Value", false),
        ] {
            assert_eq!(crate::transport::xds::codec::named::is_object(type_url), is, "{type_url}");
        }
        let message = message_of("networking.istio.io/v1/Gateway");
        assert_eq!(message.as_deref(), Some("type.googleapis.com/istio.networking.v1.Gateway"));
        assert_eq!(message_of("apps/v1/Deployment"), None);
    }
}
