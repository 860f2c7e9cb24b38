//! kubectl through the bus: what it writes below `/scopes/NAME` is written by the cluster that owns the scope, under
//! the cluster's own rules and in its own words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::asks::minor;
use super::kubectl::run_at;
use super::rig::{Api, kubectls};
use crate::bus::Bus;
use crate::hostile::{Hostile, Kind, Options};
use crate::process::{Scratch, free_port, until};

const LIMIT: Duration = Duration::from_secs(30);

/// A bus with a Kubernetes API between kubectl and a cluster.
struct Between {
    api: Api,
    home: PathBuf,
    scope: &'static str,
}

impl Between {
    /// Whether kubectl ended well, and what it said.
    fn kubectl(&self, program: &Path, arguments: &[&str]) -> (bool, String) {
        run_at(program, &format!("{}/scopes/{}", self.api.url(), self.scope), &self.home, arguments)
    }

    fn good(&self, program: &Path, arguments: &[&str]) -> String {
        let (ok, said) = self.kubectl(program, arguments);
        assert!(ok, "{} {arguments:?}: {said}", program.display());
        said
    }

    /// A file for `-f`.
    fn file(&self, name: &str, object: &Value) -> String {
        let path = self.home.join(name);
        std::fs::write(&path, object.to_string()).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }
}

/// The hostile server as the cluster `east`, whose `ConfigMaps` and widgets the bus watches.
async fn east(scratch: &Scratch) -> (Hostile, Between) {
    let kinds = vec![Kind::custom("example.com", "v1", "Widget", "widgets")];
    let seed = std::env::var("MESHBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let options = Options { kinds, ..Options::default() };
    let hostile = Hostile::start(seed.unwrap_or_else(|| fastrand::u64(..)), options).await;
    let file = scratch.path().join("kubeconfig");
    std::fs::write(&file, hostile.kubeconfig()).expect("a file");
    let client = format!(
        "  east: {{k8s: {{client: {{kubeconfig: {}, cursor: {{store: none}}, watch: [{{type: v1/ConfigMap}}, \
         {{type: v1/Namespace}}, {{type: example.com/v1/Widget}}]}}}}}}\n",
        file.display()
    );
    let between =
        Between { api: Api::start(scratch, &client).await, home: scratch.dir("home"), scope: "east" };
    (hostile, between)
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// Waits until the bus shows what the cluster has: another writer's change comes by the watch.
async fn shows(between: &Between, program: &Path, arguments: &[&str], expected: &str) {
    until(&format!("{arguments:?} shows {expected:?}"), LIMIT, async || {
        let (ok, said) = between.kubectl(program, arguments);
        (ok && said.trim() == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kubectl_writes_through_to_the_cluster() {
    let scratch = Scratch::new();
    let (hostile, between) = east(&scratch).await;
    for (at, kubectl) in kubectls().iter().enumerate() {
        let name = format!("w-{at}");
        let held = || hostile.objects("Widget").get(&format!("default/{name}")).map(|it| it.value.clone());
        let file = between.file("widget.json", &widget(&name, &json!({"color": "red"})));
        let said = between.good(kubectl, &["create", "-f", &file, "--validate=false"]);
        assert!(said.contains("created"), "{said}");
        assert_eq!(held().expect("it is there")["spec"]["color"], "red");
        // The client's own words for who writes reach the cluster.
        let managers = held().expect("it is there")["metadata"]["managedFields"].to_string();
        assert!(managers.contains("kubectl"), "{managers}");
        let (ok, said) = between.kubectl(kubectl, &["create", "-f", &file, "--validate=false"]);
        assert!(!ok && said.contains("AlreadyExists") && said.contains("already exists"), "{said}");
        let merge = r#"{"spec": {"color": "green"}}"#;
        between.good(kubectl, &["patch", "widget", &name, "--type=merge", "-p", merge]);
        assert_eq!(held().expect("it is there")["spec"]["color"], "green");
        let applied = between.file("applied.json", &widget(&name, &json!({"size": 3})));
        let apply = ["apply", "--server-side", "-f", &applied, "--validate=false", "--field-manager=me"];
        between.good(kubectl, &apply);
        assert_eq!(held().expect("it is there")["spec"], json!({"color": "green", "size": 3}));
        // Its version is the bus's position: what was read can be written back, and only once.
        let read = between.good(kubectl, &["get", "widget", &name, "-o", "json"]);
        let mut read: Value = serde_json::from_str(&read).expect("JSON");
        read["spec"]["size"] = 4.into();
        let read = between.file("read.json", &read);
        between.good(kubectl, &["replace", "-f", &read, "--validate=false"]);
        assert_eq!(held().expect("it is there")["spec"]["size"], 4);
        let (ok, said) = between.kubectl(kubectl, &["replace", "-f", &read, "--validate=false"]);
        assert!(!ok && said.contains("Conflict") && said.contains("has been modified"), "{said}");
        if minor(kubectl) >= 27 {
            let status = r#"{"status": {"ready": true}, "spec": {"size": 9}}"#;
            let subresource =
                ["patch", "widget", &name, "--subresource=status", "--type=merge", "-p", status];
            between.good(kubectl, &subresource);
            let now = held().expect("it is there");
            assert_eq!((&now["status"]["ready"], &now["spec"]["size"]), (&true.into(), &4.into()));
        }
        between.good(kubectl, &["annotate", "widget", &name, "team=red"]);
        between.good(kubectl, &["patch", "widget", &name, "--type=merge", "-p", merge, "--dry-run=server"]);
        hostile.patch("Widget", "default", &name, &json!({"spec": {"size": 5}}));
        shows(&between, kubectl, &["get", "widget", &name, "-o", "jsonpath={.spec.size}"], "5").await;
        between.good(kubectl, &["delete", "widget", &name, "--timeout=20s"]);
        assert_eq!(held(), None);
        let (ok, said) = between.kubectl(kubectl, &["delete", "widget", &name]);
        assert!(!ok && said.contains("NotFound"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_refusals_reach_kubectl_with_reason_and_message() {
    let scratch = Scratch::new();
    let (hostile, between) = east(&scratch).await;
    let spec = json!({"color": "red"});
    for kubectl in &kubectls() {
        let file = between.file("owned.json", &widget("owned", &spec));
        between.good(
            kubectl,
            &["apply", "--server-side", "-f", &file, "--field-manager=one", "--validate=false"],
        );
        let other = between.file("other.json", &widget("owned", &json!({"color": "blue"})));
        let apply = ["apply", "--server-side", "-f", &other, "--field-manager=two", "--validate=false"];
        let (ok, said) = between.kubectl(kubectl, &apply);
        assert!(!ok && said.contains(r#"conflict with "one""#) && said.contains(".spec.color"), "{said}");
        between.good(kubectl, &[&apply[..], &["--force-conflicts"]].concat());
        assert_eq!(hostile.objects("Widget")["default/owned"].value["spec"]["color"], "blue");
        let elsewhere = between.file("elsewhere.json", &{
            let mut widget = widget("lost", &spec);
            widget["metadata"]["namespace"] = "nowhere".into();
            widget
        });
        let (ok, said) = between.kubectl(kubectl, &["create", "-f", &elsewhere, "--validate=false"]);
        assert!(!ok && said.contains(r#"namespaces "nowhere" not found"#), "{said}");
        // What it does not watch the bus could not confirm: it says so before the cluster is asked.
        let (ok, said) = between.kubectl(kubectl, &["create", "-f", &between.file("pod.json", &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": {}
        })), "--validate=false"]);
        assert!(!ok && said.contains("MethodNotAllowed") && said.contains("east does not watch"), "{said}");
        assert!(hostile.objects("Pod").is_empty());
        between.good(kubectl, &["delete", "widget", "owned"]);
    }
}

/// The cluster becomes, by a reload, a connector of the same name that can write nowhere: what there was stays, and is
/// only read.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_whose_owner_takes_no_writes_names_it() {
    let scratch = Scratch::new();
    let (hostile, between) = east(&scratch).await;
    hostile.create("Widget", "default", "left", json!({"spec": {"size": 1}}));
    let size = ["get", "widget", "left", "-o", "jsonpath={.spec.size}"];
    shows(&between, &kubectls()[0], &size, "1").await;
    let hook = "  east: {http: {client: {url: \"http://127.0.0.1:9/\"}}}\n";
    between.api.bus.configure(&Api::config(between.api.port, hook));
    between.api.bus.process.signal("HUP");
    let owner = r#"the connector "east" owns widgets.example.com and takes no writes"#;
    let create = between.file("new.json", &widget("new", &json!({})));
    let delete = ["delete", "widget", "left"];
    until("the reload is done", LIMIT, async || {
        let (ok, said) = between.kubectl(&kubectls()[0], &["create", "-f", &create, "--validate=false"]);
        (!ok && said.contains(owner)).then_some(())
    })
    .await;
    for kubectl in &kubectls() {
        let patch = ["patch", "widget", "left", "--type=merge", "-p", r#"{"spec": {"size": 2}}"#];
        for arguments in [&delete[..], &patch, &["create", "-f", &create, "--validate=false"]] {
            let (ok, said) = between.kubectl(kubectl, arguments);
            assert!(
                !ok && said.contains("MethodNotAllowed") && said.contains(owner),
                "{arguments:?}: {said}"
            );
        }
        assert_eq!(between.good(kubectl, &size), "1");
        let (ok, said) = between.kubectl(kubectl, &["auth", "can-i", "delete", "widgets"]);
        assert!(!ok && said.contains("no"), "{said}");
    }
}

/// Two buses in a row: one's Kubernetes API is the other's cluster, named by its URL.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_can_be_the_cluster_of_another() {
    let scratch = Scratch::new();
    let port = free_port();
    let mut far = Bus::prepare(&scratch, "far", &Api::config(port, ""));
    far.restart().await;
    let client = format!(
        "  far: {{k8s: {{client: {{url: \"http://127.0.0.1:{port}/scopes/local\", cursor: {{store: none}}, \
         watch: [{{type: v1/ConfigMap}}, {{type: v1/Namespace}}]}}}}}}\n"
    );
    let between =
        Between { api: Api::start(&scratch, &client).await, home: scratch.dir("home"), scope: "far" };
    let kubectl = &kubectls()[0];
    between.good(kubectl, &["create", "configmap", "limits", "--from-literal=eu=10"]);
    let merge = r#"{"data": {"us": "20"}}"#;
    between.good(kubectl, &["patch", "configmap", "limits", "--type=merge", "-p", merge]);
    let there = run_at(
        kubectl,
        &format!("http://127.0.0.1:{port}"),
        &between.home,
        &["get", "configmap", "limits", "-o", "jsonpath={.data}"],
    );
    let data: Value = serde_json::from_str(&there.1).expect("JSON");
    assert_eq!(data, json!({"eu": "10", "us": "20"}));
    // By strategic merge, as kubectl patches and applies kinds that it knows.
    let applied = |asia: &str| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "applied", "namespace": "default"}, "data": {"asia": asia}});
        between.file("applied.json", &map)
    };
    for kubectl in &kubectls() {
        between.good(kubectl, &["patch", "configmap", "limits", "-p", r#"{"data": {"us": "30"}}"#]);
        between.good(kubectl, &["apply", "-f", &applied("1")]);
        between.good(kubectl, &["apply", "-f", &applied("2")]);
        let said = between.good(kubectl, &["get", "configmap", "applied", "-o", "jsonpath={.data.asia}"]);
        assert_eq!(said, "2");
        between.good(kubectl, &["delete", "configmap", "applied"]);
    }
    between.good(kubectl, &["delete", "configmap", "limits"]);
    assert!(between.good(kubectl, &["get", "configmaps"]).contains("No resources found"));
}
