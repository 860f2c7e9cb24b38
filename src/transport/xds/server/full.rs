//! All resources of a type as responses, made once for all streams that ask for it between two changes.

use std::sync::{Arc, Weak};

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::item::{Form, Told, encode};
use crate::core::Seq;
use crate::core::state::Snapshot;
use crate::schema::registry::Registry;
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::codec::response::{Draft, Variant, control_plane};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full<'a> {
    pub(super) type_url: &'a ByteString,
    pub(super) variant: Variant,
    pub(super) form: Form,
    /// Bytes of one response; `None` where all has to be in one.
    pub(super) max: Option<usize>,
    /// Who tells it.
    pub(super) bus: &'a str,
    pub(super) kinds: &'a Registry,
}

/// The responses, and the position they show.
pub(super) type Parts = Arc<Made>;
type Made = (Vec<Arc<Told>>, Seq);
/// Which responses: type, variant, form and bound.
type Which = (ByteString, Variant, Form, Option<usize>);

/// What was made last of each type, as long as some stream still sends it.
#[derive(Debug, Default)]
pub(super) struct Fulls(Mutex<HashMap<Which, (Seq, Weak<Made>)>>);

impl Fulls {
    /// `changed` is the last change of the type that was told: what was made after it still holds, since whoever is
    /// told it is told later changes as well.
    pub(super) fn get(&self, wanted: Full<'_>, scope: &str, changed: Seq, snapshot: &Snapshot) -> Parts {
        let key = (wanted.type_url.clone(), wanted.variant, wanted.form, wanted.max);
        let mut made = self.0.lock();
        if let Some((at, parts)) = made.get(&key)
            && *at == changed
            && let Some(parts) = parts.upgrade()
        {
            return parts;
        }
        let parts = Arc::new((parts(wanted, scope, snapshot), snapshot.seq()));
        made.retain(|_, (_, parts)| parts.strong_count() > 0);
        made.insert(key, (changed, Arc::downgrade(&parts)));
        parts
    }
}

fn parts(wanted: Full<'_>, scope: &str, snapshot: &Snapshot) -> Vec<Arc<Told>> {
    let records = snapshot.range(Some(scope), Some(wanted.type_url), None);
    let encoded = records.map(|held| encode(wanted.form, &held.record(), wanted.kinds));
    let resources: Vec<Arc<Encoded>> = encoded.map(Arc::new).collect();
    let (version, plane) = (snapshot.seq().to_string(), control_plane(wanted.variant, wanted.bus));
    let mut rest = resources.as_slice();
    let mut parts = Vec::new();
    // One also where there is nothing, since clients wait for it.
    while parts.is_empty() || !rest.is_empty() {
        let fitting = wanted.max.map_or(rest.len(), |max| Draft::fitting(wanted.variant, rest, max));
        let (now, later) = rest.split_at(fitting);
        let draft = Draft {
            variant: wanted.variant,
            type_url: wanted.type_url,
            version: &version,
            resources: now,
            removed: &[],
            errors: &[],
            control_plane: &plane,
        };
        parts.push(Arc::new(Told::new(&draft)));
        rest = later;
    }
    parts
}
