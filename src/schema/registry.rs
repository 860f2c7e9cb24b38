//! The kinds that sources say they have: what a cluster's discovery tells, for those who show its state to others;
//! and the protobuf types that are known.
//!
//! A source replaces what it said before; readers get shared definitions and notice a change by the epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::RwLock;

use super::kinds::group_version_kind;
use super::protobuf::Descriptors;

/// Most kinds kept of one scope: the largest clusters have some hundreds.
pub const KINDS_MAX: usize = 10_000;

/// One kind of state as APIs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The type of its keys.
    pub type_url: ByteString,
    /// API group; empty for the core group.
    pub group: String,
    /// `v1`
    pub version: String,
    /// `Deployment`
    pub kind: String,
    /// `deployments`
    pub plural: String,
    /// `deployment`
    pub singular: String,
    /// `deploy`
    pub short_names: Vec<String>,
    /// `all`
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether its status is written apart from the rest.
    pub status: bool,
}

impl Definition {
    /// What can be told of a kind from the type of its keys alone; `None` where that names none.
    ///
    /// The plural is guessed by the rules of English; objects of Kubernetes are taken to live in namespaces.
    pub fn guess(type_url: &ByteString) -> Option<Self> {
        let gvk = group_version_kind(type_url)?;
        let group = if gvk.group == "core" { String::new() } else { gvk.group.clone() };
        Some(Self {
            type_url: type_url.clone(),
            plural: gvk.plural(),
            singular: gvk.kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: super::kinds::proto_name(type_url).is_none() && !gvk.is_own(),
            status: false,
            version: gvk.version,
            kind: gvk.kind,
            group,
        })
    }

    /// `apps/v1`, or `v1` of the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` of the core group: how messages name it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// The kinds of all scopes whose source told any, and the descriptors of the protobuf types that are known.
#[derive(Debug, Default)]
pub struct Registry {
    scopes: RwLock<HashMap<ByteString, Arc<[Arc<Definition>]>>>,
    /// `None` for those of this build alone, which are read when somebody needs them.
    descriptors: RwLock<Option<Arc<Descriptors>>>,
    epoch: AtomicU64,
}

impl Registry {
    /// Replaces what a scope's source said before; at most [`KINDS_MAX`] are kept.
    pub fn set(&self, scope: ByteString, kinds: Vec<Definition>) {
        let kinds: Arc<[_]> = kinds.into_iter().take(KINDS_MAX).map(Arc::new).collect();
        if self.scopes.read().get(&scope).is_some_and(|have| *have == kinds) {
            return;
        }
        self.scopes.write().insert(scope, kinds);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The kinds of a scope; none where its source told none.
    pub fn of(&self, scope: &str) -> Arc<[Arc<Definition>]> {
        self.scopes.read().get(scope).cloned().unwrap_or_default()
    }

    /// The protobuf types that are known.
    pub fn descriptors(&self) -> Arc<Descriptors> {
        let set = self.descriptors.read().clone();
        set.unwrap_or_else(Descriptors::built_in)
    }

    /// Replaces the protobuf types that are known; `None` for those of this build alone.
    pub fn set_descriptors(&self, descriptors: Option<Arc<Descriptors>>) {
        let before = std::mem::replace(&mut *self.descriptors.write(), descriptors);
        let has = self.descriptors.read().is_some();
        if before.is_some() || has {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// How often anything has changed.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_is_no_change() {
        let registry = Registry::default();
        let pod = Definition::guess(&"core/v1/Pod".into()).unwrap();
        registry.set("east".into(), vec![pod.clone()]);
        registry.set("east".into(), vec![pod.clone()]);
        assert_eq!(registry.epoch(), 1);
        assert_eq!(registry.of("east").len(), 1);
        registry.set("east".into(), vec![]);
        assert_eq!((registry.epoch(), registry.of("east").len(), registry.of("west").len()), (2, 0, 0));
        assert_eq!((pod.api_version(), pod.resource()), ("v1".to_owned(), "pods".to_owned()));
    }

    #[test]
    fn a_type_tells_its_kind() {
        let of = |type_url: &str| Definition::guess(&type_url.into());
        let cluster = of("type.googleapis.com/envoy.config.cluster.v3.Cluster").unwrap();
        assert_eq!(
            (cluster.resource(), cluster.api_version()),
            ("clusters.cluster.config.envoy".into(), "cluster.config.envoy/v3".into())
        );
        assert!(!cluster.namespaced);
        assert!(of("apps/v1/Deployment").unwrap().namespaced);
        assert!(!of("meshbus.dev/v1/Value").unwrap().namespaced);
        assert_eq!(of("nothing"), None);
    }
}
