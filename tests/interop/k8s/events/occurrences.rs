//! The ledger of the Events bridge: every occurrence on the API server, against what JetStream holds.
//!
//! An *occurrence* is one count of one Event object: an Event that was created and repeated twice has three. The
//! server's own history is the truth; each change in it has a uid, a resource version and the count after it, which is
//! one more than before. A message tells the counts above `eventcount - eventdelta` up to `eventcount`. What is held:
//!
//! - **None lost.** Each count of each Event is told by a message, up to the last.
//! - **None invented.** Each message is a change of the history: its id is `<cluster>/<uid>/<resourceVersion>/put`,
//!   and its count is the one that this change made.
//! - **None twice, but under the same id.** No two ids tell the same count, so that the deltas of an Event sum up to
//!   its count. The one exception is a message with a delta above one. It comes of a list, since the server had
//!   forgotten the position; what a killed bus had delivered and not yet kept as delivered is in its delta again.
//! - **In order.** The counts of an Event rise, repetitions of an id aside.
//!
//! A change that was overwritten before a list could show it has no message of its own: it is *coalesced*, and told by
//! the delta of the next. Where the server forgets nothing, there must be none of these, and none told twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::stored::Message;

/// A change of an Event on the server.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) uid: String,
    pub(crate) version: u64,
    /// How often it had happened then.
    pub(crate) count: u32,
}

/// A message about it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) count: u32,
    pub(crate) delta: u32,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) occurrences: usize,
    pub(crate) events: usize,
    pub(crate) messages: usize,
    /// Counts of Events that no message tells: the one thing that must never be.
    pub(crate) lost: Vec<(String, u32)>,
    /// Messages that are no change of the history.
    pub(crate) invented: Vec<Told>,
    /// Told after a later one of the same Event.
    pub(crate) out_of_order: Vec<String>,
    /// Told again under another id, and not by a list.
    pub(crate) told_twice: Vec<String>,
    /// Of an id that came before, but with another delta or count.
    pub(crate) altered: Vec<String>,
    /// Messages with the id of an earlier one.
    pub(crate) repeated: usize,
    /// Changes without a message of their own.
    pub(crate) coalesced: usize,
    /// Counts that a list told again.
    pub(crate) retold: u64,
    /// Events whose deltas sum up to their count.
    pub(crate) exact: usize,
}

impl Told {
    pub(crate) fn read(message: &Message) -> Self {
        let attributes = message.binary();
        let number = |name: &str| attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (count, delta) = (number("eventcount"), number("eventdelta"));
        Self { id: attributes.get("id").cloned().unwrap_or_default(), count, delta }
    }

    /// Uid and resource version, as the id has them.
    fn change(&self) -> Option<(&str, u64)> {
        let mut parts = self.id.rsplit('/');
        let ("put", version, uid) = (parts.next()?, parts.next()?, parts.next()?) else { return None };
        Some((uid, version.parse().ok()?))
    }
}

/// Compares what was told, in the order of the stream, with what happened.
pub(crate) fn check(history: &[Happened], told: &[Told]) -> Report {
    let mut finals = BTreeMap::<&str, u32>::new();
    for change in history {
        finals.insert(&change.uid, change.count);
    }
    let changes: HashMap<(&str, u64), u32> =
        history.iter().map(|change| ((change.uid.as_str(), change.version), change.count)).collect();
    let mut report = Report {
        occurrences: history.len(),
        events: finals.len(),
        messages: told.len(),
        ..Report::default()
    };
    let mut seen = HashMap::<&str, (u32, u32)>::new();
    // Of each Event: the highest count told, the sum of deltas, and the counts told.
    let mut events = HashMap::<&str, (u32, u32, HashSet<u32>)>::new();
    for told in told {
        let known = told.change().filter(|change| changes.get(change) == Some(&told.count));
        let Some((uid, _)) = known.filter(|_| (1..=told.count).contains(&told.delta)) else {
            report.invented.push(told.clone());
            continue;
        };
        if let Some(before) = seen.insert(&told.id, (told.count, told.delta)) {
            report.repeated += 1;
            if before != (told.count, told.delta) {
                report.altered.push(told.id.clone());
            }
            continue;
        }
        let (highest, sum, counts) = events.entry(uid).or_default();
        if told.count <= *highest {
            report.out_of_order.push(told.id.clone());
        }
        let again =
            (told.count - told.delta + 1..=told.count).filter(|count| !counts.insert(*count)).count();
        if again > 0 && told.delta == 1 {
            report.told_twice.push(told.id.clone());
        }
        report.retold += again as u64;
        *highest = told.count.max(*highest);
        *sum += told.delta;
    }
    for (uid, count) in finals {
        let (sum, counts) = events.get(uid).map_or((0, None), |(_, sum, counts)| (*sum, Some(counts)));
        let lost = (1..=count).filter(|count| counts.is_none_or(|counts| !counts.contains(count)));
        report.lost.extend(lost.map(|count| (uid.to_owned(), count)));
        report.exact += usize::from(sum == count);
    }
    report.coalesced = changes.len() - seen.len();
    report
}

impl Report {
    /// Panics unless nothing is lost, invented, out of order or told twice.
    pub(crate) fn assert_kept(&self) {
        let kept = self.lost.is_empty()
            && self.invented.is_empty()
            && self.out_of_order.is_empty()
            && self.told_twice.is_empty();
        assert!(kept, "the promise is broken: {self}");
    }

    /// Also panics unless each change was told as it happened: for a server that forgets nothing.
    pub(crate) fn assert_each(&self) {
        self.assert_kept();
        let each = self.coalesced == 0 && self.retold == 0 && self.altered.is_empty();
        assert!(each && self.exact == self.events, "not each change was told once: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} occurrences of {} Events · {} messages, {} of them repeated · {} coalesced · {} told again by \
             lists · deltas of {} Events sum up exactly",
            self.occurrences,
            self.events,
            self.messages,
            self.repeated,
            self.coalesced,
            self.retold,
            self.exact
        )?;
        few(f, "lost", &self.lost)?;
        few(f, "invented", &self.invented)?;
        few(f, "out of order", &self.out_of_order)?;
        few(f, "told twice", &self.told_twice)?;
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
    use super::{Happened, Told, check};

    /// Two Events: one happened once, the other four times.
    fn history() -> Vec<Happened> {
        let changes = [("a", 1, 1), ("b", 2, 1), ("b", 3, 2), ("b", 4, 3), ("b", 6, 4)];
        changes.map(|(uid, version, count)| Happened { uid: uid.to_owned(), version, count }).into()
    }

    fn told(uid: &str, version: u64, count: u32, delta: u32) -> Told {
        Told { id: format!("c/{uid}/{version}/put"), count, delta }
    }

    fn whole() -> Vec<Told> {
        vec![
            told("a", 1, 1, 1),
            told("b", 2, 1, 1),
            told("b", 3, 2, 1),
            told("b", 4, 3, 1),
            told("b", 6, 4, 1),
        ]
    }

    #[test]
    fn each_change_told_as_it_happened_is_kept() {
        check(&history(), &whole()).assert_each();
    }

    #[test]
    fn a_loss_is_seen_in_the_middle_and_at_the_end() {
        for (at, lost) in [(0, ("a", 1)), (2, ("b", 2)), (4, ("b", 4))] {
            let mut told = whole();
            told.remove(at);
            assert_eq!(check(&history(), &told).lost, [(lost.0.to_owned(), lost.1)]);
        }
    }

    #[test]
    fn a_list_may_tell_several_at_once_and_again_and_a_watch_may_not() {
        let mut told = whole();
        told.drain(2..4);
        told[2].delta = 3;
        let report = check(&history(), &told);
        report.assert_kept();
        assert_eq!((report.coalesced, report.retold, report.exact), (2, 0, 2));
        told[2].delta = 4;
        let report = check(&history(), &told);
        report.assert_kept();
        assert_eq!((report.retold, report.exact), (1, 1));
        let mut told = whole();
        told[4].delta = 2;
        told.push(told[3].clone());
        told[5].id = "c/b/3/put".to_owned();
        assert_eq!(check(&history(), &told).invented.len(), 1, "of another version");
    }

    #[test]
    fn a_repeated_id_is_counted_and_must_say_the_same() {
        let mut told = whole();
        told.push(told[1].clone());
        let report = check(&history(), &told);
        report.assert_each();
        assert_eq!(report.repeated, 1);
        told[5].delta = 0;
        assert_eq!(check(&history(), &told).invented.len(), 1);
        let mut told = whole();
        told.push(told[3].clone());
        told[5].delta = 2;
        assert_eq!(check(&history(), &told).altered.len(), 1);
    }

    #[test]
    fn a_swap_and_a_phantom_are_seen() {
        let mut told = whole();
        told.swap(2, 3);
        assert_eq!(check(&history(), &told).out_of_order, ["c/b/3/put"]);
        told[0].id = "c/a/9/put".to_owned();
        assert_eq!(check(&history(), &told).invented.len(), 1);
    }
}
