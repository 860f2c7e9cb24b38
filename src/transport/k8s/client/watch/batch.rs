//! What a piece of a list or of a stream brings: envelopes for the bus, and what is known after them.

use bytes::Bytes;
use bytestring::ByteString;

use super::super::super::codec::envelope::{Before, Describing};
use super::super::super::codec::received::Received;
use super::super::window::{Progress, Step};
use tokio::time::Instant;
use tracing::warn;

use super::{LASTED, Subject, Watch};
use crate::core::bus::Ingress;
use crate::core::state::version_of;
use crate::core::{Cause, DecodeError, Envelope, Receipt, Refused};

/// One step that is not published yet.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) envelopes: Vec<Envelope>,
    /// Whether routes are not told.
    pub(super) quiet: bool,
    /// Whether its object was not known before.
    pub(super) fresh: bool,
    pub(super) step: Step,
}

impl Item {
    /// Only a position.
    pub(super) fn position(position: ByteString) -> Self {
        let step = Step { position: Some(position), ..Step::default() };
        Self { envelopes: Vec::new(), quiet: false, fresh: false, step }
    }

    /// The same, of which routes are not told.
    pub(super) fn silent(self) -> Self {
        Self { quiet: true, ..self }
    }
}

impl Watch<'_> {
    /// An object that is there, as a stream or a list tells it; `None` where it is known in this version.
    pub(super) fn put(
        &mut self,
        subject: &Subject,
        object: &Received,
    ) -> Result<Option<Item>, DecodeError> {
        let name = Describing::name(&object.namespace, &object.name);
        let before = self.memory.known.get(&name);
        if before.is_some_and(|before| *before.uid == *object.uid && *before.version == *object.version) {
            self.around.stats.following.repeated.add(1);
            return Ok(None);
        }
        let fresh = before.is_none();
        let mut envelopes = Vec::with_capacity(1);
        if let Some(other) = before.filter(|before| *before.uid != *object.uid) {
            // The name was given to another: the one before went while nobody looked.
            let cause = self.cause(Cause::Inferred);
            envelopes.push(subject.describing.gone(&name, &other.uid, &other.version, cause)?);
        }
        let before = before.filter(|before| *before.uid == *object.uid);
        let mut envelope = subject.describing.put(object, before)?;
        if let (Some(enrich), Some(event)) = (self.around.enrich, &object.event) {
            enrich.add(&event.about.uid, &mut envelope.extensions);
        }
        envelopes.push(envelope);
        let count = object.event.as_ref().map_or(0, |event| event.count);
        let now =
            Before { uid: object.uid.as_str().into(), version: object.version.as_str().into(), count };
        self.memory.ahead.remove(&name);
        self.memory.known.insert(name.clone(), now.clone());
        let step = Step { change: Some((name, Some(now))), ..Step::default() };
        Ok(Some(Item { envelopes, quiet: object.own, fresh, step }))
    }

    /// An object that is gone, as a stream tells it.
    pub(super) fn deleted(&mut self, subject: &Subject, object: &Received) -> Result<Item, DecodeError> {
        let name = Describing::name(&object.namespace, &object.name);
        let before = self.memory.known.remove(&name);
        self.memory.ahead.remove(&name);
        let cause = self.cause(Cause::Deleted);
        let envelopes = vec![subject.describing.delete(object, before.as_ref(), cause)?];
        let step = Step { change: Some((name, None)), ..Step::default() };
        Ok(Item { envelopes, quiet: object.own, fresh: false, step })
    }

    /// Objects that a list does not have any more.
    pub(super) fn missing(
        &mut self,
        subject: &Subject,
        name: ByteString,
    ) -> Result<Vec<Item>, DecodeError> {
        let ahead = self.memory.ahead.remove(&name);
        let before = self.memory.known.remove(&name).or(ahead);
        let Some(before) = before.or_else(|| held(self.around.bus, subject, &name)) else {
            return Ok(Vec::new());
        };
        let mut items: Vec<Item> = self.traced(subject, &name, &before)?.into_iter().collect();
        let cause = self.cause(Cause::Inferred);
        let envelopes = vec![subject.describing.gone(&name, &before.uid, &before.version, cause)?];
        let step = Step { change: Some((name, None)), ..Step::default() };
        items.push(Item { envelopes, quiet: false, fresh: false, step });
        Ok(items)
    }

    /// What routes knew of an object before the table was lost with the process: only what the table holds can
    /// change in it, or go from it.
    pub(super) fn traced(
        &self,
        subject: &Subject,
        name: &ByteString,
        before: &Before,
    ) -> Result<Option<Item>, DecodeError> {
        if self.around.bus.get(&subject.describing.key(name)).is_some() {
            return Ok(None);
        }
        let envelopes = vec![subject.describing.trace(name, before)?];
        Ok(Some(Item { envelopes, quiet: true, fresh: false, step: Step::default() }))
    }

    /// Counts what the bus did not take: too heavy, or the table is full.
    fn note_refused(&self, receipts: &[Receipt]) {
        let refused = receipts.iter().filter_map(|receipt| receipt.stored().err());
        let mut refused = refused.filter(|refused| !matches!(refused, Refused::NotFound | Refused::Closed));
        if let Some(first) = refused.next() {
            let count = 1 + refused.count() as u64;
            self.around.stats.oversize.add(count);
            warn!(watch = self.cursor, count, reason = %first, "the bus did not take objects");
        }
    }

    /// Why an object went. Events go at the end of their time to live, which nobody is told unless it is asked for.
    fn cause(&self, cause: Cause) -> Cause {
        match (self.config.is_event(), self.config.expired) {
            (true, false) => Cause::Expired,
            (true, true) => Cause::Deleted,
            (false, _) => cause,
        }
    }

    /// Keeps the names of new objects before routes are told of them: were the process killed right after, and
    /// the objects gone before it is back, nobody else would know that their end has to be told.
    async fn announce(&self, items: &[Item]) {
        if self.config.is_event() || !self.cursors.keeps_objects() {
            return;
        }
        let fresh = items.iter().filter(|item| item.fresh && !item.quiet);
        let fresh = fresh.filter_map(|item| {
            let (name, known) = item.step.change.as_ref()?;
            let unanswered = Before { version: ByteString::new(), ..known.clone()? };
            Some((name.clone(), Some(unanswered)))
        });
        let progress = Progress { position: None, changes: fresh.collect() };
        if progress.changes.is_empty() {
            return;
        }
        if let Err(reason) = self.cursors.save(&self.cursor, &progress).await {
            warn!(watch = self.cursor, reason, "the names of new objects could not be kept");
        }
    }

    /// Holds back what is told too often of one object, and tells how often it was.
    pub(super) fn slow_down(&mut self, subject: &Subject, object: &Received, item: &mut Item) {
        let (Some(rate), Some(event)) = (self.around.config.frequency, &object.event) else { return };
        if item.quiet {
            return;
        }
        // What is kept until it is summed up keeps no whole page alive.
        let held = || Received { data: Bytes::new(), ..object.clone() };
        match self.buckets.take(&event.about, rate, held) {
            Ok(0) => {}
            Ok(held_back) => {
                let summary = self.counted(|_| subject.describing.suppressed(object, held_back));
                item.envelopes.extend(summary);
            }
            Err(_) => {
                self.around.stats.following.held_back.add(1);
                item.quiet = true;
            }
        }
    }

    /// Tells how many were held back of each object whose time has come.
    pub(super) async fn sum_up(&mut self, until: Instant) {
        let Some(rate) = self.around.config.frequency else { return };
        // A kind that is not there at the moment.
        let Ok(subject) = self.subject() else { return self.buckets.put_off(LASTED) };
        let due = self.buckets.take_due(rate, until).into_iter();
        let told = due.filter_map(|(held_back, object)| {
            let summary = self.counted(|_| subject.describing.suppressed(&object, held_back))?;
            Some(Item { envelopes: vec![summary], quiet: false, fresh: false, step: Step::default() })
        });
        let told = told.collect();
        self.publish_all(told).await;
    }

    /// Publishes in order, each to whom it is meant for, and remembers what is to be answered.
    pub(super) async fn publish(&mut self, items: Vec<Item>) {
        self.announce(&items).await;
        if !self.around.lead.holds() {
            // Another one may have begun already. This watch is dropped as soon as that is noticed.
            return std::future::pending().await;
        }
        let mut items = items.into_iter().peekable();
        while let Some(first) = items.next() {
            let quiet = first.quiet;
            let mut envelopes = first.envelopes;
            let mut steps = vec![(envelopes.len(), first.step)];
            while let Some(item) = items.next_if(|item| item.quiet == quiet || item.envelopes.is_empty()) {
                steps.push((item.envelopes.len(), item.step));
                envelopes.extend(item.envelopes);
            }
            if !quiet {
                self.around.stats.received.add(envelopes.len() as u64);
            }
            let receipts = match (envelopes.is_empty(), quiet) {
                (true, _) => Vec::new(),
                (_, true) => self.around.bus.restore(envelopes).await,
                (_, false) => self.around.bus.publish(envelopes).await,
            };
            self.note_refused(&receipts);
            let mut receipts = receipts.into_iter();
            for (n, mut step) in steps {
                step.receipts = receipts.by_ref().take(n).collect::<Vec<Receipt>>();
                self.memory.window.push(step);
            }
        }
    }
}

/// What the table holds of an object, where it is one of this cluster.
fn held(bus: &Ingress, subject: &Subject, name: &ByteString) -> Option<Before> {
    let record = bus.get(&subject.describing.key(name))?;
    // `<cluster>/<uid>/<resourceVersion>/put`
    let uid = record.envelope.id.rsplit('/').nth(2).unwrap_or_default();
    Some(Before { uid: uid.into(), version: version_of(&record), count: 0 })
}
