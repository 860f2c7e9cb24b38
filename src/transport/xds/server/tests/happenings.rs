//! What happens to connections, and how clients stand, as clients of the protocol ask for it.

use bytes::Bytes;
use meshbus_proto::status::{
    ClientConfig, ClientResourceStatus, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
    NodeMatcher, StringMatcher, StringPattern,
};
use meshbus_proto::xds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
};
use prost::Message;
use serde_json::Value;

use crate::core::access::{Access, Action, Rule};
use crate::core::selector::TopicFilter;
use crate::transport::xds::server::testing::*;

const CONNECT: &str = "istio.io/connect";
const DISCONNECT: &str = "istio.io/disconnect";
const NACK: &str = "istio.io/nack";
const CONNECTIONS: &str = "istio.io/connections";
const STATUS: &str = "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus";

const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

type Statuses = Driver<ClientStatusRequest, ClientStatusResponse>;

fn named(id: &str, type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest { node: Some(Node { id: id.into(), ..node() }), ..request(type_url, names) }
}

/// A stream of another node, which is connected.
async fn another(served: &Served, id: &str) -> Sotw {
    let mut stream = served.sotw().await;
    stream.send(named(id, CLUSTER, &[])).await;
    stream.next().await;
    stream
}

fn node_of(value: &Bytes) -> String {
    Node::decode(value.clone()).unwrap().id
}

fn nodes(response: &DiscoveryResponse) -> Vec<String> {
    response.resources.iter().map(|any| node_of(&any.value)).collect()
}

fn delta_nodes(response: &DeltaDiscoveryResponse) -> Vec<String> {
    let body = |resource: &meshbus_proto::xds::Resource| resource.resource.clone().unwrap();
    response.resources.iter().map(|resource| node_of(&body(resource).value)).collect()
}

#[tokio::test]
async fn row_33_who_connects_and_disconnects_is_told_with_what_was_before() {
    let served = serve("connection_interval: 1ms").await;
    let early = another(&served, "early").await;
    let mut stream = served.sotw().await;
    stream.send(named("tool", CONNECT, &[])).await;
    let first = stream.next().await;
    assert_eq!(nodes(&first), ["early", "tool"]);
    assert_eq!(first.resources[0].type_url, "type.googleapis.com/envoy.config.core.v3.Node");
    stream.answer(&first, &[], None).await;
    stream.send(named("tool", DISCONNECT, &[])).await;
    assert_eq!(nodes(&stream.next().await), [""; 0]);
    let late = another(&served, "late").await;
    let second = stream.next().await;
    assert_eq!((&*second.type_url, nodes(&second)), (CONNECT, vec!["late".to_owned()]));
    drop(early);
    let gone = stream.next().await;
    assert_eq!((&*gone.type_url, nodes(&gone)), (DISCONNECT, vec!["early".to_owned()]));
    // Who comes again is told what came since.
    let mut again = served.sotw().await;
    let since = DiscoveryRequest { version_info: first.version_info, ..named("again", CONNECT, &[]) };
    again.send(since).await;
    assert_eq!(nodes(&again.next().await), ["late", "again"]);
    drop(late);
    served.end().await;
}

#[tokio::test]
async fn row_33_events_are_resumed_by_their_number_in_the_incremental_variant() {
    let served = serve("connection_interval: 1ms").await;
    let _early = another(&served, "early").await;
    let mut stream = served.delta().await;
    stream.ask(CONNECT, &["*"], &[]).await;
    let first = stream.next().await;
    assert_eq!(delta_nodes(&first), ["early", "n1"]);
    assert_eq!(first.resources[1].version, first.system_version_info);
    assert_eq!(first.resources[1].name, first.resources[1].version);
    drop(stream);
    let _late = another(&served, "late").await;
    let mut stream = served.delta().await;
    stream.resume(CONNECT, &["*"], &[("*", &first.system_version_info)]).await;
    assert_eq!(delta_nodes(&stream.next().await), ["late", "n1"]);
    served.end().await;
}

#[tokio::test]
async fn row_33_a_refusal_is_told_as_the_request_that_it_was() {
    let served = serve("").await;
    served.put(CLUSTER, "bad", "1").await;
    let mut stream = served.sotw().await;
    stream.send(named("n", CLUSTER, &[])).await;
    let response = stream.next().await;
    stream.answer(&response, &[], Some("bad: no such thing")).await;
    stream.is_silent(&served).await;
    let mut tool = served.sotw().await;
    tool.send(named("tool", NACK, &[])).await;
    let told = tool.next().await;
    let [any] = &told.resources[..] else { panic!("one refusal: {told:?}") };
    let refused = DiscoveryRequest::decode(any.value.clone()).unwrap();
    assert_eq!((&*refused.type_url, &refused.resource_names[..]), (CLUSTER, &texts(&["bad"])[..]));
    assert_eq!((refused.node.unwrap().id, refused.response_nonce), ("n".into(), response.nonce));
    assert_eq!(refused.error_detail.unwrap().message, "bad: no such thing");
    // A refusal of a refusal is none, or there would be no end.
    tool.answer(&told, &[], Some("no")).await;
    tool.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_33_connections_are_a_collection_from_which_who_goes_is_removed() {
    let served = serve("connection_interval: 1ms").await;
    let other = another(&served, "other").await;
    let mut delta = served.delta().await;
    delta.ask(CONNECTIONS, &["*"], &[]).await;
    let first = delta.next().await;
    assert_eq!(delta_nodes(&first), ["other", "n1"]);
    let id = first.resources[0].name.clone();
    let mut sotw = served.sotw().await;
    sotw.send(named("sotw", CONNECTIONS, &[])).await;
    assert_eq!(nodes(&sotw.next().await), ["other", "n1", "sotw"]);
    assert_eq!(delta_nodes(&delta.next().await), ["sotw"]);
    drop(other);
    assert_eq!(said(&delta.next().await), (CONNECTIONS, vec![], vec![&*id]));
    assert_eq!(nodes(&sotw.next().await), ["n1", "sotw"]);
    served.end().await;
}

/// Asks for connections with the ids and versions of those that the client has.
fn has(versions: &[(&str, &str)], subscribe: &[&str]) -> DeltaDiscoveryRequest {
    let versions = versions.iter().map(|(id, version)| (id.to_string(), version.to_string()));
    DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: CONNECTIONS.into(),
        resource_names_subscribe: texts(subscribe),
        initial_resource_versions: versions.collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn row_33_who_knows_connections_is_told_the_difference() {
    let served = serve("connection_interval: 1ms").await;
    let _other = another(&served, "other").await;
    let mut stream = served.delta().await;
    stream.ask(CONNECTIONS, &["*"], &[]).await;
    let first = stream.next().await;
    let other = &first.resources[0];
    let mut second = served.delta().await;
    second.send(has(&[(&other.name, &other.version), ("gone", "7")], &["*"])).await;
    let told = second.next().await;
    assert_eq!(
        (delta_nodes(&told), &told.removed_resources[..]),
        (texts(&["n1", "n1"]), &texts(&["gone"])[..])
    );
    // From a position of before the server it is not known who has gone.
    let mut third = served.delta().await;
    third.send(has(&[("*", "7")], &["*"])).await;
    let refused = third.next().await;
    assert_eq!(refused.resource_errors[0].error_detail.as_ref().unwrap().code, 11, "{refused:?}");
    third.answer(&refused, None).await;
    third.send(has(&[(&other.name, &other.version), ("gone", "7")], &["*"])).await;
    let told = third.next().await;
    assert_eq!((delta_nodes(&told).len(), &told.removed_resources[..]), (3, &texts(&["gone"])[..]));
    served.end().await;
}

#[tokio::test]
async fn row_33_who_asks_for_more_connections_hears_of_all_that_have_gone() {
    // What happens after the first change is told only when it is asked for.
    let served = serve("connection_interval: 1h").await;
    let (other, another_one) = (another(&served, "other").await, another(&served, "one").await);
    let mut stream = served.delta().await;
    stream.ask(CONNECTIONS, &["*"], &[]).await;
    let first = stream.next().await;
    let id = &first.resources[0].name;
    let _late = another(&served, "late").await;
    assert_eq!(delta_nodes(&stream.next().await), ["late"]);
    drop(other);
    served.connected(3).await;
    stream.ask(CONNECTIONS, &["none"], &[]).await;
    let told = stream.next().await;
    assert_eq!(said(&told).2, [&**id, "none"]);
    drop(another_one);
    served.end().await;
}

#[tokio::test]
async fn row_33_connections_are_told_also_to_who_missed_more_ends_than_are_kept() {
    let served = serve("connection_interval: 1s").await;
    let other = another(&served, "other").await;
    let mut stream = served.delta().await;
    stream.ask(CONNECTIONS, &["*"], &[]).await;
    let id = stream.next().await.resources[0].name.clone();
    let channel = served.channel().await;
    let come_and_go = async || {
        let mut stream = Sotw::open(channel.clone(), ADS).await.unwrap();
        stream.send(named("short", CLUSTER, &[])).await;
        stream.next().await;
    };
    come_and_go().await;
    stream.next().await;
    drop(other);
    for _ in 0..1001 {
        come_and_go().await;
    }
    served.connected(1).await;
    let mut gone = Vec::new();
    while !gone.contains(&id) {
        gone.extend(stream.next().await.removed_resources);
    }
    // It goes on, whatever else is still told of those who came late.
    stream.ask(CLUSTER, &["none"], &[]).await;
    while stream.next().await.type_url != CLUSTER {}
    served.end().await;
}

#[tokio::test]
async fn who_may_follow_connections_no_more_is_told_no_more() {
    let served = serve("connection_interval: 1ms").await;
    let rule = |topic| Rule {
        principal: "reader".into(),
        token: Some("reader".into()),
        allow: vec![Action::Subscribe],
        topics: vec![TopicFilter::parse(topic).unwrap()],
    };
    served.bus.set_access(Access::new(vec![rule("#")]));
    let open = async || Sotw::open_as(served.channel().await, ADS, "reader").await.unwrap();
    let mut stream = open().await;
    stream.send(named("tool", CONNECT, &[])).await;
    assert_eq!(nodes(&stream.next().await), ["tool"]);
    served.bus.set_access(Access::new(vec![rule("xds/#")]));
    let mut late = open().await;
    late.send(named("late", CLUSTER, &[])).await;
    late.next().await;
    let told = stream.next().await;
    assert_eq!((nodes(&told).len(), told.resource_errors.len()), (0, 1), "{told:?}");
    served.end().await;
}

#[tokio::test]
async fn row_33_debug_types_are_answered_once() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "").await;
    let mut stream = served.sotw().await;
    stream.send(named("proxy", CLUSTER, &["a", "b"])).await;
    let response = stream.next().await;
    let mut tool = served.sotw().await;
    let mut ask = async |name: &str| -> Value {
        tool.send(named("tool", "istio.io/debug", &[name])).await;
        let response = tool.next().await;
        assert_eq!((&*response.type_url, response.resources.len()), ("istio.io/debug", 1), "{response:?}");
        assert_eq!(response.resources[0].type_url, "istio.io/debug");
        tool.answer(&response, &[name], None).await;
        serde_json::from_slice(&response.resources[0].value).unwrap()
    };
    let connections = ask("connections").await;
    assert_eq!(connections["totalClients"], 2);
    assert_eq!(
        (&connections["clients"][0]["node"], &connections["clients"][0]["watches"]),
        (&"proxy".into(), &serde_json::json!([CLUSTER]))
    );
    let sync = ask("syncz").await;
    assert_eq!((&sync[0]["cluster_sent"], &sync[0]["cluster_acked"]), (&response.nonce.into(), &"".into()));
    let dump = ask("config_dump?proxyID=proxy").await;
    assert_eq!(
        (&dump["configs"][0]["name"], &dump["configs"][0]["typeUrl"]),
        (&"a".into(), &CLUSTER.into())
    );
    assert!(ask("list").await.as_array().is_some_and(|names| names.len() == 4));
    for names in [&[][..], &["syncz", "list"], &["other"], &["config_dump?proxyID=nobody"]] {
        tool.send(named("tool", "istio.io/debug", names)).await;
        let refused = tool.next().await;
        assert_eq!((refused.resources.len(), refused.resource_errors.len()), (0, 1), "{names:?}");
    }
    tool.send(named("tool", "istio.io/debug/syncz", &[])).await;
    let told = tool.next().await;
    let configs: Vec<ClientConfig> =
        told.resources.iter().map(|any| ClientConfig::decode(any.value.clone()).unwrap()).collect();
    assert_eq!(configs[0].node.as_ref().unwrap().id, "proxy");
    assert_eq!(configs[0].generic_xds_configs[0].config_status(), ConfigStatus::Stale);
    tool.is_silent(&served).await;
    served.end().await;
}

async fn statuses(stream: &mut Statuses, matched: &str) -> Vec<ClientConfig> {
    let pattern = Some(StringPattern::Prefix(matched.into()));
    let node_id = Some(StringMatcher { pattern, ignore_case: false });
    let node_matchers = vec![NodeMatcher { node_id, node_metadatas: vec![] }];
    stream.send(ClientStatusRequest { node_matchers, ..ClientStatusRequest::default() }).await;
    stream.next().await.config
}

#[tokio::test]
async fn client_status_discovery_tells_how_each_client_stands_to_each_resource() {
    let served = serve("").await;
    served.put(CLUSTER, "good", "").await;
    served.put(CLUSTER, "bad", "").await;
    let mut proxy = served.sotw().await;
    proxy.send(named("proxy-1", CLUSTER, &["good", "bad", "none"])).await;
    let response = proxy.next().await;
    let mut stream = Statuses::open(served.channel().await, STATUS).await.unwrap();
    let shown = async |stream: &mut Statuses| -> Vec<(String, ConfigStatus, ClientResourceStatus)> {
        let configs = statuses(stream, "proxy").await;
        assert_eq!(configs.len(), 1);
        let mut all: Vec<_> = configs[0]
            .generic_xds_configs
            .iter()
            .filter(|config| config.type_url == CLUSTER)
            .map(|config| (config.name.clone(), config.config_status(), config.client_status()))
            .collect();
        all.sort();
        all
    };
    let none = ("none".to_owned(), ConfigStatus::NotSent, ClientResourceStatus::DoesNotExist);
    let of = |name: &str, config, client| (name.to_owned(), config, client);
    let (stale, asked) = (ConfigStatus::Stale, ClientResourceStatus::Requested);
    assert_eq!(shown(&mut stream).await, [of("bad", stale, asked), of("good", stale, asked), none.clone()]);
    proxy.answer(&response, &["good", "bad", "none"], Some("bad: no")).await;
    proxy.is_silent(&served).await;
    let refused = of("bad", ConfigStatus::Error, ClientResourceStatus::Nacked);
    assert_eq!(shown(&mut stream).await[0], refused);
    served.put(CLUSTER, "bad", "").await;
    let response = proxy.next().await;
    proxy.answer(&response, &["good", "bad", "none"], None).await;
    proxy.is_silent(&served).await;
    let (synced, acked) = (ConfigStatus::Synced, ClientResourceStatus::Acked);
    assert_eq!(shown(&mut stream).await[..2], [of("bad", synced, acked), of("good", synced, acked)]);
    assert!(statuses(&mut stream, "other").await.is_empty());
    served.end().await;
}

#[tokio::test]
async fn who_may_not_look_into_the_bus_is_told_nothing_of_its_clients() {
    let served = serve("").await;
    let rule = |principal: &'static str, allow| Rule {
        principal: principal.into(),
        token: Some(principal.into()),
        allow: vec![allow],
        topics: vec![TopicFilter::parse("bus/connections/#").unwrap()],
    };
    served
        .bus
        .set_access(Access::new(vec![rule("reader", Action::Subscribe), rule("admin", Action::Admin)]));
    let refused = Statuses::open_as(served.channel().await, STATUS, "reader").await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(Statuses::open_as(served.channel().await, STATUS, "admin").await.is_ok());
    for (token, type_url, may) in [
        ("reader", "istio.io/debug", false),
        ("admin", "istio.io/debug", true),
        ("reader", CONNECT, true),
        ("admin", CONNECT, false),
    ] {
        let mut stream = Sotw::open_as(served.channel().await, ADS, token).await.unwrap();
        stream.send(named("tool", type_url, &["list"])).await;
        let told = stream.next().await;
        assert_eq!(told.resource_errors.is_empty(), may, "{token} {type_url}: {told:?}");
    }
    served.end().await;
}
