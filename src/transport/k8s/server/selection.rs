//! Which objects of a kind are wanted: label and field selectors, held against keys and data.
//!
//! Names and namespaces are read from the key. Labels and fields are in the data, which is looked into only where
//! a selector asks for them.

use std::borrow::Cow;
use std::sync::Arc;

use bytestring::ByteString;
use serde_json::Value;

use super::Shared;
use super::call::Call;
use super::facts::Facts;
use super::kind::{Form, Kind};
use super::view;
use crate::core::record::Record;
use crate::core::selector::{Predicate, PredicateError};
use crate::core::view::View;
use crate::core::{Envelope, Key};
use crate::transport::k8s::codec::event;
use crate::transport::k8s::codec::selector::{FieldSelector, LabelSelector, SelectorError, unsupported};
use crate::transport::k8s::codec::status::{Reason, Status};

/// The fields that every object has.
const COMMON: [&str; 2] = ["metadata.name", "metadata.namespace"];
/// Further fields of kinds, by the type of their keys.
const FIELDS: [(&str, &[&str]); 11] = [
    (
        "core/v1/Pod",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    ("core/v1/Node", &["spec.unschedulable"]),
    ("core/v1/Namespace", &["status.phase"]),
    ("core/v1/Secret", &["type"]),
    ("core/v1/Service", &["spec.clusterIP", "spec.type"]),
    ("core/v1/ReplicationController", &["status.replicas"]),
    ("apps/v1/ReplicaSet", &["status.replicas"]),
    ("batch/v1/Job", &["status.successful"]),
    ("certificates.k8s.io/v1/CertificateSigningRequest", &["spec.signerName"]),
    ("resource.k8s.io/v1/ResourceSlice", &["spec.nodeName", "spec.driver"]),
    ("storage.k8s.io/v1/VolumeAttachment", &["spec.nodeName"]),
];
/// The field of the true name, where a path segment only stands for it.
const TRUE_NAME: &str = "status.resourceName";

/// What a list, a watch or a deletion of many selects.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads the selectors of a request.
    ///
    /// # Errors
    /// 400 in the words of the API server: what cannot be read, or a field that the kind does not select by.
    pub(super) fn of(shared: &Shared, call: &Call, kind: &Kind) -> Result<Self, Status> {
        let wrong = |error: SelectorError| Status::new(Reason::BadRequest, error.to_string());
        let labels = call.parameter("labelSelector").unwrap_or_default();
        let fields = call.parameter("fieldSelector").unwrap_or_default();
        let labels: LabelSelector = labels.parse().map_err(wrong)?;
        let fields: FieldSelector = fields.parse().map_err(wrong)?;
        for requirement in fields.requirements() {
            if !is_field(shared, &call.scope, kind, &requirement.field) {
                return Err(Status::new(Reason::BadRequest, unsupported(&requirement.field)));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether everything is wanted.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that is wanted, where it is one.
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.name()
    }

    /// The one namespace that is wanted, where it is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.fields.namespace()
    }

    /// Whether the record's object is wanted.
    pub(super) fn matches(&self, _shared: &Shared, kind: &Kind, record: &Record) -> bool {
        self.wants(kind, &record.envelope, || view::occurrence_name(record))
    }

    /// As [`matches`](Self::matches), of an envelope; `occurrence` tells the name of one that is no state.
    pub(super) fn wants(&self, kind: &Kind, envelope: &Envelope, occurrence: impl Fn() -> String) -> bool {
        if self.is_everything() {
            return true;
        }
        let (namespace, name) = match envelope.change.key() {
            Some(key) => kind.name_of(key),
            None => ("", Cow::Owned(occurrence())),
        };
        let facts = Facts::of(&envelope.data);
        let true_name = envelope.change.key().map(|key: &Key| kind.true_name(key).1);
        let field = |field: &str| match field {
            "metadata.name" => Some(Cow::Borrowed(&*name)),
            "metadata.namespace" => Some(Cow::Borrowed(namespace)),
            TRUE_NAME => true_name.map(Cow::Borrowed),
            _ if kind.form == Form::Event => event::field(facts.value(), field),
            _ => field_at(facts.value(), field),
        };
        if !self.fields.matches(field) {
            return false;
        }
        let labelled = matches!(kind.form, Form::Object | Form::Event);
        self.labels.matches(|name| facts.label(name).filter(|_| labelled))
    }
}

/// A selection as the bus's subscriptions ask it.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) selection: Arc<Selection>,
    pub(super) kind: Arc<Kind>,
}

impl Predicate for Matching {
    fn matches(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        Ok(self.selection.wants(&self.kind, event.envelope(), String::new))
    }

    fn refusal(&self, envelope: &Envelope) -> Option<String> {
        (!self.selection.wants(&self.kind, envelope, String::new)).then(|| self.text())
    }

    fn text(&self) -> String {
        format!("labels {} fields {}", self.selection.labels, self.selection.fields)
    }
}

fn is_field(shared: &Shared, scope: &ByteString, kind: &Kind, field: &str) -> bool {
    if COMMON.contains(&field) {
        return true;
    }
    match kind.form {
        Form::Event => event::is_field(field, kind.definition.group.is_empty()),
        Form::Made | Form::Occurrence => field == TRUE_NAME,
        Form::Object => {
            let known = FIELDS.iter().find(|(type_url, _)| kind.stored_as == *type_url);
            let crd = shared.kinds.crd(shared, scope, kind);
            let version = crd.as_ref().and_then(|crd| crd.version(&kind.definition.version));
            known.is_some_and(|(_, fields)| fields.contains(&field))
                || version.is_some_and(|version| {
                    version.selectable.iter().any(|path| path.strip_prefix('.') == Some(field))
                })
        }
    }
}

/// The text of a field; one that is not there is empty, as a field without value is in a typed object.
fn field_at<'a>(data: &'a Value, field: &str) -> Option<Cow<'a, str>> {
    let value = field.split('.').try_fold(data, |value, name| value.get(name))?;
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        _ => None,
    }
}
