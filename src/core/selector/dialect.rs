//! The filter dialects of the [CloudEvents Subscriptions API](https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters)
//! `exact`, `prefix`, `suffix`, `all`, `any`, `not`, and `sql`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Predicate, PredicateError, shown};
use crate::core::cesql::{Expression, Expressions};
use crate::core::envelope::{self, Envelope};
use crate::core::view::View;

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
    /// This expression is true, in CloudEvents SQL.
    Sql(Expression),
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
            Self::All(_) | Self::Any(_) | Self::Not(_) | Self::Sql(_) => 1,
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
            Self::Sql(_) => Ok(()),
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

    /// Makes its expressions those that others share.
    pub fn share(&mut self, expressions: &mut Expressions) {
        match self {
            Self::Sql(expression) => expressions.share(expression),
            Self::All(list) | Self::Any(list) => {
                for dialect in list {
                    dialect.share(expressions);
                }
            }
            Self::Not(dialect) => dialect.share(expressions),
            Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) => {}
        }
    }

    /// Whether it holds. Allocates nothing for text attributes; only expressions read the data.
    ///
    /// # Errors
    /// The error of an expression; as between `AND` and `OR`, what decides before it is reached counts.
    pub fn holds(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        let envelope = event.envelope();
        match self {
            Self::Exact(attributes) => Ok(every(envelope, attributes, |have, want| have == want)),
            Self::Prefix(attributes) => {
                Ok(every(envelope, attributes, |have, want| have.starts_with(want)))
            }
            Self::Suffix(attributes) => Ok(every(envelope, attributes, |have, want| have.ends_with(want))),
            Self::All(list) => until(list, event, false),
            Self::Any(list) => until(list, event, true),
            Self::Not(dialect) => dialect.holds(event).map(|holds| !holds),
            Self::Sql(expression) => expression.matches(event),
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
            Self::Sql(_) => "sql",
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
    fn matches(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        self.holds(event)
    }

    fn refusal(&self, envelope: &Envelope) -> Option<String> {
        match self {
            Self::Exact(attributes) | Self::Prefix(attributes) | Self::Suffix(attributes) => {
                self.attribute_refusal(envelope, attributes)
            }
            Self::All(list) => list.iter().find_map(|dialect| dialect.refusal(envelope)),
            Self::Any(_) if self.holds(&View::of(envelope)) == Ok(true) => None,
            Self::Any(list) if list.is_empty() => Some("any of nothing".to_owned()),
            Self::Any(list) => {
                let each: Vec<_> = list.iter().filter_map(|dialect| dialect.refusal(envelope)).collect();
                Some(format!("any of: {}", each.join("; ")))
            }
            Self::Not(dialect) => match dialect.holds(&View::of(envelope)) {
                Ok(false) => None,
                Ok(true) => Some(self.text()),
                Err(_) => dialect.refusal(envelope),
            },
            Self::Sql(expression) => expression.refusal(envelope).map(|refusal| format!("sql {refusal}")),
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
            Self::Sql(expression) => format!("sql {:?}", expression.text()),
        }
    }
}

/// Whether one of the list is `wanted`, which ends the search.
fn until(list: &[Dialect], event: &View<'_>, wanted: bool) -> Result<bool, PredicateError> {
    for dialect in list {
        if dialect.holds(event)? == wanted {
            return Ok(wanted);
        }
    }
    Ok(!wanted)
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
