//! The bus: publish, write, get, list, subscribe and resync over one log and one state table.
//!
//! One short lock orders everything: under it a batch is numbered, applied to the table, matched against
//! the topic trie and handed to the queues of those who match. No lock is held across an await, and whoever
//! reads filters what it took on its own task.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::{Notify, mpsc};

use super::access::Access;
use super::consumer::{Consumer, Overflow, Role};
use super::envelope::{Envelope, Key, Seq};
use super::error::Refused;
use super::fan_out::{Matched, Sets, Staged};
use super::log::{Gone, Log, MemoryLog, Ring, RingBound, RingFigures};
use super::receipt::Receipt;
use super::record::Record;
use super::resync::Resync;
use super::selector::{Selector, TopicFilter};
use super::settled::Settled;
use super::state::{Held, Snapshot, State, StateBound};
use super::subscription::{Start, Subscription};
use super::trie::{MatchCache, Trie};
use super::write::{Owner, Ownership, Write, Writes};

/// Snapshots kept for listings that are read page by page.
const PAGED_SNAPSHOTS: usize = 16;
/// Writes that may wait for one connector.
const WRITES_WAITING: usize = 256;

/// What a bus is made with.
#[derive(Clone, Debug)]
pub struct BusOptions {
    /// Its stable name: the origin it marks, and by which it knows what has been here before.
    pub name: ByteString,
    /// The ring of state changes.
    pub changes: RingBound,
    /// The ring of events.
    pub events: RingBound,
    /// The state table.
    pub state: StateBound,
    /// The heaviest envelope taken, in bytes.
    pub max_event: usize,
    /// An event that passed so many buses is in a loop.
    pub max_hops: i32,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            name: "meshbus".into(),
            changes: RingBound::default(),
            events: RingBound::default(),
            state: StateBound::default(),
            max_event: 16 << 20,
            max_hops: 16,
        }
    }
}

/// The bus. Clones share it.
#[derive(Clone)]
pub struct Bus(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) options: BusOptions,
    pub(crate) access: ArcSwap<Access>,
    pub(crate) inner: Mutex<Inner>,
    /// Told when a publisher that waits may try again.
    pub(crate) room: Notify,
    /// Blocking subscriptions over their limit: publishers wait while there is one.
    pub(crate) full: AtomicUsize,
    /// Envelopes not logged because they had been on this bus before.
    pub(crate) looped: AtomicU64,
    settled: Settled,
}

/// What the lock guards.
pub(crate) struct Inner {
    pub(crate) log: Box<dyn Log>,
    pub(crate) state: State,
    /// Topic filter → (consumer, index of the filter among its filters).
    pub(crate) trie: Trie<(u64, u32)>,
    /// Those without a topic filter, who take every topic, and how often that list has changed.
    pub(crate) everything: (Vec<(u64, u32)>, u64),
    pub(crate) cache: MatchCache<Arc<Matched>>,
    pub(crate) sets: Sets,
    pub(crate) staged: Staged,
    /// By their number.
    pub(crate) consumers: Slab<Arc<Consumer>>,
    pub(crate) owners: HashMap<ByteString, Owner>,
    pages: VecDeque<(Seq, Snapshot)>,
}

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The position the listing shows; a watch continues after it.
    pub seq: Seq,
    /// The records that made each key what it is, in order of key.
    pub items: Vec<Arc<Record>>,
    /// Ask again with `at: seq` and `after: next` for more; `None` at the end.
    pub next: Option<Key>,
}

/// How full the bus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The last sequence given.
    pub seq: Seq,
    /// The ring of changes.
    pub changes: RingFigures,
    /// The ring of events.
    pub events: RingFigures,
    /// Keys in the table.
    pub keys: usize,
    /// Bytes in the table.
    pub state_bytes: usize,
    /// Routes and subscriptions.
    pub consumers: usize,
    /// Envelopes refused because they had been here before.
    pub looped: u64,
}

impl Bus {
    /// A bus with an empty log in memory.
    pub fn new(options: BusOptions) -> Self {
        let log = MemoryLog::new(options.changes, options.events);
        Self::with_log(options, Box::new(log))
    }

    /// A bus on this log, which must be empty.
    pub fn with_log(options: BusOptions, log: Box<dyn Log>) -> Self {
        let start = Seq(log.next_seq().0.saturating_sub(1));
        let inner = Inner {
            state: State::new(options.state, start),
            log,
            trie: Trie::new(),
            everything: (Vec::new(), 0),
            cache: MatchCache::default(),
            sets: Sets::default(),
            staged: Staged::default(),
            consumers: Slab::new(),
            owners: HashMap::from_iter([(ByteString::from_static(Key::LOCAL), Owner::Local)]),
            pages: VecDeque::new(),
        };
        Self(Arc::new(Shared {
            options,
            access: ArcSwap::default(),
            inner: Mutex::new(inner),
            room: Notify::new(),
            full: AtomicUsize::new(0),
            looped: AtomicU64::new(0),
            settled: Settled::default(),
        }))
    }

    /// The bus's stable name.
    pub fn name(&self) -> &ByteString {
        &self.0.options.name
    }

    /// Most bytes one event may weigh, with what the bus adds to it.
    pub fn max_event(&self) -> usize {
        self.0.options.max_event
    }

    /// Who may do what, now.
    pub fn access(&self) -> Arc<Access> {
        self.0.access.load_full()
    }

    /// Takes the rules of who may do what as they are now, where others have come: costs nothing where not.
    pub fn renew_access(&self, access: &mut Arc<Access>) {
        let now = self.0.access.load();
        if !Arc::ptr_eq(&now, access) {
            *access = Arc::clone(&now);
        }
    }

    /// Replaces the rules of who may do what.
    pub fn set_access(&self, access: Access) {
        self.0.access.store(Arc::new(access));
    }

    /// The bus as the connector `name` sees it, which owns the key space `scope`.
    pub fn ingress(&self, name: impl Into<ByteString>, scope: impl Into<ByteString>) -> Ingress {
        Ingress { bus: self.clone(), connector: name.into(), scope: scope.into() }
    }

    /// Publishes a batch in order as the bus itself; see [`Ingress::publish`].
    pub async fn publish(&self, batch: Vec<Envelope>) -> Vec<Receipt> {
        self.publish_as(&ByteString::new(), &ByteString::from_static(Key::LOCAL), false, batch).await
    }

    /// The record that made the key what it is.
    pub fn get(&self, key: &Key) -> Option<Arc<Record>> {
        // Put together again where it is packed, which needs no lock.
        let held = self.0.inner.lock().state.held(key);
        held.map(|held| held.record())
    }

    /// The whole table as it is now: a clone that costs nothing and never changes.
    pub fn snapshot(&self) -> Snapshot {
        Arc::new(self.0.inner.lock().state.clone())
    }

    /// The keys that match, in order, at most `limit`, those after `after` only.
    ///
    /// With `at` it shows the same position as an earlier page did.
    ///
    /// # Errors
    /// [`Gone`] when that position is no longer kept: only the last 16 listings with further pages are.
    pub fn list(
        &self,
        selector: &Selector,
        at: Option<Seq>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, Gone> {
        let snapshot = match at {
            None => self.snapshot(),
            Some(at) => {
                let inner = self.0.inner.lock();
                let kept = inner.pages.iter().find(|(seq, _)| *seq == at);
                let oldest = inner.state.seq();
                kept.map(|(_, snapshot)| Arc::clone(snapshot)).ok_or(Gone { oldest })?
            }
        };
        let matching = |record: &Arc<Record>| selector.matches(&record.envelope).unwrap_or(false);
        let range = snapshot.range(selector.scope.as_deref(), selector.type_url.as_deref(), after);
        let mut found = range.map(Held::record).filter(matching);
        let items: Vec<_> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        let next = items.last().filter(|_| more).and_then(|record| record.envelope.change.key().cloned());
        if next.is_some() && at.is_none() {
            let mut inner = self.0.inner.lock();
            if inner.pages.len() >= PAGED_SNAPSHOTS {
                inner.pages.pop_front();
            }
            inner.pages.push_back((snapshot.seq(), Arc::clone(&snapshot)));
        }
        Ok(Page { seq: snapshot.seq(), items, next })
    }

    /// The newest events the log holds, at most `limit`, in order.
    pub fn recent_events(&self, limit: usize) -> Vec<Arc<Record>> {
        self.0.inner.lock().log.newest(Ring::Events, limit)
    }

    /// Follows what matches from `start` on. At most `max` records wait for the reader; then state is
    /// resynchronised from the table and events are treated as `overflow` says.
    ///
    /// # Errors
    /// [`Gone`] when `start` is a position that the log no longer holds or has not reached.
    pub fn subscribe(
        &self,
        selector: Selector,
        start: Start,
        max: usize,
        overflow: Overflow,
    ) -> Result<Subscription, Gone> {
        let role = Role::Subscription { max: max.max(1), overflow, changes_only: selector.is_of_state() };
        Subscription::open(self.clone(), selector, start, role)
    }

    /// Registers who owns a key space. With `writable` the connector gets the writes of its keys.
    ///
    /// A scope has one owner: registering it again replaces the owner, as a reload does.
    pub fn own(&self, scope: ByteString, connector: ByteString, writable: bool) -> Writes {
        let (sender, receiver) = mpsc::channel::<Write>(WRITES_WAITING);
        let owner = if writable { Owner::Connector(connector, sender) } else { Owner::ReadOnly(connector) };
        if scope != Key::LOCAL {
            self.0.inner.lock().owners.insert(scope, owner);
        }
        Writes(receiver)
    }

    /// Ends a key space whose owner is gone for good: what it holds is deleted.
    pub async fn withdraw(&self, scope: &ByteString) {
        drop(self.ingress(scope.clone(), scope.clone()).resync(None).commit().await);
        self.0.inner.lock().owners.remove(scope);
    }

    /// The key spaces, in order of name, each with who owns it.
    pub fn scopes(&self) -> Vec<(ByteString, Ownership)> {
        let inner = self.0.inner.lock();
        let mut scopes: Vec<_> =
            inner.owners.iter().map(|(scope, owner)| (scope.clone(), Ownership::from(owner))).collect();
        scopes.sort_by(|left, right| left.0.cmp(&right.0));
        scopes
    }

    /// Who owns a key space; `None` where there is none of that name.
    pub fn ownership(&self, scope: &str) -> Option<Ownership> {
        self.0.inner.lock().owners.get(scope).map(Ownership::from)
    }

    /// Which key spaces are filled.
    pub fn settled(&self) -> &Settled {
        &self.0.settled
    }

    /// How full it is.
    pub fn figures(&self) -> Figures {
        let inner = self.0.inner.lock();
        Figures {
            seq: inner.state.seq(),
            changes: inner.log.figures(Ring::Changes),
            events: inner.log.figures(Ring::Events),
            keys: inner.state.len(),
            state_bytes: inner.state.bytes(),
            consumers: inner.consumers.len(),
            looped: self.0.looped.load(Ordering::Relaxed),
        }
    }

    /// Registers a queue for these filters; under the lock nothing is missed between this and `with`.
    pub(crate) fn attach<T>(
        &self,
        role: Role,
        filters: &[Option<TopicFilter>],
        with: impl FnOnce(&mut Inner) -> T,
    ) -> (Arc<Consumer>, T) {
        let mut inner = self.0.inner.lock();
        let entry = inner.consumers.vacant_entry();
        let id = entry.key() as u64;
        let consumer = Consumer::new(id, role);
        entry.insert(Arc::clone(&consumer));
        for (index, filter) in filters.iter().enumerate() {
            match filter {
                Some(filter) => drop(inner.trie.insert(filter, (id, index as u32))),
                None => inner.everything.0.push((id, index as u32)),
            }
        }
        inner.everything.1 += 1;
        let result = with(&mut inner);
        (consumer, result)
    }

    /// Ends one queue and begins another under one lock: every record is put on exactly one of them.
    pub(crate) fn exchange(
        &self,
        old: &Consumer,
        old_filters: &[Option<TopicFilter>],
        role: Role,
        filters: &[Option<TopicFilter>],
    ) -> Arc<Consumer> {
        let (fresh, ()) = self.attach(role, filters, |inner| inner.detach(old, old_filters));
        old.close();
        fresh
    }

    /// Ends a queue: nothing is put on it any more. What waits on it can still be taken.
    pub(crate) fn detach(&self, consumer: &Consumer, filters: &[Option<TopicFilter>]) {
        self.0.inner.lock().detach(consumer, filters);
        consumer.close();
    }
}

impl Inner {
    fn detach(&mut self, consumer: &Consumer, filters: &[Option<TopicFilter>]) {
        for (index, filter) in filters.iter().enumerate() {
            if let Some(filter) = filter {
                self.trie.remove(filter, (consumer.id, index as u32));
            }
        }
        self.everything.0.retain(|(id, _)| *id != consumer.id);
        self.everything.1 += 1;
        drop(self.consumers.try_remove(consumer.id as usize));
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("name", self.name()).finish_non_exhaustive()
    }
}

/// The bus as one connector sees it: what it publishes carries its name. Derefs to [`Bus`].
#[derive(Clone, Debug)]
pub struct Ingress {
    bus: Bus,
    connector: ByteString,
    scope: ByteString,
}

impl Deref for Ingress {
    type Target = Bus;

    fn deref(&self) -> &Bus {
        &self.bus
    }
}

impl Ingress {
    /// Publishes a batch in order and gives a receipt for each.
    ///
    /// Waits while the log is full of what a `block` route has not answered, or a blocking subscription is
    /// over its limit. Dropped while waiting, what was not yet logged is not published.
    ///
    /// An envelope that is invalid, too heavy, on a reserved topic, or a change of a key outside this
    /// connector's scope is refused by its receipt; the others of the batch are not touched by that.
    pub async fn publish(&self, batch: Vec<Envelope>) -> Vec<Receipt> {
        self.bus.publish_as(&self.connector, &self.scope, false, batch).await
    }

    /// As [`publish`](Self::publish), but no route is told: the table is filled again with what routes were told
    /// before a restart, or with what they themselves have caused. Subscriptions and listings show it.
    pub async fn restore(&self, batch: Vec<Envelope>) -> Vec<Receipt> {
        self.bus.publish_as(&self.connector, &self.scope, true, batch).await
    }

    /// Starts to replace all state of this connector's scope: a relist, or a state of the world.
    pub fn resync(&self, type_url: Option<ByteString>) -> Resync {
        Resync::new(self.clone(), type_url)
    }

    /// The key space this connector owns.
    pub fn scope(&self) -> &ByteString {
        &self.scope
    }

    /// The connector's name.
    pub fn connector(&self) -> &ByteString {
        &self.connector
    }
}

/// A key-space name and the connector that owns it, for messages.
pub(crate) fn method_not_allowed(owner: &ByteString) -> Refused {
    Refused::MethodNotAllowed { owner: owner.clone() }
}
