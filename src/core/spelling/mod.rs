//! Spellings of topics and names in the alphabets of other protocols: injective, and refused by name where
//! there is none.
//!
//! - NATS subjects: levels become tokens between `.`; in a token `.` is `//` and an empty one is `/`, which
//!   is [nats-server's own MQTT rule](https://docs.nats.io/running-a-nats-service/configuration/mqtt). All
//!   other text stays as it is in the topic, `%XX` escapes included.
//! - NATS key-value keys ([ADR-8](https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md)):
//!   the topic's text, with `=XX` for each byte a key cannot hold.
//! - Kubernetes path segments: the name itself where it fits, else a slug with a hash.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::topic::{InvalidTopic, TOPIC_MAX, Topic};

/// Most bytes of a Kubernetes path segment.
pub const SEGMENT_MAX: usize = 253;
/// Base-32 digits of the hash that ends a made-up path segment: 130 bits of SHA-256.
pub const HASH_DIGITS: usize = 26;
/// Most bytes of the slug before it, so that slug, `-` and hash fit a DNS label of 63.
const SLUG_MAX: usize = 36;

/// Why a text has no spelling.
type Rule = &'static str;

/// The topic as a NATS subject. [`from_subject`] undoes it.
///
/// # Errors
/// When a level holds a space or is exactly `*` or `>`, or the subject would exceed [`TOPIC_MAX`] bytes.
pub fn to_subject(topic: &Topic) -> Result<String, InvalidTopic> {
    let mut subject = String::with_capacity(topic.as_str().len() + 8);
    for (at, level) in topic.levels().enumerate() {
        if at > 0 {
            subject.push('.');
        }
        if matches!(level, "*" | ">") {
            return Err(InvalidTopic::new(
                topic.as_str(),
                "has no NATS subject: a level is exactly * or >, which NATS reads as a wildcard",
            ));
        }
        if level.is_empty() {
            subject.push('/');
        }
        push_token(&mut subject, level).map_err(|rule| InvalidTopic::new(topic.as_str(), rule))?;
    }
    if subject.len() > TOPIC_MAX {
        return Err(InvalidTopic::new(topic.as_str(), "has no NATS subject: it would exceed 4096 bytes"));
    }
    Ok(subject)
}

/// The topic a NATS subject spells. [`to_subject`] undoes it.
///
/// # Errors
/// When the subject is empty or too long, has an empty token, a wildcard, whitespace or a control
/// character, or holds what a topic spells otherwise: `+`, `#`, a `/` that is neither alone nor doubled.
pub fn from_subject(subject: &str) -> Result<Topic, InvalidTopic> {
    if subject.len() > TOPIC_MAX {
        return Err(InvalidTopic::new(subject, "is too long for a NATS subject: at most 4096 bytes"));
    }
    let mut text = String::with_capacity(subject.len());
    for (at, token) in subject.split('.').enumerate() {
        if at > 0 {
            text.push('/');
        }
        if matches!(token, "*" | ">") {
            return Err(InvalidTopic::new(subject, "names no single topic: it holds a wildcard (* or >)"));
        }
        text.push_str(&level_of(token).map_err(|rule| InvalidTopic::new(subject, rule))?);
    }
    Topic::parse(text)
}

/// Appends the text of a level to the token at the end of `subject`; an empty text adds nothing.
pub(super) fn push_token(subject: &mut String, level: &str) -> Result<(), Rule> {
    // Controls are no concern: a level holds none. White space beyond ASCII is plain text to NATS.
    if level.contains(' ') {
        return Err("has no NATS subject: it holds a space, which ends a subject");
    }
    for (at, part) in level.split('.').enumerate() {
        if at > 0 {
            subject.push_str("//");
        }
        subject.push_str(part);
    }
    Ok(())
}

/// The level that a token of a subject spells; wildcards are for the caller.
pub(super) fn level_of(token: &str) -> Result<Cow<'_, str>, Rule> {
    if token.is_empty() {
        return Err("is no NATS subject: it has an empty token");
    }
    if token == "/" {
        return Ok(Cow::Borrowed(""));
    }
    if token.bytes().any(|byte| byte == b' ' || byte.is_ascii_control()) {
        return Err("is no NATS subject: it holds white space or a control character");
    }
    if token.contains(['+', '#']) {
        return Err("is no topic: it holds + or #, which a topic spells %2B and %23");
    }
    if !token.contains('/') {
        return Ok(Cow::Borrowed(token));
    }
    let mut level = String::with_capacity(token.len());
    for (at, part) in token.split("//").enumerate() {
        if at > 0 {
            level.push('.');
        }
        if part.contains('/') {
            return Err("is no topic: it holds a single /, which a topic spells %2F");
        }
        level.push_str(part);
    }
    Ok(Cow::Owned(level))
}

/// The topic's text as a NATS key-value key. [`from_kv_key`] undoes it.
///
/// Escaped are bytes outside `[-/_.a-zA-Z0-9]`, `=` itself, and the dots that a key may not hold: at its
/// start, at its end, and after another.
///
/// # Errors
/// When the key would exceed [`TOPIC_MAX`] bytes.
pub fn to_kv_key(topic: &Topic) -> Result<String, InvalidTopic> {
    let text = topic.as_str();
    let key = kv_key(text);
    if key.len() > TOPIC_MAX {
        return Err(InvalidTopic::new(text, "has no NATS key: it would exceed 4096 bytes"));
    }
    Ok(key)
}

/// The topic a NATS key-value key spells. [`to_kv_key`] undoes it.
///
/// # Errors
/// When the key holds an `=` that starts no escape, an escape nothing needs (two keys would be one topic),
/// a byte no key holds, or when what it spells is no topic.
pub fn from_kv_key(key: &str) -> Result<Topic, InvalidTopic> {
    if key.len() > TOPIC_MAX {
        return Err(InvalidTopic::new(key, "is too long for a NATS key: at most 4096 bytes"));
    }
    let mut text = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, more @ ..] = rest {
        if *first != b'=' {
            text.push(*first);
            rest = more;
            continue;
        }
        let byte = more.get(..2).and_then(|digits| data_encoding::HEXUPPER.decode(digits).ok());
        let Some(byte) = byte else {
            return Err(InvalidTopic::new(key, "names no topic: = must start an escape such as =3D"));
        };
        text.extend(byte);
        rest = more.get(2..).unwrap_or_default();
    }
    let Ok(text) = String::from_utf8(text) else {
        return Err(InvalidTopic::new(key, "names no topic: its escapes are not UTF-8"));
    };
    if kv_key(&text) != key {
        return Err(InvalidTopic::new(key, "names no topic: it escapes what needs none, or not what does"));
    }
    Topic::parse(text)
}

fn kv_key(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut key = String::with_capacity(bytes.len());
    let mut before = b'.';
    for (at, &byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'.' => before != b'.' && at + 1 < bytes.len(),
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_'),
        };
        if plain {
            key.push(char::from(byte));
        } else {
            key.push('=');
            key.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
        }
        before = byte;
    }
    key
}

/// The name as one Kubernetes path segment, and so as `metadata.name`.
///
/// That is the name itself where the API server takes it for one (not empty, `.` or `..`, no `/`, no `%`,
/// at most [`SEGMENT_MAX`] bytes), else a slug, `-` and [`HASH_DIGITS`] base-32 digits of its SHA-256.
///
/// Two names never share a segment (short of a collision in 130 bits of SHA-256): a name that itself ends
/// like a made-up segment is hashed as well, so a segment with such an end is always made up, one without
/// always a true name. Who looks a segment up must therefore look among segments before true names.
pub fn path_segment(name: &str) -> Cow<'_, str> {
    let fits = !matches!(name, "" | "." | "..")
        && name.len() <= SEGMENT_MAX
        && !name.bytes().any(|byte| matches!(byte, b'/' | b'%') || byte.is_ascii_control())
        && !ends_in_hash(name);
    if fits { Cow::Borrowed(name) } else { Cow::Owned(made_up_segment(name)) }
}

/// The name as `metadata.name` of any kind of a cluster: a subdomain of DNS, as most kinds have to be named.
///
/// That is the name itself where it is one, else made up as [`path_segment`] does, whose promise it keeps.
pub fn object_name(name: &str) -> Cow<'_, str> {
    let is_label = |label: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        ends(bytes.first())
            && ends(bytes.last())
            && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let fits = name.len() <= SEGMENT_MAX && name.split('.').all(is_label) && !ends_in_hash(name);
    if fits { Cow::Borrowed(name) } else { Cow::Owned(made_up_segment(name)) }
}

/// Whether `name` ends in `-` and exactly as many base-32 digits as a made-up segment.
fn ends_in_hash(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_DIGITS && end.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
    })
}

fn made_up_segment(name: &str) -> String {
    let mut segment = String::with_capacity(SLUG_MAX + 1 + HASH_DIGITS);
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        // Runs of what a slug cannot hold become one dash, and none begins it.
        if c != '-' || !(segment.is_empty() || segment.ends_with('-')) {
            segment.push(c);
        }
        if segment.len() == SLUG_MAX {
            break;
        }
    }
    if segment.is_empty() {
        segment.push('x');
    }
    if !segment.ends_with('-') {
        segment.push('-');
    }
    let digits = data_encoding::BASE32_NOPAD.encode(&Sha256::digest(name.as_bytes()));
    segment.extend(digits.chars().take(HASH_DIGITS).map(|digit| digit.to_ascii_lowercase()));
    segment
}
