//! Deleting objects: one, or all that match; under preconditions, and not before their finalizers are done.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::selection::Selection;
use super::options::DeleteOptions;
use super::store::{Live, NotStored};
use super::{Writing, body, metadata, refused};
use crate::core::record::Record;
use crate::core::state::Held;
use crate::core::write::{Operation, Precondition};
use crate::core::{Change, Key, Refused};
use crate::transport::k8s::codec::proto;
use crate::transport::k8s::codec::status::{Reason, Status};

/// How often a deletion is tried against others who change the object.
const TRIES: usize = 16;
/// Kinds whose deletion is answered with the object, which the real API deletes in steps.
const ANSWERED_WHOLE: [&str; 3] =
    ["core/v1/Pod", "core/v1/Namespace", "apiextensions.k8s.io/v1/CustomResourceDefinition"];

/// What became of one deletion.
enum Deleted {
    /// It is gone.
    Gone(Value),
    /// It waits for its finalizers.
    Ending(Value),
}

/// What an object holds that goes with it.
enum Holds {
    /// A namespace its objects: the beginning of their names.
    Namespace(String),
    /// The definition of a custom kind that kind's: group and kind.
    Kind(String, String),
}

impl Holds {
    fn has(&self, key: &Key) -> bool {
        match self {
            Self::Namespace(prefix) => key.name.starts_with(&**prefix),
            Self::Kind(group, kind) => {
                let mut parts = key.type_url.split('/');
                (parts.next(), parts.nth(1)) == (Some(&**group), Some(&**kind))
            }
        }
    }
}

impl Writing<'_> {
    /// `DELETE` on an object.
    pub(super) async fn delete(&mut self) -> Result<Answer, Status> {
        let wanted = self.delete_options()?;
        let (namespace, name) = (self.resource.namespace.clone(), self.name().to_owned());
        self.authorize_write(&namespace, &name)?;
        let whole = ANSWERED_WHOLE.contains(&&*self.kind().stored_as);
        Ok(match self.delete_one(&namespace, &name, &wanted).await? {
            Deleted::Ending(object) => self.answer(StatusCode::OK, &object),
            Deleted::Gone(object) if whole => self.answer(StatusCode::OK, &object),
            Deleted::Gone(object) => {
                let definition = &self.kind().definition;
                let mut details = serde_json::Map::new();
                details.insert("name".to_owned(), json!(name));
                if !definition.group.is_empty() {
                    details.insert("group".to_owned(), json!(definition.group));
                }
                details.insert("kind".to_owned(), json!(definition.plural));
                details.insert("uid".to_owned(), json!(metadata::text(&object, "uid")));
                let success = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
                });
                self.answer(StatusCode::OK, &success)
            }
        })
    }

    /// `DELETE` on a collection: all that the selectors match; the answer lists them.
    pub(super) async fn delete_collection(&mut self) -> Result<Answer, Status> {
        let wanted = self.delete_options()?;
        let selection = Selection::of(self.shared, self.call, self.kind())?;
        let snapshot = self.shared.bus.snapshot();
        let kind = Arc::clone(&self.resource.kind);
        let found: Vec<Arc<Record>> = snapshot
            .range(Some(&self.call.scope), Some(&kind.stored_as), None)
            .map(Held::record)
            .filter(|record| self.is_here(record) && selection.matches(self.shared, &kind, record))
            .collect();
        drop(snapshot);
        let mut items = Vec::with_capacity(found.len());
        for record in found {
            let Some(key) = record.envelope.change.key() else { continue };
            let (namespace, name) = kind.name_of(key);
            let (namespace, name) = (namespace.to_owned(), name.into_owned());
            self.authorize_write(&namespace, &name)?;
            match self.delete_one(&namespace, &name, &wanted).await {
                Ok(Deleted::Gone(object) | Deleted::Ending(object)) => items.push(object),
                // Somebody else deleted it meanwhile.
                Err(status) if status.code == StatusCode::NOT_FOUND => {}
                Err(status) => return Err(status),
            }
        }
        let definition = &kind.definition;
        let seq = self.shared.bus.figures().seq.to_string();
        let list = json!({
            "apiVersion": definition.api_version(),
            "items": items,
            "kind": format!("{}List", definition.kind),
            "metadata": {"continue": "", "resourceVersion": seq},
        });
        Ok(self.answer(StatusCode::OK, &list))
    }

    fn delete_options(&mut self) -> Result<DeleteOptions, Status> {
        let wrong = |why: String| {
            Status::new(Reason::BadRequest, format!("the delete options cannot be read: {why}"))
        };
        let sent = if self.call.body.is_empty() {
            None
        } else {
            Some(match &*body::media_type(&self.call.headers) {
                "application/json" => body::json(&self.call.body).map_err(wrong)?,
                "application/yaml" => body::yaml(&self.call.body).map_err(wrong)?,
                "application/vnd.kubernetes.protobuf" => {
                    proto::decode(&self.call.body).map_err(|error| wrong(error.to_string()))?
                }
                _ => {
                    let taken = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
                    return Err(body::unsupported(taken));
                }
            })
        };
        let wanted = DeleteOptions::of(self.call, sent.as_ref())?;
        self.options.dry_run = wanted.dry_run;
        Ok(wanted)
    }

    /// Whether a record is in the namespace of the request.
    fn is_here(&self, record: &Record) -> bool {
        let namespace = &*self.resource.namespace;
        namespace.is_empty()
            || record.envelope.change.key().is_some_and(|key| self.kind().name_of(key).0 == namespace)
    }

    async fn delete_one(
        &self,
        namespace: &str,
        name: &str,
        wanted: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let definition = &self.kind().definition;
        for _ in 0..TRIES {
            let live = self
                .live(namespace, name)
                .ok_or_else(|| Status::not_found(&definition.group, &definition.plural, name))?;
            self.check_preconditions(&live, wanted)?;
            if !self.is_local() {
                return self.delete_through(&live, wanted, name).await;
            }
            if metadata::has_finalizers(&live.object) {
                match self.begin_end(&live, wanted).await {
                    Err(NotStored::Raced) => continue,
                    Err(NotStored::Refused(status)) => return Err(*status),
                    Ok(object) => return Ok(Deleted::Ending(object)),
                }
            }
            if !self.options.dry_run {
                self.empty(&live).await?;
            }
            match self.delete_now(&live).await {
                Err(NotStored::Raced) => {}
                Err(NotStored::Refused(status)) => return Err(*status),
                Ok(()) => return Ok(Deleted::Gone(live.object)),
            }
        }
        Err(Status::conflict(&definition.group, &definition.plural, name, refused::MODIFIED))
    }

    /// Marks an object as to be deleted once its finalizers are gone.
    async fn begin_end(&self, live: &Live, wanted: &DeleteOptions) -> Result<Value, NotStored> {
        if metadata::is_ending(&live.object) {
            return Ok(live.object.clone());
        }
        let mut object = live.object.clone();
        if let Some(fields) = metadata::of(&mut object) {
            fields.insert("deletionTimestamp".to_owned(), json!(metadata::now()));
            fields
                .insert("deletionGracePeriodSeconds".to_owned(), json!(wanted.grace_seconds.unwrap_or(0)));
            if let Some(generation) = fields.get("generation").and_then(Value::as_i64) {
                fields.insert("generation".to_owned(), json!(generation + 1));
            }
        }
        self.store(live.key.clone(), Some(live), object).await
    }

    /// Deletes an object that is still what was read.
    pub(super) async fn delete_now(&self, live: &Live) -> Result<(), NotStored> {
        let precondition = Precondition::Seq(live.seq);
        let dry_run = self.options.dry_run;
        match self.shared.bus.write(live.key.clone(), Operation::Delete, precondition, dry_run).await {
            Ok(_) => Ok(()),
            Err(Refused::Conflict { .. } | Refused::NotFound) => Err(NotStored::Raced),
            Err(refusal) => {
                let name = metadata::text(&live.object, "name");
                Err(refused::status(&refusal, &self.kind().definition, name).into())
            }
        }
    }

    fn check_preconditions(&self, live: &Live, wanted: &DeleteOptions) -> Result<(), Status> {
        let definition = &self.kind().definition;
        let name = metadata::text(&live.object, "name");
        let kind = if definition.group.is_empty() {
            definition.kind.clone()
        } else {
            format!("{}.{}", definition.kind, definition.group)
        };
        let refuse = |why: String| {
            let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
            Status::new(Reason::Conflict, message).about(&definition.group, &definition.kind, name)
        };
        let uid = metadata::text(&live.object, "uid");
        if let Some(sent) = wanted.uid.as_deref().filter(|sent| *sent != uid) {
            return Err(refuse(format!(
                "the UID in the precondition ({sent}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            )));
        }
        let version = live.seq.to_string();
        if let Some(sent) = wanted.resource_version.as_deref().filter(|sent| *sent != version) {
            return Err(refuse(format!(
                "the ResourceVersion in the precondition ({sent}) does not match the ResourceVersion in record ({version}). The object might have been modified"
            )));
        }
        Ok(())
    }

    /// Hands a deletion to the connector that owns the scope.
    async fn delete_through(
        &self,
        live: &Live,
        wanted: &DeleteOptions,
        name: &str,
    ) -> Result<Deleted, Status> {
        let mut parameters = self.parameters();
        parameters.retain(|(name, _)| !matches!(&**name, "propagationPolicy" | "gracePeriodSeconds"));
        if let Some(policy) = &wanted.propagation {
            parameters.push(("propagationPolicy".into(), policy.as_str().into()));
        }
        if let Some(seconds) = wanted.grace_seconds {
            parameters.push(("gracePeriodSeconds".into(), seconds.to_string().into()));
        }
        if let Some(uid) = &wanted.uid {
            parameters.push(("uid".into(), uid.as_str().into()));
        }
        let precondition = match wanted.resource_version {
            Some(_) => Precondition::Version(live.version.clone()),
            None => Precondition::Any,
        };
        let key = live.key.clone();
        let (_, object) = self.through(key, Operation::Delete, precondition, parameters, name).await?;
        Ok(match object {
            Some(object) if metadata::is_ending(&object) => Deleted::Ending(object),
            _ => Deleted::Gone(live.object.clone()),
        })
    }

    /// Deletes what an object holds: of a namespace its objects, of a custom kind's definition that kind's.
    async fn empty(&self, live: &Live) -> Result<(), Status> {
        let name = metadata::text(&live.object, "name");
        let text = |at: &str| live.object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let holds = match &*self.kind().stored_as {
            "core/v1/Namespace" => Holds::Namespace(format!("{name}/")),
            "apiextensions.k8s.io/v1/CustomResourceDefinition" => {
                Holds::Kind(text("/spec/group").to_owned(), text("/spec/names/kind").to_owned())
            }
            _ => return Ok(()),
        };
        let snapshot = self.shared.bus.snapshot();
        let held: Vec<_> = snapshot
            .range(Some(&self.call.scope), None, None)
            .filter_map(|held| match &held.record().envelope.change {
                Change::Put(key, _) if holds.has(key) => Some(key.clone()),
                _ => None,
            })
            .collect();
        drop(snapshot);
        for key in held {
            match self.shared.bus.write(key, Operation::Delete, Precondition::Any, false).await {
                Ok(_) | Err(Refused::NotFound) => {}
                Err(refusal) => return Err(refused::status(&refusal, &self.kind().definition, name)),
            }
        }
        Ok(())
    }
}
