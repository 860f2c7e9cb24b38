//! Two buses in a row: what is written at the one that follows is written by the one behind it, by its rules and in its
//! words.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::management::Management;
use super::resources::{Cluster, Resource, cluster};
use super::rig::LIMIT;
use crate::bus::{Bus, HttpClient, http_client};
use crate::k8s::kubectl::version;
use crate::k8s::rig::kubectls;
use crate::process::{Scratch, free_port, until};

/// How long a kubectl may take.
const KUBECTL: Duration = Duration::from_mins(1);
/// What "at once" is: well before a writer would give up.
const AT_ONCE: Duration = Duration::from_secs(3);
/// The kind that is written.
const KIND: &str = "clusters.cluster.config.envoy";

/// A bus with a state API and a Kubernetes API, and what it talks with.
struct Node {
    bus: Bus,
    web: u16,
    api: u16,
    http: HttpClient,
}

impl Node {
    /// With more connectors, and more configuration at the top level.
    fn prepare(scratch: &Scratch, name: &str, connectors: &str, more: &str) -> Self {
        let (web, api) = (free_port(), free_port());
        let config = format!(
            "name: {name}\nstate: {{settle: 0s}}\nconnectors:\n{connectors}  \
             web: {{http: {{server: {{listen: \"127.0.0.1:{web}\"}}}}}}\n  \
             api: {{k8s: {{server: {{listen: \"127.0.0.1:{api}\"}}}}}}\n{more}"
        );
        Self { bus: Bus::prepare(scratch, name, &config), web, api, http: http_client() }
    }

    /// One whose connector `core` follows the clusters of the server at this port.
    fn edge(scratch: &Scratch, mode: &str, xds: u16, more: &str) -> Self {
        let client = format!(
            "  core: {{xds: {{client: {{urls: [\"http://127.0.0.1:{xds}\"], mode: {mode}, subscribe: [{{type: cds}}]{more}}}}}}}\n"
        );
        Self::prepare(scratch, "edge", &client, "")
    }

    /// Status and body of a request for the state of a cluster in the scope `core`.
    async fn state(&self, method: Method, name: &str, body: Vec<u8>) -> (u16, String) {
        let uri = format!(
            "http://127.0.0.1:{}/v1/state?type={}&scope=core&name={name}",
            self.web,
            <Cluster as Resource>::TYPE
        );
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("content-type", "application/protobuf").body(Full::new(body.into()));
        let answer = self.http.request(request.expect("a request")).await.expect("an answer");
        let status = answer.status().as_u16();
        let body: Bytes = answer.into_body().collect().await.expect("an answer").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn put(&self, name: &str) -> (u16, String) {
        self.state(Method::PUT, name, prost::Message::encode_to_vec(&cluster(name))).await
    }
}

/// A kubectl at an API.
struct Kubectl<'a> {
    program: &'a Path,
    url: String,
    home: PathBuf,
}

impl<'a> Kubectl<'a> {
    fn at(program: &'a Path, node: &Node, scope: &str, scratch: &Scratch) -> Self {
        let home = scratch.dir(&format!("home-{}-{scope}", version(program)));
        Self { program, url: format!("http://127.0.0.1:{}/scopes/{scope}", node.api), home }
    }

    /// Whether it ended well, and what it said; `editor` is run by `kubectl edit`.
    async fn run_with(&self, editor: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(self.program)
            .args(arguments)
            .args(["--server", &self.url])
            .env("KUBECONFIG", "/dev/null")
            .env("KUBE_EDITOR", editor)
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(KUBECTL, output).await.expect("it ends").expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    async fn run(&self, arguments: &[&str]) -> (bool, String) {
        self.run_with("false", arguments).await
    }

    async fn good(&self, arguments: &[&str]) -> String {
        let (good, said) = self.run(arguments).await;
        assert!(good, "kubectl {} {arguments:?}: {said}", version(self.program));
        said
    }

    /// The spec of a cluster; `None` where there is none.
    async fn spec(&self, name: &str) -> Option<Value> {
        let (good, said) = self.run(&["get", KIND, name, "-o", "json"]).await;
        good.then(|| serde_json::from_str::<Value>(&said).expect("JSON")["spec"].clone())
    }

    fn file(&self, name: &str, spec: &Value) -> String {
        let object = json!({
            "apiVersion": "cluster.config.envoy/v3", "kind": "Cluster", "metadata": {"name": name}, "spec": spec,
        });
        let path = self.home.join("object.json");
        std::fs::write(&path, object.to_string()).expect("a file");
        path.display().to_string()
    }
}

/// Core and edge, both ready.
async fn row(scratch: &Scratch, mode: &str) -> (Node, Node, u16) {
    let xds = free_port();
    let server = format!("  ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\"}}}}}}\n");
    let mut core = Node::prepare(scratch, "core", &server, "");
    core.bus.restart().await;
    let mut edge = Node::edge(scratch, mode, xds, "");
    edge.bus.restart().await;
    (core, edge, xds)
}

/// All that a kubectl does to one cluster, at the edge; and what there is of it at the core then.
async fn life(edge: &Kubectl<'_>, core: &Kubectl<'_>, name: &str) {
    let both = async |what: &str, expected: &Value| {
        assert_eq!(core.spec(name).await.as_ref(), Some(expected), "{what}, at the core");
        assert_eq!(edge.spec(name).await.as_ref(), Some(expected), "{what}, at the edge");
    };
    // The kind is known before there is any.
    edge.good(&["get", KIND]).await;
    let first = json!({"name": name, "type": "EDS"});
    let file = edge.file(name, &first);
    edge.good(&["create", "-f", &file]).await;
    both("created", &first).await;
    let (good, said) = edge.run(&["create", "-f", &file]).await;
    assert!(!good && said.contains("AlreadyExists") && said.contains("the key is at version"), "{said}");
    let applied = json!({"name": name, "type": "EDS", "connectTimeout": "5s"});
    edge.good(&["apply", "-f", &edge.file(name, &applied)]).await;
    both("applied", &applied).await;
    edge.good(&["patch", KIND, name, "--type=merge", "-p", r#"{"spec": {"connectTimeout": "6s"}}"#]).await;
    both("merged", &json!({"name": name, "type": "EDS", "connectTimeout": "6s"})).await;
    let operations = r#"[{"op": "replace", "path": "/spec/connectTimeout", "value": "7s"}]"#;
    edge.good(&["patch", KIND, name, "--type=json", "-p", operations]).await;
    both("patched", &json!({"name": name, "type": "EDS", "connectTimeout": "7s"})).await;
    let (good, said) = edge.run_with("sed -i s/7s/8s/", &["edit", KIND, name]).await;
    assert!(good, "{said}");
    both("edited", &json!({"name": name, "type": "EDS", "connectTimeout": "8s"})).await;
    let file = edge.file(name, &applied);
    edge.good(&["apply", "--server-side", "--force-conflicts", "-f", &file]).await;
    both("applied by the server", &applied).await;
    // What was read can be written back, and only once.
    let mut read: Value =
        serde_json::from_str(&edge.good(&["get", KIND, name, "-o", "json"]).await).expect("JSON");
    read["spec"]["connectTimeout"] = "9s".into();
    let path = edge.home.join("read.json");
    std::fs::write(&path, read.to_string()).expect("a file");
    let replace = ["replace", "-f", path.to_str().expect("UTF-8")];
    edge.good(&replace).await;
    let (good, said) = edge.run(&replace).await;
    assert!(!good && said.contains("Conflict") && said.contains("has been modified"), "{said}");
    let wrong = edge.file(name, &json!({"name": name, "type": "EDSS"}));
    let (good, said) = edge.run(&["apply", "--validate=false", "-f", &wrong]).await;
    assert!(!good && said.contains("spec.type: Invalid value"), "{said}");
    let merge = r#"{"spec": {"connectTimeout": "1s"}}"#;
    edge.good(&["patch", KIND, name, "--type=merge", "-p", merge, "--dry-run=server"]).await;
    both("tried", &json!({"name": name, "type": "EDS", "connectTimeout": "9s"})).await;
    edge.good(&["delete", KIND, name, "--timeout=20s"]).await;
    assert_eq!((core.spec(name).await, edge.spec(name).await), (None, None));
    let (good, said) = edge.run(&["delete", KIND, name]).await;
    assert!(!good && said.contains("NotFound"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kubectl_writes_through_a_bus_at_the_one_behind_it() {
    for mode in ["delta", "sotw"] {
        let scratch = Scratch::new();
        let (core, edge, _) = row(&scratch, mode).await;
        let programs = kubectls();
        for (at, program) in programs.iter().enumerate() {
            let edge = Kubectl::at(program, &edge, "core", &scratch);
            let core = Kubectl::at(program, &core, "local", &scratch);
            life(&edge, &core, &format!("c-{at}")).await;
        }
        println!("{mode}: {} kubectls wrote through", programs.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_many_at_once_are_all_in_what_there_is_in_the_end() {
    let scratch = Scratch::new();
    let (core, edge, _) = row(&scratch, "delta").await;
    assert_eq!(edge.put("c").await.0, 201);
    let program = &kubectls()[0];
    let (edge, core) =
        (Kubectl::at(program, &edge, "core", &scratch), Kubectl::at(program, &core, "local", &scratch));
    // At both ends, each another field.
    let fields = [
        ("connectTimeout", json!("3s")),
        ("altStatName", json!("other")),
        ("lbPolicy", json!("RANDOM")),
        ("perConnectionBufferLimitBytes", json!(4096)),
        ("respectDnsTtl", json!(true)),
        ("dnsRefreshRate", json!("9s")),
    ];
    let patches = fields.iter().enumerate().map(|(at, (field, value))| {
        let at = if at % 3 == 0 { &core } else { &edge };
        let patch = json!({"spec": {*field: value}}).to_string();
        async move { at.good(&["patch", KIND, "c", "--type=merge", "-p", &patch]).await }
    });
    futures_util::future::join_all(patches).await;
    until("all fields are set at both", LIMIT, async || {
        for at in [&core, &edge] {
            let spec = at.spec("c").await?;
            fields.iter().all(|(field, value)| spec[*field] == *value).then_some(())?;
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_at_the_core_and_not_write_is_told_so_in_its_words() {
    let scratch = Scratch::new();
    let xds = free_port();
    let token = scratch.path().join("token");
    std::fs::write(&token, "abc").expect("a file");
    let token = token.display();
    let server = format!("  ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\"}}}}}}\n");
    let access = format!(
        "access:\n  - {{principal: edge, token: {{file: \"{token}\"}}, allow: [subscribe, read], topics: [\"#\"]}}\n"
    );
    let mut core = Node::prepare(&scratch, "core", &server, &access);
    core.bus.restart().await;
    let mut edge = Node::edge(&scratch, "delta", xds, &format!(", token: {{file: \"{token}\"}}"));
    edge.bus.restart().await;
    let (status, said) = edge.put("c").await;
    assert!(status == 403 && said.contains("edge") && said.contains("write"), "{status} {said}");
    for program in &kubectls() {
        let kubectl = Kubectl::at(program, &edge, "core", &scratch);
        let file = kubectl.file("c", &json!({"name": "c"}));
        let (good, said) = kubectl.run(&["create", "-f", &file]).await;
        assert!(!good && said.contains("Forbidden") && said.contains("edge"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_maker_that_takes_no_writes_is_named() {
    let scratch = Scratch::new();
    let mut management = Management::start().await;
    management.put(&cluster("there")).await;
    let mut edge = Node::edge(&scratch, "delta", management.port, "");
    edge.bus.restart().await;
    let server = format!("127.0.0.1:{}", management.port);
    for _ in 0..2 {
        let (status, said) = edge.put("c").await;
        assert!(status == 405 && said.contains("core") && said.contains(&server), "{status} {said}");
    }
    let (status, said) = edge.state(Method::DELETE, "there", Vec::new()).await;
    assert!(status == 405 && said.contains(&server), "{status} {said}");
    for program in &kubectls() {
        let kubectl = Kubectl::at(program, &edge, "core", &scratch);
        let patch = ["patch", KIND, "there", "--type=merge", "-p", r#"{"spec": {"connectTimeout": "6s"}}"#];
        for arguments in [&["delete", KIND, "there"][..], &patch] {
            let (good, said) = kubectl.run(arguments).await;
            let named = said.contains("\"core\"") && said.contains(&server);
            assert!(!good && said.contains("MethodNotAllowed") && named, "{arguments:?}: {said}");
        }
        assert_eq!(kubectl.spec("there").await.expect("it is there")["name"], "there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_core_is_away_writes_are_refused_at_once_and_work_again_when_it_is_back() {
    let scratch = Scratch::new();
    let (mut core, edge, xds) = row(&scratch, "delta").await;
    assert_eq!(edge.put("c").await.0, 201);
    core.bus.kill();
    let server = format!("127.0.0.1:{xds}");
    until("the edge has noticed", LIMIT, async || {
        let (status, _) = edge.put("c").await;
        (status == 503).then_some(())
    })
    .await;
    for _ in 0..5 {
        let began = Instant::now();
        let (status, said) = edge.put("c").await;
        assert!(status == 503 && said.contains("\"core\\\" is not connected"), "{status} {said}");
        assert!(said.contains(&server) || said.contains("connecting"), "{said}");
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    core.bus.restart().await;
    until("writes work again", LIMIT, async || matches!(edge.put("d").await.0, 200 | 201).then_some(()))
        .await;
    let (status, said) = edge.state(Method::DELETE, "d", Vec::new()).await;
    assert_eq!(status, 200, "{said}");
}

/// Both examples as they are, but at other ports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_an_edge_does_what_it_says() {
    let scratch = Scratch::new();
    let ports: Vec<(String, String)> = [8080, 18000, 18001, 18010, 18011]
        .map(|port| (format!("127.0.0.1:{port}\""), format!("127.0.0.1:{}\"", free_port())))
        .to_vec();
    let api = |at: usize| format!("http://{}", ports[at].1.trim_end_matches('"'));
    let mut buses = Vec::new();
    for name in ["xds-to-envoy", "xds-edge"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{name}.yaml"));
        let example = std::fs::read_to_string(example).expect("the example");
        let config = ports.iter().fold(example, |text, (from, to)| text.replace(from, to));
        let mut bus = Bus::prepare(&scratch, name, &config);
        bus.restart().await;
        buses.push(bus);
    }
    let programs = kubectls();
    let kubectl = |at| Kubectl { program: &programs[0], url: api(at), home: scratch.dir("home") };
    let (core, edge) = (kubectl(2), kubectl(4));
    let spec = json!({"name": "c", "type": "EDS"});
    edge.good(&["apply", "-f", &edge.file("c", &spec)]).await;
    assert_eq!((core.spec("c").await, edge.spec("c").await), (Some(spec.clone()), Some(spec)));
    let said = edge.good(&["get", "lds,rds,cds,eds", "-o", "name"]).await;
    assert_eq!(said.trim(), "cluster.cluster.config.envoy/c");
}
