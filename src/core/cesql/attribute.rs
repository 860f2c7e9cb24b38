//! The attributes an expression names, and their values in an event.

use std::borrow::Cow;

use super::value::Value;
use crate::core::envelope::{self, Envelope};

/// An attribute, looked up once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Id,
    Source,
    Type,
    SpecVersion,
    Subject,
    Time,
    DataContentType,
    DataSchema,
    /// `mbtopic`: the topic it is on.
    Topic,
    /// `mbscope`: the scope of the key it changes.
    Scope,
    Extension(Box<str>),
}

impl Attribute {
    /// The attribute of a name, in lower case.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "id" => Self::Id,
            "source" => Self::Source,
            "type" => Self::Type,
            "specversion" => Self::SpecVersion,
            "subject" => Self::Subject,
            "time" => Self::Time,
            "datacontenttype" => Self::DataContentType,
            "dataschema" => Self::DataSchema,
            "mbtopic" => Self::Topic,
            "mbscope" => Self::Scope,
            _ => Self::Extension(name.into()),
        }
    }

    /// The text an event has, where that is its type and stands in the event.
    #[inline]
    pub(super) fn text_of<'e>(&self, event: &'e Envelope) -> Option<&'e str> {
        match self {
            Self::Type => Some(&event.kind),
            Self::Source => Some(&event.source),
            Self::Subject => event.subject.as_deref(),
            Self::Topic => Some(event.topic.as_str()),
            Self::Extension(name) => match find(event, name)? {
                envelope::Value::String(text)
                | envelope::Value::Uri(text)
                | envelope::Value::UriRef(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// What an event has.
    pub(super) fn of<'e>(&self, event: &'e Envelope) -> Option<Value<'e>> {
        let text = match self {
            Self::Id => &*event.id,
            Self::Source => &*event.source,
            Self::Type => &*event.kind,
            Self::SpecVersion => "1.0",
            Self::Subject => event.subject.as_deref()?,
            Self::Time => event.time.as_ref()?.text(),
            Self::DataContentType => event.datacontenttype.as_deref()?,
            Self::DataSchema => event.dataschema.as_deref()?,
            Self::Topic => event.topic.as_str(),
            Self::Scope => match event.change.key() {
                Some(key) => &*key.scope,
                None => return extension(event, "mbscope"),
            },
            Self::Extension(name) => return extension(event, name),
        };
        Some(Value::String(Cow::Borrowed(text)))
    }
}

/// There are so few that comparing lengths one by one is faster than a search.
#[inline]
fn find<'e>(event: &'e Envelope, name: &str) -> Option<&'e envelope::Value> {
    event
        .extensions
        .iter()
        .find(|(have, _)| have.len() == name.len() && ***have == *name)
        .map(|(_, value)| value)
}

/// Booleans and numbers keep their type; everything else is text.
fn extension<'e>(event: &'e Envelope, name: &str) -> Option<Value<'e>> {
    Some(match find(event, name)? {
        envelope::Value::Boolean(value) => Value::Boolean(*value),
        envelope::Value::Integer(value) => Value::Integer(*value),
        envelope::Value::String(text) | envelope::Value::Uri(text) | envelope::Value::UriRef(text) => {
            Value::String(Cow::Borrowed(text))
        }
        envelope::Value::Timestamp(time) => Value::String(Cow::Borrowed(time.text())),
        binary @ envelope::Value::Binary(_) => Value::String(Cow::Owned(binary.to_text().to_string())),
    })
}
