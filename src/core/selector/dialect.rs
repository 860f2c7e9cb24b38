//! The filter dialects of the [CloudEvents Subscriptions API](https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters)
//! that need no expression language: `exact`, `prefix`, `suffix`, `all`, `any`, `not`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Predicate, PredicateError, shown};
use crate::core::envelope::{self, Envelope};

/// Deepest nesting of `all`, `any` and `not`.
pub const DEPTH_MAX: usize = 32;
/// Most dialects and attribute clauses in one tree.
pub const CLAUSES_MAX: usize = 1024;

/// Attribute names and the text each is compared with.
pub type Attributes = BTreeMap<String, String>;

/// A condition on attributes, compared in their canonical text form. A missing attribute equals nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Dialect {
    /// Each attribute has exactly this value.
    Exact(Attributes),
    /// Each attribute starts with this.
    Prefix(Attributes),
    /// Each attribute ends with this.
    Suffix(Attributes),
    /// All of these hold.
    All(Vec<Dialect>),
    /// At least one of these holds.
    Any(Vec<Dialect>),
    /// This does not hold.
    Not(Box<Dialect>),
}

impl Dialect {
    /// Checks what the specification asks: no empty list, map or value, attribute names of CloudEvents; and
    /// the bounds [`DEPTH_MAX`] and [`CLAUSES_MAX`].
    ///
    /// # Errors
    /// Says which clause is wrong and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let mut clauses = 0;
        self.check(1, &mut clauses)
    }

    fn check(&self, depth: usize, clauses: &mut usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("dialects are nested too deeply: at most {DEPTH_MAX} levels"));
        }
        *clauses += match self {
            Self::Exact(attributes) | Self::Prefix(attributes) | Self::Suffix(attributes) => {
                attributes.len()
            }
            Self::All(_) | Self::Any(_) | Self::Not(_) => 1,
        };
        if *clauses > CLAUSES_MAX {
            return Err(format!("too many dialects: at most {CLAUSES_MAX} clauses"));
        }
        match self {
            Self::Exact(attributes) | Self::Prefix(attributes) | Self::Suffix(attributes) => {
                self.check_attributes(attributes)
            }
            Self::All(list) | Self::Any(list) if list.is_empty() => {
                Err(format!("{}: needs at least one dialect", self.word()))
            }
            Self::All(list) | Self::Any(list) => {
                list.iter().try_for_each(|dialect| dialect.check(depth + 1, clauses))
            }
            Self::Not(dialect) => dialect.check(depth + 1, clauses),
        }
    }

    fn check_attributes(&self, attributes: &Attributes) -> Result<(), String> {
        let word = self.word();
        if attributes.is_empty() {
            return Err(format!(
                "{word}: needs at least one attribute, such as `type: com.example.created`"
            ));
        }
        for (name, value) in attributes {
            if !envelope_has(name) {
                envelope::check_name(name).map_err(|error| format!("{word}: {error}"))?;
            }
            if value.is_empty() {
                return Err(format!("{word}: the value of {name} is empty, but no attribute is"));
            }
        }
        Ok(())
    }

    /// Whether it holds. Allocates nothing for text attributes and never reads the data.
    pub fn holds(&self, envelope: &Envelope) -> bool {
        match self {
            Self::Exact(attributes) => every(envelope, attributes, |have, want| have == want),
            Self::Prefix(attributes) => every(envelope, attributes, |have, want| have.starts_with(want)),
            Self::Suffix(attributes) => every(envelope, attributes, |have, want| have.ends_with(want)),
            Self::All(list) => list.iter().all(|dialect| dialect.holds(envelope)),
            Self::Any(list) => list.iter().any(|dialect| dialect.holds(envelope)),
            Self::Not(dialect) => !dialect.holds(envelope),
        }
    }

    /// The word of the dialect.
    fn word(&self) -> &'static str {
        match self {
            Self::Exact(_) => "exact",
            Self::Prefix(_) => "prefix",
            Self::Suffix(_) => "suffix",
            Self::All(_) => "all",
            Self::Any(_) => "any",
            Self::Not(_) => "not",
        }
    }

    /// The first attribute clause that does not hold.
    fn attribute_refusal(&self, envelope: &Envelope, attributes: &Attributes) -> Option<String> {
        let word = self.word();
        let (name, want) = attributes.iter().find(|(name, want)| {
            envelope.with_attribute(name, |have| {
                have.is_none_or(|have| match self {
                    Self::Prefix(_) => !have.starts_with(want.as_str()),
                    Self::Suffix(_) => !have.ends_with(want.as_str()),
                    _ => have != *want,
                })
            })
        })?;
        let have = envelope.with_attribute(name, |have| {
            have.map_or("is missing".to_owned(), |have| format!("is {}", shown(have)))
        });
        Some(format!("{word} {name} = {want:?} ({have})"))
    }
}

impl Predicate for Dialect {
    fn matches(&self, envelope: &Envelope) -> Result<bool, PredicateError> {
        Ok(self.holds(envelope))
    }

    fn refusal(&self, envelope: &Envelope) -> Option<String> {
        match self {
            Self::Exact(attributes) | Self::Prefix(attributes) | Self::Suffix(attributes) => {
                self.attribute_refusal(envelope, attributes)
            }
            Self::All(list) => list.iter().find_map(|dialect| dialect.refusal(envelope)),
            Self::Any(_) if self.holds(envelope) => None,
            Self::Any(list) if list.is_empty() => Some("any of nothing".to_owned()),
            Self::Any(list) => {
                let each: Vec<_> = list.iter().filter_map(|dialect| dialect.refusal(envelope)).collect();
                Some(format!("any of: {}", each.join("; ")))
            }
            Self::Not(dialect) => dialect.holds(envelope).then(|| self.text()),
        }
    }

    fn text(&self) -> String {
        let list = |list: &[Self], word| {
            let each: Vec<_> = list.iter().map(Predicate::text).collect();
            format!("({})", each.join(word))
        };
        match self {
            Self::Exact(attributes) | Self::Prefix(attributes) | Self::Suffix(attributes) => {
                let each: Vec<_> =
                    attributes.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
                format!("{} {}", self.word(), each.join(" and "))
            }
            Self::All(all) => list(all, " and "),
            Self::Any(any) => list(any, " or "),
            Self::Not(dialect) => format!("not {}", dialect.text()),
        }
    }
}

fn every(envelope: &Envelope, attributes: &Attributes, holds: impl Fn(&str, &str) -> bool) -> bool {
    attributes.iter().all(|(name, want)| {
        envelope.with_attribute(name, |have| have.is_some_and(|have| holds(have, want)))
    })
}

/// The attributes CloudEvents itself defines, which [`envelope::check_name`] takes for no extension.
fn envelope_has(name: &str) -> bool {
    matches!(
        name,
        "id" | "source" | "type" | "specversion" | "subject" | "time" | "datacontenttype" | "dataschema"
    )
}
