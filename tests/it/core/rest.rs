//! The table beyond the log: what is told of keys whose records the log has let go.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meshbus::core::consumer::Overflow;
use meshbus::core::log::RingBound;
use meshbus::core::selector::{Dialect, Selector};
use meshbus::core::state::{Held, Snapshot, State, StateBound};
use meshbus::core::subscription::{Message, Start};
use meshbus::core::write::{Operation, Precondition};
use meshbus::core::{Bus, BusOptions, Change, Envelope, Key, Outcome, Record, Refused, Seq};
use proptest::prelude::*;

use super::value;

/// A bus whose log holds the last two changes only.
fn forgetful() -> Bus {
    let changes = RingBound { max: 2, max_bytes: 64 << 20 };
    Bus::new(BusOptions { changes, ..BusOptions::default() })
}

fn key(name: &str) -> Key {
    Key::new(Key::LOCAL, Key::VALUE, name)
}

async fn put(bus: &Bus, name: &str, data: &str) -> Seq {
    put_if(bus, name, data, Precondition::Any).await.expect("taken")
}

async fn put_if(bus: &Bus, name: &str, data: &str, precondition: Precondition) -> Result<Seq, Refused> {
    let mut envelope = value(name, data);
    envelope.extensions.set("tier", data.to_owned());
    let put = Operation::Put(Box::new(envelope));
    bus.write(key(name), put, precondition, false).await.map(|stored| stored.seq)
}

fn shown(record: &Record) -> (Seq, Envelope) {
    (record.seq, Envelope::clone(&record.envelope))
}

#[tokio::test]
async fn what_the_log_let_go_is_as_it_was() {
    let bus = forgetful();
    let mut watch = bus
        .subscribe(Selector::state(Key::LOCAL, Key::VALUE), Start::Now, 1000, Overflow::Block)
        .expect("now");
    let mut told = BTreeMap::new();
    for n in 0..50 {
        // Some are changed again, and one is large.
        let data = if n == 7 { "x".repeat(200_000) } else { format!("data {n}") };
        put(&bus, &format!("k{}", n % 40), &data).await;
        let Some(Message::Batch(records)) = watch.next().await else { panic!("a record") };
        let record = &records[0];
        told.insert(record.envelope.change.key().expect("state").name.to_string(), shown(record));
    }
    assert_eq!(bus.figures().changes.records, 2);
    for (name, expected) in &told {
        assert_eq!(shown(&bus.get(&key(name)).expect("held")), *expected);
    }
    let page = bus.list(&Selector::state(Key::LOCAL, Key::VALUE), None, None, 100).expect("now");
    let listed: Vec<_> = page.items.iter().map(|record| shown(record)).collect();
    assert_eq!(listed, told.values().cloned().collect::<Vec<_>>());
    let names: Vec<String> =
        bus.snapshot().names(Key::LOCAL, Key::VALUE, None).map(ToString::to_string).collect();
    assert_eq!(names, told.keys().cloned().collect::<Vec<_>>());
    // Preconditions look at it, and what replaces it knows it.
    let (seq, before) = &told["k1"];
    assert!(matches!(put_if(&bus, "k1", "new", Precondition::Absent).await, Err(Refused::Conflict { .. })));
    put_if(&bus, "k1", "new", Precondition::Seq(*seq)).await.expect("that is its position");
    let record = bus.get(&key("k1")).expect("held");
    assert!(record.replaces);
    assert_eq!(record.previous.as_deref(), Some(before));
}

#[tokio::test]
async fn a_version_of_long_ago_takes_the_receipt_of_its_publication() {
    let bus = forgetful();
    let ingress = bus.ingress("east", "east");
    let object = |name: &str| {
        let key = Key::new("east", "core/v1/Pod", name.to_owned());
        Envelope::put(
            format!("k8s/east/{name}").parse().expect("valid"),
            key,
            "7",
            Bytes::from_static(b"{}"),
        )
    };
    let first = ingress.publish(vec![object("a")]).await;
    ingress.publish(vec![object("b"), object("c"), object("d")]).await;
    let again = ingress.publish(vec![object("a")]).await;
    assert_eq!(again[0].stored(), first[0].stored());
    assert_eq!(again[0].delivered().await, Outcome::Delivered);
}

#[tokio::test]
async fn a_watch_that_would_have_to_know_what_was_before_is_gone_and_others_go_on() {
    let bus = forgetful();
    let exact = || Arc::new(Dialect::Exact(BTreeMap::from([("tier".into(), "gold".into())])));
    let all = || Selector::state(Key::LOCAL, Key::VALUE);
    let start = put(&bus, "a", "gold").await;
    // It leaves the selector and changes again, and the log forgets both.
    for (name, tier) in [("a", "tin"), ("a", "lead"), ("b", "gold"), ("c", "gold"), ("d", "tin")] {
        put(&bus, name, tier).await;
    }
    let gone = bus.subscribe(all().and(exact()), Start::After(start), 10, Overflow::Block);
    assert!(gone.is_err(), "nobody could tell it that a left");
    let mut whole = bus.subscribe(all(), Start::After(start), 10, Overflow::Block).expect("held");
    let Some(Message::Batch(records)) = whole.next().await else { panic!("records") };
    let told: Vec<_> = records
        .iter()
        .map(|it| (it.envelope.change.key().unwrap().name.to_string(), it.replaces))
        .collect();
    let expected = [("a", true), ("b", false), ("c", false), ("d", false)];
    assert_eq!(told, expected.map(|(name, replaces)| (name.to_owned(), replaces)));
}

#[tokio::test]
async fn deletions_are_remembered_while_there_is_room_and_forgotten_before_a_key_is_refused() {
    let state = StateBound { max_bytes: 256 << 10, ..StateBound::default() };
    let changes = RingBound { max: 2, max_bytes: 64 << 20 };
    let bus = Bus::new(BusOptions { state, changes, ..BusOptions::default() });
    let start = put(&bus, "first", "1").await;
    let data = "x".repeat(4096);
    for n in 0..100 {
        let name = format!("k{n}");
        put(&bus, &name, &data).await;
        bus.write(key(&name), Operation::Delete, Precondition::Any, false).await.expect("deleted");
    }
    let snapshot = bus.snapshot();
    assert!(snapshot.changes_after(start).is_err(), "the oldest are forgotten");
    let after = Seq(bus.figures().seq.0 - 6);
    let remembered = snapshot.changes_after(after).expect("the newest are not").map(Held::record);
    let gone = remembered.filter(|record| matches!(record.envelope.change, Change::Delete(..)));
    assert_eq!(
        gone.filter(|record| record.envelope.data.len() == 4096).count(),
        3,
        "as it was when it went"
    );
    for n in 0..10 {
        put(&bus, &format!("new{n}"), &data).await;
    }
    assert!(bus.figures().state_bytes <= 256 << 10);
}

#[tokio::test]
async fn a_ring_counts_the_values_that_its_records_keep() {
    let changes = RingBound { max: 1000, max_bytes: 2 << 20 };
    let bus = Bus::new(BusOptions { changes, ..BusOptions::default() });
    let data = "x".repeat(10_000);
    for _ in 0..200 {
        put(&bus, "a", &data).await;
    }
    let figures = bus.figures().changes;
    // The value stands in an attribute as well.
    assert!(figures.bytes <= (2 << 20) + 50_000, "{figures:?}");
    assert!(figures.records <= 52, "each holds its value and the one before: {figures:?}");
    assert!(figures.records >= 40, "{figures:?}");
}

/// Deletions that the tables of the property below remember.
const REMEMBERED: usize = 3;

/// The position of each key's last change.
type Table = BTreeMap<String, Seq>;

/// One step: what is put, what is deleted, or a snapshot that somebody keeps.
#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    Keep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..6).prop_map(Step::Put),
        3 => (0u8..6).prop_map(Step::Delete),
        1 => Just(Step::Keep),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What was there at any position, with the changes after it, is what is there now; or it is gone, and that only
    /// where more has been deleted since than is remembered.
    #[test]
    fn a_position_leads_to_what_is_there_now_or_is_gone(steps in steps(), held in 1usize..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (kept, history) = runtime.block_on(carry_out(&steps, held));
        for now in kept {
            let until = history.iter().filter(|(seq, ..)| *seq <= now.seq());
            let mut deleted = 0;
            for (seq, table, deletes) in until.rev() {
                let Some(led_to) = gone_on(table, *seq, &now) else {
                    prop_assert!(deleted > REMEMBERED, "{seq} is gone at {}", now.seq());
                    continue;
                };
                prop_assert_eq!(led_to, shown_by(&now), "from {} to {}", seq, now.seq());
                deleted += usize::from(*deletes);
            }
        }
    }
}

/// The snapshots that were kept, the last one too; and each position with its table, and whether it is a deletion's.
async fn carry_out(steps: &[Step], held: usize) -> (Vec<Snapshot>, Vec<(Seq, Table, bool)>) {
    // What the log lets go is packed below the snapshots that are kept.
    let changes = RingBound { max: held, max_bytes: 64 << 20 };
    let state = StateBound { max_tombstones: REMEMBERED, ..StateBound::default() };
    let bus = Bus::new(BusOptions { changes, state, ..BusOptions::default() });
    let mut table = Table::new();
    let (mut kept, mut history) = (Vec::new(), vec![(bus.figures().seq, Table::new(), false)]);
    for step in steps {
        match step {
            Step::Put(name) => {
                let name = format!("k{name}");
                table.insert(name.clone(), put(&bus, &name, "data").await);
            }
            Step::Delete(name) => {
                let name = format!("k{name}");
                drop(bus.write(key(&name), Operation::Delete, Precondition::Any, false).await);
                table.remove(&name);
            }
            Step::Keep => kept.push(bus.snapshot()),
        }
        let (seq, deletes) = (bus.figures().seq, matches!(step, Step::Delete(_)));
        if history.last().is_none_or(|(last, ..)| *last < seq) {
            history.push((seq, table.clone(), deletes));
        }
    }
    kept.push(bus.snapshot());
    (kept, history)
}

/// A table of a position after the changes since; `None` where they are gone.
fn gone_on(table: &Table, at: Seq, now: &State) -> Option<Table> {
    let mut table = table.clone();
    for held in now.changes_after(at).ok()? {
        let record = held.record();
        let name = record.envelope.change.key().expect("state").name.to_string();
        match record.envelope.change {
            Change::Put(..) => drop(table.insert(name, record.seq)),
            _ => drop(table.remove(&name)),
        }
    }
    Some(table)
}

fn shown_by(state: &State) -> Table {
    let shown = state.range(None, None, None).map(Held::record);
    shown
        .map(|record| (record.envelope.change.key().expect("state").name.to_string(), record.seq))
        .collect()
}
