//! Where an object lives: the namespace of a request and of its object, and whether it exists.

use bytestring::ByteString;
use serde_json::{Value, json};

use super::super::Shared;
use super::super::access::Target;
use super::super::kind::{Form, Kind};
use super::{Writing, metadata, not_allowed};
use crate::core::access::Action;
use crate::core::write::{Operation, Ownership, Precondition};
use crate::core::{Envelope, Key};
use crate::schema::address;
use crate::transport::k8s::codec::builtin;
use crate::transport::k8s::codec::status::{Reason, Status};

impl Writing<'_> {
    /// The namespace an object is written to: that of the path, which the object may repeat.
    ///
    /// # Errors
    /// 400 where the object says another.
    pub(super) fn namespace(&self, object: &mut Value) -> Result<String, Status> {
        let wanted = &self.resource.namespace;
        let sent = metadata::text(object, "namespace");
        if !sent.is_empty() && sent != wanted {
            let message = if self.kind().definition.namespaced {
                "the namespace of the provided object does not match the namespace sent on the request"
            } else {
                "namespace should not be set on cluster-scoped object"
            };
            return Err(Status::new(Reason::BadRequest, message));
        }
        if self.kind().definition.namespaced && wanted.is_empty() {
            return Err(not_allowed());
        }
        if let (false, Some(metadata)) = (wanted.is_empty(), metadata::of(object)) {
            metadata.insert("namespace".to_owned(), Value::String(wanted.clone()));
        }
        Ok(wanted.clone())
    }

    /// Refuses to create in a namespace that does not exist.
    ///
    /// # Errors
    /// 404 naming the namespace.
    pub(super) fn require_namespace(&self, namespace: &str) -> Result<(), Status> {
        if namespace.is_empty() || self.kind().form == Form::Made {
            return Ok(());
        }
        let key = Key::new(self.call.scope.clone(), "core/v1/Namespace", format!("/{namespace}"));
        if self.shared.bus.get(&key).is_some() {
            return Ok(());
        }
        Err(Status::not_found("", "namespaces", namespace))
    }

    /// Asks whether the caller may write this object.
    ///
    /// # Errors
    /// 403 in the API's words.
    pub(super) fn authorize_write(&self, namespace: &str, name: &str) -> Result<(), Status> {
        let key = self.kind().key(&self.call.scope, namespace, name);
        // A key without a topic cannot be stored either: that is said where it is stored.
        let Ok(topic) = address::topic_of(&key) else { return Ok(()) };
        let verb = match self.call.method {
            http::Method::POST => "create",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            _ => "delete",
        };
        let definition = &self.kind().definition;
        let subresource = self.resource.subresource.as_deref().unwrap_or_default();
        let target = Target { definition, subresource, namespace, name };
        self.caller.authorize_object(Action::Write, &topic, verb, target)
    }
}

/// Makes the namespace that every cluster has, and the account in it, where the bus owns the default scope and they
/// are not there yet.
pub(in super::super) async fn make_default(shared: &Shared) {
    let scope = ByteString::from(shared.config.default_scope.as_str());
    if shared.bus.ownership(&scope) != Some(Ownership::Local) {
        return;
    }
    for (type_url, namespace, mut object) in [
        ("core/v1/Namespace", "", json!({"apiVersion": "v1", "kind": "Namespace"})),
        ("core/v1/ServiceAccount", "default", json!({"apiVersion": "v1", "kind": "ServiceAccount"})),
    ] {
        metadata::create(&mut object, namespace, "default", false);
        if let Some(kind) = builtin::find(type_url) {
            kind.default(&mut object);
        }
        let key = Key::new(scope.clone(), type_url, format!("{namespace}/default"));
        let Ok(topic) = address::topic_of(&key) else { return };
        let mut envelope = Envelope::event(topic, "", "", "");
        envelope.datacontenttype = Some("application/json".into());
        envelope.data = object.to_string().into();
        // Refused where it is there already.
        drop(shared.bus.write(key, Operation::Put(Box::new(envelope)), Precondition::Absent, false).await);
    }
}

/// Why a kind does not take a write: its connector takes none, or nobody could.
pub(super) fn not_served(shared: &Shared, scope: &ByteString, kind: &Kind) -> Status {
    match shared.bus.ownership(scope) {
        Some(Ownership::ReadOnly(owner)) => {
            let refused = crate::core::Refused::MethodNotAllowed { owner };
            super::refused::status(&refused, &kind.definition, "")
        }
        _ => not_allowed(),
    }
}
