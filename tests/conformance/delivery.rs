//! Delivery: acknowledged when it is done, repeated when it was not, in order of key, within bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use meshbus::core::{Delivery, Outcome};
use tokio::time::sleep;

use super::probe::Answering;
use super::world::{LIMIT, event, fate, keyed, until};
use super::{Bench, Verdict};

const AT_MOST_ONCE: Verdict = Verdict::Excused("at most once: nothing is acknowledged");

/// While the receiver's sink keeps an event, nobody upstream may count it as done: a receiver that ends then
/// gets it again. Once delivered it does not come again.
pub(super) async fn acknowledges_only_after_delivery(bench: &Bench<'_>) -> Verdict {
    let traits = bench.subject.traits();
    if !traits.redelivers {
        return AT_MOST_ONCE;
    }
    let mut world = bench.open(Answering::Hold).await;
    let receipts = world.publish([event("late")]).await;
    world.probe.until("the sink holds the event", LIMIT, |_, held| held == 1).await;
    if traits.end_to_end {
        // Time for an acknowledgement that comes too early to be seen.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(receipts[0].try_delivered(), None, "acknowledged before the receiver's sink had it");
    }
    world.replace_receiver(Answering::Take).await;
    world.probe.until("the event comes again", LIMIT, |arrived, _| !arrived.is_empty()).await;
    assert_eq!(fate(&receipts[0]).await, Outcome::Delivered);
    // Time for the acknowledgement to reach the peer.
    world.is_alive("in-between").await;
    sleep(Duration::from_millis(200)).await;

    world.replace_receiver(Answering::Take).await;
    world.is_alive("marker").await;
    let again = world.probe.arrived().iter().filter(|event| *event.id == *"late").count();
    assert_eq!(again, 0, "delivered and not acknowledged: it came again to the next receiver");
    world.close().await;
    Verdict::Holds
}

/// A link that breaks while events are under way loses none of them.
pub(super) async fn redelivers_what_was_not_acknowledged(bench: &Bench<'_>) -> Verdict {
    if !bench.subject.traits().redelivers {
        return AT_MOST_ONCE;
    }
    let mut world = bench.open(Answering::Hold).await;
    let receipts = world.publish((0..20).map(|at| keyed(&format!("n{at}"), &format!("k{at}")))).await;
    world.probe.until("the sink holds the events", LIMIT, |_, held| held == 20).await;
    world.wire.relay.cut();
    sleep(Duration::from_millis(100)).await;
    // What the receiver held is gone with it: it must come again, from the peer or the sender.
    world.replace_receiver_behind_a_cut(Answering::Take).await;
    world
        .probe
        .until("every event comes again", LIMIT * 2, |arrived, _| {
            (0..20).all(|at| arrived.iter().any(|event| *event.id == *format!("n{at}")))
        })
        .await;
    for receipt in &receipts {
        assert_eq!(fate(receipt).await, Outcome::Delivered);
    }
    world.close().await;
    Verdict::Holds
}

/// 500 events of 10 keys; every seventh is refused or not taken at first.
pub(super) async fn keeps_order_per_key(bench: &Bench<'_>) -> Verdict {
    let world = bench.open(Answering::Judge(fails_at_first)).await;
    let id = |at: usize| format!("{at:03}");
    world.publish((0..500).map(|at| keyed(&id(at), &format!("k{}", at % 10)))).await;
    world
        .probe
        .until("500 events arrive", LIMIT * 2, |arrived, _| {
            arrived.len() >= 500 && (0..500).all(|at| arrived.iter().any(|event| *event.id == *id(at)))
        })
        .await;
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for envelope in world.probe.arrived() {
        // A repetition is allowed; the first of each must be in order.
        if !seen.insert(envelope.id.clone()) {
            continue;
        }
        let key = envelope.attribute("partitionkey").expect("its key").to_string();
        if let Some(before) = last.insert(key.clone(), envelope.id.to_string()) {
            assert!(*before < *envelope.id, "{key}: {} came after {before}", envelope.id);
        }
    }
    world.close().await;
    Verdict::Holds
}

fn fails_at_first(delivery: &Delivery) -> Outcome {
    match delivery.envelope.id.parse::<usize>().map_or(0, |at| at % 7) {
        3 if delivery.attempt == 1 => Outcome::Rejected("not at first".into()),
        5 if delivery.attempt <= 2 => Outcome::Undelivered("away at first".into()),
        _ => Outcome::Delivered,
    }
}

/// A receiver that is stuck keeps no more than its bounds, and has everything when it is free again.
pub(super) async fn back_pressure_bounds_memory(bench: &Bench<'_>) -> Verdict {
    const EVENTS: usize = 1500;
    const DATA: usize = 4096;
    const LOG_BYTES: usize = 1 << 20;
    let world = bench.open_bounded(Answering::Hold, LOG_BYTES).await;
    let bus = world.sender.app.bus().clone();
    let publishing = tokio::spawn(async move {
        for at in 0..EVENTS {
            let mut envelope = keyed(&format!("n{at}"), &format!("k{}", at % 200));
            envelope.data = Bytes::from(vec![b'x'; DATA]);
            bus.publish(vec![envelope]).await;
        }
    });
    let seqs = || [&world.sender, &world.receiver].map(|node| node.app.bus().figures().seq);
    let mut before = seqs();
    until("both ends stand still", LIMIT, async || {
        sleep(Duration::from_millis(500)).await;
        let now = seqs();
        std::mem::replace(&mut before, now) == now && world.probe.held() > 0
    })
    .await;
    for (end, node) in [("sender", &world.sender), ("receiver", &world.receiver)] {
        let held = node.app.bus().figures().events.bytes;
        assert!(held <= LOG_BYTES, "the {end} holds {held} bytes, more than {LOG_BYTES}");
    }
    if bench.subject.traits().end_to_end {
        assert!(
            !publishing.is_finished(),
            "the sender was not held up: {} bytes are somewhere",
            EVENTS * DATA
        );
    }
    world.probe.release();
    world
        .probe
        .until("every event arrives", LIMIT * 2, |arrived, _| {
            let ids: std::collections::BTreeSet<_> = arrived.iter().map(|event| event.id.clone()).collect();
            ids.len() == EVENTS
        })
        .await;
    publishing.await.expect("the publisher");
    world.close().await;
    Verdict::Holds
}
