//! The forms an object is sent in: whole or metadata only, core or events.k8s.io, alone or in a list.

use serde_json::{Value, json};

use super::event_form;
use super::kinds::{EVENT, Kind, Target};
use super::status::Refusal;

/// How objects are written for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) events_v1: bool,
    /// Only `metadata`, as `PartialObjectMetadata`.
    pub(crate) metadata_only: bool,
}

impl Form {
    /// Chooses by the header `Accept`: the first that is served wins.
    pub(crate) fn negotiate(target: &Target, accept: &str) -> Result<Self, Refusal> {
        let form = |metadata_only| Ok(Self { events_v1: target.events_v1, metadata_only });
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let form_of = parts.find_map(|part| part.strip_prefix("as="));
            match (media_type, form_of) {
                ("" | "*/*" | "application/*" | "application/json", None) => return form(false),
                ("application/json", Some("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                    return form(true);
                }
                _ => {}
            }
        }
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Err(Refusal::new(406, "NotAcceptable", message))
    }

    /// One object by itself.
    pub(crate) fn object(self, kind: usize, object: &Value) -> Value {
        if self.metadata_only {
            return json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            });
        }
        if kind == EVENT && self.events_v1 {
            return event_form::to_events_v1(object);
        }
        object.clone()
    }

    /// A list; items of built-in kinds do not name their kind.
    pub(crate) fn list<'a>(
        self,
        kinds: &[Kind],
        kind: usize,
        mut metadata: Value,
        objects: impl Iterator<Item = &'a Value>,
    ) -> Value {
        let about = &kinds[kind];
        if about.custom && !self.metadata_only && metadata["continue"].is_null() {
            // Lists of custom resources say so when there is no more.
            metadata["continue"] = "".into();
        }
        let item = |object: &Value| {
            let mut item = self.object(kind, object);
            if !about.custom
                && !self.metadata_only
                && let Some(fields) = item.as_object_mut()
            {
                fields.shift_remove("kind");
                fields.shift_remove("apiVersion");
            }
            item
        };
        let (kind, api_version) = if self.metadata_only {
            ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (format!("{}List", about.kind), self.api_version(about))
        };
        json!({
            "kind": kind, "apiVersion": api_version, "metadata": metadata,
            "items": objects.map(item).collect::<Vec<_>>(),
        })
    }

    /// A BOOKMARK's object; `end` marks the end of the initial events.
    pub(crate) fn bookmark(self, about: &Kind, rv: u64, end: bool) -> Value {
        let mut metadata = json!({ "resourceVersion": rv.to_string() });
        if !about.custom {
            metadata["creationTimestamp"] = Value::Null;
        }
        if end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = if self.metadata_only {
            ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned())
        } else {
            (about.kind.as_str(), self.api_version(about))
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if about.kind == "Pod" && !self.metadata_only {
            object["spec"] = json!({ "containers": null });
            object["status"] = json!({});
        }
        object
    }

    fn api_version(self, about: &Kind) -> String {
        if self.events_v1 { "events.k8s.io/v1".to_owned() } else { about.api_version() }
    }
}
