//! Writes of scopes that a connector owns: the client's positions become the source's versions, the rest is the
//! source's business. For a source that knows no patches, what they make of the object is worked out here.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::super::answer::Answer;
use super::super::kind::Form;
use super::change::Edit;
use super::store::Live;
use super::{Writing, body, made, metadata, refused};
use crate::core::write::{Operation, Precondition};
use crate::core::{Envelope, Key, Refused};
use crate::schema::address;
use crate::transport::k8s::codec::apply;
use crate::transport::k8s::codec::status::{Reason, Status};

/// How often an edit is tried against others who change the object at its source.
const TRIES: u32 = 8;
/// How long the first further try waits for their change to be shown here; each one waits twice as long.
const WAIT: Duration = Duration::from_millis(10);

impl Writing<'_> {
    pub(super) async fn create_through(
        &mut self,
        mut object: Value,
        namespace: &str,
        name: &str,
    ) -> Result<Answer, Status> {
        self.authorize_write(namespace, name)?;
        if let Some(metadata) = metadata::of(&mut object) {
            metadata.insert("name".to_owned(), Value::String(name.to_owned()));
            metadata.remove("resourceVersion");
        }
        let true_name = made::true_name(&object).filter(|_| self.kind().form == Form::Made);
        let key = self.key(namespace, name, true_name);
        let put = self.put(&key, &object)?;
        let (_, stored) = self.through(key, put, Precondition::Absent, self.parameters(), name).await?;
        Ok(self.answer(StatusCode::CREATED, &stored.unwrap_or(object)))
    }

    pub(super) async fn replace_through(
        &mut self,
        mut object: Value,
        namespace: &str,
        name: &str,
    ) -> Result<Answer, Status> {
        let live = self.live_or_missing(namespace, name)?;
        let precondition = self.source_version(&live, metadata::text(&object, "resourceVersion"))?;
        Self::translate(&mut object, &precondition);
        let put = self.put(&live.key, &object)?;
        let (_, stored) = self.through(live.key, put, precondition, self.parameters(), name).await?;
        Ok(self.answer(StatusCode::OK, &stored.unwrap_or(object)))
    }

    pub(super) async fn patch_through(
        &mut self,
        media_type: &str,
        namespace: &str,
        name: &str,
        edit: &Edit,
    ) -> Result<Answer, Status> {
        let live = self.live(namespace, name);
        let applies = media_type == "application/apply-patch+yaml";
        let definition = &self.kind().definition;
        if live.is_none() && !applies {
            return Err(Status::not_found(&definition.group, &definition.plural, name));
        }
        let key = live
            .as_ref()
            .map_or_else(|| self.kind().key(&self.call.scope, namespace, name), |live| live.key.clone());
        let (bytes, precondition) = match &live {
            Some(live) => self.translate_patch(live, media_type)?,
            None => (self.call.body.clone(), Precondition::Any),
        };
        let patch = Operation::Patch { media_type: media_type.into(), bytes };
        match self.hand_over(key, patch, precondition, self.parameters()).await {
            Ok((stored, object)) => {
                let code = if stored.created { StatusCode::CREATED } else { StatusCode::OK };
                Ok(self.answer(code, &object.unwrap_or_default()))
            }
            Err(Refused::UnsupportedMediaType(_)) => self.edit_through(namespace, name, edit).await,
            Err(refusal) => Err(refused::status(&refusal, &self.kind().definition, name)),
        }
    }

    /// Writes what an edit makes of the object, under the condition that it is still what was edited; again as long as
    /// others are faster and the writer named no version.
    async fn edit_through(&mut self, namespace: &str, name: &str, edit: &Edit) -> Result<Answer, Status> {
        let mut wait = WAIT;
        for tries in 1.. {
            let (key, mut object, precondition) = if let Some(live) = self.live(namespace, name) {
                let (wanted, _) = self.apply_edit(&live, edit)?;
                if apply::is_unchanged(&live.object, &wanted) {
                    return Ok(self.answer(StatusCode::OK, &live.object));
                }
                (live.key, wanted, Precondition::Version(live.version))
            } else {
                let Edit::Apply(wanted) = edit else { break };
                let (key, object) = self.applied_new(wanted, namespace, name)?;
                (key, object, Precondition::Absent)
            };
            let code = match precondition {
                Precondition::Absent => StatusCode::CREATED,
                _ => StatusCode::OK,
            };
            Self::translate(&mut object, &precondition);
            let put = self.put(&key, &object)?;
            match self.hand_over(key, put, precondition, self.parameters()).await {
                Ok((_, stored)) => return Ok(self.answer(code, &stored.unwrap_or(object))),
                Err(refusal) if tries < TRIES && is_conflict(&refusal) => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(refusal) => return Err(refused::status(&refusal, &self.kind().definition, name)),
            }
        }
        let definition = &self.kind().definition;
        Err(Status::not_found(&definition.group, &definition.plural, name))
    }

    fn live_or_missing(&self, namespace: &str, name: &str) -> Result<Live, Status> {
        let definition = &self.kind().definition;
        self.live(namespace, name)
            .ok_or_else(|| Status::not_found(&definition.group, &definition.plural, name))
    }

    fn put(&self, key: &Key, object: &Value) -> Result<Operation, Status> {
        let topic = address::topic_of(key).map_err(|why| Status::new(Reason::BadRequest, why))?;
        let mut envelope = Envelope::event(topic, "", "", "");
        if self.kind().form == Form::Made {
            let (data, media_type) = made::data(self.kind(), object)?;
            (envelope.data, envelope.datacontenttype) = (data, Some(media_type.into()));
        } else {
            envelope.datacontenttype = Some("application/json".into());
            envelope.data = object.to_string().into();
        }
        Ok(Operation::Put(Box::new(envelope)))
    }

    /// What must hold at the source, for the position the client names.
    fn source_version(&self, live: &Live, sent: &str) -> Result<Precondition, Status> {
        if sent.is_empty() {
            return Ok(Precondition::Any);
        }
        if sent == live.seq.to_string() {
            return Ok(Precondition::Version(live.version.clone()));
        }
        let definition = &self.kind().definition;
        Err(Status::conflict(&definition.group, &definition.plural, self.name(), refused::MODIFIED))
    }

    /// Puts the source's version where the client's position stands, and takes out what only we added.
    fn translate(object: &mut Value, precondition: &Precondition) {
        let Some(metadata) = metadata::of(object) else { return };
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(super::super::view::SOURCE_VERSION);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        match precondition {
            Precondition::Version(version) => {
                metadata.insert("resourceVersion".to_owned(), Value::String(version.to_string()));
            }
            _ => drop(metadata.remove("resourceVersion")),
        }
    }

    /// The patch with the source's version in place of the client's position, where it names one.
    fn translate_patch(&self, live: &Live, media_type: &str) -> Result<(Bytes, Precondition), Status> {
        let wrong =
            |error: String| Status::new(Reason::BadRequest, format!("error decoding patch: {error}"));
        let mut patch = match media_type {
            "application/apply-patch+yaml" => body::yaml(&self.call.body).map_err(wrong)?,
            _ => body::json(&self.call.body).map_err(wrong)?,
        };
        if media_type == "application/json-patch+json" {
            return self.translate_operations(live, patch);
        }
        let sent = metadata::text(&patch, "resourceVersion").to_owned();
        if sent.is_empty() {
            return Ok((self.call.body.clone(), Precondition::Any));
        }
        let precondition = self.source_version(live, &sent)?;
        Self::translate(&mut patch, &precondition);
        Ok((patch.to_string().into(), precondition))
    }

    fn translate_operations(&self, live: &Live, mut patch: Value) -> Result<(Bytes, Precondition), Status> {
        let mut changed = false;
        for operation in patch.as_array_mut().into_iter().flatten() {
            let place = operation.get("path").and_then(Value::as_str) == Some("/metadata/resourceVersion");
            let sent = operation.get("value").and_then(Value::as_str).map(str::to_owned);
            if let (true, Some(sent), Some(fields)) = (place, sent, operation.as_object_mut())
                && let Precondition::Version(version) = self.source_version(live, &sent)?
            {
                fields.insert("value".to_owned(), Value::String(version.to_string()));
                changed = true;
            }
        }
        let bytes = if changed { patch.to_string().into() } else { self.call.body.clone() };
        Ok((bytes, Precondition::Any))
    }
}

/// Whether the object at the source is not what was edited.
fn is_conflict(refusal: &Refused) -> bool {
    matches!(refusal, Refused::Conflict { .. } | Refused::Owner { status: 409, .. })
}
