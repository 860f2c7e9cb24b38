//! The kinds that are served in a scope: those this server knows, those its definitions and its source tell of, and
//! those there is state of.
//!
//! What a scope has is put together anew when its owner, its types, its definitions or what its source tells have
//! changed; between two changes of the table nothing is looked at at all.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::Shared;
use super::kind::{Form, Kind, Origin};
use super::view::is_secret;
use crate::core::record::Record;
use crate::core::state::{Held, Snapshot};
use crate::core::write::Ownership;
use crate::core::{Key, Seq};
use crate::schema::kinds::{KINDS, OWN, PROTO_PREFIX, proto_name, short_name};
use crate::schema::registry::Definition;
use crate::transport::k8s::codec::builtin;
use crate::transport::k8s::codec::crd::Crd;

/// What may be done with state whose owner takes writes.
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// What may be done with state whose owner takes none.
const READ: &[&str] = &["get", "list", "watch"];
/// What may be done with an event of the log.
const EVENTS: &[&str] = &["create", "get", "list", "watch"];
/// The type of definitions.
const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";
/// The type of Events, in whichever group they came.
const EVENT: &str = "core/v1/Event";
/// Most scopes whose kinds are kept.
const SCOPES_MAX: usize = 256;

/// The kinds of all scopes.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<HashMap<ByteString, Kept>>);

/// The kinds of a scope, and what they were made of.
#[derive(Debug)]
struct Kept {
    /// The table showed this position when it was last looked at.
    seen: Seq,
    epoch: u64,
    ownership: Option<Ownership>,
    types: Vec<ByteString>,
    /// Position and content of each definition.
    crds: Vec<(Seq, Option<Arc<Crd>>)>,
    all: Arc<[Arc<Kind>]>,
}

impl Kinds {
    /// The kind of that name; `None` where there is none.
    pub(super) fn resolve(
        &self,
        shared: &Shared,
        scope: &ByteString,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<Arc<Kind>> {
        let is_it = |kind: &&Arc<Kind>| {
            let have = &kind.definition;
            have.plural == plural && have.group == group && have.version == version
        };
        self.all(shared, scope).iter().find(is_it).cloned()
    }

    /// All kinds of a scope.
    pub(super) fn all(&self, shared: &Shared, scope: &ByteString) -> Arc<[Arc<Kind>]> {
        // The epoch first: what is told after it is read makes it another, so that nothing is kept too long.
        let epoch = shared.registry.epoch();
        let ownership = shared.bus.ownership(scope);
        let as_before = |kept: &Kept| kept.epoch == epoch && kept.ownership == ownership;
        let seq = shared.bus.figures().seq;
        if let Some(kept) = self.0.lock().get(scope)
            && as_before(kept)
            && kept.seen == seq
        {
            return Arc::clone(&kept.all);
        }
        let snapshot = shared.bus.snapshot();
        let mut scopes = self.0.lock();
        if let Some(kept) = scopes.get_mut(scope)
            && as_before(kept)
            && kept.holds(&snapshot, scope)
        {
            kept.seen = snapshot.seq();
            return Arc::clone(&kept.all);
        }
        if scopes.len() >= SCOPES_MAX {
            scopes.clear();
        }
        let fresh = Kept::make(shared, scope, &snapshot, epoch, ownership);
        let all = Arc::clone(&fresh.all);
        scopes.insert(scope.clone(), fresh);
        all
    }

    /// The definition of a custom kind; `None` for others.
    pub(super) fn crd(&self, shared: &Shared, scope: &ByteString, kind: &Kind) -> Option<Arc<Crd>> {
        let Origin::Custom(seq) = kind.origin else { return None };
        drop(self.all(shared, scope));
        let scopes = self.0.lock();
        let crds = &scopes.get(scope)?.crds;
        let of_kind = |crd: &&Arc<Crd>| {
            crd.group == kind.definition.group && crd.names.plural == kind.definition.plural
        };
        let exact = crds.iter().find(|(have, _)| have.0 == seq).and_then(|(_, crd)| crd.as_ref());
        // Changed since the request was read: the definition as it is now counts.
        exact.or_else(|| crds.iter().filter_map(|(_, crd)| crd.as_ref()).find(of_kind)).cloned()
    }
}

impl Kept {
    /// Whether the table still has what this was made of. One look-up for each type and definition.
    fn holds(&self, snapshot: &Snapshot, scope: &ByteString) -> bool {
        snapshot.types(scope).eq(&self.types)
            && snapshot
                .range(Some(scope), Some(CRD), None)
                .map(Held::seq)
                .eq(self.crds.iter().map(|(seq, _)| *seq))
    }

    fn make(
        shared: &Shared,
        scope: &ByteString,
        snapshot: &Snapshot,
        epoch: u64,
        ownership: Option<Ownership>,
    ) -> Self {
        // What a lost owner left is read, and written by nobody.
        let writable = matches!(ownership, Some(Ownership::Local | Ownership::Writable(_)));
        let crds: Vec<(Seq, Option<Arc<Crd>>)> = snapshot
            .range(Some(scope), Some(CRD), None)
            .map(|held| (held.seq(), parse(&held.record()).map(Arc::new)))
            .collect();
        let types: Vec<ByteString> = snapshot.types(scope).cloned().collect();
        let (mut kinds, mut wanted) = (Vec::new(), types.clone());
        if ownership == Some(Ownership::Local) {
            kinds.extend(builtin::all().iter().map(|kind| built_in(kind, ALL)));
            kinds.extend(KINDS.iter().filter_map(|own| bus_kind(own.type_url)));
            for (seq, crd) in crds.iter().filter_map(|(seq, crd)| Some((seq, crd.as_ref()?))) {
                kinds.extend(custom(crd, seq.0));
            }
        } else {
            let told = shared.registry.of(scope);
            let (made, objects): (Vec<_>, Vec<_>) = told.iter().partition(|it| is_made(&it.type_url));
            kinds.extend(objects.into_iter().map(|definition| cluster(definition, writable, &crds)));
            wanted.extend(made.into_iter().map(|definition| definition.type_url.clone()));
        }
        if ownership == Some(Ownership::Local) {
            // Also before there is any, so that the first can be created.
            let messages = shared.registry.descriptors();
            wanted.extend(messages.resources().iter().map(|name| format!("{PROTO_PREFIX}{name}").into()));
        }
        for type_url in &wanted {
            if !kinds.iter().any(|have: &Kind| have.stored_as == *type_url) {
                kinds.extend(found(shared, type_url, writable, &kinds));
            }
        }
        let all = kinds.into_iter().map(Arc::new).collect();
        Self { seen: snapshot.seq(), epoch, ownership, types, crds, all }
    }
}

fn parse(record: &Record) -> Option<Crd> {
    Crd::parse(&serde_json::from_slice(&record.envelope.data).ok()?).ok()
}

fn built_in(kind: &builtin::BuiltIn, verbs: &'static [&'static str]) -> Kind {
    let is_event = kind.kind == "Event";
    Kind {
        definition: Arc::new(kind.definition()),
        origin: Origin::BuiltIn,
        form: if is_event { Form::Event } else { Form::Object },
        stored_as: if is_event { EVENT.into() } else { kind.type_url.into() },
        verbs,
        schema: Some(Arc::clone(kind.schema())),
        messages: None,
    }
}

/// One of the bus's own kinds. What the bus tells of itself is read; values are written, events published.
fn bus_kind(type_url: &'static str) -> Option<Kind> {
    let definition = Definition::guess(&type_url.into())?;
    let (form, verbs) = match &*definition.kind {
        "Value" => (Form::Made, ALL),
        "CloudEvent" => (Form::Occurrence, EVENTS),
        _ => (Form::Made, READ),
    };
    Some(Kind {
        origin: Origin::BuiltIn,
        form,
        stored_as: definition.type_url.clone(),
        verbs,
        schema: None,
        messages: None,
        definition: Arc::new(Definition { categories: vec!["meshbus".to_owned()], ..definition }),
    })
}

/// The served versions of a definition.
fn custom(crd: &Crd, seq: u64) -> Vec<Kind> {
    let Some(storage) = crd.storage() else { return Vec::new() };
    let stored_as = ByteString::from(format!("{}/{}/{}", crd.group, storage.name, crd.names.kind));
    let served = crd.versions.iter().filter(|version| version.served);
    let kind = |version: &crate::transport::k8s::codec::crd::CrdVersion| Kind {
        definition: Arc::new(Definition {
            type_url: stored_as.clone(),
            group: crd.group.clone(),
            version: version.name.clone(),
            kind: crd.names.kind.clone(),
            plural: crd.names.plural.clone(),
            singular: crd.names.singular.clone(),
            short_names: crd.names.short_names.clone(),
            categories: crd.names.categories.clone(),
            namespaced: crd.namespaced,
            status: version.status,
        }),
        origin: Origin::Custom(seq),
        form: Form::Object,
        stored_as: stored_as.clone(),
        verbs: ALL,
        schema: Some(Arc::clone(&version.open_api)),
        messages: None,
    };
    served.map(kind).collect()
}

/// A kind that a cluster told of; where its definition is watched too, what it looks like is known.
fn cluster(definition: &Arc<Definition>, writable: bool, crds: &[(Seq, Option<Arc<Crd>>)]) -> Kind {
    let group = definition.type_url.split('/').next().unwrap_or_default();
    let is_event = definition.kind == "Event" && matches!(group, "core" | "events.k8s.io");
    let defined = || {
        let crd = crds
            .iter()
            .filter_map(|(_, crd)| crd.as_ref())
            .find(|crd| crd.group == definition.group && crd.names.plural == definition.plural)?;
        crd.version(&definition.version).map(|version| Arc::clone(&version.open_api))
    };
    Kind {
        origin: Origin::Cluster,
        form: if is_event { Form::Event } else { Form::Object },
        stored_as: if is_event { EVENT.into() } else { definition.type_url.clone() },
        verbs: if writable { ALL } else { READ },
        schema: builtin::find(&definition.type_url).map(|kind| Arc::clone(kind.schema())).or_else(defined),
        messages: None,
        definition: Arc::clone(definition),
    }
}

/// A kind there is or may be state of. One that would be named as another is, or that has no name of its own, is a `Resource`.
fn found(shared: &Shared, type_url: &ByteString, writable: bool, kinds: &[Kind]) -> Option<Kind> {
    let message = proto_name(type_url);
    let told_only = is_own(type_url) && *type_url != Key::VALUE;
    let verbs = if writable && !told_only { ALL } else { READ };
    let taken = |definition: &Definition| {
        kinds.iter().any(|kind| {
            kind.definition.group == definition.group
                && kind.definition.version == definition.version
                && kind.definition.plural == definition.plural
        })
    };
    let definition = Definition::guess(type_url).filter(|definition| !taken(definition));
    let mut definition = match (definition, message) {
        (Some(definition), _) => definition,
        (None, Some(message)) => resource(type_url, message)?,
        (None, None) => return None,
    };
    if let Some(message) = message {
        // Whoever asks for all of them is not to be refused because of one.
        if !is_secret(type_url) || shared.config.allow_secrets {
            definition.categories.push("xds".to_owned());
        }
        definition.short_names.extend(short_name(message).map(str::to_owned));
    }
    Some(Kind {
        origin: Origin::Found,
        form: if is_made(type_url) { Form::Made } else { Form::Object },
        stored_as: type_url.clone(),
        verbs,
        schema: None,
        messages: message.map(|_| shared.registry.descriptors()),
        definition: Arc::new(definition),
    })
}

/// Whether objects of a type are made around its data.
fn is_made(type_url: &str) -> bool {
    proto_name(type_url).is_some() || is_own(type_url)
}

/// Whether a type is one of the bus's own.
fn is_own(type_url: &str) -> bool {
    type_url.split('/').next() == OWN.split('/').next()
}

/// The kind of a message that has no name of its own: nested in another, or named as something else is.
fn resource(type_url: &ByteString, message: &str) -> Option<Definition> {
    let plural = message.to_lowercase().replace(['.', '_'], "-");
    let own = Definition::guess(&format!("{OWN}/Resource").into())?;
    debug_assert!(type_url.starts_with(PROTO_PREFIX));
    Some(Definition { type_url: type_url.clone(), plural: format!("resources-{plural}"), ..own })
}
