//! The ledger of a fault test: numbered events, which of them the sender saw acknowledged, and the check of what
//! arrived: nothing missing, altered or invented, per-key order over first occurrences, duplicates counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;

/// Bytes of every payload.
pub(crate) const PAYLOAD: usize = 1024;

/// Context attributes as text, extensions among them.
pub(crate) type Attributes = BTreeMap<String, String>;

/// The events of one run. Event `n` is the same in every run with the same seed.
#[derive(Debug)]
pub(crate) struct Ledger {
    seed: u64,
    keys: Vec<u16>,
    sent: Vec<AtomicU32>,
    acknowledged: Vec<AtomicBool>,
}

/// One event as it was found at the end of the way.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) attributes: Attributes,
    pub(crate) key: String,
    pub(crate) payload: Bytes,
}

impl Ledger {
    /// `events` events over `keys` keys.
    pub(crate) fn new(seed: u64, events: usize, keys: u16) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            seed,
            keys: (0..events).map(|_| random.u16(0..keys)).collect(),
            sent: (0..events).map(|_| AtomicU32::new(0)).collect(),
            acknowledged: (0..events).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    pub(crate) fn events(&self) -> usize {
        self.keys.len()
    }

    /// The key of event `n`, one token of a topic.
    pub(crate) fn key(&self, n: usize) -> String {
        format!("k{}", self.keys[n])
    }

    /// The events of each key in their order.
    pub(crate) fn by_key(&self) -> Vec<Vec<usize>> {
        let mut by_key = BTreeMap::<u16, Vec<usize>>::new();
        for (n, key) in self.keys.iter().enumerate() {
            by_key.entry(*key).or_default().push(n);
        }
        by_key.into_values().collect()
    }

    /// What event `n` carries, `specversion` included.
    pub(crate) fn attributes(&self, n: usize) -> Attributes {
        let pairs = [
            ("specversion", "1.0".to_owned()),
            ("id", format!("{:016x}-{n}", self.seed)),
            ("source", "/interop/ledger".to_owned()),
            ("type", "dev.meshbus.interop.numbered".to_owned()),
            ("subject", format!("Euro € {n}")),
            ("datacontenttype", "application/octet-stream".to_owned()),
            ("interopnumber", n.to_string()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Bytes that only event `n` of this seed has.
    pub(crate) fn payload(&self, n: usize) -> Bytes {
        let mut random = fastrand::Rng::with_seed(self.seed.rotate_left(17) ^ n as u64);
        let mut payload = vec![0; PAYLOAD];
        random.fill(&mut payload);
        payload.into()
    }

    /// Notes an attempt to send it.
    pub(crate) fn sent(&self, n: usize) {
        self.sent[n].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the sender saw its acknowledgement.
    pub(crate) fn acknowledge(&self, n: usize) {
        self.acknowledged[n].store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_acknowledged(&self, n: usize) -> bool {
        self.acknowledged[n].load(Ordering::Relaxed)
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.iter().filter(|acknowledged| acknowledged.load(Ordering::Relaxed)).count()
    }

    fn number(&self, id: &str) -> Option<usize> {
        let (seed, n) = id.split_once('-')?;
        let n: usize = n.parse().ok()?;
        let ours = u64::from_str_radix(seed, 16) == Ok(self.seed) && n < self.events();
        (ours && self.sent[n].load(Ordering::Relaxed) > 0).then_some(n)
    }

    /// Compares what arrived, in the order in which it arrived, with what was sent and acknowledged.
    pub(crate) fn check<'a>(&self, arrived: impl IntoIterator<Item = &'a Seen>) -> Report {
        let mut report = Report { seed: self.seed, acknowledged: self.acknowledged(), ..Report::default() };
        let mut times = vec![0u32; self.events()];
        let mut newest = BTreeMap::<u16, usize>::new();
        for seen in arrived {
            report.arrived += 1;
            let Some(n) = seen.attributes.get("id").and_then(|id| self.number(id)) else {
                report.phantoms.push(format!("{:?}", seen.attributes));
                continue;
            };
            if seen.payload != self.payload(n) || seen.key != self.key(n) {
                report.corrupted.push(n);
            }
            let mut attributes = seen.attributes.clone();
            attributes.retain(|name, _| !matches!(name.as_str(), "mborigin" | "mbhops"));
            if attributes != self.attributes(n) {
                report.altered.push(format!("{n}: {attributes:?}"));
            }
            times[n] += 1;
            if times[n] == 1 {
                let newest = newest.entry(self.keys[n]).or_insert(n);
                if *newest > n {
                    report.out_of_order.push(n);
                }
                *newest = n.max(*newest);
            }
        }
        for (n, times) in times.iter().enumerate() {
            if *times == 0 && self.is_acknowledged(n) {
                report.missing.push(n);
            }
            let copies = times.saturating_sub(1) as usize;
            let resent = self.sent[n].load(Ordering::Relaxed).saturating_sub(1) as usize;
            report.duplicates_of_sender += copies.min(resent);
            report.duplicates += copies.saturating_sub(resent);
        }
        report
    }
}

/// What [`Ledger::check`] found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// Events whose acknowledgement the sender saw.
    pub(crate) acknowledged: usize,
    /// Messages found, duplicates included.
    pub(crate) arrived: usize,
    /// Acknowledged and not found: the one thing that must never be.
    pub(crate) missing: Vec<usize>,
    /// First occurrences that came after a later event of the same key.
    pub(crate) out_of_order: Vec<usize>,
    /// Found, and never sent.
    pub(crate) phantoms: Vec<String>,
    /// With another payload or under another key.
    pub(crate) corrupted: Vec<usize>,
    /// With other attributes.
    pub(crate) altered: Vec<String>,
    /// Copies beyond those the sender made.
    pub(crate) duplicates: usize,
    /// Copies that come of the sender's sending again what it saw no acknowledgement for.
    pub(crate) duplicates_of_sender: usize,
}

impl Report {
    /// Panics unless everything acknowledged arrived, as it was sent, in order per key.
    pub(crate) fn assert_kept(&self) {
        let kept = self.missing.is_empty()
            && self.out_of_order.is_empty()
            && self.phantoms.is_empty()
            && self.corrupted.is_empty()
            && self.altered.is_empty();
        assert!(kept, "the promise is broken: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {} · acknowledged {} · arrived {} · duplicates {} · of the sender {}",
            self.seed, self.acknowledged, self.arrived, self.duplicates, self.duplicates_of_sender
        )?;
        few(f, "missing", &self.missing)?;
        few(f, "out of order", &self.out_of_order)?;
        few(f, "phantoms", &self.phantoms)?;
        few(f, "corrupted", &self.corrupted)?;
        few(f, "altered", &self.altered)
    }
}

fn few<T: fmt::Debug>(f: &mut fmt::Formatter<'_>, what: &str, all: &[T]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {what}: {}, first {:?}", all.len(), all.iter().take(5).collect::<Vec<_>>())
}

/// The checker itself is checked: each fault it must see, it sees.
mod checks {
    use super::{Ledger, Seen};

    fn arrived(ledger: &Ledger) -> Vec<Seen> {
        let seen =
            |n| Seen { attributes: ledger.attributes(n), key: ledger.key(n), payload: ledger.payload(n) };
        (0..ledger.events()).map(seen).collect()
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::new(7, 20, 3);
        for n in 0..20 {
            ledger.sent(n);
            ledger.acknowledge(n);
        }
        ledger
    }

    #[test]
    fn what_arrived_as_sent_is_kept() {
        let ledger = ledger();
        ledger.check(&arrived(&ledger)).assert_kept();
    }

    #[test]
    fn a_loss_is_seen() {
        let ledger = ledger();
        let mut seen = arrived(&ledger);
        seen.remove(11);
        assert_eq!(ledger.check(&seen).missing, [11]);
    }

    #[test]
    fn an_unacknowledged_event_may_be_absent() {
        let ledger = Ledger::new(7, 20, 3);
        ledger.sent(0);
        ledger.check([]).assert_kept();
    }

    #[test]
    fn a_swap_within_a_key_is_seen_and_between_keys_is_not() {
        let ledger = ledger();
        let pair = ledger.by_key().into_iter().find(|events| events.len() > 1).unwrap();
        let mut seen = arrived(&ledger);
        seen.swap(pair[0], pair[1]);
        assert!(!ledger.check(&seen).out_of_order.is_empty());
        let other = (1..20).find(|n| ledger.key(*n) != ledger.key(n - 1)).unwrap();
        let mut seen = arrived(&ledger);
        seen.swap(other - 1, other);
        ledger.check(&seen).assert_kept();
    }

    #[test]
    fn a_late_duplicate_is_counted_and_no_disorder() {
        let ledger = ledger();
        let mut seen = arrived(&ledger);
        seen.push(seen[0].clone());
        seen.push(seen[0].clone());
        ledger.sent(0);
        let report = ledger.check(&seen);
        report.assert_kept();
        assert_eq!((report.duplicates, report.duplicates_of_sender), (1, 1));
    }

    #[test]
    fn a_changed_byte_attribute_key_or_origin_is_seen() {
        let ledger = ledger();
        let mut seen = arrived(&ledger);
        seen[1].payload = ledger.payload(2);
        seen[2].key = "elsewhere".to_owned();
        seen[3].attributes.insert("subject".to_owned(), "other".to_owned());
        seen[4].attributes.insert("id".to_owned(), "0000000000000008-4".to_owned());
        let report = ledger.check(&seen);
        assert_eq!(report.corrupted, [1, 2]);
        assert_eq!((report.altered.len(), report.phantoms.len()), (1, 1));
        assert_eq!(report.missing, [4]);
    }
}
