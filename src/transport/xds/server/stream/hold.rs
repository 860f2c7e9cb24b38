//! What refers to new clusters waits until the client has answered to them, which an Envoy does when they are warm.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashSet;
use tokio::time::Instant;

use super::of_type::OfType;
use crate::transport::xds::codec::kinds::CLUSTER;
use crate::transport::xds::codec::refer::references;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::server::item::Item;

/// How long all that may refer to clusters waits. Not longer, since not every client answers.
const ALL: Duration = Duration::from_secs(5);

/// How much longer what does refer to the clusters waits for a client that has answered before: it may be slow, or have
/// no endpoints yet, for which an Envoy waits 15 s unless it is told otherwise.
const MORE: Duration = Duration::from_secs(25);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Hold {
    /// The response that is to be answered.
    pub(super) nonce: u32,
    /// The clusters that are not answered yet.
    clusters: HashSet<ByteString>,
    /// Until when it holds, or holds all.
    pub(super) due: Instant,
    /// Whether only what refers to the clusters waits.
    narrow: bool,
}

impl Hold {
    /// For clusters that were told in a response, after what was held before.
    pub(super) fn new(earlier: Option<Self>, nonce: u32, told: Vec<ByteString>) -> Self {
        let mut clusters = earlier.map(|hold| hold.clusters).unwrap_or_default();
        clusters.extend(told);
        Self { nonce, clusters, due: Instant::now() + ALL, narrow: false }
    }

    /// What still holds when it is due.
    pub(super) fn lapse(mut self, clusters: Option<&OfType>) -> Option<Self> {
        (clusters.is_some_and(OfType::has_answered) && !self.narrow).then(|| {
            self.narrow = true;
            self.due += MORE;
            self
        })
    }

    /// Takes out of what waits of a type what has to wait on. `None` where nothing of it may be told.
    pub(super) fn part(&self, type_url: &str, of: &mut OfType, variant: Variant) -> Option<Vec<Arc<Item>>> {
        if !self.narrow || of.again {
            return None;
        }
        let items = of.pending.take();
        let (held, free): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| self.holds(type_url, item));
        let whole = variant == Variant::Sotw && of.kind.whole;
        let none = !held.is_empty() && (free.is_empty() || whole);
        of.pending.extend(free);
        if none {
            of.pending.extend(held);
            return None;
        }
        Some(held)
    }

    fn holds(&self, type_url: &str, item: &Item) -> bool {
        if item.is_removed() {
            return false;
        }
        let references = references(type_url, &item.record().envelope.data);
        references.iter().any(|(of, name)| *of == CLUSTER && self.clusters.contains(name))
    }
}
