//! What routes send into the cluster.

use std::sync::Arc;

use meshbus::config::Section;
use meshbus::core::delivery::{Answers, Delivery};
use meshbus::core::{Cause, Envelope, Key, Outcome, Seq};
use meshbus::transport::Transport;
use meshbus::transport::k8s::K8s;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{PATIENCE, Process, files, wait};
use crate::hostile::{Fault, Hostile, Options};

const SETTINGS: &str =
    "watch: [{type: example.com/v1/Widget}, {type: v1/Event}]\ncursor: {store: none}\ntimeout: 2s";

struct Answered(mpsc::Sender<Outcome>);

impl Answers for Answered {
    fn answer(&self, _: u64, outcome: Outcome) {
        self.0.try_send(outcome).unwrap();
    }
}

async fn start() -> (Hostile, tempfile::TempDir, Process) {
    let hostile = Hostile::start(9, Options::default()).await;
    let files = files(&hostile);
    let process = Process::start(&files, SETTINGS);
    wait("both watches", || hostile.watchers() == 2).await;
    (hostile, files, process)
}

fn event(id: &str, data: &Value) -> Envelope {
    let mut envelope = Envelope::event("orders/new".parse().unwrap(), id, "/test", "test.v1");
    envelope.data = data.to_string().into();
    envelope
}

fn widget(name: &str, size: u32) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name, "namespace": "default", "uid": "of another cluster", "resourceVersion": "1"},
        "spec": {"size": size}})
}

/// Sends one envelope to a target as a route would, and tells how it was answered.
async fn send(process: &Process, target: &str, envelope: Envelope, attempt: u32) -> Outcome {
    let section = Section::from_yaml("test.yaml", target).unwrap();
    let connector = Section::from_yaml("test.yaml", "{}").unwrap();
    let target = K8s.target(&connector, &section).unwrap_or_else(|error| panic!("{error}"));
    let (answers, mut answered) = mpsc::channel(1);
    let answers = Arc::new(Answered(answers));
    let mut delivery = Delivery::new(Arc::new(envelope), Seq(1), "r".into(), target.options, answers, 0);
    delivery.attempt = attempt;
    process.deliveries.send([delivery]);
    tokio::time::timeout(PATIENCE, answered.recv()).await.unwrap().unwrap()
}

fn rejected(outcome: &Outcome, words: &str) {
    assert!(matches!(outcome, Outcome::Rejected(reason) if reason.contains(words)), "{outcome:?}");
}

#[tokio::test]
async fn an_object_is_created_once_whatever_happens_to_the_answer() {
    let (hostile, _files, process) = start().await;
    hostile.force(Fault::AnswerLost, 1);
    let create = "operation: create";
    let lost = send(&process, create, event("1", &widget("a", 1)), 1).await;
    assert!(matches!(lost, Outcome::Undelivered(_)), "{lost:?}");
    assert_eq!(send(&process, create, event("1", &widget("a", 1)), 2).await, Outcome::Delivered);
    rejected(&send(&process, create, event("2", &widget("a", 2)), 1).await, "AlreadyExists");
    rejected(&send(&process, create, event("3", &json!("text")), 1).await, "nothing tells the type");
    let unknown = json!({"apiVersion": "v9", "kind": "Thing", "metadata": {"name": "a"}});
    rejected(&send(&process, create, event("4", &unknown), 1).await, "the cluster has no core/v9/Thing");
    hostile.force(Fault::TooManyRequests, 1);
    let busy = send(&process, create, event("5", &widget("b", 1)), 1).await;
    assert!(matches!(busy, Outcome::Undelivered(_)), "{busy:?}");
    assert_eq!(hostile.objects("Widget").len(), 1);
    process.stop().await;
}

#[tokio::test]
async fn templates_say_what_the_data_does_not() {
    let (hostile, _files, process) = start().await;
    let target =
        "{operation: create, type: v1/ConfigMap, namespace: default, name: 'order-{data.data.id}'}";
    let data = json!({"data": {"id": "17"}});
    assert_eq!(send(&process, target, event("1", &data), 1).await, Outcome::Delivered);
    assert_eq!(hostile.objects("ConfigMap")["default/order-17"].value["data"]["id"], "17");
    rejected(&send(&process, target, event("2", &json!({"data": {}})), 1).await, "data.data.id");
    process.stop().await;
}

#[tokio::test]
async fn what_is_applied_becomes_so_and_goes_when_it_goes() {
    let (hostile, _files, process) = start().await;
    let apply = "operation: apply";
    assert_eq!(send(&process, apply, event("1", &widget("a", 1)), 1).await, Outcome::Delivered);
    assert_eq!(send(&process, apply, event("2", &widget("a", 2)), 1).await, Outcome::Delivered);
    assert_eq!(hostile.objects("Widget")["default/a"].value["spec"]["size"], 2);
    let status = "{operation: patch_status, type: example.com/v1/Widget, namespace: default, name: a}";
    assert_eq!(send(&process, status, event("3", &json!({"ready": true})), 1).await, Outcome::Delivered);
    assert_eq!(hostile.objects("Widget")["default/a"].value["status"]["ready"], true);
    let key = Key::new("west", "example.com/v1/Widget", "default/a");
    let topic = "k8s/west/example.com/v1/Widget/default/a".parse().unwrap();
    let gone = Envelope::delete(topic, key, "7", Cause::Deleted);
    assert_eq!(send(&process, apply, gone.clone(), 1).await, Outcome::Delivered);
    assert!(hostile.objects("Widget").is_empty());
    assert_eq!(
        send(&process, "operation: delete", gone, 1).await,
        Outcome::Delivered,
        "gone already will do"
    );
    process.stop().await;
}

#[tokio::test]
async fn b9_what_a_route_has_written_is_in_the_table_and_no_route_is_told() {
    let (hostile, _files, process) = start().await;
    assert_eq!(
        send(&process, "operation: apply", event("1", &widget("a", 1)), 1).await,
        Outcome::Delivered
    );
    process.converged(&hostile, "Widget", "example.com/v1/Widget").await;
    // Of a later second, since that is as exactly as an object tells when it was written.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    hostile.patch("Widget", "default", "a", &json!({"spec": {"color": "red"}}));
    wait("what another one writes", || !process.told().is_empty()).await;
    assert_eq!(process.told().len(), 1);
    process.stop().await;
}

#[tokio::test]
async fn b9_an_event_is_recorded_and_repeats_are_counted_in_it() {
    let (hostile, _files, process) = start().await;
    hostile.create("Widget", "default", "a", json!({}));
    let target = "{operation: event, type: example.com/v1/Widget, namespace: default, name: a,\n\
                  event: {reason: '{data.reason}', note: '{data.note}', type: Warning}}";
    let say = |id: &str, note: &str| event(id, &json!({"reason": "Broken", "note": note}));
    for (id, note) in [("1", "one"), ("2", "one"), ("3", "two"), ("4", "one")] {
        assert_eq!(send(&process, target, say(id, note), 1).await, Outcome::Delivered);
    }
    // A repetition of a delivery is no repetition of what it says.
    assert_eq!(send(&process, target, say("4", "one"), 2).await, Outcome::Delivered);
    let counts = |hostile: &Hostile| {
        let mut counts: Vec<(String, u64)> = hostile
            .objects("Event")
            .values()
            .map(|event| {
                (
                    event.value["message"].as_str().unwrap().to_owned(),
                    event.value["count"].as_u64().unwrap(),
                )
            })
            .collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(
        counts(&hostile),
        [("one".to_owned(), 3), ("two".to_owned(), 1)],
        "the note is part of what is said"
    );
    hostile.expire_events(2);
    assert_eq!(send(&process, target, say("5", "one"), 1).await, Outcome::Delivered);
    assert_eq!(counts(&hostile), [("one".to_owned(), 1)], "one that is gone is made anew");
    hostile.force(Fault::AnswerLost, 1);
    assert!(matches!(send(&process, target, say("6", "three"), 1).await, Outcome::Undelivered(_)));
    assert_eq!(send(&process, target, say("6", "three"), 2).await, Outcome::Delivered);
    assert_eq!(counts(&hostile).len(), 2);
    let event = hostile.objects("Event").into_values().next().unwrap().value;
    assert_eq!(event["involvedObject"]["kind"], "Widget");
    process.converged(&hostile, "Event", "core/v1/Event").await;
    assert!(process.told().iter().all(|told| told.starts_with("default/a@")), "{:?}", process.told());
    process.stop().await;
}

#[tokio::test]
async fn b9_of_one_object_only_so_many_events_are_recorded() {
    let (hostile, _files, process) = start().await;
    let target = "{operation: event, type: v1/Pod, namespace: default, name: a,\n\
                  event: {reason: Broken, note: '{id}', rate: {burst: 3, per: 1h}}}";
    let mut outcomes = Vec::new();
    for number in 0..5 {
        outcomes.push(send(&process, target, event(&number.to_string(), &json!({})), 1).await);
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count(), 3);
    assert_eq!(outcomes[4], Outcome::Filtered);
    assert_eq!(hostile.objects("Event").len(), 3);
    process.stop().await;
}
