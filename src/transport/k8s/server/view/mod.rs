//! Records as objects: what a key holds, in the version of the API that is asked for.
//!
//! An object of the API is spliced, not parsed; around everything else one is made. Data that is not what its type
//! says is still shown, so that one bad key spoils no list.

mod made;

use std::sync::Arc;

use bytestring::ByteString;
use serde_json::{Map, Value, json};

use super::Shared;
use super::kind::{Form, Kind};
use crate::core::record::Record;
use crate::core::write::Ownership;
use crate::core::{Change, Key};
use crate::schema::kinds::proto_name;
use crate::transport::k8s::codec::event;
use crate::transport::k8s::codec::object::{Part, Spliced, Stamp, splice};

pub(super) use self::made::occurrence_name;
pub(super) use crate::transport::k8s::codec::object::SOURCE_VERSION;

/// The member of metadata that every object has that was created by an API.
const UID: &[u8] = b"\"uid\"";

/// How the objects of one kind in one scope are shown.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) kind: Arc<Kind>,
    api_version: String,
    /// Whether another than the bus owns the scope, so that its versions are worth telling.
    sourced: bool,
}

impl View {
    /// Of a kind in a scope.
    pub(super) fn new(shared: &Shared, kind: &Arc<Kind>, scope: &str) -> Self {
        let sourced = !matches!(shared.bus.ownership(scope), None | Some(Ownership::Local));
        Self { kind: Arc::clone(kind), api_version: kind.definition.api_version(), sourced }
    }

    /// `apps/v1`
    pub(super) fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Writes the object, or its metadata, to the end of `out` as JSON on one line.
    pub(super) fn put(&self, out: &mut Vec<u8>, record: &Record, part: Part) {
        if self.kind.form == Form::Object && self.splice(out, record, part) == Spliced::Yes {
            return;
        }
        let mut object = self.value(record);
        if part == Part::Metadata {
            object = partial(object);
        }
        out.extend_from_slice(object.to_string().as_bytes());
    }

    /// The object.
    pub(super) fn value(&self, record: &Record) -> Value {
        let envelope = &record.envelope;
        match self.kind.form {
            Form::Object => {
                let mut text = Vec::with_capacity(envelope.data.len() + 256);
                match self.splice(&mut text, record, Part::Whole) {
                    Spliced::Yes => serde_json::from_slice(&text).unwrap_or_default(),
                    Spliced::No => self.mended(record),
                }
            }
            Form::Event => {
                let stored = self.mended(record);
                if self.kind.definition.group.is_empty() {
                    event::to_core(stored)
                } else {
                    event::to_events_v1(stored)
                }
            }
            Form::Made => made::object(&self.kind, &self.api_version, record),
            Form::Occurrence => made::occurrence(&self.kind, &self.api_version, record),
        }
    }

    fn splice(&self, out: &mut Vec<u8>, record: &Record, part: Part) -> Spliced {
        // What has none was not created by this API: it is given one where the object is put together.
        if !record.envelope.data.windows(UID.len()).any(|text| text == UID) {
            return Spliced::No;
        }
        let Some(key) = record.envelope.change.key() else { return Spliced::No };
        let (namespace, name) = self.kind.name_of(key);
        let stamp = Stamp {
            api_version: &self.api_version,
            kind: &self.kind.definition.kind,
            namespace,
            name: &name,
            resource_version: record.seq.0,
            source_version: self.source_version(record),
        };
        splice(out, &record.envelope.data, &stamp, part)
    }

    fn source_version<'a>(&self, record: &'a Record) -> Option<&'a str> {
        match &record.envelope.change {
            Change::Put(_, version) | Change::Delete(_, version, _) if self.sourced => Some(version),
            _ => None,
        }
    }

    /// The object as it is stored where that can be read, with the metadata that every object has.
    fn mended(&self, record: &Record) -> Value {
        let mut object = match serde_json::from_slice(&record.envelope.data) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        object.insert("apiVersion".to_owned(), json!(self.api_version));
        object.insert("kind".to_owned(), json!(self.kind.definition.kind));
        let mut metadata = match object.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        made::complete(&mut metadata, &self.kind, record);
        if let Some(version) = self.source_version(record) {
            made::annotate(&mut metadata, SOURCE_VERSION, version);
        }
        object.insert("metadata".to_owned(), Value::Object(metadata));
        Value::Object(object)
    }
}

/// The object of a record.
pub(super) fn value(shared: &Shared, kind: &Arc<Kind>, record: &Record) -> Value {
    let scope = record.envelope.change.key().map_or(Key::LOCAL, |key| &key.scope);
    View::new(shared, kind, scope).value(record)
}

/// The record of the object that a path names: by its true name, or by the segment that stands for it.
pub(super) fn find(
    shared: &Shared,
    kind: &Kind,
    scope: &ByteString,
    namespace: &str,
    name: &str,
) -> Option<Arc<Record>> {
    // The topic and position of an event are in its name, but the log is searched for what has that name.
    if kind.form == Form::Occurrence {
        let named = |record: &&Arc<Record>| occurrence_name(record) == name;
        return shared.bus.recent_events(super::list::OCCURRENCES_MAX).iter().find(named).cloned();
    }
    shared.names.find(&shared.bus, kind, scope, namespace, name)
}

/// Whether keys of this type hold secrets, which are read only where the settings allow it.
pub(super) fn is_secret(type_url: &str) -> bool {
    match proto_name(type_url) {
        Some(message) => message.rsplit('.').next() == Some("Secret"),
        None => type_url == "core/v1/Secret",
    }
}

/// What metadata-only readers get.
pub(super) fn partial(mut object: Value) -> Value {
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}
