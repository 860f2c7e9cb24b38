//! The view of an envelope that predicates get: what is worth doing once is remembered for the next one.
//!
//! A record remembers for all routes and subscribers that look at it, since its envelope never changes; a view
//! of a mere envelope remembers for itself.

use std::cell::OnceCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::data::{Json, is_json};
use super::envelope::Envelope;
use super::record::Record;

/// Expressions of one configuration whose results a record remembers.
pub const REMEMBERED_MAX: u32 = 128;
/// Bits of a result.
const BITS: u32 = 4;

/// An envelope as predicates see it.
#[derive(Debug)]
pub struct View<'e> {
    envelope: &'e Envelope,
    shared: Option<&'e Remembered>,
    own: OnceCell<Option<Json>>,
}

/// What a record remembers of its envelope. Empty until the first expression asks; then at most two kilobytes.
#[derive(Debug, Default)]
pub(crate) struct Remembered(OnceLock<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    json: OnceLock<Option<Json>>,
    results: OnceLock<Results>,
}

/// Results of the expressions of one configuration, [`BITS`] each; zero for those not known.
#[derive(Debug)]
struct Results {
    generation: u32,
    words: [AtomicU64; (REMEMBERED_MAX * BITS / u64::BITS) as usize],
}

/// Which expression of which configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// The configuration, as loaded: each time another.
    pub generation: u32,
    /// The expression in it; results of the first [`REMEMBERED_MAX`] are remembered.
    pub at: u32,
}

impl<'e> View<'e> {
    /// Of an envelope alone.
    pub fn of(envelope: &'e Envelope) -> Self {
        Self { envelope, shared: None, own: OnceCell::new() }
    }

    /// Of a record, which remembers for all its viewers.
    pub fn of_record(record: &'e Record) -> Self {
        Self { envelope: &record.envelope, shared: Some(&record.remembered), own: OnceCell::new() }
    }

    /// The envelope.
    pub fn envelope(&self) -> &'e Envelope {
        self.envelope
    }

    /// The data, parsed when it is first asked for; `None` where it is no JSON or its media type says so.
    pub fn json(&self) -> Option<&Json> {
        let read = || {
            let envelope = self.envelope;
            let wanted = !envelope.data.is_empty() && is_json(envelope.datacontenttype.as_deref());
            if wanted { Json::read(&envelope.data).ok() } else { None }
        };
        match self.shared {
            Some(shared) => shared.parts().json.get_or_init(read).as_ref(),
            None => self.own.get_or_init(read).as_ref(),
        }
    }

    /// The result of an expression, 1 to 15, computed where it is not remembered.
    pub(crate) fn remember(&self, number: Number, compute: impl FnOnce() -> u8) -> u8 {
        let Some(shared) = self.shared.filter(|_| number.at < REMEMBERED_MAX) else { return compute() };
        let results = shared
            .parts()
            .results
            .get_or_init(|| Results { generation: number.generation, words: Default::default() });
        let (at, shift) = (number.at * BITS / u64::BITS, number.at * BITS % u64::BITS);
        // After a reload both configurations' routes may look at one record: the first has the place.
        let word = results.words.get(at as usize).filter(|_| results.generation == number.generation);
        let Some(word) = word else { return compute() };
        let known = (word.load(Ordering::Relaxed) >> shift) as u8 & ((1 << BITS) - 1);
        if known != 0 {
            return known;
        }
        let result = compute();
        // Whoever else computes it at the same time finds the same.
        word.fetch_or(u64::from(result) << shift, Ordering::Relaxed);
        result
    }
}

impl Remembered {
    fn parts(&self) -> &Parts {
        self.0.get_or_init(Box::default)
    }
}
