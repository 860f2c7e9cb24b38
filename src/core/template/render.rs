//! Renders templates: reads values from an envelope and escapes each into one token.

use std::cell::OnceCell;

use bytestring::ByteString;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Field, Piece, Source, Spelling};
use crate::core::data::{Found, Json, Path};
use crate::core::delivery::Reason;
use crate::core::envelope::Envelope;
use crate::core::spelling;
use crate::core::topic::{self, Topic};

/// All but the characters RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What fields read from, for one rendering.
struct Values<'a> {
    envelope: &'a Envelope,
    route: &'a str,
    spelling: Spelling,
    /// The data, parsed when the first `{data.path}` asks for it; or why it could not be.
    json: OnceCell<Result<Json, &'static str>>,
}

/// Puts the pieces together; [`finish`] makes an address of it.
pub(super) fn render(
    pieces: &[Piece],
    spelling: Spelling,
    envelope: &Envelope,
    route: &str,
) -> Result<String, Reason> {
    let values = Values { envelope, route, spelling, json: OnceCell::new() };
    let mut address = String::with_capacity(128);
    for piece in pieces {
        match piece {
            Piece::Text(text) => address.push_str(text),
            Piece::Field(field) => values.fill(field, &mut address)?,
        }
        if address.len() > spelling.max() {
            return Err(too_long(spelling));
        }
    }
    Ok(address)
}

/// Checks what only the whole address shows, and gives empty tokens of a subject their spelling.
pub(super) fn finish(address: String, spelling: Spelling) -> Result<ByteString, Reason> {
    match spelling {
        Spelling::Topic => {
            let topic = Topic::parse(address).map_err(|error| error.to_string())?;
            return Ok(topic.text().clone());
        }
        Spelling::Subject => return subject(address),
        Spelling::Url => {}
        Spelling::Text => return Ok(address.into()),
    }
    if address.len() > spelling.max() {
        return Err(too_long(spelling));
    }
    // Clients resolve dot segments, written as %2E too: a value could reach beyond the path it stands in.
    let path = address.split(['?', '#']).next().unwrap_or_default();
    if path.split('/').any(is_dot_segment) {
        return Err(
            format!("the address {address:?} has a segment . or .., which a URL cannot hold").into()
        );
    }
    Ok(address.into())
}

fn is_dot_segment(segment: &str) -> bool {
    let dot = |text: &'_ str| -> Option<usize> {
        ["%2e", "%2E", "."].iter().find(|dot| text.starts_with(**dot)).map(|dot| dot.len())
    };
    let Some(first) = dot(segment) else { return false };
    let rest = segment.get(first..).unwrap_or_default();
    rest.is_empty() || dot(rest) == Some(rest.len())
}

/// A subject of which all tokens are literals or escaped values.
fn subject(mut subject: String) -> Result<ByteString, Reason> {
    if let Some(wildcard) = subject.split('.').find(|token| matches!(*token, "*" | ">")) {
        return Err(format!(
            "the subject {subject:?} has a token {wildcard}, which NATS reads as a wildcard"
        )
        .into());
    }
    if subject.is_empty() || subject.starts_with('.') || subject.ends_with('.') || subject.contains("..") {
        let tokens = subject.split('.').map(|token| if token.is_empty() { "/" } else { token });
        subject = tokens.collect::<Vec<_>>().join(".");
    }
    if subject.len() > Spelling::Subject.max() {
        return Err(too_long(Spelling::Subject));
    }
    Ok(subject.into())
}

fn too_long(spelling: Spelling) -> Reason {
    let what = if spelling == Spelling::Text { "text" } else { "address" };
    format!("the {what} is too long: at most {} bytes", spelling.max()).into()
}

impl Values<'_> {
    /// Appends the value of `field`.
    fn fill(&self, field: &Field, address: &mut String) -> Result<(), Reason> {
        match &field.source {
            Source::Attribute => {
                self.envelope.with_attribute(&field.name, |value| self.push(field, value, address))
            }
            Source::Token(number) => {
                self.push(field, self.envelope.topic.tokens().nth(*number).as_deref(), address)
            }
            Source::Route => self.push(field, Some(self.route), address),
            Source::Topic => self.push_topic(address),
            Source::Data(path) => match self.data(path) {
                Ok(Found::Text(text)) => self.push(field, Some(&text), address),
                Ok(Found::Number(number)) => self.push(field, Some(number), address),
                Ok(Found::Boolean(value)) => {
                    self.push(field, Some(if value { "true" } else { "false" }), address)
                }
                Ok(Found::List) => Err(format!("{{{}}} is a list, not a single value", field.name).into()),
                Ok(Found::Object) => {
                    Err(format!("{{{}}} is an object, not a single value", field.name).into())
                }
                Err(why) if field.default.is_none() => {
                    Err(format!("{{{}}} is missing: {why}", field.name).into())
                }
                Ok(Found::Missing | Found::Null) | Err(_) => self.push(field, None, address),
            },
        }
    }

    /// Appends a value, or the default where there is none, as one token or a part of one.
    fn push(&self, field: &Field, value: Option<&str>, address: &mut String) -> Result<(), Reason> {
        let Some(value) = value.or(field.default.as_deref()) else {
            return Err(format!("{{{}}} is missing", field.name).into());
        };
        match self.spelling {
            // The address is too long with it; do not first make it three times as long.
            _ if value.len() > self.spelling.max() => return Err(too_long(self.spelling)),
            Spelling::Topic => address.push_str(&topic::escape(value)),
            Spelling::Subject => {
                spelling::push_token(address, &topic::escape(value))
                    .map_err(|rule| format!("{{{}}} is {value:?}, which {rule}", field.name))?;
            }
            Spelling::Url => address.extend(utf8_percent_encode(value, SEGMENT)),
            Spelling::Text => address.push_str(value),
        }
        Ok(())
    }

    /// Appends the whole topic: its levels, each in the spelling.
    fn push_topic(&self, address: &mut String) -> Result<(), Reason> {
        let topic = &self.envelope.topic;
        match self.spelling {
            Spelling::Topic | Spelling::Text => address.push_str(topic.as_str()),
            Spelling::Subject => {
                let subject = spelling::to_subject(topic).map_err(|error| format!("{{topic}}: {error}"))?;
                address.push_str(&subject);
            }
            // Decoding gives the topic's text back, in a path and in a query.
            Spelling::Url => {
                for (at, level) in topic.levels().enumerate() {
                    if at > 0 {
                        address.push('/');
                    }
                    address.extend(utf8_percent_encode(level, SEGMENT));
                }
            }
        }
        Ok(())
    }

    /// What is at `path` of the data.
    fn data(&self, path: &Path) -> Result<Found<'_>, &'static str> {
        let json = self.json.get_or_init(|| Json::read(&self.envelope.data));
        json.as_ref().map(|json| json.at(path)).map_err(|why| *why)
    }
}
