//! What a client knows and wants while a stream lasts: responses go in, requests come out. The stream itself is
//! [`stream`](super::stream)'s.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use meshbus_proto::xds::Node;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::intake::{Intake, Taken};
use super::memory::{Learned, Memory};
use super::of_type::OfType;
use crate::core::state::Held;
use crate::core::stats::ConnectorStats;
use crate::core::{Cause, DecodeError, Error, ErrorKind};
use crate::runtime::task;
use crate::schema::own;
use crate::schema::protobuf::Descriptors;
use crate::schema::registry::Registry;
use crate::transport::xds::codec::follow::Follow;
use crate::transport::xds::codec::received::{Fault, Received, refusal};
use crate::transport::xds::codec::refer::Reference;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::Code;
use crate::transport::xds::codec::waiting::Answered;
use crate::transport::xds::codec::wants::{Request, Wants};
use crate::transport::xds::config::ClientConfig;
use crate::transport::{Link, Ready};

/// How long it may take until all that was asked for is answered: the protocol's own limit, after which what was not
/// told does not exist.
const ANSWERED: Duration = Duration::from_secs(15);
/// The same where a server was told the versions of what there is, as it says nothing of what has not changed.
const RESUMED: Duration = Duration::from_secs(2);
/// How long it must be quiet after the last response where how much there is cannot be known, as it may come in parts.
const QUIET: Duration = Duration::from_millis(500);
/// How long a second refusal in a row waits: a server may send again what was refused, for ever. Each further one waits
/// twice as long.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(10);

/// Longer responses are read where that holds up nobody: each part of them is decoded.
const LONG: usize = 256 << 10;

/// A client while a stream lasts.
pub(super) struct Session<'a> {
    name: ByteString,
    variant: Variant,
    /// Said with the first request.
    node: Option<Node>,
    intake: Intake<'a>,
    /// Whether connections are told beside the stream.
    polls: bool,
    kinds: &'a Registry,
    stats: &'a ConnectorStats,
    ready: &'a Ready,
    types: BTreeMap<ByteString, OfType>,
    follow: Follow,
    outgoing: VecDeque<Bytes>,
    learned: &'a mut Learned,
    peer: String,
    /// Whether there is another server to go to.
    others: bool,
    /// When it is ready, although not all was answered; `None` where it is.
    latest: Option<Instant>,
    /// When a server that has answered nothing is given up; `None` where it is known how it is.
    silent: Option<Instant>,
    /// Whether the table had all there is once, so that what it has is worth resuming.
    whole: bool,
    /// Types that came without being asked for: each is told once.
    strange: Vec<ByteString>,
    heard: bool,
    /// The longest request that was made, in bytes.
    longest: usize,
}

impl<'a> Session<'a> {
    /// For one stream, which [`begin`](Self::begin)s before it goes on.
    pub(super) fn new(config: &ClientConfig, peer: &str, link: &'a Link, memory: &'a mut Memory) -> Self {
        let Memory { told, learned } = memory;
        let followed = config.subscribe.iter().filter(|entry| entry.follow);
        let follow = Follow::new(followed.map(|entry| entry.type_url.clone().into()), config.allow_secrets);
        let mut session = Self {
            name: link.name.clone(),
            variant: config.variant(),
            node: Some(config.node(link.bus.name())),
            intake: Intake::new(&link.bus, told),
            polls: config.poll_debug.is_some(),
            kinds: &link.kinds,
            stats: &link.stats,
            ready: &link.ready,
            types: BTreeMap::new(),
            follow,
            outgoing: VecDeque::new(),
            learned,
            peer: peer.to_owned(),
            others: config.urls.len() > 1,
            latest: None,
            silent: None,
            whole: link.bus.settled().contains(link.bus.scope()),
            strange: Vec::new(),
            heard: false,
            longest: 0,
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
        session
    }

    /// Begins with what the table has: what is wanted no more is deleted, the rest is asked for.
    pub(super) async fn begin(&mut self) {
        self.look_around().await;
        self.ask();
        let resumed = self.types.values().filter(|of| !of.wants.is_empty()).all(|of| of.resumed);
        let now = Instant::now();
        self.latest = Some(now + if resumed && self.whole { RESUMED } else { ANSWERED });
        self.silent = Some(now + ANSWERED);
    }

    fn want(&mut self, wants: Wants) {
        self.types.insert(wants.type_url().clone(), OfType::new(wants));
    }

    /// Finds out what the table has: what that refers to, and what of it nobody wants any more.
    async fn look_around(&mut self) {
        let bus = self.intake.bus();
        let snapshot = bus.snapshot();
        for type_url in self.types.keys() {
            for record in snapshot.range(Some(bus.scope()), Some(type_url), None).map(Held::record) {
                if let Some(key) = record.envelope.change.key() {
                    self.follow.put(type_url, &key.name, &record.envelope.data);
                }
            }
        }
        let (added, _) = self.follow.take();
        self.add(added);
        let there: Vec<ByteString> = snapshot.types(bus.scope()).cloned().collect();
        for type_url in there {
            if self.polls && *type_url == *own::CONNECTION {
                continue;
            }
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
        self.types.values().flat_map(OfType::times).chain(self.latest).chain(self.silent).min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The server has answered nothing, and another may.
    pub(super) async fn on_time(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let variant = self.variant;
        let due: Vec<Request> = self.types.values_mut().filter_map(|of| of.refuse(variant, now)).collect();
        for request in due {
            self.send(request);
        }
        if self.silent.take_if(|at| *at <= now).is_some() {
            self.on_silence()?;
        }
        for type_url in self.types_where(|of| of.is_quiet(now)) {
            self.rest(&type_url).await;
        }
        if self.latest.take_if(|at| *at <= now).is_some() {
            self.on_latest(now).await;
        }
        self.settle_if_answered();
        Ok(())
    }

    /// # Errors
    /// The server has answered nothing, and another may.
    fn on_silence(&mut self) -> Result<(), Error> {
        let all = self.types.values().any(|of| of.wants.waiting().is_for_all());
        if self.heard || !all {
            return Ok(());
        }
        let reason = format!(
            "connected, but it has answered nothing in {} s: {}",
            ANSWERED.as_secs(),
            self.missing()
        );
        warn!(connector = %self.name, peer = self.peer, reason, "silent server");
        if self.others {
            return Err(Error::new(ErrorKind::Disconnected, &self.peer).because(reason));
        }
        Ok(())
    }

    /// It took as long as it may until all was answered.
    async fn on_latest(&mut self, now: Instant) {
        let all = |of: &OfType| of.wants.waiting().is_for_all();
        // What a server that says nothing at all has is not known, so it is not known to be nothing.
        let unheard = !self.heard && self.types.values().any(all);
        let promised = self.types.values().any(|of| of.wants.waiting().is_promised());
        if !self.whole && (unheard || promised) {
            let state = if promised { "is not filled yet itself" } else { "has not answered" };
            let reason = format!("{}: connected, but it {state}: {}", self.peer, self.missing());
            if self.ready.watch().borrow().as_ref() != Err(&reason) {
                self.ready.down(reason);
            }
            self.latest = Some(now + ANSWERED);
            return;
        }
        if self.types.values().any(|of| of.wants.waiting().answered() == Answered::Partly) {
            info!(connector = %self.name, missing = self.missing(), "not all that was asked for was answered");
        }
        // By the protocol, names that are not told by now do not exist; but not where nothing was said of the type.
        for type_url in self.types_where(OfType::is_late) {
            self.rest(&type_url).await;
        }
        self.settle();
    }

    /// The types of which something is not answered.
    fn missing(&self) -> String {
        self.types_where(|of| of.wants.waiting().answered() == Answered::Partly).join(", ")
    }

    fn types_where(&self, is: impl Fn(&OfType) -> bool) -> Vec<ByteString> {
        self.types.iter().filter(|(_, of)| is(of)).map(|(type_url, _)| type_url.clone()).collect()
    }

    /// Of a type all is told: what was there and was not told is gone.
    async fn rest(&mut self, type_url: &ByteString) {
        let Some(of) = self.types.get_mut(type_url) else { return };
        let untold = of.rest();
        if !untold.is_empty() {
            self.delete(type_url, untold).await;
            self.follow_up().await;
            self.ask();
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
        let asked = self.types.get_mut(&type_url).filter(|of| !of.wants.is_unasked());
        let Some(of) = asked else {
            self.on_strange(type_url);
            return Ok(());
        };
        self.stats.received.add(received.found.len() as u64);
        // What went while nobody watched is found by versions, or by all that is told again.
        let first = !of.wants.waiting().has_heard() && (of.resumed || !of.untold.is_empty());
        let cause = if first { Cause::Inferred } else { Cause::Deleted };
        of.heard(self.variant, &received);
        if received.mark.is_some() {
            self.learned.marks.insert(self.peer.clone());
        }
        let said = received.summary();
        let taken = self.intake.take(self.variant, &of.wants, received, cause).await;
        self.took(&said, taken).await;
        self.on_answered(&type_url).await;
        Ok(())
    }

    /// Finds out whether a response was the last of what was asked for.
    async fn on_answered(&mut self, type_url: &ByteString) {
        let Some(of) = self.types.get_mut(type_url) else { return };
        match of.wants.waiting().answered() {
            Answered::Partly => of.quiet = None,
            Answered::Perhaps => {
                // Who marks the end is given time for that.
                let marks = self.learned.marks.contains(&self.peer);
                of.quiet = Some(Instant::now() + if marks { ANSWERED } else { QUIET });
            }
            Answered::Whole => self.rest(type_url).await,
        }
        self.settle_if_answered();
    }

    /// Answers a response that was taken, and asks for what follows from it.
    async fn took(&mut self, said: &Received, Taken { put, gone, faults }: Taken) {
        self.answer(said, &faults);
        for (name, data) in &put {
            self.follow.put(&said.type_url, name, data);
        }
        for name in &gone {
            self.follow.remove(&said.type_url, name);
        }
        self.follow_up().await;
        self.ask();
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
                self.intake.told().follow(&type_url, &name, false);
                if of.wants.unfollow(&name) {
                    self.delete(&type_url, vec![name]).await;
                }
            }
        }
    }

    fn add(&mut self, references: Vec<Reference>) {
        for (type_url, name) in references {
            if let Some(of) = self.types.get_mut(type_url) {
                self.intake.told().follow(of.wants.type_url(), &name, true);
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
        let max = self.learned.request_max;
        for of in self.types.values_mut().filter(|of| of.wants.has_changed()) {
            let mut known = HashMap::new();
            if self.variant == Variant::Delta && of.wants.is_unasked() {
                known = self.intake.known(&of.wants);
                if of.wants.len_with(&known) > max {
                    info!(connector = %self.name, type_url = %of.wants.type_url(), versions = known.len(), "too many versions for one request: all is told again");
                    of.untold = known.drain().map(|(name, _)| name.into()).collect();
                }
                of.resumed = !known.is_empty();
            }
            let made = of.wants.requests(self.variant, known, max);
            // In the state of the world each request answers, too: one that says nothing of the error would accept.
            match of.held.take_if(|_| self.variant == Variant::Sotw && !made.is_empty()) {
                Some((_, said, error)) => requests.push(of.wants.answer(self.variant, &said, Some(error))),
                None => requests.extend(made),
            }
        }
        for request in requests {
            self.send(request);
        }
    }

    fn send(&mut self, request: Request) {
        let type_url = request.type_url().to_owned();
        let frame = request.frame(self.node.take().as_ref());
        self.longest = self.longest.max(frame.len());
        if self.variant == Variant::Sotw && self.learned.is_news_too_long(&type_url, frame.len()) {
            warn!(
                connector = %self.name, type_url, bytes = frame.len(),
                "a request that names so much is refused by many servers, and the state of the world has no shorter \
                 one: set mode: delta, or names: [\"*\"]"
            );
        }
        self.outgoing.push_back(frame);
    }

    /// The stream has ended, with a status where the server gave one.
    pub(super) fn on_end(&mut self, code: Option<Code>) {
        // Servers have either for a request that is too long.
        if !self.heard && matches!(code, Some(Code::ResourceExhausted | Code::OutOfRange)) {
            self.learned.shorten(self.longest);
        }
    }

    fn settle_if_answered(&mut self) {
        if self.latest.is_some() && self.types.values().all(OfType::is_answered) {
            self.settle();
        }
    }

    /// All that was asked for is there, as far as it can be known.
    fn settle(&mut self) {
        self.latest = None;
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
    reading(message.len(), move || Received::read(variant, message, &descriptors)).await
}

/// Reads a message of so many bytes.
pub(super) async fn reading<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes > LONG { task::blocking(read).await } else { read() }
}
