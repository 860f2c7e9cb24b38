//! What a client that comes back is not told while its scope may still be filled: that what it has is gone. One that
//! knows the sync marker is not told so either when it has nothing: another bus, that would tell it to others.
//!
//! A bus that has just begun knows nothing of what was there before. To believe its empty table would take away from
//! an Envoy all that it runs by.

use std::mem::take;

use bytestring::ByteString;
use hashbrown::HashSet;

use super::of_type::OfType;
use super::outbox::Gathered;
use super::session::Session;
use crate::core::state::Snapshot;
use crate::transport::xds::codec::demand::Asked;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::Code;

/// See the [module](self); of one type.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// Whether the client has something from before, or waits for all there is.
    returned: bool,
    /// What it has, or asked for, and is not there yet.
    names: HashSet<ByteString>,
    /// Whether a response that holds all there is waits: what it lacks would be gone.
    pub(super) whole: bool,
    /// What is to be told now, if it is still absent.
    gone: Vec<ByteString>,
    /// How it is to be told that all of the first answer is sent.
    mark: Mark,
}

/// See [`Withheld::mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    None,
    /// When the scope has settled.
    Later,
    /// After what is to be told now.
    Now,
}

impl Withheld {
    /// Takes a request.
    pub(super) fn asked(&mut self, asked: &Asked, session: &Session) {
        let waits = asked.returns || session.knows_marker();
        self.returned |= asked.first && waits && !session.feed.is_settled();
    }

    /// Whether what is absent is not told now.
    pub(super) fn withholds(&self, session: &Session) -> bool {
        self.returned && !session.feed.is_settled()
    }

    /// Takes out of an answer that things are gone which the client may have, or must not believe to be.
    pub(super) fn keep(&mut self, asked: &Asked, session: &Session, gathered: &mut Gathered) {
        let names = &mut self.names;
        gathered.removed.retain(|name| {
            let has = asked.known.contains_key(name) || session.knows_marker();
            if has {
                names.insert(name.clone());
            }
            !has
        });
        gathered.errors.retain(|(name, status)| {
            let absent = status.code == Code::NotFound;
            if absent {
                names.insert(name.clone());
            }
            !absent
        });
    }

    /// Whether the end of an answer is to be marked only when the scope has settled; then it will be.
    pub(super) fn marks_later(&mut self, session: &Session) -> bool {
        let later = self.is_waiting() || !session.feed.is_settled();
        if later {
            self.mark = Mark::Later;
        }
        later
    }

    /// Whether something waits for the scope to settle.
    pub(super) fn is_waiting(&self) -> bool {
        self.whole || !self.names.is_empty() || self.mark == Mark::Later
    }

    /// Whether something that waited is to be told.
    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty() || self.mark == Mark::Now
    }

    /// Whether the mark is to be told; once.
    pub(super) fn take_mark(&mut self) -> bool {
        self.mark == Mark::Now && take(&mut self.mark) == Mark::Now
    }

    /// These may be gone: they are told to be, where they are absent.
    pub(super) fn doubt(&mut self, names: impl IntoIterator<Item = ByteString>) {
        self.gone.extend(names);
    }

    /// The scope has settled; gives whether all of the type has to be told.
    pub(super) fn settle(&mut self) -> bool {
        self.gone.extend(self.names.drain());
        if self.mark == Mark::Later {
            self.mark = Mark::Now;
        }
        take(&mut self.whole)
    }
}

/// What of a type is gone, as it turned out.
pub(super) fn gone(
    (type_url, of): (&ByteString, &mut OfType),
    session: &Session,
    snapshot: &Snapshot,
) -> Gathered {
    let mut gathered = Gathered::default();
    for name in take(&mut of.withheld.gone) {
        let Err(status) = session.find(type_url, &name, snapshot) else { continue };
        match session.variant {
            Variant::Delta => gathered.removed.push(name),
            Variant::Sotw => gathered.errors.push((name, status)),
        }
    }
    gathered
}
