//! Servers that break the protocol, send what is none of it, or nothing at all.

use std::time::Duration;

use meshbus_proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::Status;

use super::super::testing::{
    CLUSTER, Delta, Driven, ENDPOINTS, LISTENER, Server, delta, named, resource, soon,
};
use crate::core::ErrorKind;
use crate::core::state::StateBound;

type DeltaServer = Server<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

const CLUSTERS: &str = "subscribe: [{type: cds}]";

async fn start(settings: &str) -> (DeltaServer, Driven, Delta) {
    let mut server = DeltaServer::start().await;
    let mut client = Driven::new(server.address, settings);
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    (server, client, stream)
}

fn cluster(name: &str, more: u8) -> Resource {
    resource(CLUSTER, name, "", named(name, more))
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name_and_the_rest_is_taken() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    let resources = vec![
        cluster("good", 1),
        cluster("twice", 1),
        cluster("twice", 2),
        resource(ENDPOINTS, "strange", "1", named("strange", 1)),
        resource(CLUSTER, "garbage", "1", vec![0xff, 0x01, 0x02]),
        resource(CLUSTER, "", "1", vec![]),
    ];
    let (answer, _) = stream.tell(delta(CLUSTER, "1", resources, &[])).await;
    let message = answer.error_detail.unwrap().message;
    for part in [
        "twice: comes more than once",
        "strange: is a type.googleapis.com/envoy.config.endpoint",
        "garbage: cannot be decoded",
        "a resource without a name: has no name",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("good"), "{message}");
    assert_eq!(client.names(CLUSTER), ["good"]);
    assert_eq!((client.stats.malformed.get(), client.stats.received.get()), (4, 1));
    // A bad version of what is there leaves it as it was.
    let bad = resource(CLUSTER, "good", "2", vec![0xff, 0x01, 0x02]);
    assert!(stream.tell(delta(CLUSTER, "2", vec![bad], &[])).await.0.error_detail.is_some());
    assert_eq!(client.names(CLUSTER), ["good"]);
    client.end().await;
}

#[tokio::test]
async fn a_type_that_was_not_asked_for_is_ignored() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    for nonce in ["1", "2"] {
        stream.send(delta(LISTENER, nonce, vec![resource(LISTENER, "l", "1", named("l", 1))], &[])).await;
        // Nobody may ask for endpoints before there is a cluster that has some.
        stream.send(delta(ENDPOINTS, nonce, vec![], &[])).await;
    }
    let (answer, before) = stream.tell(delta(CLUSTER, "3", vec![cluster("a", 1)], &[])).await;
    assert_eq!((answer.error_detail, before), (None, vec![]));
    assert!(client.names(LISTENER).is_empty());
    client.end().await;
}

#[tokio::test]
async fn a_response_without_a_nonce_is_taken_and_not_answered() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    stream.send(delta(CLUSTER, "", vec![cluster("a", 1)], &[])).await;
    let (_, before) = stream.tell(delta(CLUSTER, "1", vec![cluster("b", 1)], &[])).await;
    assert_eq!(before, []);
    assert_eq!(client.names(CLUSTER), ["a", "b"]);
    client.end().await;
}

#[tokio::test]
async fn a_server_that_sends_again_what_was_refused_is_slowed_down() {
    let (_server, client, mut stream) = start(CLUSTERS).await;
    let begin = Instant::now();
    for nonce in 1..=4 {
        let bad = resource(CLUSTER, "bad", "1", vec![0xff, 0x01, 0x02]);
        let (answer, _) = stream.tell(delta(CLUSTER, &nonce.to_string(), vec![bad], &[])).await;
        assert!(answer.error_detail.is_some());
    }
    // At once, then 100, 200 and 400 ms.
    assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
    stream.gives(CLUSTER, "5", vec![cluster("bad", 1)], &[]).await;
    client.end().await;
}

#[tokio::test]
async fn what_the_table_has_no_room_for_is_refused_by_name() {
    let mut server = DeltaServer::start().await;
    let state = StateBound { max_keys: 1, ..StateBound::default() };
    let settings = format!("urls: [\"http://{}\"]\n{CLUSTERS}", server.address);
    let mut client = Driven::with(state, &settings);
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    let resources = vec![cluster("a", 1), cluster("b", 1)];
    let (answer, _) = stream.tell(delta(CLUSTER, "1", resources, &[])).await;
    let message = answer.error_detail.unwrap().message;
    assert!(message.starts_with("b: not stored: full"), "{message}");
    assert_eq!(client.names(CLUSTER), ["a"]);
    client.end().await;
}

#[tokio::test]
async fn a_response_that_is_too_long_ends_the_stream_before_it_is_taken() {
    let (_server, mut client, stream) = start(&format!("{CLUSTERS}\nmax_response: 64KiB")).await;
    let long = resource(CLUSTER, "long", "1", vec![0; 128 << 10]);
    stream.send(delta(CLUSTER, "1", vec![long], &[])).await;
    let error = client.ended().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert!(error.to_string().contains("max_response"), "{error}");
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_with_its_status_and_leaves_the_state() {
    for (status, kind) in [
        (Status::unavailable("goes down"), ErrorKind::Disconnected),
        (Status::resource_exhausted("goes down"), ErrorKind::Disconnected),
        (Status::unimplemented("goes down"), ErrorKind::Protocol),
        (Status::ok("goes down"), ErrorKind::Disconnected),
    ] {
        let (_server, mut client, mut stream) = start(CLUSTERS).await;
        stream.gives(CLUSTER, "1", vec![cluster("a", 1)], &[]).await;
        let ok = status.code() == tonic::Code::Ok;
        if ok {
            drop(stream);
        } else {
            stream.fail(status).await;
        }
        let error = client.ended().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(ok || error.to_string().contains("goes down"), "{error}");
        assert_eq!(client.names(CLUSTER), ["a"]);
        assert!(!client.looks_ready());
    }
}

/// A server that sends these bytes to whoever connects, and then nothing.
async fn raw(bytes: &'static [u8]) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = crate::runtime::task::spawn("raw server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _broken = stream.write_all(bytes).await;
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_an_error() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[0xff; 64],
        // A frame of settings, then the end of all streams.
        b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let (address, server) = raw(bytes).await;
        let mut client = Driven::new(address, CLUSTERS);
        client.run();
        let error = client.ended().await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Disconnected | ErrorKind::Unreachable), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        server.abort();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_holds_up_no_end() {
    let (address, server) = raw(b"").await;
    let mut client = Driven::new(address, CLUSTERS);
    client.run();
    soon(async {
        while client.stats.connected.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(!client.looks_ready());
    client.end().await;
    server.abort();
}
