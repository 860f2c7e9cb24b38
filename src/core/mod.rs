//! The core: envelope, topic, log, state, bus and routes. It names no protocol.
//!
//! In reading order: what travels ([`envelope`], [`topic`], [`timestamp`]), how it is selected and spelt
//! ([`selector`], [`cesql`], [`view`], [`data`], [`trie`], [`spelling`], [`template`]), where it is kept ([`record`], [`log`], [`state`]),
//! who moves it ([`bus`], [`consumer`], [`subscription`], [`route`], [`delivery`], [`drops`]), how state is written
//! and made of other state ([`mod@write`], [`resync`], [`mod@derive`], [`settled`]), what is answered ([`receipt`], [`error`]), and how
//! what has no identity of its own is given one ([`uuid`]).

pub mod access;
pub mod bus;
pub mod cesql;
pub mod consumer;
pub mod data;
pub mod delivery;
pub mod derive;
pub mod drops;
pub mod envelope;
pub mod error;
mod fan_out;
pub mod filter;
pub mod log;
mod packed;
mod publish;
pub mod receipt;
pub mod record;
pub mod resync;
pub mod route;
pub mod selector;
pub mod settled;
pub mod spelling;
pub mod state;
pub mod stats;
pub mod subscription;
pub mod suggest;
pub mod template;
pub mod timestamp;
pub mod topic;
pub mod trie;
pub mod uuid;
pub mod view;
pub mod write;

pub use bus::{Bus, BusOptions};
pub use delivery::{Delivery, Outcome, Reason};
pub use envelope::{Cause, Change, Envelope, Extensions, Key, Seq, Value, Version};
pub use error::{DecodeError, Error, ErrorKind, Refused};
pub use receipt::Receipt;
pub use record::Record;
pub use timestamp::Timestamp;
pub use topic::Topic;
