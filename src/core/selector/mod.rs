//! Selectors: what a subscriber, a list or a route wants.
//!
//! A selector is a topic filter, parts of a state key, and predicates on the envelope; what it leaves out
//! wants everything. Where there are many, [`Trie`](super::trie::Trie) picks them by topic first.

mod dialect;
#[cfg(test)]
mod tests;
mod topic_filter;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use super::envelope::{Envelope, Key};
use super::view::View;

pub use dialect::{Attributes, CLAUSES_MAX, DEPTH_MAX, Dialect};
pub use topic_filter::{Level, TopicFilter};

/// A condition on an envelope: a [`Dialect`], or an expression of a language.
pub trait Predicate: Send + Sync + fmt::Debug {
    /// Whether it holds.
    ///
    /// # Errors
    /// When it cannot be evaluated for this envelope; it is counted, and the envelope is not wanted.
    fn matches(&self, event: &View<'_>) -> Result<bool, PredicateError>;

    /// The clause that said no, in words: `exact type = "a" (is "b")`; `None` when it matches.
    fn refusal(&self, envelope: &Envelope) -> Option<String>;

    /// The predicate as a person would write it.
    fn text(&self) -> String;
}

/// Why a predicate has no answer for an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct PredicateError {
    /// The word its language has for the kind of error.
    pub kind: &'static str,
    /// What happened.
    pub message: Cow<'static, str>,
}

/// What is wanted: all parts that are set must hold. The default wants everything.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Topics; `None` for all, those that start with `$` included.
    pub topic: Option<TopicFilter>,
    /// State of this scope only.
    pub scope: Option<ByteString>,
    /// State of this type only.
    pub type_url: Option<ByteString>,
    /// State of this name only.
    pub name: Option<ByteString>,
    /// Conditions, all of which must hold, in the order in which they are tried.
    pub predicates: Vec<Arc<dyn Predicate>>,
}

impl Selector {
    /// Everything under the topics that `filter` matches.
    pub fn topic(filter: TopicFilter) -> Self {
        Self { topic: Some(filter), ..Self::default() }
    }

    /// The state of one type in one scope.
    pub fn state(scope: impl Into<ByteString>, type_url: impl Into<ByteString>) -> Self {
        Self { scope: Some(scope.into()), type_url: Some(type_url.into()), ..Self::default() }
    }

    /// Adds a condition.
    #[must_use]
    pub fn and(mut self, predicate: Arc<dyn Predicate>) -> Self {
        self.predicates.push(predicate);
        self
    }

    /// Whether it names parts of a key, so that events are nothing to it.
    pub fn is_of_state(&self) -> bool {
        self.scope.is_some() || self.type_url.is_some() || self.name.is_some()
    }

    /// Whether the envelope is wanted.
    ///
    /// # Errors
    /// The first predicate that cannot be evaluated, unless an earlier part said no.
    pub fn matches(&self, envelope: &Envelope) -> Result<bool, PredicateError> {
        self.sees(&View::of(envelope))
    }

    /// As [`matches`](Self::matches), of a view that others look at, too.
    ///
    /// # Errors
    /// As [`matches`](Self::matches).
    pub fn sees(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        let envelope = event.envelope();
        if self.topic.as_ref().is_some_and(|filter| !filter.matches(&envelope.topic)) {
            return Ok(false);
        }
        if self.is_of_state() && !envelope.change.key().is_some_and(|key| self.matches_key(key)) {
            return Ok(false);
        }
        for predicate in &self.predicates {
            if !predicate.matches(event)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the parts of the selector that are about a key want this one.
    pub fn matches_key(&self, key: &Key) -> bool {
        self.key_parts(key).iter().all(|(_, want, have)| want.is_none_or(|want| want == *have))
    }

    /// The first clause that said no, in words; `None` when the envelope is wanted.
    pub fn refusal(&self, envelope: &Envelope) -> Option<String> {
        if let Some(filter) = self.topic.as_ref().filter(|filter| !filter.matches(&envelope.topic)) {
            return Some(format!("topic {filter:?} (is {})", shown(envelope.topic.as_str())));
        }
        self.key_refusal(envelope).or_else(|| {
            self.predicates.iter().find_map(|predicate| match predicate.matches(&View::of(envelope)) {
                Ok(true) => None,
                Ok(false) => Some(predicate.refusal(envelope).unwrap_or_else(|| predicate.text())),
                Err(error) => Some(
                    predicate
                        .refusal(envelope)
                        .unwrap_or_else(|| format!("{} failed: {error}", predicate.text())),
                ),
            })
        })
    }

    fn key_refusal(&self, envelope: &Envelope) -> Option<String> {
        let Some(key) = envelope.change.key() else {
            let wanted = [("scope", &self.scope), ("type_url", &self.type_url), ("name", &self.name)];
            let (part, want) = wanted.iter().find_map(|(part, want)| Some((part, want.as_ref()?)))?;
            return Some(format!("{part} = {want:?} (is an event, not state)"));
        };
        let parts = self.key_parts(key);
        let (part, want, have) = parts.iter().find_map(|(part, want, have)| {
            want.filter(|want| want != have).map(|want| (part, want, have))
        })?;
        Some(format!("{part} = {want:?} (is {})", shown(have)))
    }

    /// Each part of a key: its word, what is wanted, what there is.
    fn key_parts<'a>(
        &'a self,
        key: &'a Key,
    ) -> [(&'static str, Option<&'a ByteString>, &'a ByteString); 3] {
        [
            ("scope", self.scope.as_ref(), &key.scope),
            ("type_url", self.type_url.as_ref(), &key.type_url),
            ("name", self.name.as_ref(), &key.name),
        ]
    }
}

/// A value in a sentence: quoted, and cut to 80 characters.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
