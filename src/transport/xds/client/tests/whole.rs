//! When a type is told as a whole, so that what was not told of it is gone: by a mark, by a pause, or not yet at all.

use std::time::Duration;

use meshbus_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use prost::Message;
use tokio::time::{pause, resume, sleep};
use tonic::Status;

use super::super::testing::{
    CLUSTER, Delta, Driven, ENDPOINTS, LISTENER, Server, delta, named, resource, texts,
};
use crate::core::ErrorKind;
use crate::core::state::StateBound;

type DeltaServer = Server<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

const CLUSTERS: &str = "subscribe: [{type: cds}]";
/// What no request may be much longer than.
const LONG: usize = 3 << 20;

async fn start(settings: &str) -> (DeltaServer, Driven, Delta) {
    let mut server = DeltaServer::start().await;
    let mut client = Driven::new(server.address, settings);
    client.run();
    let stream = server.accept().await;
    (server, client, stream)
}

/// Clusters whose versions take so many bytes each.
fn clusters(count: usize, version: usize) -> Vec<Resource> {
    let cluster = |n: usize| {
        let name = format!("c{n:04}");
        resource(CLUSTER, &name, &"v".repeat(version), named(&name, 1))
    };
    (0..count).map(cluster).collect()
}

/// The end of the first answer of a type: up to a position, or still to come.
fn mark(type_url: &str, nonce: &str, position: &str) -> DeltaDiscoveryResponse {
    let mark = Resource { name: "*".into(), version: position.into(), ..Resource::default() };
    delta(type_url, nonce, vec![mark], &[])
}

/// Ends a stream, and begins the next one.
async fn again(server: &mut DeltaServer, client: &mut Driven, stream: Delta, status: Status) -> Delta {
    stream.fail(status).await;
    client.ended().await.unwrap_err();
    client.run();
    server.accept().await
}

#[tokio::test]
async fn versions_that_no_server_would_take_are_not_told_and_what_is_not_told_again_is_gone() {
    let (mut server, mut client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    let all = clusters(800, 5000);
    stream.gives(CLUSTER, "1", all.clone(), &[]).await;
    client.is_ready().await;
    assert_eq!(client.changes().await.len(), 800);
    let mut stream = again(&mut server, &mut client, stream, Status::unavailable("restarts")).await;
    let first = stream.next().await;
    assert!(first.encoded_len() < LONG, "{}", first.encoded_len());
    assert_eq!(first.resource_names_subscribe, ["*"]);
    assert!(first.initial_resource_versions.is_empty());
    // In two parts, without the last one.
    stream.gives(CLUSTER, "1", all[1..400].to_vec(), &["c0000"]).await;
    assert_eq!(client.names(CLUSTER).len(), 799, "there may be more");
    stream.gives(CLUSTER, "2", all[400..799].to_vec(), &[]).await;
    assert_eq!(client.names(CLUSTER).len(), 799, "there may be more");
    let rest: Vec<String> = (1..799).map(|n| format!("c{n:04}")).collect();
    client.has(CLUSTER, &rest.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(client.changes().await, ["-c0000 inferred", "-c0799 inferred"]);
    client.is_ready().await;
    // From now on what goes is told.
    stream.gives(CLUSTER, "3", vec![], &["c0001"]).await;
    assert_eq!(client.changes().await, ["-c0001 deleted"]);
    client.end().await;
}

#[tokio::test]
async fn a_server_that_finds_the_versions_too_long_is_not_told_them_again() {
    let (mut server, mut client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    let all = clusters(100, 2000);
    stream.gives(CLUSTER, "1", all.clone(), &[]).await;
    let too_long = || Status::resource_exhausted("received message larger than max");
    let mut stream = again(&mut server, &mut client, stream, too_long()).await;
    assert_eq!(stream.next().await.initial_resource_versions.len(), 100, "it had answered");
    let mut stream = again(&mut server, &mut client, stream, too_long()).await;
    assert!(stream.next().await.initial_resource_versions.is_empty());
    drop(client.changes().await);
    stream.gives(CLUSTER, "1", all[1..].to_vec(), &[]).await;
    client.is_ready().await;
    assert_eq!(client.changes().await, ["-c0000 inferred"]);
    client.end().await;
}

#[tokio::test]
async fn a_server_that_is_too_busy_for_a_short_request_is_told_the_versions_again() {
    let (mut server, mut client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    stream.gives(CLUSTER, "1", clusters(3, 10), &[]).await;
    for _ in 0..3 {
        stream =
            again(&mut server, &mut client, stream, Status::resource_exhausted("too many streams")).await;
        assert_eq!(stream.next().await.initial_resource_versions.len(), 3);
    }
    client.end().await;
}

#[tokio::test]
async fn names_that_are_too_long_for_one_request_are_asked_for_by_several() {
    let names: Vec<String> = (0..40).map(|n| format!("{n:02}{}", "x".repeat(100 << 10))).collect();
    let (_server, client, mut stream) =
        start(&format!("subscribe: [{{type: eds, names: [{}]}}]", names.join(", "))).await;
    let (first, second) = (stream.next().await, stream.next().await);
    for request in [&first, &second] {
        assert!(request.encoded_len() < LONG + (200 << 10), "{}", request.encoded_len());
        assert_eq!((&*request.type_url, &*request.response_nonce), (ENDPOINTS, ""));
    }
    let mut asked = [first.resource_names_subscribe, second.resource_names_subscribe].concat();
    asked.sort_unstable();
    assert!(asked == names, "each name is asked for once");
    client.end().await;
}

#[tokio::test]
async fn what_a_server_marks_is_whole_with_its_mark() {
    let (mut server, mut client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    let all = clusters(100, 2000);
    stream.gives(CLUSTER, "1", all.clone(), &[]).await;
    stream.tell(mark(CLUSTER, "2", "7")).await;
    client.is_ready().await;
    let mut stream = again(&mut server, &mut client, stream, Status::unavailable("restarts")).await;
    stream.next().await;
    let mut stream = again(&mut server, &mut client, stream, Status::resource_exhausted("too long")).await;
    assert!(stream.next().await.initial_resource_versions.is_empty());
    stream.gives(CLUSTER, "1", all[1..50].to_vec(), &[]).await;
    // Longer than the pause after which others are believed.
    sleep(Duration::from_millis(800)).await;
    assert_eq!(client.names(CLUSTER).len(), 100);
    stream.gives(CLUSTER, "2", all[50..].to_vec(), &[]).await;
    stream.tell(mark(CLUSTER, "3", "8")).await;
    client.is_ready().await;
    assert_eq!(client.names(CLUSTER).len(), 99);
    client.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_filled_yet_is_waited_for() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    stream.gives(CLUSTER, "1", clusters(1, 1), &[]).await;
    stream.tell(mark(CLUSTER, "2", "")).await;
    pause();
    sleep(Duration::from_mins(2)).await;
    resume();
    let missing = client.ready.watch().borrow().clone().unwrap_err();
    assert!(missing.contains("envoy.config.cluster.v3.Cluster"), "{missing}");
    stream.gives(CLUSTER, "3", vec![], &[]).await;
    assert!(!client.looks_ready());
    stream.tell(mark(CLUSTER, "4", "9")).await;
    client.is_ready().await;
    client.end().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_for_the_next() {
    let (mut silent, mut other) = (DeltaServer::start().await, DeltaServer::start().await);
    let urls = format!("urls: [\"http://{}\", \"http://{}\"]", silent.address, other.address);
    let mut client = Driven::with(StateBound::default(), &format!("{urls}\n{CLUSTERS}"));
    client.run();
    let mut stream = silent.accept().await;
    stream.next().await;
    pause();
    sleep(Duration::from_secs(16)).await;
    resume();
    let error = client.ended().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Disconnected);
    let text = error.to_string();
    for part in
        [&*silent.address.to_string(), "answered nothing in 15 s", "envoy.config.cluster.v3.Cluster"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    client.run();
    let mut stream = other.accept().await;
    stream.next().await;
    stream.gives(CLUSTER, "1", vec![], &[]).await;
    // Who has answered may be silent.
    pause();
    sleep(Duration::from_mins(2)).await;
    resume();
    assert!(client.looks_ready());
    client.end().await;
}

#[tokio::test]
async fn the_only_server_is_waited_for_and_what_it_has_not_answered_is_named() {
    let (_server, client, mut stream) = start("subscribe: [{type: cds}, {type: lds}]").await;
    stream.next().await;
    stream.next().await;
    pause();
    sleep(Duration::from_secs(40)).await;
    resume();
    let missing = client.ready.watch().borrow().clone().unwrap_err();
    for part in ["envoy.config.cluster.v3.Cluster", "envoy.config.listener.v3.Listener"] {
        assert!(missing.contains(part), "{missing}");
    }
    stream.gives(CLUSTER, "1", vec![], &[]).await;
    stream.gives(LISTENER, "2", vec![], &[]).await;
    client.is_ready().await;
    client.end().await;
}

#[tokio::test]
async fn what_was_not_answered_is_not_taken_to_be_gone() {
    let (mut server, mut client, mut stream) = start("subscribe: [{type: cds}, {type: lds}]").await;
    stream.next().await;
    stream.next().await;
    stream.gives(CLUSTER, "1", clusters(100, 2000), &[]).await;
    stream.gives(LISTENER, "2", vec![resource(LISTENER, "l", "1", named("l", 1))], &[]).await;
    let mut stream = again(&mut server, &mut client, stream, Status::unavailable("restarts")).await;
    stream.next().await;
    stream.next().await;
    let mut stream = again(&mut server, &mut client, stream, Status::resource_exhausted("too long")).await;
    let first = [stream.next().await, stream.next().await];
    assert!(first.iter().any(|request| request.initial_resource_versions.is_empty()));
    stream.gives(LISTENER, "1", vec![], &[]).await;
    pause();
    sleep(Duration::from_mins(1)).await;
    resume();
    assert_eq!(client.names(CLUSTER).len(), 100, "nothing was said of them");
    let nameless = Resource { resource: resource(CLUSTER, "", "", vec![]).resource, ..Resource::default() };
    assert!(stream.tell(delta(CLUSTER, "2", vec![nameless], &[])).await.0.error_detail.is_some());
    sleep(Duration::from_millis(800)).await;
    assert_eq!(client.names(CLUSTER).len(), 100, "what has no name may be any of them");
    assert_eq!(first.map(|request| request.resource_names_subscribe), [texts(&["*"]), texts(&["*"])]);
    client.end().await;
}
