//! Resync: replacing all state of a scope by what a source lists now.
//!
//! A relist (Kubernetes) or a state of the world (XDS) says what exists, not what went. The bus derives
//! the deletions: what the scope held and the listing did not name is gone, with cause `inferred`.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashSet;

use super::bus::Ingress;
use super::envelope::{Cause, Change, Envelope, Key};
use super::receipt::Receipt;
use super::state::Held;

/// A replacement under way. Dropped without [`commit`](Self::commit), it deletes nothing.
#[derive(Debug)]
pub struct Resync {
    bus: Ingress,
    type_url: Option<ByteString>,
    named: HashSet<Key>,
}

impl Resync {
    pub(super) fn new(bus: Ingress, type_url: Option<ByteString>) -> Self {
        Self { bus, type_url, named: HashSet::new() }
    }

    /// Publishes what the source lists. What the table holds in the same version is not logged again.
    pub async fn put(&mut self, batch: Vec<Envelope>) -> Vec<Receipt> {
        self.named.extend(batch.iter().filter_map(|envelope| envelope.change.key().cloned()));
        self.bus.publish(batch).await
    }

    /// Notes that a key exists without publishing it: it could not be decoded, say, and stays as it was.
    pub fn keep(&mut self, key: Key) {
        self.named.insert(key);
    }

    /// Deletes what the scope (and type, if one was given) held and the listing did not name.
    pub async fn commit(self) -> Vec<Receipt> {
        let snapshot = self.bus.snapshot();
        let gone = snapshot
            .range(Some(self.bus.scope()), self.type_url.as_deref(), None)
            .map(Held::record)
            .filter_map(|record| match &record.envelope.change {
                Change::Put(key, version) if !self.named.contains(key) => {
                    let topic = record.envelope.topic.clone();
                    let mut gone = Envelope::delete(topic, key.clone(), version.clone(), Cause::Inferred);
                    gone.data = record.envelope.data.clone();
                    gone.datacontenttype.clone_from(&Arc::clone(&record.envelope).datacontenttype);
                    Some(gone)
                }
                _ => None,
            })
            .collect();
        self.bus.publish(gone).await
    }
}
