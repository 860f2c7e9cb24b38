//! Who may do what: one question that stands on every way in and out.

use std::fmt;

use bytestring::ByteString;

use super::selector::TopicFilter;
use super::topic::Topic;

/// What a principal wants to do at a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish an event.
    Publish,
    /// Subscribe, live or replayed.
    Subscribe,
    /// Read state.
    Read,
    /// Write state.
    Write,
    /// Look into the bus itself: dead letters, taps, configuration.
    Admin,
}

/// One rule: a principal, what it may do, and at which topics.
#[derive(Clone)]
pub struct Rule {
    /// The name that stands for the holder of the token.
    pub principal: ByteString,
    /// The bearer token that proves it; compared in constant time, never shown.
    pub token: Option<ByteString>,
    /// What it may do.
    pub allow: Vec<Action>,
    /// Where; none means nowhere.
    pub topics: Vec<TopicFilter>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("principal", &self.principal)
            .field("allow", &self.allow)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// The rules of a bus. Without any, everybody who reaches it may do everything: it is on loopback then.
#[derive(Clone, Debug, Default)]
pub struct Access(Vec<Rule>);

impl Access {
    /// These rules; an empty list allows everything.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Whether there are rules, so that an unknown principal may do nothing.
    pub fn is_restricted(&self) -> bool {
        !self.0.is_empty()
    }

    /// The principal whose token this is.
    pub fn principal_of_token(&self, token: &str) -> Option<ByteString> {
        let matches = |rule: &&Rule| rule.token.as_ref().is_some_and(|have| same(have, token));
        self.0.iter().find(matches).map(|rule| rule.principal.clone())
    }

    /// Whether the principal may act at a concrete topic.
    pub fn allows(&self, principal: Option<&str>, action: Action, topic: &Topic) -> bool {
        self.0.is_empty() || self.rules(principal, action).any(|filter| filter.matches(topic))
    }

    /// Whether the principal may act at all that a filter could match: some allowed filter covers it.
    pub fn allows_filter(&self, principal: Option<&str>, action: Action, filter: &TopicFilter) -> bool {
        self.0.is_empty() || self.rules(principal, action).any(|allowed| allowed.covers(filter))
    }

    fn rules(&self, principal: Option<&str>, action: Action) -> impl Iterator<Item = &TopicFilter> {
        self.0
            .iter()
            .filter(move |rule| Some(&*rule.principal) == principal && rule.allow.contains(&action))
            .flat_map(|rule| &rule.topics)
    }
}

/// Compares without telling by its time where the first difference is.
fn same(left: &str, right: &str) -> bool {
    left.len() == right.len()
        && left.bytes().zip(right.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
