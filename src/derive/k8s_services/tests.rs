//! What is made of Services, and that no object breaks it.

use std::collections::BTreeSet;

use meshbus_proto::envoy::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

use super::*;
use crate::core::derive::Resource;
use crate::core::{Key, Receipt, Seq, Topic};

const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

fn derivation() -> ServicesToXds {
    ServicesToXds { from: "cluster".into(), domain: cluster_local() }
}

fn record(type_url: &str, name: &str, object: &Value) -> Arc<Record> {
    let key = Key::new("cluster", type_url, name);
    let envelope = Envelope::put(Topic::parse("t").unwrap(), key, "1", object.to_string());
    let receipt = Receipt::batch(1).remove(0);
    let now = tokio::time::Instant::now();
    Arc::new(Record::new(Seq(1), Arc::new(envelope), "cluster".into(), now, receipt))
}

fn service(spec: &Value) -> Arc<Record> {
    record(SERVICE, "shop/web", &json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}))
}

fn slice(name: &str, slice: &Value) -> Arc<Record> {
    let mut object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4"});
    object.as_object_mut().unwrap().extend(slice.as_object().unwrap().clone());
    record(ENDPOINT_SLICE, &format!("shop/{name}"), &object)
}

fn made(inputs: &[Arc<Record>]) -> Derived {
    derivation().derive("shop/web", inputs)
}

/// The endpoints of a port: zone, and `address:port`s.
fn assigned(inputs: &[Arc<Record>], name: &str) -> Vec<(String, Vec<String>)> {
    let made = made(inputs);
    let is = |resource: &&Resource| *resource.type_url == *ENDPOINTS && *resource.name == *name;
    let assignment =
        ClusterLoadAssignment::decode(made.resources.iter().find(is).unwrap().data.clone()).unwrap();
    let zones = assignment.endpoints.into_iter().map(|locality| {
        let addresses: Vec<String> = locality
            .lb_endpoints
            .into_iter()
            .map(|endpoint| {
                let socket = endpoint.endpoint.unwrap().address.unwrap().socket_address.unwrap();
                format!("{} {}", socket.address, socket.port_value)
            })
            .collect();
        assert_eq!(locality.load_balancing_weight.unwrap().value as usize, addresses.len());
        (locality.locality.unwrap().zone, addresses)
    });
    zones.collect()
}

fn zone(zone: &str, addresses: &[&str]) -> (String, Vec<String>) {
    (zone.to_owned(), addresses.iter().map(|&address| address.to_owned()).collect())
}

#[test]
fn each_port_of_a_service_is_found_by_three_names() {
    let ports = json!({"ports": [{"name": "grpc", "port": 80, "targetPort": "api"}, {"name": "dns", "port": 53, "protocol": "UDP"}]});
    let made = made(&[service(&ports)]);
    let names: Vec<(&str, &str)> = made
        .resources
        .iter()
        .map(|resource| (resource.type_url.rsplit('.').next().unwrap(), &*resource.name))
        .collect();
    let expected = [
        ("Listener", "web.shop.svc:80"),
        ("Listener", "web.shop.svc.cluster.local:80"),
        ("Listener", "web.shop:80"),
        ("RouteConfiguration", "web.shop:80"),
        ("Cluster", "web.shop:80"),
        ("ClusterLoadAssignment", "web.shop:80"),
    ];
    assert_eq!(names, expected);
    let [long, .., routes, cluster, _] = made.resources.as_slice() else { panic!("six") };
    assert_eq!(Listener::decode(long.data.clone()).unwrap().name, *long.name);
    let routes = RouteConfiguration::decode(routes.data.clone()).unwrap();
    let action = routes.virtual_hosts[0].routes[0].route.as_ref().unwrap();
    assert_eq!((&*routes.virtual_hosts[0].domains[0], &*action.cluster), ("*", "web.shop:80"));
    let cluster = Cluster::decode(cluster.data.clone()).unwrap();
    assert_eq!(cluster.typed_extension_protocol_options.len(), 1, "HTTP/2 by the port's name");
    assert_eq!(made.refused, Vec::<String>::new());
}

#[cfg(feature = "envoy")]
#[test]
fn the_messages_are_those_of_envoys_descriptors() {
    let slices =
        json!({"ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.0.0.1"], "zone": "a"}]});
    let made =
        made(&[service(&json!({"ports": [{"port": 80, "appProtocol": "grpc"}]})), slice("s", &slices)]);
    let descriptors = crate::schema::protobuf::Descriptors::built_in();
    for resource in &made.resources {
        let shown = descriptors.show(&resource.type_url, &resource.data);
        assert!(shown.complete, "{}: {}", resource.type_url, shown.json);
        let text = shown.json.to_string();
        let word = match resource.type_url.rsplit('.').next() {
            Some("Listener") => "routeConfigName",
            Some("RouteConfiguration") => "virtualHosts",
            Some("Cluster") => "http2ProtocolOptions",
            _ => "10.0.0.1",
        };
        assert!(text.contains(word), "{}: {text}", resource.type_url);
    }
}

#[test]
fn endpoints_are_those_that_are_ready_by_zone_each_once_in_order() {
    let service = service(&json!({"ports": [{"name": "api", "port": 80}]}));
    let ports = json!([{"name": "other", "port": 1}, {"name": "api", "port": 8080, "protocol": "TCP"}]);
    let first = slice(
        "s-1",
        &json!({"ports": ports, "endpoints": [
            {"addresses": ["10.0.0.9"], "conditions": {"ready": true}, "zone": "b"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": null}, "zone": "a"},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["no address"], "zone": "a"},
        ]}),
    );
    let second = slice(
        "s-2",
        &json!({"ports": ports, "endpoints": [
        {"addresses": ["10.0.0.2"], "zone": null}, {"addresses": ["10.0.0.1"], "zone": "a"}]}),
    );
    let expected = [zone("a", &["10.0.0.1 8080", "10.0.0.2 8080"]), zone("b", &["10.0.0.9 8080"])];
    let (one, other) = ([service.clone(), first.clone(), second.clone()], [service, second, first]);
    assert_eq!(assigned(&one, "web.shop:80"), expected);
    assert_eq!(made(&one), made(&other), "whichever slice comes first");
}

#[test]
fn where_none_is_ready_those_that_end_and_still_answer_have_to_do() {
    let service = service(&json!({"ports": [{"port": 80}]}));
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    let slice = slice(
        "s",
        &json!({"ports": [{"name": "", "port": 8080}], "endpoints": [
        {"addresses": ["10.0.0.1"], "conditions": ending},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": false, "terminating": true}}]}),
    );
    assert_eq!(assigned(&[service, slice], "web.shop:80"), [zone("", &["10.0.0.1 8080"])]);
}

#[test]
fn of_two_stacks_clients_get_the_one_the_service_has_first() {
    let v4 = slice("s-4", &json!({"ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.0.0.1"]}]}));
    let v6 = slice(
        "s-6",
        &json!({"addressType": "IPv6", "ports": [{"port": 8080}], "endpoints": [{"addresses": ["fd00::1"]}]}),
    );
    let of = |families: Value, slices: &[&Arc<Record>]| {
        let mut inputs =
            vec![service(&json!({"clusterIP": "None", "ports": [{"port": 80}], "ipFamilies": families}))];
        inputs.extend(slices.iter().map(|slice| Arc::clone(slice)));
        assigned(&inputs, "web.shop:80")
    };
    assert_eq!(of(json!(["IPv6", "IPv4"]), &[&v4, &v6]), [zone("", &["fd00::1 8080"])]);
    assert_eq!(of(json!(["IPv4", "IPv6"]), &[&v4, &v6]), [zone("", &["10.0.0.1 8080"])]);
    assert_eq!(of(json!(["IPv6"]), &[&v4]), [zone("", &["10.0.0.1 8080"])]);
    assert_eq!(of(Value::Null, &[&v4, &v6]), [zone("", &["10.0.0.1 8080", "fd00::1 8080"])]);
}

#[test]
fn a_slice_without_a_port_number_takes_the_services_own() {
    let service = service(&json!({"ports": [{"port": 80}]}));
    let slice = slice(
        "s",
        &json!({"ports": [{"name": null, "port": null}], "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    );
    assert_eq!(assigned(&[service, slice], "web.shop:80"), [zone("", &["10.0.0.1 80"])]);
}

#[test]
fn what_has_no_endpoints_or_no_name_is_refused_with_the_reason() {
    let external = made(&[service(
        &json!({"type": "ExternalName", "externalName": "db.example.com", "ports": [{"port": 1}]}),
    )]);
    assert_eq!(external.resources, []);
    assert!(external.refused[0].starts_with("Service shop/web: is an ExternalName of \"db.example.com\""));
    let dotted = derivation().derive("shop/a.b", &[record(SERVICE, "shop/a.b", &json!({"spec": {}}))]);
    assert!(dotted.refused[0].contains("no label"), "{dotted:?}");
    let broken = made(&[service(&json!({"ports": "x"}))]);
    assert!(broken.resources.is_empty() && broken.refused[0].contains("is not read"), "{broken:?}");
    // Endpoints may be there before their Service.
    assert_eq!(made(&[slice("s", &json!({}))]), Derived::default());
}

#[test]
fn slices_belong_to_the_service_of_their_label() {
    let group = |record: &Arc<Record>| derivation().group(&record.envelope);
    assert_eq!(group(&slice("s", &json!({}))).as_deref(), Some("shop/web"));
    assert_eq!(group(&service(&json!({}))).as_deref(), Some("shop/web"));
    for metadata in
        [json!({}), json!({"labels": null}), json!({"labels": {"kubernetes.io/service-name": ""}})]
    {
        assert_eq!(group(&record(ENDPOINT_SLICE, "shop/s", &json!({ "metadata": metadata }))), None);
    }
}

fn any_slice() -> impl Strategy<Value = Value> {
    let address = prop_oneof![
        (0_u8..6).prop_map(|n| format!("10.0.0.{n}")),
        (0_u8..3).prop_map(|n| format!("fd00::{n}")),
        "\\PC{0,4}"
    ];
    let condition = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)];
    let endpoint =
        (prop::collection::vec(address, 0..3), condition.clone(), condition.clone(), condition, "[ab]?")
            .prop_map(|(addresses, ready, serving, terminating, zone)| {
                json!({"addresses": addresses, "zone": zone,
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
            });
    let port =
        ("[ab]?", prop::option::of(0_u16..4)).prop_map(|(name, port)| json!({"name": name, "port": port}));
    (prop::collection::vec(endpoint, 0..6), prop::collection::vec(port, 0..3))
        .prop_map(|(endpoints, ports)| json!({"endpoints": endpoints, "ports": ports}))
}

proptest! {
    #[test]
    fn names_are_unique_and_no_address_is_there_twice(
        ports in prop::collection::vec(("[ab]?", 0_u16..4), 0..4),
        slices in prop::collection::vec(any_slice(), 0..4),
    ) {
        let ports: Vec<Value> = ports.into_iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
        let mut inputs = vec![service(&json!({ "ports": ports }))];
        inputs.extend(slices.iter().enumerate().map(|(at, it)| slice(&format!("s-{at}"), it)));
        let first = made(&inputs);
        inputs[1..].reverse();
        prop_assert_eq!(&first, &made(&inputs), "in any order");
        let mut names = BTreeSet::new();
        for resource in &first.resources {
            prop_assert!(names.insert((&resource.type_url, &resource.name)), "{} twice", resource.name);
            if *resource.type_url == *ENDPOINTS {
                let assignment = ClusterLoadAssignment::decode(resource.data.clone()).unwrap();
                let mut addresses = BTreeSet::new();
                for endpoint in assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints) {
                    let socket = endpoint.endpoint.unwrap().address.unwrap().socket_address.unwrap();
                    prop_assert!(socket.port_value > 0);
                    prop_assert!(addresses.insert((socket.address, socket.port_value)));
                }
            }
        }
    }

    #[test]
    fn no_bytes_break_it(service in "\\PC{0,40}", other in prop::collection::vec(any::<u8>(), 0..40)) {
        let envelope = |type_url: &str, data: Vec<u8>| {
            Envelope::put(Topic::parse("t").unwrap(), Key::new("cluster", type_url, "shop/web"), "1", data)
        };
        for data in [service.into_bytes(), other] {
            let slice = envelope(ENDPOINT_SLICE, data.clone());
            drop(derivation().group(&slice));
            let of = |envelope: Envelope| {
                let receipt = Receipt::batch(1).remove(0);
                Arc::new(Record::new(Seq(1), Arc::new(envelope), "cluster".into(), tokio::time::Instant::now(), receipt))
            };
            drop(derivation().derive("shop/web", &[of(envelope(SERVICE, data)), of(slice)]));
        }
    }
}
