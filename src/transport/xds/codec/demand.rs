//! What one stream wants of one type: names, prefixes and all, by the rules of the [xDS transport protocol] for both
//! variants, and what has to be answered to a request.
//!
//! Which resources there are is not known here: a request is turned into what to look up.
//!
//! [xDS transport protocol]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol

use std::collections::{BTreeMap, HashMap, HashSet};

use bytestring::ByteString;
use meshbus_proto::xds::{DeltaDiscoveryRequest, DiscoveryRequest, ResourceLocator};

use crate::core::Seq;

/// The name that means all.
pub const ALL: &str = "*";

/// What a stream wants of a type, and since when it is told of it. Beside the names it keeps nothing of resources.
#[derive(Debug, Default)]
pub struct Demand {
    /// Whether there was a request.
    begun: bool,
    /// Whether a name was ever given: no names mean none from then on.
    named: bool,
    wildcard: Option<Seq>,
    names: HashMap<ByteString, Seq>,
    /// `ns/` of `ns/*`.
    prefixes: BTreeMap<ByteString, Seq>,
}

/// One way to want resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// All of the type.
    All,
    /// Those whose names begin so.
    Prefix(ByteString),
    /// One.
    Name(ByteString),
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether it is the first of its type on the stream.
    pub first: bool,
    /// What is wanted from now on that was not.
    pub added: Vec<Interest>,
    /// What is wanted no more.
    pub dropped: Vec<Interest>,
    /// What has to be told at once: of names also that they are not there.
    pub answer: Vec<Interest>,
    /// Whether it says that the client has something of the type, from another stream.
    pub returns: bool,
    /// The versions that the client has.
    pub known: HashMap<ByteString, ByteString>,
    /// The position that the client has seen all up to, in place of versions.
    pub resume: Option<ByteString>,
}

impl Asked {
    /// Whether it neither begins anything nor changes what is wanted nor has to be answered.
    pub fn is_nothing(&self) -> bool {
        !self.first && self.added.is_empty() && self.dropped.is_empty() && self.answer.is_empty()
    }
}

impl Demand {
    /// Takes an incremental request. `legacy_wildcard`: a first request without names means all.
    pub fn delta(&mut self, request: &mut DeltaDiscoveryRequest, legacy_wildcard: bool) -> Asked {
        let mut asked = Asked { first: !self.begun, ..Asked::default() };
        self.begun = true;
        if asked.first {
            let known = std::mem::take(&mut request.initial_resource_versions).into_iter();
            asked.known = known.map(|(name, version)| (name.into(), version.into())).collect();
            asked.returns = !asked.known.is_empty();
            asked.resume = asked.known.remove(ALL).filter(|position| !position.is_empty());
        }
        let subscribe =
            names(&mut request.resource_names_subscribe, &mut request.resource_locators_subscribe);
        let mut named = false;
        for interest in subscribe {
            named = true;
            self.add(interest, &mut asked, true);
        }
        // Names end the legacy mode of a first request only: in this variant its wildcard goes on beside later ones.
        if asked.first && !named && legacy_wildcard {
            self.add(Interest::All, &mut asked, true);
        }
        self.named |= named;
        let unsubscribe: HashSet<Interest> =
            names(&mut request.resource_names_unsubscribe, &mut request.resource_locators_unsubscribe)
                .collect();
        if !unsubscribe.is_empty() {
            self.drop_all(unsubscribe, &mut asked);
        }
        asked
    }

    /// Takes the names of a request of the state of the world, which are all that is wanted.
    pub fn sotw(&mut self, request: &mut DiscoveryRequest, legacy_wildcard: bool) -> Asked {
        let mut asked = Asked { first: !self.begun, ..Asked::default() };
        self.begun = true;
        asked.returns = asked.first && !request.version_info.is_empty();
        let mut wanted: HashSet<Interest> =
            names(&mut request.resource_names, &mut request.resource_locators).collect();
        self.named |= !wanted.is_empty();
        if !self.named && legacy_wildcard {
            wanted.insert(Interest::All);
        }
        asked.dropped = self.interests().filter(|interest| !wanted.contains(interest)).collect();
        for interest in &asked.dropped {
            self.remove(interest);
        }
        for interest in wanted {
            self.add(interest, &mut asked, false);
        }
        asked
    }

    /// Whether a resource of the name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.since(name).is_some()
    }

    /// Whether it is asked for by this very name.
    pub fn asks_for(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a change of the name at `seq` has not been told yet.
    pub fn is_news(&self, name: &str, seq: Seq) -> bool {
        self.since(name).is_some_and(|since| since < seq)
    }

    /// Notes up to which position what is wanted in these ways has been told.
    pub fn told<'a>(&mut self, interests: impl IntoIterator<Item = &'a Interest>, seq: Seq) {
        for interest in interests {
            let since = match interest {
                Interest::All => self.wildcard.as_mut(),
                Interest::Prefix(prefix) => self.prefixes.get_mut(prefix),
                Interest::Name(name) => self.names.get_mut(name),
            };
            if let Some(since) = since {
                *since = seq;
            }
        }
    }

    /// Notes that one name has been told at a position.
    pub fn told_name(&mut self, name: &str, seq: Seq) {
        if let Some(since) = self.names.get_mut(name) {
            *since = seq;
        }
    }

    /// Makes what is there of a name news again; whether it is asked for by its name.
    pub fn tell_again(&mut self, name: &str) -> bool {
        self.names.get_mut(name).map(|since| *since = Seq::default()).is_some()
    }

    /// Notes that all that is wanted has been told up to a position.
    pub fn told_all(&mut self, seq: Seq) {
        let others = self.prefixes.values_mut().chain(self.names.values_mut());
        self.wildcard.iter_mut().chain(others).for_each(|since| *since = seq);
    }

    /// Begins anew, as if there had been no request.
    pub fn forget(&mut self) -> Vec<Interest> {
        let dropped = self.interests().collect();
        *self = Self::default();
        dropped
    }

    /// Whether there was a request, since the last time that it began anew.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all of the type is wanted.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard.is_some()
    }

    /// How many names and prefixes are kept.
    pub fn len(&self) -> usize {
        self.names.len() + self.prefixes.len()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.wildcard.is_none() && self.len() == 0
    }

    /// All that is wanted.
    pub fn interests(&self) -> impl Iterator<Item = Interest> {
        let all = self.wildcard.map(|_| Interest::All);
        let prefixes = self.prefixes.keys().cloned().map(Interest::Prefix);
        all.into_iter().chain(prefixes).chain(self.names.keys().cloned().map(Interest::Name))
    }

    /// The names that are wanted.
    pub fn names(&self) -> impl Iterator<Item = &ByteString> {
        self.names.keys()
    }

    /// The earliest position among the ways in which a name is wanted.
    fn since(&self, name: &str) -> Option<Seq> {
        let prefix = |(at, _): (usize, &str)| self.prefixes.get(name.get(..=at)?);
        let prefixes =
            if self.prefixes.is_empty() { None } else { Some(name.match_indices('/').filter_map(prefix)) };
        let named = self.wildcard.iter().chain(self.names.get(name));
        named.chain(prefixes.into_iter().flatten()).min().copied()
    }

    /// `again`: a name that is wanted already is told again.
    fn add(&mut self, interest: Interest, asked: &mut Asked, again: bool) {
        let none = Seq::default();
        let fresh = match &interest {
            Interest::All => self.wildcard.replace(self.wildcard.unwrap_or(none)).is_none(),
            Interest::Prefix(prefix) => {
                !self.prefixes.contains_key(prefix) && self.prefixes.insert(prefix.clone(), none).is_none()
            }
            Interest::Name(name) => {
                !self.names.contains_key(name) && self.names.insert(name.clone(), none).is_none()
            }
        };
        if fresh {
            asked.added.push(interest.clone());
        }
        if fresh || again && matches!(interest, Interest::Name(_)) {
            asked.answer.push(interest);
        }
    }

    fn drop_all(&mut self, unsubscribe: HashSet<Interest>, asked: &mut Asked) {
        // What was asked for in the same request is neither new nor told.
        let fresh: HashSet<Interest> =
            asked.added.extract_if(.., |interest| unsubscribe.contains(interest)).collect();
        asked.answer.retain(|interest| !unsubscribe.contains(interest));
        for interest in unsubscribe {
            if !self.remove(&interest) {
                continue;
            }
            // Of what is still wanted otherwise, the client has to be told whether it is there.
            if let Interest::Name(name) = &interest
                && self.wants(name)
            {
                asked.answer.push(interest.clone());
            }
            if !fresh.contains(&interest) {
                asked.dropped.push(interest);
            }
        }
    }

    fn remove(&mut self, interest: &Interest) -> bool {
        match interest {
            Interest::All => self.wildcard.take().is_some(),
            Interest::Prefix(prefix) => self.prefixes.remove(prefix).is_some(),
            Interest::Name(name) => self.names.remove(name).is_some(),
        }
    }
}

impl Interest {
    /// Of a name in a request.
    pub fn of(name: String) -> Self {
        if name == ALL {
            return Self::All;
        }
        match prefix_of(&name) {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Name(name.into()),
        }
    }

    /// Whether a name in a request stands for any number of resources.
    pub fn is_pattern(name: &str) -> bool {
        name == ALL || prefix_of(name).is_some()
    }
}

/// `ns/` of `ns/*`.
fn prefix_of(name: &str) -> Option<&str> {
    name.strip_suffix(ALL).filter(|prefix| prefix.ends_with('/'))
}

/// Names given with and without parameters.
fn names(
    plain: &mut Vec<String>,
    located: &mut Vec<ResourceLocator>,
) -> impl Iterator<Item = Interest> + use<> {
    let located = std::mem::take(located).into_iter().map(|locator| locator.name);
    std::mem::take(plain).into_iter().chain(located).map(Interest::of)
}

#[cfg(test)]
mod tests {
    use super::Interest::{All, Name, Prefix};
    use super::*;

    fn delta(demand: &mut Demand, subscribe: &[&str], unsubscribe: &[&str]) -> Asked {
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let mut request = DeltaDiscoveryRequest {
            resource_names_subscribe: texts(subscribe),
            resource_names_unsubscribe: texts(unsubscribe),
            ..DeltaDiscoveryRequest::default()
        };
        demand.delta(&mut request, true)
    }

    fn sotw(demand: &mut Demand, names: &[&str]) -> Asked {
        let resource_names = names.iter().map(ToString::to_string).collect();
        demand.sotw(&mut DiscoveryRequest { resource_names, ..DiscoveryRequest::default() }, true)
    }

    fn sorted(mut interests: Vec<Interest>) -> Vec<Interest> {
        interests.sort();
        interests
    }

    fn name(name: &'static str) -> Interest {
        Name(name.into())
    }

    #[test]
    fn a_first_request_without_names_means_all_where_it_may() {
        for legacy in [true, false] {
            let mut demand = Demand::default();
            let asked = demand.delta(&mut DeltaDiscoveryRequest::default(), legacy);
            assert_eq!((asked.first, asked.answer), (true, if legacy { vec![All] } else { vec![] }));
            let mut demand = Demand::default();
            let asked = demand.sotw(&mut DiscoveryRequest::default(), legacy);
            assert_eq!((asked.first, asked.answer), (true, if legacy { vec![All] } else { vec![] }));
        }
    }

    #[test]
    fn named_once_no_names_mean_none() {
        let mut demand = Demand::default();
        assert_eq!(sotw(&mut demand, &["a"]).answer, [name("a")]);
        assert_eq!(sotw(&mut demand, &[]).dropped, [name("a")]);
        assert!(demand.is_empty());
        let mut demand = Demand::default();
        assert_eq!(sotw(&mut demand, &[]).answer, [All]);
        let asked = sotw(&mut demand, &["a"]);
        assert_eq!((asked.added, asked.dropped), (vec![name("a")], vec![All]));
        assert!(sotw(&mut demand, &[]).answer.is_empty() && demand.is_empty());
    }

    #[test]
    fn a_legacy_wildcard_goes_on_beside_names_in_the_incremental_variant() {
        let mut demand = Demand::default();
        delta(&mut demand, &[], &[]);
        assert_eq!(delta(&mut demand, &["a"], &[]).answer, [name("a")]);
        assert!(demand.wants("b"));
        assert_eq!(delta(&mut demand, &[], &["*"]).dropped, [All]);
        assert!(demand.wants("a") && !demand.wants("b"));
    }

    #[test]
    fn names_beside_the_wildcard_are_let_go_with_an_answer() {
        let mut demand = Demand::default();
        assert_eq!(delta(&mut demand, &["*", "a"], &[]).answer, [All, name("a")]);
        let asked = delta(&mut demand, &[], &["a"]);
        assert_eq!((asked.dropped, asked.answer), (vec![name("a")], vec![name("a")]));
        let asked = delta(&mut demand, &[], &["a", "never"]);
        assert_eq!((asked.dropped, asked.answer), (vec![], vec![]));
    }

    #[test]
    fn a_name_asked_for_again_is_told_again_in_the_incremental_variant_only() {
        let mut demand = Demand::default();
        delta(&mut demand, &["a"], &[]);
        let asked = delta(&mut demand, &["a"], &[]);
        assert_eq!((asked.added, asked.answer), (vec![], vec![name("a")]));
        let mut demand = Demand::default();
        sotw(&mut demand, &["a"]);
        assert_eq!(sotw(&mut demand, &["a"]).answer, []);
        sotw(&mut demand, &[]);
        assert_eq!(sotw(&mut demand, &["a"]).answer, [name("a")]);
    }

    #[test]
    fn to_want_all_twice_is_to_want_it_once() {
        let mut demand = Demand::default();
        assert_eq!(delta(&mut demand, &["*"], &[]).answer, [All]);
        assert_eq!(delta(&mut demand, &["*"], &[]).answer, []);
    }

    #[test]
    fn all_wanted_and_not_wanted_in_one_request_is_nothing() {
        let mut demand = Demand::default();
        let asked = delta(&mut demand, &["*"], &["*"]);
        assert_eq!((asked.first, asked.added, asked.dropped, asked.answer), (true, vec![], vec![], vec![]));
        assert!(demand.is_empty());
    }

    #[test]
    fn a_prefix_is_what_ends_with_a_slash_and_a_star() {
        let mut demand = Demand::default();
        assert_eq!(delta(&mut demand, &["ns/*", "a*"], &[]).answer, [Prefix("ns/".into()), name("a*")]);
        assert!(
            demand.wants("ns/a")
                && demand.wants("ns/a/b")
                && !demand.wants("nsa")
                && !demand.wants("other/a")
        );
        assert_eq!(delta(&mut demand, &[], &["ns/*"]).dropped, [Prefix("ns/".into())]);
        assert_eq!(
            ["*", "ns/*", "a*", "/", ""].map(Interest::is_pattern),
            [true, true, false, false, false]
        );
    }

    #[test]
    fn versions_and_the_position_to_resume_from_are_those_of_the_first_request() {
        let mut demand = Demand::default();
        let versions = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, version)| (name.to_string(), version.to_string()))
                .collect::<HashMap<_, _>>()
        };
        let mut request = DeltaDiscoveryRequest {
            initial_resource_versions: versions(&[("*", "17"), ("a", "1"), ("b", "")]),
            ..DeltaDiscoveryRequest::default()
        };
        let asked = demand.delta(&mut request.clone(), true);
        assert_eq!(asked.resume.as_deref(), Some("17"));
        assert_eq!((asked.known.len(), asked.known.get("b").map(|version| &**version)), (2, Some("")));
        let asked = demand.delta(&mut request, true);
        assert_eq!((asked.known.len(), asked.resume), (0, None));
    }

    #[test]
    fn the_state_of_the_world_is_a_whole_list_each_time() {
        let mut demand = Demand::default();
        assert_eq!(sorted(sotw(&mut demand, &["a", "b", "b"]).answer), [name("a"), name("b")]);
        let asked = sotw(&mut demand, &["b", "c"]);
        assert_eq!((asked.answer, asked.dropped), (vec![name("c")], vec![name("a")]));
        assert_eq!(sotw(&mut demand, &["*", "c"]).answer, [All]);
        assert_eq!(demand.len(), 1);
    }

    #[test]
    fn a_change_is_news_while_one_way_to_want_it_has_not_told_it() {
        let mut demand = Demand::default();
        let asked = delta(&mut demand, &["ns/*", "ns/a"], &[]);
        demand.told(&asked.answer, Seq(5));
        assert!(!demand.is_news("ns/a", Seq(5)) && demand.is_news("ns/a", Seq(6)));
        let asked = delta(&mut demand, &["*"], &[]);
        demand.told(&asked.answer, Seq(9));
        assert!(demand.is_news("ns/a", Seq(7)), "the prefix was told up to 5 only");
        assert!(!demand.is_news("other", Seq(7)));
        demand.told_all(Seq(9));
        assert!(!demand.is_news("ns/a", Seq(9)));
        demand.told_name("ns/a", Seq(12));
        assert!(demand.is_news("ns/a", Seq(12)), "the prefix has not told it");
    }
}
