//! Objects between the API and the bus: reading what is there, and writing under the condition that it still is.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::Value;

use super::super::kind::{Form, Kind};
use super::super::view;
use super::{Writing, made, metadata, refused};
use crate::core::state::version_of;
use crate::core::write::Ownership;
use crate::core::write::{Operation, Parameters, Precondition, Stored};
use crate::core::{Envelope, Key, Refused, Seq, Version};
use crate::schema::address;
use crate::transport::k8s::codec::envelope::{describe_event, name_object};
use crate::transport::k8s::codec::event_attributes::EventAttributes;
use crate::transport::k8s::codec::status::{Reason, Status};

/// An object as it is now, in the version that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) key: Key,
    pub(super) seq: Seq,
    /// The version its source gave it.
    pub(super) version: Version,
    pub(super) object: Value,
}

/// Why an object was not stored.
#[derive(Debug)]
pub(super) enum NotStored {
    /// Somebody else was faster: read again.
    Raced,
    /// What the writer is told.
    Refused(Box<Status>),
}

impl From<Status> for NotStored {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Writing<'_> {
    /// The key of an object of this name, in this namespace; `true_name` where the name stands for another.
    pub(super) fn key(&self, namespace: &str, name: &str, true_name: Option<&str>) -> Key {
        match (view::find(self.shared, self.kind(), &self.call.scope, namespace, name), true_name) {
            (Some(record), _) => {
                // A record that is found by its name is state, and so has a key.
                record
                    .envelope
                    .change
                    .key()
                    .cloned()
                    .unwrap_or_else(|| self.kind().key(&self.call.scope, namespace, name))
            }
            (None, Some(true_name)) => self.kind().key(&self.call.scope, namespace, true_name),
            (None, None) => self.kind().key(&self.call.scope, namespace, name),
        }
    }

    /// The object of this name as it is now.
    pub(super) fn live(&self, namespace: &str, name: &str) -> Option<Live> {
        let record = view::find(self.shared, self.kind(), &self.call.scope, namespace, name)?;
        let key = record.envelope.change.key()?.clone();
        let object = view::value(self.shared, &self.resource.kind, &record);
        Some(Live { key, seq: record.seq, version: version_of(&record), object })
    }

    /// Whether the bus itself owns the scope; otherwise the connector that does decides what a write means.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.shared.bus.ownership(&self.call.scope), Some(Ownership::Local))
    }

    /// Stores an object that the bus owns, in place of `live`; gives it as it is stored.
    pub(super) async fn store(
        &self,
        key: Key,
        live: Option<&Live>,
        mut object: Value,
    ) -> Result<Value, NotStored> {
        if let Some(metadata) = metadata::of(&mut object) {
            metadata.remove("resourceVersion");
        }
        let envelope = envelope_of(self.kind(), &key, &object, live)?;
        let precondition = live.map_or(Precondition::Absent, |live| Precondition::Seq(live.seq));
        let name = metadata::text(&object, "name").to_owned();
        let put = Operation::Put(Box::new(envelope));
        let stored = self.shared.bus.write(key, put, precondition, self.options.dry_run).await;
        match stored {
            Ok(stored) => {
                if !self.options.dry_run {
                    set_version(&mut object, stored.seq);
                } else if let Some(live) = live {
                    set_version(&mut object, live.seq);
                }
                Ok(object)
            }
            Err(Refused::Conflict { .. }) => Err(NotStored::Raced),
            Err(refusal) => Err(refused::status(&refusal, &self.kind().definition, &name).into()),
        }
    }

    /// Hands a write to the connector that owns the scope; gives the object as its source has it.
    pub(super) async fn through(
        &self,
        key: Key,
        operation: Operation,
        precondition: Precondition,
        parameters: Parameters,
        name: &str,
    ) -> Result<(Stored, Option<Value>), Status> {
        self.hand_over(key, operation, precondition, parameters)
            .await
            .map_err(|refusal| refused::status(&refusal, &self.kind().definition, name))
    }

    /// As [`through`](Self::through), with what the owner refused in its own terms.
    pub(super) async fn hand_over(
        &self,
        key: Key,
        operation: Operation,
        precondition: Precondition,
        parameters: Parameters,
    ) -> Result<(Stored, Option<Value>), Refused> {
        let stored = self
            .shared
            .bus
            .write_with(key.clone(), operation, precondition, self.options.dry_run, parameters)
            .await?;
        let shown = self.shared.bus.get(&key).filter(|_| !self.options.dry_run);
        let object = match shown {
            Some(record) => Some(view::value(self.shared, &self.resource.kind, &record)),
            None => serde_json::from_slice(&stored.data).ok(),
        };
        Ok((stored, object))
    }

    /// What a connector's source is told beside the write itself.
    pub(super) fn parameters(&self) -> Parameters {
        let passed =
            ["fieldManager", "fieldValidation", "force", "propagationPolicy", "gracePeriodSeconds"];
        let mut parameters: Parameters = passed
            .into_iter()
            .filter_map(|name| {
                let value = self.call.parameter(name)?;
                Some((ByteString::from_static(name), ByteString::from(value)))
            })
            .collect();
        if !self.options.named {
            let manager = ByteString::from(self.options.manager.as_str());
            parameters.push((ByteString::from_static("fieldManager"), manager));
        }
        if let Some(subresource) = &self.resource.subresource {
            parameters.push((ByteString::from_static("subresource"), subresource.as_str().into()));
        }
        parameters
    }
}

/// The envelope that stores an object in place of `live`.
fn envelope_of(kind: &Kind, key: &Key, object: &Value, live: Option<&Live>) -> Result<Envelope, Status> {
    let topic = address::topic_of(key).map_err(|why| {
        Status::new(Reason::BadRequest, format!("{} cannot be stored: {why}", kind.definition.resource()))
    })?;
    if kind.form == Form::Made {
        let (data, media_type) = made::data(kind, object)?;
        let mut stored = Envelope::put(topic, key.clone(), Version::default(), data);
        stored.datacontenttype = Some(media_type.into());
        return Ok(stored);
    }
    let data = serde_json::to_vec(object).map_err(|error| {
        Status::new(Reason::InternalError, format!("the object cannot be written as JSON: {error}"))
    })?;
    // As long as the text: what was room to grow would be held as long as the object.
    let data = Bytes::from(data.into_boxed_slice());
    let mut stored = Envelope::put(topic, key.clone(), Version::default(), data);
    stored.datacontenttype = Some(ByteString::from_static("application/json"));
    describe(&mut stored, kind, object, live);
    Ok(stored)
}

/// Sets the version that clients see.
pub(super) fn set_version(object: &mut Value, seq: Seq) {
    if let Some(metadata) = metadata::of(object) {
        metadata.insert("resourceVersion".to_owned(), Value::String(seq.to_string()));
    }
}

/// The attributes that say which object it is, and of an Event what it is about.
fn describe(envelope: &mut Envelope, kind: &Kind, object: &Value, live: Option<&Live>) {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let place = (metadata::text(object, "namespace"), metadata::text(object, "name"));
    let extensions = &mut envelope.extensions;
    name_object(extensions, &text("apiVersion").into(), &text("kind").into(), place);
    if kind.form != Form::Event {
        return;
    }
    let attributes = |text: &[u8]| EventAttributes::read(serde_json::from_slice(text).ok()?);
    let before = live.filter(|live| metadata::text(&live.object, "uid") == metadata::text(object, "uid"));
    let before = before.and_then(|live| attributes(live.object.to_string().as_bytes()));
    if let Some(event) = attributes(&envelope.data) {
        describe_event(extensions, &event, before.map_or(0, |before| before.count));
    }
}
