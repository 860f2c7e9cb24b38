//! Clients of a bus that has just begun: until its table is filled, what is absent is not gone.

use meshbus_proto::xds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
};

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

#[tokio::test]
async fn a_client_that_knows_the_mark_hears_that_more_is_to_come_and_when_that_was_all() {
    let served = serve_unsettled().await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    let marks = || Node { client_features: texts(&["meshbus.sync-marker"]), ..node() };
    let ask = |type_url: &str, names: &[&str]| DeltaDiscoveryRequest {
        node: Some(marks()),
        type_url: type_url.into(),
        resource_names_subscribe: texts(names),
        ..DeltaDiscoveryRequest::default()
    };
    let version = |response: &DeltaDiscoveryResponse| response.resources[0].version.clone();
    stream.send(ask(CLUSTER, &["*"])).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec![]));
    let mark = stream.next().await;
    assert_eq!((said(&mark), &*version(&mark)), ((CLUSTER, vec!["*"], vec![]), ""));
    // What is asked for by its name may come, too.
    stream.send(ask(ENDPOINTS, &["none"])).await;
    let mark = stream.next().await;
    assert_eq!((said(&mark), &*version(&mark)), ((ENDPOINTS, vec!["*"], vec![]), ""));
    served.put(CLUSTER, "b", "2").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["b"], vec![]));
    settle(&served);
    let told = [stream.next().await, stream.next().await, stream.next().await];
    assert_eq!(said(&told[1]), (ENDPOINTS, vec![], vec!["none"]));
    for (mark, type_url) in [(&told[0], CLUSTER), (&told[2], ENDPOINTS)] {
        assert_eq!(said(mark), (type_url, vec!["*"], vec![]));
        assert_eq!(version(mark), mark.system_version_info);
    }

    let mut stream = served.delta().await;
    stream.send(ask(CLUSTER, &["*"])).await;
    assert_eq!(said(&stream.next().await).1.len(), 2);
    let mark = stream.next().await;
    assert_eq!(version(&mark), mark.system_version_info);
    served.end().await;
}

#[tokio::test]
async fn a_client_that_knows_the_mark_is_told_the_state_of_the_world_when_that_is_whole() {
    let served = serve_unsettled().await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.sotw().await;
    let node = Node { client_features: texts(&["meshbus.sync-marker"]), ..node() };
    stream.send(DiscoveryRequest { node: Some(node), ..request(CLUSTER, &[]) }).await;
    served.put(ENDPOINTS, "e", "3").await;
    stream.ask(ENDPOINTS, &["e"]).await;
    assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["3"]));
    served.put(CLUSTER, "b", "2").await;
    settle(&served);
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["1", "2"]));
    served.end().await;
}
