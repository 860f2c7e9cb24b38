//! From a response to the table: what there is, what is gone, and what could not be taken.

use std::collections::HashMap;

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashSet;
use tracing::debug;

use super::told::Told;
use crate::core::bus::Ingress;
use crate::core::state::{Held, Snapshot, version_of};
use crate::core::{Cause, Change, Envelope, Key, Refused, Topic, Version};
use crate::schema::address::topic_of;
use crate::schema::kinds::proto_name;
use crate::schema::protobuf::MEDIA_TYPE;
use crate::transport::xds::codec::named::{digest_of, is_object};
use crate::transport::xds::codec::received::{Fault, Found, Received};
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::Code;
use crate::transport::xds::codec::wants::Wants;

/// Resources that are published at a time.
const BATCH: usize = 256;

/// Puts what a server tells into the scope.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    bus: &'a Ingress,
    told: &'a Told,
}

/// What became of a response.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What is there now, with its bytes.
    pub(super) put: Vec<(ByteString, Bytes)>,
    /// What is not there any more.
    pub(super) gone: Vec<ByteString>,
    /// What was not taken.
    pub(super) faults: Vec<Fault>,
}

impl<'a> Intake<'a> {
    /// For the scope that `bus` owns.
    pub(super) fn new(bus: &'a Ingress, told: &'a Told) -> Self {
        told.follow_nothing();
        Self { bus, told }
    }

    /// What was told of single resources.
    pub(super) fn told(&self) -> &'a Told {
        self.told
    }

    /// The bus, as its owner.
    pub(super) fn bus(&self) -> &'a Ingress {
        self.bus
    }

    /// Takes a response. `cause` is why what it says is removed is gone.
    pub(super) async fn take(
        &mut self,
        variant: Variant,
        wants: &Wants,
        mut received: Received,
        cause: Cause,
    ) -> Taken {
        let type_url = wants.type_url();
        let snapshot = self.bus.snapshot();
        let whole = variant == Variant::Sotw && wants.is_whole();
        let absent = if whole && received.tells_absence() {
            let there: HashSet<&ByteString> = received.present().chain(received.unseen()).collect();
            self.held(&snapshot, type_url).filter(|name| !there.contains(name)).cloned().collect()
        } else {
            Vec::new()
        };
        let mut taken = Taken { faults: std::mem::take(&mut received.faults), ..Taken::default() };
        self.put(&snapshot, wants, received.found, &mut taken).await;
        for (name, status) in &received.errors {
            if status.code != Code::NotFound {
                debug!(%type_url, %name, %status, "the server has nothing for a name");
            }
        }
        let missing = received.errors.into_iter().filter(|(_, status)| status.code == Code::NotFound);
        let removed: Vec<_> = received.removed.into_iter().chain(missing.map(|(name, _)| name)).collect();
        taken.gone = self.delete(type_url, removed, cause).await;
        taken.gone.extend(self.delete(type_url, absent, Cause::Inferred).await);
        taken
    }

    async fn put(&mut self, snapshot: &Snapshot, wants: &Wants, found: Vec<Found>, taken: &mut Taken) {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let (mut batch, mut named) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
            for one in found.by_ref().take(BATCH) {
                if !wants.wants(&one.name) {
                    debug!(type_url = %wants.type_url(), name = %one.name, "came and was not asked for");
                    continue;
                }
                let key = Key::new(self.bus.scope().clone(), wants.type_url().clone(), one.name);
                match topic_of(&key) {
                    Ok(topic) => {
                        let (envelope, data) = self.envelope(snapshot, topic, &key, one.version, &one.data);
                        batch.push(envelope);
                        named.push((key.name, data));
                    }
                    Err(reason) => taken.faults.push(Fault { name: Some(key.name), reason }),
                }
            }
            for (receipt, (name, data)) in self.bus.publish(batch).await.into_iter().zip(named) {
                match receipt.stored() {
                    Ok(_) => taken.put.push((name, data)),
                    Err(refused) => {
                        let reason = format!("not stored: {refused}");
                        self.told.forget(wants.type_url(), &name);
                        taken.faults.push(Fault { name: Some(name), reason });
                    }
                }
            }
            // Others have their turn while many are put.
            tokio::task::yield_now().await;
        }
    }

    /// The change of one resource, which is none to the bus where the table has these very bytes.
    fn envelope(
        &mut self,
        snapshot: &Snapshot,
        topic: Topic,
        key: &Key,
        given: Option<Version>,
        data: &Bytes,
    ) -> (Envelope, Bytes) {
        let held = snapshot.get(key);
        let version = match &held {
            // A server that was started again may give another version to what has not changed.
            Some(record) if record.envelope.data == *data => version_of(record),
            // And the same to what has.
            Some(record) if given.as_ref().is_none_or(|given| *given == version_of(record)) => {
                digest_of(data).into()
            }
            _ => given.clone().unwrap_or_else(|| digest_of(data).into()),
        };
        self.told.note(key, given.as_ref(), &version);
        // A copy: a part of a response would keep all of it for as long as the resource is there.
        let data = match held {
            Some(record) if record.envelope.data == *data => record.envelope.data.clone(),
            _ => Bytes::copy_from_slice(data),
        };
        let mut envelope = Envelope::put(topic, key.clone(), version, data.clone());
        envelope.datacontenttype = media_type(&key.type_url).map(ByteString::from_static);
        (envelope, data)
    }

    /// Deletes what is there of these names, and gives their names.
    pub(super) async fn delete(
        &mut self,
        type_url: &ByteString,
        names: Vec<ByteString>,
        cause: Cause,
    ) -> Vec<ByteString> {
        let snapshot = self.bus.snapshot();
        let mut gone = Vec::new();
        for names in names.chunks(BATCH) {
            let mut batch = Vec::with_capacity(names.len());
            for name in names {
                self.told.gone(type_url, name);
                let key = Key::new(self.bus.scope().clone(), type_url.clone(), name.clone());
                if let Some(record) = snapshot.get(&key)
                    && let Change::Put(_, version) = &record.envelope.change
                {
                    let topic = record.envelope.topic.clone();
                    batch.push(Envelope::delete(topic, key, version.clone(), cause));
                    gone.push(name.clone());
                }
            }
            for receipt in self.bus.publish(batch).await {
                if let Err(refused) = receipt.stored()
                    && *refused != Refused::NotFound
                {
                    debug!(%type_url, %refused, "not deleted");
                }
            }
        }
        gone
    }

    /// The names that the table has of a type.
    pub(super) fn held<'s>(
        &'s self,
        snapshot: &'s Snapshot,
        type_url: &'s str,
    ) -> impl Iterator<Item = &'s ByteString> {
        snapshot.names(self.bus.scope(), type_url, None)
    }

    /// The versions of what the table has and is wanted, as the server gave them.
    pub(super) fn known(&self, wants: &Wants) -> HashMap<String, String> {
        let snapshot = self.bus.snapshot();
        let range = snapshot.range(Some(self.bus.scope()), Some(wants.type_url()), None);
        let known = range.map(Held::record).filter_map(|record| {
            let name = &record.envelope.change.key()?.name;
            let given = self.told.given(wants.type_url(), name);
            let version = given.unwrap_or_else(|| version_of(&record));
            wants.wants(name).then(|| (name.to_string(), version.to_string()))
        });
        known.collect()
    }
}

fn media_type(type_url: &str) -> Option<&'static str> {
    if proto_name(type_url).is_some() {
        return Some(MEDIA_TYPE);
    }
    is_object(type_url).then_some("application/json")
}
