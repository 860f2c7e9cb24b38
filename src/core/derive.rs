//! The contract of derivations: state that is computed from other state of the table.
//!
//! A derivation is a pure function from a group of keys to the keys that are made of them. It remembers nothing:
//! whenever a key of a group changes, the whole group is given to it as the table has it, and what it made of the group
//! before and does not make now is deleted. So it cannot drift from its sources, whatever was missed in between. What is
//! derived lives in a scope of its own, which holds nothing else.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::envelope::Envelope;
use super::record::Record;

/// State that is made from state; see the [module](self).
pub trait Derivation: Send + Sync + fmt::Debug {
    /// The kind, as a configuration has it.
    fn kind(&self) -> &'static str;

    /// The scope it reads.
    fn source(&self) -> &ByteString;

    /// The types of that scope which it reads.
    fn types(&self) -> &'static [&'static str];

    /// The group that a key belongs to; `None` where nothing is made of it. Says the same of the same envelope.
    fn group(&self, envelope: &Envelope) -> Option<ByteString>;

    /// What is made of a group: of the records of all its keys, in order of key. The same input makes the same output,
    /// to the byte.
    fn derive(&self, group: &str, inputs: &[Arc<Record>]) -> Derived;
}

/// What was made of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// The state; no type and name twice.
    pub resources: Vec<Resource>,
    /// What nothing can be made of, each with its reason in words.
    pub refused: Vec<String>,
}

/// One key that was made, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its type.
    pub type_url: ByteString,
    /// Its name.
    pub name: ByteString,
    /// The media type of the value.
    pub media_type: &'static str,
    /// The value.
    pub data: Bytes,
}
