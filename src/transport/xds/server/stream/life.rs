//! Resources that hold for a time only: a client that understands that is told now and then that they still do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::outbox::Gathered;
use super::{OfType, Stream};
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::server::item::Told;

/// A client is told so often within a time to live, so that one word may be late.
const WORDS: u32 = 3;
/// The shortest time between two words, where the time to live is long enough for it.
const BEAT_MIN: Duration = Duration::from_secs(1);
/// The shortest time between two words in any case.
const BEAT_LEAST: Duration = Duration::from_millis(10);
/// What is due so soon is told together with what is due now.
const TOGETHER: Duration = Duration::from_millis(250);
/// Most words told at once; the others are next.
const WORDS_MAX: usize = 10_000;

/// What was told of one type with a time to live. Each resource has a time of its own at which it is due.
#[derive(Debug, Default)]
pub(super) struct Life {
    living: HashMap<ByteString, Living>,
    due: BTreeSet<(Instant, ByteString)>,
}

/// One resource.
#[derive(Debug)]
struct Living {
    word: Arc<Encoded>,
    due: Instant,
}

impl Life {
    /// Notes what is sent.
    pub(super) fn note(&mut self, told: &Told, now: Instant) {
        if self.living.is_empty() && told.words.is_empty() {
            return;
        }
        for name in told.removed.iter().chain(told.names.iter().map(|(name, _)| name)) {
            if let Some(living) = self.living.remove(name) {
                self.due.remove(&(living.due, name.clone()));
            }
        }
        for word in &told.words {
            let due = now + interval(word.ttl.unwrap_or_default());
            self.due.insert((due, word.name.clone()));
            self.living.insert(word.name.clone(), Living { word: Arc::clone(word), due });
        }
    }

    /// When something is to be told.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The words that are due, to be told now; what nobody wants any more is forgotten.
    fn beat(&mut self, now: Instant, wanted: impl Fn(&str) -> bool) -> Gathered {
        let mut gathered = Gathered::default();
        while gathered.resources.len() < WORDS_MAX
            && self.due.first().is_some_and(|(due, _)| *due <= now + TOGETHER)
            && let Some((_, name)) = self.due.pop_first()
        {
            let Some(Living { word, .. }) = self.living.get(&name) else { continue };
            if wanted(&name) || word.aliases.iter().any(|alias| wanted(alias)) {
                gathered.resources.push(Arc::clone(word));
            } else {
                self.living.remove(&name);
            }
        }
        gathered
    }
}

/// The time between two words.
fn interval(ttl: Duration) -> Duration {
    (ttl / WORDS).max(BEAT_MIN.min(ttl / 2)).max(BEAT_LEAST)
}

impl Stream {
    /// When something with a time to live is to be told.
    pub(super) fn next_beat(&self) -> Option<Instant> {
        self.types.values().filter_map(|of| of.life.next()).min()
    }

    /// Tells what still holds.
    pub(super) fn on_beat(&mut self) {
        let (now, at) = (Instant::now(), self.shared.bus.snapshot().seq());
        for (type_url, of) in &mut self.types {
            if of.life.next().is_none_or(|next| next > now) {
                continue;
            }
            let OfType { life, demand, .. } = of;
            let gathered = life.beat(now, |name| demand.wants(name));
            if !gathered.is_empty() {
                self.outbox.send(of, type_url, at, false, &gathered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Seq;
    use crate::transport::xds::codec::kinds::{CLUSTER, kind_of};
    use crate::transport::xds::codec::resource::Extra;
    use crate::transport::xds::codec::response::{Draft, Variant};
    use crate::transport::xds::server::stream::of_type::Answered;

    fn resource(name: &str, seconds: u64) -> Arc<Encoded> {
        let extra = Extra { aliases: &[], ttl: Some(Duration::from_secs(seconds)) };
        Arc::new(Encoded::with(Seq(1), name.into(), "1".into(), extra, (CLUSTER, b"message")))
    }

    fn told(resources: &[Arc<Encoded>]) -> Told {
        Told::new(&Draft {
            variant: Variant::Delta,
            type_url: CLUSTER,
            version: "1",
            resources,
            removed: &[],
            errors: &[],
            control_plane: &[],
        })
    }

    fn names(gathered: &Gathered) -> Vec<&str> {
        gathered.resources.iter().map(|word| &*word.name).collect()
    }

    #[test]
    fn each_resource_is_told_at_its_own_pace() {
        let (mut life, start) = (Life::default(), Instant::now());
        life.note(&told(&[resource("short", 3), resource("long", 300)]), start);
        let mut beats = HashMap::<String, u32>::new();
        let end = start + Duration::from_mins(10);
        while let Some(now) = life.next().filter(|now| *now <= end) {
            let gathered = life.beat(now, |_| true);
            for name in names(&gathered) {
                *beats.entry_ref(name).or_default() += 1;
            }
            life.note(&told(&gathered.resources), now);
        }
        assert_eq!((beats["short"], beats["long"]), (600, 6));
    }

    #[test]
    fn a_word_is_no_more_often_than_a_second_but_in_time() {
        for (ttl, expected) in [(300_000, 100_000), (3000, 1000), (2200, 1000), (1000, 500), (1, 10)] {
            assert_eq!(interval(Duration::from_millis(ttl)), Duration::from_millis(expected), "{ttl}");
        }
    }

    #[test]
    fn what_is_due_soon_is_told_together_and_what_is_not_wanted_no_more() {
        let (mut life, start) = (Life::default(), Instant::now());
        life.note(&told(&[resource("a", 30)]), start);
        life.note(&told(&[resource("b", 30), resource("c", 30)]), start + TOGETHER);
        life.note(&told(&[resource("d", 30)]), start + 4 * TOGETHER);
        let gathered = life.beat(life.next().unwrap(), |name| name != "c");
        assert_eq!(names(&gathered), ["a", "b"]);
        assert_eq!((life.living.len(), life.due.len()), (3, 1));
        let plain = Encoded::new(Seq(1), "d".into(), "2".into(), CLUSTER, b"");
        life.note(&told(&[Arc::new(plain)]), start);
        assert_eq!(life.next(), None, "it has no time to live any more");
    }

    #[test]
    fn an_answer_to_a_word_takes_back_no_refusal_and_puts_nothing_off() {
        let mut of = OfType::new(kind_of(CLUSTER));
        let message = told(&[resource("a", 30)]);
        of.sent(1, &message);
        assert_eq!(of.answered(Some(1), Some("no".into())), Answered::Refused);
        of.sent(2, &told(&message.words));
        let due = of.life.next();
        assert_eq!(of.answered(Some(2), None), Answered::Nothing);
        let standing = of.standing.lock().clone();
        assert_eq!((standing.accepted, standing.refused.is_some()), (2, true));
        assert_eq!(of.life.next(), due);
        of.sent(3, &message);
        assert_eq!(of.answered(Some(3), None), Answered::Recovered);
    }
}
