//! Fan-out: who takes a topic, and handing each of them what one publication brought.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use hashbrown::HashMap;

use super::bus::{Inner, Shared};
use super::consumer::{Consumer, Entry, Role};
use super::envelope::{Cause, Change};
use super::publish::Origin;
use super::record::{Record, Records};
use super::route::{Inbox, Parcel, Seat, WORKERS_MAX};
use super::topic::Topic;

/// Sets of takers that are remembered; then all are found anew.
const SETS_MAX: usize = 8192;
/// Records for one consumer whose room is kept for the next publication.
const STAGED_KEPT: usize = 64;
/// As [`STAGED_KEPT`], for one worker.
const PARCELS_KEPT: usize = 1024;
/// Stands in a key of [`Sets`] for a topic of the bus itself, which not all take who take others.
const OWN: (u64, u32) = (u64::MAX, 0);

/// Who takes a topic: the consumers, and for routes which connectors it may come from.
#[derive(Debug)]
pub(crate) struct Matched {
    takers: Vec<(Arc<Consumer>, From)>,
    /// Whether one of them is a route.
    routes: bool,
}

/// Where a route takes a topic from.
#[derive(Debug)]
enum From {
    Anywhere,
    Connectors(Vec<ByteString>),
}

/// The sets of takers there are, so that topics which the same ones take share one.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    by_filters: HashMap<Vec<(u64, u32)>, Arc<Matched>>,
    epoch: u64,
    /// Room for the filters of the topic that is looked up.
    found: Vec<(u64, u32)>,
}

/// What each is to be handed, while a publication brings records for different ones. Empty between publications.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// For subscriptions, by the consumer's number.
    records: Vec<Vec<Arc<Record>>>,
    consumers: Vec<Arc<Consumer>>,
    /// For routes, by their worker; there are few.
    parcels: Vec<(Arc<Inbox>, Vec<Parcel>)>,
}

impl Inner {
    /// Who takes a topic, from the cache or the trie; `None` when the same do as took the `last`.
    fn matched(&mut self, topic: &Topic, last: Option<&Arc<Matched>>) -> Option<Arc<Matched>> {
        let epoch = self.trie.epoch() + self.everything.1;
        let other = |matched: &Arc<Matched>| !last.is_some_and(|last| Arc::ptr_eq(last, matched));
        if let Some(matched) = self.cache.get(topic, epoch) {
            return other(matched).then(|| Arc::clone(matched));
        }
        if self.sets.epoch != epoch || self.sets.by_filters.len() >= SETS_MAX {
            self.sets.by_filters.clear();
            self.sets.epoch = epoch;
        }
        let mut found = std::mem::take(&mut self.sets.found);
        found.clear();
        found.extend_from_slice(&self.everything.0);
        self.trie.collect(topic, &mut found);
        found.sort_unstable();
        if matches!(topic.levels().next(), Some("bus" | "dead")) {
            found.push(OWN);
        }
        let known = self.sets.by_filters.get(&found).map(Arc::clone);
        let matched = known.unwrap_or_else(|| {
            let matched = Arc::new(self.takers(&found));
            self.sets.by_filters.insert(found.clone(), Arc::clone(&matched));
            matched
        });
        self.sets.found = found;
        self.cache.put(topic, epoch, Arc::clone(&matched));
        other(&matched).then_some(matched)
    }

    /// The consumers behind filters that match, in order.
    fn takers(&self, found: &[(u64, u32)]) -> Matched {
        let own = found.last() == Some(&OWN);
        let mut takers: Vec<(Arc<Consumer>, From)> = Vec::with_capacity(found.len());
        for &(id, index) in found {
            let Some(consumer) = self.consumers.get(id as usize) else { continue };
            let connector = match &consumer.role {
                Role::Subscription { .. } => None,
                Role::Route { from, .. } => match from.get(index as usize) {
                    Some(source) if own && source.topic.is_none() => continue,
                    Some(source) => source.connector.clone(),
                    None => continue,
                },
            };
            match (takers.last_mut(), connector) {
                (Some((last, From::Connectors(list))), Some(connector)) if last.id == id => {
                    list.push(connector);
                }
                (Some((last, from)), None) if last.id == id => *from = From::Anywhere,
                (Some((last, From::Anywhere)), _) if last.id == id => {}
                (_, Some(connector)) => {
                    takers.push((Arc::clone(consumer), From::Connectors(vec![connector])));
                }
                (_, None) => takers.push((Arc::clone(consumer), From::Anywhere)),
            }
        }
        let routes = takers.iter().any(|(consumer, _)| matches!(consumer.role, Role::Route { .. }));
        Matched { takers, routes }
    }
}

/// The records of one publication on their way to those who take them.
///
/// As long as all have the same takers they become one batch that these share. From the first that has
/// others on, each consumer's are put together on their own, so that each is woken once and keeps the order.
pub(crate) struct Run<'a> {
    origin: &'a Origin<'a>,
    shared: &'a Shared,
    records: Vec<Arc<Record>>,
    matched: Option<Arc<Matched>>,
    staged: bool,
    /// Whether the records so far are none that routes are told.
    hidden: bool,
}

impl<'a> Run<'a> {
    /// For up to `most` records.
    pub(crate) fn new(origin: &'a Origin<'a>, shared: &'a Shared, most: usize) -> Self {
        Self {
            origin,
            shared,
            records: Vec::with_capacity(most),
            matched: None,
            staged: false,
            hidden: false,
        }
    }

    pub(crate) fn push(&mut self, record: Arc<Record>, inner: &mut Inner) {
        let hidden = self.origin.quiet || expired(&record);
        if hidden != self.hidden {
            if let Some(matched) = self.matched.clone().filter(|_| !self.records.is_empty()) {
                self.stage(&mut inner.staged);
                self.matched = Some(matched);
            }
            self.hidden = hidden;
        }
        if let Some(matched) = inner.matched(&record.envelope.topic, self.matched.as_ref()) {
            self.stage(&mut inner.staged);
            self.matched = Some(matched);
        }
        self.records.push(record);
    }

    pub(crate) fn finish(mut self, inner: &mut Inner) {
        if self.staged {
            self.stage(&mut inner.staged);
            return inner.staged.hand_on(&self.shared.full);
        }
        let Some(matched) = self.matched.take() else { return };
        self.claim(&matched);
        let entry = match self.records.pop() {
            Some(only) if self.records.is_empty() => Entry::One(only),
            Some(last) => {
                self.records.push(last);
                let records: Records = self.records.drain(..).collect();
                Entry::Batch(records)
            }
            None => return,
        };
        for (consumer, from) in &matched.takers {
            if self.takes(consumer, from) {
                consumer.push(entry.clone(), &self.shared.full);
            }
        }
    }

    /// Puts the records so far to those of each consumer.
    fn stage(&mut self, staged: &mut Staged) {
        let Some(matched) = self.matched.take() else { return };
        self.staged = true;
        self.claim(&matched);
        for (consumer, from) in &matched.takers {
            if self.takes(consumer, from) {
                staged.add(consumer, &self.records);
            }
        }
        self.records.clear();
    }

    /// Counts the routes that take the records so far, before any of them has one.
    fn claim(&self, matched: &Matched) {
        let (mut routes, mut holds) = (0, 0);
        if matched.routes {
            for (consumer, from) in &matched.takers {
                if let Role::Route { blocks, .. } = consumer.role
                    && self.takes(consumer, from)
                {
                    routes += 1;
                    holds += u32::from(blocks);
                }
            }
        }
        for record in &self.records {
            if holds > 0 {
                record.holds.fetch_add(holds, Ordering::Relaxed);
            }
            record.receipt.claim(routes);
        }
    }

    /// Whether a route takes what comes from here: the right connector, and not from itself.
    fn takes(&self, consumer: &Consumer, from: &From) -> bool {
        let Role::Route { route, .. } = &consumer.role else { return true };
        let itself = self.origin.via.as_ref().is_some_and(|via| via.contains(route));
        !self.hidden
            && !itself
            && match from {
                From::Anywhere => true,
                From::Connectors(connectors) => connectors.contains(self.origin.connector),
            }
    }
}

/// Whether it is the end of a time to live, which is no change that anybody made.
fn expired(record: &Record) -> bool {
    matches!(record.envelope.change, Change::Delete(_, _, Cause::Expired))
}

impl Staged {
    fn add(&mut self, consumer: &Arc<Consumer>, records: &[Arc<Record>]) {
        if let Role::Route { inbox, seat, blocks, .. } = &consumer.role {
            return self.add_parcels(inbox, *seat, *blocks, records);
        }
        let number = consumer.id as usize;
        if self.records.len() <= number {
            self.records.resize_with(number + 1, Vec::new);
        }
        let Some(waiting) = self.records.get_mut(number) else { return };
        if waiting.is_empty() {
            self.consumers.push(Arc::clone(consumer));
        }
        waiting.extend_from_slice(records);
    }

    fn add_parcels(&mut self, inbox: &Arc<Inbox>, seat: Seat, held: bool, records: &[Arc<Record>]) {
        let parcels =
            records.iter().map(|record| Parcel { seat, entry: Entry::One(Arc::clone(record)), held });
        match self.parcels.iter_mut().find(|(have, _)| Arc::ptr_eq(have, inbox)) {
            Some((_, waiting)) => waiting.extend(parcels),
            None => self.parcels.push((Arc::clone(inbox), parcels.collect())),
        }
    }

    fn hand_on(&mut self, full: &AtomicUsize) {
        for (inbox, parcels) in &mut self.parcels {
            inbox.push(parcels.drain(..));
            parcels.shrink_to(PARCELS_KEPT);
        }
        if self.parcels.len() > WORKERS_MAX {
            self.parcels.clear();
        }
        for consumer in self.consumers.drain(..) {
            let Some(waiting) = self.records.get_mut(consumer.id as usize) else { continue };
            let entry = match (waiting.len(), waiting.pop()) {
                (1, Some(only)) => Entry::One(only),
                (_, Some(last)) => {
                    waiting.push(last);
                    Entry::Batch(waiting.drain(..).collect())
                }
                (_, None) => continue,
            };
            waiting.shrink_to(STAGED_KEPT);
            consumer.push(entry, full);
        }
    }
}
