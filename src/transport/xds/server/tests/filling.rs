//! All of a type that is told in many responses, of which a client has read the first when something changes.

use std::collections::BTreeMap;

use meshbus_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

use crate::transport::xds::server::testing::*;

/// More than a connection carries to a client that does not read.
const RESOURCES: usize = 160;
const BYTES: usize = 100_000;

fn ask(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { client_features: texts(&["meshbus.sync-marker"]), ..node() }),
        type_url: type_url.into(),
        resource_names_subscribe: texts(&["*"]),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A stream that has read the first part.
async fn begun() -> (Served, Delta, DeltaDiscoveryResponse) {
    let served = serve("max_response: 512KiB").await;
    for n in 0..RESOURCES {
        served.put(ENDPOINTS, &format!("e{n:03}"), vec![b'1'; BYTES]).await;
    }
    let mut stream = served.delta().await;
    stream.send(ask(ENDPOINTS)).await;
    let first = stream.next().await;
    (served, stream, first)
}

#[tokio::test]
async fn what_changes_while_all_of_a_type_is_told_is_told_after_it() {
    let (served, mut stream, first) = begun().await;
    let mut told = vec![first];
    // None of these is in the part that was read, and of the last the client has not been told at all.
    served.put(ENDPOINTS, "e000", "2").await;
    served.put(ENDPOINTS, "e159", "2").await;
    served.delete(ENDPOINTS, "e158").await;
    served.put(ENDPOINTS, "e200", "2").await;
    served.put(CLUSTER, "c", "2").await;
    stream.send(ask(CLUSTER)).await;
    while !told.iter().any(|response| said(response) == (CLUSTER, vec!["*"], vec![])) {
        told.push(stream.next().await);
    }
    let marked = told.iter().position(|response| said(response).1 == ["*"]).unwrap();
    let (parts, after) = told.split_at(marked);
    let values: BTreeMap<_, _> = parts.iter().flat_map(|part| &part.resources).map(value).collect();
    assert!(parts.len() > 30 && values.len() == RESOURCES, "{} {}", parts.len(), values.len());
    assert!(values.values().all(|first| *first == b'1'), "of the state when all was asked for");
    let changes: Vec<_> = after.iter().map(said).filter(|(_, names, _)| names[..] != ["*"]).collect();
    let endpoints: Vec<_> = changes.iter().filter(|(type_url, ..)| *type_url == ENDPOINTS).collect();
    let put: Vec<_> = endpoints.iter().flat_map(|(_, put, _)| put.clone()).collect();
    let gone: Vec<_> = endpoints.iter().flat_map(|(.., gone)| gone.clone()).collect();
    assert_eq!((put, gone), (vec!["e000", "e159", "e200"], vec!["e158"]));
    assert!(changes.contains(&(CLUSTER, vec!["c"], vec![])), "{changes:?}");
    // Each part is answered on its own.
    for response in &told {
        let refused = response.nonce == told[3].nonce;
        stream.answer(response, refused.then_some("no")).await;
        if refused {
            served.shows("/status/refused", "ClusterLoadAssignment").await;
        }
    }
    served.shows("/status/refused", "").await;
    served.put(ENDPOINTS, "e201", "3").await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["e201"], vec![]));
    served.end().await;
}

#[tokio::test]
async fn a_drain_in_the_middle_of_all_of_a_type_ends_the_stream_with_its_status() {
    let (served, mut stream, _) = begun().await;
    served.shutdown.start_drain();
    let status = stream.status().await;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    served.end().await;
}

fn value(resource: &meshbus_proto::xds::Resource) -> (&str, u8) {
    let body = resource.resource.as_ref().map(|body| body.value[0]);
    (&resource.name, body.unwrap_or_default())
}
