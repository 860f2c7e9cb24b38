//! Records in the form subscribers get: encoded once, shared by all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::core::record::Record;
use crate::core::{Envelope, Seq};
use crate::schema::cloudevents::json;

/// The extension that tells a reader an event's topic. The bus sets it: on the way in it is taken off.
pub(super) const TOPIC: &str = "mbtopic";
/// Most records kept.
const KEPT: usize = 256;
/// Most bytes kept.
const BYTES: usize = 4 << 20;

/// The last records as JSON, for subscribers that read at about the same time.
#[derive(Debug, Default)]
pub(super) struct Encoded(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<(Arc<Envelope>, Bytes)>,
    bytes: usize,
}

impl Encoded {
    /// The record as a JSON CloudEvent on one line; see [`to_json`].
    pub(super) fn json(&self, record: &Record) -> Bytes {
        // By identity: a subscription may see the same position as something else.
        let is_it = |(envelope, _): &&(Arc<Envelope>, Bytes)| Arc::ptr_eq(envelope, &record.envelope);
        let found = self.0.lock().records.iter().rev().find(is_it).map(|(_, bytes)| bytes.clone());
        found.unwrap_or_else(|| {
            let bytes = to_json(record.seq, &record.envelope);
            self.0.lock().keep(Arc::clone(&record.envelope), bytes.clone());
            bytes
        })
    }
}

impl Kept {
    fn keep(&mut self, envelope: Arc<Envelope>, bytes: Bytes) {
        self.bytes += bytes.len();
        self.records.push_back((envelope, bytes));
        while self.records.len() > KEPT || self.bytes > BYTES {
            let Some((_, gone)) = self.records.pop_front() else { return };
            self.bytes -= gone.len();
        }
    }
}

/// An envelope as JSON, with its position as extension `mbseq` and its topic as extension `mbtopic`.
pub(super) fn to_json(seq: Seq, envelope: &Envelope) -> Bytes {
    let mut envelope = envelope.clone();
    envelope.extensions.set("mbseq", seq.to_string());
    envelope.extensions.set(TOPIC, envelope.topic.text().clone());
    json::encode(&envelope).into()
}
