//! What is answered to a request at once: what the table has of what is asked for.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashSet;

use super::flush::wants;
use super::of_type::OfType;
use super::outbox::{Filling, Gathered, Outbox};
use super::session::Session;
use crate::core::state::{Held, Snapshot, version_of};
use crate::core::{Change, Key, Record, Seq};
use crate::transport::xds::codec::demand::{ALL, Asked, Interest};
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::server::full::Full;
use crate::transport::xds::server::item::name_of;

/// Answers what a request asks for, and returns the position that the answer shows, and what is wanted no more: all,
/// where the position to resume from is no longer held and the client has to begin again with versions.
pub(super) fn answer(
    (type_url, of): (&ByteString, &mut OfType),
    asked: &Asked,
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) -> (Seq, Vec<Interest>) {
    let at = snapshot.seq();
    let wants_many = asked.answer.iter().any(|interest| !matches!(interest, Interest::Name(_)));
    if asked.answer.is_empty() && asked.known.is_empty() {
        return (at, Vec::new());
    }
    if outbox.variant == Variant::Sotw && of.kind.whole {
        if of.withheld.withholds(session) {
            of.withheld.whole = true;
            return (at, Vec::new());
        }
        let errors = missing(type_url, asked, session, snapshot);
        whole((type_url, of), errors, session, snapshot, outbox);
        return (at, Vec::new());
    }
    let plain = asked.answer == [Interest::All] && asked.known.is_empty() && asked.resume.is_none();
    if plain && session.may_see_all(type_url) {
        return (full((type_url, of), session, snapshot, outbox), Vec::new());
    }
    let mut gathered = Gathered::default();
    match asked.resume.as_deref().map(|position| changed_since(type_url, of, session, snapshot, position)) {
        Some(Ok(changed)) => gathered = changed,
        Some(Err(status)) => {
            gathered.errors.push((ByteString::from_static(ALL), status));
            outbox.send(of, type_url, at, false, &gathered);
            return (at, of.demand.forget());
        }
        None => gather(type_url, asked, session, snapshot, &mut gathered),
    }
    if outbox.variant == Variant::Sotw {
        gathered.removed.clear();
    }
    if of.withheld.withholds(session) && asked.resume.is_none() {
        of.withheld.keep(asked, session, &mut gathered);
    }
    of.demand.told(&asked.answer, at);
    // Who asks for many is answered in any case: clients wait for it.
    if !gathered.is_empty() || wants_many {
        outbox.send(of, type_url, at, false, &gathered);
    }
    (at, Vec::new())
}

/// Sends all there is of what is wanted, in one response: what is absent in it is gone.
pub(super) fn whole(
    (type_url, of): (&ByteString, &mut OfType),
    errors: Vec<(ByteString, Status)>,
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) {
    if of.demand.is_wildcard() && errors.is_empty() && session.may_see_all(type_url) {
        full((type_url, of), session, snapshot, outbox);
        return;
    }
    let resources = wanted(type_url, of, session, snapshot);
    let gathered = Gathered { resources, removed: Vec::new(), errors };
    of.demand.told_all(snapshot.seq());
    outbox.send(of, type_url, snapshot.seq(), true, &gathered);
}

/// All that is wanted and there.
pub(super) fn wanted(
    type_url: &ByteString,
    of: &OfType,
    session: &Session,
    snapshot: &Snapshot,
) -> Vec<Arc<Encoded>> {
    let mut found = Found::default();
    for interest in of.demand.interests() {
        session.look_up(type_url, &interest, snapshot, |record| found.add(record));
    }
    found.0.iter().map(|record| session.encode(record)).collect()
}

/// Begins to send all of the type from responses that streams share, and returns the position that they show: it may be
/// before that of the table, whose changes since are told later.
fn full(
    (type_url, of): (&ByteString, &mut OfType),
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) -> Seq {
    let cut = outbox.variant == Variant::Delta || !of.kind.whole;
    let max = cut.then_some(outbox.max);
    let wanted = Full {
        type_url: type_url.clone(),
        variant: outbox.variant,
        form: session.form,
        max,
        bus: outbox.bus.clone(),
        kinds: Arc::clone(&session.kinds),
    };
    let parts = session.feed.full(wanted, snapshot);
    of.demand.told(&[Interest::All], parts.at);
    if of.demand.is_wildcard() && outbox.variant == Variant::Sotw {
        of.demand.told_all(parts.at);
    }
    let at = parts.at;
    outbox.fill(Filling::new(type_url.clone(), parts), of);
    at
}

/// Errors for names that a request asks for and that are not there.
fn missing(
    type_url: &ByteString,
    asked: &Asked,
    session: &Session,
    snapshot: &Snapshot,
) -> Vec<(ByteString, Status)> {
    let names = asked.answer.iter().filter_map(|interest| match interest {
        Interest::Name(name) => Some(name),
        _ => None,
    });
    names.filter_map(|name| Some((name.clone(), session.find(type_url, name, snapshot).err()?))).collect()
}

/// Looks up what is asked for, leaving out what the client has already.
fn gather(
    type_url: &ByteString,
    asked: &Asked,
    session: &Session,
    snapshot: &Snapshot,
    gathered: &mut Gathered,
) {
    let mut found = Found::default();
    let mut gone: HashSet<ByteString> = HashSet::new();
    // An empty version is that of a client that keeps none: it is told everything, but also what is gone.
    let has = |record: &Record| {
        asked
            .known
            .get(name_of(record))
            .is_some_and(|known| !known.is_empty() && *known == version_of(record))
    };
    for interest in &asked.answer {
        let Interest::Name(name) = interest else {
            session.look_up(type_url, interest, snapshot, |record| {
                if !has(&record) {
                    found.add(record);
                }
            });
            continue;
        };
        match session.find(type_url, name, snapshot) {
            Ok(record) if has(&record) => {}
            Ok(record) => found.add(record),
            Err(status) => {
                gone.insert(name.clone());
                if session.variant == Variant::Sotw || status.code != Code::NotFound {
                    gathered.errors.push((name.clone(), status));
                }
            }
        }
    }
    for name in asked.known.keys() {
        if session.find(type_url, name, snapshot).is_err() {
            gone.insert(name.clone());
        }
    }
    gathered.resources = found.0.iter().map(|record| session.encode(record)).collect();
    gathered.removed = gone.into_iter().collect();
}

/// What has changed of what is wanted since a position that the client names.
fn changed_since(
    type_url: &ByteString,
    of: &OfType,
    session: &Session,
    snapshot: &Snapshot,
    position: &str,
) -> Result<Gathered, Status> {
    let refused = |reason: &str| {
        let text =
            format!("cannot resume after {position:?}: {reason}; send the versions of what you have");
        Status::new(Code::OutOfRange, text)
    };
    let after: Seq = position.parse().map_err(|_| refused("it is no position"))?;
    if after > snapshot.seq() {
        return Err(refused("it is not reached yet"));
    }
    let changes = snapshot.changes_of(session.feed.scope(), type_url, after);
    let changes = changes.map_err(|gone| refused(&gone.to_string()))?;
    let mut gathered = Gathered::default();
    for record in changes.map(Held::record) {
        if !wants(of, &record) || !session.may_see(&record) {
            continue;
        }
        match record.envelope.change {
            Change::Put(..) => gathered.resources.push(session.encode(&record)),
            _ => gathered.removed.push(name_of(&record).clone()),
        }
    }
    // What is asked for by another name may have lost that name since.
    let absent = of.demand.names().filter(|name| session.find(type_url, name, snapshot).is_err());
    gathered.removed.extend(absent.cloned());
    gathered.removed.sort_unstable();
    gathered.removed.dedup();
    Ok(gathered)
}

/// Records found, each once.
#[derive(Default)]
struct Found(Vec<Arc<Record>>, HashSet<Seq>);

impl Found {
    fn add(&mut self, record: Arc<Record>) {
        if self.1.insert(record.seq) {
            self.0.push(record);
        }
    }
}

/// The key of a name in a session's scope.
pub(super) fn key_of(session: &Session, type_url: &ByteString, name: &str) -> Key {
    Key::new(session.feed.scope().clone(), type_url.clone(), name)
}
