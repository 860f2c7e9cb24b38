//! What a client that comes back is not told while its scope may still be filled: that what it has is gone.
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
    /// Whether the client has something from before.
    returned: bool,
    /// What it has, or asked for, and is not there yet.
    names: HashSet<ByteString>,
    /// Whether a response that holds all there is waits: what it lacks would be gone.
    pub(super) whole: bool,
    /// What is to be told now, if it is still absent.
    gone: Vec<ByteString>,
}

impl Withheld {
    /// Takes a request.
    pub(super) fn asked(&mut self, asked: &Asked, session: &Session) {
        self.returned |= asked.first && asked.returns && !session.feed.is_settled();
    }

    /// Whether what is absent is not told now.
    pub(super) fn withholds(&self, session: &Session) -> bool {
        self.returned && !session.feed.is_settled()
    }

    /// Takes out of an answer that things are gone which the client may have.
    pub(super) fn keep(&mut self, asked: &Asked, gathered: &mut Gathered) {
        let names = &mut self.names;
        gathered.removed.retain(|name| {
            let has = asked.known.contains_key(name);
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

    /// Whether something waits for the scope to settle.
    pub(super) fn is_waiting(&self) -> bool {
        self.whole || !self.names.is_empty()
    }

    /// Whether something that waited is to be told.
    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// These may be gone: they are told to be, where they are absent.
    pub(super) fn doubt(&mut self, names: impl IntoIterator<Item = ByteString>) {
        self.gone.extend(names);
    }

    /// The scope has settled; gives whether all of the type has to be told.
    pub(super) fn settle(&mut self) -> bool {
        self.gone.extend(self.names.drain());
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
