//! The link: it opens and closes in time, and what is sent while it is broken arrives when it is whole.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::probe::Answering;
use super::world::{LIMIT, event, fate};
use super::{Bench, Verdict};
use meshbus::core::Outcome;

/// Both ends are ready in time (else `open` fails), an event passes, and both drain in time, also with the
/// link broken and nothing to send.
pub(super) async fn opens_and_closes(bench: &Bench<'_>) -> Verdict {
    let world = bench.open(Answering::Take).await;
    world.is_alive("first").await;
    let begun = Instant::now();
    world.close().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "closing both took {:?}", begun.elapsed());

    let world = bench.open(Answering::Take).await;
    world.wire.relay.cut();
    world.close().await;
    Verdict::Holds
}

pub(super) async fn reconnects_without_loss(bench: &Bench<'_>) -> Verdict {
    let world = bench.open(Answering::Take).await;
    world.is_alive("before").await;
    let connections = world.wire.relay.passed();
    let mut receipts = Vec::new();
    for at in 0..300 {
        match at {
            60 | 200 => world.wire.relay.cut(),
            120 | 260 => {
                // Long enough for both ends to notice and to try in vain.
                sleep(Duration::from_millis(150)).await;
                world.wire.relay.heal();
            }
            _ => {}
        }
        receipts.extend(world.publish([event(&format!("n{at}"))]).await);
        // A cut is to fall between events under way.
        tokio::task::yield_now().await;
    }
    world
        .probe
        .until("300 events arrive", LIMIT * 2, |arrived, _| {
            let ids: BTreeSet<_> = arrived.iter().map(|event| event.id.clone()).collect();
            (0..300).all(|at| ids.contains(&*format!("n{at}")))
        })
        .await;
    assert!(world.wire.relay.passed() > connections, "the cuts broke nothing");
    for receipt in &receipts {
        assert_eq!(fate(receipt).await, Outcome::Delivered, "{receipt:?}");
    }
    world.close().await;
    Verdict::Holds
}
