//! Writes of a client's resources by whoever uses the bus: HTTP, kubectl, another protocol.
//!
//! The server decides, by meshbus's own service for that (`meshbus.xds.v1.UpdateService`); its refusals are passed on in
//! its own words. A write is confirmed by what the stream tells of its resource, so only what is asked for can be written.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hashbrown::HashMap;
use meshbus_proto::meshbus::{UpdateResponse, UpdateResult};
use meshbus_proto::xds::Node;
use prost::Message;
use tokio::time::{timeout, timeout_at};
use tracing::{debug, info};

use self::waiting::{Asked, Waiting, request};
use super::calls::{Calls, Unanswered};
use super::told::{Listener, Place, Tale, Told};
use crate::core::bus::Ingress;
use crate::core::state::version_of;
use crate::core::write::{Confirmed, OWNER_TIMEOUT, Operation, Precondition, Write, Writes};
use crate::core::{Key, Refused, Version};
use crate::transport::Link;
use crate::transport::xds::codec::frame::framed;
use crate::transport::xds::codec::refusal::Owner;
use crate::transport::xds::codec::services::UPDATE_ONCE;
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::codec::wants::Wants;
use crate::transport::xds::config::ClientConfig;

mod waiting;

/// Calls that are under way at a time.
const CALLS_MAX: usize = 4;
/// Writes that the server has done and that are not shown yet; with more of them it is asked for nothing.
const UNSHOWN_MAX: usize = 1024;
/// How long what the server has done may take to be shown. Sooner than the writer gives up, so that it is told.
const SHOWN: Duration = OWNER_TIMEOUT.saturating_sub(Duration::from_millis(500));

/// Writes at the server of one connection.
pub(super) struct Writer<'a> {
    calls: &'a Calls,
    bus: &'a Ingress,
    told: &'a Told,
    owner: Owner,
    node: Node,
    /// What is asked for by the settings.
    wants: Vec<Wants>,
    /// Whether the server is known to have no service for it.
    without: AtomicBool,
}

/// A write that the server has done.
struct Done<'a> {
    asked: Asked<'a>,
    version: Version,
}

impl<'a> Writer<'a> {
    /// For the server that `calls` reach.
    pub(super) fn new(config: &ClientConfig, calls: &'a Calls, link: &'a Link, told: &'a Told) -> Self {
        let wants = config.subscribe.iter().map(|entry| {
            let names = entry.names.iter().map(|name| ByteString::from(name.clone()));
            Wants::new(entry.type_url.clone().into(), names)
        });
        Self {
            calls,
            bus: &link.bus,
            told,
            owner: Owner { connector: link.name.clone(), peer: calls.peer.clone() },
            node: config.node(link.bus.name()),
            wants: wants.collect(),
            without: AtomicBool::new(false),
        }
    }

    /// Writes: what waits while the server is busy goes to it in one request. Never ends; dropped, it answers all
    /// that is under way.
    pub(super) async fn run(&self, writes: &mut Writes) -> Infallible {
        let (mut calls, mut unshown) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut waiting = Waiting::default();
        let mut open = true;
        loop {
            while calls.len() < CALLS_MAX
                && unshown.len() < UNSHOWN_MAX
                && let Some(batch) = waiting.take()
            {
                calls.push(self.call(batch));
            }
            tokio::select! {
                biased;
                Some(()) = unshown.next() => {}
                Some((places, done)) = calls.next() => {
                    waiting.answered(&places);
                    unshown.extend(done.into_iter().map(|done| self.shown(done)));
                }
                write = writes.recv(), if open && waiting.has_room() => {
                    let mut next = write;
                    while let Some(write) = next {
                        self.add(&mut waiting, write);
                        // All that is there, so that it goes in one request.
                        let more = if waiting.has_room() { writes.recv().now_or_never() } else { break };
                        match more {
                            Some(None) => { open = false; break }
                            more => next = more.flatten(),
                        }
                    }
                }
                // Nobody can write any more: the others of the run go on.
                else => std::future::pending().await,
            }
        }
    }

    /// Takes in a write, or answers it where the server need not be asked.
    fn add(&self, waiting: &mut Waiting<'a>, write: Write) {
        if write.answer.is_closed() {
            return;
        }
        match self.expected(&write) {
            // Whoever wrote may have gone.
            Err(refused) => drop(write.answer.send(Err(refused))),
            Ok(expected) => {
                let place = (write.key.type_url.clone(), write.key.name.clone());
                let listener = self.told.listen(place);
                waiting.add(Asked::new(write, expected, listener, self.owner.clone()));
            }
        }
    }

    /// The version that must be there at the server; `None` where none must.
    fn expected(&self, write: &Write) -> Result<Option<String>, Refused> {
        let Write { key, operation, precondition, .. } = write;
        if self.without.load(Ordering::Relaxed) {
            return Err(self.owner.without_service());
        }
        if let Operation::Patch { media_type, .. } = operation {
            return Err(Refused::UnsupportedMediaType(media_type.clone()));
        }
        if !self.asks_for(&(key.type_url.clone(), key.name.clone())) {
            return Err(self.owner.without_subscription(&key.type_url, &key.name));
        }
        let held = self.bus.get(key);
        let current = held.as_ref().map(|record| (record.seq, version_of(record)));
        let given = |held: Version| self.told.given(&key.type_url, &key.name).unwrap_or(held).to_string();
        match (precondition, current) {
            (Precondition::Any, _) => Ok(None),
            (Precondition::Absent, _) => Ok(Some(String::new())),
            (Precondition::Version(version), _) if version.is_empty() => {
                Err(Refused::Invalid("the version that must be there is empty".to_owned()))
            }
            (Precondition::Version(version), Some((_, held))) if *version == held => Ok(Some(given(held))),
            // Not the latest here; what it is there the server says.
            (Precondition::Version(version), _) => Ok(Some(version.to_string())),
            (Precondition::Seq(seq), Some((have, held))) if *seq == have => Ok(Some(given(held))),
            (Precondition::Seq(_), current) => Err(Refused::Conflict { current }),
        }
    }

    fn asks_for(&self, place: &Place) -> bool {
        let of_type = self.wants.iter().find(|wants| *wants.type_url() == place.0);
        of_type.is_some_and(|wants| wants.wants(&place.1)) || self.told.follows(place)
    }

    /// Asks the server for writes, and answers those that it refuses. Gives what they were of, and those that are done.
    async fn call(&self, mut batch: Vec<Asked<'a>>) -> (Vec<Place>, Vec<Done<'a>>) {
        let places = batch.iter().map(|asked| asked.place.clone()).collect();
        let frame = framed(&request(&self.node, &mut batch));
        let answer = timeout(OWNER_TIMEOUT, self.calls.unary(UPDATE_ONCE, frame)).await;
        let results = match answer {
            Ok(Ok(message)) => UpdateResponse::decode(message).map_err(|error| error.to_string()),
            Ok(Err(Unanswered::Refused(status))) => {
                self.refuse_all(batch, &status);
                return (places, Vec::new());
            }
            Ok(Err(Unanswered::Broken(why))) => Err(why),
            Err(_) => Err(format!("no answer in {} s", OWNER_TIMEOUT.as_secs())),
        };
        let mut results: HashMap<String, UpdateResult> = match results {
            Ok(response) => response.results.into_iter().map(|it| (it.name.clone(), it)).collect(),
            Err(why) => {
                debug!(connector = %self.owner.connector, peer = self.owner.peer, why, "writes without an answer");
                for asked in batch {
                    asked.answer(Err(self.owner.unanswered(&why)));
                }
                return (places, Vec::new());
            }
        };
        let done = batch.into_iter().filter_map(|mut asked| {
            let result = results.remove(&*asked.place.1);
            let Some((version, status)) = result.and_then(|it| Some((it.version, it.status?))) else {
                asked.answer(Err(self.owner.unanswered("the answer says nothing of it")));
                return None;
            };
            if status.code != Code::Ok as i32 {
                let status = Status::new(Code::of(status.code), status.message);
                asked.answer(Err(self.owner.refusal(status)));
                return None;
            }
            let version = Version::from(version);
            asked.is_done(&version);
            Some(Done { asked, version })
        });
        (places, done.collect())
    }

    fn refuse_all(&self, batch: Vec<Asked<'a>>, status: &Status) {
        if status.code == Code::Unimplemented && !self.without.swap(true, Ordering::Relaxed) {
            info!(connector = %self.owner.connector, peer = self.owner.peer, "the server takes no writes");
        }
        for asked in batch {
            asked.answer(Err(self.owner.refusal_of_call(status.clone())));
        }
    }

    /// Answers a write when what it made is shown here, or has been overtaken.
    async fn shown(&self, Done { mut asked, version }: Done<'a>) {
        if asked.dry_run {
            return asked.answer(Ok(version.into()));
        }
        let until = asked.since + SHOWN;
        let (place, deletes) = (asked.place.clone(), asked.deletes);
        let shown = self.confirmed(&place, deletes, &version, &mut asked.listener);
        // Not shown in time, which dropping it tells.
        if let Ok(confirmed) = timeout_at(until, shown).await {
            asked.answer(Ok(confirmed));
        }
    }

    async fn confirmed(
        &self,
        place: &Place,
        deletes: bool,
        version: &Version,
        listener: &mut Listener<'a>,
    ) -> Confirmed {
        let key = Key::new(self.bus.scope().clone(), place.0.clone(), place.1.clone());
        match self.bus.get(&key) {
            None if deletes => return version.clone().into(),
            Some(record) if !deletes => {
                let held = version_of(&record);
                let given = self.told.given(&place.0, &place.1);
                if given.as_ref().unwrap_or(&held) == version {
                    return held.into();
                }
            }
            _ => {}
        }
        loop {
            match listener.next().await {
                Tale::Gone if deletes => return version.clone().into(),
                Tale::Put { given: Some(given), held } if !deletes && given == *version => {
                    return held.into();
                }
                Tale::Put { given: Some(given), held } if is_later(&given, version) => {
                    return Confirmed { overtaken_by: Some(held), ..version.clone().into() };
                }
                _ => {}
            }
        }
    }
}

/// Whether a version came after another, as far as versions say: those of a bus's own keys are positions in its log.
fn is_later(version: &Version, other: &Version) -> bool {
    let number = |version: &Version| version.parse::<u64>().ok();
    matches!((number(version), number(other)), (Some(version), Some(other)) if version > other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positions_say_what_came_after_what() {
        let later = |version: &'static str, other: &'static str| is_later(&version.into(), &other.into());
        assert!(later("10", "9"));
        assert!(!later("9", "10") && !later("9", "9") && !later("b", "a") && !later("10", "a"));
    }
}
