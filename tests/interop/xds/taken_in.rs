//! A live management server, shown by kubectl: what a bus has taken in from it as a client.

use std::process::{Command, Output, Stdio};

use http_body_util::BodyExt;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::management::Management;
use super::resources::{Cluster, Endpoints, Resource, cluster, endpoints, with_timeout};
use super::rig::LIMIT;
use crate::bus::{Bus, http_client};
use crate::process::{Scratch, free_port, until};

const NAME: &str = "outbound|80||a.b";

fn program() -> String {
    let named = std::env::var("MESHBUS_KUBECTLS").unwrap_or_default();
    let program = named.split(':').next().filter(|name| !name.is_empty());
    program
        .expect("no kubectl: run `tests/run`, or set MESHBUS_KUBECTLS (Debian: kubernetes-client)")
        .to_owned()
}

/// A kubectl at the scope of the client.
pub(super) struct Kubectl(pub(super) String);

impl Kubectl {
    fn run(&self, arguments: &[&str]) -> Output {
        let server = ["--server", &self.0];
        let output =
            Command::new(program()).args(arguments).args(server).env("KUBECONFIG", "/dev/null").output();
        output.expect("kubectl runs")
    }

    pub(super) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(super) fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_what_a_management_server_tells() {
    for mode in ["delta", "sotw"] {
        let scratch = Scratch::new();
        let mut management = Management::start().await;
        management.put(&cluster(NAME)).await;
        management.put(&endpoints(NAME, &[8080])).await;
        let api = free_port();
        let config = format!(
            "name: edge\nconnectors:\n  istiod: {{xds: {{client: {{urls: [\"http://127.0.0.1:{}\"], mode: {mode}, \
             subscribe: [{{type: envoy.config.cluster.v3.Cluster, follow: true}}]}}}}}}\n  \
             api: {{k8s: {{server: {{listen: \"127.0.0.1:{api}\"}}}}}}\n",
            management.port
        );
        let _bus = Bus::start(&scratch, &config).await;
        let kubectl = Kubectl(format!("http://127.0.0.1:{api}/scopes/istiod"));

        // Ready means that all is there.
        let yaml = kubectl.good(&["get", "clusters.cluster.config.envoy", NAME, "-o", "yaml"]);
        assert!(yaml.contains("kind: Cluster") && yaml.contains(NAME), "{mode}: {yaml}");
        assert!(kubectl.good(&["get", "eds"]).contains(NAME), "{mode}");
        assert!(kubectl.good(&["describe", "cds", NAME]).contains("Eds Cluster Config"), "{mode}");
        let version = "--api-version=cluster.config.envoy/v3";
        let explained = kubectl.good(&["explain", "clusters.spec.connectTimeout", version]);
        assert!(explained.contains("timeout"), "{mode}: {explained}");

        let refused = kubectl.bad(&["delete", "cds", NAME]);
        assert!(refused.contains("istiod"), "{mode}: it names the owner: {refused}");

        watch(&kubectl, &mut management, mode).await;
        refusal(&kubectl, &mut management, mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_long_requests_is_gone_on_with_after_a_restart() {
    const REQUEST_MAX: usize = 256 << 10;
    let scratch = Scratch::new();
    let mut management = Management::start_at(0, REQUEST_MAX).await;
    let (port, web) = (management.port, free_port());
    let clusters: Vec<Cluster> = (0..4000)
        .map(|n| cluster(&format!("outbound|{n}||a.cluster.of.a.rather.long.name.svc.local")))
        .collect();
    for cluster in &clusters {
        management.put(cluster).await;
    }
    let config = format!(
        "name: edge\nconnectors:\n  istiod: {{xds: {{client: {{urls: [\"http://127.0.0.1:{port}\"], \
         subscribe: [{{type: cds}}]}}}}}}\n  web: {{http: {{server: {{listen: \"127.0.0.1:{web}\"}}}}}}\n"
    );
    let mut bus = Bus::start(&scratch, &config).await;
    let http = http_client();
    let count = async || {
        let uri = format!("http://127.0.0.1:{web}/v1/state?type={}&scope=istiod&limit=5000", Cluster::TYPE);
        let answer = http.get(uri.parse().expect("an address")).await.ok()?;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some(serde_json::from_slice::<serde_json::Value>(&body).ok()?["items"].as_array()?.len())
    };
    until("all are there", LIMIT, async || (count().await? == 4000).then_some(())).await;
    drop(management);
    let mut management = Management::start_at(port, REQUEST_MAX).await;
    // It has another table: one is gone meanwhile.
    for cluster in &clusters[1..] {
        management.put(cluster).await;
    }
    until("the one is gone, and no other", LIMIT, async || (count().await? == 3999).then_some(())).await;
    bus.ready(LIMIT).await;
}

/// A kubectl that watches.
pub(super) struct Watch {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    pub(super) fn start(kubectl: &Kubectl, what: &[&str]) -> Self {
        let mut child = tokio::process::Command::new(program())
            .arg("get")
            .args(what)
            .args(["-w", "--output-watch-events", "--server", &kubectl.0])
            .env("KUBECONFIG", "/dev/null")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl runs");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { _child: child, lines }
    }

    /// The next event, with all of its line.
    pub(super) async fn next(&mut self) -> (String, String) {
        loop {
            let line = timeout(LIMIT, self.lines.next_line()).await.expect("an event in time");
            let line = line.expect("output").expect("a line");
            match line.split_whitespace().next() {
                // The names of the columns.
                None | Some("EVENT") => {}
                Some(event) => return (event.to_owned(), line),
            }
        }
    }

    /// The next event of this kind.
    pub(super) async fn sees(&mut self, wanted: &str) -> String {
        loop {
            let (event, line) = self.next().await;
            if event == wanted {
                return line;
            }
        }
    }
}

/// A change and a removal are seen by a watch.
async fn watch(kubectl: &Kubectl, management: &mut Management, mode: &str) {
    let mut watch = Watch::start(kubectl, &["cds"]);
    assert!(watch.sees("ADDED").await.contains(NAME), "{mode}");
    management.put(&with_timeout(cluster(NAME), 7)).await;
    watch.sees("MODIFIED").await;
    management.put(&cluster("second")).await;
    assert!(watch.sees("ADDED").await.contains("second"), "{mode}");
    management.delete(Cluster::TYPE, "second").await;
    assert!(watch.sees("DELETED").await.contains("second"), "{mode}");
}

/// What cannot be decoded is refused by name, and takes nothing with it.
async fn refusal(kubectl: &Kubectl, management: &mut Management, mode: &str) {
    management
        .put_bytes(
            Endpoints::TYPE,
            NAME,
            [0x0a, NAME.len() as u8].iter().copied().chain(NAME.bytes()).chain([0x12, 0x7f]).collect(),
        )
        .await;
    let said = management.said().await;
    assert_eq!(said["refused"], Endpoints::TYPE, "{mode}: {said}");
    if mode == "delta" {
        assert!(said["why"].as_str().unwrap_or_default().starts_with(NAME), "{said}");
    }
    assert!(kubectl.good(&["get", "eds"]).contains(NAME), "{mode}: it is as it was");
    management.put(&endpoints("third", &[9090])).await;
    management.put(&cluster("third")).await;
    until("others go on", LIMIT, async || kubectl.good(&["get", "eds"]).contains("third").then_some(()))
        .await;
}
