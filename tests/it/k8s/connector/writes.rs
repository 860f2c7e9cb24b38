//! Writes of owners, through the bus to the cluster and back by its watch.

use std::time::Duration;

use bytestring::ByteString;
use meshbus::core::write::{Operation, Precondition};
use meshbus::core::{Envelope, Key, Refused};
use serde_json::{Value, json};

use super::{Process, files, wait};
use crate::hostile::{Fault, Hostile, Options};

const SETTINGS: &str = "watch: [{type: example.com/v1/Widget, namespaces: [default]}, {type: v1/ConfigMap}]\ncursor: {store: none}";

async fn start() -> (Hostile, tempfile::TempDir, Process) {
    let hostile = Hostile::start(5, Options::default()).await;
    let files = files(&hostile);
    let process = Process::start(&files, SETTINGS);
    wait("both watches", || hostile.watchers() == 2).await;
    (hostile, files, process)
}

fn key(kind: &str, name: &str) -> Key {
    Key::new("east", if kind == "Widget" { "example.com/v1/Widget" } else { "core/v1/ConfigMap" }, name)
}

fn put(object: &Value) -> Operation {
    let mut envelope = Envelope::event("state/x".parse().unwrap(), "", "", "");
    envelope.data = object.to_string().into();
    Operation::Put(Box::new(envelope))
}

fn parameters(all: &[(&'static str, &'static str)]) -> Vec<(ByteString, ByteString)> {
    all.iter()
        .map(|(name, value)| (ByteString::from_static(name), ByteString::from_static(value)))
        .collect()
}

#[tokio::test]
async fn a_write_is_answered_when_the_watch_shows_it() {
    let (hostile, _files, process) = start().await;
    let bus = &process.bus;
    let one = key("Widget", "default/one");
    let created = bus
        .write(one.clone(), put(&json!({"spec": {"size": 1}})), Precondition::Absent, false)
        .await
        .unwrap();
    assert!(created.created);
    let held = bus.get(&one).unwrap();
    assert_eq!(held.seq, created.seq);
    assert_eq!(hostile.objects("Widget")["default/one"].rv.to_string(), *created.version);
    let object = json!({"spec": {"size": 2}});
    let replaced =
        bus.write(one.clone(), put(&object), Precondition::Seq(created.seq), false).await.unwrap();
    assert_ne!(replaced.version, created.version);
    let patch = Operation::Patch {
        media_type: "application/merge-patch+json".into(),
        bytes: json!({"spec": {"color": "red"}}).to_string().into(),
    };
    bus.write(one.clone(), patch, Precondition::Any, false).await.unwrap();
    assert_eq!(hostile.objects("Widget")["default/one"].value["spec"], json!({"size": 2, "color": "red"}));
    bus.write(one.clone(), Operation::Delete, Precondition::Any, false).await.unwrap();
    assert!(bus.get(&one).is_none() && hostile.objects("Widget").is_empty());
    process.stop().await;
}

#[tokio::test]
async fn the_source_decides_and_its_words_are_passed_on() {
    let (hostile, _files, process) = start().await;
    let bus = &process.bus;
    let one = key("Widget", "default/one");
    let first = bus.write(one.clone(), put(&json!({})), Precondition::Absent, false).await.unwrap();
    let refused = |result: Result<_, Refused>| match result.map(|_: meshbus::core::write::Stored| ()) {
        Err(Refused::Owner { reason, status, body, .. }) => {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            (status, reason.to_string(), body["message"].as_str().unwrap_or_default().to_owned())
        }
        other => panic!("the owner's own refusal was due, not {other:?}"),
    };
    let taken = refused(bus.write(one.clone(), put(&json!({})), Precondition::Absent, false).await);
    assert_eq!((taken.0, taken.1.as_str()), (409, "AlreadyExists"));
    assert!(taken.2.contains("already exists"), "{taken:?}");
    hostile.patch("Widget", "default", "one", &json!({"spec": {"size": 9}}));
    let stale = Precondition::Version(first.version.clone());
    let stale = refused(bus.write(one.clone(), put(&json!({})), stale, false).await);
    assert_eq!((stale.0, stale.1.as_str()), (409, "Conflict"));
    let seq =
        bus.write(one.clone(), put(&json!({})), Precondition::Seq(meshbus::core::Seq(1)), false).await;
    assert!(matches!(seq, Err(Refused::Conflict { current: Some(_) })), "{seq:?}");
    let missing = refused(
        bus.write(key("Widget", "default/none"), Operation::Delete, Precondition::Any, false).await,
    );
    assert_eq!((missing.0, missing.1.as_str()), (404, "NotFound"));
    let uid = parameters(&[("uid", "another")]);
    let other = bus.write_with(one.clone(), Operation::Delete, Precondition::Any, false, uid).await;
    assert_eq!(refused(other).0, 409);
    let elsewhere = refused(
        bus.write(key("Widget", "kube-system/a"), put(&json!({})), Precondition::Absent, false).await,
    );
    assert_eq!((elsewhere.0, elsewhere.1.as_str()), (405, "MethodNotAllowed"));
    process.stop().await;
}

#[tokio::test]
async fn parameters_reach_the_source_and_a_dry_run_changes_nothing() {
    let (hostile, _files, process) = start().await;
    let bus = &process.bus;
    let one = key("Widget", "default/one");
    let dry = bus.write(one.clone(), put(&json!({})), Precondition::Absent, true).await.unwrap();
    assert!(!dry.data.is_empty() && hostile.objects("Widget").is_empty());
    let named = parameters(&[("fieldManager", "kubectl-edit")]);
    bus.write_with(one.clone(), put(&json!({"spec": {"size": 1}})), Precondition::Absent, false, named)
        .await
        .unwrap();
    let manager = |hostile: &Hostile| {
        hostile.objects("Widget")["default/one"].value["metadata"]["managedFields"][0]["manager"].clone()
    };
    assert_eq!(manager(&hostile), "kubectl-edit");
    let patch = Operation::Patch {
        media_type: "application/merge-patch+json".into(),
        bytes: json!({"status": {"ready": true}, "spec": {"size": 7}}).to_string().into(),
    };
    let status = parameters(&[("subresource", "status")]);
    bus.write_with(one.clone(), patch, Precondition::Any, false, status).await.unwrap();
    let object = hostile.objects("Widget").remove("default/one").unwrap().value;
    assert_eq!((&object["status"]["ready"], &object["spec"]["size"]), (&json!(true), &json!(1)));
    let apply = Operation::Patch {
        media_type: "application/apply-patch+yaml".into(),
        bytes: "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one}\nspec: {size: 3}".into(),
    };
    let contested = bus
        .write_with(
            one.clone(),
            apply.clone(),
            Precondition::Any,
            false,
            parameters(&[("fieldManager", "b")]),
        )
        .await;
    assert!(matches!(contested, Err(Refused::Owner { status: 409, .. })), "{contested:?}");
    let forced = parameters(&[("fieldManager", "b"), ("force", "true")]);
    bus.write_with(one.clone(), apply, Precondition::Any, false, forced).await.unwrap();
    assert_eq!(hostile.objects("Widget")["default/one"].value["spec"]["size"], 3);
    process.stop().await;
}

#[tokio::test]
async fn an_object_with_finalizers_remains_and_the_write_says_so() {
    let (hostile, _files, process) = start().await;
    let one = key("ConfigMap", "default/one");
    let held = json!({"metadata": {"finalizers": ["example.com/a"]}});
    process.bus.write(one.clone(), put(&held), Precondition::Absent, false).await.unwrap();
    let deleted =
        process.bus.write(one.clone(), Operation::Delete, Precondition::Any, false).await.unwrap();
    assert_eq!(hostile.objects("ConfigMap")["default/one"].rv.to_string(), *deleted.version);
    assert!(process.bus.get(&one).is_some());
    process.stop().await;
}

#[tokio::test]
async fn a_slow_write_delays_no_other_and_one_without_answer_times_out() {
    let (hostile, _files, process) = start().await;
    hostile.force(Fault::AnswerLost, 1);
    let lost = process.bus.clone();
    let lost = tokio::spawn(async move {
        lost.write(key("Widget", "default/lost"), put(&json!({})), Precondition::Absent, false).await
    });
    wait("it is done", || hostile.objects("Widget").len() == 1).await;
    let others = (0..20).map(|number| {
        let bus = process.bus.clone();
        async move {
            let key = key("Widget", &format!("default/w{number}"));
            bus.write(key, put(&json!({})), Precondition::Absent, false).await
        }
    });
    let began = tokio::time::Instant::now();
    for stored in futures_util::future::join_all(others).await {
        stored.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(matches!(lost.await.unwrap(), Err(Refused::Timeout { .. })));
    process.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    process.stop().await;
}
