//! Informers of three kinds stay in step with ten thousand objects: under random writes and deletes, over restarts of
//! the server and compaction, nobody misses a deletion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api as Objects, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config, ResourceExt};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::evidence::{Outcomes, Scene, Watched};
use super::python::{Held, Informer};
use super::rig::Api;
use crate::bus::Bus;
use crate::process::Scratch;

const OBJECTS: usize = 10_000;
const NAMESPACES: usize = 5;
/// Random changes after each phase's beginning.
const CHANGES: usize = 2_000;

/// The last object written: once an informer has it, it has seen all before.
const LAST: &str = "last";

fn client(api: &Api) -> Client {
    let config = Config::new(api.url().parse().expect("a URL"));
    Client::try_from(config).expect("a client")
}

fn name(n: usize) -> (String, String) {
    (format!("ns-{}", n % NAMESPACES), format!("object-{n}"))
}

fn object(namespace: &str, name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("n".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    }
}

async fn make_namespaces(client: &Client) {
    let all: Objects<k8s_openapi::api::core::v1::Namespace> = Objects::all(client.clone());
    for n in 0..NAMESPACES {
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("ns-{n}")}});
        let namespace = serde_json::from_value(namespace).expect("a namespace");
        match all.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Creates all objects, some at a time.
async fn fill(client: &Client, round: usize) {
    make_namespaces(client).await;
    let made = futures_util::stream::iter(0..OBJECTS).map(async |n| {
        let (namespace, name) = name(n);
        let objects: Objects<ConfigMap> = Objects::namespaced(client.clone(), &namespace);
        objects.create(&PostParams::default(), &object(&namespace, &name, &round.to_string())).await
    });
    let made: Vec<ConfigMap> = made.buffer_unordered(16).try_collect().await.expect("objects are created");
    assert_eq!(made.len(), OBJECTS);
}

/// Random updates and deletions, some objects coming back under another uid.
async fn change(client: &Client, random: &mut fastrand::Rng) {
    let steps: Vec<(usize, u8, u32)> =
        (0..CHANGES).map(|_| (random.usize(..OBJECTS), random.u8(..10), random.u32(..))).collect();
    let done = futures_util::stream::iter(steps).map(async |(n, what, value)| {
        let (namespace, name) = name(n);
        let objects: Objects<ConfigMap> = Objects::namespaced(client.clone(), &namespace);
        let patch = serde_json::json!({"data": {"n": value.to_string()}});
        let answer = match what {
            0..2 => objects.delete(&name, &DeleteParams::default()).await.map(drop),
            2..4 => {
                objects.create(&PostParams::default(), &object(&namespace, &name, "again")).await.map(drop)
            }
            _ => objects.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop),
        };
        match answer {
            Ok(()) => {}
            // Deleted before, or there already: the dice say so.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => panic!("{namespace}/{name}: {error}"),
        }
    });
    done.buffer_unordered(16).collect::<Vec<()>>().await;
}

/// Writes the object that is waited for.
async fn last(client: &Client, value: &str) {
    let objects: Objects<ConfigMap> = Objects::namespaced(client.clone(), "default");
    let patch = PatchParams::apply("test").force();
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": LAST}, "data": {"n": value},
    });
    objects.patch(LAST, &patch, &Patch::Apply(object)).await.expect("the last object is applied");
}

/// What the server has.
pub(super) async fn truth(client: &Client) -> Held {
    let objects: Objects<ConfigMap> = Objects::all(client.clone());
    let mut held = Held::new();
    let mut page = ListParams::default().limit(1000);
    loop {
        let found = objects.list(&page).await.expect("a page");
        held.extend(found.items.iter().map(entry));
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(1000).continue_token(&token),
            None => return held,
        }
    }
}

/// An object as informers are compared by it: by namespace and name, its uid and value.
pub(super) fn entry(object: &ConfigMap) -> (String, (String, String)) {
    let value = object.data.as_ref().and_then(|data| data.get("n")).cloned().unwrap_or_default();
    let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    (key, (object.uid().unwrap_or_default(), value))
}

/// A kube-rs watcher that feeds a store, as every controller has one.
fn informer(
    who: &'static str,
    client: &Client,
    config: watcher::Config,
    tasks: &mut JoinSet<()>,
) -> Watched {
    let (store, writer) = reflector::store();
    let objects: Objects<ConfigMap> = Objects::all(client.clone());
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    let stream = watcher(objects, config).inspect(move |outcome| noted.note(outcome));
    let stream = stream.default_backoff().reflect(writer);
    tasks.spawn(async move {
        stream.for_each(async |_| {}).await;
    });
    Watched { who, store, outcomes }
}

/// A controller, and the value it last reconciled of each object.
fn controller(client: &Client, tasks: &mut JoinSet<()>) -> (Watched, Arc<Mutex<Held>>) {
    let objects: Objects<ConfigMap> = Objects::all(client.clone());
    let seen: Arc<Mutex<Held>> = Arc::default();
    let controller = Controller::new(objects, watcher::Config::default());
    let store = controller.store();
    let reconcile = async |object: Arc<ConfigMap>, seen: Arc<Mutex<Held>>| {
        let (key, value) = entry(&object);
        seen.lock().insert(key, value);
        Ok::<_, std::convert::Infallible>(Action::await_change())
    };
    let run =
        controller.run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::clone(&seen));
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    tasks.spawn(async move {
        // Its watcher is its own: what it reconciles, and what fails, is all it tells.
        run.for_each(async |outcome| match outcome {
            Ok((object, _)) => {
                noted.push("reconciled", format!("{object} {:?}", object.extra.resource_version));
            }
            Err(error) => noted.failed(&error),
        })
        .await;
    });
    (Watched { who: "controller", store, outcomes }, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers_stay_in_step_with_ten_thousand_objects() {
    let seed = crate::faults::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let scratch = Scratch::new();
    // So little is remembered that whoever is away for a while has to list again.
    let bounds = "event_log: {changes: {max: 500}}\nstate: {max_deletions: 100}\n";
    let mut api = Api::start(&scratch, bounds).await;
    let client = client(&api);
    let mut tasks = JoinSet::new();
    let listing = informer("list", &client, watcher::Config::default().page_size(500), &mut tasks);
    let streaming = informer("stream", &client, watcher::Config::default().streaming_lists(), &mut tasks);
    let (controlled, reconciled) = controller(&client, &mut tasks);
    let informers = [listing, streaming, controlled];
    let mut python = Informer::start(&api.url());

    for round in 0..3 {
        fill(&client, round).await;
        change(&client, &mut random).await;
        let value = format!("{round}-{}", random.u32(..));
        last(&client, &value).await;
        let expected = &truth(&client).await;
        let (what, since) = (format!("round {round}, seed {seed}"), Instant::now());
        let scene = Scene { what, api: &api, client: &client, informers: &informers, expected, since };
        scene.in_step(&mut python).await;
        // What comes in a new list is reconciled by a controller of kube-rs only if it has the object by then; what is
        // watched always is.
        let last = format!("default/{LAST}");
        let is_reconciled = || reconciled.lock().get(&last) == expected.get(&last);
        scene.wait("the last change is reconciled", &mut python, is_reconciled).await;
        let told = python.held(&last, &value).await;
        if told.objects != *expected {
            scene.fail("the Python client is not in step", &mut python).await;
        }
        println!(
            "round {round}: {} objects, the Python client listed {} times",
            expected.len(),
            told.relists
        );
        if round < 2 {
            // Its memory is gone: every position from before is, too.
            restart(&mut api.bus).await;
        }
    }
}

async fn restart(bus: &mut Bus) {
    bus.kill();
    bus.restart().await;
}
