//! What clients ask about the API itself, with every kubectl there is: kinds, schemas, rights, names; and the contexts
//! that `meshbus kubeconfig` makes.

use std::path::Path;
use std::process::{Command, Stdio};

use super::kubectl::run;
use super::rig::{Api, kubectls};
use crate::process::Scratch;

const CRD: &str = "---\n{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: widgets.example.com}, \
    spec: {group: example.com, scope: Namespaced, names: {kind: Widget, plural: widgets, shortNames: [wg]}, \
    versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, description: A widget., \
    properties: {spec: {type: object, properties: {size: {type: integer, description: How large.}}}}}}}]}}";

pub(super) fn minor(kubectl: &Path) -> u32 {
    let output = Command::new(kubectl).args(["version", "--client"]).output().expect("kubectl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = text.split("v1.").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.unwrap_or_else(|| panic!("no version in {text:?}"))
}

#[tokio::test]
async fn every_kubectl_learns_of_kinds_schemas_and_rights() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    for (at, kubectl) in kubectls().iter().enumerate() {
        let (home, minor) = (scratch.dir(&format!("home-{at}")), minor(kubectl));
        let file = home.join("crd.yaml");
        std::fs::write(&file, CRD).expect("a file");
        let file = file.to_str().expect("UTF-8");
        let mut asked: Vec<(Vec<&str>, Vec<&str>)> = vec![
            (vec!["apply", "-f", file], vec!["widgets.example.com"]),
            (vec!["version"], vec!["v1.36.0+meshbus-"]),
            (vec!["api-versions"], vec!["example.com/v1", "events.k8s.io/v1", "meshbus.dev/v1"]),
            (vec!["api-resources"], vec!["widgets", "wg", "Widget", "customresourcedefinitions", "leases"]),
            (vec!["explain", "widgets.spec"], vec!["size", "How large."]),
            (vec!["explain", "route.status"], vec!["delivered"]),
            (vec!["explain", "events.involvedObject"], vec!["fieldPath"]),
            (vec!["auth", "can-i", "list", "widgets"], vec!["yes"]),
            (vec!["auth", "can-i", "--list"], vec!["widgets.example.com", "configmaps"]),
            (vec!["get", "--raw", "/readyz?verbose"], vec!["[+]ping ok"]),
        ];
        if minor >= 28 {
            asked.push((vec!["auth", "whoami"], vec!["meshbus:admin", "system:masters"]));
            asked.push((vec!["auth", "whoami", "--as", "bob"], vec!["bob", "system:authenticated"]));
        }
        for (arguments, expected) in asked {
            let (ok, said) = run(kubectl, &api, &home, &arguments);
            let shows = expected.iter().all(|text| said.contains(text));
            assert!(ok && shows, "1.{minor} {arguments:?} shows no {expected:?}:\n{said}");
        }
        let (ok, said) = run(kubectl, &api, &home, &["auth", "can-i", "create", "routes"]);
        assert!(!ok && said.contains("no"), "1.{minor}: {said}");
    }
}

#[tokio::test]
async fn every_kubectl_uses_the_contexts_that_are_merged_into_its_file() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let home = scratch.dir("home");
    let file = home.join("config");
    std::fs::write(&file, "# mine\napiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n")
        .expect("a file");
    let merge = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_meshbus"))
            .args(["kubeconfig", "--merge", "-s", &api.url()])
            .args(more)
            .env("KUBECONFIG", &file)
            .env_remove("MESHBUS_TOKEN")
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
        std::fs::read_to_string(&file).expect("text")
    };
    let once = merge(&[]);
    assert!(once.starts_with("# mine\napiVersion: v1\n"), "{once}");
    assert_eq!(merge(&[]), once);
    let context = format!("api-{}-local", api.port);
    // By its name, below /scopes, it is the same as at the root.
    merge(&["--scope", "local", "--name", "below"]);
    for kubectl in kubectls() {
        for arguments in [
            &["get", "namespaces"][..],
            &["--context", &context, "get", "namespaces"],
            &["--context", "below-local", "get", "namespaces"],
            &["--context", "below-local", "explain", "pods.spec"],
            &["--context", "below-local", "create", "configmap", "one", "--dry-run=server"],
        ] {
            let output = Command::new(&kubectl)
                .args(arguments)
                .env("KUBECONFIG", &file)
                .env("HOME", &home)
                .stdin(Stdio::null())
                .output()
                .expect("kubectl runs");
            assert!(output.status.success(), "{} {arguments:?}: {output:?}", kubectl.display());
        }
    }
}
