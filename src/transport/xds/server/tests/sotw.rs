//! The state of the world.

use meshbus_proto::xds::{DiscoveryRequest, DiscoveryResponse, Node, Resource};
use prost::Message;

use crate::transport::xds::codec::received::WRAPPER;
use crate::transport::xds::server::testing::*;

#[tokio::test]
async fn row_4_an_acknowledgement_is_not_answered() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "a1").await;
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    let response = stream.next().await;
    assert_eq!(values(&response), (CLUSTER, vec!["a1"]));
    stream.answer(&response, &[], None).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_5_what_is_refused_is_not_told_again_until_it_has_changed() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "a1").await;
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    let response = stream.next().await;
    let refused = DiscoveryResponse { version_info: String::new(), ..response };
    stream.answer(&refused, &[], Some("no")).await;
    stream.is_silent(&served).await;
    served.put(CLUSTER, "a", "a2").await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["a2"]));
    served.end().await;
}

#[tokio::test]
async fn row_7_names_with_a_stale_nonce_count_and_are_answered_once() {
    let served = serve("").await;
    for name in ["a", "b"] {
        served.put(ENDPOINTS, name, format!("{name}1")).await;
    }
    let mut stream = served.sotw().await;
    stream.ask(ENDPOINTS, &["a"]).await;
    let first = stream.next().await;
    served.put(ENDPOINTS, "a", "a2").await;
    let second = stream.next().await;
    assert_eq!(values(&second), (ENDPOINTS, vec!["a2"]));
    // The request that crossed the second response has the nonce of the first.
    stream.answer(&first, &["a", "b"], None).await;
    assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["b1"]));
    stream.answer(&second, &["a", "b"], None).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_9_named_once_no_names_are_none() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "a1").await;
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &["a"]).await;
    let response = stream.next().await;
    stream.answer(&response, &[], None).await;
    stream.is_silent(&served).await;
    served.put(CLUSTER, "a", "a2").await;
    stream.is_silent(&served).await;
    stream.ask(CLUSTER, &["*"]).await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["a2"]));
    served.end().await;
}

#[tokio::test]
async fn row_10_no_names_of_a_grpc_client_are_none_of_any_type() {
    let served = serve("").await;
    for type_url in [CLUSTER, LISTENER, ENDPOINTS, ROUTES] {
        served.put(type_url, "a", "a1").await;
    }
    let mut stream = served.sotw().await;
    let node = Node { user_agent_name: "gRPC C-core linux".into(), ..node() };
    for type_url in [CLUSTER, LISTENER, ENDPOINTS, ROUTES] {
        stream.send(DiscoveryRequest { node: Some(node.clone()), ..request(type_url, &[]) }).await;
    }
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_12_what_was_let_go_and_is_asked_for_again_is_told_again() {
    let served = serve("").await;
    served.put(ENDPOINTS, "a", "a1").await;
    let mut stream = served.sotw().await;
    stream.ask(ENDPOINTS, &["a"]).await;
    let first = stream.next().await;
    stream.answer(&first, &[], None).await;
    stream.ask(ENDPOINTS, &["a"]).await;
    assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["a1"]));
    served.end().await;
}

#[tokio::test]
async fn rows_14_15_what_is_not_there_is_an_error_and_told_when_it_is_born() {
    let served = serve("").await;
    let mut stream = served.sotw().await;
    for type_url in [ENDPOINTS, LISTENER] {
        stream.ask(type_url, &["a"]).await;
        let response = stream.next().await;
        assert_eq!(values(&response), (type_url, vec![]));
        let error = response.resource_errors[0].clone();
        assert_eq!(error.resource_name.unwrap().name, "a");
        assert_eq!(error.error_detail.unwrap().code, 5);
        served.put(type_url, "a", "a1").await;
        let response = stream.next().await;
        assert_eq!(values(&response), (type_url, vec!["a1"]));
        assert_eq!(response.resource_errors, []);
    }
    served.delete(ENDPOINTS, "a").await;
    let response = stream.next().await;
    assert_eq!((values(&response).1.len(), response.resource_errors.len()), (0, 1));
    served.end().await;
}

#[tokio::test]
async fn row_16_a_response_about_clusters_and_listeners_is_all_there_is() {
    let served = serve("").await;
    for type_url in [CLUSTER, LISTENER, "core/v1/Pod"] {
        let name =
            |short: &str| if type_url == "core/v1/Pod" { format!("/{short}") } else { short.to_owned() };
        served.put(type_url, &name("a"), "a1").await;
        served.put(type_url, &name("b"), "b1").await;
        let mut stream = served.sotw().await;
        stream.ask(type_url, &[]).await;
        assert_eq!(values(&stream.next().await), (type_url, vec!["a1", "b1"]));
        served.put(type_url, &name("b"), "b2").await;
        assert_eq!(values(&stream.next().await), (type_url, vec!["a1", "b2"]));
        served.delete(type_url, &name("a")).await;
        assert_eq!(values(&stream.next().await), (type_url, vec!["b2"]));
        served.delete(type_url, &name("b")).await;
        assert_eq!(values(&stream.next().await), (type_url, vec![]));
    }
    served.end().await;
}

#[tokio::test]
async fn row_16_of_other_types_only_what_has_changed_is_told() {
    let served = serve("").await;
    served.put(ENDPOINTS, "a", "a1").await;
    served.put(ENDPOINTS, "b", "b1").await;
    let mut stream = served.sotw().await;
    stream.ask(ENDPOINTS, &["a", "b"]).await;
    assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["a1", "b1"]));
    served.put(ENDPOINTS, "b", "b2").await;
    assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["b2"]));
    served.end().await;
}

#[tokio::test]
async fn row_22_resources_are_plain() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "a1").await;
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    let response = stream.next().await;
    assert_eq!(response.resources[0].type_url, CLUSTER);
    served.end().await;
}

#[tokio::test]
async fn a_bus_that_asks_for_versions_is_told_names_and_versions_too() {
    let served = serve("").await;
    let version = served.put(CLUSTER, "a", "a1").await;
    let mut stream = served.sotw().await;
    let node = Node { client_features: texts(&["meshbus.resource-versions"]), ..node() };
    stream.send(DiscoveryRequest { node: Some(node), ..request(CLUSTER, &[]) }).await;
    let response = stream.next().await;
    assert_eq!((&*response.type_url, &*response.resources[0].type_url), (CLUSTER, WRAPPER));
    let resource = Resource::decode(response.resources[0].value.clone()).unwrap();
    assert_eq!((&*resource.name, resource.version), ("a", version));
    let message = resource.resource.unwrap();
    assert_eq!((&*message.type_url, &*message.value), (CLUSTER, &b"a1"[..]));
    served.end().await;
}

#[tokio::test]
async fn row_27_a_first_nonce_of_another_stream_is_taken() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "a1").await;
    let mut stream = served.sotw().await;
    stream
        .send(DiscoveryRequest {
            response_nonce: "2026-11-01 12:00:00 +0000 UTC".into(),
            version_info: "17".into(),
            ..request(CLUSTER, &[])
        })
        .await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["a1"]));
    served.end().await;
}

#[tokio::test]
async fn row_30_services_of_one_type_need_no_type() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "a1").await;
    let path = "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters";
    let mut stream = Sotw::open(served.channel().await, path).await.unwrap();
    stream.ask("", &[]).await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["a1"]));
    stream.ask(LISTENER, &[]).await;
    assert_eq!(stream.status().await.code(), tonic::Code::InvalidArgument);
    let path = "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints";
    let mut stream = Delta::open(served.channel().await, path).await.unwrap();
    stream.ask("", &["a"], &[]).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["a"]));
    served.end().await;
}

#[tokio::test]
async fn row_31_an_aggregated_stream_needs_a_type() {
    let served = serve("").await;
    let mut stream = served.sotw().await;
    stream.ask("", &["a"]).await;
    let status = stream.status().await;
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("type_url"), "{status:?}");
    served.end().await;
}

#[tokio::test]
async fn objects_are_told_to_clients_of_istio_with_their_metadata_apart() {
    use meshbus_proto::google::{Kind, Struct, Value};
    use prost::Message;

    const GATEWAY: &str = "networking.istio.io/v1/Gateway";
    let served = serve("").await;
    let object =
        r#"{"metadata":{"name":"g","namespace":"shop","labels":{"app":"web"}},"spec":{"servers":[]}}"#;
    let version = served.put(GATEWAY, "shop/g", object).await;
    served.put(CLUSTER, "c", "1").await;
    let mut stream = served.sotw().await;
    let generator = Value { kind: Some(Kind::String("api".into())) };
    let metadata = Struct { fields: [("GENERATOR".to_owned(), generator)].into() };
    let node = meshbus_proto::xds::Node { metadata: Some(metadata), ..node() };
    stream.send(meshbus_proto::xds::DiscoveryRequest { node: Some(node), ..request(GATEWAY, &[]) }).await;
    let told = stream.next().await;
    assert_eq!(told.resources[0].type_url, "type.googleapis.com/istio.mcp.v1alpha1.Resource");
    let resource = meshbus_proto::mcp::Resource::decode(told.resources[0].value.clone()).unwrap();
    let metadata = resource.metadata.unwrap();
    assert_eq!((&*metadata.name, metadata.version, &*metadata.labels["app"]), ("shop/g", version, "web"));
    assert!(resource.body.is_some());
    // What is a message already stays one, and others are told objects as they are.
    stream.ask(CLUSTER, &[]).await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["1"]));
    let mut other = served.sotw().await;
    other.ask(GATEWAY, &[]).await;
    assert_eq!(values(&other.next().await), (GATEWAY, vec![object]));
    served.end().await;
}
