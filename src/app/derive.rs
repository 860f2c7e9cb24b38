//! Runs a derivation: follows what it reads, and keeps its scope at what it makes of that.
//!
//! It follows the table, not routes: after a restart these are told nothing of what is there unchanged. It waits until
//! what it reads is complete, then makes all of it once, and takes away what its scope has beside: of a run before, of
//! other settings. From then on each change makes its group anew. A group is always made of the table as it is, so that
//! what was missed, came twice or out of order makes no difference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use hashbrown::{HashMap, HashSet};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::core::consumer::Overflow;
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::derive::{Derivation, Derived, Resource};
use crate::core::record::Records;
use crate::core::selector::Selector;
use crate::core::state::version_of;
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::{Cause, Change, Envelope, Error, ErrorKind, Key, Outcome, Receipt, Record, Refused};
use crate::schema::address::topic_of;
use crate::transport::{Connector, Link};

/// What waits while groups are made; beyond, the table is read again.
const WAITING_MAX: usize = 65_536;
/// Changes this close together are one: a Service and its endpoints, the objects of a list.
const QUIET: Duration = Duration::from_millis(10);
/// For so long at most.
const GATHER_MAX: Duration = Duration::from_millis(200);
/// Groups made before it is others' turn.
const TURN: usize = 64;
/// Keys published at a time.
const BATCH: usize = 256;
/// Digits of a hash that is a version.
const VERSION_DIGITS: usize = 32;

/// A derivation that runs as a connector does: under the supervisor, with a scope of its own.
#[derive(Debug)]
pub(super) struct Deriver(pub(super) Arc<dyn Derivation>);

impl Connector for Deriver {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let (ready, shutdown) = (link.ready.clone(), link.shutdown.clone());
            let derivation = Arc::clone(&self.0);
            let result = tokio::select! {
                biased;
                () = shutdown.drain() => Ok(()),
                result = run(&*derivation, link) => result,
            };
            ready.ended(&result);
            result
        })
    }

    fn ingress(&self) -> Guarantee {
        let because = "made of the state in the table, anew whenever that changes";
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: because.into() }
    }
}

async fn run(derivation: &dyn Derivation, link: &mut Link) -> Result<(), Error> {
    let (source, bus, ready) = (derivation.source(), link.bus.clone(), link.ready.clone());
    // What the bus itself owns is filled by clients and routes at any time: there is no whole to wait for.
    if source != Key::LOCAL && !bus.settled().contains(source) {
        ready.down(format!("waiting until scope {source} is listed"));
        bus.settled().wait(source).await;
    }
    let mut work = Work::new(derivation, link)?;
    while !work.is_listed() {
        work.gather().await?;
    }
    let made = work.make().await;
    work.clear().await;
    made?;
    ready.stand_by();
    info!(derive = %link.name, source = %source, groups = work.groups.len(), "all is made");
    let refuse = async {
        let mut inbox = Vec::new();
        while link.deliveries.recv(&mut inbox, BATCH).await > 0 {
            for delivery in inbox.drain(..) {
                delivery.answer(Outcome::Rejected("a derivation is no sink".into()));
            }
        }
        std::future::pending::<()>().await;
    };
    let follow = async {
        loop {
            work.gather().await?;
            work.make().await?;
        }
    };
    // What it makes is whole when its source is.
    let settle = async {
        bus.settled().wait(source).await;
        ready.up();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = follow => result,
        () = refuse => Ok(()),
        () = settle => Ok(()),
    }
}

/// One run.
struct Work<'r> {
    derivation: &'r dyn Derivation,
    bus: crate::core::bus::Ingress,
    follows: Vec<Follow>,
    /// The group of each key that is read, and the other way round.
    group_of: HashMap<Key, ByteString>,
    groups: HashMap<ByteString, BTreeSet<Key>>,
    /// What was made of each group, and the group that has made a key.
    made: HashMap<ByteString, Made>,
    maker: HashMap<Key, ByteString>,
    /// Groups that are to be made anew.
    stale: BTreeSet<ByteString>,
}

#[derive(Default)]
struct Made {
    keys: Vec<Key>,
    refused: Vec<String>,
}

/// One type that is read.
struct Follow {
    subscription: Subscription,
    /// What a snapshot under way has named.
    named: Option<HashSet<Key>>,
    /// Whether there was a whole one.
    listed: bool,
    type_url: &'static str,
}

impl<'r> Work<'r> {
    fn new(derivation: &'r dyn Derivation, link: &Link) -> Result<Self, Error> {
        let follow = |type_url: &'static str| {
            let selector = Selector::state(derivation.source().clone(), type_url);
            let opened = link.bus.subscribe(selector, Start::Snapshot, WAITING_MAX, Overflow::DropOldest);
            let subscription = opened.map_err(|_gone| lost(derivation))?;
            Ok(Follow { subscription, named: None, listed: false, type_url })
        };
        let follows =
            derivation.types().iter().map(|type_url| follow(type_url)).collect::<Result<_, _>>()?;
        Ok(Self {
            derivation,
            bus: link.bus.clone(),
            follows,
            group_of: HashMap::new(),
            groups: HashMap::new(),
            made: HashMap::new(),
            maker: HashMap::new(),
            stale: BTreeSet::new(),
        })
    }

    fn is_listed(&self) -> bool {
        self.follows.iter().all(|follow| follow.listed)
    }

    /// Waits for a change, and takes what comes with it.
    async fn gather(&mut self) -> Result<(), Error> {
        let mut until = None;
        loop {
            let next = select_all(self.follows.iter_mut().map(|follow| follow.subscription.next().boxed()));
            let (message, at) = match until {
                None => {
                    let (message, at, _) = next.await;
                    until = Some(Instant::now() + GATHER_MAX);
                    (message, at)
                }
                Some(until) => match timeout_at(until.min(Instant::now() + QUIET), next).await {
                    Ok((message, at, _)) => (message, at),
                    Err(_quiet) => return Ok(()),
                },
            };
            self.take(at, message.ok_or_else(|| lost(self.derivation))?)?;
        }
    }

    fn take(&mut self, at: usize, message: Message) -> Result<(), Error> {
        match message {
            Message::Batch(records) => self.read(at, &records),
            Message::SnapshotBegin => self.follow(at, |follow| follow.named = Some(HashSet::new())),
            Message::SnapshotEnd(_) => self.listed(at),
            Message::Lost(_) | Message::Gone(_) => return Err(lost(self.derivation)),
        }
        Ok(())
    }

    fn follow(&mut self, at: usize, with: impl FnOnce(&mut Follow)) {
        if let Some(follow) = self.follows.get_mut(at) {
            with(follow);
        }
    }

    fn read(&mut self, at: usize, records: &Records) {
        for record in records.iter() {
            let Some(key) = record.envelope.change.key() else { continue };
            let group = match &record.envelope.change {
                Change::Put(..) => self.derivation.group(&record.envelope),
                Change::Delete(..) | Change::Occurred => None,
            };
            self.follow(at, |follow| {
                if let Some(named) = &mut follow.named {
                    named.insert(key.clone());
                }
            });
            self.place(key, group);
        }
    }

    /// A key belongs to this group from now on.
    fn place(&mut self, key: &Key, group: Option<ByteString>) {
        let before = match &group {
            Some(group) => self.group_of.insert(key.clone(), group.clone()),
            None => self.group_of.remove(key),
        };
        if let Some(before) = before.filter(|before| Some(before) != group.as_ref()) {
            if let Some(keys) = self.groups.get_mut(&before) {
                keys.remove(key);
                if keys.is_empty() {
                    self.groups.remove(&before);
                }
            }
            self.stale.insert(before);
        }
        if let Some(group) = group {
            self.groups.entry(group.clone()).or_default().insert(key.clone());
            self.stale.insert(group);
        }
    }

    /// What a whole snapshot has not named is gone.
    fn listed(&mut self, at: usize) {
        let Some(follow) = self.follows.get_mut(at) else { return };
        follow.listed = true;
        let Some(named) = follow.named.take() else { return };
        let type_url = follow.type_url;
        let known = self.group_of.keys().filter(|key| *key.type_url == *type_url);
        let gone: Vec<Key> = known.filter(|key| !named.contains(*key)).cloned().collect();
        for key in gone {
            self.place(&key, None);
        }
    }

    /// Makes what is stale, and publishes what is otherwise than before.
    ///
    /// # Errors
    /// Where the table does not take it: all is made again later.
    async fn make(&mut self) -> Result<(), Error> {
        let (mut puts, mut gone, mut result) = (Vec::new(), Vec::new(), Ok(()));
        for (n, group) in std::mem::take(&mut self.stale).into_iter().enumerate() {
            if n % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            let Derived { resources, refused } = self.derived(&group);
            let before = self.made.remove(&group).unwrap_or_default();
            for reason in refused.iter().filter(|reason| !before.refused.contains(reason)) {
                warn!(derive = %self.bus.connector(), reason, "not made");
            }
            let mut keys = Vec::with_capacity(resources.len());
            for resource in resources {
                if let Some((key, envelope)) = self.put(&group, resource) {
                    keys.push(key);
                    puts.extend(envelope);
                }
            }
            let now: HashSet<&Key> = keys.iter().collect();
            let lost: Vec<Key> = before.keys.into_iter().filter(|key| !now.contains(key)).collect();
            drop(now);
            for key in lost {
                self.maker.remove(&key);
                gone.push(key);
            }
            if !keys.is_empty() || !refused.is_empty() {
                self.made.insert(group, Made { keys, refused });
            }
            if puts.len() >= BATCH {
                result = result.and(self.publish(std::mem::take(&mut puts)).await);
            }
        }
        result = result.and(self.publish(puts).await);
        // Another group may have made one of them since.
        let gone = gone.into_iter().filter(|key| !self.maker.contains_key(key));
        let gone: Vec<Envelope> = gone.filter_map(|key| self.end(&key)).collect();
        // Also where the table is full: that makes room.
        self.publish(gone).await.and(result)
    }

    fn derived(&self, group: &ByteString) -> Derived {
        let keys = self.groups.get(group).into_iter().flatten();
        let inputs: Vec<Arc<Record>> = keys.filter_map(|key| self.bus.get(key)).collect();
        if inputs.is_empty() { Derived::default() } else { self.derivation.derive(group, &inputs) }
    }

    /// The key of a resource, and its change where the table has it otherwise; `None` where it cannot be one.
    fn put(&mut self, group: &ByteString, resource: Resource) -> Option<(Key, Option<Envelope>)> {
        let key = Key::new(self.bus.scope().clone(), resource.type_url, resource.name);
        let maker = self.maker.entry(key.clone()).or_insert_with(|| group.clone());
        if maker != group {
            warn!(derive = %self.bus.connector(), %group, %maker, %key, "not made: another has it");
            return None;
        }
        let topic = match topic_of(&key) {
            Ok(topic) => topic,
            Err(reason) => {
                warn!(derive = %self.bus.connector(), %group, %key, reason, "not made");
                self.maker.remove(&key);
                return None;
            }
        };
        // Of the value alone: the same value is no change, also after a restart.
        let digits = data_encoding::HEXLOWER.encode(&Sha256::digest(&resource.data));
        let version: String = digits.chars().take(VERSION_DIGITS).collect();
        if self.bus.get(&key).is_some_and(|held| *version_of(&held) == *version) {
            return Some((key, None));
        }
        let mut envelope = Envelope::put(topic, key.clone(), version, resource.data);
        envelope.datacontenttype = Some(ByteString::from_static(resource.media_type));
        Some((key, Some(envelope)))
    }

    fn end(&self, key: &Key) -> Option<Envelope> {
        let held = self.bus.get(key)?;
        let topic = held.envelope.topic.clone();
        Some(Envelope::delete(topic, key.clone(), version_of(&held), Cause::Deleted))
    }

    /// Deletes what its scope has and nobody has made.
    async fn clear(&self) {
        let mut resync = self.bus.resync(None);
        self.maker.keys().for_each(|key| resync.keep(key.clone()));
        drop(resync.commit().await);
    }

    async fn publish(&self, batch: Vec<Envelope>) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let receipts = self.bus.publish(batch).await;
        // Ten thousand groups are others' turn in between.
        tokio::task::yield_now().await;
        // What is gone already needs no deleting.
        let refused = |receipt: &Receipt| {
            receipt.stored().err().filter(|refused| !matches!(refused, Refused::NotFound)).cloned()
        };
        match receipts.iter().find_map(refused) {
            None => Ok(()),
            Some(refused) => {
                let peer = format!("scope {}", self.bus.scope());
                Err(Error::new(ErrorKind::Unreachable, peer).because(refused))
            }
        }
    }
}

fn lost(derivation: &dyn Derivation) -> Error {
    let peer = format!("scope {}", derivation.source());
    Error::new(ErrorKind::Disconnected, peer).because("what it tells was lost")
}
