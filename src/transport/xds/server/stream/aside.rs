//! Types that are not in the table: what happened to connections, which is followed, and what istio's tools ask, which is
//! answered once.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::{HashMap, HashSet};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Stream;
use super::of_type::OfType;
use super::outbox::{Gathered, Outbox};
use super::request::Request;
use crate::core::Seq;
use crate::transport::xds::codec::demand::{ALL, Asked, Interest};
use crate::transport::xds::codec::kinds::{Kind, kind_of};
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::codec::response::{Variant, nonce_number};
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::server::clients::debug;
use crate::transport::xds::server::rings::{CONNECTIONS, News, is_ring};

/// What a stream follows of what happens.
#[derive(Debug, Default)]
pub(super) struct Aside {
    types: HashMap<ByteString, Followed>,
    /// From the first such type on.
    news: Option<watch::Receiver<()>>,
    /// When something may be told again.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Followed {
    of: OfType,
    /// All up to this number is told.
    told: u64,
    /// Of connections, those that the client has: by these it is told who has gone where that is not kept.
    there: HashSet<ByteString>,
}

/// Whether requests of a type are taken here.
pub(super) fn is_aside(type_url: &str) -> bool {
    is_ring(type_url) || debug::is_debug(type_url)
}

impl Aside {
    /// Waits until there is news that may be told; without a type that is followed for ever. Cancel safe.
    pub(super) async fn happened(&mut self) {
        let Some(news) = &mut self.news else { return std::future::pending().await };
        if let Some(next) = self.next {
            sleep_until(next).await;
        }
        if news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stream {
    /// Takes a request of such a type.
    pub(super) fn on_aside(
        &mut self,
        type_url: &ByteString,
        request: Request,
        nonce: &str,
    ) -> Result<(), Status> {
        if debug::is_debug(type_url) {
            self.on_question(type_url, request, nonce);
            return Ok(());
        }
        if let Err(status) = self.caller.check_connections() {
            if nonce.is_empty() {
                self.tell_error(type_url, status);
            }
            return Ok(());
        }
        self.on_follow(type_url, request, nonce)
    }

    fn on_question(&mut self, type_url: &ByteString, request: Request, nonce: &str) {
        let own = nonce_number(nonce).is_some_and(|n| (1..=self.outbox.last()).contains(&n));
        let names = match request {
            Request::Sotw(request) => request.resource_names,
            Request::Delta(request) => request.resource_names_subscribe,
        };
        // What answers a response asks nothing; the tools that ask here answer none.
        if own || names.is_empty() && self.method.variant == Variant::Delta {
            return;
        }
        match debug::answer(&self.shared, &self.caller, type_url, &names) {
            Err(status) => self.tell_error(type_url, status),
            Ok(answers) => {
                let encoded = |(name, type_url, value): (String, String, Vec<u8>)| {
                    let version = ByteString::from_static("");
                    Arc::new(Encoded::new(Seq::default(), name.into(), version, &type_url, &value))
                };
                let resources = answers.into_iter().map(encoded).collect();
                let gathered = Gathered { resources, ..Gathered::default() };
                let at = self.shared.bus.snapshot().seq();
                self.outbox.send(&mut OfType::new(kind_of(type_url)), type_url, at, false, &gathered);
            }
        }
    }

    fn tell_error(&mut self, type_url: &ByteString, status: Status) {
        let errors = vec![(ByteString::from_static(ALL), status)];
        let gathered = Gathered { errors, ..Gathered::default() };
        let at = self.shared.bus.snapshot().seq();
        self.outbox.send(&mut OfType::new(kind_of(type_url)), type_url, at, true, &gathered);
    }

    fn on_follow(&mut self, type_url: &ByteString, request: Request, nonce: &str) -> Result<(), Status> {
        let follow = || self.shared.rings.follow();
        self.aside.news.get_or_insert_with(follow);
        let kind = Kind { whole: **type_url == *CONNECTIONS, ..kind_of(type_url) };
        let fresh = || Followed { of: OfType::new(kind), told: 0, there: HashSet::new() };
        let max = self.shared.config.max_names;
        let followed = self.aside.types.entry(type_url.clone()).or_insert_with(fresh);
        if followed.of.is_mere_answer(nonce, &request) {
            return Ok(());
        }
        // A refusal of what has happened changes nothing, and would itself happen.
        let _answered = followed.of.answered(nonce_number(nonce), None);
        let (asked, position) = match request {
            Request::Sotw(mut request) => {
                let asked = followed.of.demand.sotw(&mut request, true);
                (asked, Some(request.version_info).filter(|_| !kind.whole))
            }
            Request::Delta(mut request) => {
                let asked = followed.of.demand.delta(&mut request, true);
                let position = asked.resume.as_ref().map(ToString::to_string);
                (asked, position)
            }
        };
        if followed.of.demand.len() > max {
            let text = format!("the stream asks for too many names of {type_url}, the most is {max}");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if !asked.first && asked.answer.is_empty() {
            return Ok(());
        }
        // A position that is no number is none that can be resumed from.
        followed.told = position.filter(|_| asked.first).map_or(0, |text| text.parse().unwrap_or(u64::MAX));
        if kind.whole {
            self.tell_who_is_there(type_url, &asked);
        } else {
            self.tell_events(type_url, true);
        }
        Ok(())
    }

    /// Tells what has happened of all types that are followed, as long as the client may know.
    pub(super) fn on_happened(&mut self) {
        self.renew();
        self.aside.next = Some(Instant::now() + self.shared.config.connection_interval.0);
        let types: Vec<ByteString> = self.aside.types.keys().cloned().collect();
        if let Err(status) = self.caller.check_connections() {
            self.aside = Aside::default();
            return types.iter().for_each(|type_url| self.tell_error(type_url, status.clone()));
        }
        for type_url in &types {
            if **type_url == *CONNECTIONS {
                self.tell_connections(type_url);
            } else {
                self.tell_events(type_url, false);
            }
        }
    }

    /// `always`: also where there is nothing new, since the client waits for it.
    fn tell_events(&mut self, type_url: &ByteString, always: bool) {
        let Some(followed) = self.aside.types.get_mut(type_url) else { return };
        let News { at, mut resources, lost, .. } = self.shared.rings.since(type_url, followed.told);
        if at == followed.told && !always {
            return;
        }
        resources.retain(|resource| followed.of.demand.wants(&resource.name));
        let mut gathered = Gathered { resources, ..Gathered::default() };
        if lost > 0 {
            self.shared.stats.following.held_back.add(lost);
            let text = format!("{lost} events are no longer kept");
            gathered.errors.push((ByteString::from_static(ALL), Status::new(Code::OutOfRange, text)));
        }
        followed.told = at;
        if always || !gathered.is_empty() {
            self.outbox.send(&mut followed.of, type_url, Seq(at), false, &gathered);
        }
    }

    /// Answers who asks for connections, and maybe says which it has.
    fn tell_who_is_there(&mut self, type_url: &ByteString, asked: &Asked) {
        if self.outbox.variant == Variant::Sotw {
            return self.tell_connections(type_url);
        }
        let Some(followed) = self.aside.types.get_mut(type_url) else { return };
        let named = asked.answer.iter().filter_map(|interest| match interest {
            Interest::Name(name) => Some(name),
            _ => None,
        });
        followed.there.extend(asked.known.keys().chain(named).cloned());
        let mut news = self.shared.rings.connections_since(followed.told, &followed.there);
        if news.lost > 0 {
            // From the position alone it cannot be told who has gone.
            followed.of.demand.forget();
            followed.there.clear();
            let text = "cannot resume after this position; send the versions of what you have";
            let errors = vec![(ByteString::from_static(ALL), Status::new(Code::OutOfRange, text))];
            let gathered = Gathered { errors, ..Gathered::default() };
            return self.outbox.send(&mut followed.of, type_url, Seq(news.at), false, &gathered);
        }
        if followed.told > 0 {
            // All who were there at the position are the client's.
            let all = self.shared.rings.connections_since(0, &followed.there).resources;
            followed.there.extend(all.iter().map(|resource| resource.name.clone()));
        }
        news.resources.retain(|resource| asked.known.get(&resource.name) != Some(&resource.version));
        followed.tell((type_url, news), true, &mut self.outbox);
    }

    fn tell_connections(&mut self, type_url: &ByteString) {
        let Some(followed) = self.aside.types.get_mut(type_url) else { return };
        if followed.of.demand.is_empty() {
            return;
        }
        let mut news = self.shared.rings.connections_since(followed.told, &followed.there);
        let whole = self.outbox.variant == Variant::Sotw;
        if whole && news.at != followed.told {
            news = self.shared.rings.connections_since(0, &followed.there);
        }
        if news.at != followed.told {
            followed.tell((type_url, news), whole, &mut self.outbox);
        }
    }
}

impl Followed {
    /// `always`: also where there is nothing of what is wanted.
    fn tell(&mut self, (type_url, news): (&ByteString, News), always: bool, outbox: &mut Outbox) {
        let whole = outbox.variant == Variant::Sotw;
        let News { at, mut resources, mut gone, .. } = news;
        resources.retain(|resource| self.of.demand.wants(&resource.name));
        for id in &gone {
            self.there.remove(id);
        }
        if whole {
            gone.clear();
        } else {
            gone.retain(|id| self.of.demand.wants(id));
            self.there.extend(resources.iter().map(|resource| resource.name.clone()));
        }
        self.told = at;
        let gathered = Gathered { resources, removed: gone, ..Gathered::default() };
        if always || !gathered.is_empty() {
            outbox.send(&mut self.of, type_url, Seq(at), whole, &gathered);
        }
    }
}
