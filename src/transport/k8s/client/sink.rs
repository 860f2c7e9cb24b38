//! What routes send into the cluster: objects that are created, applied or deleted, statuses, and Events.
//!
//! Everything is written under our own field manager, by which the watch knows it again: what a route has written is
//! in the table, and no route is told of it.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::config::{ClientConfig, Operation, TargetOptions};
use super::api::{Api, Failure, segment};
use super::discovery::{Kinds, Resource};
use super::recorder::{About, Recorder};
use super::writes::{complete, text};
use crate::core::delivery::{Deliveries, Delivery, Reason};
use crate::core::stats::ConnectorStats;
use crate::core::template::Template;
use crate::core::{Change, Envelope, Outcome};
use crate::schema::kinds::{group_version_kind, proto_name, type_url};
use crate::schema::registry::Registry;
use crate::transport::k8s::codec::message;

/// What a server gives an object, which is nothing to ask for.
const GIVEN: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"];
/// Deepest that two objects are compared.
const DEPTH_MAX: usize = 64;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sink<'a> {
    pub(super) config: &'a ClientConfig,
    pub(super) api: &'a Api,
    pub(super) kinds: &'a Kinds,
    pub(super) stats: &'a ConnectorStats,
    pub(super) recorder: &'a Recorder,
    pub(super) registry: &'a Registry,
}

/// The object a delivery is about.
struct Addressed {
    resource: Resource,
    namespace: String,
    name: String,
    /// The data as an object; `None` where it is none and none is needed.
    object: Option<Value>,
}

impl Sink<'_> {
    /// Sends until the mailbox is closed and all is answered.
    pub(super) async fn run(&self, deliveries: &mut Deliveries) {
        let mut under_way = FuturesUnordered::new();
        let (mut batch, mut open) = (Vec::new(), true);
        while open || !under_way.is_empty() {
            let room = self.config.writes.saturating_sub(under_way.len());
            tokio::select! {
                biased;
                Some(()) = under_way.next() => {}
                n = deliveries.recv(&mut batch, room), if open && room > 0 => {
                    open = n > 0;
                    under_way.extend(batch.drain(..).map(|delivery| self.one(delivery)));
                }
            }
        }
    }

    async fn one(&self, delivery: Delivery) {
        let outcome = match self.deliver(&delivery).await {
            Ok(outcome) => {
                self.stats.sent.add(u64::from(outcome == Outcome::Delivered));
                outcome
            }
            Err(Failed::Said(reason)) => Outcome::Rejected(reason),
            Err(Failed::Api(failure)) if failure.is_final() => {
                Outcome::Rejected(failure.to_string().into())
            }
            Err(Failed::Api(failure)) => Outcome::Undelivered(failure.to_string().into()),
        };
        delivery.answer(outcome);
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<Outcome, Failed> {
        let Some(target) = delivery.options::<TargetOptions>() else {
            return Err(Failed::Said("the target is none of Kubernetes".into()));
        };
        // Until the cluster was asked, what is missing may only not be known yet.
        if !self.kinds.known() {
            return Ok(Outcome::Undelivered("the kinds of the cluster are not known yet".into()));
        }
        let envelope = &delivery.envelope;
        let gone = matches!(envelope.change, Change::Delete(..));
        let addressed = self.addressed(target, delivery)?;
        match target.operation {
            Operation::Create if gone => Err(Failed::Said(
                "a deletion creates nothing: select changes in the route, or use operation: apply".into(),
            )),
            Operation::Create => self.create(addressed).await,
            Operation::Apply if !gone => self.apply(addressed, target.force).await,
            Operation::Apply | Operation::Delete => self.delete(&addressed).await,
            Operation::PatchStatus => self.patch_status(addressed, &envelope.data).await,
            Operation::Event => {
                let event = target.event.as_ref().ok_or_else(|| Failed::Said("no event is told".into()))?;
                let about =
                    About::new(&addressed.resource, &addressed.namespace, &addressed.name, envelope);
                let recorded = self.recorder.record(self.api, event, about, delivery).await;
                recorded.map_err(|failure| failure.map_or_else(Failed::Said, Failed::Api))
            }
        }
    }

    async fn create(&self, addressed: Addressed) -> Result<Outcome, Failed> {
        let object = addressed.object()?;
        let path = format!("{}{}", addressed.resource.path(&addressed.namespace), self.query());
        let created = self.api.write(Method::POST, &path, JSON, body(&object)).await;
        let Err(failure) = created else { return Ok(Outcome::Delivered) };
        if failure.code() != Some(StatusCode::CONFLICT) {
            return Err(failure.into());
        }
        // An earlier try whose answer was lost may have made it.
        let there = self.api.object(&addressed.path()).await?;
        let there: Value = serde_json::from_slice(&there).unwrap_or_default();
        if holds(&there, &object, DEPTH_MAX) { Ok(Outcome::Delivered) } else { Err(failure.into()) }
    }

    async fn apply(&self, addressed: Addressed, force: bool) -> Result<Outcome, Failed> {
        let object = addressed.object()?;
        let path = format!("{}{}&force={force}", addressed.path(), self.query());
        self.api.write(Method::PATCH, &path, APPLY, body(&object)).await?;
        Ok(Outcome::Delivered)
    }

    async fn patch_status(&self, addressed: Addressed, data: &Bytes) -> Result<Outcome, Failed> {
        let value: Value = match addressed.object {
            Some(object) => object,
            None => serde_json::from_slice(data)
                .map_err(|error| Failed::Said(format!("the data is no JSON: {error}").into()))?,
        };
        let status = value.get("status").cloned().unwrap_or(value);
        let path = format!(
            "{}/status{}",
            addressed.resource.object_path(&addressed.namespace, &addressed.name),
            self.query()
        );
        self.api.write(Method::PATCH, &path, MERGE, body(&json!({ "status": status }))).await?;
        Ok(Outcome::Delivered)
    }

    async fn delete(&self, addressed: &Addressed) -> Result<Outcome, Failed> {
        match self.api.write(Method::DELETE, &addressed.path(), JSON, Bytes::new()).await {
            Ok(_) => Ok(Outcome::Delivered),
            Err(failure) if failure.code() == Some(StatusCode::NOT_FOUND) => Ok(Outcome::Delivered),
            Err(failure) => Err(failure.into()),
        }
    }

    fn query(&self) -> String {
        format!("?fieldManager={}", segment(&self.config.field_manager))
    }

    /// Which object a delivery is about: as its target says, else its data, else its key.
    fn addressed(&self, target: &TargetOptions, delivery: &Delivery) -> Result<Addressed, Failed> {
        let envelope = &*delivery.envelope;
        let told = |template: &Option<Template>| {
            template.as_ref().map(|template| template.render(envelope, &delivery.route)).transpose()
        };
        let object = match envelope.change.key() {
            Some(key) if proto_name(&key.type_url).is_some() => {
                message::object(key, envelope, &self.registry.descriptors())?
            }
            _ => object_of(envelope),
        };
        let from_key = envelope.change.key().filter(|key| group_version_kind(&key.type_url).is_some());
        let of_key = from_key.and_then(|key| key.name.split_once('/'));
        let type_told = match told(&target.type_url)? {
            Some(word) => Some(type_url(&word).map_err(Failed::from)?.into_owned()),
            None => {
                object.as_ref().and_then(type_of).or_else(|| from_key.map(|key| key.type_url.to_string()))
            }
        };
        let missing =
            |what: &str| Failed::Said(format!("nothing tells the {what}: set {what} at the target").into());
        let type_told = type_told.ok_or_else(|| missing("type"))?;
        let Some(resource) = self.kinds.get(&type_told) else {
            self.kinds.miss();
            return Err(Failed::Said(format!("the cluster has no {type_told}").into()));
        };
        let of_object =
            |name: &str| object.as_ref().and_then(|object| text(object, name)).map(str::to_owned);
        let name = told(&target.name)?.map(|name| name.to_string());
        let name = name
            .or_else(|| of_object("/metadata/name"))
            .or_else(|| of_key.map(|(_, name)| name.to_owned()))
            .filter(|name| !name.is_empty())
            .ok_or_else(|| missing("name"))?;
        let namespace = told(&target.namespace)?.map(|namespace| namespace.to_string());
        let namespace = namespace
            .or_else(|| of_object("/metadata/namespace"))
            .or_else(|| of_key.map(|(namespace, _)| namespace.to_owned()))
            .filter(|namespace| !namespace.is_empty());
        let namespace = match (namespace, resource.definition.namespaced) {
            (_, false) => String::new(),
            (Some(namespace), true) => namespace,
            (None, true) => return Err(missing("namespace")),
        };
        Ok(Addressed { resource, namespace, name, object })
    }
}

impl Addressed {
    fn path(&self) -> String {
        self.resource.object_path(&self.namespace, &self.name)
    }

    /// The object to be written: what the server gives is left out, what is told at the target is set.
    fn object(&self) -> Result<Value, Failed> {
        let mut object =
            self.object.clone().ok_or_else(|| Failed::Said("the data is no object in JSON".into()))?;
        if let Some(fields) = object.as_object_mut() {
            for name in ["apiVersion", "kind"] {
                drop(fields.remove(name));
            }
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|name, _| !GIVEN.contains(&name.as_str()));
                for name in ["name", "namespace"] {
                    drop(metadata.remove(name));
                }
            }
        }
        complete(&mut object, &self.resource, &self.namespace, &self.name, None)
            .map_err(|reason| Failed::Said(reason.into()))?;
        Ok(object)
    }
}

/// Why a delivery came to nothing.
pub(super) enum Failed {
    /// It cannot be right, however often it is tried.
    Said(Reason),
    /// The server did not take it.
    Api(Failure),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Api(failure)
    }
}

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Self::Said(reason)
    }
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self::Said(reason.into())
    }
}

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// The data, where it is a JSON object.
fn object_of(envelope: &Envelope) -> Option<Value> {
    serde_json::from_slice::<Map<String, Value>>(&envelope.data).ok().map(Value::Object)
}

/// The type that an object states.
fn type_of(object: &Value) -> Option<String> {
    let (version, kind) = (text(object, "/apiVersion")?, text(object, "/kind")?);
    let (group, version) = version.split_once('/').unwrap_or(("core", version));
    Some(format!("{group}/{version}/{kind}"))
}

/// Whether an object has all that was asked for; it may have more, by defaults and by others.
fn holds(have: &Value, asked: &Value, depth: usize) -> bool {
    match (have, asked) {
        (Value::Object(have), Value::Object(asked)) if depth > 0 => asked.iter().all(|(name, asked)| {
            have.get(name).is_some_and(|have| holds(have, asked, depth - 1)) || asked.is_null()
        }),
        (Value::Array(have), Value::Array(asked)) if depth > 0 => {
            have.len() == asked.len()
                && have.iter().zip(asked).all(|(have, asked)| holds(have, asked, depth - 1))
        }
        (have, asked) => have == asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_has_what_was_asked_for_will_do() {
        let have = json!({"a": 1, "b": [{"c": 2, "default": 3}], "more": true});
        assert!(holds(&have, &json!({"a": 1, "b": [{"c": 2}], "none": null}), DEPTH_MAX));
        assert!(!holds(&have, &json!({"b": [{"c": 3}]}), DEPTH_MAX));
        assert!(!holds(&have, &json!({"b": []}), DEPTH_MAX));
        assert!(!holds(&have, &json!({"d": 1}), DEPTH_MAX));
    }

    #[test]
    fn an_object_states_its_type() {
        let of = |version: &str| type_of(&json!({"apiVersion": version, "kind": "K"}));
        assert_eq!((of("v1").as_deref(), of("a.b/v2").as_deref()), (Some("core/v1/K"), Some("a.b/v2/K")));
        assert_eq!(type_of(&json!({"kind": "K"})), None);
    }
}
