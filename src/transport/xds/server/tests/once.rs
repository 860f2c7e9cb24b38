//! Calls with one response, and what tells that an answer is complete.

use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use meshbus_proto::xds::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, Node};

use crate::transport::xds::server::testing::*;

async fn fetch(served: &Served, method: &str, names: &[&str]) -> DiscoveryResponse {
    let mut client = Grpc::new(served.channel().await);
    soon(client.ready()).await.unwrap();
    let path = format!("/envoy.service.{method}").parse().unwrap();
    let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
    let request = tonic::Request::new(request("", names));
    soon(client.unary(request, path, codec)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_fetch_has_one_response_and_is_no_connection() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "1").await;
    served.put(ENDPOINTS, "e", "2").await;
    let clusters = "cluster.v3.ClusterDiscoveryService/FetchClusters";
    assert_eq!(values(&fetch(&served, clusters, &[]).await), (CLUSTER, vec!["1"]));
    assert_eq!(values(&fetch(&served, clusters, &["b"]).await), (CLUSTER, vec![]));
    let endpoints = "endpoint.v3.EndpointDiscoveryService/FetchEndpoints";
    assert_eq!(values(&fetch(&served, endpoints, &["e", "f"]).await), (ENDPOINTS, vec!["2"]));
    assert_eq!(values(&fetch(&served, endpoints, &[]).await), (ENDPOINTS, vec![]));
    assert_eq!(served.connections(0).await.len(), 0);
    served.end().await;
}

#[tokio::test]
async fn what_is_long_is_fetched_whole() {
    let served = serve("max_response: 64KiB").await;
    for name in ["a", "b", "c"] {
        served.put(ENDPOINTS, name, vec![b'x'; 40 << 10]).await;
    }
    let endpoints = "endpoint.v3.EndpointDiscoveryService/FetchEndpoints";
    assert_eq!(fetch(&served, endpoints, &["a", "b", "c"]).await.resources.len(), 3);
    served.end().await;
}

#[tokio::test]
async fn the_end_of_the_first_answer_is_told_to_clients_that_know_the_mark() {
    let served = serve("max_response: 64KiB").await;
    for name in ["a", "b"] {
        served.put(CLUSTER, name, vec![b'x'; 40 << 10]).await;
    }
    let ask = |features: &[&str], type_url: &str| DeltaDiscoveryRequest {
        node: Some(Node { client_features: texts(features), ..node() }),
        type_url: type_url.into(),
        ..DeltaDiscoveryRequest::default()
    };
    let mut stream = served.delta().await;
    stream.send(ask(&["meshbus.sync-marker"], CLUSTER)).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec![]));
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["b"], vec![]));
    let mark = stream.next().await;
    assert_eq!(said(&mark), (CLUSTER, vec!["*"], vec![]));
    let [resource] = &mark.resources[..] else { panic!("one mark") };
    assert_eq!((&resource.resource, &resource.version), (&None, &mark.system_version_info));
    stream.answer(&mark, None).await;
    // Where nothing is wanted yet that is all there is, too.
    stream.send(ask(&[], ENDPOINTS)).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["*"], vec![]));
    stream.ask(CLUSTER, &["c"], &[]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["c"]));
    // Later answers have none.
    served.put(CLUSTER, "d", "1").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["d"], vec![]));
    let mut other = served.delta().await;
    other.send(ask(&[], CLUSTER)).await;
    assert_eq!(said(&other.next().await), (CLUSTER, vec!["a"], vec![]));
    assert_eq!(said(&other.next().await), (CLUSTER, vec!["b"], vec![]));
    assert_eq!(said(&other.next().await), (CLUSTER, vec!["d"], vec![]));
    other.is_silent(&served).await;
    served.end().await;
}
