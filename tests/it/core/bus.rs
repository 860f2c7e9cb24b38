//! Publishing, subscribing, positions and back-pressure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshbus::core::consumer::Overflow;
use meshbus::core::selector::{Dialect, Selector, TopicFilter};
use meshbus::core::subscription::{Message, Start, Subscription};
use meshbus::core::{Bus, Change, Key, Outcome, Refused, Seq, Value};
use tokio::time::timeout;

use super::{event, small_bus, value};

fn everything(bus: &Bus, max: usize, overflow: Overflow) -> Subscription {
    bus.subscribe(Selector::default(), Start::Now, max, overflow).expect("now is never gone")
}

/// Reads until `n` records have come; panics on anything but batches.
async fn read(subscription: &mut Subscription, n: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < n {
        match timeout(Duration::from_secs(5), subscription.next()).await.expect("records come") {
            Some(Message::Batch(records)) => {
                ids.extend(records.iter().map(|record| record.envelope.id.to_string()));
            }
            other => panic!("expected a batch, got {other:?}"),
        }
    }
    ids
}

#[tokio::test]
async fn an_event_no_route_wants_is_delivered_once_logged() {
    let bus = small_bus(10);
    let receipts = bus.publish(vec![event("a", 1)]).await;
    assert!(receipts[0].stored().is_ok());
    assert_eq!(receipts[0].delivered().await, Outcome::Delivered);
}

#[tokio::test]
async fn sequences_rise_and_stay_below_two_to_the_53() {
    let bus = small_bus(10);
    let receipts = bus.publish((0..3).map(|n| event("a", n)).collect()).await;
    let seqs: Vec<Seq> = receipts.iter().map(|receipt| receipt.stored().expect("taken")).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b));
    assert!(seqs.iter().all(|seq| seq.0 < 1 << 53));
}

#[tokio::test]
async fn subscribers_get_what_matches_in_order() {
    let bus = small_bus(1000);
    let filter = TopicFilter::parse("a/+").expect("valid");
    let mut some = bus.subscribe(Selector::topic(filter), Start::Now, 100, Overflow::Block).expect("now");
    let mut all = everything(&bus, 100, Overflow::Block);
    let batch = (0..30).map(|n| event(if n % 3 == 0 { "a/x" } else { "b/x" }, n)).collect();
    bus.publish(batch).await;
    let wanted: Vec<String> = (0..30).filter(|n| n % 3 == 0).map(|n| n.to_string()).collect();
    assert_eq!(read(&mut some, 10).await, wanted);
    assert_eq!(read(&mut all, 30).await, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bad_envelope_of_a_batch_is_refused_alone() {
    let bus = small_bus(10);
    let mut bad = event("a", 2);
    bad.extensions.set("Bad_Name", "x");
    let reserved = event("k8s/x", 3);
    let receipts = bus.publish(vec![event("a", 1), bad, reserved, event("a", 4)]).await;
    assert!(receipts[0].stored().is_ok());
    assert!(matches!(receipts[1].stored(), Err(Refused::Invalid(_))));
    assert!(matches!(receipts[1].delivered().await, Outcome::Rejected(_)));
    assert!(matches!(receipts[2].stored(), Err(Refused::Forbidden(_))));
    assert!(receipts[3].stored().is_ok());
}

#[tokio::test]
async fn a_position_is_resumed_without_gap_or_repetition() {
    let bus = small_bus(1000);
    let first = bus.publish((0..600).map(|n| event("a", n)).collect()).await;
    let at = first[99].stored().expect("taken");
    let mut resumed =
        bus.subscribe(Selector::default(), Start::After(at), 10_000, Overflow::Block).expect("held");
    bus.publish((600..700).map(|n| event("a", n)).collect()).await;
    let ids = read(&mut resumed, 600).await;
    assert_eq!(ids, (100..700).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_position_that_was_let_go_is_gone() {
    let bus = small_bus(10);
    let receipts = bus.publish((0..20).map(|n| event("a", n)).collect()).await;
    let early = receipts[3].stored().expect("taken");
    assert!(bus.subscribe(Selector::default(), Start::After(early), 10, Overflow::Block).is_err());
    let before = Seq(receipts[0].stored().expect("taken").0 - 1000);
    assert!(bus.subscribe(Selector::default(), Start::After(before), 10, Overflow::Block).is_err());
}

/// Whoever waited for it would never be told what comes until it is reached.
#[tokio::test]
async fn a_position_that_is_not_reached_is_gone() {
    let bus = small_bus(10);
    let receipts = bus.publish(vec![value("x", "1"), event("a", 0)]).await;
    let last = receipts[1].stored().expect("taken");
    let topic = TopicFilter::parse("a").expect("valid");
    let state = || Selector::state(Key::LOCAL, Key::VALUE);
    let exact = || Arc::new(Dialect::Exact(BTreeMap::from([("tier".into(), "gold".into())])));
    for selector in [Selector::default(), Selector::topic(topic), state(), state().and(exact())] {
        let open = |seq: u64| bus.subscribe(selector.clone(), Start::After(Seq(seq)), 10, Overflow::Block);
        assert!(open(last.0).is_ok(), "the last one told is held");
        for ahead in [1, 1_000_000, u64::MAX - last.0] {
            let gone = open(last.0 + ahead).expect_err("none of this log");
            assert!(open(gone.oldest.0).is_ok(), "what it names can be resumed from");
        }
    }
}

#[tokio::test]
async fn a_flood_of_events_never_expires_a_watch_of_state() {
    let bus = small_bus(10);
    let put = bus.publish(vec![value("x", "1")]).await;
    let at = put[0].stored().expect("taken");
    bus.publish((0..100).map(|n| event("a", n)).collect()).await;
    bus.publish(vec![value("x", "2")]).await;
    let watch = Selector::state("local", "meshbus.dev/v1/Value");
    let mut watch = bus.subscribe(watch, Start::After(at), 10, Overflow::Block).expect("held");
    match watch.next().await {
        Some(Message::Batch(records)) => assert_eq!(&records[0].envelope.data[..], b"2"),
        other => panic!("expected the change, got {other:?}"),
    }
}

#[tokio::test]
async fn a_reader_too_slow_for_events_is_treated_by_its_policy() {
    let bus = small_bus(1000);
    let mut dropping = everything(&bus, 8, Overflow::DropOldest);
    let mut ending = everything(&bus, 8, Overflow::Disconnect);
    for n in 0..20 {
        bus.publish(vec![event("a", n)]).await;
    }
    assert!(matches!(dropping.next().await, Some(Message::Lost(12))));
    assert_eq!(read(&mut dropping, 8).await, (12..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(ending.next().await.is_none());
}

#[tokio::test]
async fn a_blocking_reader_makes_publishers_wait_and_loses_nothing() {
    let bus = small_bus(1000);
    let mut slow = everything(&bus, 8, Overflow::Block);
    let publisher = {
        let bus = bus.clone();
        tokio::spawn(async move {
            for n in 0..100 {
                bus.publish(vec![event("a", n)]).await;
            }
        })
    };
    assert_eq!(read(&mut slow, 100).await, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    publisher.await.expect("ends");
}

#[tokio::test]
async fn a_dropped_blocking_reader_blocks_no_more() {
    let bus = small_bus(1000);
    let slow = everything(&bus, 1, Overflow::Block);
    bus.publish(vec![event("a", 1), event("a", 2)]).await;
    let waiting = bus.publish(vec![event("a", 3)]);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "publishers wait");
    drop(slow);
    timeout(Duration::from_secs(5), waiting).await.expect("publishers go on");
}

#[tokio::test]
async fn a_reader_too_slow_for_state_reads_the_table_again() {
    let bus = small_bus(1000);
    let selector = Selector::state("local", "meshbus.dev/v1/Value");
    let mut slow = bus.subscribe(selector, Start::Now, 4, Overflow::Disconnect).expect("now");
    for n in 0..50 {
        bus.publish(vec![value(&format!("k{}", n % 5), &n.to_string())]).await;
    }
    assert!(matches!(slow.next().await, Some(Message::SnapshotBegin)));
    let Some(Message::Batch(records)) = slow.next().await else { panic!("expected the table") };
    let values: Vec<&[u8]> = records.iter().map(|record| &record.envelope.data[..]).collect();
    assert_eq!(values, [b"45", b"46", b"47", b"48", b"49"]);
    assert!(matches!(slow.next().await, Some(Message::SnapshotEnd(_))));
    bus.publish(vec![value("k0", "50")]).await;
    let Some(Message::Batch(records)) = slow.next().await else { panic!("expected the next change") };
    assert_eq!(&records[0].envelope.data[..], b"50");
}

#[tokio::test]
async fn what_has_been_on_this_bus_before_is_not_taken_again() {
    let bus = small_bus(10);
    let mut echo = event("a", 1);
    echo.extensions.set("mborigin", "test");
    let mut foreign = event("a", 2);
    foreign.extensions.set("mborigin", "other");
    foreign.extensions.set("mbhops", Value::Integer(3));
    let mut lost = event("a", 3);
    lost.extensions.set("mborigin", "other");
    lost.extensions.set("mbhops", Value::Integer(99));
    let mut all = everything(&bus, 10, Overflow::Block);
    let receipts = bus.publish(vec![echo, foreign, lost]).await;
    assert_eq!(receipts[0].delivered().await, Outcome::Filtered);
    assert_eq!(receipts[2].delivered().await, Outcome::Filtered);
    let Some(Message::Batch(records)) = all.next().await else { panic!("expected the foreign one") };
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].envelope.extensions.get("mbhops"), Some(&Value::Integer(4)));
    assert_eq!(records[0].envelope.extensions.get("mborigin"), Some(&Value::from("other")));
    assert_eq!(records[0].envelope.change, Change::Occurred);
}
