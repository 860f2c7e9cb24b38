//! How routes and their workers end: removed, aborted, with their connector, by a panic.

use std::sync::Arc;
use std::time::Duration;

use meshbus::core::delivery::{Deliveries, Mailbox};
use meshbus::core::route::Router;
use meshbus::core::selector::{Predicate, PredicateError};
use meshbus::core::view::View;
use meshbus::core::{Envelope, Outcome};
use tokio::time::timeout;

use super::routes::{fates, route, sink, start, to};
use super::{event, small_bus};

#[tokio::test(start_paused = true)]
async fn a_removed_route_finishes_what_it_has_and_takes_nothing_more() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let worker = start(&router, route("r", "a", vec![to("s", &mailbox, false)]));
    let before = bus.publish((0..20).map(|n| event("a", n)).collect()).await;
    router.remove("r");
    let after = bus.publish(vec![event("a", 20)]).await;
    let taken = sink(&mailbox, |_| Outcome::Delivered);
    assert!(fates(&before).await.iter().all(|fate| *fate == Outcome::Delivered));
    fates(&after).await;
    timeout(Duration::from_secs(5), worker).await.expect("the worker ends").expect("without a panic");
    mailbox.close();
    assert_eq!(taken.await.expect("ends").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_route_removed_with_its_connector_holds_no_receipt() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let worker = start(&router, route("r", "a/#", vec![to("s", &mailbox, false)]));
    let mut deliveries = Deliveries(Arc::clone(&mailbox));
    // One the connector holds, one that waits in its mailbox, one that waits in the route for its key.
    let receipts = bus.publish(vec![event("a/x", 1), event("a/y", 2), event("a/y", 3)]).await;
    let mut held = Vec::new();
    assert_eq!(deliveries.recv(&mut held, 1).await, 1);
    router.remove("r");
    mailbox.close();
    drop(held);
    mailbox.abandon();
    let undelivered = |fate: &Outcome| matches!(fate, Outcome::Undelivered(_));
    assert!(fates(&receipts).await.iter().all(undelivered), "the sources keep them or send them again");
    timeout(Duration::from_secs(1), worker).await.expect("the worker ends").expect("in peace");
}

#[tokio::test(start_paused = true)]
async fn a_route_removed_with_its_connector_answers_what_had_no_room_too() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let mut spec = route("r", "a/#", vec![to("s", &mailbox, false)]);
    spec.in_flight = 1;
    let worker = start(&router, spec);
    let receipts = bus.publish((0..14).map(|n| event("a/x", n)).collect()).await;
    let mut held = Vec::new();
    assert_eq!(Deliveries(Arc::clone(&mailbox)).recv(&mut held, 1).await, 1);
    router.remove("r");
    mailbox.close();
    drop(held);
    assert!(fates(&receipts).await.iter().all(|fate| matches!(fate, Outcome::Undelivered(_))));
    timeout(Duration::from_secs(1), worker).await.expect("the worker ends").expect("in peace");
    assert!(router.is_idle());
}

#[tokio::test(start_paused = true)]
async fn an_aborted_worker_leaves_no_receipt_unanswered() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let worker = start(&router, route("r", "a", vec![to("s", &mailbox, false)]));
    let receipts = bus.publish((0..80).map(|n| event("a", n)).collect()).await;
    tokio::task::yield_now().await;
    router.remove("r");
    worker.abort();
    assert!(worker.await.is_err());
    assert!(fates(&receipts).await.iter().all(|fate| matches!(fate, Outcome::Undelivered(_))));
}

/// Panics at the event that its text says.
#[derive(Debug)]
struct Panics(&'static str);

impl Predicate for Panics {
    fn matches(&self, event: &View<'_>) -> Result<bool, PredicateError> {
        assert!(*event.envelope().id != *self.0, "on purpose");
        Ok(true)
    }

    fn refusal(&self, _: &Envelope) -> Option<String> {
        None
    }

    fn text(&self) -> String {
        String::new()
    }
}

#[tokio::test(start_paused = true)]
async fn routes_whose_worker_panics_go_on_at_another() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let _sink = sink(&mailbox, |_| Outcome::Delivered);
    let mut spec = route("r", "a/#", vec![to("s", &mailbox, false)]);
    spec.predicates.push(Arc::new(Panics("2")));
    let worker = start(&router, spec);
    let receipts = bus.publish(vec![event("a", 1), event("a", 2), event("a", 3)]).await;
    assert!(worker.await.is_err());
    let undelivered = |fate: &Outcome| matches!(fate, Outcome::Undelivered(_));
    assert!(fates(&receipts).await.iter().skip(1).all(undelivered));
    let between = bus.publish(vec![event("a", 4)]).await;
    assert!(fates(&between).await.iter().all(undelivered), "nothing is acknowledged while it stands still");
    for worker in router.restore() {
        drop(tokio::spawn(worker.run()));
    }
    assert!(router.restore().is_empty());
    let receipts = bus.publish(vec![event("a", 5)]).await;
    assert_eq!(fates(&receipts).await, [Outcome::Delivered]);
}
