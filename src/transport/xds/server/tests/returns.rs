//! Clients of a bus that has just begun: until its table is filled, what is absent is not gone.

use meshbus_proto::xds::{DiscoveryRequest, DiscoveryResponse};

use crate::core::Key;
use crate::transport::xds::server::testing::*;

fn settle(served: &Served) {
    served.bus.settled().settle(Key::LOCAL.into());
}

/// A first request of a client that has a version of the state of the world.
fn returning(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest { version_info: "1".into(), ..request(type_url, names) }
}

fn errors(response: &DiscoveryResponse) -> Vec<&str> {
    response.resource_errors.iter().map(|error| &*error.resource_name.as_ref().unwrap().name).collect()
}

#[tokio::test]
async fn what_a_client_has_is_gone_only_when_the_table_is_filled() {
    let served = serve_unsettled().await;
    let kept = served.put(CLUSTER, "kept", "1").await;
    let mut stream = served.delta().await;
    stream.resume(CLUSTER, &["*"], &[("kept", &kept), ("late", "7"), ("gone", "8")]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec![]));
    stream.resume(LISTENER, &["*"], &[("l", "9")]).await;
    assert_eq!(said(&stream.next().await), (LISTENER, vec![], vec![]));
    stream.is_silent(&served).await;
    served.put(CLUSTER, "late", "2").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["late"], vec![]));
    settle(&served);
    // What refers to clusters goes first.
    assert_eq!(said(&stream.next().await), (LISTENER, vec![], vec!["l"]));
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["gone"]));
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn what_is_deleted_now_is_gone_at_once() {
    let served = serve_unsettled().await;
    let version = served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.resume(CLUSTER, &["*"], &[("a", &version)]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec![]));
    served.delete(CLUSTER, "a").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["a"]));
    served.end().await;
}

#[tokio::test]
async fn a_client_that_has_nothing_hears_at_once_what_is_not_there() {
    let served = serve_unsettled().await;
    let mut stream = served.delta().await;
    stream.ask(ENDPOINTS, &["none"], &[]).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["none"]));
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec![]));
    served.end().await;
}

#[tokio::test]
async fn the_state_of_the_world_waits_for_a_filled_table_where_absence_means_gone() {
    let served = serve_unsettled().await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.sotw().await;
    stream.send(returning(CLUSTER, &[])).await;
    stream.is_silent(&served).await;
    served.put(CLUSTER, "b", "2").await;
    stream.is_silent(&served).await;
    settle(&served);
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["1", "2"]));
    served.put(CLUSTER, "c", "3").await;
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["1", "2", "3"]));
    served.end().await;
}

#[tokio::test]
async fn errors_for_what_is_absent_wait_for_a_filled_table() {
    let served = serve_unsettled().await;
    served.put(ENDPOINTS, "a", "1").await;
    let mut stream = served.sotw().await;
    stream.send(returning(ENDPOINTS, &["a", "late", "gone"])).await;
    let response = stream.next().await;
    assert_eq!((values(&response), errors(&response)), ((ENDPOINTS, vec!["1"]), vec![]));
    served.put(ENDPOINTS, "late", "2").await;
    assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["2"]));
    settle(&served);
    let response = stream.next().await;
    assert_eq!((values(&response), errors(&response)), ((ENDPOINTS, vec![]), vec!["gone"]));
    served.end().await;
}
