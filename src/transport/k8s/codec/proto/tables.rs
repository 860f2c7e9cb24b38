//! The field numbers of the kinds that are read in protobuf form.

use super::Field;
use super::Kind::{
    self, Boolean, Bytes, BytesMap, Json, Message, Messages, MicroTime, Number, NumberOrNone, Text,
    TextMap, TextOrNone, Texts, Time,
};

const fn field(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

/// `runtime.Unknown`, around each object.
pub(super) const UNKNOWN: &[Field] = &[field(1, "typeMeta", Message(TYPE_META)), field(2, "raw", Bytes)];
const TYPE_META: &[Field] = &[field(1, "apiVersion", Text), field(2, "kind", Text)];
/// An entry of a map.
pub(super) const ENTRY: &[Field] = &[field(1, "key", Bytes), field(2, "value", Bytes)];
pub(super) const TIME: &[Field] = &[field(1, "seconds", Number), field(2, "nanos", Number)];
/// `FieldsV1`.
pub(super) const FIELDS: &[Field] = &[field(1, "raw", Bytes)];

const OBJECT_META: &[Field] = &[
    field(1, "name", Text),
    field(2, "generateName", Text),
    field(3, "namespace", Text),
    field(5, "uid", Text),
    field(6, "resourceVersion", Text),
    field(7, "generation", Number),
    field(8, "creationTimestamp", Time),
    field(9, "deletionTimestamp", Time),
    field(10, "deletionGracePeriodSeconds", NumberOrNone),
    field(11, "labels", TextMap),
    field(12, "annotations", TextMap),
    field(13, "ownerReferences", Messages(OWNER)),
    field(14, "finalizers", Texts),
    field(17, "managedFields", Messages(MANAGED)),
];
const OWNER: &[Field] = &[
    field(1, "kind", Text),
    field(3, "name", Text),
    field(4, "uid", Text),
    field(5, "apiVersion", Text),
    field(6, "controller", Boolean),
    field(7, "blockOwnerDeletion", Boolean),
];
const MANAGED: &[Field] = &[
    field(1, "manager", Text),
    field(2, "operation", Text),
    field(3, "apiVersion", Text),
    field(4, "time", Time),
    field(6, "fieldsType", Text),
    field(7, "fieldsV1", Json),
    field(8, "subresource", Text),
];
const REFERENCE: &[Field] = &[
    field(1, "kind", Text),
    field(2, "namespace", Text),
    field(3, "name", Text),
    field(4, "uid", Text),
    field(5, "apiVersion", Text),
    field(6, "resourceVersion", Text),
    field(7, "fieldPath", Text),
];
const SOURCE: &[Field] = &[field(1, "component", Text), field(2, "host", Text)];
const SERIES: &[Field] = &[field(1, "count", Number), field(2, "lastObservedTime", MicroTime)];
const LOCAL: &[Field] = &[field(1, "name", Text)];

const EVENT: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(2, "involvedObject", Message(REFERENCE)),
    field(3, "reason", Text),
    field(4, "message", Text),
    field(5, "source", Message(SOURCE)),
    field(6, "firstTimestamp", Time),
    field(7, "lastTimestamp", Time),
    field(8, "count", Number),
    field(9, "type", Text),
    field(10, "eventTime", MicroTime),
    field(11, "series", Message(SERIES)),
    field(12, "action", Text),
    field(13, "related", Message(REFERENCE)),
    field(14, "reportingComponent", Text),
    field(15, "reportingInstance", Text),
];
const EVENT_V1: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(2, "eventTime", MicroTime),
    field(3, "series", Message(SERIES)),
    field(4, "reportingController", Text),
    field(5, "reportingInstance", Text),
    field(6, "action", Text),
    field(7, "reason", Text),
    field(8, "regarding", Message(REFERENCE)),
    field(9, "related", Message(REFERENCE)),
    field(10, "note", Text),
    field(11, "type", Text),
    field(12, "deprecatedSource", Message(SOURCE)),
    field(13, "deprecatedFirstTimestamp", Time),
    field(14, "deprecatedLastTimestamp", Time),
    field(15, "deprecatedCount", Number),
];
const NAMESPACE: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(2, "spec", Message(&[field(1, "finalizers", Texts)])),
    field(3, "status", Message(&[field(1, "phase", Text)])),
];
const CONFIG_MAP: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(2, "data", TextMap),
    field(3, "binaryData", BytesMap),
    field(4, "immutable", Boolean),
];
const SERVICE_ACCOUNT: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(2, "secrets", Messages(REFERENCE)),
    field(3, "imagePullSecrets", Messages(LOCAL)),
    field(4, "automountServiceAccountToken", Boolean),
];
const LEASE: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(
        2,
        "spec",
        Message(&[
            field(1, "holderIdentity", TextOrNone),
            field(2, "leaseDurationSeconds", NumberOrNone),
            field(3, "acquireTime", MicroTime),
            field(4, "renewTime", MicroTime),
            field(5, "leaseTransitions", NumberOrNone),
            field(6, "strategy", TextOrNone),
            field(7, "preferredHolder", TextOrNone),
        ]),
    ),
];
const ACCESS_REVIEW: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(
        2,
        "spec",
        Message(&[
            field(1, "resourceAttributes", Message(ATTRIBUTES)),
            field(2, "nonResourceAttributes", Message(NON_RESOURCE)),
        ]),
    ),
];
/// Of somebody else; what is said of them beyond name, groups and uid is passed over.
const SUBJECT_REVIEW: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(
        2,
        "spec",
        Message(&[
            field(1, "resourceAttributes", Message(ATTRIBUTES)),
            field(2, "nonResourceAttributes", Message(NON_RESOURCE)),
            field(3, "user", Text),
            field(4, "groups", Texts),
            field(6, "uid", Text),
        ]),
    ),
];
const ATTRIBUTES: &[Field] = &[
    field(1, "namespace", Text),
    field(2, "verb", Text),
    field(3, "group", Text),
    field(4, "version", Text),
    field(5, "resource", Text),
    field(6, "subresource", Text),
    field(7, "name", Text),
];
const NON_RESOURCE: &[Field] = &[field(1, "path", Text), field(2, "verb", Text)];
const RULES_REVIEW: &[Field] = &[
    field(1, "metadata", Message(OBJECT_META)),
    field(2, "spec", Message(&[field(1, "namespace", Text)])),
];
const REVIEW: &[Field] = &[field(1, "metadata", Message(OBJECT_META))];
const DELETE_OPTIONS: &[Field] = &[
    field(1, "gracePeriodSeconds", NumberOrNone),
    field(
        2,
        "preconditions",
        Message(&[field(1, "uid", TextOrNone), field(2, "resourceVersion", TextOrNone)]),
    ),
    field(3, "orphanDependents", Boolean),
    field(4, "propagationPolicy", TextOrNone),
    field(5, "dryRun", Texts),
];

/// The table of a kind.
pub(super) fn find(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match (api_version, kind) {
        ("v1", "Event") => EVENT,
        ("events.k8s.io/v1", "Event") => EVENT_V1,
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "ServiceAccount") => SERVICE_ACCOUNT,
        ("coordination.k8s.io/v1", "Lease") => LEASE,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SubjectAccessReview" | "LocalSubjectAccessReview") => SUBJECT_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => RULES_REVIEW,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => REVIEW,
        (_, "DeleteOptions") => DELETE_OPTIONS,
        _ => return None,
    })
}
