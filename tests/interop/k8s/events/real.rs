//! The same promise, driven through the API alone, so that it can be held on a real API server, too.

use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

use super::occurrences::Happened;
use super::{config, settle};
use crate::bus::Bus;
use crate::hostile::{Hostile, Options, event_name};
use crate::k8s::apiserver::{ApiServer, TOKEN, client};
use crate::peers::NatsServer;
use crate::process::Scratch;

/// Created and repeated, half each.
const OCCURRENCES: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn driven_through_the_api_each_change_is_told_as_it_happened() {
    let options = Options { token: Some(TOKEN.to_owned()), ..Options::default() };
    let hostile = Hostile::start(7, options).await;
    carry_out(&Scratch::new(), &hostile.kubeconfig()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_sees_the_same() {
    let scratch = Scratch::new();
    let test = "k8s::events::real::a_real_api_server_sees_the_same";
    let Some(server) = ApiServer::start(&scratch, test).await else { return };
    carry_out(&scratch, &server.kubeconfig()).await;
}

/// Creates Events and repeats them while the bus that watches them is killed.
async fn carry_out(scratch: &Scratch, kubeconfig: &str) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let limit = Duration::from_mins(1);
    let nats = NatsServer::start(scratch).await;
    let _stream = nats.stream("LEDGER", &["events.>"], limit * 4).await;
    let client = client(kubeconfig).await;
    // What the server itself says is none of the ledger's.
    let config = config(scratch, kubeconfig, &nats, 100, false)
        .replace("{type: core/v1/Event}", "{type: core/v1/Event, field_selector: \"reason=Interop\"}");
    let mut bus = Bus::start(scratch, &config).await;
    let mut history: Vec<Happened> = Vec::new();
    for number in 0..OCCURRENCES / 2 {
        history.push(emit(&client, number).await);
        history.push(repeat(&client, number / 2).await);
        if number % 100 == 50 {
            bus.kill();
        }
        if number % 100 == 60 {
            bus.restart_live().await;
        }
    }
    history.sort_by_key(|change| change.version);
    let report = settle(&nats, &history, limit).await;
    println!("{report}");
    report.assert_each();
}

async fn emit(client: &kube::Client, number: u64) -> Happened {
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": event_name(number), "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Interop", "message": "numbered", "type": "Normal", "source": {"component": "interop"}, "count": 1,
    });
    write(client, Method::POST, "/api/v1/namespaces/default/events", "application/json", &event).await
}

/// Counts one more. Only this test writes, so what it read is what there is.
async fn repeat(client: &kube::Client, number: u64) -> Happened {
    let path = format!("/api/v1/namespaces/default/events/{}", event_name(number));
    let request = Request::get(&path).body(Vec::new()).expect("a request");
    let event: Value = client.request(request).await.expect("an Event");
    let count = event["count"].as_u64().expect("a count") + 1;
    write(client, Method::PATCH, &path, "application/merge-patch+json", &json!({ "count": count })).await
}

async fn write(
    client: &kube::Client,
    method: Method,
    path: &str,
    media_type: &str,
    body: &Value,
) -> Happened {
    let request = Request::builder().method(method).uri(path).header("content-type", media_type);
    let request = request.body(body.to_string().into_bytes()).expect("a request");
    let event: Value = client.request(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = |name: &str| event["metadata"][name].as_str().unwrap_or_default();
    Happened {
        uid: text("uid").to_owned(),
        version: text("resourceVersion").parse().expect("a version that is a number"),
        count: event["count"].as_u64().expect("a count") as u32,
    }
}
