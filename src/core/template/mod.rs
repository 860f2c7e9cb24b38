//! Templates of addresses: `alerts.{involvednamespace|none}.{reason}`, rendered for each envelope.
//!
//! | written | becomes |
//! |---|---|
//! | `{reason}` | the attribute, in its canonical text form |
//! | `{data.a.b[0]}`, `{data.a['x.y']}` | the string, number or boolean at that path of JSON data |
//! | `{topic.2}` | the third token of the topic |
//! | `{topic}` | the whole topic, which is the only value that may be several tokens |
//! | `{route}` | the route's name |
//! | `{x\|none}` | `x`, or `none` where there is no `x` |
//! | `{{`, `}}` | `{`, `}` |
//!
//! Every other value fills exactly one token, so no sender chooses how many levels an address has. Values
//! are escaped one by one; literal text is the operator's own, checked when it is parsed and kept as it is.

mod parse;
mod render;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use bytestring::ByteString;

use super::data::Path;
use super::delivery::Reason;
use super::envelope::Envelope;
use super::topic::{TOPIC_MAX, Topic};

/// Most bytes of a rendered text.
pub const TEXT_MAX: usize = 64 << 10;
/// Most bytes of a rendered URL.
pub const URL_MAX: usize = 8192;

/// How a template's text is split into tokens and its values are escaped: each fills exactly one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `/`, MQTT's: see [`topic::escape`](super::topic::escape).
    Topic,
    /// `.`, NATS's: see [`spelling::to_subject`](super::spelling::to_subject).
    Subject,
    /// URL path segments, percent-encoded (RFC 3986 section 2.1).
    Url,
    /// No address but text, such as an attribute's value: values stand in it as they are.
    Text,
}

impl Spelling {
    /// Most bytes of a rendered address.
    fn max(self) -> usize {
        match self {
            Self::Topic | Self::Subject => TOPIC_MAX,
            Self::Url => URL_MAX,
            Self::Text => TEXT_MAX,
        }
    }
}

/// A parsed template. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Template {
    text: ByteString,
    spelling: Spelling,
    pieces: Arc<[Piece]>,
    /// The address of a template without fields.
    constant: Option<ByteString>,
}

/// What an address is put together from.
#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Field(Field),
}

/// A `{source|default}`.
#[derive(Debug)]
struct Field {
    /// As it is written, without the default: for reasons.
    name: Box<str>,
    source: Source,
    default: Option<Box<str>>,
}

/// Where a field's value comes from.
#[derive(Debug, PartialEq)]
enum Source {
    Attribute,
    Data(Path),
    Token(usize),
    Topic,
    Route,
}

impl Template {
    /// Parses a template whose text and values are spelt as `spelling` says.
    ///
    /// # Errors
    /// Says in which column (in characters, from 1) what is wrong: braces, the name of a field, or literal
    /// text that none of its spelling may hold: wildcards, white space in a subject, an empty token of a subject.
    pub fn parse(text: &str, spelling: Spelling) -> Result<Self, String> {
        let pieces = parse::pieces(text, spelling)?;
        let constant = match &*pieces {
            [Piece::Text(literal)] => {
                let address = render::finish(literal.to_string(), spelling);
                Some(address.map_err(|reason| format!("column 1: {reason}"))?)
            }
            _ => None,
        };
        Ok(Self { text: text.into(), spelling, pieces: pieces.into(), constant })
    }

    /// The address for an envelope on a route. Allocates nothing where the template has no fields.
    ///
    /// # Errors
    /// Names the field that is missing and has no default, that has no such spelling, or that is no single
    /// value; or says that the address is too long.
    pub fn render(&self, envelope: &Envelope, route: &str) -> Result<ByteString, Reason> {
        if let Some(constant) = &self.constant {
            return Ok(constant.clone());
        }
        let address = render::render(&self.pieces, self.spelling, envelope, route)?;
        render::finish(address, self.spelling)
    }

    /// The topic for an envelope on a route; only of a template in [`Spelling::Topic`].
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_topic(&self, envelope: &Envelope, route: &str) -> Result<Topic, Reason> {
        if self.spelling != Spelling::Topic {
            return Err(format!("{:?} is no template of a topic", &*self.text).into());
        }
        let text = match &self.constant {
            Some(constant) => constant.clone(),
            None => render::render(&self.pieces, self.spelling, envelope, route)?.into(),
        };
        Topic::parse(text).map_err(|error| error.to_string().into())
    }

    /// The text it was parsed from.
    pub fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }

    /// The names of the attributes it uses, each once, in order of first use.
    pub fn fields(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for piece in &*self.pieces {
            if let Piece::Field(Field { name, source: Source::Attribute, .. }) = piece
                && !names.contains(&&**name)
            {
                names.push(&**name);
            }
        }
        names
    }
}
