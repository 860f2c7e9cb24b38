//! Objects to messages of MCP and back.

use meshbus_proto::xds::{DeltaDiscoveryResponse, DiscoveryResponse, Resource as DeltaResource};
use proptest::collection::btree_map;
use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto,
};

use super::*;
use crate::transport::xds::codec::received::Received;
use crate::transport::xds::codec::response::Variant;

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

const GATEWAY: &str = "networking.istio.io/v1/Gateway";
const DURATION: &str = "google/protobuf/duration.proto";

/// `istio.networking.v1.Gateway` of a text, a number and a duration.
fn gateway() -> std::sync::Arc<Descriptors> {
    use field_descriptor_proto::Type;
    let field = |name: &str, number, of: Type, message: Option<&str>| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(field_descriptor_proto::Label::Optional.into()),
        r#type: Some(of.into()),
        type_name: message.map(ToOwned::to_owned),
        ..FieldDescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("Gateway".to_owned()),
        field: vec![
            field("host_name", 1, Type::String, None),
            field("port", 2, Type::Int64, None),
            field("timeout", 3, Type::Message, Some(".google.protobuf.Duration")),
        ],
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("gateway.proto".to_owned()),
        package: Some("istio.networking.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        dependency: vec![DURATION.to_owned()],
        message_type: vec![message],
        ..FileDescriptorProto::default()
    };
    let duration = DescriptorPool::global().get_file_by_name(DURATION).unwrap();
    let set = FileDescriptorSet { file: vec![duration.file_descriptor_proto().clone(), file] };
    Descriptors::with(&[set.encode_to_vec()]).unwrap()
}

/// What a message with this metadata and body is to the client.
fn read(
    descriptors: &Descriptors,
    name: &str,
    body: Option<(&str, &[u8])>,
) -> Result<Found, (Option<String>, String)> {
    let metadata = Some(Metadata { name: name.into(), version: "7".into(), ..Metadata::default() });
    let body =
        body.map(|(type_url, value)| Any { type_url: type_url.into(), value: value.to_vec().into() });
    object(descriptors, GATEWAY, Resource { metadata, body }.encode_to_vec().into())
        .map_err(|Fault { name, reason }| (name.map(|name| name.to_string()), reason))
}

fn json_of(found: &Found) -> Value {
    serde_json::from_slice(&found.data).unwrap()
}

#[test]
fn a_message_is_an_object_again() {
    let known = gateway();
    let spec = json!({"hostName": "a.b", "port": "80", "timeout": "1.500s"});
    let data = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": "g", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"note": "x"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "7",
        },
        "spec": spec,
    });
    for descriptors in [&*known, &Descriptors::default()] {
        let made = resource(descriptors, (GATEWAY, "shop/g", "7"), data.to_string().as_bytes()).unwrap();
        let found = object(descriptors, GATEWAY, made.into()).unwrap();
        assert_eq!((&*found.name, found.version.as_deref()), ("shop/g", Some("7")));
        assert_eq!(json_of(&found), data);
    }
    // A message of Go that was never created has the first second there is.
    let never = Some(ProtoTimestamp { seconds: NEVER, nanos: 0 });
    let metadata = Some(Metadata { name: "/g".into(), create_time: never, ..Metadata::default() });
    let body = Some(Any { type_url: STRUCT.into(), value: Bytes::new() });
    let found = object(&known, "core/v1/Node", Resource { metadata, body }.encode_to_vec().into()).unwrap();
    let expected = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "g"}, "spec": {}});
    assert_eq!((json_of(&found), &*found.name, found.version), (expected, "/g", None));
}

#[test]
fn what_descriptors_do_not_wholly_know_is_its_type_and_its_bytes() {
    const MESSAGE: &str = "type.googleapis.com/istio.networking.v1.Gateway";
    let spec = |descriptors: &Descriptors, type_url: &str, data: &[u8]| {
        json_of(&read(descriptors, "shop/g", Some((type_url, data))).unwrap())["spec"].take()
    };
    let known = gateway();
    assert_eq!(spec(&known, MESSAGE, b"\x0a\x01a"), json!({"hostName": "a"}));
    assert_eq!(
        spec(&known, MESSAGE, b"\x0a\x01a\x4a\x01b"),
        json!({"@type": MESSAGE, "value": "CgFhSgFi"})
    );
    let other = "type.googleapis.com/istio.networking.v9.Gateway";
    assert_eq!(spec(&known, other, b"\x0a\x01a"), json!({"@type": other, "value": "CgFh"}));
    assert_eq!(spec(&known, "type.googleapis.com/google.protobuf.Duration", b"\x08\x03"), json!("3s"));
}

#[test]
fn what_is_no_object_is_told_by_name() {
    let known = gateway();
    let body = Some((STRUCT, &b""[..]));
    for (name, key) in [("shop/g", "shop/g"), ("/shop/g", "shop/g"), ("/g", "/g")] {
        assert_eq!(&*read(&known, name, body).unwrap().name, key);
    }
    for name in ["g", "/", "//", "shop/", "//g", "a/b/c", "/shop/", "/a/b/c"] {
        let (told, reason) = read(&known, name, body).unwrap_err();
        assert_eq!(told.as_deref(), Some(name));
        assert!(reason.starts_with("is no name of an object: NAMESPACE/NAME"), "{reason}");
    }
    assert_eq!(read(&known, "", body).unwrap_err(), (None, "has no name".to_owned()));
    let wrong = |body| read(&known, "shop/g", body).unwrap_err();
    for missing in [None, Some(("", &b""[..]))] {
        let (told, reason) = wrong(missing);
        assert!(told.as_deref() == Some("shop/g") && reason.starts_with("has no body"), "{reason}");
    }
    for type_url in [STRUCT, "type.googleapis.com/istio.networking.v1.Gateway"] {
        let (_, reason) = wrong(Some((type_url, b"\x0a\x09x")));
        assert!(reason.starts_with(&format!("its body cannot be decoded as {type_url}: ")), "{reason}");
    }
    let garbage = object(&known, GATEWAY, Bytes::from_static(b"\xff")).unwrap_err();
    assert!(garbage.name.is_none() && garbage.reason.starts_with("is no istio.mcp.v1alpha1.Resource: "));
}

/// Reads a response of this type.
fn response(variant: Variant, type_url: &str, resources: Vec<DeltaResource>) -> Received {
    let type_url = type_url.to_owned();
    let bytes = match variant {
        Variant::Delta => {
            DeltaDiscoveryResponse { type_url, resources, ..Default::default() }.encode_to_vec()
        }
        Variant::Sotw => {
            let resources = resources.into_iter().filter_map(|resource| resource.resource).collect();
            DiscoveryResponse { type_url, resources, ..Default::default() }.encode_to_vec()
        }
    };
    Received::read(variant, bytes.into(), &Descriptors::default()).unwrap()
}

#[test]
fn both_variants_tell_objects_and_what_is_none_is_told_by_name() {
    let told = |name: &str, version: &str, held: &str| {
        let made = resource(&Descriptors::default(), (GATEWAY, held, "7"), b"{}").unwrap();
        let resource = Some(Any { type_url: RESOURCE.into(), value: made.into() });
        DeltaResource { name: name.into(), version: version.into(), resource, ..DeltaResource::default() }
    };
    let resources =
        || vec![told("n/a", "8", "n/a"), told("", "", "n/b"), told("n/c", "", "n/d"), told("n/e", "", "e")];
    let found = |received: &Received| -> Vec<(String, Option<String>)> {
        let found = received.found.iter();
        found.map(|one| (one.name.to_string(), one.version.as_ref().map(ToString::to_string))).collect()
    };
    let faults = |received: &Received| -> Vec<(Option<String>, String)> {
        let faults = received.faults.iter();
        faults.map(|fault| (fault.name.as_ref().map(ToString::to_string), fault.reason.clone())).collect()
    };
    let named = |name: &str, version: &str| (name.to_owned(), Some(version.to_owned()));
    let delta = response(Variant::Delta, GATEWAY, resources());
    assert_eq!(found(&delta), [named("n/a", "8"), named("n/b", "7")]);
    let wrong = faults(&delta);
    assert_eq!(wrong[0], (Some("n/c".to_owned()), "holds n/d: an object has one name".to_owned()));
    assert_eq!((wrong.len(), wrong[1].0.as_deref()), (2, Some("n/e")));
    let sotw = response(Variant::Sotw, GATEWAY, resources());
    assert_eq!(found(&sotw), [named("n/a", "7"), named("n/b", "7"), named("n/d", "7")]);
    assert_eq!(faults(&sotw)[0].0.as_deref(), Some("e"));
    // Of a type that is no object it is no message.
    let other = response(Variant::Delta, "type.googleapis.com/a.B", resources());
    assert_eq!((other.found.len(), &*other.faults[0].reason), (0, &*format!("is a {RESOURCE}")));
}

/// Any JSON that protobuf has without loss: numbers are doubles there.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53) + 1..1_i64 << 53).prop_map(Value::from),
        (any::<i32>(), 1_u8..8).prop_map(|(whole, part)| json!(f64::from(whole) + f64::from(part) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,8}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_the_server_tells_is_the_same_object_to_the_client(
        (namespace, name, version) in ("([a-z0-9-]{1,8})?", "[a-z0-9.-]{1,12}", "[a-z0-9]{0,6}"),
        (labels, annotations) in (btree_map("[a-z./]{1,8}", ".{0,8}", 0..3), btree_map("[a-z./]{1,8}", ".{0,8}", 0..3)),
        created in prop::option::of(0_i64..4_000_000_000),
        spec in btree_map(".{0,8}", json_value(), 0..4),
        type_url in prop::sample::select(vec![GATEWAY, "core/v1/Pod", "apps/v1/Deployment"]),
    ) {
        let told = Metadata {
            name: format!("{namespace}/{name}"),
            create_time: created.map(|seconds| ProtoTimestamp { seconds, nanos: 0 }),
            version: version.clone(),
            labels,
            annotations,
        };
        let kind = type_url.rsplit('/').next().unwrap();
        let api_version = type_url.trim_start_matches("core/").rsplit_once('/').unwrap().0;
        let data = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": metadata_of(&told, &namespace, &name),
            "spec": spec,
        });
        let known = Descriptors::default();
        let made = resource(&known, (type_url, &told.name, &version), data.to_string().as_bytes()).unwrap();
        let found = object(&known, type_url, made.into()).unwrap();
        prop_assert_eq!(json_of(&found), data);
        prop_assert_eq!(&*found.name, told.name);
        prop_assert_eq!(found.version.as_deref().unwrap_or_default(), version);
    }

    #[test]
    fn no_message_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        drop(object(&Descriptors::default(), GATEWAY, bytes.into()));
    }
}
