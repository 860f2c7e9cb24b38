//! What goes wrong, how often, and how often it did.

use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

/// One way in which an API server is nasty without being wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A watch is answered with HTTP 410, and its resource version is gone.
    GoneAtStart,
    /// A watch is answered with 200 and an empty body that ends at once; its resource version is gone.
    EmptyWatch,
    /// A running watch gets an ERROR of 410 in place of its next change, and its resource version is gone.
    GoneInStream,
    /// A write is followed by compaction: every resource version known so far is gone.
    Compaction,
    /// A page token has expired.
    PageExpiry,
    /// 429 with `Retry-After`, as a Status or in plain text, before anything is done.
    TooManyRequests,
    /// 503 before anything is done.
    Unavailable,
    /// 504; a write may have been done.
    GatewayTimeout,
    /// The connection is reset before anything is done.
    Reset,
    /// A write is done, then the connection is reset before the answer.
    AnswerLost,
    /// A watch breaks off in the middle of a line.
    CutInLine,
    /// A watch breaks off after a line.
    CutBetweenLines,
    /// A bookmark that was due is not sent.
    NoBookmark,
    /// A body comes in many small pieces.
    Trickle,
    /// A watch ends cleanly long before its timeout.
    EarlyTimeout,
    /// A page does not say how many remain.
    NoRemaining,
    /// LIST or WATCH at resource version 0 shows an older state.
    Stale,
    /// The server restarts: every connection breaks, and caches start empty.
    Restart,
}

/// Every fault, in the order of its number.
pub(crate) const FAULTS: [Fault; 18] = [
    Fault::GoneAtStart,
    Fault::EmptyWatch,
    Fault::GoneInStream,
    Fault::Compaction,
    Fault::PageExpiry,
    Fault::TooManyRequests,
    Fault::Unavailable,
    Fault::GatewayTimeout,
    Fault::Reset,
    Fault::AnswerLost,
    Fault::CutInLine,
    Fault::CutBetweenLines,
    Fault::NoBookmark,
    Fault::Trickle,
    Fault::EarlyTimeout,
    Fault::NoRemaining,
    Fault::Stale,
    Fault::Restart,
];

/// The dice, and their score.
#[derive(Debug)]
pub(crate) struct Chaos {
    dice: Mutex<Dice>,
}

#[derive(Debug)]
struct Dice {
    /// For all that is no fault: names, times, places.
    rng: Rng,
    /// One for each fault, so that the nth chance of one does not depend on the others.
    faults: Vec<Rng>,
    probability: [f64; FAULTS.len()],
    /// Times that a fault strikes whatever the dice say.
    forced: [u32; FAULTS.len()],
    happened: [u64; FAULTS.len()],
}

impl Chaos {
    pub(crate) fn new(seed: u64, probability: [f64; FAULTS.len()]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let dice = Dice {
            faults: FAULTS.iter().map(|_| rng.fork()).collect(),
            rng,
            probability,
            forced: [0; FAULTS.len()],
            happened: [0; FAULTS.len()],
        };
        Self { dice: Mutex::new(dice) }
    }

    /// Whether this fault strikes here; counted if it does.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        let dice = &mut *self.dice.lock();
        let number = fault as usize;
        let roll = dice.faults[number].f64();
        let strikes = if dice.forced[number] > 0 {
            dice.forced[number] -= 1;
            true
        } else {
            roll < dice.probability[number]
        };
        dice.happened[number] += u64::from(strikes);
        strikes
    }

    pub(crate) fn set(&self, fault: Fault, probability: f64) {
        self.dice.lock().probability[fault as usize] = probability;
    }

    pub(crate) fn force(&self, fault: Fault, times: u32) {
        self.dice.lock().forced[fault as usize] += times;
    }

    pub(crate) fn quiet(&self) {
        let dice = &mut *self.dice.lock();
        dice.probability = [0.0; FAULTS.len()];
        dice.forced = [0; FAULTS.len()];
    }

    pub(crate) fn happened(&self, fault: Fault) -> u64 {
        self.dice.lock().happened[fault as usize]
    }

    /// A number in a range that excludes its end.
    pub(crate) fn pick(&self, range: std::ops::Range<u64>) -> u64 {
        self.dice.lock().rng.u64(range)
    }

    pub(crate) fn coin(&self) -> bool {
        self.dice.lock().rng.bool()
    }

    /// A time between the two.
    pub(crate) fn time(&self, from: Duration, to: Duration) -> Duration {
        Duration::from_millis(self.pick(from.as_millis() as u64..to.as_millis() as u64 + 1))
    }

    /// A random version 4 UUID.
    pub(crate) fn uid(&self) -> String {
        let bits = self.dice.lock().rng.u128(..);
        let hex = format!("{bits:032x}");
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    /// What a server appends to a `generateName`.
    pub(crate) fn suffix(&self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let dice = &mut *self.dice.lock();
        (0..5).map(|_| char::from(LETTERS[dice.rng.usize(..LETTERS.len())])).collect()
    }
}
