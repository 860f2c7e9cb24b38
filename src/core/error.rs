//! Errors, by who reads them.
//!
//! [`Error`] is for the supervisor, which decides whether to call a connector again; [`DecodeError`] is for
//! one envelope, which goes to the dead letter while the link lives; [`Refused`] is for whoever wrote or
//! published, in terms each protocol has its own word for. The operator's `ConfigError` is with the config.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::envelope::{Seq, Version};

/// A source error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error with its causes on one line: client crates like to hide the one that matters deep below.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let deeper_text = deeper.to_string();
        if !text.ends_with(&deeper_text) {
            text.push_str(": ");
            text.push_str(&deeper_text);
        }
        cause = deeper.source();
    }
    text
}

/// Why a connector stopped: a kind to act on, a peer to name, a source to read.
#[derive(Debug, thiserror::Error)]
#[error("{peer}: {kind}{}", .source.as_ref().map(|s| format!(": {s}")).unwrap_or_default())]
pub struct Error {
    /// What the supervisor acts on.
    pub kind: ErrorKind,
    /// Who it was about: an address or a URL without credentials.
    pub peer: String,
    /// What happened underneath.
    #[source]
    pub source: Option<BoxError>,
}

impl Error {
    /// An error of `kind` about `peer`.
    pub fn new(kind: ErrorKind, peer: impl Into<String>) -> Self {
        Self { kind, peer: peer.into(), source: None }
    }

    /// Adds what happened underneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// What kind of failure ended a connector's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection could be made; tried again after a back-off.
    Unreachable,
    /// The connection was lost; tried again after a back-off that starts anew.
    Disconnected,
    /// The peer broke its protocol; tried again after a back-off.
    Protocol,
    /// The peer refused us (credentials, permission, address in use); not tried again until a reload.
    Denied,
    /// The peer asks to come back after so long.
    Busy(Duration),
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("unreachable"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Protocol => f.write_str("protocol error"),
            Self::Denied => f.write_str("denied"),
            Self::Busy(wait) => write!(f, "busy for {wait:?}"),
        }
    }
}

/// One message that could not be read; the link it came by lives on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", .offset.map(|at| format!(" at byte {at}")).unwrap_or_default())]
pub struct DecodeError {
    /// Where in the input, where that is known.
    pub offset: Option<usize>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl DecodeError {
    /// An error about the message as a whole.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { offset: None, reason: reason.into() }
    }

    /// An error at a byte of the input.
    pub fn at(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset: Some(offset), reason: reason.into() }
    }
}

impl From<InvalidEnvelope> for DecodeError {
    fn from(error: InvalidEnvelope) -> Self {
        Self::new(error.to_string())
    }
}

/// An attribute that breaks the rules of its context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {attribute:?} {reason}")]
pub struct InvalidEnvelope {
    /// Which attribute.
    pub attribute: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl InvalidEnvelope {
    /// Attribute `attribute` breaks the rule that `reason` states.
    pub fn new(attribute: impl Into<String>, reason: &'static str) -> Self {
        Self { attribute: attribute.into(), reason }
    }
}

/// Why the bus did not take a publication or a write. Every protocol answers with its own word for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The envelope itself is wrong.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The precondition does not hold; what the table has now.
    #[error("conflict: {}", .current.as_ref().map_or("the key does not exist".to_owned(), |(seq, version)| format!("the key is at version {version} (seq {seq})")))]
    Conflict {
        /// The key's last change and version; `None` where it does not exist.
        current: Option<(Seq, Version)>,
    },
    /// A delete or a patch of what does not exist.
    #[error("not found")]
    NotFound,
    /// The key's owner takes no writes.
    #[error("method not allowed: {owner} owns this key and takes no writes")]
    MethodNotAllowed {
        /// The connector that owns the scope.
        owner: ByteString,
    },
    /// The owner refused in its own words.
    #[error("{owner} refused: {reason}: {message}")]
    Owner {
        /// The connector that owns the scope.
        owner: ByteString,
        /// The owner's own word, such as a Kubernetes Status reason.
        reason: ByteString,
        /// The owner's own sentence.
        message: ByteString,
        /// The HTTP status that fits, 4xx or 5xx.
        status: u16,
        /// The owner's whole answer, for readers who speak its protocol; empty where there is none.
        body: Bytes,
    },
    /// The owner did not answer in time, or is away.
    #[error("timeout: {owner} did not answer in time")]
    Timeout {
        /// The connector that owns the scope.
        owner: ByteString,
    },
    /// The media type of a patch is none the owner applies.
    #[error("unsupported media type {0:?}")]
    UnsupportedMediaType(ByteString),
    /// A bound is reached: which one, and its value.
    #[error("full: {0}")]
    Full(String),
    /// The principal may not do this here.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The bus is shutting down.
    #[error("the bus is shutting down")]
    Closed,
}

impl Refused {
    /// The connector that owns a scope cannot write now, which leaves nothing written.
    pub fn unavailable(owner: &ByteString, why: impl fmt::Display) -> Self {
        Self::Owner {
            owner: owner.clone(),
            reason: ByteString::from_static("ServiceUnavailable"),
            message: format!("the connector {:?} is not connected: {why}", &**owner).into(),
            status: 503,
            body: Bytes::new(),
        }
    }
}

/// What a panic said, as far as it is text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_all_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("handshake failed")]
        struct Outer(#[source] std::io::Error);
        let cause = Outer(std::io::Error::other("certificate expired"));
        let error = Error::new(ErrorKind::Unreachable, "broker:8883").because(cause);
        assert_eq!(causes(&error), "broker:8883: unreachable: handshake failed: certificate expired");
    }

    #[test]
    fn a_panic_message_is_read_from_both_kinds_of_text() {
        assert_eq!(panic_message(&"text"), "text");
        assert_eq!(panic_message(&"owned".to_owned()), "owned");
        assert_eq!(panic_message(&7_u8), "no message");
    }
}
