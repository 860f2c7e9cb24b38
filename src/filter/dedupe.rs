//! `dedupe`: a filter that drops what has been there: an event with the `source` and `id` of an earlier one.
//!
//! ```yaml
//! filters:
//!   - dedupe: {window: 10m, max: 100000}        # both are the defaults
//! ```
//!
//! What is remembered is what was delivered: while the first is under way its repetition waits, so that nothing is
//! acknowledged for it before its time, and when the first is rejected or not delivered, the repetition takes its
//! place. Remembered for `window` from when it came, and at most `max` of them, the oldest forgotten first. In memory
//! only: a restart forgets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use bytestring::ByteString;
use hashbrown::HashMap;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Kind;
use crate::config::values::Duration;
use crate::config::{ConfigError, Section};
use crate::core::filter::{Filter, FilterFactory, Input, PAUSE_MAX, Verdict};
use crate::core::{Envelope, Reason, Seq};

const WINDOW_MIN: StdDuration = StdDuration::from_millis(1);
const MAX: usize = 10_000_000;
/// How often a repetition looks whether the first is through.
const LOOK: StdDuration = StdDuration::from_millis(20);

/// `dedupe`.
#[derive(Debug)]
pub struct Dedupe;

/// How much is remembered.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// How long, 1ms to 24h; default 10m.
    window: Duration,
    /// How many, 1 to 10000000, about 100 bytes each; default 100000.
    max: usize,
}

/// A digest of `source` and `id`: long enough that no two events share one.
type Identity = [u8; 16];

/// An event that was let through.
#[derive(Clone, Copy, Debug)]
struct First {
    seq: Seq,
    came: Instant,
    is_settled: bool,
}

#[derive(Debug)]
struct Deduper {
    settings: Settings,
    seen: HashMap<Identity, First>,
    /// In the order in which they came; those forgotten before their time are in it still.
    order: VecDeque<(Identity, Seq)>,
    /// What was let through of a record under way.
    under_way: HashMap<Seq, Vec<Identity>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), max: 100_000 }
    }
}

impl Kind for Dedupe {
    fn name(&self) -> &'static str {
        "dedupe"
    }

    fn schema(&self) -> Schema {
        schema_for!(Settings)
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let settings: Settings = section.parse()?;
        if !(WINDOW_MIN..=PAUSE_MAX).contains(&settings.window.0) {
            let reason = format!("{} is out of bounds", settings.window);
            return Err(section.error_with_hint("window", reason, "1ms to 24h"));
        }
        if !(1..=MAX).contains(&settings.max) {
            let reason = format!("{} is out of bounds", settings.max);
            return Err(section.error_with_hint("max", reason, format!("1 to {MAX}")));
        }
        Ok(Arc::new(settings))
    }
}

impl FilterFactory for Settings {
    fn name(&self) -> ByteString {
        ByteString::from_static("dedupe")
    }

    fn wants_settled(&self) -> bool {
        true
    }

    fn build(&self) -> Result<Box<dyn Filter>, Reason> {
        let (seen, order, under_way) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Ok(Box::new(Deduper { settings: *self, seen, order, under_way }))
    }
}

impl Filter for Deduper {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        batch.iter().map(|input| self.judge(input)).collect()
    }

    fn settled(&mut self, seq: Seq, taken: bool) {
        for identity in self.under_way.remove(&seq).unwrap_or_default() {
            let Some(first) = self.seen.get_mut(&identity).filter(|first| first.seq == seq) else {
                continue;
            };
            if taken {
                first.is_settled = true;
            } else {
                self.seen.remove(&identity);
            }
        }
    }
}

impl Deduper {
    fn judge(&mut self, input: &Input<'_>) -> Verdict {
        let identity = identity(input.envelope);
        self.forget(input.now);
        if let Some(first) = self.seen.get(&identity).filter(|first| self.remembers(first, input.now)) {
            // Of the same record: what came twice out of one filter is one too many, and nothing to wait for.
            let is_through = first.is_settled || first.seq == input.seq;
            return if is_through {
                Verdict::Drop(Some("a repetition".into()))
            } else {
                Verdict::Hold(LOOK)
            };
        }
        let first = First { seq: input.seq, came: input.now, is_settled: false };
        self.seen.insert(identity, first);
        self.order.push_back((identity, input.seq));
        self.under_way.entry(input.seq).or_default().push(identity);
        Verdict::Pass
    }

    /// Whether it is in its window; one under way too, so that no wait is longer.
    fn remembers(&self, first: &First, now: Instant) -> bool {
        now.saturating_duration_since(first.came) < self.settings.window.0
    }

    /// Forgets the oldest: those out of their window, and those too many.
    fn forget(&mut self, now: Instant) {
        while let Some((identity, seq)) = self.order.front() {
            let first = self.seen.get(identity).filter(|first| first.seq == *seq);
            let is_over = first.is_none_or(|first| !self.remembers(first, now));
            if !is_over && self.order.len() < self.settings.max {
                return;
            }
            if first.is_some() {
                self.seen.remove(identity);
            }
            self.order.pop_front();
        }
    }
}

fn identity(envelope: &Envelope) -> Identity {
    let mut digest = Sha256::new();
    // The length tells where the source ends.
    digest.update((envelope.source.len() as u64).to_le_bytes());
    digest.update(envelope.source.as_bytes());
    digest.update(envelope.id.as_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    std::array::from_fn(|at| digest.get(at).copied().unwrap_or_default())
}
