//! Creating, replacing and patching objects: from a request to what is stored.

use http::StatusCode;
use serde_json::Value;

use super::super::answer::Answer;
use super::store::{Live, NotStored};
use super::{Writing, body, made, metadata, refused};
use crate::core::Key;
use crate::schema::structural::FieldError;
use crate::transport::k8s::codec::status::{Reason, Status};
use crate::transport::k8s::codec::{apply, patch};

/// How often a generated name may be taken.
const GENERATE_TRIES: usize = 8;
/// How often a write that names no version is tried against others.
const TRIES: usize = 16;

/// How kinds are patched whose types do not tell how lists are merged.
const WITHOUT_STRATEGIC: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// What becomes of an object when it is sent whole or in part.
pub(super) enum Edit {
    /// It replaces what is there.
    Whole(Value),
    /// JSON Patch, its text.
    Json,
    Merge(Value),
    Strategic(Value),
    /// Server-side apply of what one manager wants.
    Apply(Value),
}

impl Writing<'_> {
    /// `POST` on a collection.
    pub(super) async fn create(&mut self) -> Result<Answer, Status> {
        let (mut object, twice) =
            body::object(self.kind(), &self.call.headers, &self.call.body, self.options.validation)?;
        let namespace = self.namespace(&mut object)?;
        let named = metadata::text(&object, "name").to_owned();
        let prefix = metadata::text(&object, "generateName").to_owned();
        self.check_named(&object, &named, &prefix)?;
        if !self.is_local() {
            let name = if named.is_empty() { metadata::generate_name(&prefix) } else { named };
            return self.create_through(object, &namespace, &name).await;
        }
        self.require_namespace(&namespace)?;
        self.check_types(&object)?;
        self.check_fields(&mut object, &twice)?;
        for _ in 0..GENERATE_TRIES {
            let name = if named.is_empty() { metadata::generate_name(&prefix) } else { named.clone() };
            self.authorize_write(&namespace, &name)?;
            match self.store_new(object.clone(), &namespace, &name).await {
                Ok(stored) => {
                    self.establish(&name).await;
                    return Ok(self.answer(StatusCode::CREATED, &stored));
                }
                Err(NotStored::Raced) if named.is_empty() => {}
                Err(NotStored::Raced) => {
                    let definition = &self.kind().definition;
                    return Err(Status::already_exists(&definition.group, &definition.plural, &name));
                }
                Err(NotStored::Refused(status)) => return Err(*status),
            }
        }
        let message = format!("no free name was found that begins with {prefix:?}; try again");
        Err(Status::new(Reason::Timeout, message).retry_after(1))
    }

    /// `PUT` on an object.
    pub(super) async fn replace(&mut self) -> Result<Answer, Status> {
        let (mut object, twice) =
            body::object(self.kind(), &self.call.headers, &self.call.body, self.options.validation)?;
        let (namespace, name) = (self.namespace(&mut object)?, self.name().to_owned());
        let sent = metadata::text(&object, "name").to_owned();
        if sent != name {
            let message =
                format!("the name of the object ({sent}) does not match the name on the URL ({name})");
            return Err(Status::new(Reason::BadRequest, message));
        }
        self.authorize_write(&namespace, &name)?;
        if !self.is_local() {
            return self.replace_through(object, &namespace, &name).await;
        }
        self.check_types(&object)?;
        self.check_fields(&mut object, &twice)?;
        self.edit(&namespace, &name, &Edit::Whole(object)).await
    }

    /// `PATCH` on an object.
    pub(super) async fn patch(&mut self) -> Result<Answer, Status> {
        let (namespace, name) = (self.resource.namespace.clone(), self.name().to_owned());
        self.authorize_write(&namespace, &name)?;
        let media = body::media_type(&self.call.headers);
        let decode =
            |error: String| Status::new(Reason::BadRequest, format!("error decoding patch: {error}"));
        let edit = match &*media {
            "application/json-patch+json" => Edit::Json,
            "application/merge-patch+json" => Edit::Merge(body::json(&self.call.body).map_err(decode)?),
            "application/strategic-merge-patch+json" if self.takes_strategic() => {
                Edit::Strategic(body::json(&self.call.body).map_err(decode)?)
            }
            "application/apply-patch+yaml" => {
                if !self.options.named {
                    let detail = "Required value: is required for apply patch";
                    return Err(super::options::invalid(
                        "PatchOptions",
                        "fieldManager",
                        "FieldValueRequired",
                        detail,
                    ));
                }
                Edit::Apply(body::yaml(&self.call.body).map_err(|why| {
                    Status::new(Reason::BadRequest, format!("error decoding YAML: {why}"))
                })?)
            }
            _ if self.takes_strategic() => {
                return Err(body::unsupported(
                    "application/json-patch+json, application/merge-patch+json, \
                     application/strategic-merge-patch+json, application/apply-patch+yaml",
                ));
            }
            _ => return Err(body::unsupported(WITHOUT_STRATEGIC)),
        };
        if self.is_local() {
            self.edit(&namespace, &name, &edit).await
        } else {
            self.patch_through(&media, &namespace, &name, &edit).await
        }
    }

    /// Stores a new object of this name.
    async fn store_new(
        &mut self,
        mut object: Value,
        namespace: &str,
        name: &str,
    ) -> Result<Value, NotStored> {
        let true_name = made::true_name(&object).map(str::to_owned);
        metadata::create(&mut object, namespace, name, self.counts());
        self.prepare_new(&mut object)?;
        let object = self.managed(None, object);
        let key = self.key(namespace, name, true_name.as_deref());
        self.store(key, None, object).await
    }

    /// Changes an object, again as long as others are faster and the writer named no version.
    async fn edit(&mut self, namespace: &str, name: &str, edit: &Edit) -> Result<Answer, Status> {
        for _ in 0..TRIES {
            let live = self.live(namespace, name);
            let Some(live) = live else {
                match self.edit_absent(namespace, name, edit).await {
                    Err(NotStored::Raced) => continue,
                    Err(NotStored::Refused(status)) => return Err(*status),
                    Ok(stored) => {
                        self.establish(name).await;
                        return Ok(self.answer(StatusCode::CREATED, &stored));
                    }
                }
            };
            let (wanted, names_version) = self.apply_edit(&live, edit)?;
            if apply::is_unchanged(&live.object, &wanted) {
                return Ok(self.answer(StatusCode::OK, &live.object));
            }
            let stored = self.store_changed(&live, wanted).await;
            match stored {
                Ok(stored) => return Ok(self.answer(StatusCode::OK, &stored)),
                Err(NotStored::Raced) if names_version => return Err(self.modified(name)),
                Err(NotStored::Raced) => {}
                Err(NotStored::Refused(status)) => return Err(*status),
            }
        }
        Err(self.modified(name))
    }

    /// Stores a changed object, or deletes one that ends and is no longer held back.
    async fn store_changed(&self, live: &Live, wanted: Value) -> Result<Value, NotStored> {
        if metadata::is_ending(&wanted) && !metadata::has_finalizers(&wanted) {
            return self.delete_now(live).await.map(|()| wanted);
        }
        self.store(live.key.clone(), Some(live), wanted).await
    }

    /// What to do with an edit of what does not exist: an apply creates, and so does a PUT of some kinds.
    async fn edit_absent(&mut self, namespace: &str, name: &str, edit: &Edit) -> Result<Value, NotStored> {
        let definition = &self.kind().definition;
        let missing = || Status::not_found(&definition.group, &definition.plural, name);
        if self.resource.subresource.is_some() {
            return Err(missing().into());
        }
        match edit {
            Edit::Apply(wanted) => {
                let (key, object) = self.applied_new(wanted, namespace, name)?;
                self.store(key, None, object).await
            }
            Edit::Whole(object) if self.creates_on_put() => {
                if !metadata::text(object, "resourceVersion").is_empty() {
                    return Err(missing().into());
                }
                self.require_namespace(namespace)?;
                self.store_new(object.clone(), namespace, name).await
            }
            _ => Err(missing().into()),
        }
    }

    /// The object that does not exist yet, complete, as a manager's wishes make it.
    pub(super) fn applied_new(
        &mut self,
        wanted: &Value,
        namespace: &str,
        name: &str,
    ) -> Result<(Key, Value), Status> {
        let mut wanted = self.checked_apply(wanted, namespace, name)?;
        if self.is_local() {
            self.require_namespace(namespace)?;
        }
        self.check_fields(&mut wanted, &[])?;
        let true_name = made::true_name(&wanted).map(str::to_owned);
        let mut object = self.applied(None, &wanted)?;
        metadata::create(&mut object, namespace, name, self.counts());
        self.prepare_new(&mut object)?;
        Ok((self.key(namespace, name, true_name.as_deref()), object))
    }

    /// The object as an edit makes it, complete, and whether the writer named the version it is for.
    pub(super) fn apply_edit(&mut self, live: &Live, edit: &Edit) -> Result<(Value, bool), Status> {
        let mut wanted = match edit {
            Edit::Whole(object) => object.clone(),
            Edit::Json => patch::json_patch(&live.object, &self.call.body)
                .map_err(|error| Self::patch_error(&error))?,
            Edit::Merge(wanted) => {
                let mut merged = patch::merge_patch(&live.object, wanted);
                if let (Some(spec), Some(fields)) =
                    (made::applied_spec(self.kind(), wanted), merged.as_object_mut())
                {
                    fields.insert("spec".to_owned(), spec);
                }
                merged
            }
            Edit::Strategic(wanted) => {
                let schema = self.kind().schema.as_deref();
                // Lists are merged by what is known of the kind, by nothing else.
                schema.ok_or_else(|| body::unsupported(WITHOUT_STRATEGIC))?;
                patch::strategic_merge(&live.object, wanted, schema)
                    .map_err(|error| Self::patch_error(&error))?
            }
            Edit::Apply(wanted) => {
                let (namespace, name) = (self.resource.namespace.clone(), self.name().to_owned());
                let mut wanted = self.checked_apply(wanted, &namespace, &name)?;
                self.check_fields(&mut wanted, &[])?;
                self.check_version(live, &wanted)?;
                self.applied(Some(&live.object), &wanted)?
            }
        };
        let applies = matches!(edit, Edit::Apply(_));
        let mut names_version = false;
        if !applies {
            names_version = self.check_version(live, &wanted)?;
            if !matches!(edit, Edit::Whole(_)) {
                Self::check_same_object(live, &wanted)?;
                self.check_types(&wanted)?;
                self.check_fields(&mut wanted, &[])?;
            }
        }
        let mut wanted = self.prepare_changed(live, wanted)?;
        if !applies {
            wanted = self.managed(Some(&live.object), wanted);
        }
        Ok((wanted, names_version))
    }

    /// Whether the writer named a version, which must be the latest.
    fn check_version(&self, live: &Live, wanted: &Value) -> Result<bool, Status> {
        let sent = metadata::text(wanted, "resourceVersion");
        let whole = self.call.method == http::Method::PUT;
        if sent.is_empty() || sent == "0" {
            if whole && !self.updates_unconditionally() {
                let definition = &self.kind().definition;
                let detail = "Invalid value: 0: must be specified for an update";
                let name = self.name();
                let message = format!(
                    "{} {name:?} is invalid: metadata.resourceVersion: {detail}",
                    definition.resource()
                );
                return Err(Status::new(Reason::Invalid, message)
                    .about(&definition.group, &definition.plural, name)
                    .cause("FieldValueInvalid", detail, "metadata.resourceVersion"));
            }
            return Ok(false);
        }
        if sent.parse::<u64>().is_err() {
            let message = format!(
                "metadata.resourceVersion: Invalid value: {sent:?}: it is no version that was given out"
            );
            return Err(Status::new(Reason::BadRequest, message));
        }
        // A patch that names one is held against the latest again at each try.
        if sent == live.seq.to_string() { Ok(whole) } else { Err(self.modified(self.name())) }
    }

    /// A patch changes neither name nor namespace.
    fn check_same_object(live: &Live, wanted: &Value) -> Result<(), Status> {
        for (field, place) in [("name", "name"), ("namespace", "namespace")] {
            let (sent, have) = (metadata::text(wanted, field), metadata::text(&live.object, field));
            if sent != have {
                let message = format!(
                    "the {place} of the object ({sent}) does not match the {place} on the URL ({have})"
                );
                return Err(Status::new(Reason::BadRequest, message));
            }
        }
        Ok(())
    }

    /// What a manager applies, its names those of the request.
    fn checked_apply(&self, wanted: &Value, namespace: &str, name: &str) -> Result<Value, Status> {
        let mut object = wanted.clone();
        body::check(self.kind(), &mut object)?;
        if let Some(metadata) = metadata::of(&mut object) {
            if !namespace.is_empty() {
                metadata.entry("namespace").or_insert_with(|| Value::String(namespace.to_owned()));
            }
            metadata.entry("name").or_insert_with(|| Value::String(name.to_owned()));
        }
        for (field, expected) in [("name", name), ("namespace", namespace)] {
            let sent = metadata::text(&object, field);
            if sent != expected {
                let message = format!(
                    "the {field} of the object ({sent}) does not match the {field} on the URL ({expected})"
                );
                return Err(Status::new(Reason::BadRequest, message));
            }
        }
        Ok(object)
    }

    /// An object has a name, or the beginning of one.
    fn check_named(&self, object: &Value, name: &str, prefix: &str) -> Result<(), Status> {
        if name.is_empty() && prefix.is_empty() {
            let missing = FieldError::required("metadata.name", "name or generateName is required");
            return Err(self.invalid(metadata::text(object, "name"), &[missing]));
        }
        Ok(())
    }

    fn modified(&self, name: &str) -> Status {
        let definition = &self.kind().definition;
        Status::conflict(&definition.group, &definition.plural, name, refused::MODIFIED)
    }
}
