//! Changes of resources on their way to streams: encoded at most once, whoever they go to.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::google::Any;
use meshbus_proto::xds::{Node, Resource};
use prost::Message;

use crate::core::state::version_of;
use crate::core::{Change, Record, Seq};
use crate::schema::registry::Registry;
use crate::schema::{aliases, ttl};
use crate::transport::xds::codec::received::WRAPPER;
use crate::transport::xds::codec::resource::{Encoded, Extra};
use crate::transport::xds::codec::response::{Draft, Variant, control_plane};
use crate::transport::xds::codec::{mcp, named};

/// One change of a resource.
#[derive(Debug)]
pub(super) struct Item {
    record: Arc<Record>,
    /// The position up to which its feed had told when it told this.
    pub(super) at: Seq,
    /// Its other names; of what is gone, those that it had.
    pub(super) aliases: Vec<ByteString>,
    /// Other names that it had before this change and has no more, as far as that is known.
    pub(super) lost: Vec<ByteString>,
    encoded: Forms<Arc<Encoded>>,
}

/// Changes of one type, told at once to all who want all of it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) type_url: ByteString,
    pub(super) items: Vec<Arc<Item>>,
    told: Forms<Arc<Told>>,
}

/// A response but for its nonce, shared by all streams that are told the same.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) bytes: Bytes,
    /// What it holds, for what clients answer to it.
    pub(super) names: Arc<[Named]>,
    /// By which it is told later that what it holds still is there: of resources with a time to live.
    pub(super) words: Vec<Arc<Encoded>>,
    /// What it says is gone.
    pub(super) removed: Vec<ByteString>,
    /// Whether it says but that something still holds.
    pub(super) beat: bool,
}

/// A resource as it was told: its name and version.
pub(super) type Named = (ByteString, ByteString);

/// How resources are written for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// As for nearly all.
    #[default]
    Shared,
    /// With times to live.
    Living,
    /// Objects of Kubernetes as istio's configuration clients take them.
    Mcp,
    /// In the state of the world with name and version, for buses that write what they were told.
    Versioned,
}

/// What is made once for each form, when a client first needs it.
#[derive(Debug)]
struct Forms<T> {
    shared: OnceLock<T>,
    living: OnceLock<T>,
    mcp: OnceLock<T>,
    versioned: OnceLock<T>,
}

impl<T> Default for Forms<T> {
    fn default() -> Self {
        Self {
            shared: OnceLock::new(),
            living: OnceLock::new(),
            mcp: OnceLock::new(),
            versioned: OnceLock::new(),
        }
    }
}

impl<T> Forms<T> {
    fn of(&self, form: Form) -> &OnceLock<T> {
        match form {
            Form::Shared => &self.shared,
            Form::Living => &self.living,
            Form::Mcp => &self.mcp,
            Form::Versioned => &self.versioned,
        }
    }
}

impl Item {
    pub(super) fn new(record: Arc<Record>, at: Seq) -> Self {
        let previous = record.previous.as_ref().map(|previous| aliases::of(&previous.extensions));
        let own = aliases::of(&record.envelope.extensions);
        let (aliases, lost) = match previous {
            Some(had) if is_delete(&record) => (had, Vec::new()),
            Some(mut had) => {
                had.retain(|alias| !own.contains(alias));
                (own, had)
            }
            None => (own, Vec::new()),
        };
        Self { record, at, aliases, lost, encoded: Forms::default() }
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

    pub(super) fn is_removed(&self) -> bool {
        is_delete(&self.record)
    }

    /// The resource; of one that is gone, as it was last.
    pub(super) fn encoded(&self, form: Form, kinds: &Registry) -> &Arc<Encoded> {
        self.encoded.of(form).get_or_init(|| Arc::new(encode(form, &self.record, kinds)))
    }
}

impl Batch {
    pub(super) fn new(type_url: ByteString, items: Vec<Arc<Item>>) -> Self {
        Self { type_url, items, told: Forms::default() }
    }

    /// The incremental response that tells it all.
    pub(super) fn told(&self, form: Form, kinds: &Registry, bus: &str) -> &Arc<Told> {
        self.told.of(form).get_or_init(|| {
            let (removed, put): (Vec<_>, Vec<_>) = self.items.iter().partition(|item| item.is_removed());
            let resources: Vec<_> =
                put.into_iter().map(|item| Arc::clone(item.encoded(form, kinds))).collect();
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
            Arc::new(Told::new(&draft))
        })
    }

    /// Bytes of its resources, at least.
    pub(super) fn len(&self) -> usize {
        self.items.iter().map(|item| item.record.envelope.data.len()).sum()
    }
}

impl Told {
    pub(super) fn new(draft: &Draft<'_>) -> Self {
        let named = |resource: &Arc<Encoded>| (resource.name.clone(), resource.version.clone());
        let living = draft.resources.iter().filter(|resource| resource.ttl.is_some());
        let beat = !draft.resources.is_empty() && draft.resources.iter().all(|resource| resource.is_beat());
        Self {
            bytes: draft.bytes(),
            names: draft.resources.iter().map(named).collect(),
            words: living.map(Encoded::word).collect(),
            removed: draft.removed.to_vec(),
            beat,
        }
    }
}

impl Form {
    /// The form for a client.
    pub(super) fn of(node: &Node, variant: Variant) -> Self {
        let has = |wanted: &str| node.client_features.iter().any(|feature| feature == wanted);
        match variant {
            Variant::Sotw if node.metadata_text("GENERATOR") == Some("api") => Self::Mcp,
            Variant::Sotw if has(VERSIONS_FEATURE) => Self::Versioned,
            Variant::Delta if has(TTL_FEATURE) => Self::Living,
            Variant::Sotw | Variant::Delta => Self::Shared,
        }
    }
}

/// The feature of clients that let a resource go when its time is over.
const TTL_FEATURE: &str = "xds.config.supports-resource-ttl";
/// The feature of clients that are told the version of each resource also in the state of the world.
const VERSIONS_FEATURE: &str = "meshbus.resource-versions";

/// Encodes what a record holds, in a form.
pub(super) fn encode(form: Form, record: &Record, kinds: &Registry) -> Encoded {
    let (name, version) = (name_of(record).clone(), version_of(record));
    let (type_url, data) = match record.envelope.change.key() {
        Some(key) => (&*key.type_url, &*record.envelope.data),
        None => ("", &[][..]),
    };
    if form == Form::Mcp
        && named::is_object(type_url)
        && let Some(value) = mcp::resource(&kinds.descriptors(), (type_url, &name, &version), data)
    {
        return Encoded::new(record.seq, name, version, mcp::RESOURCE, &value);
    }
    if form == Form::Versioned {
        let resource = Any { type_url: type_url.to_owned(), value: record.envelope.data.clone() };
        let wrapped = Resource {
            name: name.to_string(),
            version: version.to_string(),
            resource: Some(resource),
            ..Resource::default()
        };
        return Encoded::new(record.seq, name, version, WRAPPER, &wrapped.encode_to_vec());
    }
    let extensions = &record.envelope.extensions;
    let ttl = if form == Form::Living { ttl::of(extensions) } else { None };
    let extra = Extra { aliases: &aliases::of(extensions), ttl };
    Encoded::with(record.seq, name, version, extra, (type_url, data))
}

fn is_delete(record: &Record) -> bool {
    matches!(record.envelope.change, Change::Delete(..))
}

/// The name of a record's key; records of feeds have one.
pub(super) fn name_of(record: &Record) -> &ByteString {
    // Of an event, which is in no feed, the id.
    record.envelope.change.key().map_or(&record.envelope.id, |key| &key.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::bus::{Bus, BusOptions};
    use crate::core::{Envelope, Key, Topic};
    use crate::transport::xds::codec::kinds::CLUSTER;
    use crate::transport::xds::server::full::{Full, Fulls};

    const FORMS: [Form; 4] = [Form::Shared, Form::Living, Form::Mcp, Form::Versioned];

    fn bus() -> Bus {
        Bus::new(BusOptions { name: "test".into(), ..BusOptions::default() })
    }

    async fn put(bus: &Bus, other: &[&str]) -> Item {
        let key = Key::new(Key::LOCAL, CLUSTER, "a");
        let mut envelope = Envelope::put(Topic::parse("a").unwrap(), key.clone(), "", Bytes::new());
        ttl::set(&mut envelope.extensions, Duration::from_secs(9)).unwrap();
        aliases::set(&mut envelope.extensions, other).unwrap();
        bus.ingress("ads", Key::LOCAL).publish(vec![envelope]).await;
        Item::new(bus.get(&key).unwrap(), bus.snapshot().seq())
    }

    #[tokio::test]
    async fn a_change_is_encoded_once_in_each_form_whoever_is_told() {
        let (bus, kinds) = (bus(), Registry::default());
        let item = Arc::new(put(&bus, &[]).await);
        let batch = Batch::new(CLUSTER.into(), vec![Arc::clone(&item)]);
        for form in FORMS {
            assert!(Arc::ptr_eq(item.encoded(form, &kinds), item.encoded(form, &kinds)));
            assert!(Arc::ptr_eq(batch.told(form, &kinds, "test"), batch.told(form, &kinds, "test")));
            let ttl = (form == Form::Living).then_some(Duration::from_secs(9));
            assert_eq!(item.encoded(form, &kinds).ttl, ttl, "{form:?}");
            assert_eq!(batch.told(form, &kinds, "test").words.len(), usize::from(ttl.is_some()));
        }
    }

    #[tokio::test]
    async fn all_of_a_type_is_encoded_once_in_each_form_between_two_changes() {
        let (bus, kinds) = (bus(), Arc::new(Registry::default()));
        let changed = put(&bus, &[]).await.seq();
        let fulls = Fulls::default();
        let full = |form| {
            let full = Full {
                type_url: CLUSTER.into(),
                variant: Variant::Delta,
                form,
                max: None,
                bus: ByteString::new(),
                kinds: Arc::clone(&kinds),
            };
            fulls.get(full, &Key::LOCAL.into(), changed, &bus.snapshot())
        };
        let made = FORMS.map(full);
        assert!(FORMS.into_iter().zip(&made).all(|(form, made)| Arc::ptr_eq(&full(form), made)));
        assert_eq!(made.map(|made| made.part(0).unwrap().told.words.len()), [0, 1, 0, 0]);
    }

    #[tokio::test]
    async fn a_change_knows_the_names_that_it_takes_away() {
        let bus = bus();
        assert!(put(&bus, &["x", "y"]).await.lost.is_empty());
        let item = put(&bus, &["y", "z"]).await;
        assert_eq!((&item.aliases[..], &item.lost[..]), (&["y".into(), "z".into()][..], &["x".into()][..]));
    }
}
