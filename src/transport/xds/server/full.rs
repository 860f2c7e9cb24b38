//! All resources of a type as responses, made once for all streams that ask for it between two changes: each part when
//! the first of them comes to it, so that much of a type is sent and read while the rest is made.
//!
//! What is made or has to be made holds a table that is no more, and clients may leave off reading: what nobody came to
//! for long is given up.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::item::{Form, Told, encode};
use crate::core::state::{Held, Snapshot};
use crate::core::{Key, Seq};
use crate::schema::registry::Registry;
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::codec::response::{Draft, Room, Variant, control_plane};

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Full {
    pub(super) type_url: ByteString,
    pub(super) variant: Variant,
    pub(super) form: Form,
    /// Bytes of one response; `None` where all has to be in one.
    pub(super) max: Option<usize>,
    /// Who tells it.
    pub(super) bus: ByteString,
    pub(super) kinds: Arc<Registry>,
}

/// The responses, one after the other.
#[derive(Debug)]
pub(super) struct Parts {
    wanted: Full,
    scope: ByteString,
    /// The position they show.
    pub(super) at: Seq,
    made: Mutex<Made>,
}

/// How far they are made.
#[derive(Debug)]
struct Made {
    parts: Vec<Arc<Told>>,
    /// Until all are made.
    rest: Option<Rest>,
    /// When a stream came to one last.
    wanted: Instant,
}

/// What is to be in the parts that are not made.
#[derive(Debug)]
struct Rest {
    snapshot: Snapshot,
    /// What was too long for the last part.
    first: Option<Arc<Encoded>>,
    /// Its key.
    after: Option<Key>,
}

/// One part.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) told: Arc<Told>,
    pub(super) is_last: bool,
}

/// Which responses: type, variant, form and bound.
type Which = (ByteString, Variant, Form, Option<usize>);

/// What was made of each type, the last at the end, as long as some stream still sends it.
#[derive(Debug, Default)]
pub(super) struct Fulls(Mutex<HashMap<Which, Vec<Weak<Parts>>>>);

/// How long a client may stay at one part while the type changes.
const PATIENCE: Duration = Duration::from_mins(2);

impl Fulls {
    /// `changed` is the last change of the type that was told: what shows it still holds, since whoever is told it is told
    /// later changes as well.
    pub(super) fn get(
        &self,
        wanted: Full,
        scope: &ByteString,
        changed: Seq,
        snapshot: &Snapshot,
    ) -> Arc<Parts> {
        let key = (wanted.type_url.clone(), wanted.variant, wanted.form, wanted.max);
        let mut all = self.0.lock();
        let of_key = all.entry(key).or_default();
        of_key.retain(|parts| parts.strong_count() > 0);
        let last = of_key.last().and_then(Weak::upgrade);
        if let Some(parts) = last.filter(|parts| parts.at >= changed && parts.keep()) {
            return parts;
        }
        let rest = Some(Rest { snapshot: snapshot.clone(), first: None, after: None });
        let made = Mutex::new(Made { parts: Vec::new(), rest, wanted: Instant::now() });
        let parts = Arc::new(Parts { wanted, scope: scope.clone(), at: snapshot.seq(), made });
        of_key.push(Arc::downgrade(&parts));
        parts
    }

    /// Gives up what no stream has come to for long: these streams are to begin again.
    pub(super) fn give_up(&self, now: Instant) {
        self.0.lock().retain(|_, made| {
            made.retain(|parts| parts.upgrade().is_some_and(|parts| !parts.give_up(now)));
            !made.is_empty()
        });
    }
}

impl Parts {
    /// The `n`th part, from 0; there is one also where there is nothing, since clients wait for it. Whoever comes while it
    /// is made waits for that. `None` where it was given up.
    pub(super) fn part(&self, n: usize) -> Option<Part> {
        let mut made = self.made.lock();
        made.wanted = Instant::now();
        while made.parts.len() <= n
            && let Some(rest) = &mut made.rest
        {
            let (told, is_last) = self.make(rest);
            made.parts.push(told);
            if is_last {
                made.rest = None;
            }
        }
        let told = Arc::clone(made.parts.get(n)?);
        Some(Part { told, is_last: made.rest.is_none() && n + 1 == made.parts.len() })
    }

    /// Keeps it from being given up; whether it was not.
    fn keep(&self) -> bool {
        // Where it is locked, somebody comes to it now.
        let Some(mut made) = self.made.try_lock() else { return true };
        made.wanted = Instant::now();
        made.rest.is_some() || !made.parts.is_empty()
    }

    /// Gives up what no stream has come to for long; whether it was.
    fn give_up(&self, now: Instant) -> bool {
        let Some(mut made) = self.made.try_lock() else { return false };
        let over = now.saturating_duration_since(made.wanted) > PATIENCE;
        if over {
            (made.parts, made.rest) = (Vec::new(), None);
        }
        over
    }

    /// The next part, and whether it is the last.
    fn make(&self, rest: &mut Rest) -> (Arc<Told>, bool) {
        let Full { type_url, variant, form, max, bus, kinds } = &self.wanted;
        let mut room = Room::new(*variant, max.unwrap_or(usize::MAX));
        let first = rest.first.take().into_iter();
        let mut resources: Vec<Arc<Encoded>> = first.filter(|first| room.takes(first)).collect();
        let after = rest.after.take();
        let records = rest.snapshot.range(Some(&self.scope), Some(type_url), after.as_ref());
        for record in records.map(Held::record) {
            let one = Arc::new(encode(*form, &record, kinds));
            if !room.takes(&one) {
                rest.first = Some(one);
                rest.after = record.envelope.change.key().cloned();
                break;
            }
            resources.push(one);
        }
        let draft = Draft {
            variant: *variant,
            type_url,
            version: &self.at.to_string(),
            resources: &resources,
            removed: &[],
            errors: &[],
            control_plane: &control_plane(*variant, bus),
        };
        (Arc::new(Told::new(&draft)), rest.first.is_none())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::core::bus::{Bus, BusOptions};
    use crate::core::{Envelope, Topic};
    use crate::transport::xds::codec::kinds::CLUSTER;

    async fn put(bus: &Bus, name: &str, bytes: usize) {
        let key = Key::new(Key::LOCAL, CLUSTER, name.to_owned());
        let data = Bytes::from(vec![b'x'; bytes]);
        let envelope = Envelope::put(Topic::parse(name).unwrap(), key, "", data);
        bus.ingress("ads", Key::LOCAL).publish(vec![envelope]).await;
    }

    fn get(fulls: &Fulls, bus: &Bus, max: Option<usize>) -> Arc<Parts> {
        get_after(fulls, &bus.snapshot(), Seq(1), max)
    }

    fn get_after(fulls: &Fulls, snapshot: &Snapshot, changed: Seq, max: Option<usize>) -> Arc<Parts> {
        let full = Full {
            type_url: CLUSTER.into(),
            variant: Variant::Delta,
            form: Form::Shared,
            max,
            bus: ByteString::new(),
            kinds: Arc::default(),
        };
        fulls.get(full, &Key::LOCAL.into(), changed, snapshot)
    }

    fn names(part: &Part) -> Vec<String> {
        part.told.names.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[tokio::test]
    async fn parts_are_cut_at_the_bound_and_hold_each_resource_once() {
        let (bus, fulls) = (Bus::new(BusOptions::default()), Fulls::default());
        let empty = get(&fulls, &bus, Some(5000)).part(0).unwrap();
        assert_eq!((names(&empty), empty.is_last), (vec![], true));
        for (name, bytes) in [("a", 3000), ("b", 1000), ("c", 3000), ("d", 9000), ("e", 10)] {
            put(&bus, name, bytes).await;
        }
        for (max, expected) in [
            (Some(5000), vec![vec!["a", "b"], vec!["c"], vec!["d"], vec!["e"]]),
            (Some(1), vec![vec!["a"], vec!["b"], vec!["c"], vec!["d"], vec!["e"]]),
            (None, vec![vec!["a", "b", "c", "d", "e"]]),
        ] {
            let parts = get(&Fulls::default(), &bus, max);
            let all: Vec<_> = (0..expected.len()).map(|n| parts.part(n).unwrap()).collect();
            assert_eq!(all.iter().map(names).collect::<Vec<_>>(), expected, "{max:?}");
            let last = all.iter().position(|part| part.is_last);
            assert_eq!((last, parts.part(all.len()).is_none()), (Some(expected.len() - 1), true));
        }
    }

    #[tokio::test]
    async fn a_part_is_made_when_it_is_come_to_of_the_state_when_all_was_asked_for() {
        let (bus, fulls) = (Bus::new(BusOptions::default()), Fulls::default());
        put(&bus, "a", 900).await;
        put(&bus, "b", 900).await;
        let parts = get(&fulls, &bus, Some(1000));
        let first = parts.part(0).unwrap();
        assert_eq!((names(&first), first.is_last), (vec!["a".to_owned()], false));
        assert_eq!(parts.made.lock().parts.len(), 1);
        put(&bus, "c", 900).await;
        let second = parts.part(1).unwrap();
        assert_eq!((names(&second), second.is_last), (vec!["b".to_owned()], true));
        assert!(parts.made.lock().rest.is_none(), "the table is held no longer");
        assert!(Arc::ptr_eq(&get(&fulls, &bus, Some(1000)).part(1).unwrap().told, &second.told));
        drop(parts);
        for _ in 0..100 {
            drop(get(&fulls, &bus, Some(1000)));
        }
        assert_eq!(
            fulls.0.lock().values().map(Vec::len).sum::<usize>(),
            1,
            "what nobody sends is forgotten"
        );
    }

    #[tokio::test]
    async fn what_does_not_show_the_last_change_that_was_told_is_shared_with_nobody() {
        let (bus, fulls) = (Bus::new(BusOptions::default()), Fulls::default());
        put(&bus, "a", 1).await;
        let before = bus.snapshot();
        put(&bus, "a", 2).await;
        let after = bus.snapshot();
        // It has looked before the change was told, and asks after it: the change comes to it on its own.
        let old = get_after(&fulls, &before, after.seq(), None);
        let new = get_after(&fulls, &after, after.seq(), None);
        assert_eq!((old.at, new.at), (before.seq(), after.seq()));
        assert!(Arc::ptr_eq(&get_after(&fulls, &after, before.seq(), None), &new));
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_stream_comes_to_for_long_is_given_up() {
        let (bus, fulls) = (Bus::new(BusOptions::default()), Fulls::default());
        put(&bus, "a", 900).await;
        put(&bus, "b", 900).await;
        let parts = get(&fulls, &bus, Some(1000));
        for _ in 0..3 {
            tokio::time::advance(PATIENCE).await;
            fulls.give_up(Instant::now());
            assert!(parts.part(0).is_some(), "it is come to in time");
        }
        tokio::time::advance(PATIENCE).await;
        assert!(Arc::ptr_eq(&get(&fulls, &bus, Some(1000)), &parts), "who takes it keeps it");
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        fulls.give_up(Instant::now());
        assert!(parts.part(0).is_none() && parts.part(1).is_none());
        let fresh = get(&fulls, &bus, Some(1000));
        assert!(!Arc::ptr_eq(&fresh, &parts) && fresh.part(1).is_some());
    }
}
