//! What a user types: each command on the bus's own API, with every kubectl there is.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use super::kubectl::run;
use super::rig::{Api, kubectls};
use crate::process::Scratch;

const LIMIT: Duration = Duration::from_secs(30);

fn event(name: &str, kind: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Event, metadata: {{name: {name}, namespace: default}}, reason: Happened, type: Normal, \
         message: it did, involvedObject: {{kind: {kind}, name: x, namespace: default}}, \
         firstTimestamp: \"2026-11-22T06:00:00Z\", lastTimestamp: \"2026-11-22T06:00:00Z\", source: {{component: test}}}}"
    )
}

#[tokio::test]
async fn events_that_are_not_about_pods_are_got_and_watched_by_every_kubectl() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let kubectls = kubectls();
    for (at, kubectl) in kubectls.iter().enumerate() {
        let home = scratch.dir(&format!("home-{at}"));
        let create = |name: &str, kind: &str| {
            let file = home.join(format!("{name}.yaml"));
            std::fs::write(&file, event(name, kind)).expect("a file");
            let (ok, said) = run(kubectl, &api, &home, &["create", "-f", file.to_str().expect("UTF-8")]);
            assert!(ok, "{}: {said}", kubectl.display());
        };
        create(&format!("of-pod-{at}"), "Pod");
        create(&format!("of-widget-{at}"), "Widget");
        let wanted = ["get", "events", "-A", "--field-selector", "involvedObject.kind!=Pod"];
        let (ok, said) = run(kubectl, &api, &home, &wanted);
        assert!(
            ok && said.contains("widget/x") && !said.contains("pod/x"),
            "{}: {said}",
            kubectl.display()
        );

        let mut watch = tokio::process::Command::new(kubectl)
            .args(["get", "events", "-A", "--watch", "--server", &api.url()])
            .env("KUBECONFIG", "/dev/null")
            .env("HOME", &home)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl runs");
        let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
        // It lists first: once it has told what there is, it watches.
        let told = async |lines: &mut tokio::io::Lines<_>, what: usize| {
            for _ in 0..what {
                let line: Option<String> =
                    timeout(LIMIT, lines.next_line()).await.expect("a line in time").expect("output");
                assert!(line.is_some(), "{} stopped", kubectl.display());
            }
        };
        told(&mut lines, 1 + 3 * at + 2).await;
        create(&format!("later-{at}"), "Pod");
        told(&mut lines, 1).await;
        watch.kill().await.expect("it can be ended");
    }
}

#[tokio::test]
async fn the_buss_own_things_are_kinds_with_columns() {
    let scratch = Scratch::new();
    let api =
        Api::start(&scratch, "routes:\n  all: {from: [{topic: \"in/#\"}], to: [{bus: \"out/all\"}]}\n")
            .await;
    let kubectl = kubectls().pop().expect("one");
    let home = scratch.dir("home");
    for (arguments, expected) in [
        (&["get", "routes"][..], &["NAME", "all", "out/all"][..]),
        (&["get", "connectors"], &["NAME", "api", "k8s", "ready"]),
        (&["describe", "route", "all"], &["all", "Events:"]),
        (&["get", "namespaces"], &["default", "Active"]),
        (&["api-resources"], &["routes", "connectors", "values", "cloudevents", "events", "configmaps"]),
    ] {
        let (ok, said) = run(&kubectl, &api, &home, arguments);
        assert!(ok, "{arguments:?}: {said}");
        for text in expected {
            assert!(said.contains(text), "{arguments:?} shows no {text}:\n{said}");
        }
    }
}
