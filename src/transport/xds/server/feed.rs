//! The feed of a scope: one subscription to the bus for all streams, which finds for each change the streams that
//! want it.
//!
//! A change costs as much as there are streams that want it. What streams look up in the table and what a feed tells
//! are kept in step by one short lock: under it a stream says what it wants and takes its snapshot, and the feed
//! checks a change against the table and tells it. So nothing is missed in between, and no stream is told an older
//! state after a newer one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::aliases::Aliases;
use super::full::{Full, Fulls, Parts};
use super::inbox::{Entry, Inbox, Waiting};
use super::item::{Batch, Item, name_of};
use crate::core::bus::Ingress;
use crate::core::consumer::Overflow;
use crate::core::record::Records;
use crate::core::selector::Selector;
use crate::core::state::{Held, Snapshot};
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::{Change, Seq};
use crate::runtime::shutdown::Shutdown;
use crate::schema::aliases;
use crate::transport::xds::codec::demand::Interest;
use crate::transport::xds::codec::kinds::kind_of;

/// Most changes that wait for a feed; beyond, its streams look up what they missed.
const WAITING_MAX: usize = 65_536;
/// How often aliases are looked for beside changes, before these have to wait.
const SCANS_MAX: usize = 3;

/// What all streams of a scope share.
#[derive(Debug)]
pub(super) struct Feed {
    bus: Ingress,
    scope: ByteString,
    index: Mutex<Index>,
    fulls: Fulls,
    next_inbox: AtomicU64,
}

/// Who wants what.
#[derive(Debug, Default)]
struct Index {
    types: HashMap<ByteString, Takers>,
    /// Of all streams.
    inboxes: HashMap<u64, Arc<Inbox>>,
    /// Whether streams are to end.
    draining: bool,
    /// Of types of which one was looked for.
    aliases: HashMap<ByteString, Aliases>,
    /// All that was changed up to here is told.
    told: Seq,
}

/// Who wants something of a type.
#[derive(Debug, Default)]
struct Takers {
    all: HashMap<u64, Arc<Inbox>>,
    prefixes: BTreeMap<ByteString, Vec<Arc<Inbox>>>,
    names: HashMap<ByteString, Vec<Arc<Inbox>>>,
    /// Its last change that was told.
    changed: Seq,
}

/// A publication's changes of one type.
struct Changed {
    type_url: ByteString,
    rank: (bool, u8),
    items: Vec<Arc<Item>>,
}

impl Feed {
    /// Begins to follow a scope. The subscription is to be run by [`follow`].
    pub(super) fn open(bus: &Ingress, scope: ByteString) -> (Arc<Self>, Option<Subscription>) {
        let selector = Selector { scope: Some(scope.clone()), ..Selector::default() };
        // From now on nothing of the log is needed, so none of it can be gone.
        let subscription = bus.subscribe(selector, Start::Now, WAITING_MAX, Overflow::DropOldest).ok();
        let feed = Self {
            bus: bus.clone(),
            scope,
            index: Mutex::default(),
            fulls: Fulls::default(),
            next_inbox: AtomicU64::new(0),
        };
        feed.index.lock().told = bus.snapshot().seq();
        (Arc::new(feed), subscription)
    }

    /// A new inbox for up to `max` changes, until the stream [leaves](Self::leave).
    pub(super) fn inbox(&self, peer: SocketAddr, max: usize) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::new(self.next_inbox.fetch_add(1, Ordering::Relaxed), peer, max));
        let mut index = self.index.lock();
        index.inboxes.insert(inbox.id, Arc::clone(&inbox));
        if index.draining {
            inbox.end();
            inbox.ring();
        }
        inbox
    }

    /// Takes a stream off the index: all it wants is dropped.
    pub(super) fn leave(&self, inbox: &Inbox) {
        self.index.lock().inboxes.remove(&inbox.id);
    }

    /// The scope.
    pub(super) fn scope(&self) -> &ByteString {
        &self.scope
    }

    /// Whether the scope is filled, so that what is absent is gone.
    pub(super) fn is_settled(&self) -> bool {
        self.bus.settled().contains(&self.scope)
    }

    /// Waits until it is.
    pub(super) async fn settled(&self) {
        self.bus.settled().wait(&self.scope).await;
    }

    /// Changes what a stream is told of a type, and gives the table as it is at this moment with all that was told
    /// before.
    pub(super) fn want(
        &self,
        inbox: &Arc<Inbox>,
        type_url: &ByteString,
        added: &[Interest],
        dropped: &[Interest],
    ) -> (Snapshot, Waiting) {
        let mut index = self.index.lock();
        if !added.is_empty() || !dropped.is_empty() {
            // What nobody wanted has not been followed: from now on it is.
            let fresh = Takers { changed: index.told, ..Takers::default() };
            let takers = index.types.entry(type_url.clone()).or_insert(fresh);
            for interest in dropped {
                takers.remove(inbox, interest);
            }
            for interest in added {
                takers.add(inbox, interest);
            }
            if takers.is_empty() {
                index.types.remove(type_url);
                index.aliases.remove(type_url);
            }
        }
        (self.bus.snapshot(), inbox.take())
    }

    /// Takes what waits for a stream, with the table at this moment.
    pub(super) fn look(&self, inbox: &Inbox) -> (Snapshot, Waiting) {
        let _told = self.index.lock();
        (self.bus.snapshot(), inbox.take())
    }

    /// All of a type as responses; shared by those who ask for it between two changes.
    pub(super) fn full(&self, wanted: Full, snapshot: &Snapshot) -> Arc<Parts> {
        let changed = self.index.lock().types.get(&wanted.type_url).map(|takers| takers.changed);
        self.fulls.get(wanted, &self.scope, changed.unwrap_or_default(), snapshot)
    }

    /// The name of the resource that has an alias.
    pub(super) fn named(&self, type_url: &ByteString, alias: &ByteString) -> Option<ByteString> {
        // Looked for once; from then on changes tell.
        for _ in 0..SCANS_MAX {
            let index = self.index.lock();
            if let Some(aliases) = index.aliases.get(type_url) {
                return aliases.name(alias).cloned();
            }
            // Of now, not of when the caller looked: what was told in between would be missed for ever.
            let (changed, snapshot) = (index.types.get(type_url)?.changed, self.bus.snapshot());
            drop(index);
            let aliases = self.scan(type_url, &snapshot);
            let mut index = self.index.lock();
            // What was told meanwhile is not in it.
            if index.types.get(type_url)?.changed == changed {
                index.aliases.insert(type_url.clone(), aliases);
            }
        }
        let mut index = self.index.lock();
        index.types.get(type_url)?;
        let scan = || self.scan(type_url, &self.bus.snapshot());
        index.aliases.entry(type_url.clone()).or_insert_with(scan).name(alias).cloned()
    }

    fn scan(&self, type_url: &ByteString, snapshot: &Snapshot) -> Aliases {
        let mut found = Aliases::default();
        for record in snapshot.range(Some(&self.scope), Some(type_url), None).map(Held::record) {
            found.note(name_of(&record), &aliases::of(&record.envelope.extensions));
        }
        found
    }

    /// Tells changes to those who want them.
    fn tell(&self, records: &Records) {
        let Some(last) = records.last().map(|record| record.seq) else { return };
        let mut told = Vec::new();
        let mut index = self.index.lock();
        let before = index.told;
        index.told = last;
        let snapshot = self.bus.snapshot();
        for changed in changes(records, &index, &snapshot, last) {
            if let Some(aliases) = index.aliases.get_mut(&changed.type_url) {
                for item in &changed.items {
                    aliases.note(item.name(), if item.is_removed() { &[] } else { &item.aliases });
                }
            }
            if let Some(takers) = index.types.get_mut(&changed.type_url) {
                takers.changed = last;
                takers.tell(changed, before, &mut told);
            }
        }
        drop(index);
        ring(told);
        self.fulls.give_up(Instant::now());
    }

    /// Tells all streams that they have to look up what they missed.
    fn tell_lost(&self, seq: Seq) {
        let mut lost = Vec::new();
        let mut index = self.index.lock();
        let before = std::mem::replace(&mut index.told, seq);
        index.aliases.clear();
        for takers in index.types.values_mut() {
            takers.changed = seq;
            let names = takers.prefixes.values().chain(takers.names.values()).flatten();
            lost.extend(takers.all.values().chain(names).cloned());
        }
        for inbox in &lost {
            inbox.lose(before);
        }
        drop(index);
        ring(lost);
    }

    /// Tells all streams to end, also those that come.
    fn drain(&self) {
        let mut index = self.index.lock();
        index.draining = true;
        let all: Vec<_> = index.inboxes.values().cloned().collect();
        for inbox in &all {
            inbox.end();
        }
        drop(index);
        ring(all);
    }
}

/// Wakes streams: without the lock, which they take. Those of one connection together, as what they send is one write.
fn ring(mut inboxes: Vec<Arc<Inbox>>) {
    inboxes.sort_unstable_by_key(|inbox| (inbox.peer, inbox.id));
    inboxes.dedup_by_key(|inbox| inbox.id);
    for inbox in inboxes {
        inbox.ring();
    }
}

/// Runs a feed until the end of the shutdown.
pub(super) async fn follow(feed: Arc<Feed>, mut subscription: Subscription, shutdown: Shutdown) {
    let (mut resync, mut draining) = (false, false);
    loop {
        let message = tokio::select! {
            message = subscription.next() => message,
            () = shutdown.drain(), if !draining => {
                draining = true;
                feed.drain();
                continue;
            }
            () = shutdown.end() => return,
        };
        match message {
            // The bus has closed.
            None | Some(Message::Gone(_)) => return feed.drain(),
            Some(message) => feed.on(message, &mut resync),
        }
    }
}

impl Feed {
    fn on(&self, message: Message, resync: &mut bool) {
        match message {
            Message::Batch(records) if !*resync => self.tell(&records),
            Message::Batch(_) | Message::Lost(_) | Message::Gone(_) => {}
            Message::SnapshotBegin => *resync = true,
            Message::SnapshotEnd(seq) => {
                *resync = false;
                self.tell_lost(seq);
            }
        }
    }
}

/// The changes that are wanted and that still are the state of their key, in the order in which they can be told.
///
/// Those of a key that has changed since are left out: the later change comes, too. What is removed of types to which
/// others refer is last, so that whoever looks in between finds no reference to what is not there.
fn changes(records: &Records, index: &Index, snapshot: &Snapshot, at: Seq) -> Vec<Changed> {
    let mut changes: Vec<Changed> = Vec::new();
    for record in records.iter() {
        let (Change::Put(key, _) | Change::Delete(key, ..)) = &record.envelope.change else { continue };
        if !index.types.contains_key(&key.type_url) {
            continue;
        }
        let removed = matches!(record.envelope.change, Change::Delete(..));
        let current = snapshot.held(key).map(|held| held.seq());
        if current != (!removed).then_some(record.seq) {
            continue;
        }
        let kind = kind_of(&key.type_url);
        let rank = (removed && kind.removed_last, kind.rank);
        let item = Arc::new(Item::new(Arc::clone(record), at));
        match changes.iter_mut().find(|changed| changed.rank == rank && changed.type_url == key.type_url) {
            Some(changed) => changed.items.push(item),
            None => changes.push(Changed { type_url: key.type_url.clone(), rank, items: vec![item] }),
        }
    }
    changes.sort_by_key(|changed| changed.rank);
    changes
}

impl Takers {
    /// Leaves changes in the inboxes of those who want them, which are then to be rung for.
    fn tell(&self, changed: Changed, before: Seq, told: &mut Vec<Arc<Inbox>>) {
        let Changed { type_url, items, .. } = changed;
        if !self.names.is_empty() || !self.prefixes.is_empty() {
            for item in &items {
                self.tell_named(&type_url, item, before, told);
            }
        }
        if !self.all.is_empty() {
            let batch = Arc::new(Batch::new(type_url, items));
            self.all.values().for_each(|inbox| inbox.push(Entry::Batch(Arc::clone(&batch)), before));
            told.extend(self.all.values().cloned());
        }
    }

    fn tell_named(&self, type_url: &ByteString, item: &Arc<Item>, before: Seq, told: &mut Vec<Arc<Inbox>>) {
        let name = item.name();
        let prefixes = if self.prefixes.is_empty() { None } else { Some(name.match_indices('/')) };
        let prefixed =
            prefixes.into_iter().flatten().filter_map(|(at, _)| self.prefixes.get(name.get(..=at)?));
        // Also those who asked by a name that it lost: for them it is gone.
        let aliased = item.aliases.iter().chain(&item.lost).filter_map(|alias| self.names.get(alias));
        for inbox in self.names.get(name).into_iter().chain(aliased).chain(prefixed).flatten() {
            inbox.push(Entry::One(type_url.clone(), Arc::clone(item)), before);
            told.push(Arc::clone(inbox));
        }
    }

    fn add(&mut self, inbox: &Arc<Inbox>, interest: &Interest) {
        match interest {
            Interest::All => drop(self.all.insert(inbox.id, Arc::clone(inbox))),
            Interest::Prefix(prefix) => {
                self.prefixes.entry(prefix.clone()).or_default().push(Arc::clone(inbox));
            }
            Interest::Name(name) => self.names.entry(name.clone()).or_default().push(Arc::clone(inbox)),
        }
    }

    fn remove(&mut self, inbox: &Inbox, interest: &Interest) {
        match interest {
            Interest::All => drop(self.all.remove(&inbox.id)),
            Interest::Prefix(prefix) => {
                if let Some(inboxes) = self.prefixes.get_mut(prefix)
                    && without(inboxes, inbox)
                {
                    self.prefixes.remove(prefix);
                }
            }
            Interest::Name(name) => {
                if let Some(inboxes) = self.names.get_mut(name)
                    && without(inboxes, inbox)
                {
                    self.names.remove(name);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.prefixes.is_empty() && self.names.is_empty()
    }
}

/// Takes an inbox out; whether none is left.
fn without(inboxes: &mut Vec<Arc<Inbox>>, inbox: &Inbox) -> bool {
    if let Some(at) = inboxes.iter().position(|have| have.id == inbox.id) {
        inboxes.swap_remove(at);
    }
    inboxes.is_empty()
}
