//! Publishing: check and complete a batch, then number, apply, match and hand it on under the lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytestring::ByteString;
use tokio::time::Instant;

use super::bus::{Bus, Inner};
use super::delivery::Outcome;
use super::envelope::{Cause, Change, Envelope, Key, Seq, Value};
use super::error::Refused;
use super::fan_out::Run;
use super::log::Ring;
use super::receipt::Receipt;
use super::record::{Record, weight_of};
use super::state::Held;
use super::write::Precondition;

/// The type of a change as a CloudEvent, where its source gives none: a new key.
pub(crate) const ADDED: &str = "dev.meshbus.resource.added.v1";
/// As [`ADDED`]: a key that had a value.
pub(crate) const MODIFIED: &str = "dev.meshbus.resource.modified.v1";
/// As [`ADDED`]: a key that is gone.
pub(crate) const DELETED: &str = "dev.meshbus.resource.deleted.v1";
/// Attributes that every change is told to have.
const DESCRIBED: usize = 5;

/// An envelope on its way into the log.
pub(crate) struct Draft {
    /// Not shared yet.
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) precondition: Precondition,
    weight: usize,
}

/// Why an envelope never reached the log: both answers of its receipt.
pub(crate) type Refusal = Box<(Refused, Outcome)>;

/// What one publication has in common.
pub(crate) struct Origin<'a> {
    pub(crate) connector: &'a ByteString,
    pub(crate) scope: &'a ByteString,
    /// Routes the batch descends from.
    pub(crate) via: Option<Arc<[u64]>>,
    /// Whether routes are not told: they know it, or it is none of their business.
    pub(crate) quiet: bool,
}

/// A batch between its preparation and the log: `drafts` run parallel to `receipts`; `None` is refused.
pub(crate) struct Pending {
    drafts: std::vec::IntoIter<Option<Draft>>,
    waiting: Option<Draft>,
    at: usize,
    pub(crate) receipts: Vec<Receipt>,
}

impl Bus {
    pub(crate) async fn publish_as(
        &self,
        connector: &ByteString,
        scope: &ByteString,
        quiet: bool,
        batch: Vec<Envelope>,
    ) -> Vec<Receipt> {
        let origin = Origin { connector, scope, via: None, quiet };
        let mut pending = self.prepare(&origin, batch);
        loop {
            let room = self.0.room.notified();
            if self.append(&origin, &mut pending) {
                return pending.receipts;
            }
            room.await;
        }
    }

    /// Publishes without waiting; `None` when there is no room.
    pub(crate) fn try_publish(&self, origin: &Origin<'_>, envelope: Envelope) -> Option<Receipt> {
        let mut pending = self.prepare(origin, vec![envelope]);
        if self.append(origin, &mut pending) { pending.receipts.pop() } else { None }
    }

    /// Checks and completes what needs no lock.
    pub(crate) fn prepare(&self, origin: &Origin<'_>, batch: Vec<Envelope>) -> Pending {
        let receipts = Receipt::batch(batch.len());
        let drafts: Vec<Option<Draft>> = batch
            .into_iter()
            .zip(&receipts)
            .map(|(envelope, receipt)| match self.draft(origin, envelope, Precondition::Any) {
                Ok(draft) => Some(draft),
                Err(refusal) => {
                    receipt.refuse(refusal.0, refusal.1);
                    None
                }
            })
            .collect();
        Pending { drafts: drafts.into_iter(), waiting: None, at: 0, receipts }
    }

    /// Checks one envelope and marks where it came from.
    pub(crate) fn draft(
        &self,
        origin: &Origin<'_>,
        mut envelope: Envelope,
        precondition: Precondition,
    ) -> Result<Draft, Refusal> {
        let weight = self.check(origin, &mut envelope)?;
        Ok(Draft { envelope: Arc::new(envelope), precondition, weight })
    }

    /// Checks and marks an envelope; what its record will weigh.
    fn check(&self, origin: &Origin<'_>, envelope: &mut Envelope) -> Result<usize, Refusal> {
        let options = &self.0.options;
        let invalid = |reason: String| {
            let outcome = Outcome::Rejected(reason.clone().into());
            Refusal::new((Refused::Invalid(reason), outcome))
        };
        envelope.validate().map_err(|error| invalid(error.to_string()))?;
        match envelope.change.key() {
            Some(key) if key.scope != *origin.scope => {
                let reason = format!("{} does not own scope {:?}", origin.connector, &*key.scope);
                return Err(forbidden(reason));
            }
            None if envelope.topic.is_reserved() => {
                let reason =
                    format!("topic {:?} is reserved: only state lives there", envelope.topic.as_str());
                return Err(forbidden(reason));
            }
            _ => {}
        }
        if self.mark_origin(envelope, origin) {
            self.0.looped.fetch_add(1, Ordering::Relaxed);
            let reason = "this event has been on this bus before (mborigin, mbhops)";
            return Err(Refusal::new((Refused::Invalid(reason.to_owned()), Outcome::Filtered)));
        }
        let weight = envelope.weight();
        if weight > options.max_event {
            return Err(invalid(format!("{weight} bytes are over max_event {}", options.max_event)));
        }
        Ok(weight_of(envelope))
    }

    /// Sets origin and hops; `true` when the envelope has been here before or passed too many buses.
    fn mark_origin(&self, envelope: &mut Envelope, origin: &Origin<'_>) -> bool {
        let is_change = envelope.change != Change::Occurred;
        let extensions = &mut envelope.extensions;
        if is_change {
            // With what `describe` adds, at once.
            extensions.reserve(2 + DESCRIBED);
        }
        let (hops, name) = (("mbhops", Value::Integer(1)), ("mborigin", self.name().clone().into()));
        if extensions.set_pair(hops, name) {
            return self.0.options.max_hops <= 0;
        }
        let hops = match extensions.get("mbhops") {
            Some(Value::Integer(hops)) => *hops,
            Some(value) => value.to_text().parse().unwrap_or(0),
            None => 0,
        };
        match extensions.get("mborigin") {
            None => {
                extensions.set(ByteString::from_static("mborigin"), self.name().clone());
            }
            // What a route of this bus publishes anew is no loop: its lineage stops it.
            Some(_) if origin.via.is_some() => return false,
            Some(known) if *known.to_text() == **self.name() => return true,
            Some(_) => {}
        }
        extensions.set(ByteString::from_static("mbhops"), hops.saturating_add(1));
        hops >= self.0.options.max_hops
    }

    /// Publishes one checked draft, waiting for room.
    pub(crate) async fn publish_draft(&self, origin: &Origin<'_>, draft: Draft) -> Receipt {
        let receipts = Receipt::batch(1);
        let mut pending = Pending { drafts: vec![Some(draft)].into_iter(), waiting: None, at: 0, receipts };
        loop {
            let room = self.0.room.notified();
            if self.append(origin, &mut pending) {
                let settled = || Receipt::settled(Refused::Closed, Outcome::Filtered);
                return pending.receipts.pop().unwrap_or_else(settled);
            }
            room.await;
        }
    }

    /// Whether the table would take a draft.
    pub(crate) fn check_draft(&self, draft: &Draft) -> Result<(), Refused> {
        let inner = self.0.inner.lock();
        let admitted = inner.admit(&draft.envelope, draft.weight, &draft.precondition);
        admitted.map_err(|refusal| refusal.0)
    }

    /// Appends what is left of a batch; `false` when there is no room for the next.
    pub(crate) fn append(&self, origin: &Origin<'_>, pending: &mut Pending) -> bool {
        let at = Instant::now();
        let mut inner = self.0.inner.lock();
        let mut run = Run::new(origin, &self.0, pending.drafts.len() + 1);
        loop {
            let draft = match pending.waiting.take() {
                Some(draft) => draft,
                None => match pending.drafts.next() {
                    Some(Some(draft)) => draft,
                    Some(None) => {
                        pending.at += 1;
                        continue;
                    }
                    None => break,
                },
            };
            if self.0.full.load(Ordering::Acquire) > 0 || !inner.make_room(&draft) {
                pending.waiting = Some(draft);
                run.finish(&mut inner);
                return false;
            }
            let Some(receipt) = pending.receipts.get_mut(pending.at) else { break };
            pending.at += 1;
            if let Some(record) = inner.apply(draft, origin, receipt, at) {
                run.push(record, &mut inner);
            }
        }
        run.finish(&mut inner);
        true
    }
}

fn forbidden(reason: String) -> Refusal {
    let outcome = Outcome::Rejected(reason.clone().into());
    Refusal::new((Refused::Forbidden(reason), outcome))
}

impl Inner {
    fn make_room(&mut self, draft: &Draft) -> bool {
        let ring = if draft.envelope.change == Change::Occurred { Ring::Events } else { Ring::Changes };
        let state = &mut self.state;
        self.log.make_room(ring, draft.weight, &mut |record| state.pack(record))
    }

    /// Numbers a draft and applies it to the table; `None` when the table refused or had it already.
    fn apply(
        &mut self,
        draft: Draft,
        origin: &Origin<'_>,
        receipt: &mut Receipt,
        at: Instant,
    ) -> Option<Arc<Record>> {
        let Draft { mut envelope, precondition, weight } = draft;
        let mut previous = None;
        if let Some(key) = envelope.change.key() {
            let held = self.state.held(key);
            if let Some(held) = &held
                && let Change::Put(_, version) = &envelope.change
                && !version.is_empty()
                && precondition == Precondition::Any
                && held.version() == *version
                && !matches!(held.receipt().try_delivered(), Some(Outcome::Undelivered(_)))
            {
                // The table has this version: the publication takes the receipt of the earlier one. Where nobody got
                // that one, for its route was taken away, its source tells it again to those who take it now.
                receipt.refuse(Refused::Closed, Outcome::Delivered);
                *receipt = held.receipt();
                return None;
            }
            if let Err(refusal) = self.admit(&envelope, weight, &precondition) {
                receipt.refuse(refusal.0, refusal.1);
                return None;
            }
            previous = held.map(Held::envelope);
            describe(Arc::make_mut(&mut envelope), previous.as_deref(), self.log.next_seq());
        }
        let is_change = envelope.change != Change::Occurred;
        let record = Arc::new(Record {
            // What was described weighs more than what was checked.
            weight: if is_change { weight_of(&envelope) } else { weight },
            replaces: previous.is_some(),
            previous,
            via: origin.via.clone(),
            ..Record::new(self.log.next_seq(), envelope, origin.connector.clone(), at, receipt.clone())
        });
        receipt.set_stored(record.seq);
        self.log.append(Arc::clone(&record));
        self.state.apply(&record);
        Some(record)
    }

    /// Whether the table takes a change.
    pub(crate) fn admit(
        &self,
        envelope: &Envelope,
        weight: usize,
        precondition: &Precondition,
    ) -> Result<(), Refusal> {
        let rejected = |refused: Refused| {
            let outcome = Outcome::Rejected(refused.to_string().into());
            Refusal::new((refused, outcome))
        };
        match &envelope.change {
            Change::Occurred => Ok(()),
            Change::Put(key, _) => {
                self.state.check(key, precondition).map_err(rejected)?;
                self.state.admit(key, weight).map_err(rejected)
            }
            Change::Delete(key, ..) => {
                // What is gone already needs no deleting: nothing goes anywhere.
                if self.state.held(key).is_none() {
                    return Err(Refusal::new((Refused::NotFound, Outcome::Filtered)));
                }
                self.state.check(key, precondition).map_err(rejected)
            }
        }
    }
}

/// Fills in what a change says of itself as a CloudEvent, where its source did not.
fn describe(envelope: &mut Envelope, previous: Option<&Envelope>, seq: Seq) {
    let (key, version, kind) = match &envelope.change {
        Change::Occurred => return,
        Change::Put(key, version) => {
            (key.clone(), version.clone(), if previous.is_some() { MODIFIED } else { ADDED })
        }
        Change::Delete(key, version, _) => (key.clone(), version.clone(), DELETED),
    };
    if envelope.id.is_empty() {
        envelope.id = id_of(&key, &version, seq).into();
    }
    if envelope.source.is_empty() {
        envelope.source = source_of(&key).into();
    }
    let seq = ByteString::from(seq.to_string());
    let version = if version.is_empty() { seq.clone() } else { version };
    if let Change::Delete(_, _, cause) = &envelope.change {
        if *cause != Cause::Deleted {
            envelope.extensions.set("mbcause", cause.as_str());
        }
        if let (true, Some(previous)) = (envelope.data.is_empty(), previous) {
            envelope.data = previous.data.clone();
            envelope.datacontenttype.clone_from(&previous.datacontenttype);
        }
    }
    if envelope.kind.is_empty() {
        envelope.kind = ByteString::from_static(kind);
    }
    let Key { scope, type_url, name } = key;
    let extensions = &mut envelope.extensions;
    for (attribute, value) in [
        ("mbscope", scope),
        ("resourcetype", type_url),
        ("resourcename", name),
        ("resourceversion", version),
        ("mbseq", seq),
    ] {
        extensions.set(ByteString::from_static(attribute), value);
    }
}

/// The `id` of a change where its source gives none.
pub(crate) fn id_of(key: &Key, version: &str, seq: Seq) -> String {
    let seq = seq.to_string();
    let version = if version.is_empty() { &seq } else { version };
    [&*key.scope, &*key.type_url, &*key.name, version, &seq].join("/")
}

/// The `source` of a change where its source gives none.
pub(crate) fn source_of(key: &Key) -> String {
    format!("//meshbus/{}", key.scope)
}
