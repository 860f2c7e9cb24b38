//! Looking up path segments that stand for names no segment can spell.
//!
//! Such a segment ends in a hash of the name, so the names of a kind must be gone through once; what was found is
//! kept, and only what changed since is looked at the next time. A true name needs none of this.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::kind::Kind;
use crate::core::bus::Bus;
use crate::core::record::Record;
use crate::core::spelling::path_segment;
use crate::core::state::{Held, Snapshot};
use crate::core::{Key, Seq};

/// Kinds whose made-up segments are kept.
const INDEXES_MAX: usize = 64;
/// Made-up segments kept of one kind; beyond, each look-up goes through all names.
const SEGMENTS_MAX: usize = 200_000;

/// The made-up segments of the kinds that were asked for.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<VecDeque<((ByteString, ByteString), Index)>>);

#[derive(Debug, Default)]
struct Index {
    /// What it has seen: changes up to here.
    seen: Seq,
    /// Namespace and segment, and the key's name.
    names: HashMap<(String, String), ByteString>,
}

impl Names {
    /// The record of what a namespace and a path segment name.
    pub(super) fn find(
        &self,
        bus: &Bus,
        kind: &Kind,
        scope: &ByteString,
        namespace: &str,
        segment: &str,
    ) -> Option<Arc<Record>> {
        let itself = || bus.get(&kind.key(scope, namespace, segment));
        if matches!(path_segment(segment), Cow::Borrowed(_)) {
            return itself();
        }
        // A segment with a hash's end is always made up; only then is it a name that was given as it is.
        self.made_up(bus, kind, scope, namespace, segment).or_else(itself)
    }

    fn made_up(
        &self,
        bus: &Bus,
        kind: &Kind,
        scope: &ByteString,
        namespace: &str,
        segment: &str,
    ) -> Option<Arc<Record>> {
        let wanted = (namespace.to_owned(), segment.to_owned());
        let snapshot = bus.snapshot();
        let of = (scope.clone(), kind.stored_as.clone());
        let name = {
            let mut indexes = self.0.lock();
            let at = indexes.iter().position(|(have, _)| *have == of).unwrap_or_else(|| {
                if indexes.len() >= INDEXES_MAX {
                    indexes.pop_front();
                }
                indexes.push_back((of, Index::default()));
                indexes.len() - 1
            });
            let (_, index) = indexes.get_mut(at)?;
            index.catch_up(kind, scope, &snapshot);
            let found = index.names.get(&wanted).cloned();
            if index.names.len() > SEGMENTS_MAX {
                // Names that are gone are among them: begin anew the next time.
                *index = Index::default();
            }
            found?
        };
        bus.get(&Key::new(scope.clone(), kind.stored_as.clone(), name))
    }
}

impl Index {
    fn catch_up(&mut self, kind: &Kind, scope: &ByteString, snapshot: &Snapshot) {
        let mut add = |held: &Held| {
            let record = held.record();
            let Some(key) = record.envelope.change.key() else { return };
            if key.scope == *scope
                && key.type_url == kind.stored_as
                && let (namespace, Cow::Owned(segment)) = kind.name_of(key)
            {
                self.names.insert((namespace.to_owned(), segment), key.name.clone());
            }
        };
        let changes =
            if self.seen == Seq::default() { None } else { snapshot.changes_after(self.seen).ok() };
        match changes {
            Some(changes) => changes.for_each(&mut add),
            None => snapshot.range(Some(scope), Some(&kind.stored_as), None).for_each(&mut add),
        }
        self.seen = snapshot.seq();
    }
}
