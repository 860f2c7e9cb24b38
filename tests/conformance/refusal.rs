//! What is refused: what has been here before, what is too large, what cannot be read. The link lives on.

use std::time::Duration;

use bytes::Bytes;
use meshbus::core::Outcome;

use super::probe::Answering;
use super::world::{LIMIT, event, fate, until};
use super::{Bench, Verdict};

/// A bus whose way out leads to its own way in takes each event once.
pub(super) async fn does_not_loop(bench: &Bench<'_>) -> Verdict {
    let (_wire, node) = bench.open_loop().await;
    let bus = node.app.bus();
    let before = bus.figures().seq;
    let receipts = bus.publish((0..10).map(|at| event(&format!("n{at}"))).collect()).await;
    until("ten events come back and are recognised", LIMIT, async || bus.figures().looped >= 10).await;
    for receipt in &receipts {
        assert_eq!(fate(receipt).await, Outcome::Delivered);
    }
    let figures = bus.figures();
    assert_eq!(figures.looped, 10, "came back more than once");
    assert_eq!(figures.seq.0 - before.0, 10, "were taken in again");
    assert!(node.app.drain(Duration::from_secs(5)).await, "did not drain within 5 s");
    Verdict::Holds
}

pub(super) async fn refuses_oversize_by_name(bench: &Bench<'_>) -> Verdict {
    let world = bench.open(Answering::Take).await;
    world.is_alive("before").await;
    let (size, limit) = world.wire.oversize;
    let mut large = event("large");
    large.data = Bytes::from(vec![b'x'; size]);
    let receipts = world.publish([large]).await;
    match fate(&receipts[0]).await {
        Outcome::Rejected(reason) => {
            assert!(reason.contains(limit), "the refusal does not name {limit}: {reason}");
        }
        other => panic!("{size} bytes were not refused: {other:?}"),
    }
    world.is_alive("after").await;
    assert!(!world.probe.arrived().iter().any(|event| *event.id == *"large"), "it arrived nevertheless");
    world.close().await;
    Verdict::Holds
}

/// Counted or dead-lettered, and the next one arrives.
pub(super) async fn survives_malformed(bench: &Bench<'_>) -> Verdict {
    let world = bench.open(Answering::Take).await;
    world.is_alive("before").await;
    (world.wire.send_malformed)().await;
    until("the malformed message is counted", LIMIT, async || {
        world.receiver.metric("meshbus_connector_malformed_total", "in").await >= 1
    })
    .await;
    world.is_alive("after").await;
    let arrived = world.probe.arrived().len();
    assert_eq!(arrived, 2, "something else arrived as well");
    world.close().await;
    Verdict::Holds
}
