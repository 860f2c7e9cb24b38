//! What happened to connections, as types that clients follow: the last [`KEPT`] of each kind, and those who are
//! connected now.
//!
//! A client that comes again tells the number up to which it knows all. Numbers begin with the time at which the server
//! began, in microseconds, so that those of an earlier run are smaller.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashSet;
use meshbus_proto::xds::{DiscoveryRequest, Node};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;

use crate::core::Seq;
use crate::transport::xds::codec::resource::Encoded;

/// Those who are connected: names are ids of connections, resources nodes.
pub(super) const CONNECTIONS: &str = "istio.io/connections";
/// The kinds of events, in the order of [`Happening`]. Of connections the resource is the node, of refusals the request.
const EVENTS: [&str; 3] = ["istio.io/connect", "istio.io/disconnect", "istio.io/nack"];
/// How many of each kind are kept.
const KEPT: usize = 1000;
/// Most bytes of a node's metadata that are told.
const METADATA_MAX: usize = 16 << 10;

const NODE: &str = "type.googleapis.com/envoy.config.core.v3.Node";
const REQUEST: &str = "type.googleapis.com/envoy.service.discovery.v3.DiscoveryRequest";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Rings {
    inner: Mutex<Inner>,
    told: watch::Sender<()>,
}

#[derive(Debug)]
struct Inner {
    events: [Ring<Arc<Encoded>>; 3],
    present: BTreeMap<ByteString, Arc<Encoded>>,
    /// Changes of who is connected, and among them who has gone.
    last: u64,
    gone: Ring<(u64, ByteString)>,
}

#[derive(Debug)]
struct Ring<T> {
    /// The number before all of this run.
    zero: u64,
    /// The number of the last.
    last: u64,
    kept: VecDeque<T>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A client has said who it is.
    Connect,
    /// Its stream has ended.
    Disconnect,
    /// It refuses a response.
    Nack,
}

/// What is new of a type.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The number up to which it is told.
    pub(super) at: u64,
    pub(super) resources: Vec<Arc<Encoded>>,
    pub(super) gone: Vec<ByteString>,
    /// So many are no longer known.
    pub(super) lost: u64,
}

/// Whether a type is followed here rather than in the table.
pub(super) fn is_ring(type_url: &str) -> bool {
    type_url == CONNECTIONS || EVENTS.contains(&type_url)
}

impl Rings {
    /// Numbers begin after `start`.
    pub(super) fn new(start: u64) -> Self {
        let events = std::array::from_fn(|_| Ring::new(start));
        let inner = Inner { events, present: BTreeMap::new(), last: start, gone: Ring::new(start) };
        Self { inner: Mutex::new(inner), told: watch::Sender::new(()) }
    }

    pub(super) fn connected(&self, id: &ByteString, node: &Node) {
        let node = encode(node);
        let mut inner = self.inner.lock();
        inner.happened(Happening::Connect, NODE, &node);
        inner.last += 1;
        let resource = encoded(inner.last, id.clone(), NODE, &node);
        inner.present.insert(id.clone(), resource);
        drop(inner);
        self.told.send_replace(());
    }

    pub(super) fn disconnected(&self, id: &ByteString, node: &Node) {
        let mut inner = self.inner.lock();
        if inner.present.remove(id).is_none() {
            return;
        }
        inner.happened(Happening::Disconnect, NODE, &encode(node));
        inner.last += 1;
        let gone = (inner.last, id.clone());
        inner.gone.push(gone);
        drop(inner);
        self.told.send_replace(());
    }

    pub(super) fn refused(&self, request: &DiscoveryRequest) {
        self.inner.lock().happened(Happening::Nack, REQUEST, &request.encode_to_vec());
        self.told.send_replace(());
    }

    /// What of a kind of events came after a number; all that is kept after 0.
    pub(super) fn since(&self, type_url: &str, after: u64) -> News {
        let inner = self.inner.lock();
        let ring = EVENTS.iter().position(|event| *event == type_url).and_then(|at| inner.events.get(at));
        ring.map(|ring| ring.since(after)).unwrap_or_default()
    }

    /// Who has come after a number, and who of those that were `there` has gone. Where it is no longer known who has gone
    /// since the number, all who are connected are told.
    pub(super) fn connections_since(&self, after: u64, there: &HashSet<ByteString>) -> News {
        self.inner.lock().connections_since(after, there)
    }

    /// Told when there is something new.
    pub(super) fn follow(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }
}

impl Inner {
    fn happened(&mut self, happening: Happening, type_url: &str, value: &[u8]) {
        let Some(ring) = self.events.get_mut(happening as usize) else { return };
        let number = ring.last + 1;
        ring.push(encoded(number, number.to_string().into(), type_url, value));
    }

    fn connections_since(&self, after: u64, there: &HashSet<ByteString>) -> News {
        // Of who has gone before the first that is kept nothing is known.
        let full = self.gone.kept.len() == KEPT;
        let oldest = self.gone.kept.front().map_or(0, |(number, _)| *number);
        let known = after >= self.gone.zero && after <= self.last && !(full && after < oldest);
        let from = if known { after } else { 0 };
        let resources = self.present.values().filter(|resource| resource.seq.0 > from).cloned().collect();
        let since = self.gone.kept.iter().filter(|(number, _)| known && *number > after);
        let missing = there.iter().filter(|id| !known && !self.present.contains_key(*id));
        let gone = since.map(|(_, id)| id).chain(missing).cloned().collect();
        News { at: self.last, resources, gone, lost: u64::from(!known && after > 0) }
    }
}

impl<T> Ring<T> {
    fn new(start: u64) -> Self {
        Self { zero: start, last: start, kept: VecDeque::new() }
    }

    fn push(&mut self, one: T) {
        self.last += 1;
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(one);
    }

    /// The number before the first that is kept.
    fn start(&self) -> u64 {
        self.last.saturating_sub(self.kept.len() as u64)
    }
}

impl Ring<Arc<Encoded>> {
    fn since(&self, after: u64) -> News {
        // A number that is not reached yet is of no run of ours: all is told.
        let after = if after > self.last { 0 } else { after };
        let start = self.start();
        let lost = if after == 0 { 0 } else { start.saturating_sub(after.max(self.zero)) };
        let known = after.saturating_sub(start) as usize;
        let resources = self.kept.iter().skip(known).cloned().collect();
        News { at: self.last, resources, gone: Vec::new(), lost }
    }
}

fn encoded(number: u64, name: ByteString, type_url: &str, value: &[u8]) -> Arc<Encoded> {
    Arc::new(Encoded::new(Seq(number), name, number.to_string().into(), type_url, value))
}

fn encode(node: &Node) -> Vec<u8> {
    let long = node.metadata.as_ref().is_some_and(|metadata| metadata.encoded_len() > METADATA_MAX);
    if long { Node { metadata: None, ..node.clone() }.encode_to_vec() } else { node.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(news: &News) -> Vec<&str> {
        news.resources.iter().map(|resource| &*resource.name).collect()
    }

    #[test]
    fn the_last_thousand_are_kept_and_what_is_lost_is_counted() {
        let rings = Rings::new(100);
        let request = DiscoveryRequest::default();
        for _ in 0..KEPT + 5 {
            rings.refused(&request);
        }
        let all = rings.since("istio.io/nack", 0);
        assert_eq!((all.resources.len(), all.lost, all.at), (KEPT, 0, 1105));
        assert_eq!(names(&rings.since("istio.io/nack", 1103)), ["1104", "1105"]);
        let late = rings.since("istio.io/nack", 101);
        assert_eq!((late.resources.len(), late.lost), (KEPT, 4));
        let earlier_run = rings.since("istio.io/nack", 7);
        assert_eq!((earlier_run.resources.len(), earlier_run.lost), (KEPT, 5));
        assert_eq!(rings.since("istio.io/nack", 5000).resources.len(), KEPT, "a number of nobody");
        assert!(rings.since("istio.io/nack", 1105).resources.is_empty());
    }

    #[test]
    fn who_is_connected_is_told_with_who_has_gone_since() {
        let rings = Rings::new(100);
        let (a, b, node) = (ByteString::from("a"), ByteString::from("b"), Node::default());
        rings.connected(&a, &node);
        rings.connected(&b, &node);
        let (none, there) = (HashSet::new(), HashSet::from_iter([a.clone(), b.clone()]));
        let first = rings.connections_since(0, &none);
        assert_eq!((names(&first), first.at), (vec!["a", "b"], 102));
        rings.disconnected(&a, &node);
        rings.disconnected(&a, &node);
        let second = rings.connections_since(first.at, &there);
        assert_eq!((names(&second), &second.gone[..], second.lost), (vec![], std::slice::from_ref(&a), 0));
        let again = rings.connections_since(0, &there);
        assert_eq!((names(&again), &again.gone[..]), (vec!["b"], std::slice::from_ref(&a)));
        assert_eq!(rings.since("istio.io/connect", 0).resources.len(), 2);
        assert_eq!(rings.since("istio.io/disconnect", 0).resources.len(), 1);
        assert_eq!(rings.connections_since(7, &none).lost, 1, "a number of an earlier run");
        assert_eq!(rings.connections_since(5000, &none).lost, 1, "a number of nobody");
        for _ in 0..=KEPT {
            rings.connected(&a, &node);
            rings.disconnected(&a, &node);
        }
        let late = rings.connections_since(first.at, &there);
        assert_eq!((names(&late), &late.gone[..], late.lost), (vec!["b"], std::slice::from_ref(&a), 1));
    }
}
