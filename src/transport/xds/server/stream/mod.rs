//! One stream: the requests of a client for any number of types, and the responses to it.
//!
//! A stream is the body of its response, so it makes a response only when the client reads: one that does not costs
//! what waits in its [`Inbox`], which is bounded.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashMap;
use hyper::body::Frame;
use meshbus_proto::xds::Node;
use tokio::time::Instant;
use tracing::debug;

use self::alarm::Alarm;
use self::aside::{Aside, is_aside};
use self::flush::{flush, missed};
use self::hold::Hold;
use self::of_type::{Answered, OfType};
use self::outbox::{Filling, Gathered, Outbox};
use self::presence::Presence;
use self::request::Request;
use self::session::{Session, TEXT_MAX, check, trim};
use super::Shared;
use super::caller::Caller;
use super::inbox::{Entry, Waiting};
use super::item::{Form, name_of};
use super::requests::Requests;
use crate::core::Seq;
use crate::core::state::{Snapshot, version_of};
use crate::transport::xds::codec::cluster::endpoints_of;
use crate::transport::xds::codec::demand::Asked;
use crate::transport::xds::codec::kinds::{CLUSTER, ENDPOINTS, kind_of};
use crate::transport::xds::codec::response::{Variant, nonce_number};
use crate::transport::xds::codec::services::Method;
use crate::transport::xds::codec::status::{Code, Status};

mod alarm;
mod answer;
mod aside;
mod flush;
mod hold;
mod life;
mod of_type;
mod outbox;
mod presence;
mod request;
mod session;
mod withheld;

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    method: Method,
    caller: Caller,
    peer: SocketAddr,
    requests: Requests,
    outbox: Outbox,
    /// From the first request on, in which the client says who it is.
    session: Option<Session>,
    types: HashMap<ByteString, OfType>,
    hold: Option<Hold>,
    /// Endpoints of clusters that have changed while the client was away: it needs them whatever version it has.
    owed: Vec<ByteString>,
    presence: Presence,
    aside: Aside,
    alarm: Alarm,
    end: End,
}

/// How far a stream is from its end.
#[derive(Debug)]
enum End {
    Open,
    /// What waits is sent, then the status.
    Ending(Status),
    Ended,
}

/// What a stream waits for.
enum Event {
    Request(Result<Option<Bytes>, Status>),
    /// Something waits in the inbox.
    Changed,
    Settled,
    /// Something has happened to connections.
    Happened,
    /// It is time for something: see [`Stream::due`].
    Due,
    Drain,
}

impl Stream {
    pub(super) fn new(
        shared: Arc<Shared>,
        method: Method,
        caller: Caller,
        peer: SocketAddr,
        requests: Requests,
    ) -> Self {
        let bus = shared.bus.name().clone();
        let outbox = Outbox::new(method.variant, bus, shared.config.response_max());
        let presence = Presence::new(&shared, peer, method.variant);
        Self {
            shared,
            method,
            caller,
            peer,
            requests,
            outbox,
            session: None,
            types: HashMap::new(),
            hold: None,
            owed: Vec::new(),
            presence,
            aside: Aside::default(),
            alarm: Alarm::default(),
            end: End::Open,
        }
    }

    /// The next part of the response.
    pub(super) async fn next(&mut self) -> Option<Frame<Bytes>> {
        loop {
            if let Some(bytes) = self.outbox.pop() {
                return Some(Frame::data(bytes));
            }
            if matches!(self.end, End::Open) && self.fill() {
                continue;
            }
            match std::mem::replace(&mut self.end, End::Ended) {
                End::Open => self.end = End::Open,
                End::Ending(status) => {
                    debug!(peer = %self.peer, %status, "stream ends");
                    self.leave();
                    return Some(Frame::trailers(status.trailers()));
                }
                End::Ended => return None,
            }
            let event = self.event().await;
            let done = self.on(event);
            // A client that does not read keeps no share.
            self.requests.release();
            match done {
                Err(status) => self.end = End::Ending(status),
                Ok(()) if self.method.once => self.end_fetch(),
                Ok(()) => {}
            }
            // Before the response, so that whoever follows connections knows a node when it is told something.
            self.presence.tell(&self.types).await;
        }
    }

    /// Goes on with all of a type that is told in more than one response; whether there was more of it. Nothing else is
    /// told in between: a later part may be older.
    fn fill(&mut self) -> bool {
        let Some((type_url, filling)) = self.outbox.take_filling() else { return false };
        if let Err(status) = self.fill_more(&type_url, filling) {
            self.end = End::Ending(status);
        }
        true
    }

    /// # Errors
    /// `ABORTED` where the client was too slow, or may not see all any more: it has to begin again.
    fn fill_more(&mut self, type_url: &ByteString, filling: Filling) -> Result<(), Status> {
        self.renew();
        let Some((session, of)) = self.session.as_ref().zip(self.types.get_mut(type_url)) else {
            return Ok(());
        };
        if !session.may_see_all(type_url) {
            let text =
                format!("who may see what of {type_url} has changed while it was told: connect again");
            return Err(Status::new(Code::Aborted, text));
        }
        if !self.outbox.fill(filling, of) {
            let text =
                format!("{type_url} has changed for minutes while it was told: read faster, connect again");
            return Err(Status::new(Code::Aborted, text));
        }
        if self.outbox.is_filling() { Ok(()) } else { self.on_changed() }
    }

    async fn event(&mut self) -> Event {
        let due = self.due();
        let Some(session) = &self.session else {
            return tokio::select! {
                request = self.requests.next() => Event::Request(request),
                () = self.shared.shutdown.drain() => Event::Drain,
            };
        };
        let withholds = self.types.values().any(|of| of.withheld.is_waiting());
        // A turn is made for each response and each answer to one: what is always waited for costs nothing to make.
        tokio::select! {
            request = self.requests.next() => Event::Request(request),
            () = session.inbox.arrived() => Event::Changed,
            () = self.alarm.at(due) => Event::Due,
            () = session.feed.settled(), if withholds => Event::Settled,
            () = self.aside.happened() => Event::Happened,
        }
    }

    /// When there is something to do though nothing happens: what refers to new clusters has waited long, something
    /// still holds, or it is to be told how the client stands.
    fn due(&self) -> Option<Instant> {
        let lapses = self.hold.as_ref().map(|hold| hold.due);
        [lapses, self.next_beat(), self.presence.due()].into_iter().flatten().min()
    }

    /// # Errors
    /// The status with which the stream ends.
    fn on(&mut self, event: Event) -> Result<(), Status> {
        match event {
            Event::Request(Ok(Some(bytes))) => self.on_request(bytes),
            Event::Request(Ok(None)) => Err(Status::ok()),
            Event::Request(Err(status)) => Err(status),
            Event::Changed => self.on_changed(),
            Event::Settled => {
                for of in self.types.values_mut() {
                    of.again |= of.withheld.settle();
                }
                self.on_changed()
            }
            Event::Due => self.on_due(),
            Event::Happened => {
                self.on_happened();
                Ok(())
            }
            Event::Drain => Err(Status::shutting_down()),
        }
    }

    fn on_due(&mut self) -> Result<(), Status> {
        self.on_beat();
        let Some(hold) = self.hold.take_if(|hold| hold.due <= Instant::now()) else { return Ok(()) };
        self.hold = hold.lapse(self.types.get(CLUSTER));
        self.on_changed()
    }

    /// Ends a call that has one response: there is one also where nothing was asked for.
    fn end_fetch(&mut self) {
        let Some((type_url, of)) = self.types.iter_mut().next() else { return };
        if of.withheld.is_waiting() {
            let text = "the bus has begun and is not filled yet: keep what you have, and ask again";
            self.end = End::Ending(Status::new(Code::Unavailable, text));
            return;
        }
        if self.outbox.last() == 0 {
            let at = self.shared.bus.snapshot().seq();
            self.outbox.send(of, type_url, at, true, &Gathered::default());
        }
        self.end = End::Ending(Status::ok());
    }

    fn on_changed(&mut self) -> Result<(), Status> {
        self.renew();
        let Some(session) = &self.session else { return Ok(()) };
        let (snapshot, waiting) = session.feed.look(&session.inbox);
        self.take(waiting, &snapshot)?;
        self.flush(&snapshot);
        Ok(())
    }

    fn on_request(&mut self, bytes: Bytes) -> Result<(), Status> {
        let mut request = Request::decode(self.method.variant, bytes)?;
        let (node, type_url, nonce, refusal) = request.head();
        if type_url.len() > TEXT_MAX {
            return Err(Status::new(Code::InvalidArgument, format!("type_url is over {TEXT_MAX} bytes")));
        }
        self.renew();
        self.meet(node)?;
        let type_url = match (self.method.type_url, type_url) {
            (Some(own), given) if given.is_empty() || given == own => ByteString::from_static(own),
            (Some(own), given) => {
                let text = format!("this service is of {own}, not of {given:?}");
                return Err(Status::new(Code::InvalidArgument, text));
            }
            (None, given) if given.is_empty() => {
                let text = "type_url is required on an aggregated stream";
                return Err(Status::new(Code::InvalidArgument, text));
            }
            (None, given) => given.into(),
        };
        if is_aside(&type_url) {
            return self.on_aside(&type_url, request, &nonce);
        }
        let Some(session) = &self.session else { return Ok(()) };
        let of = self.types.entry_ref(&type_url).or_insert_with(|| OfType::new(kind_of(&type_url)));
        if of.is_mere_answer(&nonce, &request) {
            return Ok(());
        }
        match of.answered(nonce_number(&nonce), refusal) {
            Answered::Refused => self.presence.refused(&session.node, &type_url, of),
            Answered::Recovered => self.presence.recovered(&type_url),
            Answered::Accepted { first } => self.presence.accepted(&type_url, first),
            Answered::Nothing => {}
        }
        let legacy = of.kind.legacy_wildcard && !session.is_grpc();
        let mut asked = match &mut request {
            Request::Sotw(request) => of.demand.sotw(request, legacy),
            Request::Delta(request) => of.demand.delta(request, legacy),
        };
        if asked.is_nothing() {
            // It was but an answer, for which something may have waited.
            return if self.hold.is_some() { self.on_changed() } else { Ok(()) };
        }
        of.withheld.asked(&asked, session);
        if type_url == ENDPOINTS {
            for name in self.owed.drain(..) {
                asked.known.remove(&name);
            }
        }
        if asked.first || !asked.added.is_empty() || !asked.dropped.is_empty() {
            self.presence.wants(&type_url, of);
        }
        self.count_names()?;
        self.answer(&type_url, &asked)
    }

    /// Takes the rules of who may see what as they are now.
    fn renew(&mut self) {
        self.caller.renew(&self.shared.bus);
        if let Some(session) = &mut self.session {
            session.caller.renew(&self.shared.bus);
        }
    }

    /// Takes the node of the first request.
    fn meet(&mut self, node: Option<Node>) -> Result<(), Status> {
        if self.session.is_some() {
            return Ok(());
        }
        let mut node = node.unwrap_or_default();
        check(&node)?;
        let feed = self.shared.feeds.of(&self.shared, &node, self.caller.principal())?;
        let inbox = feed.inbox(self.peer, self.shared.config.max_queued);
        let allow_secrets = self.shared.config.allow_secrets;
        let (variant, caller) = (self.method.variant, self.caller.clone());
        let form = Form::of(&node, variant);
        trim(&mut node);
        debug!(peer = %self.peer, node = node.id, agent = node.user_agent_name, scope = %feed.scope(), "node");
        if node.user_agent_name == "envoy" {
            // An Envoy takes responses of any length, and counts the first of a type as all of it.
            self.outbox.max = self.outbox.max.max(self.shared.config.max_request.0 as usize);
        }
        if self.method.once {
            // There is but one response, and nobody is connected.
            self.outbox.max = usize::MAX;
        } else {
            self.presence.met(&node, &feed, self.caller.principal());
        }
        let kinds = Arc::clone(&self.shared.kinds);
        self.session = Some(Session { variant, node, caller, feed, inbox, allow_secrets, form, kinds });
        Ok(())
    }

    fn answer(&mut self, type_url: &ByteString, asked: &Asked) -> Result<(), Status> {
        let Some(session) = &self.session else { return Ok(()) };
        let (snapshot, waiting) = session.feed.want(&session.inbox, type_url, &asked.added, &asked.dropped);
        self.take(waiting, &snapshot)?;
        let Some((session, of)) = self.session.as_ref().zip(self.types.get_mut(type_url)) else {
            return Ok(());
        };
        let (at, dropped) = answer::answer((type_url, of), asked, session, &snapshot, &mut self.outbox);
        if asked.first && dropped.is_empty() && session.wants_marker() {
            let at = (!of.withheld.marks_later(session)).then_some(at);
            self.outbox.mark(of, type_url, at);
        }
        if *type_url == CLUSTER && (!asked.known.is_empty() || asked.resume.is_some()) {
            self.owed = changed_endpoints(asked, of, session, &snapshot);
        }
        if !dropped.is_empty() {
            let (_, waiting) = session.feed.want(&session.inbox, type_url, &[], &dropped);
            self.take(waiting, &snapshot)?;
        }
        self.flush(&snapshot);
        Ok(())
    }

    /// Sorts what waited by types.
    fn take(&mut self, waiting: Waiting, snapshot: &Snapshot) -> Result<(), Status> {
        for entry in waiting.entries {
            match entry {
                Entry::Batch(batch) => {
                    if let Some(of) = self.types.get_mut(&batch.type_url) {
                        of.pending.add_batch(batch);
                    }
                }
                Entry::One(type_url, item) => {
                    if let Some(of) = self.types.get_mut(&type_url) {
                        of.take(item);
                    }
                }
            }
        }
        if waiting.ends {
            return Err(Status::shutting_down());
        }
        waiting.lost.map_or(Ok(()), |after| self.look_up_missed(after, snapshot))
    }

    fn look_up_missed(&mut self, after: Seq, snapshot: &Snapshot) -> Result<(), Status> {
        let Some(session) = &self.session else { return Ok(()) };
        debug!(peer = %self.peer, node = session.node.id, %after, "fell behind");
        for (type_url, of) in self.types.iter_mut().filter(|(_, of)| !of.demand.is_empty()) {
            if self.method.variant == Variant::Sotw && of.kind.whole {
                of.again = true;
                continue;
            }
            missed((type_url, of), session, snapshot, after)?;
        }
        Ok(())
    }

    fn flush(&mut self, snapshot: &Snapshot) {
        let Some(session) = &self.session else { return };
        if let Some(hold) = &self.hold
            && !self.types.get(CLUSTER).is_some_and(|of| of.is_unanswered(hold.nonce))
        {
            self.hold = None;
        }
        if self.outbox.is_filling() || !self.types.values().any(OfType::has_pending) {
            return;
        }
        let mut types: Vec<_> = self.types.iter_mut().collect();
        self.hold = flush(&mut types, session, snapshot, &mut self.outbox, self.hold.take());
    }

    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the client asks for more names than one stream may.
    fn count_names(&self) -> Result<(), Status> {
        let (names, max) =
            (self.types.values().map(|of| of.demand.len()).sum::<usize>(), self.shared.config.max_names);
        if names <= max && self.types.len() <= max {
            return Ok(());
        }
        let text =
            format!("the stream asks for {names} names, the most is {max}: ask for \"*\", or by prefix");
        Err(Status::new(Code::ResourceExhausted, text))
    }

    /// Takes the stream off the index of its feed.
    fn leave(&mut self) {
        let Some(session) = self.session.take() else { return };
        for (type_url, of) in self.types.drain() {
            let dropped: Vec<_> = of.demand.interests().collect();
            drop(session.feed.want(&session.inbox, &type_url, &[], &dropped));
        }
        session.feed.leave(&session.inbox);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The endpoints of clusters of which the client has another version than there is.
fn changed_endpoints(
    asked: &Asked,
    of: &OfType,
    session: &Session,
    snapshot: &Snapshot,
) -> Vec<ByteString> {
    let clusters = ByteString::from_static(CLUSTER);
    let mut endpoints = Vec::new();
    for interest in of.demand.interests() {
        session.look_up(&clusters, &interest, snapshot, |record| {
            let known = asked.known.get(name_of(&record));
            if known.is_none_or(|known| *known != version_of(&record)) {
                endpoints.extend(endpoints_of(&record.envelope.data));
            }
        });
    }
    endpoints
}
