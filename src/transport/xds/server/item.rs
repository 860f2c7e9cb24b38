//! Changes of resources on their way to streams: encoded at most once, whoever they go to.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::xds::Node;

use crate::core::state::version_of;
use crate::core::{Change, Record, Seq};
use crate::schema::registry::Registry;
use crate::schema::{aliases, ttl};
use crate::transport::xds::codec::resource::{Encoded, Extra};
use crate::transport::xds::codec::response::{Draft, Variant, control_plane};
use crate::transport::xds::codec::{mcp, named};

/// One change of a resource.
#[derive(Debug)]
pub(super) struct Item {
    record: Arc<Record>,
    /// The position up to which its feed had told when it told this.
    pub(super) at: Seq,
    encoded: OnceLock<Arc<Encoded>>,
}

/// Changes of one type, told at once to all who want all of it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) type_url: ByteString,
    pub(super) items: Vec<Arc<Item>>,
    told: OnceLock<Arc<Told>>,
}

/// A response but for its nonce, shared by all streams that are told the same.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) bytes: Bytes,
    /// What it holds, for what clients answer to it.
    pub(super) names: Arc<[Named]>,
}

/// A resource as it was told: its name and version.
pub(super) type Named = (ByteString, ByteString);

impl Item {
    pub(super) fn new(record: Arc<Record>, at: Seq) -> Self {
        Self { record, at, encoded: OnceLock::new() }
    }

    pub(super) fn seq(&self) -> Seq {
        self.record.seq
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    pub(super) fn name(&self) -> &ByteString {
        name_of(&self.record)
    }

    /// Its other names; of what is gone, those that it had.
    pub(super) fn aliases(&self) -> Vec<ByteString> {
        match &self.record.previous {
            Some(previous) if self.is_removed() => aliases::of(&previous.extensions),
            _ => aliases::of(&self.record.envelope.extensions),
        }
    }

    pub(super) fn is_removed(&self) -> bool {
        matches!(self.record.envelope.change, Change::Delete(..))
    }

    /// The resource; of one that is gone, as it was last.
    pub(super) fn encoded(&self) -> &Arc<Encoded> {
        self.encoded.get_or_init(|| Arc::new(encode(&self.record)))
    }
}

impl Batch {
    pub(super) fn new(type_url: ByteString, items: Vec<Arc<Item>>) -> Self {
        Self { type_url, items, told: OnceLock::new() }
    }

    /// The incremental response that tells it all.
    pub(super) fn told(&self, bus: &str) -> &Arc<Told> {
        self.told.get_or_init(|| {
            let (removed, put): (Vec<_>, Vec<_>) = self.items.iter().partition(|item| item.is_removed());
            let resources: Vec<_> = put.into_iter().map(|item| Arc::clone(item.encoded())).collect();
            let removed: Vec<_> = removed.into_iter().map(|item| item.name().clone()).collect();
            let version = self.items.last().map(|item| item.at).unwrap_or_default().to_string();
            let draft = Draft {
                variant: Variant::Delta,
                type_url: &self.type_url,
                version: &version,
                resources: &resources,
                removed: &removed,
                errors: &[],
                control_plane: &control_plane(Variant::Delta, bus),
            };
            Arc::new(Told { bytes: draft.bytes(), names: named(&resources) })
        })
    }

    /// Bytes of its resources, at least.
    pub(super) fn len(&self) -> usize {
        self.items.iter().map(|item| item.record.envelope.data.len()).sum()
    }
}

/// Names and versions of resources.
pub(super) fn named(resources: &[Arc<Encoded>]) -> Arc<[Named]> {
    resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
}

/// How resources are written for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// As for nearly all, so that it is written once.
    #[default]
    Shared,
    /// With times to live.
    Living,
    /// Objects of Kubernetes as istio's configuration clients take them.
    Mcp,
}

impl Form {
    /// The form for a client.
    pub(super) fn of(node: &Node, variant: Variant) -> Self {
        let living = node.client_features.iter().any(|feature| feature == TTL_FEATURE);
        match variant {
            Variant::Sotw if node.metadata_text("GENERATOR") == Some("api") => Self::Mcp,
            Variant::Delta if living => Self::Living,
            Variant::Sotw | Variant::Delta => Self::Shared,
        }
    }
}

/// The feature of clients that let a resource go when its time is over.
const TTL_FEATURE: &str = "xds.config.supports-resource-ttl";

/// Encodes what a record holds, in a form.
pub(super) fn encode_as(form: Form, record: &Record, kinds: &Registry) -> Encoded {
    match (form, record.envelope.change.key()) {
        (Form::Living, Some(key)) => {
            let message = (&*key.type_url, &*record.envelope.data);
            let (aliases, ttl) =
                (aliases::of(&record.envelope.extensions), ttl::of(&record.envelope.extensions));
            let extra = Extra { aliases: &aliases, ttl };
            Encoded::with(record.seq, key.name.clone(), version_of(record), extra, message)
        }
        (Form::Mcp, Some(key)) if named::is_object(&key.type_url) => {
            let version = version_of(record);
            let named = (&*key.type_url, &*key.name, &*version);
            match mcp::resource(&kinds.descriptors(), named, &record.envelope.data) {
                Some(value) => Encoded::new(record.seq, key.name.clone(), version, mcp::RESOURCE, &value),
                None => encode(record),
            }
        }
        _ => encode(record),
    }
}

/// Encodes what a record holds.
pub(super) fn encode(record: &Record) -> Encoded {
    let (type_url, data) = match record.envelope.change.key() {
        Some(key) => (&*key.type_url, &*record.envelope.data),
        None => ("", &[][..]),
    };
    let aliases = aliases::of(&record.envelope.extensions);
    let extra = Extra { aliases: &aliases, ttl: None };
    Encoded::with(record.seq, name_of(record).clone(), version_of(record), extra, (type_url, data))
}

/// The name of a record's key; records of feeds have one.
pub(super) fn name_of(record: &Record) -> &ByteString {
    // Of an event, which is in no feed, the id.
    record.envelope.change.key().map_or(&record.envelope.id, |key| &key.name)
}
