//! Writes of state: what is asked, under which precondition, and how the owner answers.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::bus::{Bus, method_not_allowed};
use super::consumer::Overflow;
use super::envelope::{Cause, Change, Envelope, Key, Seq, Version};
use super::error::Refused;
use super::publish::Origin;
use super::selector::Selector;
use super::state::version_of;
use super::subscription::{Message, Start, Subscription};
use super::timestamp::Timestamp;

/// How long a connector that owns a key has to confirm a write.
pub const OWNER_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do to a key.
#[derive(Clone, Debug)]
pub enum Operation {
    /// The value becomes the envelope's data. The envelope's change is set by the bus.
    Put(Box<Envelope>),
    /// The key goes.
    Delete,
    /// A patch in the media type's own semantics; only owners that know it apply it.
    Patch {
        /// `application/json-patch+json`, `application/merge-patch+json`, …
        media_type: ByteString,
        /// The patch.
        bytes: Bytes,
    },
}

/// What must hold for a write, checked when it is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    Any,
    /// The key does not exist.
    Absent,
    /// The key's last change has this sequence.
    Seq(Seq),
    /// The key has this version.
    Version(Version),
}

/// A write that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The sequence of the change; zero for a dry run.
    pub seq: Seq,
    /// The key's version now; of a delete, the last one.
    pub version: Version,
    /// Whether the key was created.
    pub created: bool,
    /// The value as the owner answered it, where the owner is another than the bus and did.
    pub data: Bytes,
}

/// What only the protocols of the writer and of the owner know about a write, by name: `fieldManager`,
/// `subresource`, `force`. An owner takes no notice of what it does not know.
pub type Parameters = Vec<(ByteString, ByteString)>;

/// An owner's answer to a write that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The version the source gave; the bus waits until the source's stream shows it.
    pub version: Version,
    /// The value as the source answered it; empty where it answers none.
    pub data: Bytes,
    /// Whether a key that was to be deleted still exists: its source has something to do first.
    pub remains: bool,
    /// The version that the source's stream shows in place of the one it gave, where another write came after it before
    /// it was shown.
    pub overtaken_by: Option<Version>,
}

impl From<Version> for Confirmed {
    fn from(version: Version) -> Self {
        Self { version, ..Self::default() }
    }
}

/// A write on its way to the connector that owns the key.
#[derive(Debug)]
pub struct Write {
    /// Which key.
    pub key: Key,
    /// What to do.
    pub operation: Operation,
    /// Under which precondition; the source's own conflict rules stand above it.
    pub precondition: Precondition,
    /// Whether to check only.
    pub dry_run: bool,
    /// What else the writer said.
    pub parameters: Parameters,
    /// The one answer: what the source made of it, or its own refusal. The bus then waits until the
    /// source's stream shows that version. Dropped, the write has timed out.
    pub answer: oneshot::Sender<Result<Confirmed, Refused>>,
}

/// The reading end of the writes to one connector.
#[derive(Debug)]
pub struct Writes(pub(crate) mpsc::Receiver<Write>);

impl Writes {
    /// Of a connector that gets none.
    pub fn none() -> Self {
        Self(mpsc::channel(1).1)
    }

    /// The next write; `None` when the bus is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Write> {
        self.0.recv().await
    }

    /// Answers all with the same refusal: the source is away. Cancel safe.
    pub async fn refuse(&mut self, refused: &Refused) -> Infallible {
        while let Some(write) = self.recv().await {
            // Whoever wrote may have gone.
            drop(write.answer.send(Err(refused.clone())));
        }
        std::future::pending().await
    }
}

/// Who may write a scope.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// The bus itself.
    Local,
    /// A connector that cannot write.
    ReadOnly(ByteString),
    /// A connector that writes through to its source.
    Connector(ByteString, mpsc::Sender<Write>),
}

/// Who owns a key space, and whether they take writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The bus itself.
    Local,
    /// This connector, which takes none.
    ReadOnly(ByteString),
    /// This connector, which writes through to its source.
    Writable(ByteString),
}

impl From<&Owner> for Ownership {
    fn from(owner: &Owner) -> Self {
        match owner {
            Owner::Local => Self::Local,
            Owner::ReadOnly(connector) => Self::ReadOnly(connector.clone()),
            Owner::Connector(connector, _) => Self::Writable(connector.clone()),
        }
    }
}

impl Bus {
    /// Writes one key through its owner: the log for `local`, the source for a connector that can write.
    ///
    /// A source's write is answered when its own stream shows the result; the table never holds what its
    /// owner did not confirm.
    ///
    /// # Errors
    /// [`Refused`]: the precondition, the owner's own refusal, no such scope or key, or no answer in time.
    pub async fn write(
        &self,
        key: Key,
        operation: Operation,
        precondition: Precondition,
        dry_run: bool,
    ) -> Result<Stored, Refused> {
        self.write_with(key, operation, precondition, dry_run, Parameters::new()).await
    }

    /// As [`write`](Self::write), with what only writer and owner know.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_with(
        &self,
        key: Key,
        operation: Operation,
        precondition: Precondition,
        dry_run: bool,
        parameters: Parameters,
    ) -> Result<Stored, Refused> {
        let owner = self.0.inner.lock().owners.get(&key.scope).cloned();
        match owner {
            None => Err(Refused::NotFound),
            Some(Owner::Local) => self.write_local(key, operation, precondition, dry_run).await,
            Some(Owner::ReadOnly(owner)) => Err(method_not_allowed(&owner)),
            Some(Owner::Connector(owner, writes)) => {
                let deadline = Instant::now() + OWNER_TIMEOUT;
                let (answer, answered) = oneshot::channel();
                let write = Write { key, operation, precondition, dry_run, parameters, answer };
                let through = self.write_through(write, answered, &writes);
                timeout_at(deadline, through)
                    .await
                    .ok()
                    .flatten()
                    .unwrap_or(Err(Refused::Timeout { owner }))
            }
        }
    }

    async fn write_local(
        &self,
        key: Key,
        operation: Operation,
        precondition: Precondition,
        dry_run: bool,
    ) -> Result<Stored, Refused> {
        let (scope, connector) = (key.scope.clone(), bytestring::ByteString::new());
        let origin = Origin { connector: &connector, scope: &scope, via: None, quiet: false };
        let held = self.get(&key);
        let created = held.is_none();
        let envelope = match operation {
            Operation::Put(envelope) => {
                let mut envelope = *envelope;
                envelope.change = Change::Put(key.clone(), Version::default());
                envelope.time.get_or_insert_with(Timestamp::now);
                envelope
            }
            Operation::Delete => {
                let held = held.as_ref().ok_or(Refused::NotFound)?;
                let topic = held.envelope.topic.clone();
                Envelope::delete(topic, key.clone(), version_of(held), Cause::Deleted)
            }
            Operation::Patch { media_type, .. } => return Err(Refused::UnsupportedMediaType(media_type)),
        };
        let draft = self.draft(&origin, envelope, precondition).map_err(|refusal| refusal.0)?;
        if dry_run {
            let version = held.as_deref().map(version_of).unwrap_or_default();
            self.check_draft(&draft)?;
            return Ok(Stored { seq: Seq::default(), version, created, data: Bytes::new() });
        }
        let receipt = self.publish_draft(&origin, draft).await;
        let seq = receipt.stored().map_err(Clone::clone)?;
        Ok(Stored { seq, version: seq.to_string().into(), created, data: Bytes::new() })
    }

    /// `None` when the connector is away or dropped the write.
    async fn write_through(
        &self,
        write: Write,
        answered: oneshot::Receiver<Result<Confirmed, Refused>>,
        writes: &mpsc::Sender<Write>,
    ) -> Option<Result<Stored, Refused>> {
        let key = write.key.clone();
        let selector = Selector {
            scope: Some(key.scope.clone()),
            type_url: Some(key.type_url.clone()),
            name: Some(key.name.clone()),
            ..Selector::default()
        };
        // Following before writing: the result may be on the stream before the answer is.
        let follow = self.subscribe(selector, Start::Now, 64, Overflow::DropOldest).ok()?;
        let created = self.get(&key).is_none();
        let (dry_run, deletes) = (write.dry_run, matches!(write.operation, Operation::Delete));
        writes.send(write).await.ok()?;
        Some(match answered.await.ok()? {
            Ok(Confirmed { version, data, .. }) if dry_run => {
                Ok(Stored { seq: Seq::default(), version, created, data })
            }
            Ok(Confirmed { version, data, remains, overtaken_by }) => {
                let left = (!deletes || remains).then_some(&version);
                let seq = self.shown(&key, overtaken_by.as_ref().or(left), follow).await?;
                Ok(Stored { seq, version, created, data })
            }
            Err(refused) => Err(refused),
        })
    }

    /// Waits until the table shows the key at `version`, or gone where that is `None`.
    async fn shown(&self, key: &Key, version: Option<&Version>, mut follow: Subscription) -> Option<Seq> {
        loop {
            match (self.get(key), version) {
                (Some(record), Some(version)) if version_of(&record) == *version => {
                    return Some(record.seq);
                }
                (None, None) => return Some(self.figures().seq),
                _ => {}
            }
            match follow.next().await? {
                Message::Batch(records) => {
                    // What was overtaken at once was shown all the same.
                    let shown = records.iter().find(|record| match version {
                        Some(version) => version_of(record) == *version,
                        None => matches!(record.envelope.change, Change::Delete(..)),
                    });
                    if let Some(record) = shown {
                        return Some(record.seq);
                    }
                }
                Message::Gone(_) => return None,
                Message::SnapshotBegin | Message::SnapshotEnd(_) | Message::Lost(_) => {}
            }
        }
    }
}
