//! Filter plugins built from source, by the program and with the compilers of this machine, and run on routes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::time::Instant;

use crate::bus::{Bus, http_client};
use crate::cli::{finish, start};
use crate::process::{Scratch, free_port, until};

/// What comes out of an example's route for the events beside it: topic, where to look, and what is there.
type Expected = (&'static str, &'static str, &'static str);

/// An example: its folder, and what comes out.
const EXAMPLES: [(&str, &[Expected]); 6] = [
    (
        "redact",
        &[
            ("redacted/login", "/data/password", "\"***\""),
            ("redacted/login", "/data/user", "\"bob\""),
            ("dead/redact", "/data", "\"password=hunter2\""),
        ],
    ),
    (
        "event-summary",
        &[
            (
                "lines/BackOff",
                "/data",
                "\"Warning BackOff Pod web/shop-1 (12 times): back-off restarting failed container\"",
            ),
            ("lines/Ready", "/data", "\"Normal Ready Node n1: node is ready\""),
            ("lines/event", "/data/spec", "{}"),
        ],
    ),
    ("sample", &[("sampled/shop-3", "/pod", "\"shop-3\""), ("sampled/shop-3", "/pod", "\"shop-3\"")]),
    (
        "drop-deletes",
        &[
            ("mirror/a", "/type", "\"dev.meshbus.resource.added.v1\""),
            ("mirror/b", "/type", "\"dev.meshbus.resource.modified.v1\""),
        ],
    ),
    (
        "unexpected-egress",
        &[
            ("alerts/egress", "/destinationaddress", "\"203.0.113.9\""),
            ("egress/expected", "/destinationaddress", "\"10.1.2.3\""),
            ("egress/expected", "/destinationaddress", "\"::ffff:192.0.2.7\""),
            ("egress/expected", "/type", "\"other\""),
        ],
    ),
    ("c", &[("sized/27", "/size", "27")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_example_builds_from_source_and_does_on_a_route_what_it_says() {
    let scratch = Scratch::new();
    let out = scratch.path().to_str().expect("a path of text");
    let began = Instant::now();
    meshbus(&["plugin", "build", &source(""), "--out", out]);
    meshbus(&["plugin", "build", &source("c"), "--out", out]);
    println!("all plugins built in {:.1} s", began.elapsed().as_secs_f64());
    for (name, expected) in EXAMPLES {
        let inspected = meshbus(&["plugin", "inspect", &format!("{out}/{name}.wasm"), "-o", "json"]);
        let inspected: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
        assert_eq!(
            (&inspected["world"], &inspected["version"], &inspected["loads"]),
            (&"filter-plugin".into(), &"0.1.0".into(), &true.into())
        );
        let imports = inspected["imports"].as_array().expect("a list");
        let own = |import: &Value| import["name"].as_str().is_some_and(|name| name.starts_with("meshbus:"));
        assert!(imports.iter().all(own), "{name} needs no WASI: {imports:?}");
        check(&scratch, name, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_builds_and_runs_as_it_is_in_each_language() {
    for lang in ["rust", "c"] {
        let scratch = Scratch::new();
        let project = scratch.path().join("my-first");
        let project = project.to_str().expect("a path of text");
        meshbus(&["plugin", "new", project, "--lang", lang]);
        meshbus(&["plugin", "build", project]);
        let tested = meshbus(&["plugin", "test", project, "--config", "11", "-o", "json"]);
        let tested: Value = serde_json::from_slice(&tested.stdout).expect("JSON");
        let verdicts = tested["events"].as_array().expect("a list").iter().map(|event| &event["verdict"]);
        assert_eq!(verdicts.collect::<Vec<_>>(), ["change", "drop", "drop"], "{lang}");
        assert_eq!(tested["events"][0]["outputs"][0]["event"]["size"], 27, "{lang}");
        assert!(tested["cost"]["memory_bytes"].as_u64() > Some(1 << 16), "{tested}");
        assert_eq!(tested["cost"]["calls"], 3);
    }
}

/// Publishes the events of an example to a bus that runs its route, and reads what comes out.
async fn check(scratch: &Scratch, name: &str, expected: &[Expected]) {
    let route = std::fs::read_to_string(source(&format!("{name}/route.yaml"))).expect("the route");
    let file = scratch.path().join(format!("{name}-tests.yaml"));
    std::fs::write(&file, &route).expect("a file");
    // The configuration's own tests first: they say it shortest.
    meshbus(&["test", "-c", file.to_str().expect("a path of text")]);
    let address = format!("127.0.0.1:{}", free_port());
    let mut bus = Bus::start(scratch, &route.replace("127.0.0.1:8080", &address)).await;
    let server = format!("http://{address}");
    let before = bus.metric("meshbus_consumers", &[]).await;
    let topics: BTreeSet<&str> = expected.iter().map(|(topic, ..)| *topic).collect();
    let mut listening = Vec::new();
    for topic in &topics {
        let count = expected.iter().filter(|(expected, ..)| expected == topic).count().to_string();
        listening.push((*topic, start(&server, &["sub", topic, "-C", &count, "--timeout", "20s"])));
    }
    let wanted = before + topics.len() as u64;
    until("all have subscribed", Duration::from_secs(20), async || {
        (bus.metric("meshbus_consumers", &[]).await >= wanted).then_some(())
    })
    .await;
    let events = std::fs::read(source(&format!("{name}/events.json"))).expect("the events");
    let (status, answer) = publish(&address, events).await;
    // A publisher hears of each event that went to the dead letter.
    let rejects = expected.iter().any(|(topic, ..)| topic.starts_with("dead/"));
    assert_eq!(status.as_u16() == 422, rejects, "{name}: {status}: {answer}");
    assert!(rejects || status.is_success(), "{name}: {status}: {answer}");
    let mut left: Vec<&Expected> = expected.iter().collect();
    for (came_by, listening) in listening {
        let said = finish(listening, Vec::new()).await;
        for event in said.events() {
            let is = |(topic, place, value): &&Expected| {
                let found = event.pointer(place).map(Value::to_string);
                came_by == *topic && found.as_deref() == Some(value)
            };
            let at = left
                .iter()
                .position(is)
                .unwrap_or_else(|| panic!("{name}: not expected on {came_by}: {event}"));
            left.remove(at);
        }
    }
    assert!(left.is_empty(), "{name}: never came: {left:?}");
    bus.terminate(Duration::from_secs(20)).await;
}

async fn publish(address: &str, events: Vec<u8>) -> (http::StatusCode, String) {
    let request = http::Request::post(format!("http://{address}/"))
        .header("content-type", "application/cloudevents-batch+json")
        .body(Full::new(Bytes::from(events)))
        .expect("a request");
    let response = http_client().request(request).await.expect("the bus answers");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn source(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    root.join(path).to_str().expect("a path of text").to_owned()
}

/// Runs the program, which must succeed. What it compiles is kept, so that the library is built once.
fn meshbus(args: &[&str]) -> Output {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    let output = Command::new(env!("CARGO_BIN_EXE_meshbus"))
        .args(args)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("MESHBUS_CONFIG")
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}\n{said}", output.status);
    output
}
