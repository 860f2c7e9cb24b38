//! Messages of Envoy's API as JSON and back.

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto,
};

use super::*;

mod any_message;

const PREFIX: &str = "type.googleapis.com/";

/// A set of one file with one message `example.v1.Thing` of these text fields.
fn thing(fields: &[(&str, i32)]) -> Vec<u8> {
    let field = |(name, number): &(&str, i32)| FieldDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(*number),
        label: Some(field_descriptor_proto::Label::Optional.into()),
        r#type: Some(field_descriptor_proto::Type::String.into()),
        ..FieldDescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("Thing".to_owned()),
        field: fields.iter().map(field).collect(),
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("thing.proto".to_owned()),
        package: Some("example.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![message],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[test]
fn the_first_set_that_has_a_type_counts() {
    let all = Descriptors::with(&[thing(&[("old_name", 1)]), thing(&[("new_name", 1)])]).unwrap();
    let of = "type.googleapis.com/example.v1.Thing";
    let bytes = all.read(of, &json!({"old_name": "x"})).unwrap();
    assert_eq!(&bytes[..], b"\x0a\x01x");
    assert_eq!(all.show(of, &bytes), Shown { json: json!({"oldName": "x"}), complete: true });
    // A field that this set lacks is not shown, and that is told.
    assert_eq!(
        all.show(of, b"\x0a\x01x\x12\x01y"),
        Shown { json: json!({"oldName": "x"}), complete: false }
    );
    assert!(all.check(of, b"\x0a\x09x").is_err() && all.check(of, b"\x0a\x01x").is_ok());
    assert_eq!(Descriptors::with(&[thing(&[]), b"\xff".to_vec()]).unwrap_err().0, 1);
    assert_eq!(Descriptors::with(&[b""]).unwrap_err(), (0, "it holds no files".to_owned()));
}

#[test]
fn what_nobody_can_read_is_read_back_to_the_same_bytes() {
    let all = Descriptors::with(&[thing(&[("name", 1)])]).unwrap();
    for (of, data) in
        [("example.v1.Other", &b"\x00\xff"[..]), ("example.v1.Thing", b"\x0a\x09x"), ("a.B", b"")]
    {
        let type_url = format!("{PREFIX}{of}");
        let shown = all.show(&type_url, data).json;
        assert_eq!(shown, json!({"@type": type_url, "value": STANDARD.encode(data)}));
        assert_eq!(&all.read(&type_url, &shown).unwrap()[..], data, "{of}");
    }
    let wrong = |of: &str, json: &Value| all.read(&format!("{PREFIX}{of}"), json).unwrap_err().to_string();
    assert!(wrong("a.B", &json!({"name": "x"})).contains("not known here: give its bytes"));
    assert!(wrong("a.B", &json!({"@type": "x/a.B", "value": "%"})).starts_with("value: is not base64"));
    let other = json!({"@type": "type.googleapis.com/a.C", "value": ""});
    assert_eq!(wrong("a.B", &other), "@type: must be type.googleapis.com/a.B, the type of the resource");
}

#[test]
fn well_known_types_need_no_descriptors() {
    let none = Descriptors::default();
    for (of, json) in [
        ("Struct", json!({"a": {"b": [1, 1.5, null, true, "x"]}})),
        ("Timestamp", json!("2026-01-01T00:00:00Z")),
        ("Duration", json!("1.500s")),
        ("UInt32Value", json!(7)),
        ("ListValue", json!([{"@type": "no type here"}])),
        ("Any", json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"})),
    ] {
        let type_url = format!("{PREFIX}google.protobuf.{of}");
        let bytes = none.read(&type_url, &json).unwrap();
        assert_eq!(none.show(&type_url, &bytes), Shown { json, complete: true }, "{of}");
        assert!(none.check(&type_url, b"\x0a\x09x").is_err(), "{of}");
    }
    assert!(!none.knows("type.googleapis.com/google.protobuf.FileDescriptorSet"), "nobody asked for it");
}

#[cfg(feature = "envoy")]
mod envoy {
    use prost_reflect::ReflectMessage as _;

    use super::*;

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

    fn read(type_url: &str, json: &Value) -> Result<Bytes, String> {
        Descriptors::built_in().read(type_url, json).map_err(|error| error.to_string())
    }

    fn round(type_url: &str, json: &Value) -> Value {
        let shown = Descriptors::built_in().show(type_url, &read(type_url, json).unwrap());
        assert!(shown.complete);
        shown.json
    }

    #[test]
    fn the_types_of_discovery_are_told_by_its_services() {
        let all = Descriptors::built_in();
        assert_eq!(
            all.resources(),
            [
                "envoy.config.cluster.v3.Cluster",
                "envoy.config.core.v3.TypedExtensionConfig",
                "envoy.config.endpoint.v3.ClusterLoadAssignment",
                "envoy.config.endpoint.v3.LbEndpoint",
                "envoy.config.listener.v3.Listener",
                "envoy.config.route.v3.RouteConfiguration",
                "envoy.config.route.v3.ScopedRouteConfiguration",
                "envoy.config.route.v3.VirtualHost",
                "envoy.extensions.transport_sockets.tls.v3.Secret",
                "envoy.service.runtime.v3.Runtime",
            ]
        );
    }

    #[test]
    fn bytes_are_those_of_the_wire() {
        // name = 1, type = 2 (EDS is 3), connect_timeout = 4 {seconds = 1}, eds_cluster_config = 3 {service_name = 2}
        let json = json!({"type": "EDS", "name": "a", "connectTimeout": "5s", "edsClusterConfig": {"serviceName": "b"}});
        let bytes = read(CLUSTER, &json).unwrap();
        assert_eq!(&bytes[..], b"\x0a\x01a\x10\x03\x1a\x03\x12\x01b\x22\x02\x08\x05");
        let snake = json!({"name": "a", "type": 3, "connect_timeout": "5s", "eds_cluster_config": {"service_name": "b"}});
        assert_eq!(read(CLUSTER, &snake).unwrap(), bytes);
        let shown = round(CLUSTER, &snake);
        assert_eq!(shown, json);
        assert_eq!(
            shown.to_string(),
            r#"{"name":"a","type":"EDS","edsClusterConfig":{"serviceName":"b"},"connectTimeout":"5s"}"#
        );
    }

    #[test]
    fn any_is_expanded_where_its_type_is_known() {
        let json = json!({
            "name": "l",
            "apiListener": {"apiListener": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "statPrefix": "x",
                "httpFilters": [
                    {"name": "r", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
                    {"name": "s", "typedConfig": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"b": [1, "x", null, true], "a": {}}}},
                    {"name": "d", "typedConfig": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}},
                    {"name": "u", "typedConfig": {"@type": "type.googleapis.com/unknown.Type", "value": "AAE="}},
                ],
            }},
        });
        let shown = round(LISTENER, &json);
        assert_eq!(shown, json);
        // Tables in order of key, fields in order of number.
        assert!(shown.to_string().contains(r#""value":{"a":{},"b":[1,"x",null,true]}"#), "{shown}");
    }

    #[test]
    fn encoding_is_the_same_each_time_and_for_each_order() {
        let entry = |at: usize| (format!("k{at}"), json!({"x": at}));
        let forward: serde_json::Map<String, Value> = (0..50).map(entry).collect();
        let backward: serde_json::Map<String, Value> = (0..50).rev().map(entry).collect();
        let of = |entries| json!({"name": "a", "metadata": {"filterMetadata": Value::Object(entries)}});
        let bytes = read(CLUSTER, &of(forward)).unwrap();
        assert_eq!(read(CLUSTER, &of(backward)).unwrap(), bytes);
        let all = Descriptors::built_in();
        assert_eq!(all.show(CLUSTER, &bytes).json.to_string(), all.show(CLUSTER, &bytes).json.to_string());
    }

    #[test]
    fn numbers_are_shown_as_they_were_written() {
        let json = json!({"name": "a", "commonLbConfig": {"healthyPanicThreshold": {"value": 12.5}},
            "typedDnsResolverConfig": {"name": "x"}, "maxRequestsPerConnection": 4_294_967_295_u32,
            "outlierDetection": {"maxEjectionTimeJitter": "0.000000001s"}});
        assert_eq!(round(CLUSTER, &json), json);
        let endpoint = "type.googleapis.com/google.protobuf.FloatValue";
        assert_eq!(round(endpoint, &json!(0.1)).to_string(), "0.1");
        assert_eq!(
            round("type.googleapis.com/google.protobuf.UInt64Value", &json!(u64::MAX)),
            json!(u64::MAX.to_string())
        );
    }

    #[test]
    fn a_wrong_field_is_named_by_its_place() {
        for (json, expected) in [
            (json!([]), "is a list, not an object: envoy.config.cluster.v3.Cluster"),
            (
                json!({"nam": "a"}),
                "nam: is no field of envoy.config.cluster.v3.Cluster; did you mean `name`?",
            ),
            (json!({"edsClusterConfig": {"@type": "x"}}), "edsClusterConfig.@type: is no field of"),
            (json!({"name": 5}), "name: invalid type: integer `5`"),
            (
                json!({"type": "EDSS"}),
                "type: \"EDSS\" is no envoy.config.cluster.v3.Cluster.DiscoveryType: one of STATIC,",
            ),
            (json!({"connectTimeout": "5"}), "connectTimeout: "),
            (
                json!({"connectTimeout": "1s", "connect_timeout": "1s"}),
                "connect_timeout: is the same field as connectTimeout",
            ),
            (
                json!({"type": "EDS", "clusterType": {"name": "x"}}),
                "clusterType: and type exclude each other",
            ),
            (
                json!({"loadAssignment": {"endpoints": [{}, {"lbEndpoints": [{"endpoint": {"address": {"socketAddress": {"portValue": "x"}}}}]}]}}),
                "loadAssignment.endpoints[1].lbEndpoints[0].endpoint.address.socketAddress.portValue: ",
            ),
            (
                json!({"loadAssignment": {"endpoints": {}}}),
                "loadAssignment.endpoints: is an object, not a list",
            ),
            (
                json!({"healthChecks": [{"httpHealthCheck": {"expectedStatuses": [5]}}]}),
                "healthChecks[0].httpHealthCheck.expectedStatuses[0]: is a number, not an object",
            ),
            (
                json!({"metadata": {"filterMetadata": {"a.b": 5}}}),
                "metadata.filterMetadata[a.b]: is a number, not an object",
            ),
            (
                json!({"transportSocket": {"typedConfig": {"x": 1}}}),
                "transportSocket.typedConfig: @type is missing",
            ),
            (
                json!({"transportSocket": {"typedConfig": {"@type": "a/b.C", "x": 1}}}),
                "transportSocket.typedConfig: the type a/b.C is not known here",
            ),
            (
                json!({"transportSocket": {"typedConfig": {"@type": "t/envoy.config.cluster.v3.Cluster", "nam": 1}}}),
                "transportSocket.typedConfig.nam: is no field of",
            ),
        ] {
            let error = read(CLUSTER, &json).unwrap_err();
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn nesting_is_bounded_both_ways() {
        let of = "type.googleapis.com/google.protobuf.Any";
        let mut json = json!({"@type": of, "value": {}});
        for _ in 0..40 {
            json = json!({"@type": of, "value": json});
        }
        assert_eq!(round(of, &json), json);
        for _ in 0..200 {
            json = json!({"@type": of, "value": json});
        }
        assert!(read(of, &json).unwrap_err().contains("nested in more than"));
        // Encoded by others, its inner part is shown as it is.
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let mut outer = Vec::new();
            prost::encoding::string::encode(1, &of.to_owned(), &mut outer);
            prost::encoding::bytes::encode(2, &bytes, &mut outer);
            bytes = outer;
        }
        let mut shown = &Descriptors::built_in().show(of, &bytes).json;
        let mut depth = 0;
        while let Some(inner) = shown.get("value") {
            (shown, depth) = (inner, depth + 1);
        }
        assert!(shown.is_string() && (30..=DEPTH_MAX + 1).contains(&depth), "{depth}");
        let long = vec![0; SHOWN_MAX + 1];
        assert!(Descriptors::built_in().show(CLUSTER, &long).json["value"].is_string());
    }

    #[test]
    fn a_schema_tells_the_fields_three_messages_deep() {
        let schema = Descriptors::built_in().schema(CLUSTER).unwrap();
        let at = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/properties/name/type"), "string");
        assert!(at("/properties/name/description").to_string().contains("name of the cluster"));
        assert_eq!(at("/properties/connectTimeout/type"), "string");
        assert_eq!(at("/properties/type/enum/3"), "EDS");
        assert!(
            at("/properties/type/description").to_string().ends_with("At most one of type, clusterType.\"")
        );
        assert_eq!(
            at("/properties/loadAssignment/properties/endpoints/items/properties/priority/type"),
            "integer"
        );
        let deepest =
            at("/properties/loadAssignment/properties/endpoints/items/properties/lbEndpoints/items");
        assert_eq!(deepest["x-kubernetes-preserve-unknown-fields"], true);
        assert_eq!(Descriptors::built_in().schema("type.googleapis.com/a.B"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(seed in any::<u64>(), at in any::<prop::sample::Index>()) {
            let all = Descriptors::built_in();
            let type_url = format!("{PREFIX}{}", all.resources()[at.index(all.resources().len())]);
            let message = any_message::of(&all.of_url(&type_url).unwrap(), seed);
            let bytes = message.encode_to_vec();
            // Without fields that were set to what they are without being set.
            let message = DynamicMessage::decode(message.descriptor(), &bytes[..]).unwrap();
            let shown = all.show(&type_url, &bytes);
            prop_assert!(shown.complete);
            let read = all.read(&type_url, &shown.json).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&all.show(&type_url, &read), &shown);
            // Not by its macro, which would print descriptors that know each other.
            prop_assert!(DynamicMessage::decode(message.descriptor(), &read[..]).unwrap() == message, "{}", shown.json);
            prop_assert_eq!(all.read(&type_url, &shown.json).unwrap(), read);
        }

        #[test]
        fn no_bytes_are_too_strange_to_be_shown(
            seed in any::<u64>(),
            at in any::<prop::sample::Index>(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let all = Descriptors::built_in();
            let type_url = format!("{PREFIX}{}", all.resources()[at.index(all.resources().len())]);
            let mut bytes = any_message::of(&all.of_url(&type_url).unwrap(), seed).encode_to_vec();
            for (at, byte) in cuts {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let shown = all.show(&type_url, &bytes);
            if let (true, Ok(read)) = (shown.complete, all.read(&type_url, &shown.json)) {
                prop_assert_eq!(all.show(&type_url, &read).json, shown.json);
            }
            // Neither are those of a stranger.
            drop(all.show(&type_url, &seed.to_be_bytes()));
        }
    }
}
