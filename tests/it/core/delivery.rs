//! Deliveries and mailboxes: one answer each, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use meshbus::core::delivery::{Answers, Deliveries, Delivery, Mailbox};
use meshbus::core::{Outcome, Seq};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::event;

/// Notes every answer it gets.
#[derive(Default)]
struct Ledger(Mutex<Vec<(u64, Outcome)>>);

impl Answers for Ledger {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        self.0.lock().push((ticket, outcome));
    }
}

fn delivery(ledger: &Arc<Ledger>, ticket: u64) -> Delivery {
    let envelope = Arc::new(event("a", 1));
    let answers = Arc::clone(ledger) as Arc<dyn Answers>;
    Delivery::new(envelope, Seq(1), "r".into(), Arc::new(7_u32), answers, ticket)
}

fn undelivered(ledger: &Ledger) -> Vec<u64> {
    let answers = ledger.0.lock();
    answers
        .iter()
        .map(|(ticket, outcome)| {
            assert!(matches!(outcome, Outcome::Undelivered(_)));
            *ticket
        })
        .collect()
}

#[test]
fn each_delivery_is_answered_once_also_when_it_is_dropped() {
    let ledger = Arc::new(Ledger::default());
    delivery(&ledger, 1).answer(Outcome::Delivered);
    assert_eq!(*ledger.0.lock(), [(1, Outcome::Delivered)]);
    ledger.0.lock().clear();
    drop(delivery(&ledger, 2));
    assert_eq!(undelivered(&ledger), [2]);
}

#[test]
fn a_target_s_settings_are_read_as_their_own_type_only() {
    let delivery = delivery(&Arc::default(), 1);
    assert_eq!(delivery.options::<u32>(), Some(&7));
    assert_eq!(delivery.options::<u64>(), None);
}

#[tokio::test]
async fn a_closed_mailbox_gives_what_waits_and_then_ends() {
    let (ledger, mailbox) = (Arc::new(Ledger::default()), Arc::new(Mailbox::default()));
    mailbox.send((0..5).map(|n| delivery(&ledger, n)));
    mailbox.close();
    mailbox.send([delivery(&ledger, 9)]);
    assert_eq!(undelivered(&ledger), [9], "nothing is taken after the end");
    let (mut deliveries, mut taken) = (Deliveries(mailbox), Vec::new());
    assert_eq!(deliveries.recv(&mut taken, 3).await, 3);
    assert_eq!(deliveries.recv(&mut taken, 3).await, 2);
    assert_eq!(deliveries.recv(&mut taken, 3).await, 0);
}

#[tokio::test]
async fn a_paused_mailbox_keeps_what_waits_for_the_next_reader() {
    let (ledger, mailbox) = (Arc::new(Ledger::default()), Arc::new(Mailbox::default()));
    let (mut deliveries, mut taken) = (Deliveries(Arc::clone(&mailbox)), Vec::new());
    mailbox.send([delivery(&ledger, 1)]);
    mailbox.pause();
    mailbox.send([delivery(&ledger, 2)]);
    assert_eq!(deliveries.recv(&mut taken, 8).await, 0);
    assert!(undelivered(&ledger).is_empty());
    mailbox.resume();
    let read = timeout(Duration::from_secs(5), deliveries.recv(&mut taken, 8)).await;
    assert_eq!(read.expect("what waited comes"), 2);
}
