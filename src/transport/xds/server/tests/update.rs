//! The Update service: each write has a result of its own, and goes to who owns its key.

use std::collections::HashMap;

use meshbus_proto::google::Any;
use meshbus_proto::meshbus::{UpdateRequest, UpdateResponse};
use meshbus_proto::xds::Resource;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::core::access::{Access, Action, Rule};
use crate::core::selector::TopicFilter;
use crate::core::write::{Confirmed, Operation, Precondition};
use crate::core::{Envelope, Key, Refused};
use crate::runtime::task;
use crate::schema::address;
use crate::transport::xds::codec::status::Code;
use crate::transport::xds::server::testing::*;

type Updates = Driver<UpdateRequest, UpdateResponse>;

const STREAM: &str = "/meshbus.xds.v1.UpdateService/StreamUpdates";
const POD: &str = "core/v1/Pod";

async fn updates(served: &Served) -> Updates {
    Driver::open(served.channel().await, STREAM).await.unwrap()
}

fn resource(type_url: &str, name: &str, value: &str) -> Resource {
    let body = Any { type_url: type_url.into(), value: value.as_bytes().to_vec().into() };
    Resource { name: name.into(), resource: Some(body), ..Resource::default() }
}

fn put(type_url: &str, resources: &[(&str, &str)], expected: &[(&str, &str)]) -> UpdateRequest {
    UpdateRequest {
        node: Some(node()),
        type_url: type_url.into(),
        resources: resources.iter().map(|(name, value)| resource(type_url, name, value)).collect(),
        expected_versions: map(expected),
        nonce: "1".into(),
        ..UpdateRequest::default()
    }
}

fn remove(type_url: &str, names: &[&str], expected: &[(&str, &str)]) -> UpdateRequest {
    UpdateRequest { removed_resources: texts(names), ..put(type_url, &[], expected) }
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
}

/// Names with their codes.
fn codes(response: &UpdateResponse) -> Vec<(&str, Code)> {
    let code = |status: &Option<meshbus_proto::google::Status>| Code::of(status.as_ref().unwrap().code);
    response.results.iter().map(|result| (&*result.name, code(&result.status))).collect()
}

async fn ask(updates: &mut Updates, request: UpdateRequest) -> UpdateResponse {
    updates.send(request).await;
    updates.next().await
}

#[tokio::test]
async fn what_is_written_is_told_to_those_who_follow_it() {
    let served = serve("").await;
    let (mut updates, mut follower) = (updates(&served).await, served.delta().await);
    follower.ask(CLUSTER, &["*"], &[]).await;
    follower.next().await;
    let response = ask(&mut updates, put(CLUSTER, &[("a", "")], &[])).await;
    assert_eq!((&*response.nonce, codes(&response)), ("1", vec![("a", Code::Ok)]));
    let told = follower.next().await;
    assert_eq!(said(&told), (CLUSTER, vec!["a"], vec![]));
    assert_eq!(told.resources[0].version, response.results[0].version);
    let removed = ask(&mut updates, remove(CLUSTER, &["a", "never"], &[])).await;
    assert_eq!(codes(&removed), [("a", Code::Ok), ("never", Code::NotFound)]);
    assert_eq!(said(&follower.next().await), (CLUSTER, vec![], vec!["a"]));
    served.end().await;
}

#[tokio::test]
async fn what_is_expected_must_hold_when_it_is_written() {
    let served = serve("").await;
    let mut updates = updates(&served).await;
    let first = served.put(CLUSTER, "a", "").await;
    let taken = ask(&mut updates, put(CLUSTER, &[("a", ""), ("b", "")], &[("a", ""), ("b", "")])).await;
    assert_eq!(codes(&taken), [("a", Code::AlreadyExists), ("b", Code::Ok)]);
    assert_eq!(taken.results[0].version, first, "what stands against it is told");
    let second = ask(&mut updates, put(CLUSTER, &[("a", "")], &[("a", &first)])).await;
    assert_eq!(codes(&second), [("a", Code::Ok)]);
    for request in [put(CLUSTER, &[("a", "")], &[("a", &first)]), remove(CLUSTER, &["a"], &[("a", &first)])]
    {
        let late = ask(&mut updates, request).await;
        assert_eq!(codes(&late), [("a", Code::Aborted)]);
        assert_eq!(late.results[0].version, second.results[0].version);
    }
    let gone = ask(&mut updates, put(CLUSTER, &[("never", "")], &[("never", "7")])).await;
    assert_eq!(codes(&gone), [("never", Code::NotFound)]);
    served.end().await;
}

#[cfg(feature = "envoy")]
#[tokio::test]
async fn a_refused_resource_ends_no_stream_and_stops_no_other() {
    let served = serve("").await;
    let mut updates = updates(&served).await;
    let mut request = put(CLUSTER, &[("good", ""), ("bad", "not a message"), ("good", ""), ("", "")], &[]);
    request.resources.push(Resource { name: "empty".into(), ..Resource::default() });
    request.resources.push(resource(LISTENER, "other", ""));
    request.expected_versions = map(&[("idle", "1")]);
    let response = ask(&mut updates, request).await;
    let expected = [
        ("good", Code::Ok),
        ("bad", Code::InvalidArgument),
        ("good", Code::InvalidArgument),
        ("", Code::InvalidArgument),
        ("empty", Code::InvalidArgument),
        ("other", Code::InvalidArgument),
        ("idle", Code::InvalidArgument),
    ];
    assert_eq!(codes(&response), expected);
    let nameless = ask(&mut updates, put("", &[("a", "")], &[])).await;
    assert_eq!(codes(&nameless), [("a", Code::InvalidArgument)]);
    assert_eq!(codes(&ask(&mut updates, put(CLUSTER, &[("a", "")], &[])).await), [("a", Code::Ok)]);
    served.end().await;
}

#[tokio::test]
async fn a_dry_run_checks_and_writes_nothing() {
    let served = serve("").await;
    let mut updates = updates(&served).await;
    let before = served.bus.snapshot().seq();
    let request = UpdateRequest { dry_run: true, ..put(CLUSTER, &[("a", "")], &[]) };
    assert_eq!(codes(&ask(&mut updates, request).await), [("a", Code::Ok)]);
    let request = UpdateRequest { dry_run: true, ..put(CLUSTER, &[("a", "")], &[("a", "7")]) };
    assert_eq!(codes(&ask(&mut updates, request).await), [("a", Code::NotFound)]);
    assert_eq!(served.bus.snapshot().seq(), before);
    served.end().await;
}

#[tokio::test]
async fn an_object_of_kubernetes_is_its_json() {
    let served = serve("").await;
    let mut updates = updates(&served).await;
    let response =
        ask(&mut updates, put(POD, &[("shop/web", "{}"), ("shop/bad", "k8s\0"), ("none", "{}")], &[]))
            .await;
    let expected =
        [("shop/web", Code::Ok), ("shop/bad", Code::InvalidArgument), ("none", Code::InvalidArgument)];
    assert_eq!(codes(&response), expected);
    let record = served.bus.get(&Key::new(Key::LOCAL, POD, "shop/web")).unwrap();
    assert_eq!(record.envelope.datacontenttype.as_deref(), Some("application/json"));
    served.end().await;
}

#[tokio::test]
async fn a_write_goes_to_the_connector_that_owns_the_key() {
    let served = serve("default_scope: east").await;
    let mut writes = served.bus.own("east".into(), "kube".into(), true);
    let source = served.bus.ingress("kube", "east");
    let owner = task::spawn("owner", async move {
        let write = writes.recv().await.unwrap();
        assert_eq!(write.precondition, Precondition::Version("41".into()));
        assert_eq!(write.parameters, [("fieldManager".into(), "us".into())]);
        let Operation::Put(envelope) = &write.operation else { panic!("a put") };
        let put = Envelope::put(envelope.topic.clone(), write.key.clone(), "42", envelope.data.clone());
        source.publish(vec![put]).await;
        drop(write.answer.send(Ok(Confirmed::from(crate::core::Version::from("42")))));
        let write = writes.recv().await.unwrap();
        let refused = Refused::Owner {
            owner: "kube".into(),
            reason: "Invalid".into(),
            message: "spec: no".into(),
            status: 422,
            body: bytes::Bytes::new(),
        };
        drop(write.answer.send(Err(refused)));
    });
    let mut updates = updates(&served).await;
    let request = UpdateRequest {
        field_manager: "us".into(),
        ..put(POD, &[("shop/web", "{}")], &[("shop/web", "41")])
    };
    let response = ask(&mut updates, request).await;
    assert_eq!(codes(&response), [("shop/web", Code::Ok)]);
    assert_eq!(response.results[0].version, "42");
    let refused = ask(&mut updates, put(POD, &[("shop/web", "{}")], &[])).await;
    assert_eq!(codes(&refused), [("shop/web", Code::InvalidArgument)]);
    assert!(refused.results[0].status.as_ref().unwrap().message.contains("spec: no"), "{refused:?}");
    soon(owner).await.unwrap();
    drop(served.bus.own("east".into(), "kube".into(), false));
    let refused = ask(&mut updates, put(POD, &[("shop/web", "{}")], &[])).await;
    assert_eq!(codes(&refused), [("shop/web", Code::FailedPrecondition)]);
    assert!(refused.results[0].status.as_ref().unwrap().message.contains("kube"), "{refused:?}");
    served.end().await;
}

#[tokio::test]
async fn a_request_takes_of_the_memory_for_requests_until_it_is_answered() {
    let served = serve("default_scope: east\nmax_request: 1MiB\nmax_buffered: 1MiB").await;
    let mut writes = served.bus.own("east".into(), "kube".into(), true);
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(700_000));
    let (mut first, mut second, mut third) =
        (updates(&served).await, updates(&served).await, updates(&served).await);
    first.send(put(POD, &[("shop/first", &long)], &[])).await;
    let write = soon(writes.recv()).await.unwrap();
    second.send(put(POD, &[("shop/second", &long)], &[])).await;
    third.send(put(POD, &[("shop/short", "{}")], &[])).await;
    assert_eq!(&*soon(writes.recv()).await.unwrap().key.name, "shop/short");
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), writes.recv()).await;
    assert!(early.is_err(), "there is no room for the second: {early:?}");
    let refused = Refused::NotFound;
    drop(write.answer.send(Err(refused)));
    assert_eq!(codes(&first.next().await), [("shop/first", Code::NotFound)]);
    assert_eq!(&*soon(writes.recv()).await.unwrap().key.name, "shop/second");
    served.end().await;
}

#[tokio::test]
async fn who_may_not_write_a_topic_is_told_so_of_that_resource_alone() {
    let served = serve("").await;
    let topic = address::topic_of(&Key::new(Key::LOCAL, CLUSTER, "mine")).unwrap();
    let rule = Rule {
        principal: "ci".into(),
        token: Some("secret".into()),
        allow: vec![Action::Write],
        topics: vec![TopicFilter::parse(topic.as_str()).unwrap()],
    };
    served.bus.set_access(Access::new(vec![rule]));
    let refused = Updates::open(served.channel().await, STREAM).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut updates = Updates::open_as(served.channel().await, STREAM, "secret").await.unwrap();
    let response = ask(&mut updates, put(CLUSTER, &[("mine", ""), ("other", "")], &[])).await;
    assert_eq!(codes(&response), [("mine", Code::Ok), ("other", Code::PermissionDenied)]);
    served.end().await;
}

#[tokio::test]
async fn one_request_is_a_call_of_its_own() {
    let served = serve("").await;
    let mut client = Grpc::new(served.channel().await);
    soon(client.ready()).await.unwrap();
    let path = "/meshbus.xds.v1.UpdateService/Update".parse().unwrap();
    let codec = ProstCodec::<UpdateRequest, UpdateResponse>::default();
    let request = tonic::Request::new(put(CLUSTER, &[("a", "")], &[]));
    let response = soon(client.unary(request, path, codec)).await.unwrap().into_inner();
    assert_eq!((&*response.nonce, codes(&response)), ("1", vec![("a", Code::Ok)]));
    served.end().await;
}

#[cfg(feature = "envoy")]
#[test]
fn the_messages_are_those_of_the_proto_file() {
    use prost::Message;
    use serde_json::json;

    let descriptors = crate::schema::protobuf::Descriptors::built_in();
    let mut request = put("a/b/C", &[("n", "x")], &[("n", "7")]);
    request.removed_resources = texts(&["gone"]);
    request.field_manager = "us".into();
    request.dry_run = true;
    request.node = None;
    request.resources[0].resource.as_mut().unwrap().type_url = String::new();
    let shown = descriptors.show("x/meshbus.xds.v1.UpdateRequest", &request.encode_to_vec()).json;
    assert_eq!(
        (&shown["typeUrl"], &shown["resources"][0]["name"], &shown["removedResources"]),
        (&json!("a/b/C"), &json!("n"), &json!(["gone"]))
    );
    assert_eq!(
        (&shown["expectedVersions"], &shown["fieldManager"], &shown["dryRun"], &shown["nonce"]),
        (&json!({"n": "7"}), &json!("us"), &json!(true), &json!("1"))
    );
    let status = Some(meshbus_proto::google::Status { code: 10, message: "m".into(), details: vec![] });
    let result = meshbus_proto::meshbus::UpdateResult { name: "n".into(), version: "8".into(), status };
    let response = UpdateResponse { nonce: "1".into(), results: vec![result] };
    let shown = descriptors.show("x/meshbus.xds.v1.UpdateResponse", &response.encode_to_vec()).json;
    let expected = json!({
        "nonce": "1",
        "results": [{"name": "n", "version": "8", "status": {"code": 10, "message": "m"}}],
    });
    assert_eq!(shown, expected);
}
