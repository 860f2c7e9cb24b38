//! State over HTTP: which key is meant, writing it, listing it page by page.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::{Answer, Client, Request};
use super::input::{duration, media_type};
use super::item::{Item, shown};
use super::peer::Remote;
use super::publish::address;
use super::server::Server;
use super::{Failure, output};
use crate::core::{Envelope, Key, Outcome, Topic};
use crate::schema::kinds::{OWN, group_version_kind, proto_name, type_url};

/// Items asked for at a time.
const PAGE: &str = "2000";
/// How often a listing whose position went away is begun anew.
const RESTARTS: usize = 3;
/// How long a broker has to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A key, as the verbs that write one name it.
#[derive(Args, Clone, Debug)]
pub(super) struct OneKey {
    /// Type: value, group/version/Kind, or a proto name; over k8s any name of it, as for kubectl
    #[arg(value_name = "TYPE")]
    pub(super) kind: String,
    /// Name: of a value its topic, of an object NAMESPACE/NAME, or /NAME where it has no namespace
    pub(super) name: String,
    /// Namespace of an object
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Whose state it is
    #[arg(long, default_value = Key::LOCAL)]
    pub(super) scope: String,
}

/// Under which condition a key is written.
#[derive(Args, Clone, Debug)]
pub(super) struct Conditions {
    /// Only when its last change has this seq
    #[arg(long, value_name = "SEQ")]
    pub(super) if_seq: Option<u64>,
    /// Only when it has this version
    #[arg(long, value_name = "VERSION", conflicts_with = "if_seq")]
    pub(super) if_version: Option<String>,
    /// Check and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) server: Server,
}

impl Conditions {
    /// Whether any must hold, of those a broker knows nothing of.
    fn any(&self) -> bool {
        self.if_seq.is_some() || self.if_version.is_some() || self.dry_run
    }
}

impl OneKey {
    /// The key.
    pub(super) fn key(&self) -> Result<Key, Failure> {
        let kind = type_url(&self.kind).map_err(Failure::usage)?;
        let name = full_name(&kind, &self.name, self.namespace.as_deref())?;
        Ok(Key::new(self.scope.clone(), kind.into_owned(), name))
    }
}

/// The name of a key, with the namespace of an object.
pub(super) fn full_name(kind: &str, name: &str, namespace: Option<&str>) -> Result<String, Failure> {
    let is_object = is_object(kind);
    match namespace {
        Some(_) if !is_object => Err(Failure::usage(format!("--namespace: a {kind} has none"))),
        Some(_) if name.contains('/') => {
            Err(Failure::usage(format!("{name:?} names a namespace already: leave --namespace out")))
        }
        Some(namespace) => Ok(format!("{namespace}/{name}")),
        None if is_object && !name.contains('/') => Ok(format!("default/{name}")),
        None => Ok(name.to_owned()),
    }
}

/// Whether names of the type have a namespace: those of Kubernetes have, the bus's own and XDS's have not.
pub(super) fn is_object(kind: &str) -> bool {
    proto_name(kind).is_none() && !kind.starts_with(OWN) && group_version_kind(kind).is_some()
}

/// What a write does.
pub(super) enum Change<'a> {
    Put { data: Bytes, file: &'a Path, content_type: Option<&'a str>, create_only: bool },
    Delete,
}

/// Writes a key over HTTP; what to say about it.
pub(super) async fn write(
    client: &Client,
    key: &Key,
    change: Change<'_>,
    conditions: &Conditions,
) -> Result<String, Failure> {
    let mut headers = HeaderMap::new();
    let mut body = Bytes::new();
    let deletes = matches!(change, Change::Delete);
    if let Change::Put { data, file, content_type, create_only } = change {
        if let Some(media_type) = content_type.or_else(|| media_type(Some(file), &data)) {
            let value = HeaderValue::from_str(media_type);
            let value =
                value.map_err(|_| Failure::usage(format!("--content-type {media_type:?} is none")))?;
            headers.insert(CONTENT_TYPE, value);
        }
        if create_only {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        body = data;
    }
    if let Some(seq) = expected(client, key, conditions).await?
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{seq}\""))
    {
        headers.insert(IF_MATCH, tag);
    }
    let method = if deletes { Method::DELETE } else { Method::PUT };
    let mut query = query(key);
    if conditions.dry_run {
        query.push(("dry_run", Cow::Borrowed("true")));
    }
    let answer = client.send(Request { method, path: "/v1/state", query, headers, body }).await?;
    if deletes && answer.status == StatusCode::NOT_FOUND {
        return Err(Failure::failed(format!("there is no {}", shown(key))));
    }
    if !answer.status.is_success() {
        return Err(answer.failure());
    }
    let done = match (deletes, answer.status) {
        (true, _) => "deleted",
        (false, StatusCode::CREATED) => "created",
        (false, _) => "updated",
    };
    let shown = shown(key);
    if conditions.dry_run {
        let verb = if deletes { "deleted" } else { "put" };
        return Ok(format!("{shown} could be {verb} (dry run)"));
    }
    Ok(format!("{shown} {done} (seq {})", answer.header("mb-seq")))
}

/// The sequence the key must have, from the condition.
async fn expected(client: &Client, key: &Key, conditions: &Conditions) -> Result<Option<String>, Failure> {
    let Some(wanted) = &conditions.if_version else {
        return Ok(conditions.if_seq.map(|seq| seq.to_string()));
    };
    let answer = read(client, key).await?;
    match answer.header("mb-version") {
        _ if !answer.status.is_success() => Err(answer.failure()),
        // The write then names the sequence that had this version: nothing can come between.
        version if version == wanted => Ok(Some(answer.header("mb-seq").to_owned())),
        version => Err(Failure::failed(format!("{} has version {version}, not {wanted}", shown(key)))),
    }
}

/// Reads one key: its data, with version and sequence in headers.
pub(super) async fn read(client: &Client, key: &Key) -> Result<Answer, Failure> {
    client.send(Request { query: query(key), ..Request::get("/v1/state") }).await
}

fn query(key: &Key) -> Vec<(&'static str, Cow<'_, str>)> {
    vec![
        ("type", Cow::Borrowed(&*key.type_url)),
        ("name", Cow::Borrowed(&*key.name)),
        ("scope", Cow::Borrowed(&*key.scope)),
    ]
}

/// One page of a listing.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    next: Option<String>,
}

/// Lists the keys of a type that `wanted` wants, all at one position, in order of key.
pub(super) async fn list(
    client: &Client,
    kind: &str,
    scope: Option<&str>,
    wanted: impl Fn(&Item) -> bool,
) -> Result<Vec<Item>, Failure> {
    let (mut items, mut next, mut restarts) = (Vec::new(), None::<String>, 0);
    loop {
        let mut request = Request::get("/v1/state");
        request.query = vec![("type", Cow::Borrowed(kind)), ("limit", Cow::Borrowed(PAGE))];
        request.query.extend(scope.map(|scope| ("scope", Cow::Borrowed(scope))));
        request.query.extend(next.map(|token| ("continue", Cow::Owned(token))));
        let answer = client.send(request).await?;
        if answer.status == StatusCode::GONE && restarts < RESTARTS {
            // Only the last few listings are kept at their position.
            (items, next, restarts) = (Vec::new(), None, restarts + 1);
            continue;
        }
        if !answer.status.is_success() {
            return Err(answer.failure());
        }
        let wrong = |error: String| Failure::failed(format!("the listing cannot be read: {error}"));
        let page: Page<'_> =
            serde_json::from_slice(&answer.body).map_err(|error| wrong(error.to_string()))?;
        for raw in page.items {
            let item = Item::read(answer.body.slice_ref(raw.get().as_bytes())).map_err(wrong)?;
            if wanted(&item) {
                items.push(item);
            }
        }
        match page.next {
            Some(token) => next = Some(token),
            None => return Ok(items),
        }
    }
}

/// Writes a value as a retained message of an MQTT broker, or deletes what it retains.
pub(super) async fn retain(
    remote: Remote,
    key: &Key,
    change: Change<'_>,
    conditions: &Conditions,
) -> Result<String, Failure> {
    let name = remote.transport.name();
    if name != "mqtt" {
        let verbs = "pub and sub; use -s http://… for state";
        return Err(Failure::usage(format!("over {name} there are {verbs}")));
    }
    if &*key.type_url != Key::VALUE || &*key.scope != Key::LOCAL {
        return Err(Failure::usage(
            "over mqtt there are only values, as retained messages, without a scope",
        ));
    }
    let create_only = matches!(change, Change::Put { create_only: true, .. });
    if conditions.any() || create_only {
        return Err(Failure::usage("over mqtt a write has no condition and no dry run"));
    }
    let topic = Topic::parse(key.name.clone()).map_err(|error| Failure::usage(error.to_string()))?;
    let mut settings = address(&remote, &topic)?;
    settings.extend([("retain".to_owned(), true.into()), ("content_mode".to_owned(), "data".into())]);
    let (envelope, done) = match change {
        Change::Put { data, file, content_type, .. } => {
            if data.is_empty() {
                return Err(Failure::usage("an empty retained message is a deletion: meshbus delete"));
            }
            let mut envelope = Envelope::event(topic, "", "", "");
            envelope.datacontenttype =
                content_type.or_else(|| media_type(Some(file), &data)).map(Into::into);
            envelope.data = data;
            (envelope, "put")
        }
        Change::Delete => {
            let cause = crate::core::Cause::Deleted;
            (Envelope::delete(topic, key.clone(), "", cause), "deleted")
        }
    };
    let peer = remote.start()?;
    let target = peer.target(settings)?;
    peer.ready(conditions.timeout).await?;
    let outcome = peer.deliver(&target, vec![envelope], ANSWER).await.pop();
    peer.stop().await;
    match outcome {
        Some(Outcome::Rejected(reason)) => Err(Failure::failed(format!("the broker refused: {reason}"))),
        Some(Outcome::Undelivered(reason)) => Err(Failure::unreachable(reason.to_string())),
        _ => Ok(output::shown(&format!("retained message on {} {done}", key.name))),
    }
}
