//! What a stream knows of one type: what is wanted, what waits to be told, and what the client said of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::{HashMap, HashSet};
use tokio::time::Instant;

use super::life::Life;
use super::request::Request;
use super::withheld::Withheld;
use crate::core::Seq;
use crate::transport::xds::codec::demand::Demand;
use crate::transport::xds::codec::kinds::Kind;
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::codec::response::nonce_number;
use crate::transport::xds::server::item::{Batch, Item, Named, Told};
use crate::transport::xds::server::roster::{Refusal, SharedStanding};

/// Responses whose answer is waited for; of older ones nothing is known then.
const UNANSWERED_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct OfType {
    pub(super) kind: Kind,
    pub(super) demand: Demand,
    pub(super) withheld: Withheld,
    pub(super) pending: Pending,
    /// What was asked for by a name that it has no more, by that name.
    pub(super) lost: Vec<(ByteString, Arc<Item>)>,
    /// Whether all has to be told again, whatever waits; state of the world only.
    pub(super) again: bool,
    /// What is gone but is still told for now, by name, as others may refer to it; state of the world only.
    pub(super) kept: HashMap<ByteString, Arc<Encoded>>,
    pub(super) life: Life,
    unanswered: VecDeque<Sent>,
    pub(super) standing: SharedStanding,
}

/// Changes that wait to be told.
#[derive(Debug, Default)]
pub(super) enum Pending {
    #[default]
    Nothing,
    /// One batch as it is, whose response is shared.
    Shared(Arc<Batch>),
    /// By name; of each the last.
    Named(HashMap<ByteString, Arc<Item>>),
}

/// A response, until the client answers it.
#[derive(Debug)]
struct Sent {
    nonce: u32,
    names: Arc<[Named]>,
    /// Whether it said but that something still holds.
    beat: bool,
}

/// What a client's answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It answers nothing.
    Nothing,
    /// A response is accepted; `first`: none of its type was before.
    Accepted { first: bool },
    /// As accepted, after one that was not.
    Recovered,
    /// A response is refused: the standing says why.
    Refused,
}

impl OfType {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            demand: Demand::default(),
            withheld: Withheld::default(),
            pending: Pending::Nothing,
            lost: Vec::new(),
            again: false,
            kept: HashMap::new(),
            life: Life::default(),
            unanswered: VecDeque::new(),
            standing: SharedStanding::default(),
        }
    }

    /// Notes that a response was sent.
    pub(super) fn sent(&mut self, nonce: u32, told: &Told) {
        self.life.note(told, Instant::now());
        if self.unanswered.len() >= UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(Sent { nonce, names: Arc::clone(&told.names), beat: told.beat });
        self.standing.lock().sent = nonce;
    }

    /// Whether a request but answers the response that said to begin again: it is not the beginning.
    pub(super) fn is_mere_answer(&self, nonce: &str, request: &Request) -> bool {
        if self.demand.has_begun() || !request.is_bare() {
            return false;
        }
        let sent = Some(self.standing.lock().sent).filter(|sent| *sent > 0);
        sent.is_some() && nonce_number(nonce) == sent
    }

    /// Takes a client's answer to a response. What answers no response, or one that is answered already, says nothing:
    /// its nonce may be from another stream.
    pub(super) fn answered(&mut self, nonce: Option<u32>, refusal: Option<String>) -> Answered {
        let Some(at) = self.unanswered.iter().position(|sent| Some(sent.nonce) == nonce) else {
            return Answered::Nothing;
        };
        // Answers come in order, so those before have none.
        let Some(sent) = self.unanswered.drain(..=at).next_back() else { return Answered::Nothing };
        let mut standing = self.standing.lock();
        match refusal {
            None => {
                let first = std::mem::replace(&mut standing.accepted, sent.nonce) == 0;
                // That it hears is nothing new, and takes back no refusal of a message.
                if sent.beat {
                    Answered::Nothing
                } else if standing.refused.take().is_some() {
                    Answered::Recovered
                } else {
                    Answered::Accepted { first }
                }
            }
            Some(message) => {
                let names = blamed(&message, &sent.names).unwrap_or(sent.names);
                standing.refused = Some(Refusal { nonce: sent.nonce, message, names });
                Answered::Refused
            }
        }
    }

    /// Whether the client has answered to any response.
    pub(super) fn has_answered(&self) -> bool {
        let standing = self.standing.lock();
        standing.accepted > 0 || standing.refused.is_some()
    }

    /// Takes a change that is to be told.
    pub(super) fn take(&mut self, item: Arc<Item>) {
        let lost = if item.is_removed() { &item.aliases } else { &item.lost };
        for alias in lost.iter().filter(|alias| self.demand.asks_for(alias)) {
            self.lost.push((alias.clone(), Arc::clone(&item)));
        }
        self.pending.add(item);
    }

    /// The position of the last change that waits, which later ones may be behind.
    pub(super) fn at(&self) -> Seq {
        let lost = self.lost.iter().map(|(_, item)| item.at).max();
        lost.unwrap_or_default().max(self.pending.at())
    }

    /// Whether there is something to tell.
    pub(super) fn has_pending(&self) -> bool {
        let waits =
            self.again || !self.kept.is_empty() || !self.pending.is_nothing() || !self.lost.is_empty();
        waits && !self.withheld.whole || self.withheld.has_gone()
    }

    /// Whether the last response held resources.
    pub(super) fn told_some(&self) -> bool {
        self.unanswered.back().is_some_and(|sent| !sent.names.is_empty())
    }

    /// Whether the client has not answered to a response.
    pub(super) fn is_unanswered(&self, nonce: u32) -> bool {
        self.unanswered.iter().any(|sent| sent.nonce == nonce)
    }
}

/// Those of the names that a refusal's text holds as words; `None` where it holds none, so that all may be meant.
fn blamed(message: &str, names: &[Named]) -> Option<Arc<[Named]>> {
    let between =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '(' | ')' | '<' | '>');
    let words: HashSet<&str> = message
        .split(between)
        .flat_map(|word| [word, word.trim_matches(['.', ':', ';', '[', ']', '{', '}', '!'])])
        .collect();
    let blamed: Arc<[Named]> = names.iter().filter(|(name, _)| words.contains(&**name)).cloned().collect();
    (!blamed.is_empty()).then_some(blamed)
}

impl Pending {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(super) fn add_batch(&mut self, batch: Arc<Batch>) {
        if self.is_nothing() {
            *self = Self::Shared(batch);
        } else {
            self.extend(batch.items.iter().cloned());
        }
    }

    pub(super) fn extend(&mut self, items: impl IntoIterator<Item = Arc<Item>>) {
        items.into_iter().for_each(|item| self.add(item));
    }

    pub(super) fn add(&mut self, item: Arc<Item>) {
        let items = self.named();
        let newer = |have: &Arc<Item>| have.seq() >= item.seq();
        if !items.get(item.name()).is_some_and(newer) {
            items.insert(item.name().clone(), item);
        }
    }

    /// The changes by name.
    fn named(&mut self) -> &mut HashMap<ByteString, Arc<Item>> {
        if let Self::Nothing | Self::Shared(_) = self {
            let shared = match std::mem::take(self) {
                Self::Shared(batch) => batch.items.clone(),
                _ => Vec::new(),
            };
            *self = Self::Named(shared.into_iter().map(|item| (item.name().clone(), item)).collect());
        }
        match self {
            Self::Named(items) => items,
            _ => unreachable!("was made so above"),
        }
    }

    /// All there is.
    pub(super) fn items(&self) -> Box<dyn Iterator<Item = &Arc<Item>> + '_> {
        match self {
            Self::Nothing => Box::new(std::iter::empty()),
            Self::Shared(batch) => Box::new(batch.items.iter()),
            Self::Named(items) => Box::new(items.values()),
        }
    }

    /// Takes all out, the earliest change first.
    pub(super) fn take(&mut self) -> Vec<Arc<Item>> {
        let mut items: Vec<Arc<Item>> = match std::mem::take(self) {
            Self::Nothing => Vec::new(),
            Self::Shared(batch) => batch.items.clone(),
            Self::Named(items) => items.into_values().collect(),
        };
        items.sort_by_key(|item| item.seq());
        items
    }

    fn at(&self) -> Seq {
        match self {
            Self::Nothing => Seq::default(),
            Self::Shared(batch) => batch.items.last().map(|item| item.at).unwrap_or_default(),
            Self::Named(items) => items.values().map(|item| item.at).max().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_the_resources_that_it_names() {
        let names: Vec<Named> = ["c1", "c10", "out|80||a.b", "x"]
            .into_iter()
            .map(|name| (ByteString::from(name), ByteString::from("1")))
            .collect();
        for (message, expected) in [
            ("Error adding/updating cluster(s) c10: no such thing", vec!["c10"]),
            ("[out|80||a.b]: wrong, and \"c1\".", vec!["c1", "out|80||a.b"]),
            ("c100 c1x nothing of ours", vec![]),
            ("", vec![]),
        ] {
            let blamed = blamed(message, &names);
            let blamed: Vec<&str> =
                blamed.iter().flat_map(|names| names.iter().map(|(name, _)| &**name)).collect();
            assert_eq!(blamed, expected, "{message}");
        }
    }
}
