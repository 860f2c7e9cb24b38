//! The state table: versions, preconditions, snapshots, selectors, resync and replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meshbus::core::consumer::Overflow;
use meshbus::core::delivery::Mailbox;
use meshbus::core::log::{Log, MemoryLog, RingBound};
use meshbus::core::route::Router;
use meshbus::core::selector::{Dialect, Selector};
use meshbus::core::state::{Held, State, StateBound};
use meshbus::core::subscription::{Message, Start};
use meshbus::core::write::{Confirmed, Operation, Precondition, Stored};
use meshbus::core::{Bus, BusOptions, Cause, Change, Envelope, Key, Outcome, Refused, Seq, Topic};
use proptest::prelude::*;

use super::routes::{fates, route, sink, start, to};
use super::{small_bus, value};

fn key(name: &str) -> Key {
    Key::new(Key::LOCAL, Key::VALUE, name)
}

async fn put(bus: &Bus, name: &str, data: &str, precondition: Precondition) -> Result<Stored, Refused> {
    let operation = Operation::Put(Box::new(value(name, data)));
    bus.write(key(name), operation, precondition, false).await
}

#[tokio::test]
async fn preconditions_hold_or_refuse_with_what_is_there() {
    let bus = small_bus(100);
    let first = put(&bus, "x", "1", Precondition::Absent).await.expect("new");
    assert!(first.created);
    let current = Some((first.seq, first.version.clone()));
    assert_eq!(put(&bus, "x", "2", Precondition::Absent).await, Err(Refused::Conflict { current }));
    let second = put(&bus, "x", "2", Precondition::Seq(first.seq)).await.expect("fits");
    assert!(!second.created);
    assert!(put(&bus, "x", "3", Precondition::Version(first.version)).await.is_err());
    put(&bus, "x", "3", Precondition::Version(second.version)).await.expect("fits");
    let gone = bus.write(key("x"), Operation::Delete, Precondition::Any, false).await;
    assert!(gone.is_ok());
    assert!(bus.get(&key("x")).is_none());
    let again = bus.write(key("x"), Operation::Delete, Precondition::Any, false).await;
    assert_eq!(again, Err(Refused::NotFound));
}

#[tokio::test]
async fn a_dry_run_checks_and_changes_nothing() {
    let bus = small_bus(100);
    let operation = Operation::Put(Box::new(value("x", "1")));
    bus.write(key("x"), operation.clone(), Precondition::Absent, true).await.expect("would be taken");
    assert!(bus.get(&key("x")).is_none());
    put(&bus, "x", "1", Precondition::Any).await.expect("taken");
    assert!(bus.write(key("x"), operation, Precondition::Absent, true).await.is_err());
}

#[tokio::test]
async fn a_full_table_refuses_new_keys_and_keeps_the_old() {
    let state = StateBound { max_keys: 2, ..StateBound::default() };
    let bus = Bus::new(BusOptions { state, ..BusOptions::default() });
    put(&bus, "a", "1", Precondition::Any).await.expect("room");
    put(&bus, "b", "1", Precondition::Any).await.expect("room");
    assert!(matches!(put(&bus, "c", "1", Precondition::Any).await, Err(Refused::Full(_))));
    put(&bus, "a", "2", Precondition::Any).await.expect("an old key changes");
}

#[tokio::test]
async fn a_version_the_table_holds_is_not_sequenced_again() {
    let bus = small_bus(100);
    let ingress = bus.ingress("east", "east");
    let object = |version: &str| {
        let topic = Topic::parse("k8s/east/core/v1/Pod/web/a").expect("valid");
        Envelope::put(topic, Key::new("east", "core/v1/Pod", "web/a"), version.to_owned(), Bytes::new())
    };
    let first = ingress.publish(vec![object("7")]).await;
    let again = ingress.publish(vec![object("7")]).await;
    assert_eq!(first[0].stored(), again[0].stored(), "the earlier publication's receipt");
    let next = ingress.publish(vec![object("8")]).await;
    assert!(next[0].stored().expect("taken") > first[0].stored().expect("taken"));
}

/// What a route had when it was taken away, nobody was given: its source may tell it again.
#[tokio::test(start_paused = true)]
async fn a_version_that_was_delivered_to_nobody_is_taken_again() {
    let bus = small_bus(100);
    let (router, mailbox) = (Router::new(bus.clone()), Arc::new(Mailbox::default()));
    start(&router, route("old", "k8s/#", vec![to("old", &mailbox, false)]));
    let ingress = bus.ingress("east", "east");
    let topic = Topic::parse("k8s/east/core/v1/Pod/web/a").expect("valid");
    let object =
        || Envelope::put(topic.clone(), Key::new("east", "core/v1/Pod", "web/a"), "7", Bytes::new());
    let first = ingress.publish(vec![object()]).await;
    let waiting = ingress.publish(vec![object()]).await;
    assert_eq!(first[0].stored(), waiting[0].stored(), "it may still be delivered");
    router.remove("old");
    mailbox.close();
    assert!(matches!(fates(&waiting).await[..], [Outcome::Undelivered(_)]));
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("new", "k8s/#", vec![to("new", &mailbox, false)]));
    let _sink = sink(&mailbox, |_| Outcome::Delivered);
    let again = ingress.publish(vec![object()]).await;
    assert!(again[0].stored().expect("taken") > first[0].stored().expect("taken"));
    assert_eq!(fates(&again).await, [Outcome::Delivered]);
    assert_eq!(ingress.publish(vec![object()]).await[0].stored(), again[0].stored());
}

#[tokio::test]
async fn a_connector_changes_its_own_scope_only() {
    let bus = small_bus(100);
    let ingress = bus.ingress("east", "east");
    let receipts = ingress.publish(vec![value("x", "1")]).await;
    assert!(matches!(receipts[0].stored(), Err(Refused::Forbidden(_))));
    drop(bus.own("west".into(), "west".into(), false));
    let refused =
        bus.write(Key::new("west", Key::VALUE, "x"), Operation::Delete, Precondition::Any, false).await;
    assert_eq!(refused, Err(Refused::MethodNotAllowed { owner: "west".into() }));
}

#[tokio::test(start_paused = true)]
async fn a_write_through_is_answered_when_the_stream_shows_it_or_times_out() {
    let bus = small_bus(100);
    let mut writes = bus.own("east".into(), "east".into(), true);
    let ingress = bus.ingress("east", "east");
    let key = Key::new("east", Key::VALUE, "x");
    let topic = Topic::parse("x").expect("valid");
    let source = {
        let (key, topic) = (key.clone(), topic.clone());
        tokio::spawn(async move {
            let write = writes.recv().await.expect("the write comes");
            write.answer.send(Ok(meshbus::core::Version::from("v1").into())).expect("somebody waits");
            ingress.publish(vec![Envelope::put(topic, key, "v1", Bytes::from_static(b"1"))]).await;
            // The second write is taken and never answered.
            writes.recv().await
        })
    };
    let put = || Operation::Put(Box::new(Envelope::put(topic.clone(), key.clone(), "", Bytes::new())));
    let stored = bus.write(key.clone(), put(), Precondition::Any, false).await.expect("confirmed");
    assert_eq!(stored.version, "v1");
    assert_eq!(Some(stored.seq), bus.get(&key).map(|record| record.seq));
    let late = bus.write(key.clone(), put(), Precondition::Any, false).await;
    assert_eq!(late, Err(Refused::Timeout { owner: "east".into() }));
    drop(source);
}

#[tokio::test(start_paused = true)]
async fn a_write_through_that_another_came_after_is_answered_as_it_was_done() {
    let bus = small_bus(100);
    let mut writes = bus.own("east".into(), "east".into(), true);
    let ingress = bus.ingress("east", "east");
    let key = Key::new("east", Key::VALUE, "x");
    let topic = Topic::parse("x").expect("valid");
    let put = |version: &'static str| Envelope::put(topic.clone(), key.clone(), version, Bytes::new());
    let source = async {
        // Of its stream only the later version was shown.
        let write = writes.recv().await.expect("the put comes");
        ingress.publish(vec![put("v2")]).await;
        let overtaken_by = Some("v2".into());
        write
            .answer
            .send(Ok(Confirmed { version: "v1".into(), overtaken_by, ..Confirmed::default() }))
            .expect("somebody waits");
        let write = writes.recv().await.expect("the deletion comes");
        ingress.publish(vec![Envelope::delete(topic.clone(), key.clone(), "v2", Cause::Deleted)]).await;
        ingress.publish(vec![put("v3")]).await;
        write.answer.send(Ok(meshbus::core::Version::from("v2").into())).expect("somebody waits");
    };
    let writing = async {
        let operation = Operation::Put(Box::new(put("")));
        let stored = bus.write(key.clone(), operation, Precondition::Any, false).await.expect("confirmed");
        assert_eq!(stored.version, "v1", "what the writer made");
        let deleted = bus.write(key.clone(), Operation::Delete, Precondition::Any, false).await;
        let held = bus.get(&key).expect("created again");
        assert!(deleted.expect("confirmed").seq < held.seq);
    };
    tokio::join!(source, writing);
}

#[tokio::test]
async fn pages_of_a_listing_show_one_position() {
    let bus = small_bus(1000);
    for n in 0..10 {
        put(&bus, &format!("k{n}"), "1", Precondition::Any).await.expect("taken");
    }
    let selector = Selector::state(Key::LOCAL, Key::VALUE);
    let first = bus.list(&selector, None, None, 4).expect("now");
    put(&bus, "k5", "2", Precondition::Any).await.expect("taken");
    bus.write(key("k6"), Operation::Delete, Precondition::Any, false).await.expect("taken");
    let rest = bus.list(&selector, Some(first.seq), first.next.as_ref(), 100).expect("kept");
    assert_eq!(rest.seq, first.seq);
    assert_eq!(first.items.len() + rest.items.len(), 10);
    assert!(rest.items.iter().all(|record| &record.envelope.data[..] == b"1"));
    assert!(rest.next.is_none());
    assert!(bus.list(&selector, Some(Seq(1)), None, 1).is_err(), "a position never listed is gone");
}

#[tokio::test]
async fn a_key_that_leaves_a_selector_is_told_as_unmatched() {
    let bus = small_bus(100);
    let exact = Dialect::Exact(BTreeMap::from([("tier".into(), "gold".into())]));
    let selector = Selector::state(Key::LOCAL, Key::VALUE).and(Arc::new(exact));
    let mut watch = bus.subscribe(selector, Start::Now, 100, Overflow::Block).expect("now");
    let mut tiers = Vec::new();
    for tier in ["gold", "tin", "tin", "gold"] {
        let mut envelope = value("x", tier);
        envelope.extensions.set("tier", tier);
        let operation = Operation::Put(Box::new(envelope));
        bus.write(key("x"), operation, Precondition::Any, false).await.expect("taken");
    }
    while tiers.len() < 3 {
        let Some(Message::Batch(records)) = watch.next().await else { panic!("expected records") };
        tiers.extend(records.iter().map(|record| match &record.envelope.change {
            Change::Delete(_, _, cause) => cause.as_str().to_owned(),
            _ => String::from_utf8_lossy(&record.envelope.data).into_owned(),
        }));
    }
    assert_eq!(tiers, ["gold", "unmatched", "gold"]);
    let deletion = Operation::Delete;
    bus.write(key("x"), deletion, Precondition::Any, false).await.expect("taken");
    let Some(Message::Batch(records)) = watch.next().await else { panic!("expected the deletion") };
    let Change::Delete(_, _, Cause::Deleted) = records[0].envelope.change else { panic!("deleted") };
    assert_eq!(&records[0].envelope.data[..], b"gold", "a deletion carries the last data");
}

/// What a source lists: names and versions.
type Listing = BTreeMap<u8, u8>;

fn object(name: u8, version: u8) -> Envelope {
    let topic = Topic::parse(format!("xds/s/T/{name}")).expect("valid");
    let key = Key::new("s", "T", name.to_string());
    Envelope::put(topic, key, version.to_string(), Bytes::from(vec![version]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A resync tells exactly the difference between what the scope held and what the source lists.
    #[test]
    fn resync_equals_the_diff(
        before in proptest::collection::btree_map(0u8..12, 0u8..3, 0..12),
        after in proptest::collection::btree_map(0u8..12, 0u8..3, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (told, table) = runtime.block_on(resync(&before, &after));
        let mut wanted = Listing::new();
        let mut gone = Vec::new();
        for (name, version) in &after {
            if before.get(name) != Some(version) {
                wanted.insert(*name, *version);
            }
        }
        gone.extend(before.keys().filter(|name| !after.contains_key(name)).copied());
        prop_assert_eq!(told, (wanted, gone));
        prop_assert_eq!(table, after);
    }

    /// The same records make the same table, whichever table they are applied to.
    #[test]
    fn replaying_a_log_on_a_second_table_gives_the_same_table(
        operations in proptest::collection::vec((0u8..6, proptest::option::of(0u8..3)), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let bus = small_bus(10_000);
        let start = Seq(bus.figures().seq.0);
        runtime.block_on(async {
            let ingress = bus.ingress("s", "s");
            for (name, version) in operations {
                let mut change = object(name, version.unwrap_or(0));
                if version.is_none() {
                    let Change::Put(key, version) = change.change else { unreachable!() };
                    change.change = Change::Delete(key, version, Cause::Deleted);
                }
                ingress.publish(vec![change]).await;
            }
            let mut replay = bus
                .subscribe(Selector::default(), Start::After(start), 100_000, Overflow::Block)
                .expect("all is held");
            let mut second = State::new(StateBound::default(), start);
            while second.seq() < bus.figures().seq {
                let Some(Message::Batch(records)) = replay.next().await else { panic!("records") };
                records.iter().for_each(|record| second.apply(record));
            }
            let first = bus.snapshot();
            let keys = |state: &State| -> Vec<(Seq, Option<Key>)> {
                state
                    .range(None, None, None)
                    .map(|held| (held.seq(), held.record().envelope.change.key().cloned()))
                    .collect()
            };
            assert_eq!(keys(&first), keys(&second));
            assert_eq!(first.bytes(), second.bytes());
            let changes = |state: &State| -> Vec<Seq> {
                state.changes_after(start).expect("nothing is forgotten").map(Held::seq).collect()
            };
            assert_eq!(changes(&first), changes(&second));
        });
    }
}

/// Puts and deletions told by a resync from `before` to `after`, and the table afterwards.
async fn resync(before: &Listing, after: &Listing) -> ((Listing, Vec<u8>), Listing) {
    let bus = small_bus(10_000);
    let ingress = bus.ingress("s", "s");
    ingress.publish(before.iter().map(|(name, version)| object(*name, *version)).collect()).await;
    let mut watch = bus.subscribe(Selector::default(), Start::Now, 10_000, Overflow::Block).expect("now");
    let mut resync = ingress.resync(None);
    resync.put(after.iter().map(|(name, version)| object(*name, *version)).collect()).await;
    for receipt in resync.commit().await {
        assert_eq!(receipt.delivered().await, Outcome::Delivered);
    }
    // A last event tells that everything before it was told.
    bus.publish(vec![super::event("end", 0)]).await;
    let (mut put, mut gone) = (Listing::new(), Vec::new());
    'told: loop {
        let Some(Message::Batch(records)) = watch.next().await else { panic!("records") };
        for record in records.iter() {
            match &record.envelope.change {
                Change::Put(key, _) => {
                    put.insert(key.name.parse().expect("a number"), record.envelope.data[0]);
                }
                Change::Delete(key, _, cause) => {
                    assert_eq!(*cause, Cause::Inferred);
                    gone.push(key.name.parse().expect("a number"));
                }
                Change::Occurred => break 'told,
            }
        }
    }
    gone.sort_unstable();
    let snapshot = bus.snapshot();
    let table = snapshot
        .range(Some("s"), None, None)
        .map(Held::record)
        .map(|r| {
            (r.envelope.change.key().expect("state").name.parse().expect("a number"), r.envelope.data[0])
        })
        .collect();
    ((put, gone), table)
}

#[test]
fn a_log_over_its_bound_lets_the_oldest_go() {
    let bound = RingBound { max: 3, max_bytes: 1 << 20 };
    let log = MemoryLog::starting_at(Seq(100), bound, bound);
    assert_eq!(log.next_seq(), Seq(100));
    assert!(log.read(None, Seq(98), 10).is_err(), "before the log began");
    assert!(log.read(None, Seq(99), 10).expect("the very beginning is held").is_empty());
}

#[tokio::test(start_paused = true)]
async fn routes_are_not_told_of_what_is_restored_nor_of_the_end_of_a_time_to_live() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "state/#", vec![to("out", &mailbox, false)]));
    let taken = sink(&mailbox, |_| Outcome::Delivered);
    let mut all = bus.subscribe(Selector::default(), Start::Now, 100, Overflow::Block).expect("now");
    let ingress = bus.ingress("east", Key::LOCAL);
    let named = |name: &str, id: &str| {
        let mut envelope = value(name, "1");
        envelope.id = id.to_owned().into();
        envelope
    };
    let ended = |cause: Cause, id: &str| {
        let key = Key::new(Key::LOCAL, Key::VALUE, "a");
        let mut envelope = Envelope::delete("state/a".parse().expect("valid"), key, "2", cause);
        envelope.id = id.to_owned().into();
        envelope
    };
    let restored = ingress.restore(vec![named("a", "restored")]).await;
    assert_eq!(fates(&restored).await, [Outcome::Delivered]);
    assert!(bus.get(&Key::new(Key::LOCAL, Key::VALUE, "a")).is_some());
    // In one batch, so that what is told and what is not stand side by side.
    let batch = vec![
        named("b", "b"),
        ended(Cause::Expired, "expired"),
        named("a", "anew"),
        ended(Cause::Deleted, "gone"),
    ];
    assert_eq!(fates(&ingress.publish(batch).await).await, vec![Outcome::Delivered; 4]);
    mailbox.close();
    assert_eq!(taken.await.expect("ends"), ["b", "anew", "gone"]);
    let mut seen = Vec::new();
    while seen.len() < 5 {
        match all.next().await {
            Some(Message::Batch(records)) => {
                seen.extend(records.iter().map(|record| record.envelope.id.to_string()));
            }
            other => panic!("expected a batch, got {other:?}"),
        }
    }
    assert_eq!(seen, ["restored", "b", "expired", "anew", "gone"], "subscriptions see all");
}
