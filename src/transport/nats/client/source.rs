//! What every subscription publishes by: decoding, identity, dead letters and counting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;
use tracing::warn;

use super::super::codec::{Context, Decoder, Message, undecodable};
use crate::core::bus::Ingress;
use crate::core::stats::ConnectorStats;
use crate::core::{Envelope, Outcome, Reason, Receipt, Refused, Topic};

/// Makes unique ids for messages that have none: random for this connector's life, then a number.
#[derive(Debug)]
pub(super) struct Ids {
    prefix: String,
    next: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        Self { prefix: format!("{:016x}", fastrand::u64(..)), next: AtomicU64::new(1) }
    }
}

impl Ids {
    pub(super) fn next(&self) -> ByteString {
        format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed)).into()
    }
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) connector: ByteString,
    pub(super) bus: Ingress,
    pub(super) stats: Arc<ConnectorStats>,
    pub(super) ids: Arc<Ids>,
}

impl Source {
    /// The envelope of a message, or its dead letter and why it is one. `None` when not even that can be made.
    pub(super) fn read(
        &self,
        decoder: &mut Decoder,
        message: Message<'_>,
        context: impl Fn() -> Context,
    ) -> Option<(Envelope, Option<Reason>)> {
        let error = match decoder.decode(message, &context) {
            Ok(envelope) => return Some((envelope, None)),
            Err(error) => error.to_string(),
        };
        self.stats.malformed.add(1);
        let context = context();
        let (subject, id) = (message.subject, &context.id);
        warn!(connector = %self.connector, subject, %id, %error, "message cannot be read");
        let topic = Topic::from_tokens(["dead", &*self.connector]).ok()?;
        let envelope = undecodable(message, topic, context, &error);
        Some((envelope, Some(error.into())))
    }

    /// Publishes in order, waiting while the bus has no room.
    pub(super) async fn publish(&self, batch: Vec<Envelope>) -> Vec<Receipt> {
        let count = batch.len() as u64;
        let receipts = self.bus.publish(batch).await;
        self.stats.received.add(count);
        receipts
    }

    /// Why the bus did not take what a receipt is for, counted; `None` where it did, or had it before.
    pub(super) fn refusal<'r>(&self, receipt: &'r Receipt) -> Option<&'r Refused> {
        let refused = receipt.stored().err()?;
        matches!(receipt.try_delivered(), Some(Outcome::Rejected(_))).then(|| {
            self.stats.malformed.add(1);
            refused
        })
    }
}
