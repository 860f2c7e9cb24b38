//! What a client knows and wants while a stream lasts: responses go in, requests come out. The stream itself is
//! [`stream`](super::stream)'s.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::google;
use meshbus_proto::xds::Node;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::intake::{Intake, Taken, Versions};
use crate::core::state::Held;
use crate::core::stats::ConnectorStats;
use crate::core::{Cause, DecodeError};
use crate::runtime::task;
use crate::schema::protobuf::Descriptors;
use crate::schema::registry::Registry;
use crate::transport::xds::codec::follow::Follow;
use crate::transport::xds::codec::received::{Fault, Received, refusal};
use crate::transport::xds::codec::refer::Reference;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::wants::{Request, Wants};
use crate::transport::xds::config::ClientConfig;
use crate::transport::{Link, Ready};

/// How long it may take until all that was asked for is answered: the protocol's own limit, after which what was not
/// told does not exist.
const ANSWERED: Duration = Duration::from_secs(15);
/// The same where a server was told the versions of what there is, as it says nothing of what has not changed.
const RESUMED: Duration = Duration::from_secs(2);
/// How long it must be quiet after the last response where how much there is cannot be known: it may come in parts.
const QUIET: Duration = Duration::from_millis(500);
/// How long a second refusal in a row waits: a server may send again what was refused, for ever. Each further one waits
/// twice as long.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(10);

/// Longer responses are read where that holds up nobody: each resource in them is decoded.
const LONG: usize = 256 << 10;

/// A client while a stream lasts.
pub(super) struct Session<'a> {
    name: ByteString,
    variant: Variant,
    /// Said with the first request.
    node: Option<Node>,
    intake: Intake<'a>,
    kinds: &'a Registry,
    stats: &'a ConnectorStats,
    ready: &'a Ready,
    types: BTreeMap<ByteString, OfType>,
    follow: Follow,
    outgoing: VecDeque<Bytes>,
    /// When it is ready, although not all was answered; `None` where it is.
    settled_at: Option<Instant>,
    /// That, at the latest.
    latest: Instant,
    /// Whether the table had all there is once, so that what it has is worth resuming.
    whole: bool,
    /// Types that came without being asked for: each is told once.
    strange: Vec<ByteString>,
    heard: bool,
}

/// One type on the stream.
struct OfType {
    wants: Wants,
    /// Whether versions were told with the first request.
    resumed: bool,
    /// Refusals in a row.
    refusals: u32,
    /// A refusal that waits, and until when: of what, and why.
    held: Option<(Instant, Received, google::Status)>,
}

impl<'a> Session<'a> {
    /// Begins with what the table has: what is wanted no more is deleted, the rest is asked for.
    pub(super) async fn begin(config: &ClientConfig, link: &'a Link, versions: &'a mut Versions) -> Self {
        let followed = config.subscribe.iter().filter(|entry| entry.follow);
        let follow = Follow::new(followed.map(|entry| entry.type_url.clone().into()), config.allow_secrets);
        let mut session = Self {
            name: link.name.clone(),
            variant: config.variant(),
            node: Some(config.node(link.bus.name())),
            intake: Intake::new(&link.bus, versions),
            kinds: &link.kinds,
            stats: &link.stats,
            ready: &link.ready,
            types: BTreeMap::new(),
            follow,
            outgoing: VecDeque::new(),
            settled_at: None,
            latest: Instant::now(),
            whole: link.bus.settled().contains(link.bus.scope()),
            strange: Vec::new(),
            heard: false,
        };
        for entry in &config.subscribe {
            let names = entry.names.iter().map(|name| ByteString::from(name.clone()));
            session.want(Wants::new(entry.type_url.clone().into(), names));
        }
        let led_to: Vec<ByteString> = session.follow.types().cloned().collect();
        for type_url in led_to {
            if !session.types.contains_key(&type_url) {
                session.want(Wants::new(type_url, []));
            }
        }
        session.look_around(link).await;
        let now = Instant::now();
        session.ask();
        let resumed = session.types.values().filter(|of| !of.wants.is_empty()).all(|of| of.resumed);
        session.latest = now + if resumed && session.whole { RESUMED } else { ANSWERED };
        session.settled_at = Some(session.latest);
        session
    }

    fn want(&mut self, wants: Wants) {
        let of = OfType { wants, resumed: false, refusals: 0, held: None };
        self.types.insert(of.wants.type_url().clone(), of);
    }

    /// Finds out what the table has: what that refers to, and what of it nobody wants any more.
    async fn look_around(&mut self, link: &Link) {
        let snapshot = link.bus.snapshot();
        for type_url in self.types.keys() {
            for record in snapshot.range(Some(link.bus.scope()), Some(type_url), None).map(Held::record) {
                if let Some(key) = record.envelope.change.key() {
                    self.follow.put(type_url, &key.name, &record.envelope.data);
                }
            }
        }
        let (added, _) = self.follow.take();
        self.add(added);
        let there: Vec<ByteString> = snapshot.types(link.bus.scope()).cloned().collect();
        for type_url in there {
            let wants = self.types.get(&type_url).map(|of| &of.wants);
            let names = self.intake.held(&snapshot, &type_url);
            let stray =
                names.filter(|name| !wants.is_some_and(|wants| wants.wants(name))).cloned().collect();
            self.delete(&type_url, stray).await;
        }
        self.follow_up().await;
    }

    /// Whether a response came.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// What is to be sent.
    pub(super) fn outgoing(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.outgoing
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let held = self.types.values().filter_map(|of| of.held.as_ref().map(|(until, ..)| *until));
        held.chain(self.settled_at).min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        let variant = self.variant;
        let due = |of: &mut OfType| {
            let (_, said, error) = of.held.take_if(|(until, ..)| *until <= now)?;
            Some(of.wants.answer(variant, &said, Some(error)))
        };
        let due: Vec<Request> = self.types.values_mut().filter_map(due).collect();
        for request in due {
            self.send(request);
        }
        if self.settled_at.is_some_and(|at| at <= now) {
            if !self.heard && !self.whole && self.types.values().any(|of| of.wants.is_waiting_for_all()) {
                // What a server that says nothing at all has is not known, so it is not known to be nothing.
                warn!(connector = %self.name, "the server has answered nothing");
                self.settled_at = Some(now + ANSWERED);
                return;
            }
            if self.types.values().any(|of| of.wants.is_waiting()) {
                info!(connector = %self.name, "not all that was asked for was answered");
            }
            self.settle();
        }
    }

    /// Takes a message, and answers it when what it holds is stored.
    ///
    /// # Errors
    /// It is no response: the stream cannot go on.
    pub(super) async fn on_message(&mut self, message: Bytes) -> Result<(), DecodeError> {
        let received = read(self.variant, message, self.kinds.descriptors()).await?;
        self.heard = true;
        let type_url = received.type_url.clone();
        let asked = self.types.get(&type_url).is_some_and(|of| !of.wants.is_unasked());
        if !asked {
            self.on_strange(type_url);
            return Ok(());
        }
        self.stats.received.add(received.found.len() as u64);
        let answered = self.take(received).await;
        if answered && self.types.values().all(|of| !of.wants.is_waiting()) && self.settled_at.is_some() {
            if self.types.values().any(|of| of.wants.may_go_on()) {
                self.settled_at = Some(self.latest.min(Instant::now() + QUIET));
            } else {
                self.settle();
            }
        }
        Ok(())
    }

    /// Takes a response of a type that was asked for. Gives whether there was one.
    async fn take(&mut self, received: Received) -> bool {
        let Some(of) = self.types.get_mut(&received.type_url) else { return false };
        // What went while nobody watched is found by versions.
        let first = of.wants.is_new() && of.resumed;
        let cause = if first { Cause::Inferred } else { Cause::Deleted };
        of.wants.heard(self.variant, &received);
        let said = received.summary();
        let Taken { put, gone, faults } = self.intake.take(self.variant, &of.wants, received, cause).await;
        self.answer(&said, &faults);
        for (name, data) in &put {
            self.follow.put(&said.type_url, name, data);
        }
        for name in &gone {
            self.follow.remove(&said.type_url, name);
        }
        self.follow_up().await;
        self.ask();
        true
    }

    /// Says of a response that it was taken, or what of it was not.
    fn answer(&mut self, said: &Received, faults: &[Fault]) {
        let Some(of) = self.types.get_mut(&said.type_url) else { return };
        let error = refusal(faults);
        of.refusals = if error.is_some() { of.refusals.saturating_add(1) } else { 0 };
        if let Some(error) = &error {
            self.stats.malformed.add(faults.len() as u64);
            // Once, however often it comes again.
            if of.refusals == 1 {
                warn!(connector = %self.name, type_url = %said.type_url, reason = error.message, "resources refused");
            }
        }
        // Without a nonce there is nothing to answer: it would read as a first request.
        if said.nonce.is_empty() {
            debug!(connector = %self.name, type_url = %said.type_url, "a response without a nonce");
            return;
        }
        of.held = None;
        if let (Some(error), 2..) = (&error, of.refusals) {
            let wait = REFUSAL_WAIT * 2_u32.saturating_pow(of.refusals.min(10) - 2);
            of.held = Some((Instant::now() + wait.min(REFUSAL_WAIT_MAX), said.summary(), error.clone()));
            return;
        }
        let request = of.wants.answer(self.variant, said, error);
        self.send(request);
    }

    /// Asks for what is referred to now, and lets go what is not any more, until nothing changes.
    async fn follow_up(&mut self) {
        loop {
            let (added, dropped) = self.follow.take();
            if added.is_empty() && dropped.is_empty() {
                return;
            }
            self.add(added);
            for (type_url, name) in dropped {
                let type_url = ByteString::from_static(type_url);
                let Some(of) = self.types.get_mut(&type_url) else { continue };
                if of.wants.unfollow(&name) {
                    self.delete(&type_url, vec![name]).await;
                }
            }
        }
    }

    fn add(&mut self, references: Vec<Reference>) {
        for (type_url, name) in references {
            if let Some(of) = self.types.get_mut(type_url) {
                of.wants.follow(name);
            }
        }
    }

    async fn delete(&mut self, type_url: &ByteString, names: Vec<ByteString>) {
        for name in self.intake.delete(type_url, names, Cause::Inferred).await {
            self.follow.remove(type_url, &name);
        }
    }

    /// Sends what has changed of what is wanted.
    fn ask(&mut self) {
        let mut requests = Vec::new();
        for of in self.types.values_mut().filter(|of| of.wants.has_changed()) {
            let mut known = HashMap::new();
            if self.variant == Variant::Delta && of.wants.is_unasked() {
                known = self.intake.known(&of.wants);
                of.resumed = !known.is_empty();
            }
            let request = of.wants.request(self.variant, known);
            // In the state of the world each request answers, too: one that says nothing of the error would accept.
            requests.extend(
                match of.held.take_if(|_| self.variant == Variant::Sotw && request.is_some()) {
                    Some((_, said, error)) => Some(of.wants.answer(self.variant, &said, Some(error))),
                    None => request,
                },
            );
        }
        for request in requests {
            self.send(request);
        }
    }

    fn send(&mut self, request: Request) {
        self.outgoing.push_back(request.frame(self.node.take().as_ref()));
    }

    /// All that was asked for is there, as far as it can be known.
    fn settle(&mut self) {
        self.settled_at = None;
        self.stats.following.listed.add(1);
        self.ready.up();
    }

    fn on_strange(&mut self, type_url: ByteString) {
        if self.strange.len() < 64 && !self.strange.contains(&type_url) {
            warn!(connector = %self.name, %type_url, "a response of a type that was not asked for");
            self.strange.push(type_url);
        }
    }
}

/// Reads a response.
async fn read(
    variant: Variant,
    message: Bytes,
    descriptors: Arc<Descriptors>,
) -> Result<Received, DecodeError> {
    let long = message.len() > LONG;
    let read = move || {
        let check = |type_url: &str, data: &[u8]| descriptors.check(type_url, data);
        Received::read(variant, message, &check)
    };
    if long { task::blocking(read).await } else { read() }
}
