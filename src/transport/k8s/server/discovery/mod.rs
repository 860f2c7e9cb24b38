//! Documents about the API itself: its version and health, the kinds it has, and their schemas.
//!
//! A document is made when it is first asked for and kept until the kinds of its scope are others; its entity tag is
//! the hash of its text, so that clients need not be sent again what they have.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashMap;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::Shared;
use super::access::Caller;
use super::answer::{self, Answer, Body};
use super::call::{About, Call};
use super::kind::Kind;
use super::reviews;
use crate::core::write::Ownership;

mod groups;
mod made;
mod openapi2;
mod openapi3;

/// The release of the API that is followed.
const RELEASE: (&str, &str) = ("1", "36");
/// Most documents that are kept.
const DOCUMENTS_MAX: usize = 1024;
/// The media type of OpenAPI v2 in protobuf, as it is answered.
const OPEN_API_2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The kinds of a scope.
type Kinds = Arc<[Arc<Kind>]>;

/// Documents that were made.
#[derive(Debug, Default)]
pub(super) struct Documents(Mutex<HashMap<(ByteString, String), Document>>);

/// One document, and the kinds it was made of.
#[derive(Clone, Debug)]
struct Document {
    of: Kinds,
    text: Bytes,
    tag: String,
}

impl Documents {
    /// The document of that name, of these kinds.
    fn get(
        &self,
        scope: &ByteString,
        name: &str,
        kinds: &Kinds,
        make: impl FnOnce(&Kinds) -> Vec<u8>,
    ) -> Document {
        if let Some(kept) = self.kept(scope, name, kinds) {
            return kept;
        }
        let text = Bytes::from(make(kinds));
        let tag = data_encoding::HEXUPPER.encode(&Sha512::digest(&text));
        let document = Document { of: Arc::clone(kinds), text, tag };
        let mut kept = self.0.lock();
        if kept.len() >= DOCUMENTS_MAX {
            kept.clear();
        }
        kept.insert((scope.clone(), name.to_owned()), document.clone());
        document
    }

    /// The document of that name, where it was made of these kinds.
    fn kept(&self, scope: &ByteString, name: &str, kinds: &Kinds) -> Option<Document> {
        let at = (scope.clone(), name.to_owned());
        self.0.lock().get(&at).filter(|kept| Arc::ptr_eq(&kept.of, kinds)).cloned()
    }
}

/// Answers a request for a document; `None` where there is none of that path.
pub(super) fn answer(shared: &Arc<Shared>, caller: &Caller, call: &Call) -> Option<Answer> {
    let About::Path(path) = &call.about else { return None };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let Some(answer) = reviews::answer(shared, caller, call, &path) {
        return Some(answer);
    }
    if call.method != Method::GET && call.method != Method::HEAD {
        return None;
    }
    match path.as_slice() {
        ["version"] => Some(answer::json(StatusCode::OK, &version())),
        ["livez" | "healthz" | "readyz", check @ ..] => health(shared, call, path.first()?, check),
        ["scopes"] => Some(answer::json(StatusCode::OK, &scopes(shared))),
        [] | ["openapi"] => Some(answer::json(StatusCode::OK, &paths(&kinds_of(shared, call)))),
        ["api" | "apis"] if wants_aggregated(call).is_some() => aggregated(shared, call, &path),
        ["api" | "apis", ..] => legacy(shared, call, &path),
        ["openapi", "v2"] => Some(schemas2(shared, call)),
        ["openapi", "v3", group @ ..] => schemas3(shared, call, group),
        _ => None,
    }
}

/// Health as a probe reads it: all checks, or the one that the path ends with; `?verbose` names each.
fn health(shared: &Shared, call: &Call, of: &str, check: &[&str]) -> Option<Answer> {
    let draining = shared.shutdown.is_draining();
    let checks: &[(&str, bool)] = match of {
        "readyz" => &[("ping", true), ("shutdown", !draining)],
        _ => &[("ping", true)],
    };
    let wanted: Vec<&(&str, bool)> = match check {
        [] => checks.iter().collect(),
        [name] => vec![checks.iter().find(|(have, _)| have == name)?],
        _ => return None,
    };
    let good = wanted.iter().all(|(_, good)| *good);
    let code = if good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if good && !call.flag("verbose") {
        return Some(answer::text(code, "ok"));
    }
    let line = |(name, good): &&(&str, bool)| match good {
        true => format!("[+]{name} ok\n"),
        false => format!("[-]{name} failed: the bus is shutting down\n"),
    };
    let lines: String = wanted.iter().map(line).collect();
    let verdict = if good { "passed" } else { "failed" };
    Some(answer::text(code, format!("{lines}{of} check {verdict}\n")))
}

/// What a client needs to reach each scope that holds anything: those of most connectors never do.
fn scopes(shared: &Shared) -> Value {
    let snapshot = shared.bus.snapshot();
    let holds = |scope: &str, ownership: &Ownership| {
        *ownership == Ownership::Local
            || scope == shared.config.default_scope
            || !shared.registry.of(scope).is_empty()
            || snapshot.types(scope).next().is_some()
    };
    let scopes = shared.bus.scopes().into_iter().filter(|(scope, ownership)| holds(scope, ownership));
    let scopes: Vec<String> = scopes.map(|(scope, _)| scope.to_string()).collect();
    json!({"name": **shared.bus.name(), "default": shared.config.default_scope, "scopes": scopes})
}

fn kinds_of(shared: &Shared, call: &Call) -> Kinds {
    shared.kinds.all(shared, &call.scope)
}

fn version() -> Value {
    let (major, minor) = RELEASE;
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "gitVersion": format!("v{major}.{minor}.0+meshbus-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn paths(kinds: &Kinds) -> Value {
    let mut paths: Vec<String> = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/scopes",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(groups::versions(kinds).iter().map(|at| format!("/{}", at.path())));
    paths.sort();
    json!({ "paths": paths })
}

fn legacy(shared: &Shared, call: &Call, path: &[&str]) -> Option<Answer> {
    let kinds = kinds_of(shared, call);
    let name = path.join("/");
    if let Some(document) = shared.documents.kept(&call.scope, &name, &kinds) {
        return Some(tagged(call, &document, answer::JSON));
    }
    let found = match path {
        ["api"] => Some(groups::api_versions()),
        ["apis"] => Some(groups::group_list(&kinds)),
        ["api", version] => groups::resources(&kinds, "", version),
        ["apis", group] => groups::group(&kinds, group),
        ["apis", group, version] => groups::resources(&kinds, group, version),
        _ => None,
    }?;
    let document = shared.documents.get(&call.scope, &name, &kinds, |_| found.to_string().into_bytes());
    Some(tagged(call, &document, answer::JSON))
}

/// In which version the kinds are wanted all at once; `None` where one by one. What is named first counts.
fn wants_aggregated(call: &Call) -> Option<&'static str> {
    let accepted = call.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let of_type = |wanted: &str| {
        let parts: Vec<&str> = wanted.split(';').map(str::trim).collect();
        let says = |part: &str| parts.contains(&part);
        if says("as=APIGroupDiscoveryList") {
            let version = ["v2", "v2beta1"].into_iter().find(|version| says(&format!("v={version}")));
            return version.filter(|_| says("g=apidiscovery.k8s.io") && says(answer::JSON)).map(Some);
        }
        (says(answer::JSON) || says("*/*")).then_some(None)
    };
    accepted.flat_map(|accepted| accepted.split(',')).find_map(of_type).flatten()
}

fn aggregated(shared: &Shared, call: &Call, path: &[&str]) -> Option<Answer> {
    let version = wants_aggregated(call)?;
    let kinds = kinds_of(shared, call);
    let core = path == ["api"];
    let name = format!("{}/{version}", if core { "api" } else { "apis" });
    let make = |kinds: &Kinds| groups::aggregated(kinds, core, version).to_string().into_bytes();
    let document = shared.documents.get(&call.scope, &name, &kinds, make);
    let media_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    Some(tagged(call, &document, media_type))
}

fn schemas2(shared: &Shared, call: &Call) -> Answer {
    let kinds = kinds_of(shared, call);
    let json = call.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accepted| {
        accepted.contains("application/json") && !accepted.contains("proto-openapi")
    });
    if json {
        let document = shared.documents.get(&call.scope, "openapi/v2/json", &kinds, openapi2::json);
        return tagged(call, &document, answer::JSON);
    }
    let document = shared.documents.get(&call.scope, "openapi/v2", &kinds, openapi2::protobuf);
    tagged(call, &document, OPEN_API_2)
}

fn schemas3(shared: &Shared, call: &Call, group: &[&str]) -> Option<Answer> {
    let kinds = kinds_of(shared, call);
    let versions = groups::versions(&kinds);
    let document = |at: &groups::Version| {
        let name = format!("openapi/v3/{}", at.path());
        shared.documents.get(&call.scope, &name, &kinds, |kinds| openapi3::document(kinds, at))
    };
    if group.is_empty() {
        let paths: serde_json::Map<String, Value> = versions
            .iter()
            .map(|at| {
                let url = format!("{}/openapi/v3/{}?hash={}", call.base, at.path(), document(at).tag);
                (at.path(), json!({ "serverRelativeURL": url }))
            })
            .collect();
        // Its links begin with where it was asked for.
        let name = format!("{}/openapi/v3", call.base);
        let make = |_: &Kinds| json!({ "paths": paths }).to_string().into_bytes();
        let index = shared.documents.get(&call.scope, &name, &kinds, make);
        return Some(tagged(call, &index, answer::JSON));
    }
    let wanted = group.join("/");
    let at = versions.iter().find(|at| at.path() == wanted)?;
    let document = document(at);
    let mut answer = tagged(call, &document, answer::JSON);
    if call.parameter("hash") == Some(&document.tag) {
        // What has this hash never changes.
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Some(answer)
}

/// A document, or that the client has it.
fn tagged(call: &Call, document: &Document, media_type: &'static str) -> Answer {
    let tag = format!("\"{}\"", document.tag);
    let known = call.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let has = known.flat_map(|tags| tags.split(',')).any(|have| have.trim() == tag || have.trim() == "*");
    let mut answer = if has {
        answer::of(StatusCode::NOT_MODIFIED, media_type, Body::whole(Bytes::new()))
    } else {
        answer::of(StatusCode::OK, media_type, Body::whole(document.text.clone()))
    };
    let headers = answer.headers_mut();
    if has {
        headers.remove(CONTENT_TYPE);
    }
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    answer
}
