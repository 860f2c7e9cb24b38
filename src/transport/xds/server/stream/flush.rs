//! Telling what has changed, in an order in which nothing is referred to that is not there: what is new of clusters and
//! their endpoints, then what refers to them, then what of them is gone.
//!
//! What refers to clusters waits until the client has answered to new ones: see [`Hold`].

use std::sync::Arc;

use bytestring::ByteString;

use super::answer::{key_of, wanted, whole};
use super::hold::Hold;
use super::of_type::{OfType, Pending};
use super::outbox::{Gathered, Outbox};
use super::session::Session;
use super::withheld::gone;
use crate::core::log::Gone;
use crate::core::state::{Held, Snapshot};
use crate::core::{Record, Seq};
use crate::schema::aliases;
use crate::transport::xds::codec::cluster::endpoints_of;
use crate::transport::xds::codec::demand::Interest;
use crate::transport::xds::codec::kinds::{CLUSTER, ENDPOINTS, REFERS_TO_CLUSTERS};
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::server::item::{Batch, Item, name_of};

/// What a pass tells of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// All.
    All,
    /// Only what is there; what is gone stays for later.
    Put,
}

/// Tells what waits of all types, and returns what has to be waited for before the rest can be.
pub(super) fn flush(
    types: &mut [(&ByteString, &mut OfType)],
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
    mut hold: Option<Hold>,
) -> Option<Hold> {
    types.sort_by_key(|(_, of)| of.kind.rank);
    follow_clusters(types, session, snapshot);
    let refers = |of: &OfType| of.kind.rank >= REFERS_TO_CLUSTERS && of.kind.rank < 5;
    let others = types.iter().any(|(_, of)| refers(of) && of.has_pending());
    let referred = types.iter().any(|(_, of)| refers(of) && !of.demand.is_empty());
    for (type_url, of) in types.iter_mut() {
        if !of.has_pending() {
            continue;
        }
        let held = match &hold {
            Some(hold) if refers(of) => hold.part(type_url, of, outbox.variant),
            _ => Some(Vec::new()),
        };
        let Some(held) = held else { continue };
        let pass = if of.kind.removed_last && (others || hold.is_some()) { Pass::Put } else { Pass::All };
        let clusters = if ***type_url == *CLUSTER && referred { put_names(of) } else { Vec::new() };
        let before = outbox.last();
        tell((type_url, of), pass, session, snapshot, outbox);
        of.pending.extend(held);
        if ***type_url == *CLUSTER && outbox.last() != before && referred && of.told_some() {
            hold = Some(Hold::new(hold, outbox.last(), clusters));
        }
    }
    if hold.is_none() {
        for (type_url, of) in types.iter_mut().filter(|(_, of)| of.has_pending()) {
            tell((type_url, of), Pass::All, session, snapshot, outbox);
        }
        for last in [false, true] {
            let of_turn = types.iter_mut().filter(|(_, of)| of.kind.removed_last == last);
            for (type_url, of) in of_turn.filter(|(_, of)| of.withheld.has_gone()) {
                let gathered = gone((type_url, of), session, snapshot);
                if !gathered.is_empty() {
                    outbox.send(of, type_url, snapshot.seq(), false, &gathered);
                }
                if of.withheld.take_mark() {
                    outbox.mark(of, type_url, Some(snapshot.seq()));
                }
            }
        }
    }
    hold
}

/// What waits of a type and is not gone, by name.
fn put_names(of: &OfType) -> Vec<ByteString> {
    of.pending.items().filter(|item| !item.is_removed()).map(|item| item.name().clone()).collect()
}

/// Adds to what waits the endpoints of clusters that wait, where the client has asked for them already: it takes up a
/// changed cluster only with its endpoints, and does not ask for them again.
fn follow_clusters(types: &mut [(&ByteString, &mut OfType)], session: &Session, snapshot: &Snapshot) {
    let clusters = types.iter().find(|(type_url, of)| ***type_url == *CLUSTER && of.has_pending());
    let Some((_, clusters)) = clusters else { return };
    let data = |item: &Arc<Item>| (!item.is_removed()).then(|| item.record().envelope.data.clone());
    let names = clusters.pending.items().filter_map(data).filter_map(|data| endpoints_of(&data));
    let (names, all) = (names.collect::<Vec<_>>(), clusters.again);
    let endpoints = types.iter_mut().find(|(type_url, _)| ***type_url == *ENDPOINTS);
    let Some((type_url, endpoints)) = endpoints else { return };
    // Where all clusters are told again it is not known which of them have changed.
    let names = if all { endpoints.demand.names().cloned().collect() } else { names };
    for name in names {
        if endpoints.demand.tell_again(&name)
            && let Ok(record) = session.find(type_url, &name, snapshot)
        {
            endpoints.pending.add(Arc::new(Item::new(record, snapshot.seq())));
        }
    }
}

fn tell(
    (type_url, of): (&ByteString, &mut OfType),
    pass: Pass,
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) {
    match (outbox.variant, of.kind.whole) {
        (Variant::Delta, _) => tell_delta((type_url, of), pass, session, snapshot, outbox),
        (Variant::Sotw, true) => tell_whole((type_url, of), pass, session, snapshot, outbox),
        (Variant::Sotw, false) => tell_partly((type_url, of), session, snapshot, outbox),
    }
}

fn tell_delta(
    (type_url, of): (&ByteString, &mut OfType),
    pass: Pass,
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) {
    match std::mem::take(&mut of.pending) {
        Pending::Shared(batch)
            if batch.len() <= outbox.max && is_for_all((type_url, of), &batch, pass, session) =>
        {
            let last = batch.items.iter().map(|item| item.seq()).max();
            of.demand.told(&[Interest::All], last.unwrap_or_default());
            let told = batch.told(session.form, &session.kinds, &outbox.bus);
            return outbox.tell(of, told);
        }
        pending => of.pending = pending,
    }
    let at = of.at();
    let mut gathered = Gathered::default();
    for item in take(of, pass, session) {
        if item.is_removed() {
            gathered.removed.push(item.name().clone());
        } else {
            gathered.resources.push(session.encoded(&item));
        }
    }
    if pass == Pass::All {
        let lost = lost((type_url, of), session, snapshot).into_iter();
        gathered.removed.extend(lost.map(|(name, _)| name));
        gathered.removed.sort_unstable();
        gathered.removed.dedup();
    }
    if !gathered.is_empty() {
        outbox.send(of, type_url, at, false, &gathered);
    }
}

/// Whether a batch is told to this client as to all others that want all of the type.
fn is_for_all(
    (type_url, of): (&ByteString, &OfType),
    batch: &Batch,
    pass: Pass,
    session: &Session,
) -> bool {
    let split = pass == Pass::Put && batch.items.iter().any(|item| item.is_removed());
    let news = || batch.items.iter().all(|item| of.demand.is_news(item.name(), item.seq()));
    !split && of.demand.is_wildcard() && news() && session.may_see_all(type_url)
}

/// Each response is all there is, so what is gone but must stay for now is sent as it was last.
fn tell_whole(
    (type_url, of): (&ByteString, &mut OfType),
    pass: Pass,
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) {
    let items = of.pending.take();
    let visible = |item: &&Arc<Item>| session.may_see(item.record());
    let news = items.iter().filter(visible).any(|item| is_news(of, item));
    let gone = items.iter().filter(|item| item.is_removed()).filter(visible);
    of.kept.extend(gone.map(|item| (item.name().clone(), session.encoded(item))));
    if pass == Pass::All && (news || of.again || !of.kept.is_empty() || !of.lost.is_empty()) {
        of.again = false;
        of.lost.clear();
        of.kept.clear();
        return whole((type_url, of), Vec::new(), session, snapshot, outbox);
    }
    if pass == Pass::All || !news {
        return;
    }
    let mut resources = wanted(type_url, of, session, snapshot);
    for resource in &resources {
        of.kept.remove(&resource.name);
    }
    resources.extend(of.kept.values().cloned());
    of.demand.told_all(snapshot.seq());
    let gathered = Gathered { resources, ..Gathered::default() };
    outbox.send(of, type_url, snapshot.seq(), true, &gathered);
}

/// What is gone cannot be told by absence where responses are partial: it is an error, for clients that read those.
fn tell_partly(
    (type_url, of): (&ByteString, &mut OfType),
    session: &Session,
    snapshot: &Snapshot,
    outbox: &mut Outbox,
) {
    let at = of.at();
    let mut gathered = Gathered::default();
    for item in take(of, Pass::All, session) {
        if item.is_removed() {
            let text = format!("{:?} was removed", item.name());
            gathered.errors.push((item.name().clone(), Status::new(Code::NotFound, text)));
        } else {
            gathered.resources.push(session.encoded(&item));
        }
    }
    let errors = lost((type_url, of), session, snapshot).into_iter();
    gathered.errors.extend(errors.filter_map(|(name, status)| Some((name, status?))));
    if !gathered.is_empty() {
        outbox.send(of, type_url, at, false, &gathered);
    }
}

/// What was asked for by names that it has lost, where no other has them now: those names with the reason. And the
/// names under which the client has it, where it wants it by none any more.
fn lost(
    (type_url, of): (&ByteString, &mut OfType),
    session: &Session,
    snapshot: &Snapshot,
) -> Vec<(ByteString, Option<Status>)> {
    let mut gone = Vec::new();
    for (alias, item) in std::mem::take(&mut of.lost) {
        if !of.demand.asks_for(&alias) || !session.may_see(item.record()) {
            continue;
        }
        let name = item.name();
        let still = snapshot.get(&key_of(session, type_url, name));
        if !of.demand.wants(name) && !still.is_some_and(|record| wants(of, &record)) {
            gone.push((name.clone(), None));
        }
        if let Err(status) = session.find(type_url, &alias, snapshot) {
            gone.push((alias, Some(status)));
        }
    }
    gone
}

/// Whether a change is news to the client, which may know the resource by another name.
fn is_news(of: &OfType, item: &Item) -> bool {
    let news = |name: &ByteString| of.demand.is_news(name, item.seq());
    news(item.name()) || item.aliases.iter().any(news)
}

/// Whether what a record holds is wanted, by whatever name.
pub(super) fn wants(of: &OfType, record: &Record) -> bool {
    of.demand.wants(name_of(record))
        || aliases::of(&record.envelope.extensions).iter().any(|alias| of.demand.wants(alias))
}

/// Takes what waits and is news to this client.
fn take(of: &mut OfType, pass: Pass, session: &Session) -> Vec<Arc<Item>> {
    let mut items = of.pending.take();
    items.retain(|item| is_news(of, item) && session.may_see(item.record()));
    if pass == Pass::Put {
        let (removed, put) = items.into_iter().partition(|item: &Arc<Item>| item.is_removed());
        of.pending.extend(removed);
        items = put;
    }
    for item in &items {
        of.demand.told_name(item.name(), item.seq());
        item.aliases.iter().for_each(|alias| of.demand.told_name(alias, item.seq()));
    }
    items
}

/// Takes all changes of a type after a position, as far as they are wanted.
///
/// # Errors
/// When they are no longer known, so that it cannot be found out what is gone: the client has to begin again.
pub(super) fn missed(
    (type_url, of): (&ByteString, &mut OfType),
    session: &Session,
    snapshot: &Snapshot,
    after: Seq,
) -> Result<(), Status> {
    let changes = match snapshot.changes_of(session.feed.scope(), type_url, after) {
        Ok(changes) => changes.map(Held::record),
        Err(gone) => return begin_again((type_url, of), session, snapshot, after, gone),
    };
    let mut unclear = false;
    for record in changes {
        // What the log has let go does not tell which names it had before.
        unclear |= record.replaces && record.previous.is_none();
        let item = Arc::new(Item::new(record, snapshot.seq()));
        let asked = |alias: &ByteString| of.demand.asks_for(alias);
        if of.demand.wants(item.name()) || item.aliases.iter().chain(&item.lost).any(asked) {
            of.take(item);
        }
    }
    if unclear {
        of.withheld.doubt(of.demand.names().cloned());
    }
    Ok(())
}

/// Looks up all that is wanted, since what of it is gone is not known: of names that is what is absent.
///
/// # Errors
/// `ABORTED` where more than names is wanted and the client has to be told what is gone: only it knows what it has.
fn begin_again(
    (type_url, of): (&ByteString, &mut OfType),
    session: &Session,
    snapshot: &Snapshot,
    after: Seq,
    gone: Gone,
) -> Result<(), Status> {
    let interests: Vec<_> = of.demand.interests().collect();
    let named = interests.iter().all(|interest| matches!(interest, Interest::Name(_)));
    if session.variant == Variant::Delta && !named {
        let text = format!("fell behind by more than is remembered ({gone}): connect again");
        return Err(Status::new(Code::Aborted, text));
    }
    for interest in &interests {
        session.look_up(type_url, interest, snapshot, |record| {
            if record.seq > after {
                of.take(Arc::new(Item::new(record, snapshot.seq())));
            }
        });
    }
    of.withheld.doubt(of.demand.names().cloned());
    Ok(())
}
