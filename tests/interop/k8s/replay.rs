//! Each recorded exchange with a real API server, sent again with its headers and body: the same status, reason,
//! message and shape.
//!
//! What differs between any two servers is set aside: uids, times, versions and generated names are mapped from the
//! recorded to the actual ones as answers come, and so stand right in the requests that follow.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::time::timeout;

use super::recordings::{Exchange, exchanges};
use super::rig::{Api, future};
use crate::bus::{HttpClient, http_client};
use crate::process::Scratch;

/// Scenarios whose answers may differ: the kinds and the version of a server are its own, a cluster has more kinds
/// and completes Pods, and schemas are described in other words.
const OTHER: [&str; 8] = [
    "version",
    "api-resources",
    "api-versions",
    "discovery",
    "discovery-aggregated",
    "openapi-v3-group",
    "auth-whoami",
    "selfsubjectaccessreview",
];
/// Fields that differ from server to server.
const OWN: [&str; 14] = [
    "storageVersionHash",
    "generation",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "continue",
    "lastTransitionTime",
    "selfLink",
    "hash",
    "eventTime",
    "remainingItemCount",
    "description",
];

/// Recorded words and what stands for them here.
#[derive(Default)]
struct Mapped {
    uids: BTreeMap<String, String>,
    versions: BTreeMap<String, String>,
    tokens: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
}

#[tokio::test]
async fn a_recorded_kubectl_1_32_gets_the_answers_of_a_real_server() {
    replay("v1.32:").await;
}

#[tokio::test]
async fn a_recorded_kubectl_1_20_gets_the_answers_of_a_real_server() {
    replay("v1.20:").await;
}

#[tokio::test]
async fn recorded_single_requests_get_the_answers_of_a_real_server() {
    replay("raw:").await;
}

async fn replay(group: &str) {
    let Some(exchanges) = exchanges(group) else {
        println!("skipped, needs ../shared/conformance/k8s: recorded exchanges {group}");
        return;
    };
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let client = http_client();
    let mut mapped = Mapped::default();
    let (mut compared, mut wrong) = (0, String::new());
    for exchange in &exchanges {
        let name = exchange.scenario.strip_prefix(group).unwrap_or_default();
        if exchange.scenario == "raw:apply-conflict" {
            // Two applies between that are not recorded: the same again, then without a field.
            unrecorded(&client, &api).await;
        }
        let (status, body) = send(&client, &api, exchange, &mapped).await;
        mapped.learn(exchange, &body);
        // Which groups have schemas is a server's own; those of the example are fetched and used by kubectl.
        // A definition that was deleted is still seen for a moment there, while a finalizer empties it.
        if name == "crd-delete" && exchange.path.contains("fieldSelector") {
            continue;
        }
        if OTHER.contains(&name)
            || exchange.path.starts_with("/openapi/v3?")
            || exchange.path == "/openapi/v3"
        {
            continue;
        }
        compared += 1;
        for difference in differences(exchange, status, &body, &mapped) {
            let _infallible = writeln!(
                wrong,
                "{} {} {}: {difference}",
                exchange.scenario, exchange.method, exchange.path
            );
        }
    }
    assert!(compared >= 60, "only {compared} exchanges were compared");
    assert!(wrong.is_empty(), "{compared} compared; these differ:\n{wrong}");
    println!("{group} {compared} exchanges as recorded");
}

async fn send(client: &HttpClient, api: &Api, exchange: &Exchange, mapped: &Mapped) -> (u16, Bytes) {
    let mut path = mapped.path(&exchange.path, future());
    if exchange.is_watch() {
        // The recorded client hung up; all it saw has happened by now, so that a moment shows it again.
        let kept: Vec<&str> = path.split('&').filter(|pair| !pair.starts_with("timeoutSeconds=")).collect();
        path = format!("{}&timeoutSeconds=1", kept.join("&"));
    }
    let body = mapped.text(exchange.request_body.as_deref().unwrap_or_default());
    let mut request =
        http::Request::builder().method(&*exchange.method).uri(format!("{}{path}", api.url()));
    for (name, value) in &exchange.request_headers {
        request = request.header(name, value);
    }
    // What names no manager was sent by curl.
    request = request.header("user-agent", "curl/8");
    if exchange.scenario == "raw:unauthorized" {
        request = request.header("authorization", "Bearer wrong");
    }
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let answer = async {
        let response = client.request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a body").to_bytes())
    };
    timeout(Duration::from_secs(15), answer).await.unwrap_or_else(|_| panic!("{} hangs", exchange.path))
}

async fn unrecorded(client: &HttpClient, api: &Api) {
    for spec in [r#"{"size":1,"color":"red"}"#, r#"{"size":1}"#] {
        let body = format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"ssa"}},"spec":{spec}}}"#
        );
        let path = "/apis/example.com/v1/namespaces/default/widgets/ssa?fieldManager=a";
        let request = http::Request::patch(format!("{}{path}", api.url()));
        let request = request.header("content-type", "application/apply-patch+yaml");
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let status = client.request(request).await.expect("an answer").status();
        assert!(status.is_success(), "{status}");
    }
}

impl Mapped {
    /// Takes from an answer what stands for what was recorded.
    fn learn(&mut self, exchange: &Exchange, body: &Bytes) {
        let recorded = lines(&exchange.response_body);
        let actual = lines(&String::from_utf8_lossy(body));
        for (recorded, actual) in recorded.iter().zip(&actual) {
            self.walk(recorded, actual);
        }
    }

    fn walk(&mut self, recorded: &Value, actual: &Value) {
        match (recorded, actual) {
            (Value::Object(recorded), Value::Object(actual)) => {
                for (name, recorded) in recorded {
                    let Some(actual) = actual.get(name) else { continue };
                    if let (Value::String(recorded), Value::String(actual)) = (recorded, actual) {
                        let map = match &**name {
                            "uid" => &mut self.uids,
                            "resourceVersion" => &mut self.versions,
                            "continue" => &mut self.tokens,
                            // Only a generated name is another one here.
                            "name" if recorded != actual && recorded.starts_with("g-") => &mut self.names,
                            _ => continue,
                        };
                        map.entry(recorded.clone()).or_insert_with(|| actual.clone());
                    } else {
                        self.walk(recorded, actual);
                    }
                }
            }
            (Value::Array(recorded), Value::Array(actual)) => {
                for (recorded, actual) in recorded.iter().zip(actual) {
                    self.walk(recorded, actual);
                }
            }
            _ => {}
        }
    }

    fn path(&self, path: &str, future: u64) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let value = match name {
                    "resourceVersion" if value == "99999999" => future.to_string(),
                    "resourceVersion" => {
                        self.versions.get(value).cloned().unwrap_or_else(|| value.to_owned())
                    }
                    "continue" => self.tokens.get(value).cloned().unwrap_or_else(|| value.to_owned()),
                    _ => self.text(value),
                };
                format!("{name}={value}")
            })
            .collect();
        format!("{}?{}", self.text(path), query.join("&"))
    }

    /// Text of a request with what stands for what was recorded.
    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, actual) in self.uids.iter().chain(&self.names) {
            text = text.replace(recorded, actual);
        }
        for (recorded, actual) in &self.versions {
            for form in [
                "\"resourceVersion\":\"{}\"",
                "\"resourceVersion\": \"{}\"",
                "\\\"resourceVersion\\\":\\\"{}\\\"",
            ] {
                text = text.replace(&form.replace("{}", recorded), &form.replace("{}", actual));
            }
        }
        text
    }
}

/// The JSON documents of a body, one a line where it is a stream.
fn lines(body: &str) -> Vec<Value> {
    match serde_json::from_str(body) {
        Ok(value) => vec![value],
        Err(_) => body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
    }
}

/// The documents without those bookmarks that come now and then.
fn told(body: &str) -> Vec<Value> {
    let now_and_then = |line: &Value| {
        line.get("type").and_then(Value::as_str) == Some("BOOKMARK")
            && line.pointer("/object/metadata/annotations").is_none()
    };
    lines(body).into_iter().filter(|line| !now_and_then(line)).collect()
}

/// In what an answer differs from the recorded one.
fn differences(exchange: &Exchange, status: u16, body: &Bytes, mapped: &Mapped) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    if status != exchange.status {
        let start: String = text.chars().take(300).collect();
        return vec![format!("status {status} instead of {}: {start}", exchange.status)];
    }
    if !exchange.is_whole() {
        return vec![];
    }
    let (recorded, actual) = (told(&exchange.response_body), told(&text));
    if recorded.is_empty() && !exchange.is_watch() {
        // An answer in protobuf, say.
        return vec![];
    }
    let mut found = Vec::new();
    // A recorded watch may have been closed before or after a change that others made at that time; and one from a
    // position that is not reached, which is silent there, is told here that its position is gone.
    let bearable = usize::from(exchange.is_watch());
    if recorded.len().abs_diff(actual.len()) > bearable {
        found.push(format!("{} documents instead of {}: {text}", actual.len(), recorded.len()));
    }
    for (recorded, actual) in recorded.iter().zip(&actual) {
        compare("", recorded, actual, mapped, &mut found);
    }
    found.truncate(8);
    found
}

fn compare(at: &str, recorded: &Value, actual: &Value, mapped: &Mapped, found: &mut Vec<String>) {
    match (recorded, actual) {
        (Value::Object(left), Value::Object(right)) => {
            // A cluster fills in much of a Pod that is not looked at here.
            let pod = left.get("kind").and_then(Value::as_str) == Some("Pod");
            // A definition is deleted in steps there, with a finalizer of the server's own.
            let ending = left.get("kind").and_then(Value::as_str) == Some("CustomResourceDefinition")
                && left.get("metadata").is_some_and(|metadata| metadata.get("deletionTimestamp").is_some());
            let custom = left.get("apiVersion").and_then(Value::as_str) == Some("example.com/v1");
            for (name, recorded) in left {
                if OWN.contains(&&**name) || pod && matches!(&**name, "spec" | "status" | "metadata") {
                    continue;
                }
                if ending && matches!(&**name, "status" | "metadata") {
                    continue;
                }
                if name == "metadata" && !custom {
                    // Of typed objects a real server also manages what its types set by themselves.
                    let (mut recorded, mut actual) =
                        (recorded.clone(), right.get(name).cloned().unwrap_or_default());
                    for metadata in [&mut recorded, &mut actual] {
                        metadata.as_object_mut().map(|metadata| metadata.remove("managedFields"));
                    }
                    compare(&format!("{at}.{name}"), &recorded, &actual, mapped, found);
                    continue;
                }
                let at = format!("{at}.{name}");
                match right.get(name) {
                    Some(actual) => compare(&at, recorded, actual, mapped, found),
                    None => found.push(format!("{at} is missing; recorded {recorded}")),
                }
            }
            for name in right.keys().filter(|name| !left.contains_key(*name) && !OWN.contains(&&***name)) {
                // Items of lists of built-in kinds do not repeat their kind there.
                let repeats = matches!(&**name, "apiVersion" | "kind") && at.ends_with(']');
                if !pod && !repeats {
                    found.push(format!("{at}.{name} is not recorded: {}", right[name]));
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            let (left, right) = (ordered(at, left), ordered(at, right));
            if left.len() != right.len() {
                found.push(format!("{at} has {} items instead of {}", right.len(), left.len()));
            }
            for (index, (recorded, actual)) in left.iter().zip(&right).enumerate() {
                compare(&format!("{at}[{index}]"), recorded, actual, mapped, found);
            }
        }
        (Value::String(left), Value::String(right)) => {
            let expected = mapped.text(left);
            if expected != *right && left != right && !is_age(left, right) && !about_versions(left) {
                found.push(format!("{at} is {right:?} instead of {expected:?}"));
            }
        }
        (left, right) if left == right => {}
        _ => found.push(format!("{at} is {actual} instead of {recorded}")),
    }
}

/// A list in an order that does not depend on how fast requests follow each other: managers of one second are told by
/// name. A cause that is told twice is told once, and verbs are a set.
fn ordered(at: &str, list: &[Value]) -> Vec<Value> {
    let mut list = list.to_vec();
    let last = at.rsplit('.').next().unwrap_or_default();
    if last == "managedFields" {
        list.sort_by_key(|entry| {
            ["manager", "operation", "subresource"].map(|name| entry.get(name).map(Value::to_string))
        });
    } else if last == "verbs" {
        list.sort_by_key(Value::to_string);
    } else if last == "causes" {
        list.dedup();
    }
    list
}

/// Whether both are ages or times: `12s`, `3m4s`.
fn is_age(left: &str, right: &str) -> bool {
    let age = |text: &str| {
        let plain = !text.is_empty()
            && text.chars().all(|c| c.is_ascii_digit() || matches!(c, 's' | 'm' | 'h' | 'd' | 'y'));
        plain && text.starts_with(|c: char| c.is_ascii_digit())
    };
    age(left) && age(right)
}

/// Whether a message repeats versions, which are other numbers here.
fn about_versions(text: &str) -> bool {
    text.contains("ResourceVersion in record")
        || text.contains("resource version")
        || text.contains("last-applied")
}
