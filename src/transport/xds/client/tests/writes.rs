//! Writes of a client's resources: at this crate's own server, and at one that says whatever a test wants.

use meshbus_proto::meshbus::{UpdateResponse, UpdateResult};
use meshbus_proto::{google, xds};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::Status;

use super::super::testing::{
    CLUSTER, Delta, Driven, ENDPOINTS, SCOPE, Server, Update, named, resource, soon,
};
use super::own::{MODES, Source, put};
use crate::core::access::{Access, Action, Rule};
use crate::core::bus::Bus;
use crate::core::selector::TopicFilter;
use crate::core::write::{Operation, Precondition, Stored};
use crate::core::{Envelope, ErrorKind, Key, Refused};
use crate::runtime::task;
use crate::schema::address::topic_of;
use crate::transport::xds::codec::cluster::of_endpoints;

type DeltaServer = Server<xds::DeltaDiscoveryRequest, xds::DeltaDiscoveryResponse>;

const CLUSTERS: &str = "subscribe: [{type: cds}]";

fn key(type_url: &'static str, name: &str) -> Key {
    Key::new(SCOPE, type_url, name.to_owned())
}

fn to(key: &Key, data: Vec<u8>) -> Operation {
    Operation::Put(Box::new(Envelope::put(topic_of(key).unwrap(), key.clone(), "", data)))
}

async fn write(
    bus: &Bus,
    name: &str,
    data: Option<Vec<u8>>,
    holds: Precondition,
) -> Result<Stored, Refused> {
    let key = key(CLUSTER, name);
    let operation = data.map_or(Operation::Delete, |data| to(&key, data));
    soon(bus.write(key, operation, holds, false)).await
}

/// Status, reason and message of an owner's refusal.
fn refused(result: Result<Stored, Refused>) -> (u16, String, String) {
    match result.unwrap_err() {
        Refused::Owner { owner, status, reason, message, .. } => {
            assert_eq!(owner, SCOPE);
            (status, reason.to_string(), message.to_string())
        }
        other => panic!("{other}"),
    }
}

fn local(bus: &Bus, name: &str) -> Option<Vec<u8>> {
    bus.get(&Key::new(Key::LOCAL, CLUSTER, name.to_owned())).map(|record| record.envelope.data.to_vec())
}

#[tokio::test]
async fn a_write_goes_to_the_server_and_is_here_when_it_is_answered() {
    for mode in MODES {
        let source = Source::start("127.0.0.1:0").await;
        let mut client = Driven::new(source.address, &format!("{mode}{CLUSTERS}"));
        client.run();
        client.is_ready().await;
        let made = write(&client.bus, "a", Some(named("a", 1)), Precondition::Absent).await.unwrap();
        assert!(made.created, "{mode}");
        assert_eq!(client.table(CLUSTER), [("a".to_owned(), made.version.to_string())], "{mode}");
        assert_eq!(local(&source.bus, "a"), Some(named("a", 1)));
        // The same bytes are no change here, where the server gives them another version.
        let same = write(&client.bus, "a", Some(named("a", 1)), Precondition::Any).await.unwrap();
        assert_eq!(client.table(CLUSTER), [("a".to_owned(), same.version.to_string())], "{mode}");
        let holds = Precondition::Version(same.version.clone());
        let second = write(&client.bus, "a", Some(named("a", 2)), holds.clone()).await.unwrap();
        assert_eq!(local(&source.bus, "a"), Some(named("a", 2)));
        let stale = refused(write(&client.bus, "a", Some(named("a", 3)), holds).await);
        assert_eq!((stale.0, &*stale.1), (409, "Conflict"), "{mode}");
        assert!(
            stale.2.starts_with("conflict: the key is at version"),
            "the server's own words: {}",
            stale.2
        );
        let there = refused(write(&client.bus, "a", Some(named("a", 3)), Precondition::Absent).await);
        assert_eq!((there.0, &*there.1), (409, "AlreadyExists"), "{mode}");
        let seq = client.bus.get(&key(CLUSTER, "a")).unwrap().seq;
        let third = write(&client.bus, "a", Some(named("a", 4)), Precondition::Seq(seq)).await.unwrap();
        assert!(third.version != second.version && third.seq > seq, "{mode}");
        write(&client.bus, "a", None, Precondition::Version(third.version)).await.unwrap();
        assert_eq!((client.names(CLUSTER), local(&source.bus, "a")), (vec![], None), "{mode}");
        assert_eq!(refused(write(&client.bus, "a", None, Precondition::Any).await).0, 404);
        client.end().await;
        source.end().await;
    }
}

#[tokio::test]
async fn a_dry_run_is_checked_by_the_server_and_changes_nothing() {
    let source = Source::start("127.0.0.1:0").await;
    let mut client = Driven::new(source.address, CLUSTERS);
    client.run();
    client.is_ready().await;
    let (good, bad) = (key(CLUSTER, "a"), key(CLUSTER, "b"));
    let dry = async |key: &Key, data: &[u8]| {
        soon(client.bus.write(key.clone(), to(key, data.to_vec()), Precondition::Any, true)).await
    };
    dry(&good, &named("a", 1)).await.unwrap();
    let (status, reason, message) = refused(dry(&bad, b"\xff").await);
    assert_eq!((status, &*reason), (422, "Invalid"), "{message}");
    assert_eq!((local(&source.bus, "a"), client.names(CLUSTER)), (None, vec![]));
    client.end().await;
    source.end().await;
}

#[tokio::test]
async fn what_the_server_does_not_allow_is_told_in_its_words() {
    let source = Source::start("127.0.0.1:0").await;
    put(&source.bus, CLUSTER, "a", named("a", 1)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret").unwrap();
    let rule = Rule {
        principal: "edge".into(),
        token: Some("secret".into()),
        allow: vec![Action::Read, Action::Subscribe],
        topics: vec![TopicFilter::parse("#").unwrap()],
    };
    source.bus.set_access(Access::new(vec![rule]));
    let token = format!("token: {{file: \"{}\"}}", file.path().display());
    let mut client = Driven::new(source.address, &format!("{token}\n{CLUSTERS}"));
    client.run();
    client.has(CLUSTER, &["a"]).await;
    let (status, reason, message) = refused(write(&client.bus, "a", None, Precondition::Any).await);
    assert_eq!((status, &*reason), (403, "Forbidden"));
    assert!(message.contains("write") && message.contains("xds/local/"), "{message}");
    client.end().await;
    source.end().await;
}

#[tokio::test]
async fn only_what_is_asked_for_can_be_written_also_where_something_refers_to_it() {
    let source = Source::start("127.0.0.1:0").await;
    put(&source.bus, CLUSTER, "c", of_endpoints("c", "e", 1)).await;
    let mut client = Driven::new(source.address, "subscribe: [{type: cds, follow: true, names: [c]}]");
    client.run();
    client.has(CLUSTER, &["c"]).await;
    let endpoints = async |name: &str| {
        let key = key(ENDPOINTS, name);
        soon(client.bus.write(key.clone(), to(&key, named(name, 1)), Precondition::Any, false)).await
    };
    endpoints("e").await.unwrap();
    assert_eq!(client.names(ENDPOINTS), ["e"]);
    for result in
        [endpoints("other").await, write(&client.bus, "d", Some(named("d", 1)), Precondition::Any).await]
    {
        let (status, _, message) = refused(result);
        assert_eq!(status, 405);
        assert!(
            message.contains("\"istiod\" does not ask for") && message.contains("subscribe"),
            "{message}"
        );
    }
    let patch = Operation::Patch { media_type: "application/merge-patch+json".into(), bytes: "{}".into() };
    let patched = soon(client.bus.write(key(CLUSTER, "c"), patch, Precondition::Any, false)).await;
    assert!(matches!(patched, Err(Refused::UnsupportedMediaType(_))), "{patched:?}");
    client.end().await;
    source.end().await;
}

#[tokio::test]
async fn a_server_without_the_service_is_named() {
    let mut server = DeltaServer::start().await;
    let mut client = Driven::new(server.address, CLUSTERS);
    client.run();
    let _stream = server.accept().await;
    for _ in 0..2 {
        let result = write(&client.bus, "a", Some(named("a", 1)), Precondition::Any).await;
        let (status, reason, message) = refused(result);
        assert_eq!((status, &*reason), (405, "MethodNotAllowed"));
        let server = server.address.to_string();
        assert!(message.contains("\"istiod\"") && message.contains(&server), "{message}");
    }
    client.end().await;
}

#[tokio::test]
async fn the_kinds_that_are_asked_for_are_known_before_the_server_is_reached() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut client = Driven::new(closed, "subscribe: [{type: cds, follow: true}, {type: v1/ConfigMap}]");
    client.run();
    assert_eq!(client.ended().await.unwrap_err().kind, ErrorKind::Unreachable);
    let kinds: Vec<String> = client.kinds.of(SCOPE).iter().map(|kind| kind.kind.clone()).collect();
    assert_eq!(kinds, ["ConfigMap", "Cluster", "ClusterLoadAssignment"]);
}

/// A client of a server whose writes a test answers.
async fn scripted() -> (DeltaServer, mpsc::Receiver<Update>, Driven, Delta) {
    let (mut server, updates) = DeltaServer::start_with_writes().await;
    let mut client = Driven::new(server.address, CLUSTERS);
    client.run();
    let mut stream = server.accept().await;
    stream.next().await;
    (server, updates, client, stream)
}

fn begin(client: &Driven, name: &'static str) -> tokio::task::JoinHandle<Result<Stored, Refused>> {
    let bus = client.bus.clone();
    task::spawn("write", async move { write(&bus, name, Some(named(name, 1)), Precondition::Any).await })
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> Update {
    soon(updates.recv()).await.expect("a request")
}

fn names((request, _): &Update) -> Vec<&str> {
    request.resources.iter().map(|resource| &*resource.name).collect()
}

/// Answers that all is done, each in this version.
fn done((request, answer): Update, version: &str) {
    let result = |resource: &xds::Resource| UpdateResult {
        name: resource.name.clone(),
        version: version.into(),
        status: Some(google::Status::default()),
    };
    let results = request.resources.iter().map(result).collect();
    answer.send(Ok(UpdateResponse { results, ..UpdateResponse::default() })).unwrap();
}

#[tokio::test]
async fn what_waits_while_the_server_is_busy_goes_in_one_request_none_before_an_earlier_one_of_its_name() {
    let (_server, mut updates, client, mut stream) = scripted().await;
    let mut calls = Vec::new();
    let mut writes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        writes.push(begin(&client, name));
        calls.push(next(&mut updates).await);
        assert_eq!(names(calls.last().unwrap()), [name]);
    }
    assert_eq!(calls[0].0.node.as_ref().unwrap().id, "test", "who writes is said as for discovery");
    for name in ["e", "a", "f", "b"] {
        writes.push(begin(&client, name));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let last = calls.split_off(2);
    let mut first = calls.into_iter();
    done(first.next().unwrap(), "1");
    let together = next(&mut updates).await;
    assert_eq!(names(&together), ["e", "a", "f"], "b is under way");
    done(first.next().unwrap(), "1");
    let second = next(&mut updates).await;
    assert_eq!(names(&second), ["b"]);
    for call in last.into_iter().chain([together, second]) {
        done(call, "1");
    }
    let all = ["a", "b", "c", "d", "e", "f"].map(|name| resource(CLUSTER, name, "1", named(name, 1)));
    stream.gives(CLUSTER, "1", all.to_vec(), &[]).await;
    for write in writes {
        soon(write).await.unwrap().unwrap();
    }
    client.end().await;
}

#[tokio::test]
async fn a_write_that_another_came_after_is_answered_with_its_own_version() {
    let (_server, mut updates, client, mut stream) = scripted().await;
    stream.gives(CLUSTER, "1", vec![resource(CLUSTER, "a", "4", named("a", 9))], &[]).await;
    let write = begin(&client, "a");
    done(next(&mut updates).await, "5");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(!write.is_finished(), "it is not here yet");
    stream.gives(CLUSTER, "2", vec![resource(CLUSTER, "a", "7", named("a", 2))], &[]).await;
    let stored = soon(write).await.unwrap().unwrap();
    assert_eq!((&*stored.version, client.table(CLUSTER)), ("5", vec![("a".to_owned(), "7".to_owned())]));
    client.end().await;
}

#[tokio::test]
async fn a_write_whose_call_breaks_is_neither_done_nor_refused() {
    let (_server, mut updates, mut client, stream) = scripted().await;
    // Its answer does not come, that of the other is no answer.
    let (lost, odd) = (begin(&client, "a"), begin(&client, "b"));
    let mut asked = Vec::new();
    while asked.iter().map(|update| names(update).len()).sum::<usize>() < 2 {
        asked.push(next(&mut updates).await);
    }
    let mut kept = Vec::new();
    for (request, answer) in asked {
        if request.resources.iter().any(|resource| resource.name == "b") {
            answer.send(Ok(UpdateResponse::default())).unwrap();
        } else {
            kept.push(answer);
        }
    }
    let (status, _, message) = refused(soon(odd).await.unwrap());
    assert_eq!(status, 504, "{message}");
    stream.fail(Status::unavailable("going away")).await;
    let (status, reason, message) = refused(soon(lost).await.unwrap());
    assert_eq!((status, &*reason), (504, "Timeout"));
    assert!(message.contains("whether it has written is not known"), "{message}");
    client.ended().await.unwrap_err();
}

#[tokio::test]
async fn a_status_of_the_call_is_that_of_each_write_and_names_the_server() {
    let (server, mut updates, client, _stream) = scripted().await;
    let write = begin(&client, "a");
    let (_, answer) = next(&mut updates).await;
    answer.send(Err(Status::resource_exhausted("1000 streams are open"))).unwrap();
    let (status, _, message) = refused(soon(write).await.unwrap());
    assert_eq!(status, 507);
    assert_eq!(message, format!("{}: 1000 streams are open", server.address));
    client.end().await;
}

/// Writes resources of its own, one after the other; what was answered is so here and there at that moment. Gives how
/// many were done and how many were not.
async fn writer(
    bus: Bus,
    source: Bus,
    names: [&'static str; 2],
    mut random: fastrand::Rng,
) -> (usize, usize) {
    let mut outcomes = (0, 0);
    for turn in 0..40 {
        let name = names[random.usize(..2)];
        let data = (random.u8(..4) > 0).then(|| named(name, turn));
        let held = bus.get(&key(CLUSTER, name));
        let holds = match &held {
            Some(record) if random.bool() => Precondition::Seq(record.seq),
            _ => Precondition::Any,
        };
        match write(&bus, name, data.clone(), holds).await {
            Ok(_) => {
                outcomes.0 += 1;
                let here = bus.get(&key(CLUSTER, name)).map(|record| record.envelope.data.to_vec());
                assert_eq!(here, data, "{name} here");
                assert_eq!(local(&source, name), data, "{name} at the source");
            }
            Err(Refused::Owner { status: 404 | 409 | 503 | 504, .. } | Refused::Conflict { .. }) => {
                outcomes.1 += 1;
                // The client may be between two streams.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    outcomes
}

#[tokio::test]
async fn whatever_happens_what_was_answered_as_done_is_done() {
    let (mut done, mut not) = (0, 0);
    for (mode, seed) in MODES.into_iter().cycle().zip(0..6) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut source = Source::start("127.0.0.1:0").await;
        let address = source.address.to_string();
        let mut client = Driven::new(source.address, &format!("{mode}{CLUSTERS}"));
        client.run();
        client.is_ready().await;
        let writers = [["a", "b"], ["c", "d"], ["e", "f"]].map(|names| {
            let writer = writer(client.bus.clone(), source.bus.clone(), names, random.fork());
            task::spawn("writer", writer)
        });
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(random.u64(1..20))).await;
            let bus = source.end().await;
            client.ended().await.unwrap_err();
            source = Source::serve(bus, &address, "").await;
            client.run();
        }
        for writer in writers {
            let (more, less) =
                tokio::time::timeout(std::time::Duration::from_mins(1), writer).await.unwrap().unwrap();
            (done, not) = (done + more, not + less);
        }
        let there: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .into_iter()
            .filter(|name| local(&source.bus, name).is_some())
            .collect();
        client.has(CLUSTER, &there).await;
        client.end().await;
        source.end().await;
    }
    println!("{done} writes done, {not} not");
    assert!(done > 200, "{done}");
}
