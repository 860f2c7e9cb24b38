//! Writes on their way to a server: which go in one request, and what their writers are told in any case.

use std::collections::VecDeque;

use bytestring::ByteString;
use hashbrown::HashSet;
use meshbus_proto::google::{self, Any};
use meshbus_proto::meshbus::UpdateRequest;
use meshbus_proto::xds::{Node, Resource};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::told::{Listener, Place};
use crate::core::write::{Confirmed, Operation, Write};
use crate::core::{Envelope, Key, Refused, Version};
use crate::schema::{aliases, ttl};
use crate::transport::xds::codec::refusal::Owner;

/// Most writes that wait, in number and in bytes; more wait with the bus.
const WAITING_MAX: usize = 256;
const WAITING_BYTES: usize = 8 << 20;
/// Most bytes of a request, unless a single write has more: servers refuse more than 4 MiB, or what they are told to.
const REQUEST_BYTES: usize = 256 << 10;

/// Writes that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Waiting<'a> {
    queue: VecDeque<Asked<'a>>,
    bytes: usize,
    /// What the server is asked to write now: the next write of it comes after that.
    under_way: HashSet<Place>,
}

/// A write on its way. Its writer is answered in any case, at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) place: Place,
    /// What is put; `None` for a deletion.
    resource: Option<Resource>,
    pub(super) deletes: bool,
    expected: Option<String>,
    pub(super) dry_run: bool,
    manager: ByteString,
    bytes: usize,
    pub(super) since: Instant,
    pub(super) listener: Listener<'a>,
    to: Option<oneshot::Sender<Result<Confirmed, Refused>>>,
    owner: Owner,
    stage: Stage,
}

/// How far a write has come.
#[derive(Debug)]
enum Stage {
    Waits,
    Asked,
    /// The server has done it, which made this version.
    Done(Version),
}

impl<'a> Asked<'a> {
    /// A write under the condition that the server has what is expected.
    pub(super) fn new(
        write: Write,
        expected: Option<String>,
        listener: Listener<'a>,
        owner: Owner,
    ) -> Self {
        let Write { key, operation, dry_run, parameters, answer, .. } = write;
        let manager = parameters.into_iter().find(|(name, _)| name == "fieldManager");
        let resource = match operation {
            Operation::Put(envelope) => Some(resource(&key, *envelope)),
            Operation::Delete | Operation::Patch { .. } => None,
        };
        Self {
            bytes: resource.as_ref().map_or(0, Message::encoded_len) + key.name.len(),
            place: (key.type_url, key.name),
            deletes: resource.is_none(),
            resource,
            expected,
            dry_run,
            manager: manager.map(|(_, manager)| manager).unwrap_or_default(),
            since: Instant::now(),
            listener,
            to: Some(answer),
            owner,
            stage: Stage::Waits,
        }
    }

    /// The server has done it.
    pub(super) fn is_done(&mut self, version: &Version) {
        self.stage = Stage::Done(version.clone());
    }

    /// Answers its writer, who may have gone.
    pub(super) fn answer(mut self, answer: Result<Confirmed, Refused>) {
        if let Some(to) = self.to.take() {
            drop(to.send(answer));
        }
    }

    /// Whether another may be in the same request.
    fn goes_with(&self, other: &Self) -> bool {
        let common = |asked: &Self| (asked.place.0.clone(), asked.dry_run, asked.manager.clone());
        common(self) == common(other)
    }

    fn is_given_up(&self) -> bool {
        self.to.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(to) = self.to.take() else { return };
        drop(to.send(Err(match &self.stage {
            Stage::Waits => self.owner.unasked(),
            Stage::Asked => self.owner.unanswered("the connection has ended"),
            Stage::Done(version) => self.owner.unshown(version),
        })));
    }
}

impl<'a> Waiting<'a> {
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < WAITING_MAX && self.bytes < WAITING_BYTES
    }

    pub(super) fn add(&mut self, asked: Asked<'a>) {
        self.bytes += asked.bytes;
        self.queue.push_back(asked);
    }

    /// The writes that can go in one request now, none before an earlier one of the same resource.
    pub(super) fn take(&mut self) -> Option<Vec<Asked<'a>>> {
        let mut batch: Vec<Asked<'a>> = Vec::new();
        let mut bytes = 0;
        let mut passed: HashSet<Place> = HashSet::new();
        let mut rest = VecDeque::with_capacity(self.queue.len());
        for mut asked in self.queue.drain(..) {
            if asked.is_given_up() {
                self.bytes -= asked.bytes;
                continue;
            }
            let free = !self.under_way.contains(&asked.place) && !passed.contains(&asked.place);
            let fits = batch
                .first()
                .is_none_or(|first| first.goes_with(&asked) && bytes + asked.bytes <= REQUEST_BYTES);
            passed.insert(asked.place.clone());
            if free && fits {
                bytes += asked.bytes;
                asked.stage = Stage::Asked;
                batch.push(asked);
            } else {
                rest.push_back(asked);
            }
        }
        self.queue = rest;
        self.bytes -= bytes;
        self.under_way.extend(batch.iter().map(|asked| asked.place.clone()));
        (!batch.is_empty()).then_some(batch)
    }

    /// The server has answered a request.
    pub(super) fn answered(&mut self, places: &[Place]) {
        for place in places {
            self.under_way.remove(place);
        }
    }
}

/// The request that asks for writes, which have much in common.
pub(super) fn request(node: &Node, batch: &mut [Asked<'_>]) -> UpdateRequest {
    let mut request = UpdateRequest { node: Some(node.clone()), ..UpdateRequest::default() };
    if let Some(first) = batch.first() {
        request.type_url = first.place.0.to_string();
        request.dry_run = first.dry_run;
        request.field_manager = first.manager.to_string();
    }
    for asked in batch {
        if let Some(expected) = asked.expected.take() {
            request.expected_versions.insert(asked.place.1.to_string(), expected);
        }
        match asked.resource.take() {
            Some(resource) => request.resources.push(resource),
            None => request.removed_resources.push(asked.place.1.to_string()),
        }
    }
    request
}

fn resource(key: &Key, envelope: Envelope) -> Resource {
    let life = ttl::of(&envelope.extensions);
    let other: Vec<ByteString> = aliases::of(&envelope.extensions);
    Resource {
        name: key.name.to_string(),
        resource: Some(Any { type_url: key.type_url.to_string(), value: envelope.data }),
        aliases: other.iter().map(ToString::to_string).collect(),
        ttl: life.map(|life| google::Duration {
            seconds: i64::try_from(life.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(life.subsec_nanos()).unwrap_or_default(),
        }),
        ..Resource::default()
    }
}
