//! Endpoints follow their clusters. An Envoy that is told a cluster anew warms it, and waits for its endpoints although
//! it has them: it does not ask for them again, and says nothing of clusters meanwhile.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;

use super::answer::key_of;
use super::of_type::OfType;
use super::session::Session;
use crate::core::state::Snapshot;
use crate::transport::xds::codec::demand::Asked;
use crate::transport::xds::codec::kinds::{CLUSTER, ENDPOINTS};
use crate::transport::xds::codec::resource::endpoints_of;
use crate::transport::xds::server::item::Item;

/// Has the endpoints of clusters that are about to be told told after them, as far as they are asked for by name.
pub(super) fn follow_clusters(
    types: &mut [(&ByteString, &mut OfType)],
    session: &Session,
    snapshot: &Snapshot,
) {
    let (mut clusters, mut endpoints) = (None, None);
    for (type_url, of) in types {
        match &***type_url {
            CLUSTER => clusters = Some(&**of),
            ENDPOINTS if !of.demand.is_empty() => endpoints = Some((*type_url, &mut **of)),
            _ => {}
        }
    }
    let (Some(clusters), Some((type_url, endpoints))) = (clusters, endpoints) else { return };
    // The clusters' own position: all that was changed up to it is told or waits.
    let mut at = clusters.pending.at();
    let names: Vec<ByteString> = if clusters.again {
        at = snapshot.seq();
        endpoints.demand.names().cloned().collect()
    } else {
        let is_news = |item: &&Arc<Item>| {
            let news = !item.is_removed() && clusters.demand.is_news(item.name(), item.seq());
            news && session.may_see(item.record())
        };
        let news = clusters.pending.items().filter(is_news);
        news.filter_map(|item| endpoints_of(&item.record().envelope.data)).collect()
    };
    for name in names {
        if let Ok(record) = session.find(type_url, &name, snapshot)
            && endpoints.demand.tell_again(&name)
        {
            endpoints.pending.add(Arc::new(Item::new(Arc::clone(record), at)));
        }
    }
}

/// Has endpoints told that a client has from before, where it was just told their clusters anew.
pub(super) fn forget_known(
    types: &HashMap<ByteString, OfType>,
    asked: &mut Asked,
    session: &Session,
    snapshot: &Snapshot,
) {
    let (Some(clusters), false) = (types.get(CLUSTER), asked.known.is_empty()) else { return };
    let cluster = ByteString::from_static(CLUSTER);
    for (name, _) in clusters.unanswered().flat_map(|names| names.iter()) {
        if let Some(record) = snapshot.get(&key_of(session, &cluster, name))
            && let Some(endpoints) = endpoints_of(&record.envelope.data)
        {
            asked.known.remove(&endpoints);
        }
    }
}
