//! The client at control planes of istio: objects by MCP over XDS, and who is connected, which is polled.

use std::time::Duration;

use meshbus_proto::google::Any;
use meshbus_proto::mcp::{Metadata, Resource};
use meshbus_proto::xds::{DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Status;

use super::super::testing::{CLUSTER, Driven, SCOPE, Server, Sotw, named, soon, sotw};
use super::own::{Source, put};
use crate::core::state::Held;
use crate::schema::own::CONNECTION;
use crate::schema::protobuf::Descriptors;
use crate::transport::xds::codec::debug::DEBUG;
use crate::transport::xds::codec::mcp;

type SotwServer = Server<DiscoveryRequest, DiscoveryResponse>;

const GATEWAY: &str = "networking.istio.io/v1/Gateway";
const API: &str = "mode: sotw\nnode: {metadata: {GENERATOR: api}}\n";

fn gateway(name: &str, value: u8) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"servers": [{"port": value, "ratio": 0.5, "name": null}]},
    })
}

/// What the client's table has of a type, by name.
fn table(client: &Driven, type_url: &str) -> Vec<(String, Value)> {
    let snapshot = client.bus.snapshot();
    let range = snapshot.range(Some(SCOPE), Some(type_url), None).map(Held::record);
    let entry = |record: std::sync::Arc<crate::core::Record>| {
        let name = record.envelope.change.key().unwrap().name.to_string();
        (name, serde_json::from_slice(&record.envelope.data).unwrap())
    };
    range.map(entry).collect()
}

#[tokio::test]
async fn objects_that_a_bus_tells_by_mcp_are_the_same_objects_again() {
    let source = Source::serve(Source::bus(), "127.0.0.1:0", "").await;
    put(&source.bus, GATEWAY, "shop/a", gateway("a", 1).to_string().into()).await;
    let mut client = Driven::new(source.address, &format!("{API}subscribe: [{{type: {GATEWAY}}}]"));
    client.run();
    client.is_ready().await;
    let mut held = table(&client, GATEWAY);
    let (name, object) = &mut held[0];
    let version = object["metadata"].as_object_mut().unwrap().remove("resourceVersion").unwrap();
    assert_eq!((&**name, &*object), ("shop/a", &gateway("a", 1)));
    // The version that the server has it under, which is that of the key here.
    assert_eq!(client.table(GATEWAY), [("shop/a".to_owned(), version.as_str().unwrap().to_owned())]);
    put(&source.bus, GATEWAY, "shop/b", gateway("b", 1).to_string().into()).await;
    client.has(GATEWAY, &["shop/a", "shop/b"]).await;
    drop(client.changes().await);

    // A server that is back changes nothing by telling the same.
    let address = source.address.to_string();
    let bus = source.end().await;
    client.ended().await.unwrap_err();
    put(&bus, GATEWAY, "shop/b", gateway("b", 2).to_string().into()).await;
    let source = Source::serve(bus, &address, "").await;
    client.run();
    soon(async {
        while table(&client, GATEWAY)[1].1["spec"] != gateway("b", 2)["spec"] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(client.changes().await, ["+shop/b"]);
    client.end().await;
    source.end().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_is_refused_by_name_and_stays_as_it_was() {
    let mut server = SotwServer::start().await;
    let mut client = Driven::new(server.address, &format!("{API}subscribe: [{{type: {GATEWAY}}}]"));
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    let message = |name: &str, version: &str| {
        let data = gateway("x", 1).to_string();
        mcp::resource(&Descriptors::default(), (GATEWAY, name, version), data.as_bytes()).unwrap()
    };
    let told = |nonce: &str, messages: Vec<Vec<u8>>| {
        let any = |value: Vec<u8>| Any { type_url: mcp::RESOURCE.into(), value: value.into() };
        let resources = messages.into_iter().map(any).collect();
        DiscoveryResponse { resources, ..sotw(GATEWAY, nonce, &[]) }
    };
    stream.send(told("1", vec![message("shop/a", "1"), message("shop/b", "1")])).await;
    assert_eq!(stream.next().await.error_detail, None);
    let metadata = Some(Metadata { name: "shop/b".into(), ..Metadata::default() });
    let body = "type.googleapis.com/google.protobuf.Struct".to_owned();
    let body = Some(Any { type_url: body, value: b"\x0a\x7f".to_vec().into() });
    let cut = Resource { metadata, body }.encode_to_vec();
    stream.send(told("2", vec![message("shop/a", "2"), cut, message("stray", "1")])).await;
    let refused = stream.next().await.error_detail.unwrap().message;
    assert!(refused.contains("shop/b: its body cannot be decoded as"), "{refused}");
    assert!(refused.contains("stray: is no name of an object"), "{refused}");
    let version = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    assert_eq!(client.table(GATEWAY), [version("shop/a", "2"), version("shop/b", "1")]);
    stream.send(told("3", vec![message("shop/a", "2")])).await;
    client.has(GATEWAY, &["shop/a"]).await;
    client.end().await;
}

#[tokio::test]
async fn who_is_connected_to_a_bus_is_known_until_it_leaves() {
    let source = Source::serve(Source::bus(), "127.0.0.1:0", "").await;
    let settings = |node: &str| format!("node: {{id: {node}}}\nsubscribe: [{{type: cds}}]\n");
    for mode in ["mode: delta\n", "mode: sotw\n"] {
        let mut client = Driven::new(source.address, &format!("{mode}{}poll_debug: 1s", settings("asks")));
        let mut other = Driven::new(source.address, &settings("other"));
        let nodes = |client: &Driven| -> Vec<String> {
            let connections = table(client, CONNECTION).into_iter();
            let mut nodes: Vec<_> =
                connections.map(|(_, it)| it["spec"]["node"].as_str().unwrap().to_owned()).collect();
            nodes.sort_unstable();
            nodes
        };
        let sees = async |client: &Driven, expected: &[&str]| {
            soon(async {
                while nodes(client) != expected {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        };
        client.run();
        other.run();
        // Its own streams are two: one follows, one asks.
        sees(&client, &["asks", "asks", "other"]).await;
        let (id, connection) =
            table(&client, CONNECTION).into_iter().find(|(_, it)| it["spec"]["node"] == "other").unwrap();
        assert_eq!(connection["spec"]["connector"], SCOPE, "{connection}");
        assert_eq!(connection["status"]["types"], json!([{"type": CLUSTER}]), "{connection}");
        other.end().await;
        sees(&client, &["asks", "asks"]).await;
        assert_eq!(client.changes().await.last().unwrap(), &format!("-{id} inferred"));
        assert!(client.stats.following.listed.get() >= 3, "each answer counts, and all there is");
        client.end().await;
    }
    source.end().await;
}

/// The stream that follows, and the one that asks, with its first request taken.
async fn both(server: &mut SotwServer) -> (Sotw, Sotw, DiscoveryRequest) {
    let (mut one, mut two) = (server.accept().await, server.accept().await);
    let (first, second) = (one.next().await, two.next().await);
    if first.type_url == DEBUG { (two, one, first) } else { (one, two, second) }
}

fn told(ids: &[&str]) -> DiscoveryResponse {
    let clients: Vec<_> = ids.iter().map(|id| json!({"connectionId": id})).collect();
    let body = json!({"totalClients": ids.len(), "clients": clients}).to_string();
    sotw(DEBUG, "1", &[body.as_bytes()])
}

#[tokio::test]
async fn connections_are_put_and_deleted_by_difference_and_stay_where_no_answer_comes() {
    let mut server = SotwServer::start().await;
    let settings = "mode: sotw\npoll_debug: 1s\nsubscribe: [{type: cds}]";
    let mut client = Driven::new(server.address, settings);
    client.run();
    let (follows, mut asks, first) = both(&mut server).await;
    assert_eq!(
        (first.resource_names, first.node.unwrap().client_features),
        (vec!["connections".to_owned()], vec![])
    );
    follows.send(sotw(CLUSTER, "1", &[&named("a", 1)])).await;
    client.is_ready().await;
    asks.send(told(&["web.shop-1", "web.shop-2"])).await;
    client.has(CONNECTION, &["web.shop-1", "web.shop-2"]).await;
    // Its answer is not answered, which would ask again at once: the next request is the next turn's.
    let next = asks.next().await;
    assert_eq!((next.node, &*next.response_nonce, next.error_detail), (None, "", None));
    drop(client.changes().await);
    asks.send(told(&["web.shop-2", "web.shop-3"])).await;
    client.has(CONNECTION, &["web.shop-2", "web.shop-3"]).await;
    assert_eq!(client.changes().await, ["+web.shop-3", "-web.shop-1 inferred"]);

    // What is no answer changes nothing, and is asked for again on another stream.
    asks.next().await;
    asks.send(sotw(DEBUG, "2", &[b"404 page not found"])).await;
    let mut again = server.accept().await;
    assert_eq!(again.next().await.type_url, DEBUG);
    again.fail(Status::permission_denied("the debug info is not available for current identity")).await;
    let mut again = server.accept().await;
    assert!(again.next().await.node.is_some());
    assert_eq!(client.stats.following.gaps.get(), 2);
    assert_eq!(client.changes().await, [""; 0]);

    // Nor does the end of the connection.
    follows.fail(Status::unavailable("ends")).await;
    client.ended().await.unwrap_err();
    client.run();
    let (_follows, asks, _) = both(&mut server).await;
    assert_eq!(client.changes().await, [""; 0]);
    asks.send(told(&[])).await;
    client.has(CONNECTION, &[]).await;
    client.end().await;
}

#[tokio::test]
async fn what_was_polled_goes_where_nobody_polls_any_more() {
    let mut server = SotwServer::start().await;
    let mut client = Driven::new(server.address, "mode: sotw\npoll_debug: 1s\nsubscribe: [{type: cds}]");
    client.run();
    let (follows, asks, _) = both(&mut server).await;
    asks.send(told(&["web.shop-1"])).await;
    client.has(CONNECTION, &["web.shop-1"]).await;
    follows.fail(Status::unavailable("ends")).await;
    client.ended().await.unwrap_err();
    client.configure(server.address, "mode: sotw\nsubscribe: [{type: cds}]");
    client.run();
    client.has(CONNECTION, &[]).await;
    let mut alone = server.accept().await;
    assert_eq!(alone.next().await.type_url, CLUSTER);
    assert!(timeout(Duration::from_millis(50), server.accept()).await.is_err(), "a second stream");
    client.end().await;
}
