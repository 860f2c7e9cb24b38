//! The incremental variant: what is asked for, what goes on where a stream ended, what is followed.

use tonic::Status;

use super::super::testing::{
    CLUSTER, Delta, Driven, ENDPOINTS, Server, delta, named, resource, soon, texts,
};
use crate::core::consumer::Overflow;
use crate::core::selector::Selector;
use crate::core::subscription::Start;
use crate::core::{Envelope, ErrorKind, Topic};
use crate::transport::xds::codec::cluster::of_endpoints;

type DeltaServer =
    Server<meshbus_proto::xds::DeltaDiscoveryRequest, meshbus_proto::xds::DeltaDiscoveryResponse>;

const CLUSTERS: &str = "subscribe: [{type: cds}]\nnode: {id: n1, cluster: c1}";
const FOLLOWED: &str = "subscribe: [{type: cds, follow: true}]";

async fn start(settings: &str) -> (DeltaServer, Driven, Delta) {
    let mut server = DeltaServer::start().await;
    let mut client = Driven::new(server.address, settings);
    client.run();
    let stream = server.accept().await;
    (server, client, stream)
}

#[tokio::test]
async fn the_first_request_says_who_asks_and_for_what() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    let first = stream.next().await;
    let node = first.node.unwrap();
    assert_eq!((&*node.id, &*node.cluster, &*node.user_agent_name), ("n1", "c1", "meshbus"));
    assert_eq!((&*first.type_url, first.resource_names_subscribe), (CLUSTER, texts(&["*"])));
    assert!(first.initial_resource_versions.is_empty() && first.response_nonce.is_empty());
    assert!(!client.looks_ready(), "nothing is answered");
    let name = "outbound|80||a.b";
    let (answer, _) =
        stream.tell(delta(CLUSTER, "1", vec![resource(CLUSTER, name, "v1", named(name, 1))], &[])).await;
    assert_eq!((answer.error_detail, answer.node), (None, None));
    client.is_ready().await;
    assert_eq!(client.table(CLUSTER), [(name.to_owned(), "v1".to_owned())]);
    client.end().await;
}

#[tokio::test]
async fn a_stream_goes_on_with_the_versions_of_the_one_before() {
    let (mut server, mut client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    let both = ["a", "b"].map(|name| resource(CLUSTER, name, "v1", named(name, 1)));
    stream.gives(CLUSTER, "1", both.to_vec(), &[]).await;
    assert_eq!(client.changes().await, ["+a", "+b"]);
    stream.fail(Status::unavailable("restarts")).await;
    let ended = client.ended().await.unwrap_err();
    assert_eq!(ended.kind, ErrorKind::Disconnected);
    assert!(!client.looks_ready());

    client.run();
    let mut stream = server.accept().await;
    let first = stream.next().await;
    assert!(first.node.is_some(), "a new stream does not know who asks");
    let mut versions: Vec<_> = first.initial_resource_versions.into_iter().collect();
    versions.sort_unstable();
    assert_eq!(versions, [("a".to_owned(), "v1".to_owned()), ("b".to_owned(), "v1".to_owned())]);
    // What went meanwhile is inferred; what goes later is told.
    stream.gives(CLUSTER, "1", vec![], &["a"]).await;
    stream.gives(CLUSTER, "2", vec![], &["b"]).await;
    assert_eq!(client.changes().await, ["-a inferred", "-b deleted"]);
    client.end().await;
}

#[tokio::test]
async fn a_server_that_was_started_again_changes_nothing_by_telling_the_same() {
    let (mut server, mut client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    stream.gives(CLUSTER, "1", vec![resource(CLUSTER, "a", "v1", named("a", 1))], &[]).await;
    drop(client.changes().await);
    stream.fail(Status::unavailable("restarts")).await;
    client.ended().await.unwrap_err();
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    // The same bytes in another version, without one, then others in the same.
    stream.gives(CLUSTER, "1", vec![resource(CLUSTER, "a", "v7", named("a", 1))], &[]).await;
    stream.gives(CLUSTER, "2", vec![resource(CLUSTER, "a", "", named("a", 1))], &[]).await;
    stream.gives(CLUSTER, "3", vec![resource(CLUSTER, "a", "v9", named("a", 1))], &[]).await;
    assert!(client.changes().await.is_empty(), "nothing has changed");
    stream.gives(CLUSTER, "4", vec![resource(CLUSTER, "a", "v1", named("a", 2))], &[]).await;
    assert_eq!(client.changes().await, ["+a"]);
    // The server's own version is what a next stream goes on with.
    stream.fail(Status::unavailable("restarts")).await;
    client.ended().await.unwrap_err();
    client.run();
    let first = server.accept().await.next().await;
    assert_eq!(first.initial_resource_versions.get("a").map(|version| &**version), Some("v1"));
    client.end().await;
}

#[tokio::test]
async fn endpoints_are_asked_for_while_a_cluster_refers_to_them() {
    let (mut server, mut client, mut stream) = start(FOLLOWED).await;
    assert_eq!(stream.next().await.type_url, CLUSTER);
    let clusters = vec![
        resource(CLUSTER, "a", "1", of_endpoints("a", "ea", 1)),
        resource(CLUSTER, "b", "1", named("b", 1)),
    ];
    stream.gives(CLUSTER, "1", clusters, &[]).await;
    let asked = stream.next().await;
    assert_eq!((&*asked.type_url, asked.resource_names_subscribe), (ENDPOINTS, texts(&["ea"])));
    assert!(!client.looks_ready(), "endpoints are not answered");
    stream.gives(ENDPOINTS, "2", vec![resource(ENDPOINTS, "ea", "1", named("ea", 1))], &[]).await;
    client.is_ready().await;
    assert_eq!(client.names(ENDPOINTS), ["ea"]);

    // A reconnect asks at once for all of it.
    stream.fail(Status::unavailable("restarts")).await;
    client.ended().await.unwrap_err();
    client.run();
    let mut stream = server.accept().await;
    let mut first = [stream.next().await, stream.next().await];
    first.sort_by(|left, right| left.type_url.cmp(&right.type_url));
    assert_eq!(first.each_ref().map(|request| &*request.type_url), [CLUSTER, ENDPOINTS]);
    assert_eq!(first[1].resource_names_subscribe, texts(&["ea"]));
    assert_eq!(first[1].initial_resource_versions.len(), 1);

    // What nobody refers to any more is let go, and is gone.
    stream.gives(CLUSTER, "3", vec![resource(CLUSTER, "a", "2", of_endpoints("a", "eb", 1))], &[]).await;
    let asked = stream.next().await;
    assert_eq!(asked.resource_names_subscribe, texts(&["eb"]));
    assert_eq!(asked.resource_names_unsubscribe, texts(&["ea"]));
    client.has(ENDPOINTS, &[]).await;
    // What was on its way is not taken any more.
    stream.gives(ENDPOINTS, "4", vec![resource(ENDPOINTS, "ea", "2", named("ea", 2))], &[]).await;
    assert!(client.names(ENDPOINTS).is_empty(), "it was let go");
    stream.gives(CLUSTER, "5", vec![], &["a"]).await;
    assert_eq!(stream.next().await.resource_names_unsubscribe, texts(&["eb"]));
    client.end().await;
}

#[tokio::test]
async fn what_is_never_answered_is_waited_for_no_longer_than_the_protocol_does() {
    let (_server, client, mut stream) = start("subscribe: [{type: eds, names: [never]}]").await;
    stream.next().await;
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let mut ready = client.ready.watch();
    ready.wait_for(Result::is_ok).await.unwrap();
    assert!((14..17).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    tokio::time::resume();
    client.end().await;
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_not_taken_to_have_nothing() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_mins(2)).await;
    assert!(!client.looks_ready());
    tokio::time::resume();
    stream.gives(CLUSTER, "1", vec![], &[]).await;
    client.is_ready().await;
    client.end().await;
}

#[tokio::test]
async fn what_is_wanted_no_more_is_gone_when_a_stream_begins() {
    let (mut server, mut client, mut stream) = start("subscribe: [{type: eds, names: [a, b]}]").await;
    stream.next().await;
    let both = ["a", "b"].map(|name| resource(ENDPOINTS, name, "v1", named(name, 1)));
    stream.gives(ENDPOINTS, "1", both.to_vec(), &[]).await;
    stream.fail(Status::unavailable("reload")).await;
    client.ended().await.unwrap_err();
    drop(client.changes().await);
    client.configure(server.address, "subscribe: [{type: eds, names: [b]}]");
    client.run();
    let first = server.accept().await.next().await;
    assert_eq!(first.resource_names_subscribe, texts(&["b"]));
    assert_eq!(client.changes().await, ["-a inferred"]);
    client.end().await;
}

#[tokio::test]
async fn the_token_is_shown_and_refused_is_not_tried_again() {
    let mut server = DeltaServer::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "abc\n").unwrap();
    let settings = format!("{CLUSTERS}\ntoken: {{file: {:?}}}", file.path());
    let mut client = Driven::new(server.address, &settings);
    client.run();
    let stream = server.accept().await;
    assert_eq!(stream.headers.get("authorization").unwrap(), "Bearer abc");
    stream.fail(Status::unauthenticated("who?")).await;
    let error = client.ended().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("who?") && !error.to_string().contains("abc"), "{error}");
    // Where it was let in once, its own proof may be late.
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    stream.gives(CLUSTER, "1", vec![], &[]).await;
    stream.fail(Status::unauthenticated("late")).await;
    assert_eq!(client.ended().await.unwrap_err().kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_server_that_is_away_is_passed_over() {
    let mut server = DeltaServer::start().await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = format!("urls: [\"http://{gone}\", \"http://{}\"]\n{CLUSTERS}", server.address);
    let mut client = Driven::with(crate::core::state::StateBound::default(), &settings);
    client.run();
    assert_eq!(server.accept().await.next().await.type_url, CLUSTER);
    client.end().await;
    let mut client = Driven::new(gone, CLUSTERS);
    client.run();
    assert_eq!(client.ended().await.unwrap_err().kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_long_response_is_taken_whole_before_it_is_answered() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    stream.next().await;
    let names: Vec<String> = (0..5000).map(|n| format!("a-cluster-of-a-rather-long-name-{n:04}")).collect();
    let resources: Vec<_> = names.iter().map(|name| resource(CLUSTER, name, "1", named(name, 1))).collect();
    stream.gives(CLUSTER, "1", resources, &[]).await;
    assert_eq!(client.names(CLUSTER), names);
    let removed: Vec<&str> = names.iter().skip(1).map(String::as_str).collect();
    stream.gives(CLUSTER, "2", vec![], &removed).await;
    assert_eq!(client.names(CLUSTER), names[..1]);
    client.end().await;
}

#[tokio::test]
async fn a_bus_without_room_for_deletions_holds_up_no_drain() {
    let (server, mut client, mut stream) = start("subscribe: [{type: eds, names: [a, b]}]").await;
    stream.next().await;
    let both = ["a", "b"].map(|name| resource(ENDPOINTS, name, "v1", named(name, 1)));
    stream.gives(ENDPOINTS, "1", both.to_vec(), &[]).await;
    stream.fail(Status::unavailable("reload")).await;
    client.ended().await.unwrap_err();
    // Publishers wait for who reads no events.
    let unread = client.bus.subscribe(Selector::default(), Start::Now, 1, Overflow::Block).unwrap();
    let event =
        |id: &str| Envelope::event(Topic::parse("tests/a").unwrap(), id.to_owned(), "/test", "test.v1");
    drop(client.bus.publish(vec![event("1"), event("2")]).await);
    client.configure(server.address, "subscribe: [{type: eds, names: [b]}]");
    client.run();
    soon(async {
        while client.stats.connected.get() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(client.names(ENDPOINTS), ["a", "b"], "there was no room");
    client.end().await;
    drop(unread);
}
