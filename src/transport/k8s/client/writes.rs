//! Writes of the cluster's objects by whoever uses the bus: kubectl, HTTP, another protocol.
//!
//! The API server decides, under its own rules; its refusals are passed on in its own words. A write is confirmed by
//! what the watch of its type shows, so only what is watched can be written.

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use serde_json::{Map, Value, json};

use super::super::config::ClientConfig;
use super::api::{Api, Failure, segment};
use super::discovery::{Kinds, Resource};
use super::election::Lead;
use crate::core::bus::Ingress;
use crate::core::state::version_of;
use crate::core::write::{Confirmed, Operation, Precondition, Write, Writes};
use crate::core::{Key, Refused, Version};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) config: &'a ClientConfig,
    pub(super) api: &'a Api,
    pub(super) kinds: &'a Kinds,
    pub(super) bus: &'a Ingress,
    pub(super) lead: &'a Lead,
}

impl Writer<'_> {
    /// Writes, several at a time: a slow one delays no other. Never ends.
    pub(super) async fn run(&self, writes: &mut Writes) {
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                Some(()) = under_way.next() => {}
                write = writes.recv(), if open && under_way.len() < self.config.writes => match write {
                    Some(write) => under_way.push(self.one(write)),
                    None => open = false,
                },
                // Nobody can write any more: the others of the run go on.
                else => std::future::pending().await,
            }
        }
    }

    async fn one(&self, write: Write) {
        let Write { key, operation, precondition, dry_run, parameters, answer } = write;
        if answer.is_closed() {
            return;
        }
        let asked = Asked { key: &key, precondition, dry_run, parameters };
        let result = match (self.stands_by(), operation) {
            (Some(refusal), _) => Err(refusal),
            (None, Operation::Put(envelope)) => self.put(&asked, &envelope.data).await,
            (None, Operation::Delete) => self.delete(&asked).await,
            (None, Operation::Patch { media_type, bytes }) => self.patch(&asked, &media_type, bytes).await,
        };
        match result {
            // Whether the server has done it is not known: the writer is told so by the time that runs out.
            Err(Refusal::Unknown) => {}
            // Whoever wrote may have gone; what was written stands.
            Err(Refusal::Told(refused)) => drop(answer.send(Err(refused))),
            Ok(confirmed) => drop(answer.send(Ok(confirmed))),
        }
    }

    /// Why nothing is written where another bus leads: no watch of ours would confirm it, and the table, which
    /// preconditions are compared with, is not kept up.
    fn stands_by(&self) -> Option<Refusal> {
        let election = self.config.leader_election.as_ref().filter(|_| !self.lead.holds())?;
        let message = format!(
            "{} stands by: write at the bus that leads, which is {} by the Lease {}/{}",
            self.bus.connector(),
            self.lead.leader(),
            election.namespace,
            election.name
        );
        Some(self.refuse(503, "ServiceUnavailable", message))
    }

    fn refuse(&self, status: u16, reason: &str, message: String) -> Refusal {
        Refusal::Told(Refused::Owner {
            owner: self.bus.connector().clone(),
            reason: reason.into(),
            message: message.into(),
            status,
            body: Bytes::new(),
        })
    }

    async fn put(&self, asked: &Asked<'_>, data: &Bytes) -> Result<Confirmed, Refusal> {
        let mut object: Value = serde_json::from_slice(data).map_err(|error| {
            Refusal::Told(Refused::Invalid(format!("the value is no JSON of an object: {error}")))
        })?;
        let resource = self.resource(asked.key, object.get("apiVersion").and_then(Value::as_str))?;
        let (namespace, name) = names(asked.key);
        let absent = asked.precondition == Precondition::Absent && asked.parameter("subresource").is_none();
        let version = asked.version(self.bus)?;
        complete(&mut object, &resource, namespace, name, version.as_ref())
            .map_err(|reason| Refusal::Told(Refused::Invalid(reason.to_owned())))?;
        let body = Bytes::from(object.to_string());
        let query = self.query(asked, &["fieldValidation"]);
        let create = || format!("{}{query}", resource.path(namespace));
        if absent {
            return self.written(asked.dry_run, self.api.write(Method::POST, &create(), JSON, body).await);
        }
        let path = format!("{}{query}", asked.path(&resource));
        let replaced = self.api.write(Method::PUT, &path, JSON, body.clone()).await;
        match &replaced {
            Err(failure)
                if asked.precondition == Precondition::Any
                    && asked.parameter("subresource").is_none()
                    && failure.code() == Some(http::StatusCode::NOT_FOUND) =>
            {
                self.written(asked.dry_run, self.api.write(Method::POST, &create(), JSON, body).await)
            }
            _ => self.written(asked.dry_run, replaced),
        }
    }

    async fn patch(&self, asked: &Asked<'_>, media_type: &str, bytes: Bytes) -> Result<Confirmed, Refusal> {
        let resource = self.resource(asked.key, None)?;
        // What must hold is in the patch, in the source's own words; a sequence only we can compare.
        let _holds = asked.version(self.bus)?;
        let names: &[&str] = if media_type.starts_with("application/apply-patch") {
            &["fieldValidation", "force"]
        } else {
            &["fieldValidation"]
        };
        let path = format!("{}{}", asked.path(&resource), self.query(asked, names));
        self.written(asked.dry_run, self.api.write(Method::PATCH, &path, media_type, bytes).await)
    }

    async fn delete(&self, asked: &Asked<'_>) -> Result<Confirmed, Refusal> {
        let resource = self.resource(asked.key, None)?;
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        let mut conditions = Map::new();
        if let Some(version) = asked.version(self.bus)? {
            conditions.insert("resourceVersion".to_owned(), Value::String(version.to_string()));
        }
        if let Some(uid) = asked.parameter("uid") {
            conditions.insert("uid".to_owned(), uid.into());
        }
        if let Some(fields) = options.as_object_mut() {
            if !conditions.is_empty() {
                fields.insert("preconditions".to_owned(), Value::Object(conditions));
            }
            if let Some(policy) = asked.parameter("propagationPolicy") {
                fields.insert("propagationPolicy".to_owned(), policy.into());
            }
            if let Some(seconds) =
                asked.parameter("gracePeriodSeconds").and_then(|it| it.parse::<i64>().ok())
            {
                fields.insert("gracePeriodSeconds".to_owned(), seconds.into());
            }
            if asked.dry_run {
                fields.insert("dryRun".to_owned(), json!(["All"]));
            }
        }
        let body = Bytes::from(options.to_string());
        let path = resource.object_path(names(asked.key).0, names(asked.key).1);
        let answer = self.api.write(Method::DELETE, &path, JSON, body).await;
        let data = answer.map_err(|failure| self.refused(failure))?;
        let object: Value = serde_json::from_slice(&data).unwrap_or_default();
        let remains = remains(&object);
        let version = text(&object, "/metadata/resourceVersion").unwrap_or_default().to_owned();
        Ok(Confirmed { version: version.into(), data, remains, overtaken_by: None })
    }

    fn written(&self, dry_run: bool, answer: Result<Bytes, Failure>) -> Result<Confirmed, Refusal> {
        let data = answer.map_err(|failure| self.refused(failure))?;
        let object: Value = serde_json::from_slice(&data).map_err(|_| Refusal::Unknown)?;
        // What was only tried has none.
        let version = text(&object, "/metadata/resourceVersion").or(dry_run.then_some(""));
        let version = version.ok_or(Refusal::Unknown)?;
        Ok(Confirmed { version: version.into(), data, ..Confirmed::default() })
    }

    fn refused(&self, failure: Failure) -> Refusal {
        match failure {
            Failure::Broken(_) => Refusal::Unknown,
            Failure::Oversize(max) => {
                Refusal::Told(Refused::Full(format!("max_object: the answer is larger than {max} bytes")))
            }
            Failure::Refused(refusal) => Refusal::Told(Refused::Owner {
                owner: self.bus.connector().clone(),
                reason: refusal.status.reason.into(),
                message: refusal.status.message.into(),
                status: refusal.status.code.as_u16(),
                body: refusal.body,
            }),
        }
    }

    /// The kind of a key's object, if its writes can be confirmed.
    fn resource(&self, key: &Key, api_version: Option<&str>) -> Result<Resource, Refusal> {
        let (namespace, _) = names(key);
        let watch = self.config.watch.iter().find(|watch| watch.key_type() == &*key.type_url);
        let covered = watch.filter(|watch| {
            namespace.is_empty()
                || watch.namespaces.is_empty()
                || watch.namespaces.iter().any(|it| it == namespace)
        });
        let Some(watch) = covered else {
            let message = format!(
                "{} does not watch {} {:?}, so no write of it could be confirmed: add it to watch",
                self.bus.connector(),
                key.type_url,
                &*key.name
            );
            return Err(self.refuse(405, "MethodNotAllowed", message));
        };
        // An Event is written in the form that it is in.
        let other = api_version.filter(|_| watch.is_event());
        let found = other.and_then(|version| self.kinds.named(version, "Event"));
        found.or_else(|| self.kinds.get(&watch.type_url)).ok_or_else(|| {
            self.kinds.miss();
            self.refuse(404, "NotFound", format!("the cluster has no {}", watch.type_url))
        })
    }

    fn query(&self, asked: &Asked<'_>, names: &[&str]) -> String {
        let own = format!("{}-write", self.config.field_manager);
        let manager = asked.parameter("fieldManager").unwrap_or(&own);
        let mut query = format!("?fieldManager={}", segment(manager));
        for name in names {
            if let Some(value) = asked.parameter(name) {
                query = format!("{query}&{name}={}", segment(value));
            }
        }
        if asked.dry_run {
            query.push_str("&dryRun=All");
        }
        query
    }
}

const JSON: &str = "application/json";

/// Why a write was not confirmed.
enum Refusal {
    Told(Refused),
    /// There was no answer that says.
    Unknown,
}

/// What is asked beside the operation.
struct Asked<'a> {
    key: &'a Key,
    precondition: Precondition,
    dry_run: bool,
    parameters: Vec<(ByteString, ByteString)>,
}

impl Asked<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(have, _)| have == name).map(|(_, value)| &**value)
    }

    fn path(&self, resource: &Resource) -> String {
        let (namespace, name) = names(self.key);
        let path = resource.object_path(namespace, name);
        match self.parameter("subresource") {
            Some(subresource) => format!("{path}/{}", segment(subresource)),
            None => path,
        }
    }

    /// The source's version that must hold; `None` where none must.
    fn version(&self, bus: &Ingress) -> Result<Option<Version>, Refusal> {
        match &self.precondition {
            Precondition::Any | Precondition::Absent => Ok(None),
            Precondition::Version(version) => Ok(Some(version.clone())),
            Precondition::Seq(seq) => match bus.get(self.key) {
                Some(record) if record.seq == *seq => Ok(Some(version_of(&record))),
                held => {
                    let current = held.map(|record| (record.seq, version_of(&record)));
                    Err(Refusal::Told(Refused::Conflict { current }))
                }
            },
        }
    }
}

/// Namespace and name of a key's object.
fn names(key: &Key) -> (&str, &str) {
    key.name.split_once('/').unwrap_or(("", &key.name))
}

/// Fills in what an object says of itself, where it does not.
pub(crate) fn complete(
    object: &mut Value,
    resource: &Resource,
    namespace: &str,
    name: &str,
    version: Option<&Version>,
) -> Result<(), &'static str> {
    let fields = object.as_object_mut().ok_or("the value is no object")?;
    let definition = &resource.definition;
    fields.entry("apiVersion").or_insert_with(|| definition.api_version().into());
    fields.entry("kind").or_insert_with(|| definition.kind.as_str().into());
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut().ok_or("its metadata is no object")?;
    metadata.entry("name").or_insert_with(|| name.into());
    if definition.namespaced && !namespace.is_empty() {
        metadata.entry("namespace").or_insert_with(|| namespace.into());
    }
    if let Some(version) = version {
        metadata.insert("resourceVersion".to_owned(), Value::String(version.to_string()));
    }
    Ok(())
}

/// Whether an object that was deleted is still there: its finalizers or its containers have something to do first.
pub(crate) fn remains(object: &Value) -> bool {
    let deleting = text(object, "/metadata/deletionTimestamp").is_some();
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    deleting && (finalizers.is_some_and(|finalizers| !finalizers.is_empty()) || grace.unwrap_or(0) > 0)
}

/// The text at a JSON pointer.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_remains_while_something_holds_it() {
        let object = |metadata: Value| json!({ "metadata": metadata });
        assert!(remains(&object(json!({"deletionTimestamp": "t", "finalizers": ["a"]}))));
        assert!(remains(&object(json!({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}))));
        assert!(!remains(&object(json!({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}))));
        assert!(!remains(&object(json!({"finalizers": ["a"]}))));
        assert!(!remains(&json!({"kind": "Status", "status": "Success"})));
    }
}
