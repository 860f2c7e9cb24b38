//! Topics: a list of UTF-8 tokens, written with `/`.
//!
//! A topic's text is MQTT's spelling, kept verbatim. A token may be any text: the bytes that a topic cannot
//! hold in a level (`/`, `+`, `#`, controls) are written `%XX`, and a literal `%XX` that would read as such
//! an escape gets `%25` for its percent sign. Both ways lose nothing: see [`escape`] and [`unescape`].

use std::borrow::Cow;
use std::fmt;

use bytestring::ByteString;

/// Most bytes of a topic's text; what NATS allows for a whole protocol line.
pub const TOPIC_MAX: usize = 4096;
/// Most levels of a topic, as Mosquitto has it.
pub const LEVELS_MAX: usize = 200;
/// First tokens that only the bus's own publications and state writes may use.
pub const RESERVED: [&str; 4] = ["k8s", "xds", "flows", "bus"];

/// A topic without wildcards: at least one level, levels may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(ByteString);

/// Why some text is no topic or no topic filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {reason}")]
pub struct InvalidTopic {
    /// The text, cut to 80 characters.
    pub text: String,
    /// What is wrong and what would be right.
    pub reason: &'static str,
}

impl InvalidTopic {
    /// `text` breaks the rule that `reason` states.
    pub fn new(text: &str, reason: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), reason }
    }
}

impl Topic {
    /// Takes a topic's text as it is: MQTT's spelling.
    ///
    /// # Errors
    /// When it is empty, too long or too deep, or holds a wildcard or a control character.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, InvalidTopic> {
        let text = text.into();
        if text.is_empty() {
            return Err(InvalidTopic::new(&text, "is no topic: a topic is not empty"));
        }
        if text.len() > TOPIC_MAX {
            return Err(InvalidTopic::new(&text, "is too long for a topic: at most 4096 bytes"));
        }
        let mut levels = 1;
        for byte in text.bytes() {
            match byte {
                b'/' => levels += 1,
                b'+' | b'#' => {
                    return Err(InvalidTopic::new(&text, "is no topic: it holds a wildcard (+ or #)"));
                }
                byte if is_reserved(byte) => {
                    return Err(InvalidTopic::new(&text, "is no topic: it holds a control character"));
                }
                _ => {}
            }
        }
        if levels > LEVELS_MAX {
            return Err(InvalidTopic::new(&text, "is too deep for a topic: at most 200 levels"));
        }
        Ok(Self(text))
    }

    /// Text that was a topic before.
    pub(crate) fn known(text: ByteString) -> Self {
        Self(text)
    }

    /// Joins tokens, escaping what a level cannot hold.
    ///
    /// # Errors
    /// When there is no token, or the text is too long or too deep.
    pub fn from_tokens<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidTopic> {
        let mut text = String::new();
        for (at, token) in tokens.into_iter().enumerate() {
            if at > 0 {
                text.push('/');
            }
            text.push_str(&escape(token));
        }
        Self::parse(text)
    }

    /// The text: MQTT's spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// The levels as written, escapes and all.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }

    /// The tokens as they are meant, escapes undone.
    pub fn tokens(&self) -> impl DoubleEndedIterator<Item = Cow<'_, str>> {
        self.levels().map(unescape)
    }

    /// Whether its first token is one of [`RESERVED`].
    pub fn is_reserved(&self) -> bool {
        let starts_with = |first: &&str| {
            let rest = self.0.strip_prefix(first);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        RESERVED.iter().any(starts_with)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::str::FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        Self::parse(text)
    }
}

/// Bytes a level cannot hold.
fn is_reserved(byte: u8) -> bool {
    matches!(byte, b'/' | b'+' | b'#') || byte.is_ascii_control()
}

/// Whether `rest` (what follows a `%`) is `25`, any number of times, and then a reserved byte in upper-case
/// hexadecimal: the one shape of literal text that an escape could be confused with.
fn reads_as_escape(mut rest: &[u8]) -> bool {
    while let Some(more) = rest.strip_prefix(b"25") {
        rest = more;
    }
    hex_byte(rest).is_some_and(is_reserved)
}

fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    match text {
        [high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Writes a token as a level. [`unescape`] undoes it, for every text.
pub fn escape(token: &str) -> Cow<'_, str> {
    let bytes = token.as_bytes();
    if !bytes.iter().any(|&byte| byte == b'%' || is_reserved(byte)) {
        return Cow::Borrowed(token);
    }
    let mut level = String::with_capacity(token.len() + 8);
    for (at, c) in token.char_indices() {
        match u8::try_from(c) {
            Ok(byte) if byte.is_ascii() && is_reserved(byte) => {
                level.push('%');
                level.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
            }
            Ok(b'%') if bytes.get(at + 1..).is_some_and(reads_as_escape) => level.push_str("%25"),
            _ => level.push(c),
        }
    }
    Cow::Owned(level)
}

/// Reads a level as the token it stands for. [`escape`] undoes it, for every level.
pub fn unescape(level: &str) -> Cow<'_, str> {
    if !level.contains('%') {
        return Cow::Borrowed(level);
    }
    let bytes = level.as_bytes();
    let mut token = String::with_capacity(level.len());
    let mut skip_to = 0;
    for (at, c) in level.char_indices() {
        if at < skip_to {
            continue;
        }
        let rest = bytes.get(at + 1..).unwrap_or_default();
        if c == '%' && reads_as_escape(rest) {
            if rest.starts_with(b"25") {
                token.push('%');
            } else if let Some(byte) = hex_byte(rest) {
                token.push(char::from(byte));
            }
            skip_to = at + 3;
        } else {
            token.push(c);
        }
    }
    Cow::Owned(token)
}
