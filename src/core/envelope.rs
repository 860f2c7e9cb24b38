//! The envelope: the one form every protocol's message takes on the bus.
//!
//! An envelope is a value. Text and data are reference-counted bytes, so a clone copies no payload, and
//! it holds no handle to a connection, a queue or a task. Its context is CloudEvents 1.0; its topic is how
//! publish/subscribe clients find it; its change says whether it happened once or is the state of a key.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use super::error::InvalidEnvelope;
use super::timestamp::Timestamp;
use super::topic::Topic;

/// Most bytes an attribute name may have; CloudEvents recommends no more than 20, peers send more.
pub const ATTRIBUTE_NAME_MAX: usize = 64;

/// A position in the log: given by the log, strictly increasing, never used again, below 2^53.
///
/// Zero is before every record. In every text form it is a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Seq {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Seq)
    }
}

/// What the source calls a state's revision: a Kubernetes resourceVersion, an XDS version, a content hash.
///
/// Opaque: compared for equality only and handed back to the source as a precondition.
pub type Version = ByteString;

/// The identity of one piece of state: whose it is, what it is, what it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The key space and its one owner: a connector's name (or its `scope:`), or [`Key::LOCAL`].
    pub scope: ByteString,
    /// The type: `apps/v1/Deployment`, `type.googleapis.com/…`, `meshbus.dev/v1/Value`.
    pub type_url: ByteString,
    /// The name within scope and type, as the source gives it.
    pub name: ByteString,
}

impl Key {
    /// The scope the bus itself owns.
    pub const LOCAL: &'static str = "local";
    /// The type of plain values: retained messages, key-value entries, HTTP PUTs of no other type.
    pub const VALUE: &'static str = "meshbus.dev/v1/Value";

    /// A key from its three parts.
    pub fn new(
        scope: impl Into<ByteString>,
        type_url: impl Into<ByteString>,
        name: impl Into<ByteString>,
    ) -> Self {
        Self { scope: scope.into(), type_url: type_url.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.scope, self.type_url, &*self.name)
    }
}

/// Why a key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its owner removed it.
    Deleted,
    /// Its time to live ended; `local` keys only, hidden from routes unless asked for.
    Expired,
    /// It went away while the source was not watched: found missing by a [resync](super::resync::Resync).
    Inferred,
    /// It still exists but left a selector; made for one subscription, never in the log.
    Unmatched,
}

impl Cause {
    /// The word in text forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Inferred => "inferred",
            Self::Unmatched => "unmatched",
        }
    }
}

/// What an envelope says about state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An event: it happened once and is no key's state.
    Occurred,
    /// The key's value is now this; an empty version lets the table take the sequence for it.
    Put(Key, Version),
    /// The key is gone. The data is its last value, which the bus fills in where the source sends none.
    Delete(Key, Version, Cause),
}

impl Change {
    /// The key of a put or a delete.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Occurred => None,
            Self::Put(key, _) | Self::Delete(key, ..) => Some(key),
        }
    }
}

/// A typed attribute value (CloudEvents 1.0, type system).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A signed 32-bit number.
    Integer(i32),
    /// Text without control characters.
    String(ByteString),
    /// Bytes; base64 in text forms.
    Binary(Bytes),
    /// An absolute URI.
    Uri(ByteString),
    /// A URI reference.
    UriRef(ByteString),
    /// RFC 3339.
    Timestamp(Timestamp),
}

impl Value {
    /// The canonical text form, as binary modes carry it.
    pub fn to_text(&self) -> ByteString {
        match self {
            Self::Boolean(value) => ByteString::from_static(if *value { "true" } else { "false" }),
            Self::Integer(value) => value.to_string().into(),
            Self::String(text) | Self::Uri(text) | Self::UriRef(text) => text.clone(),
            Self::Binary(bytes) => data_encoding::BASE64.encode(bytes).into(),
            Self::Timestamp(time) => time.text().clone(),
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::String(ByteString::from_static(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<ByteString> for Value {
    fn from(text: ByteString) -> Self {
        Self::String(text)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

/// Extension attributes, sorted by name; few, so a sorted vector beats a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extensions(Vec<(ByteString, Value)>);

impl Extensions {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Sets `name`, replacing what it had. The name is not checked: see [`Envelope::validate`].
    pub fn set(&mut self, name: impl Into<ByteString>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.0.binary_search_by(|(have, _)| have.cmp(&name)) {
            Ok(at) => {
                if let Some(slot) = self.0.get_mut(at) {
                    slot.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Removes `name` and returns what it had.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(name)).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Sets two names, of which the second is the next there could be after the first, where neither is set.
    pub(crate) fn set_pair(&mut self, first: (&'static str, Value), second: (&'static str, Value)) -> bool {
        let at = self.0.partition_point(|(have, _)| **have < *first.0);
        if self.0.get(at).is_some_and(|(have, _)| **have <= *second.0) {
            return false;
        }
        self.0.reserve(2);
        for (name, value) in [second, first] {
            self.0.insert(at, (ByteString::from_static(name), value));
        }
        true
    }

    /// All, in order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ByteString, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes room for `n` more, and no more than that.
    pub fn reserve(&mut self, n: usize) {
        self.0.reserve_exact(n);
    }

    /// The bytes of the handles to them.
    pub(crate) fn handles(&self) -> usize {
        self.0.len() * size_of::<(ByteString, Value)>()
    }
}

/// One event or one change of state, whatever protocol it came by.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// CloudEvents `id`: together with `source` it names one occurrence.
    pub id: ByteString,
    /// CloudEvents `source`: who says it, a URI reference.
    pub source: ByteString,
    /// CloudEvents `type`.
    pub kind: ByteString,
    /// CloudEvents `subject`.
    pub subject: Option<ByteString>,
    /// CloudEvents `time`, in the sender's own spelling.
    pub time: Option<Timestamp>,
    /// CloudEvents `datacontenttype`: the media type of `data`.
    pub datacontenttype: Option<ByteString>,
    /// CloudEvents `dataschema`.
    pub dataschema: Option<ByteString>,
    /// All other attributes.
    pub extensions: Extensions,
    /// How publish/subscribe clients find it.
    pub topic: Topic,
    /// Event, or change of state.
    pub change: Change,
    /// The payload exactly as received; the core never looks into it. Empty where there is none.
    pub data: Bytes,
}

impl Envelope {
    /// An event with the required attributes and no data.
    pub fn event(
        topic: Topic,
        id: impl Into<ByteString>,
        source: impl Into<ByteString>,
        kind: impl Into<ByteString>,
    ) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: Extensions::default(),
            topic,
            change: Change::Occurred,
            data: Bytes::new(),
        }
    }

    /// A state change: the key at `topic` is now `data`.
    pub fn put(topic: Topic, key: Key, version: impl Into<Version>, data: impl Into<Bytes>) -> Self {
        let mut envelope = Self::event(topic, "", "", "");
        envelope.change = Change::Put(key, version.into());
        envelope.data = data.into();
        envelope
    }

    /// A state change: the key at `topic` is gone.
    pub fn delete(topic: Topic, key: Key, version: impl Into<Version>, cause: Cause) -> Self {
        let mut envelope = Self::event(topic, "", "", "");
        envelope.change = Change::Delete(key, version.into(), cause);
        envelope
    }

    /// The attribute `name` in its canonical text form, context attributes and extensions alike.
    ///
    /// `specversion` is always `1.0`; an unset or unknown attribute is `None`.
    pub fn attribute(&self, name: &str) -> Option<ByteString> {
        match name {
            "id" => Some(self.id.clone()),
            "source" => Some(self.source.clone()),
            "type" => Some(self.kind.clone()),
            "specversion" => Some(ByteString::from_static("1.0")),
            "subject" => self.subject.clone(),
            "time" => self.time.as_ref().map(|time| time.text().clone()),
            "datacontenttype" => self.datacontenttype.clone(),
            "dataschema" => self.dataschema.clone(),
            _ => self.extensions.get(name).map(Value::to_text),
        }
    }

    /// Calls `read` with the text of attribute `name`, copying nothing for text attributes.
    pub fn with_attribute<T>(&self, name: &str, read: impl FnOnce(Option<&str>) -> T) -> T {
        match name {
            "id" => read(Some(&self.id)),
            "source" => read(Some(&self.source)),
            "type" => read(Some(&self.kind)),
            "subject" => read(self.subject.as_deref()),
            "datacontenttype" => read(self.datacontenttype.as_deref()),
            "dataschema" => read(self.dataschema.as_deref()),
            _ => match self.extensions.get(name) {
                Some(Value::String(text) | Value::Uri(text) | Value::UriRef(text)) => read(Some(text)),
                _ => read(self.attribute(name).as_deref()),
            },
        }
    }

    /// What keeps order: the state key, else `partitionkey`, else the topic; hashed, so equal order keys
    /// give equal numbers and a collision only makes two keys wait for each other.
    pub fn order_key(&self) -> u64 {
        use std::hash::BuildHasher;
        let hasher = foldhash::fast::FixedState::with_seed(0);
        match (&self.change, self.extensions.get("partitionkey")) {
            (Change::Put(key, _) | Change::Delete(key, ..), _) => hasher.hash_one(key),
            (Change::Occurred, Some(key)) => hasher.hash_one(&*key.to_text()),
            (Change::Occurred, None) => hasher.hash_one(self.topic.as_str()),
        }
    }

    /// The bytes this envelope is charged with in bounded tables and queues: text, data, and a fixed part.
    pub fn weight(&self) -> usize {
        let text = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
        let extension = |(name, value): (&ByteString, &Value)| {
            name.len()
                + match value {
                    Value::Boolean(_) | Value::Integer(_) => 4,
                    Value::String(text) | Value::Uri(text) | Value::UriRef(text) => text.len(),
                    Value::Binary(bytes) => bytes.len(),
                    Value::Timestamp(time) => time.text().len(),
                }
        };
        size_of::<Self>()
            + self.id.len()
            + self.source.len()
            + self.kind.len()
            + text(&self.subject)
            + text(&self.datacontenttype)
            + text(&self.dataschema)
            + self.extensions.iter().map(extension).sum::<usize>()
            + self.topic.as_str().len()
            + self.data.len()
    }

    /// Checks what CloudEvents 1.0 asks of a context: required attributes not empty, extension names of
    /// lower-case letters and digits, no control characters or non-characters in text.
    ///
    /// # Errors
    /// Names the first attribute that is wrong and what is wrong with it. State changes may leave the
    /// required attributes empty: the bus fills them in when it applies the change.
    pub fn validate(&self) -> Result<(), InvalidEnvelope> {
        for (name, text) in [("id", &self.id), ("source", &self.source), ("type", &self.kind)] {
            if text.is_empty() && self.change == Change::Occurred {
                return Err(InvalidEnvelope::new(name, "is required and must not be empty"));
            }
            check_text(name, text)?;
        }
        let optional = [
            ("subject", &self.subject),
            ("datacontenttype", &self.datacontenttype),
            ("dataschema", &self.dataschema),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                check_text(name, text)?;
            }
        }
        for (name, value) in self.extensions.iter() {
            check_name(name)?;
            if let Value::String(text) | Value::Uri(text) | Value::UriRef(text) = value {
                check_text(name, text)?;
            }
        }
        Ok(())
    }
}

/// Checks an extension attribute's name: 1 to [`ATTRIBUTE_NAME_MAX`] lower-case ASCII letters and digits,
/// and none of the names CloudEvents keeps for itself.
///
/// # Errors
/// Says which rule the name breaks.
pub fn check_name(name: &str) -> Result<(), InvalidEnvelope> {
    if name.is_empty() || name.len() > ATTRIBUTE_NAME_MAX {
        return Err(InvalidEnvelope::new(name, "an attribute name has 1 to 64 characters"));
    }
    // Without an early end, here and in check_text, the compiler looks at many bytes at once.
    let valid = |all, byte: u8| all & (byte.is_ascii_lowercase() | byte.is_ascii_digit());
    if !name.bytes().fold(true, valid) {
        return Err(InvalidEnvelope::new(name, "an attribute name has only a-z and 0-9"));
    }
    if matches!(
        name,
        "id" | "source"
            | "type"
            | "subject"
            | "time"
            | "datacontenttype"
            | "dataschema"
            | "specversion"
            | "data"
    ) {
        return Err(InvalidEnvelope::new(name, "is no extension but a name CloudEvents defines"));
    }
    Ok(())
}

fn check_text(name: &str, text: &str) -> Result<(), InvalidEnvelope> {
    let forbidden = |c: char| {
        c.is_control() || (0xfdd0..=0xfdef).contains(&u32::from(c)) || u32::from(c) & 0xfffe == 0xfffe
    };
    // Printable ASCII is nearly always all there is, and is decided without decoding characters.
    if is_printable_ascii(text.as_bytes()) || !text.contains(forbidden) {
        return Ok(());
    }
    Err(InvalidEnvelope::new(name, "holds a control character, which CloudEvents forbids"))
}

/// Whether all bytes are from 0x20 to 0x7e, eight at a time.
fn is_printable_ascii(text: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The top bit of a byte: its own, or a borrow from below 0x20, or a carry from 0x7f. What spills into the
    // next byte comes only from one that is marked itself.
    let others = |bytes: [u8; 8]| {
        let bytes = u64::from_le_bytes(bytes);
        (bytes | bytes.wrapping_sub(EACH * 0x20) | bytes.wrapping_add(EACH)) & (EACH * 0x80)
    };
    let Some(last) = text.last_chunk() else {
        return text.iter().all(|byte| (0x20..0x7f).contains(byte));
    };
    let (chunks, _) = text.as_chunks();
    chunks.iter().fold(others(*last), |all, chunk| all | others(*chunk)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn printable_ascii_is_told_as_byte_by_byte(
            text in proptest::collection::vec(prop_oneof![4 => 0x20_u8..0x7f, 1 => any::<u8>()], 0..40),
        ) {
            let naive = text.iter().all(|byte| (0x20..0x7f).contains(byte));
            prop_assert_eq!(is_printable_ascii(&text), naive);
        }
    }
}
