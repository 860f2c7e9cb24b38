//! XDS resources through every kubectl: written as YAML, read as tables, YAML and documentation, watched, deleted.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::kubectl::version;
use super::rig::{Api, kubectls};
use crate::process::Scratch;

const LIMIT: Duration = Duration::from_mins(2);

/// Two clusters, the second with a name as a mesh has them.
const CLUSTERS: &str = "\
apiVersion: cluster.config.envoy/v3
kind: Cluster
metadata: {name: web}
spec:
  name: web
  type: EDS
  connectTimeout: 5s
  transportSocket:
    name: tls
    typedConfig:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: web.example.com
---
apiVersion: cluster.config.envoy/v3
kind: Cluster
metadata: {name: 'outbound|80||web.example.com'}
spec: {name: 'outbound|80||web.example.com', type: STRICT_DNS}
";
const ENDPOINTS: &str = "\
apiVersion: endpoint.config.envoy/v3
kind: ClusterLoadAssignment
metadata: {name: web}
spec:
  clusterName: web
  endpoints:
  - lbEndpoints:
    - endpoint: {address: {socketAddress: {address: 10.0.0.1, portValue: 80}}}
    - endpoint: {address: {socketAddress: {address: 10.0.0.2, portValue: 80}}}
";

/// One kubectl and the API it talks to.
struct Kubectl {
    program: PathBuf,
    version: String,
    url: String,
    home: PathBuf,
}

impl Kubectl {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--server", &self.url, "--cache-dir"]).arg(self.home.join("cache")).args(args);
        command
            .env("KUBECONFIG", "/dev/null")
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Success and all that was printed.
    async fn run(&self, args: &[&str]) -> (bool, String) {
        let output = timeout(LIMIT, self.command(args).output()).await.expect("it ends").expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    async fn good(&self, args: &[&str]) -> String {
        let (good, said) = self.run(args).await;
        assert!(good, "kubectl {} {args:?}: {said}", self.version);
        said
    }

    /// The words of a table, without its last column, the age.
    async fn table(&self, args: &[&str]) -> Vec<Vec<String>> {
        let said = self.good(args).await;
        let row = |line: &str| {
            let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            words.pop();
            words
        };
        said.lines().map(row).collect()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args).await).expect("JSON")
    }
}

fn file(scratch: &Scratch, name: &str, text: &str) -> String {
    let path = scratch.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

async fn writes_and_reads(kubectl: &Kubectl, scratch: &Scratch) {
    let (clusters, endpoints) = (file(scratch, "c.yaml", CLUSTERS), file(scratch, "e.yaml", ENDPOINTS));
    // Before there is any.
    assert!(kubectl.good(&["get", "clusters.cluster.config.envoy"]).await.contains("No resources found"));
    kubectl.good(&["create", "-f", &clusters]).await;
    kubectl.good(&["apply", "-f", &endpoints]).await;
    let rows = kubectl.table(&["get", "cds"]).await;
    assert_eq!(rows[0], ["NAME", "TYPE", "VERSION", "SOURCE"], "{}", kubectl.version);
    let first = |row: &Vec<String>| row[..2].to_vec();
    let rows: Vec<_> = rows[1..].iter().map(first).collect();
    assert_eq!(rows, [["outbound|80||web.example.com", "STRICT_DNS"], ["web", "EDS"]]);
    assert_eq!(kubectl.table(&["get", "eds", "web"]).await[1][..2], ["web", "2"]);
    let all = kubectl.good(&["get", "xds", "-o", "name"]).await;
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    assert_eq!(
        all,
        [
            "cluster.cluster.config.envoy/outbound|80||web.example.com",
            "cluster.cluster.config.envoy/web",
            "clusterloadassignment.endpoint.config.envoy/web",
        ]
    );
    let one = kubectl.json(&["get", "cds", "outbound|80||web.example.com", "-o", "json"]).await;
    assert_eq!(one["spec"], json!({"name": "outbound|80||web.example.com", "type": "STRICT_DNS"}));
    let yaml = kubectl.good(&["get", "clusters.cluster.config.envoy/web", "-o", "yaml"]).await;
    assert!(yaml.contains("  connectTimeout: 5s\n") && yaml.contains("sni: web.example.com"), "{yaml}");
    let described = kubectl.good(&["describe", "cds", "web"]).await;
    assert!(
        described.contains("Kind:         Cluster") && described.contains("Connect Timeout:  5s"),
        "{described}"
    );
    let explained = kubectl.good(&["explain", "clusters.spec"]).await;
    assert!(explained.contains("connectTimeout") && explained.contains("edsClusterConfig"), "{explained}");
}

async fn changes(kubectl: &Kubectl, scratch: &Scratch) {
    // What is left out of what is applied is gone.
    let without = CLUSTERS.replace("  connectTimeout: 5s\n", "");
    let without = file(scratch, "d.yaml", &without);
    kubectl.good(&["apply", "-f", &without]).await;
    let spec = |object: Value| object["spec"].clone();
    let one = spec(kubectl.json(&["get", "cds", "web", "-o", "json"]).await);
    assert_eq!(
        (&one["connectTimeout"], &one["type"]),
        (&Value::Null, &json!("EDS")),
        "{}",
        kubectl.version
    );
    kubectl
        .good(&["patch", "cds", "web", "--type", "merge", "-p", r#"{"spec":{"connectTimeout":"7s"}}"#])
        .await;
    assert_eq!(spec(kubectl.json(&["get", "cds", "web", "-o", "json"]).await)["connectTimeout"], "7s");
    kubectl.good(&["apply", "--server-side", "--force-conflicts", "-f", &without]).await;
    assert_eq!(
        spec(kubectl.json(&["get", "cds", "web", "-o", "json"]).await)["connectTimeout"],
        Value::Null
    );
    // What is wrong is named by its field.
    let wrong = file(scratch, "w.yaml", &CLUSTERS.replace("type: EDS", "type: EDSS"));
    let (good, said) = kubectl.run(&["apply", "--validate=false", "-f", &wrong]).await;
    assert!(!good && said.contains("spec.type: Invalid value: \"EDSS\" is no"), "{said}");
    let (good, said) = kubectl
        .run(&["patch", "cds", "web", "--type", "merge", "-p", r#"{"spec":{"edsConfig":{}}}"#])
        .await;
    assert!(!good && said.contains("spec.edsConfig"), "{said}");
}

async fn watches(kubectl: &Kubectl) {
    let mut command = kubectl.command(&["get", "cds", "-w", "-o", "name"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut line =
        async || timeout(LIMIT, lines.next_line()).await.expect("in time").expect("text").expect("a line");
    let listed = [line().await, line().await];
    assert!(listed.contains(&"cluster.cluster.config.envoy/web".to_owned()), "{listed:?}");
    kubectl.good(&["delete", "cds", "outbound|80||web.example.com"]).await;
    assert_eq!(line().await, "cluster.cluster.config.envoy/outbound|80||web.example.com");
    child.kill().await.expect("it ends");
    kubectl.good(&["delete", "cds,eds", "--all"]).await;
    assert!(kubectl.good(&["get", "xds"]).await.contains("No resources found"));
}

async fn with(program: PathBuf) {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let version = version(Path::new(&program));
    let kubectl = Kubectl { program, version, url: api.url(), home: scratch.dir("home") };
    writes_and_reads(&kubectl, &scratch).await;
    changes(&kubectl, &scratch).await;
    watches(&kubectl).await;
    println!("kubectl {}: written, read, watched, deleted", kubectl.version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kubectl_works_with_xds_resources() {
    // Most of a run is waiting, so they go side by side, each with a bus of its own.
    join_all(kubectls().into_iter().map(with)).await;
}
