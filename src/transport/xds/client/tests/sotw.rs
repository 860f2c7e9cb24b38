//! The state of the world: what is absent is gone where a response is all there is, and nowhere else.

use meshbus_proto::xds::{DiscoveryRequest, DiscoveryResponse, ResourceError, ResourceName};
use tonic::Status;

use super::super::testing::{CLUSTER, Driven, ENDPOINTS, Server, Sotw, named, sotw, texts};
use crate::transport::xds::codec::cluster::of_endpoints;

type SotwServer = Server<DiscoveryRequest, DiscoveryResponse>;

async fn start(subscribe: &str) -> (SotwServer, Driven, Sotw) {
    let mut server = SotwServer::start().await;
    let mut client = Driven::new(server.address, &format!("mode: sotw\nsubscribe: [{subscribe}]"));
    client.run();
    let stream = server.accept().await;
    (server, client, stream)
}

/// Sends a response, and gives the answer to it.
async fn tell(stream: &mut Sotw, response: DiscoveryResponse) -> DiscoveryRequest {
    let nonce = response.nonce.clone();
    stream.send(response).await;
    let answer = stream.next().await;
    assert_eq!(answer.response_nonce, nonce);
    answer
}

#[tokio::test]
async fn what_is_absent_is_gone_and_what_cannot_be_decoded_stays() {
    let (_server, mut client, mut stream) = start("{type: cds}").await;
    let first = stream.next().await;
    assert!(first.resource_names.is_empty(), "all clusters have no name");
    let [a, b, c] = ["a", "b", "c"].map(|name| named(name, 1));
    let answer = tell(&mut stream, sotw(CLUSTER, "1", &[&a, &b, &c])).await;
    assert_eq!((&*answer.version_info, answer.error_detail), ("v1", None));
    client.is_ready().await;
    assert_eq!(client.names(CLUSTER), ["a", "b", "c"]);
    drop(client.changes().await);

    // Of `b`, the name can be read and the rest cannot.
    let mut bad = named("b", 2);
    bad.extend([0x12, 0x7f]);
    let answer = tell(&mut stream, sotw(CLUSTER, "2", &[&a, &bad])).await;
    let error = answer.error_detail.unwrap();
    assert_eq!(&*answer.version_info, "v1", "what was refused was not taken");
    assert!(!error.message.is_empty());
    assert_eq!(client.names(CLUSTER), ["a", "b", "c"], "what cannot be named may be any of them");

    let answer = tell(&mut stream, sotw(CLUSTER, "3", &[&a])).await;
    assert_eq!((&*answer.version_info, answer.error_detail), ("v3", None));
    assert_eq!(client.changes().await, ["-b inferred", "-c inferred"]);
    client.end().await;
}

#[tokio::test]
async fn what_is_told_again_with_another_version_is_no_change() {
    let (mut server, mut client, mut stream) = start("{type: cds}").await;
    stream.next().await;
    let a = named("a", 1);
    tell(&mut stream, sotw(CLUSTER, "1", &[&a])).await;
    assert_eq!(client.changes().await, ["+a"]);
    tell(&mut stream, sotw(CLUSTER, "2", &[&a])).await;
    stream.fail(Status::unavailable("restarts")).await;
    client.ended().await.unwrap_err();
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    tell(&mut stream, sotw(CLUSTER, "1", &[&a])).await;
    assert!(client.changes().await.is_empty());
    tell(&mut stream, sotw(CLUSTER, "2", &[&named("a", 2)])).await;
    assert_eq!(client.changes().await, ["+a"]);
    client.end().await;
}

#[tokio::test]
async fn endpoints_are_told_in_part_and_go_with_their_clusters_or_by_an_error() {
    let (_server, client, mut stream) = start("{type: cds, follow: true}").await;
    stream.next().await;
    let clusters = ["a", "b", "c"].map(|name| of_endpoints(name, "", 1));
    let all: Vec<&[u8]> = clusters.iter().map(|bytes| &bytes[..]).collect();
    tell(&mut stream, sotw(CLUSTER, "1", &all)).await;
    let asked = stream.next().await;
    assert_eq!((&*asked.type_url, asked.resource_names), (ENDPOINTS, texts(&["a", "b", "c"])));
    tell(&mut stream, sotw(ENDPOINTS, "2", &[&named("a", 1), &named("b", 1), &named("c", 1)])).await;
    client.is_ready().await;
    let answer = tell(&mut stream, sotw(ENDPOINTS, "3", &[&named("b", 2)])).await;
    assert_eq!(answer.resource_names, texts(&["a", "b", "c"]), "an answer repeats what is wanted");
    assert_eq!(client.names(ENDPOINTS), ["a", "b", "c"], "what is absent has not changed");

    tell(&mut stream, sotw(CLUSTER, "4", &all[1..])).await;
    let asked = stream.next().await;
    assert_eq!((asked.resource_names, &*asked.response_nonce), (texts(&["b", "c"]), "3"));
    client.has(ENDPOINTS, &["b", "c"]).await;

    let error = |name: &str, code: i32| ResourceError {
        resource_name: Some(ResourceName { name: name.into() }),
        error_detail: Some(meshbus_proto::google::Status { code, message: "no".into(), details: vec![] }),
    };
    // 5 is NOT_FOUND, 14 UNAVAILABLE.
    let resource_errors = vec![error("b", 5), error("c", 14)];
    tell(&mut stream, DiscoveryResponse { resource_errors, ..sotw(ENDPOINTS, "5", &[]) }).await;
    assert_eq!(client.names(ENDPOINTS), ["c"]);
    client.end().await;
}
