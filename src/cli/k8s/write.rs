//! `put` and `delete` at an API server, under its own rules.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Cluster, Place, Unanswered, shown};
use crate::cli::peer::Remote;
use crate::cli::state::{Conditions, OneKey};
use crate::cli::{Failure, output};
use crate::core::{Key, Version};
use crate::transport::k8s::client::api::segment;
use crate::transport::k8s::client::discovery::Resource;
use crate::transport::k8s::client::{complete, remains, text};

/// Who writes, in `managedFields`.
const MANAGER: &str = "meshbus-cli";
const JSON: &str = "application/json";
/// How often a write that somebody else was faster than is tried, where no version was named.
const ATTEMPTS: usize = 4;

/// A server and the one object there.
struct Subject {
    cluster: Cluster,
    kind: Resource,
    place: Place,
    name: String,
}

/// Creates an object or replaces it as a whole; what to say about it.
///
/// # Errors
/// As the exit codes have it: refused 1, words 64, no answer 69.
pub(in crate::cli) async fn put(
    remote: &Remote,
    key: &OneKey,
    data: &Bytes,
    create_only: bool,
    conditions: &Conditions,
) -> Result<String, Failure> {
    let wanted = object(data)?;
    let subject = Subject::open(remote, key, conditions).await?;
    let named = conditions.if_version.as_deref().or(text(&wanted, "/metadata/resourceVersion"));
    let named = named.map(|version| Version::from(version.to_owned()));
    let mut attempt = 0;
    loop {
        attempt += 1;
        let version = match (&named, create_only) {
            (Some(_), _) | (None, true) => named.clone(),
            (None, false) => subject.version().await?,
        };
        let creates = create_only || version.is_none();
        let answer = subject.write(creates, wanted.clone(), version.as_ref(), conditions.dry_run).await?;
        let done = if creates { "created" } else { "updated" };
        let conflict = |failure: &Unanswered| failure.code() == Some(StatusCode::CONFLICT);
        match answer {
            Ok(body) => return subject.said(done, &body, conditions.dry_run),
            // Whoever names no version wants it whatever others do meanwhile.
            Err(failure) if conflict(&failure) && named.is_none() && !create_only && attempt < ATTEMPTS => {
            }
            Err(failure) => return Err(subject.cluster.failed(failure)),
        }
    }
}

/// Deletes an object; what to say about it.
///
/// # Errors
/// As [`put`].
pub(in crate::cli) async fn delete(
    remote: &Remote,
    key: &OneKey,
    conditions: &Conditions,
) -> Result<String, Failure> {
    let subject = Subject::open(remote, key, conditions).await?;
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(fields) = options.as_object_mut() {
        if let Some(version) = &conditions.if_version {
            fields.insert("preconditions".to_owned(), json!({"resourceVersion": version}));
        }
        if conditions.dry_run {
            fields.insert("dryRun".to_owned(), json!(["All"]));
        }
    }
    let body = Bytes::from(options.to_string());
    let answer = subject.cluster.api.write(Method::DELETE, &subject.path(), JSON, body).await;
    let shown = shown(&subject.kind, &subject.place);
    let answer = answer.map_err(|failure| match failure.code() {
        Some(StatusCode::NOT_FOUND) => Failure::failed(format!("there is no {shown}")),
        _ => subject.cluster.failed(failure),
    })?;
    let left: Value = serde_json::from_slice(&answer).unwrap_or_default();
    Ok(match (conditions.dry_run, remains(&left)) {
        (true, _) => format!("{shown} could be deleted (dry run)"),
        (false, true) => format!("{shown} is being deleted: something has to be done first"),
        (false, false) => format!("{shown} deleted"),
    })
}

impl Subject {
    async fn open(remote: &Remote, key: &OneKey, conditions: &Conditions) -> Result<Self, Failure> {
        if &*key.scope != Key::LOCAL {
            let hint = format!("-s k8s://HOST:PORT/scopes/{}", output::shown(&key.scope));
            return Err(Failure::usage(format!("--scope: the scope is in the server's URL: {hint}")));
        }
        if conditions.if_seq.is_some() {
            return Err(Failure::usage("--if-seq: an API server has versions: --if-version"));
        }
        let cluster = Cluster::open(remote, conditions.timeout).await?;
        let kind = cluster.kind(&key.kind)?.clone();
        let place = cluster.place(&kind, Some(&key.name), key.namespace.as_deref(), false)?;
        let name = place.name.clone().unwrap_or_default();
        Ok(Self { cluster, kind, place, name })
    }

    fn path(&self) -> String {
        self.kind.object_path(&self.place.namespace, &self.name)
    }

    /// The version it has; `None` where it is not there.
    async fn version(&self) -> Result<Option<Version>, Failure> {
        let body = match self.cluster.api.object(&self.path()).await {
            Ok(body) => body,
            Err(failure) if failure.code() == Some(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(self.cluster.failed(failure)),
        };
        let object: Value = serde_json::from_slice(&body).unwrap_or_default();
        match text(&object, "/metadata/resourceVersion") {
            Some(version) => Ok(Some(Version::from(version.to_owned()))),
            None => Err(Failure::failed(format!("{} has no version", shown(&self.kind, &self.place)))),
        }
    }

    async fn write(
        &self,
        creates: bool,
        mut object: Value,
        version: Option<&Version>,
        dry_run: bool,
    ) -> Result<Result<Bytes, Unanswered>, Failure> {
        let named = if creates { None } else { version };
        complete(&mut object, &self.kind, &self.place.namespace, &self.name, named)
            .map_err(|reason| Failure::failed(format!("the file: {reason}")))?;
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let query = format!("?fieldManager={}&fieldValidation=Strict{dry_run}", segment(MANAGER));
        let (method, path) = if creates {
            (Method::POST, self.kind.path(&self.place.namespace))
        } else {
            (Method::PUT, self.path())
        };
        let body = Bytes::from(object.to_string());
        Ok(self.cluster.api.write(method, &format!("{path}{query}"), JSON, body).await)
    }

    fn said(&self, done: &str, body: &[u8], dry_run: bool) -> Result<String, Failure> {
        let shown = shown(&self.kind, &self.place);
        if dry_run {
            return Ok(format!("{shown} could be {done} (dry run)"));
        }
        let object: Value = serde_json::from_slice(body)
            .map_err(|error| Failure::failed(format!("{shown}: the answer is no JSON: {error}")))?;
        let version = text(&object, "/metadata/resourceVersion").unwrap_or("?");
        Ok(output::shown(&format!("{shown} {done} (version {version})")))
    }
}

/// The object of a file, in JSON or YAML.
fn object(data: &Bytes) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::failed(format!("the file is no object in JSON or YAML: {why}"));
    if let Ok(object) = serde_json::from_slice::<Value>(data) {
        return Ok(object);
    }
    let text = std::str::from_utf8(data).map_err(|error| wrong(error.to_string()))?;
    serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))
}
