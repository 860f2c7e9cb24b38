//! A cluster's state on the bus, driven through APIs alone, so that it can be held on a real API server, too: what the
//! bus shows is what the cluster has, over kills, and what is written through the bus is the cluster's to answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

use super::apiserver::{ApiServer, TOKEN, client};
use super::rig::Api;
use crate::faults::{seed, sized};
use crate::hostile::{Hostile, Options};
use crate::process::{Scratch, until};

/// Random changes, over which the bus is killed each so many.
const CHANGES: usize = 300;
const LONG: usize = 3_000;
const KILL_EVERY: usize = 60;
/// Few names, so that each is created and deleted again and again.
const NAMES: u32 = 30;
const LIMIT: Duration = Duration::from_mins(1);
const PATH: &str = "/api/v1/namespaces/default/configmaps";
/// What the cluster puts there itself has no such label.
const OURS: &str = "labelSelector=interop%3Dyes";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_shows_is_what_the_cluster_has() {
    let options = Options { token: Some(TOKEN.to_owned()), ..Options::default() };
    let hostile = Hostile::start(11, options).await;
    carry_out(&Scratch::new(), &hostile.kubeconfig()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_what_a_real_cluster_has_too() {
    let scratch = Scratch::new();
    let test = "k8s::in_step::it_is_what_a_real_cluster_has_too";
    let Some(server) = ApiServer::start(&scratch, test).await else { return };
    carry_out(&scratch, &server.kubeconfig()).await;
}

async fn carry_out(scratch: &Scratch, kubeconfig: &str) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let cluster = client(kubeconfig).await;
    let mut api = Api::start(scratch, &connector(scratch, kubeconfig)).await;
    let bus = client(&of_the_bus(&api)).await;
    let mut dice = fastrand::Rng::with_seed(seed());
    for change in 1..=sized(CHANGES, LONG) {
        stir(&cluster, &mut dice).await;
        match change % KILL_EVERY {
            0 => api.bus.kill(),
            // Some changes are made while nobody watches.
            10 if change > KILL_EVERY => api.bus.restart_live().await,
            _ => {}
        }
    }
    api.bus.restart_live().await;
    until("the bus shows what the cluster has", LIMIT, async || {
        (listed(&bus).await? == listed(&cluster).await.expect("a list")).then_some(())
    })
    .await;
    write_through(&bus, &cluster).await;
}

/// The cluster as a connector of the bus, with a cursor that outlives it.
fn connector(scratch: &Scratch, kubeconfig: &str) -> String {
    let file = |name: &str| scratch.path().join(name);
    std::fs::write(file("cluster.kubeconfig"), kubeconfig).expect("a file");
    let shown = |path: &Path| path.display().to_string();
    format!(
        "  cluster: {{k8s: {{client: {{kubeconfig: {}, cursor: {{store: file, path: {}}}, watch: [\
         {{type: core/v1/Namespace}}, {{type: core/v1/ConfigMap, label_selector: interop=yes}}]}}}}}}\n",
        shown(&file("cluster.kubeconfig")),
        shown(&file("cursor")),
    )
}

fn of_the_bus(api: &Api) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: bus\n\
         clusters: [{{name: bus, cluster: {{server: \"{}/scopes/cluster\"}}}}]\nusers: [{{name: nobody, user: {{}}}}]\n\
         contexts: [{{name: bus, context: {{cluster: bus, user: nobody}}}}]\n",
        api.url()
    )
}

/// One change in the cluster: creates, changes or deletes.
async fn stir(cluster: &kube::Client, dice: &mut fastrand::Rng) {
    let (name, value) = (format!("c-{}", dice.u32(..NAMES)), dice.u32(..).to_string());
    let path = format!("{PATH}/{name}");
    let patch = json!({"data": {"value": value}});
    let changed = match dice.u8(..3) {
        0 => send(cluster, Method::DELETE, &path, "", &Value::Null).await,
        _ => send(cluster, Method::PATCH, &path, "application/merge-patch+json", &patch).await,
    };
    if let Err((code, _)) = changed {
        assert_eq!(code, 404, "{path}");
        send(cluster, Method::POST, PATH, "application/json", &object(&name, &value))
            .await
            .expect("created");
    }
}

/// What is written through the bus is done by the cluster, and refused in its words.
async fn write_through(bus: &kube::Client, cluster: &kube::Client) {
    let path = format!("{PATH}/through");
    let json = "application/json";
    let made = send(bus, Method::POST, PATH, json, &object("through", "1")).await.expect("created");
    assert_eq!(value(cluster, &path).await, "1");
    let again = send(bus, Method::POST, PATH, json, &object("through", "2")).await.expect_err("a conflict");
    assert_eq!((again.0, &*again.1), (409, "AlreadyExists"));
    let patch = json!({"data": {"value": "3"}});
    send(bus, Method::PATCH, &path, "application/merge-patch+json", &patch).await.expect("patched");
    assert_eq!(value(cluster, &path).await, "3");
    // What was created is an older version by now.
    let stale = send(bus, Method::PUT, &path, json, &made).await.expect_err("a conflict");
    assert_eq!((stale.0, &*stale.1), (409, "Conflict"));
    send(bus, Method::DELETE, &path, "", &Value::Null).await.expect("deleted");
    let gone = send(cluster, Method::GET, &path, "", &Value::Null).await.expect_err("it is gone");
    assert_eq!(gone.0, 404);
}

fn object(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value},
        "metadata": {"name": name, "namespace": "default", "labels": {"interop": "yes"}},
    })
}

async fn value(client: &kube::Client, path: &str) -> String {
    let found = send(client, Method::GET, path, "", &Value::Null).await.expect("it is there");
    found["data"]["value"].as_str().expect("a value").to_owned()
}

/// Name → uid and data; `None` where nobody answers.
async fn listed(client: &kube::Client) -> Option<BTreeMap<String, (Value, Value)>> {
    let list = send(client, Method::GET, &format!("{PATH}?{OURS}"), "", &Value::Null).await.ok()?;
    let one = |item: &Value| {
        let name = item["metadata"]["name"].as_str().expect("a name").to_owned();
        (name, (item["metadata"]["uid"].clone(), item["data"].clone()))
    };
    Some(list["items"].as_array().expect("items").iter().map(one).collect())
}

/// What is answered; else code and reason, code 0 where nobody answers.
async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    media_type: &str,
    body: &Value,
) -> Result<Value, (u16, String)> {
    let mut request = Request::builder().method(method).uri(path);
    let mut bytes = Vec::new();
    if !media_type.is_empty() {
        request = request.header("content-type", media_type);
        bytes = body.to_string().into_bytes();
    }
    match client.request(request.body(bytes).expect("a request")).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err((status.code, status.reason.clone())),
        Err(_) => Err((0, String::new())),
    }
}
