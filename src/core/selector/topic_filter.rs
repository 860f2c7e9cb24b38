//! Topic filters: which topics a subscriber or a route wants, read from every protocol's spelling.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use crate::core::spelling;
use crate::core::topic::{InvalidTopic, LEVELS_MAX, TOPIC_MAX, Topic};

/// One level of a [`TopicFilter`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// This level, as it is written in the topic.
    Literal(ByteString),
    /// Any one level, also an empty one: `+`, `*`.
    One,
    /// All that follows, zero levels or more: `#`. Last.
    Rest,
    /// All that follows, one level or more: `>`. Last.
    Some,
}

impl Level {
    fn is_empty_text(&self) -> bool {
        matches!(self, Self::Literal(text) if text.is_empty())
    }
}

/// A topic with wildcards: at least one level, at most [`LEVELS_MAX`], at most [`TOPIC_MAX`] bytes of text.
///
/// Levels are compared as they are written. `a/#` matches `a` too. A wildcard in the first level matches no
/// topic that starts with `$`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicFilter(Arc<[Level]>);

impl TopicFilter {
    /// Reads a filter in any spelling with `/`, as the configuration and the command line have it: `+` and
    /// `*` for one level, `#` and `>` for those that follow.
    ///
    /// # Errors
    /// When it is empty, too long or too deep, holds a control character, or a wildcard is not alone in its
    /// level or not at the end where it must be.
    pub fn parse(text: &str) -> Result<Self, InvalidTopic> {
        read(text, '/', any_level)
    }

    /// Reads an MQTT topic filter: only `+` and `#` are wildcards, `*` and `>` are text.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_mqtt(text: &str) -> Result<Self, InvalidTopic> {
        read(text, '/', mqtt_level)
    }

    /// Reads a NATS subject with wildcards: `.` between tokens, `*` and `>`, and in the other tokens the
    /// escapes of [`spelling::from_subject`].
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and for a token that spells no level.
    pub fn parse_subject(subject: &str) -> Result<Self, InvalidTopic> {
        read(subject, '.', subject_level)
    }

    /// `#`: all topics but those that start with `$`. For really all, leave a selector's filter out.
    pub fn all() -> Self {
        Self(Arc::from([Level::Rest]))
    }

    /// The levels: at least one; [`Level::Rest`] and [`Level::Some`] only as the last.
    pub fn levels(&self) -> &[Level] {
        &self.0
    }

    /// The one topic it matches, where it has no wildcard.
    pub fn literal_topic(&self) -> Option<Topic> {
        if self.0.iter().all(|level| matches!(level, Level::Literal(_))) {
            Topic::parse(self.to_string()).ok()
        } else {
            None
        }
    }

    /// Whether `topic` is wanted. The reference: [`Trie`](crate::core::trie::Trie) gives the same answers for
    /// many filters at once, and a property test compares the two.
    pub fn matches(&self, topic: &Topic) -> bool {
        let hidden = topic.as_str().starts_with('$');
        if hidden && !matches!(self.0.first(), Some(Level::Literal(_))) {
            return false;
        }
        let mut levels = topic.levels();
        for level in &*self.0 {
            match level {
                Level::Rest => return true,
                Level::Some => return levels.next().is_some(),
                Level::One if levels.next().is_none() => return false,
                Level::Literal(text) if levels.next() != Some(&**text) => return false,
                Level::One | Level::Literal(_) => {}
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic that `other` wants is wanted by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        let hidden = matches!(other.0.first(), Some(Level::Literal(text)) if text.starts_with('$'));
        if hidden && !matches!(self.0.first(), Some(Level::Literal(_))) {
            return false;
        }
        let ((ours, open), (theirs, theirs_open)) = (self.shape(), other.shape());
        let long_enough = if open { theirs.len() >= ours.len() } else { theirs.len() == ours.len() };
        long_enough
            && (open || !theirs_open)
            && ours.iter().zip(theirs).all(|(ours, theirs)| **ours == Level::One || *ours == theirs)
    }

    /// The levels that every wanted topic has, and whether more may follow.
    fn shape(&self) -> (Vec<&Level>, bool) {
        let mut levels: Vec<_> = self.0.iter().collect();
        match levels.pop() {
            // No topic is empty: after no level, and after one that is empty, another follows.
            Some(Level::Rest) if levels.len() > 1 || levels.iter().any(|level| !level.is_empty_text()) => {
                (levels, true)
            }
            Some(Level::Rest | Level::Some) => {
                levels.push(&Level::One);
                (levels, true)
            }
            Some(last) => {
                levels.push(last);
                (levels, false)
            }
            None => (levels, false),
        }
    }
}

impl From<&Topic> for TopicFilter {
    fn from(topic: &Topic) -> Self {
        Self(topic.levels().map(|level| Level::Literal(level.into())).collect())
    }
}

impl std::str::FromStr for TopicFilter {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        Self::parse(text)
    }
}

/// The spelling with `/`: `+`, `#`, `>`. A level that is text but reads `*` or `>`, which only
/// [`TopicFilter::parse_mqtt`] makes, is written as it is.
impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, level) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            f.write_str(match level {
                Level::Literal(text) => text,
                Level::One => "+",
                Level::Rest => "#",
                Level::Some => ">",
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Splits `text` at `separator`; `level` reads a piece, told whether it is the last.
fn read(
    text: &str,
    separator: char,
    level: impl Fn(&str, bool) -> Result<Level, &'static str>,
) -> Result<TopicFilter, InvalidTopic> {
    let invalid = |reason| InvalidTopic::new(text, reason);
    if text.is_empty() {
        return Err(invalid("is no topic filter: it is empty; # is all topics"));
    }
    if text.len() > TOPIC_MAX {
        return Err(invalid("is too long for a topic filter: at most 4096 bytes"));
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(invalid("is no topic filter: it holds a control character"));
    }
    let count = text.split(separator).count();
    if count > LEVELS_MAX {
        return Err(invalid("is too deep for a topic filter: at most 200 levels"));
    }
    let levels = text.split(separator).enumerate();
    let levels = levels.map(|(at, piece)| level(piece, at + 1 == count));
    let filter = TopicFilter(levels.collect::<Result<_, _>>().map_err(invalid)?);
    if matches!(filter.levels(), [only] if only.is_empty_text()) {
        return Err(invalid("is no topic filter: it spells the empty topic, which there is not"));
    }
    Ok(filter)
}

fn any_level(level: &str, last: bool) -> Result<Level, &'static str> {
    match level {
        "*" => Ok(Level::One),
        ">" => some(last),
        _ => mqtt_level(level, last),
    }
}

fn mqtt_level(level: &str, last: bool) -> Result<Level, &'static str> {
    match level {
        "+" => Ok(Level::One),
        "#" if last => Ok(Level::Rest),
        "#" => Err("is no topic filter: # must be the last level"),
        _ if level.contains(['+', '#']) => {
            Err("is no topic filter: a wildcard (+ or #) must be a whole level")
        }
        _ => Ok(Level::Literal(level.into())),
    }
}

fn subject_level(token: &str, last: bool) -> Result<Level, &'static str> {
    match token {
        "*" => Ok(Level::One),
        ">" => some(last),
        _ => spelling::level_of(token).map(|level| Level::Literal(level.into_owned().into())),
    }
}

fn some(last: bool) -> Result<Level, &'static str> {
    if last { Ok(Level::Some) } else { Err("is no topic filter: > must be at the end") }
}
