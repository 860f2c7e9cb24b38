//! What an object must be to be stored: its fields known, its defaults filled in, its values valid, its managers told.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::super::kind::{Form, Origin};
use super::options::FieldValidation;
use super::store::Live;
use super::{Writing, made, metadata};
use crate::schema::structural::{FieldError, aggregate, meta, names};
use crate::transport::k8s::codec::apply::{self, ApplyError, Typing, Writer};
use crate::transport::k8s::codec::builtin::{self, BuiltIn};
use crate::transport::k8s::codec::crd::{self, Crd};
use crate::transport::k8s::codec::patch::PatchError;
use crate::transport::k8s::codec::status::{Reason, Status};
use crate::transport::k8s::codec::strict;

/// Most bytes of an object that an error repeats.
const SHOWN_MAX: usize = 1024;
const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";

impl Writing<'_> {
    /// The definition of a custom kind; `None` for others.
    fn crd(&self) -> Option<Arc<Crd>> {
        self.shared.kinds.crd(self.shared, &self.call.scope, self.kind())
    }

    /// What the server knows of a built-in kind, in the version of the request; `None` for others.
    fn built_in(&self) -> Option<&'static BuiltIn> {
        let kind = self.kind();
        builtin::find(&kind.definition.type_url).filter(|_| matches!(kind.origin, Origin::BuiltIn))
    }

    /// Whether objects of the kind count their generations.
    pub(super) fn counts(&self) -> bool {
        matches!(self.kind().origin, Origin::Custom(_))
            || self.built_in().is_some_and(|kind| kind.generation)
    }

    /// Whether the kind is patched by strategic merge: only those whose types tell how. A cluster that owns it says so itself.
    pub(super) fn takes_strategic(&self) -> bool {
        self.built_in().is_some() || matches!(self.kind().origin, Origin::Cluster)
    }

    pub(super) fn creates_on_put(&self) -> bool {
        self.built_in().is_some_and(|kind| kind.create_on_update)
    }

    pub(super) fn updates_unconditionally(&self) -> bool {
        self.built_in().is_some_and(|kind| kind.unconditional_update) || self.kind().form == Form::Made
    }

    /// `Widget.example.com`
    fn kind_and_group(&self) -> String {
        let definition = &self.kind().definition;
        if definition.group.is_empty() {
            definition.kind.clone()
        } else {
            format!("{}.{}", definition.kind, definition.group)
        }
    }

    /// 422 with a cause for each field that is wrong.
    pub(super) fn invalid(&self, name: &str, errors: &[FieldError]) -> Status {
        let definition = &self.kind().definition;
        let message = format!("{} {name:?} is invalid: {}", self.kind_and_group(), aggregate(errors));
        let status = Status::new(Reason::Invalid, message).about(&definition.group, &definition.kind, name);
        errors
            .iter()
            .fold(status, |status, error| status.cause(error.reason.as_str(), &error.message, &error.path))
    }

    /// Refuses a value of another type than its field has, as a server that reads objects into its own types. Custom
    /// kinds are held to their schemas later, and what is applied to its types.
    pub(super) fn check_types(&self, object: &Value) -> Result<(), Status> {
        let definition = &self.kind().definition;
        let Some(Err(why)) = self.built_in().map(|kind| kind.structural().decode(object, &definition.kind))
        else {
            return Ok(());
        };
        if self.call.method == http::Method::PATCH {
            let mut shown = object.to_string();
            if shown.len() > SHOWN_MAX {
                let end = (0..=SHOWN_MAX).rev().find(|end| shown.is_char_boundary(*end));
                shown.truncate(end.unwrap_or(0));
                shown.push_str("...");
            }
            let wrong = FieldError::invalid_text("patch", &shown, &why);
            let status = Status::new(Reason::Invalid, format!(" \"\" is invalid: {wrong}"));
            return Err(status.cause(wrong.reason.as_str(), &wrong.message, &wrong.path));
        }
        let message = format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}",
            kind = definition.kind,
            version = definition.version,
        );
        Err(Status::new(Reason::BadRequest, message))
    }

    /// Drops fields that nobody knows, and refuses or tells them as the client wishes.
    pub(super) fn check_fields(&mut self, object: &mut Value, twice: &[String]) -> Result<(), Status> {
        let definition = Arc::clone(&self.kind().definition);
        let unknown = match (self.crd(), self.built_in()) {
            (Some(crd), _) => crd.version(&definition.version).map(|version| version.schema.prune(object)),
            (None, Some(kind)) => Some(kind.structural().prune(object)),
            (None, None) => None,
        };
        let unknown = unknown.unwrap_or_default();
        match self.options.validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => {
                for told in strict::warnings(twice, &unknown) {
                    self.warn(told);
                }
            }
            FieldValidation::Strict => {
                if let Some(sentence) = strict::sentence(twice, &unknown) {
                    let message = format!(
                        "{kind} in version {version:?} cannot be handled as a {kind}: {sentence}",
                        kind = definition.kind,
                        version = definition.version,
                    );
                    return Err(Status::new(Reason::BadRequest, message));
                }
            }
        }
        Ok(())
    }

    /// Completes a new object and checks it.
    pub(super) fn prepare_new(&mut self, object: &mut Value) -> Result<(), Status> {
        if self.kind().definition.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        self.complete(object, None)?;
        Ok(())
    }

    /// Completes a changed object, which keeps what a writer may not change, and checks it.
    pub(super) fn prepare_changed(&mut self, live: &Live, mut object: Value) -> Result<Value, Status> {
        if self.resource.subresource.as_deref() == Some("status") {
            // Only the status is written, whatever else was sent.
            let managed = object.pointer("/metadata/managedFields").cloned();
            let status = object.get("status").cloned();
            object = live.object.clone();
            set(&mut object, "status", status);
            if let (Some(metadata), Some(managed)) = (metadata::of(&mut object), managed) {
                metadata.insert("managedFields".to_owned(), managed);
            }
        } else if self.kind().definition.status {
            set(&mut object, "status", live.object.get("status").cloned());
        }
        metadata::update(&mut object, &live.object, &self.kind_and_group(), self.counts())?;
        self.complete(&mut object, Some(&live.object))?;
        Ok(object)
    }

    /// Defaults, then validity.
    fn complete(&mut self, object: &mut Value, live: Option<&Value>) -> Result<(), Status> {
        let name = metadata::text(object, "name").to_owned();
        let namespaced = self.kind().definition.namespaced;
        let mut errors = Vec::new();
        if let Some(crd) = self.crd() {
            errors.extend(match live {
                None => meta::validate(object, namespaced, names::dns_subdomain),
                Some(live) => meta::validate_update(object, live),
            });
            if let Some(version) = crd.version(&self.kind().definition.version) {
                version.schema.default(object);
                errors.extend(version.schema.validate(object));
                if let Some(warning) = &version.deprecation {
                    self.warn(warning.clone());
                }
            }
        } else if &*self.kind().stored_as == CRD {
            crd::default(object);
            // Both look at the metadata too.
            errors.extend(match live {
                None => crd::Crd::parse(object).err().unwrap_or_default(),
                Some(live) => crd::validate_update(object, live),
            });
            if live.is_some() {
                crd::establish(object, &metadata::now());
            }
        } else if let Some(kind) = self.built_in() {
            match live {
                None => {
                    kind.default(object);
                    errors.extend(kind.validate(object));
                }
                Some(live) => errors.extend(kind.validate_update(object, live)),
            }
        } else if self.kind().messages.is_some() {
            made::normalize(self.kind(), object)?;
            set(object, "status", live.and_then(|live| live.get("status")).cloned());
            if live.is_some_and(|live| live.pointer("/status/unknownFields").is_some()) {
                self.warn("fields that the descriptors here do not know are dropped".to_owned());
            }
            for field in made::lost(object) {
                self.warn(format!("{field} is not kept: all that is stored of a message is its spec"));
            }
        } else if self.kind().form != Form::Made {
            errors.extend(meta::validate(object, namespaced, names::path_segment_name));
        }
        if errors.is_empty() { Ok(()) } else { Err(self.invalid(&name, &errors)) }
    }

    /// Accepts the names of a definition that was just stored, as a second change: its writer is answered with the
    /// first.
    pub(super) async fn establish(&self, name: &str) {
        if &*self.kind().stored_as != CRD || self.options.dry_run {
            return;
        }
        let Some(live) = self.live("", name) else { return };
        let mut object = live.object.clone();
        crd::establish(&mut object, &metadata::now());
        // Whoever was faster has changed it, and established it thereby.
        drop(self.store(live.key.clone(), Some(&live), object).await);
    }

    fn writer<'w>(&'w self, api_version: &'w str, now: &'w str) -> Writer<'w> {
        Writer {
            manager: &self.options.manager,
            api_version,
            subresource: self.resource.subresource.as_deref(),
            status_apart: self.kind().definition.status,
            now,
        }
    }

    /// The object with its managers told of what this write changed.
    pub(super) fn managed(&self, live: Option<&Value>, object: Value) -> Value {
        if self.kind().form == Form::Made {
            return object;
        }
        let (api_version, now) = (self.kind().definition.api_version(), metadata::now());
        apply::update(
            live,
            object,
            self.writer(&api_version, &now),
            Typing::of(self.kind().schema.as_deref()),
        )
    }

    /// The object as it is once this manager's wishes are in it.
    pub(super) fn applied(&self, live: Option<&Value>, wanted: &Value) -> Result<Value, Status> {
        if self.kind().messages.is_some() {
            // Nobody keeps who wants which part of a message, so that all of it is one field.
            let mut object = live.unwrap_or(wanted).clone();
            set(&mut object, "spec", wanted.get("spec").cloned());
            return Ok(object);
        }
        let (api_version, now) = (self.kind().definition.api_version(), metadata::now());
        let typing = Typing::of(self.kind().schema.as_deref());
        let writer = self.writer(&api_version, &now);
        apply::apply(live, wanted, writer, self.options.force, typing).map_err(|error| match error {
            ApplyError::Conflicts(conflicts) => {
                let status = Status::new(Reason::Conflict, apply::conflict_message(&conflicts));
                conflicts.iter().fold(status, |status, conflict| {
                    let message = format!("conflict with {}", conflict.manager);
                    status.cause("FieldManagerConflict", &message, &conflict.field)
                })
            }
            ApplyError::Invalid(why) => Status::new(Reason::BadRequest, why),
            ApplyError::Untyped(message) => Status {
                code: StatusCode::INTERNAL_SERVER_ERROR,
                reason: String::new(),
                message,
                details: None,
            },
        })
    }

    /// What a patch that cannot be applied is answered.
    pub(super) fn patch_error(error: &PatchError) -> Status {
        let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::BAD_REQUEST);
        Status { code, reason: error.reason().to_owned(), message: error.to_string(), details: None }
    }
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(field.to_owned(), value)),
        None => drop(fields.remove(field)),
    }
}
