//! The writing verbs create, replace and patch, with the rules and refusals of a real API server.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use super::event_form;
use super::fields::{self, Author};
use super::kinds::{EVENT, Kind, NAMESPACE, Target};
use super::patch;
use super::status::Refusal;
use super::store::{State, now};

/// How a write was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// The field manager.
    pub(crate) author: String,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
    /// Whether a client asked, and not the test itself. The test may set any status in one write.
    pub(crate) by_client: bool,
}

/// A stored object, and whether the write created it.
pub(crate) type Written = (Arc<Value>, bool);

const CUSTOM_PATCHES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const ALL_PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
                           application/strategic-merge-patch+json, application/apply-patch+yaml";

impl Shared {
    pub(crate) fn create(&self, target: &Target, body: Value, call: &Call) -> Result<Written, Refusal> {
        let state = &mut *self.state.lock();
        self.create_in(state, target, body, call, "Update")
    }

    fn create_in(
        &self,
        state: &mut State,
        target: &Target,
        mut object: Value,
        call: &Call,
        operation: &'static str,
    ) -> Result<Written, Refusal> {
        let kind = state.kinds[target.kind].clone();
        check_type(&kind, target, &object)?;
        if target.events_v1 {
            object = event_form::from_events_v1(&object);
        }
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.as_str().into();
        let namespace = check_namespace(state, &kind, target, &object)?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|rv| !rv.is_empty()) {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(500, "", message));
        }
        let name = self.name_of(&kind, &object)?;
        let key = kind.key(&namespace, &name);
        if state.objects(target.kind).contains_key(&key) {
            return Err(Refusal::already_exists(&kind, &name));
        }
        let metadata = &mut object["metadata"];
        metadata["name"] = name.as_str().into();
        if kind.namespaced {
            metadata["namespace"] = namespace.as_str().into();
        }
        metadata["uid"] = self.chaos.uid().into();
        metadata["creationTimestamp"] = now().into();
        if kind.generation {
            metadata["generation"] = 1.into();
        }
        set_defaults(&kind, target.kind, &mut object, call.by_client);
        if target.kind == EVENT && call.by_client {
            event_form::check_new(&kind, &object, target.events_v1)?;
        }
        if operation == "Update" {
            let author = author_of(&kind, target, call, operation);
            drop_field(&mut object["metadata"], "managedFields");
            fields::own_changes(None, &mut object, &author);
        }
        if call.dry_run {
            return Ok((Arc::new(object), true));
        }
        let verb = if operation == "Apply" { "apply" } else { "create" };
        Ok((self.commit(state, target.kind, &key, object, call, verb), true))
    }

    fn name_of(&self, kind: &Kind, object: &Value) -> Result<String, Refusal> {
        let metadata = &object["metadata"];
        let given = metadata["name"].as_str().unwrap_or_default();
        let prefix = metadata["generateName"].as_str().unwrap_or_default();
        let name = match (given, prefix) {
            ("", "") => {
                let what = "Required value: name or generateName is required";
                return Err(Refusal::invalid(kind, "", "metadata.name", "FieldValueRequired", what));
            }
            ("", prefix) => format!("{prefix}{}", self.chaos.suffix()),
            (given, _) => given.to_owned(),
        };
        if is_subdomain(&name) {
            return Ok(name);
        }
        let what = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
             regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        Err(Refusal::invalid(kind, &name, "metadata.name", "FieldValueInvalid", &what))
    }

    pub(crate) fn replace(&self, target: &Target, body: Value, call: &Call) -> Result<Written, Refusal> {
        let state = &mut *self.state.lock();
        let kind = state.kinds[target.kind].clone();
        let (key, name) = key_of(&kind, target);
        check_type(&kind, target, &body)?;
        let mut new = if target.events_v1 { event_form::from_events_v1(&body) } else { body };
        let given = new["metadata"]["name"].as_str().unwrap_or_default();
        if given != name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        let version = new["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let Some(old) = state.objects(target.kind).get(&key).cloned() else {
            let creates = target.kind == EVENT || kind.kind == "Lease";
            if creates && version.is_empty() {
                return self.create_in(state, target, new, call, "Update");
            }
            return Err(Refusal::not_found(&kind, &name));
        };
        if version.is_empty() && !kind.unconditional && call.by_client {
            let what = "Invalid value: 0: must be specified for an update";
            let by_plural = Kind { kind: kind.plural.clone(), ..kind };
            let field = "metadata.resourceVersion";
            return Err(Refusal::invalid(&by_plural, &name, field, "FieldValueInvalid", what));
        }
        let (uid, known) = (&new["metadata"]["uid"], &old["metadata"]["uid"]);
        if uid.as_str().is_some_and(|uid| !uid.is_empty()) && uid != known {
            let what = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                uid.as_str().unwrap_or_default(),
                known.as_str().unwrap_or_default()
            );
            return Err(Refusal::precondition(&kind, &name, &what));
        }
        new["metadata"]["uid"] = known.clone();
        self.settle(state, target, &old, new, call, "update")
    }

    /// `media_type` without parameters.
    pub(crate) fn patch(
        &self,
        target: &Target,
        media_type: &str,
        body: &[u8],
        call: &Call,
    ) -> Result<Written, Refusal> {
        let state = &mut *self.state.lock();
        let kind = state.kinds[target.kind].clone();
        let (key, name) = key_of(&kind, target);
        if media_type == "application/apply-patch+yaml" {
            return self.apply(state, target, body, call);
        }
        let accepted = if kind.custom { CUSTOM_PATCHES } else { ALL_PATCHES };
        if !accepted.split(", ").any(|one| one == media_type) {
            return Err(Refusal::media_type(accepted));
        }
        let old = state.objects(target.kind).get(&key).cloned();
        let old = old.ok_or_else(|| Refusal::not_found(&kind, &name))?;
        let patch: Value = serde_json::from_slice(body).map_err(|error| {
            let what =
                if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
            Refusal::bad_request(format!("error decoding patch: {what}"))
        })?;
        let mut new = if target.events_v1 { event_form::to_events_v1(&old) } else { Value::clone(&old) };
        if media_type == "application/json-patch+json" {
            patch::json_patch(&mut new, &patch)?;
        } else {
            patch::merge(&mut new, &patch, media_type.contains("strategic"), 0);
        }
        if target.events_v1 {
            new = event_form::from_events_v1(&new);
        }
        let uid = &new["metadata"]["uid"];
        if *uid != old["metadata"]["uid"] {
            let what = format!("Invalid value: {uid}: field is immutable");
            return Err(Refusal::invalid(&kind, &name, "metadata.uid", "FieldValueInvalid", &what));
        }
        self.settle(state, target, &old, new, call, "patch")
    }

    fn apply(
        &self,
        state: &mut State,
        target: &Target,
        body: &[u8],
        call: &Call,
    ) -> Result<Written, Refusal> {
        let kind = state.kinds[target.kind].clone();
        let (key, name) = key_of(&kind, target);
        if call.author.is_empty() {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
                           apply patch";
            return Err(Refusal::new(422, "Invalid", message).details(json!({
                "group": "meta.k8s.io", "kind": "PatchOptions",
                "causes": [{"reason": "FieldValueRequired", "field": "fieldManager",
                            "message": "Required value: is required for apply patch"}],
            })));
        }
        let mut applied = patch::json_or_yaml(body).filter(Value::is_object).ok_or_else(|| {
            Refusal::bad_request("error decoding YAML: the body is neither JSON nor YAML of an object")
        })?;
        check_type(&kind, target, &applied)?;
        if applied["metadata"]["managedFields"].as_array().is_some_and(|fields| !fields.is_empty()) {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let given = applied["metadata"]["name"].as_str().unwrap_or(&name);
        if given != name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        if target.events_v1 {
            applied = event_form::from_events_v1(&applied);
        }
        applied["apiVersion"] = kind.api_version().into();
        applied["kind"] = kind.kind.as_str().into();
        applied["metadata"]["name"] = name.as_str().into();
        match target.subresource.as_deref() {
            Some(_) => {
                let kept = |field: &str| matches!(field, "apiVersion" | "kind" | "metadata" | "status");
                if let Some(fields) = applied.as_object_mut() {
                    fields.retain(|field, _| kept(field));
                }
            }
            None if kind.status => drop_field(&mut applied, "status"),
            None => {}
        }
        let author = author_of(&kind, target, call, "Apply");
        let Some(old) = state.objects(target.kind).get(&key).cloned() else {
            if target.subresource.is_some() {
                return Err(Refusal::not_found(&kind, &name));
            }
            let object = fields::apply(None, &applied, &author, call.force)?;
            let core = Target { events_v1: false, ..target.clone() };
            return self.create_in(state, &core, object, call, "Apply");
        };
        let mut new = fields::apply(Some(&old), &applied, &author, call.force)?;
        let version = &applied["metadata"]["resourceVersion"];
        if !version.is_null() {
            new["metadata"]["resourceVersion"] = version.clone();
        }
        self.settle(state, target, &old, new, call, "apply")
    }

    /// What all changes of an object have in common.
    fn settle(
        &self,
        state: &mut State,
        target: &Target,
        old: &Value,
        mut new: Value,
        call: &Call,
        verb: &'static str,
    ) -> Result<Written, Refusal> {
        let kind = state.kinds[target.kind].clone();
        let (key, name) = key_of(&kind, target);
        let version = new["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !version.is_empty() && new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(Refusal::modified(&kind, &name));
        }
        if target.subresource.is_some() {
            let status = new["status"].clone();
            let managed = new["metadata"]["managedFields"].clone();
            new = old.clone();
            new["status"] = status;
            if verb == "apply" {
                new["metadata"]["managedFields"] = managed;
            }
        } else if kind.status && call.by_client {
            copy_field(old, &mut new, "status");
        }
        new["apiVersion"] = old["apiVersion"].clone();
        new["kind"] = old["kind"].clone();
        let server_owned =
            ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"];
        for field in server_owned.iter().chain(&["deletionTimestamp", "deletionGracePeriodSeconds"]) {
            copy_field(&old["metadata"], &mut new["metadata"], field);
        }
        if target.kind == EVENT {
            event_form::complete(&mut new);
            event_form::check_change(&kind, old, &new, target.events_v1 && call.by_client)?;
        }
        if verb != "apply" {
            let reset = new["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty);
            if !reset {
                copy_field(&old["metadata"], &mut new["metadata"], "managedFields");
            }
            fields::own_changes(Some(old), &mut new, &author_of(&kind, target, call, "Update"));
        }
        if kind.generation && specification(old) != specification(&new) {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or(1) + 1;
            new["metadata"]["generation"] = generation.into();
        }
        if new == *old || call.dry_run {
            return Ok((Arc::new(new), false));
        }
        if is_released(&new) {
            self.remove(state, target.kind, &key, call);
            return Ok((Arc::new(new), false));
        }
        Ok((self.commit(state, target.kind, &key, new, call, verb), false))
    }
}

pub(super) fn key_of(kind: &Kind, target: &Target) -> (String, String) {
    let name = target.name.clone().unwrap_or_default();
    (kind.key(target.namespace.as_deref().unwrap_or_default(), &name), name)
}

fn author_of(kind: &Kind, target: &Target, call: &Call, operation: &'static str) -> Author {
    let api_version = if target.events_v1 { "events.k8s.io/v1".to_owned() } else { kind.api_version() };
    Author { name: call.author.clone(), operation, subresource: target.subresource.clone(), api_version }
}

/// The type an object says it is of must be the path's; built-in kinds may leave it out.
fn check_type(kind: &Kind, target: &Target, object: &Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the object provided is unrecognized: not an object"));
    }
    let expected = if target.events_v1 { "events.k8s.io/v1".to_owned() } else { kind.api_version() };
    let (version, name) = (object["apiVersion"].as_str(), object["kind"].as_str());
    if kind.custom && name.is_none() {
        return Err(Refusal::bad_request(format!("Object 'Kind' is missing in '{object}'")));
    }
    if let Some(version) = version.filter(|version| *version != expected) {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    if let Some(name) = name.filter(|name| *name != kind.kind) {
        return Err(Refusal::bad_request(format!(
            "{name} in version \"{}\" cannot be handled as a {}",
            kind.version, kind.kind
        )));
    }
    Ok(())
}

fn check_namespace(state: &State, kind: &Kind, target: &Target, object: &Value) -> Result<String, Refusal> {
    let Some(namespace) = target.namespace.as_deref().filter(|_| kind.namespaced) else {
        return Ok(String::new());
    };
    let given = object["metadata"]["namespace"].as_str().filter(|given| !given.is_empty());
    if given.is_some_and(|given| given != namespace) {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(message));
    }
    if !state.has_namespace(namespace) {
        return Err(Refusal::not_found(&state.kinds[NAMESPACE], namespace));
    }
    Ok(namespace.to_owned())
}

fn set_defaults(kind: &Kind, index: usize, object: &mut Value, by_client: bool) {
    if kind.status && by_client {
        drop_field(object, "status");
    }
    match index {
        EVENT => event_form::complete(object),
        NAMESPACE => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        _ if kind.kind == "Pod" && object["status"].is_null() => {
            object["status"] = json!({"phase": "Pending"});
        }
        _ => {}
    }
}

/// What a change of the generation is about: all but metadata and status.
fn specification(object: &Value) -> Vec<(&String, &Value)> {
    let counts = |(name, _): &(&String, &Value)| !matches!(name.as_str(), "metadata" | "status");
    object.as_object().into_iter().flatten().filter(counts).collect()
}

/// Whether its last finalizer is gone after it was deleted.
fn is_released(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let held = metadata["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    !metadata["deletionTimestamp"].is_null() && !held
}

fn copy_field(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => drop_field(to, field),
    }
}

fn drop_field(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove(field);
    }
}

fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inside)
    };
    name.len() <= 253 && name.split('.').all(label)
}
