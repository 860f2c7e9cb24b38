//! Resources that hold for a time only: a client that understands that is told now and then that they still do.

use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::outbox::Gathered;
use super::{OfType, Stream};
use crate::core::Seq;
use crate::transport::xds::codec::resource::{Encoded, Extra};

/// A client is told so often within the shortest time to live, so that one word may be late.
const WORDS: u32 = 3;
/// The shortest time between two words.
const BEAT_MIN: Duration = Duration::from_millis(10);

/// What was told of one type with a time to live.
#[derive(Debug, Default)]
pub(super) struct Life {
    living: HashMap<ByteString, Living>,
    /// When they are told again.
    next: Option<Instant>,
}

/// One resource.
#[derive(Debug)]
struct Living {
    version: ByteString,
    ttl: Duration,
    aliases: Vec<ByteString>,
}

impl Life {
    /// Notes what is sent.
    pub(super) fn note(&mut self, gathered: &Gathered) {
        if self.living.is_empty() && gathered.resources.iter().all(|resource| resource.ttl.is_none()) {
            return;
        }
        for resource in &gathered.resources {
            match resource.ttl {
                Some(ttl) => {
                    let (version, aliases) = (resource.version.clone(), resource.aliases.clone());
                    self.living.insert(resource.name.clone(), Living { version, ttl, aliases });
                }
                None => drop(self.living.remove(&resource.name)),
            }
        }
        for name in &gathered.removed {
            self.living.remove(name);
        }
        self.plan();
    }

    /// When something is to be told.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    fn plan(&mut self) {
        let shortest = self.living.values().map(|living| living.ttl / WORDS).min();
        let at = shortest.map(|beat| Instant::now() + beat.max(BEAT_MIN));
        // What is planned already is not put off.
        self.next = at.map(|at| self.next.map_or(at, |next| next.min(at)));
    }

    /// Names and versions without messages, of all that still holds.
    fn beat(&mut self, wanted: impl Fn(&str) -> bool, at: Seq) -> Gathered {
        self.living.retain(|name, living| wanted(name) || living.aliases.iter().any(|alias| wanted(alias)));
        self.next = None;
        let word = |(name, living): (&ByteString, &Living)| {
            let Living { version, ttl, aliases } = living;
            let extra = Extra { aliases, ttl: Some(*ttl) };
            Encoded::bodiless(at, name.clone(), version.clone(), extra).into()
        };
        Gathered { resources: self.living.iter().map(word).collect(), ..Gathered::default() }
    }
}

impl Stream {
    /// When something with a time to live is to be told.
    pub(super) fn next_beat(&self) -> Option<Instant> {
        self.types.values().filter_map(|of| of.life.next()).min()
    }

    /// Tells what still holds.
    pub(super) fn on_beat(&mut self) {
        let (now, at) = (Instant::now(), self.shared.bus.snapshot().seq());
        for (type_url, of) in &mut self.types {
            if of.life.next().is_none_or(|next| next > now) {
                continue;
            }
            let OfType { life, demand, .. } = of;
            let gathered = life.beat(|name| demand.wants(name), at);
            if !gathered.is_empty() {
                self.outbox.send(of, type_url, at, false, &gathered);
            }
        }
    }
}
