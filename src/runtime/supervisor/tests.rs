//! The supervisor against connectors that fail on cue, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::*;
use crate::core::delivery::{Answers, Assurance, Deliveries, Delivery, Guarantee, Mailbox, Outcome};
use crate::core::write::{Operation, Precondition, Writes};
use crate::core::{Bus, BusOptions, Envelope, Error, ErrorKind, Key, Refused, Seq};
use crate::runtime::shutdown::Shutdown;

/// What a fake connector does in one run.
#[derive(Clone, Copy, Debug)]
enum Act {
    Fail(ErrorKind),
    /// Ready for so long, then fails.
    ReadyThen(Duration, ErrorKind),
    Panic,
    Return,
    /// Ready until the drain.
    Serve,
    /// Ready, deaf to the drain.
    Stubborn,
}

/// Plays its acts in order, the last one for ever, and tells when each run began.
struct Fake {
    acts: Vec<Act>,
    runs: usize,
    began: mpsc::Sender<Instant>,
}

impl Connector for Fake {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let act = self.acts[self.runs.min(self.acts.len() - 1)];
            self.runs += 1;
            self.began.try_send(Instant::now()).unwrap();
            match act {
                Act::Fail(kind) => Err(Error::new(kind, "peer:1")),
                Act::ReadyThen(time, kind) => {
                    link.ready.up();
                    tokio::time::sleep(time).await;
                    Err(Error::new(kind, "peer:1").because("it went away"))
                }
                Act::Panic => panic!("on purpose"),
                Act::Return => Ok(()),
                Act::Serve => {
                    link.ready.up();
                    link.shutdown.drain().await;
                    Ok(())
                }
                Act::Stubborn => {
                    link.ready.up();
                    std::future::pending().await
                }
            }
        })
    }

    fn ingress(&self) -> Guarantee {
        Guarantee { assurance: Assurance::AtMostOnce, identity: false, because: "fake".into() }
    }
}

fn envelope() -> Envelope {
    Envelope::event("a/b".parse().unwrap(), "1", "/test", "test")
}

fn link(mailbox: &Arc<Mailbox>) -> Link {
    Link {
        name: "fake".into(),
        bus: Bus::new(BusOptions::default()).ingress("fake", "fake"),
        deliveries: Deliveries(Arc::clone(mailbox)),
        writes: Writes::none(),
        kinds: Arc::default(),
        ready: crate::transport::Ready::new(),
        shutdown: Shutdown::new(),
        stats: Arc::default(),
    }
}

fn start(
    supervisor: &Supervisor,
    name: &'static str,
    acts: &[Act],
) -> (mpsc::Receiver<Instant>, Arc<Mailbox>) {
    let (began, begins) = mpsc::channel(1000);
    let mailbox = Arc::new(Mailbox::default());
    supervisor.start(name, Box::new(Fake { acts: acts.to_vec(), runs: 0, began }), link(&mailbox));
    (begins, mailbox)
}

/// The waits between the first `n + 1` runs.
async fn waits(begins: &mut mpsc::Receiver<Instant>, n: usize) -> Vec<Duration> {
    let mut last = begins.recv().await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..n {
        let next = begins.recv().await.unwrap();
        waits.push(next - last);
        last = next;
    }
    waits
}

fn status(supervisor: &Supervisor, name: &str) -> ConnectorStatus {
    supervisor.status().into_iter().find(|status| status.name == name).unwrap()
}

async fn reach(supervisor: &Supervisor, name: &str, state: State) -> ConnectorStatus {
    for _ in 0..100_000 {
        let status = status(supervisor, name);
        if status.state == state {
            return status;
        }
        tokio::task::yield_now().await;
    }
    panic!("{name} never was {state:?}: {:?}", supervisor.status());
}

fn in_upper_half(wait: Duration, step: Duration) {
    // Timers have a granularity of one millisecond.
    assert!(wait >= step / 2 && wait <= step + Duration::from_millis(2), "{wait:?} is not within {step:?}");
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_and_is_capped() {
    let supervisor = Supervisor::new();
    let (mut begins, _) = start(&supervisor, "a", &[Act::Fail(ErrorKind::Unreachable)]);
    let mut step = Duration::from_millis(100);
    for wait in waits(&mut begins, 14).await {
        in_upper_half(wait, step);
        step = (step * 2).min(Duration::from_secs(30));
    }
    assert_eq!(step, Duration::from_secs(30));
    assert!(status(&supervisor, "a").restarts >= 14);
    assert_eq!(status(&supervisor, "a").last_error.unwrap(), "peer:1: unreachable");
}

#[tokio::test(start_paused = true)]
async fn back_off_starts_anew_after_a_lost_connection_and_after_ten_good_seconds() {
    let fail = Act::Fail(ErrorKind::Unreachable);
    for act in [
        Act::ReadyThen(Duration::from_secs(1), ErrorKind::Disconnected),
        Act::ReadyThen(Duration::from_secs(11), ErrorKind::Protocol),
    ] {
        let Act::ReadyThen(time, _) = act else { unreachable!() };
        let supervisor = Supervisor::new();
        let (mut begins, _) = start(&supervisor, "a", &[fail, fail, fail, act, fail]);
        let waits = waits(&mut begins, 5).await;
        in_upper_half(waits[2], Duration::from_millis(400));
        in_upper_half(waits[3].saturating_sub(time), Duration::from_millis(100));
        in_upper_half(waits[4], Duration::from_millis(200));
    }
}

#[tokio::test(start_paused = true)]
async fn back_off_goes_on_after_a_short_readiness_that_ended_in_a_protocol_error() {
    let supervisor = Supervisor::new();
    let act = Act::ReadyThen(Duration::from_secs(1), ErrorKind::Protocol);
    let (mut begins, _) = start(&supervisor, "a", &[act]);
    let waits = waits(&mut begins, 3).await;
    in_upper_half(waits[2].saturating_sub(Duration::from_secs(1)), Duration::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn a_busy_peer_is_called_again_when_it_said_but_within_five_minutes() {
    let supervisor = Supervisor::new();
    let acts = [
        Act::Fail(ErrorKind::Busy(Duration::from_secs(7))),
        Act::Fail(ErrorKind::Busy(Duration::from_hours(1))),
    ];
    let (mut begins, _) = start(&supervisor, "a", &acts);
    let waits = waits(&mut begins, 2).await;
    assert!(waits[0].abs_diff(Duration::from_secs(7)) < Duration::from_millis(5), "{waits:?}");
    assert!(waits[1].abs_diff(Duration::from_mins(5)) < Duration::from_millis(5), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn denied_is_not_tried_again_until_a_reload() {
    let supervisor = Supervisor::new();
    let (mut begins, _) = start(&supervisor, "a", &[Act::Fail(ErrorKind::Denied), Act::Serve]);
    begins.recv().await.unwrap();
    let denied = reach(&supervisor, "a", State::Denied).await;
    assert_eq!(denied.not_ready.as_deref(), Some("peer:1: denied"));
    assert!(
        tokio::time::timeout(Duration::from_hours(24), begins.recv()).await.is_err(),
        "was called again"
    );
    supervisor.retry_denied();
    begins.recv().await.unwrap();
    assert_eq!(reach(&supervisor, "a", State::Ready).await.not_ready, None);
    assert_eq!(status(&supervisor, "a").restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_restarts_only_the_one_that_panicked() {
    let supervisor = Supervisor::new();
    let (mut good_begins, _) = start(&supervisor, "good", &[Act::Serve]);
    let (mut bad_begins, _) = start(&supervisor, "bad", &[Act::Panic, Act::Panic, Act::Serve]);
    waits(&mut bad_begins, 2).await;
    reach(&supervisor, "bad", State::Ready).await;
    let bad = status(&supervisor, "bad");
    assert_eq!((bad.restarts, bad.last_error.as_deref()), (2, Some("panicked: on purpose")));
    let good = status(&supervisor, "good");
    assert_eq!((good.state, good.restarts), (State::Ready, 0));
    good_begins.recv().await.unwrap();
    assert!(good_begins.try_recv().is_err(), "the good one was called twice");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_unasked_is_called_again() {
    let supervisor = Supervisor::new();
    let (mut begins, _) = start(&supervisor, "a", &[Act::Return, Act::Serve]);
    in_upper_half(waits(&mut begins, 1).await[0], Duration::from_millis(100));
    reach(&supervisor, "a", State::Ready).await;
    assert_eq!(status(&supervisor, "a").last_error.as_deref(), Some("ended without being asked to"));
}

#[tokio::test(start_paused = true)]
async fn stop_drains_and_gives_the_link_back() {
    let supervisor = Supervisor::new();
    let (_begins, mailbox) = start(&supervisor, "a", &[Act::Serve]);
    reach(&supervisor, "a", State::Ready).await;
    let before = Instant::now();
    let link = supervisor.stop("a", Duration::from_secs(30)).await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(10));
    assert!(Arc::ptr_eq(&link.deliveries.0, &mailbox), "the mailbox survives");
    assert!(supervisor.status().is_empty());
    assert!(supervisor.stop("a", Duration::ZERO).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn stop_ends_at_the_grace_period_what_does_not_drain() {
    let supervisor = Supervisor::new();
    let (_one, _) = start(&supervisor, "one", &[Act::Stubborn]);
    let (_two, _) = start(&supervisor, "two", &[Act::Stubborn]);
    reach(&supervisor, "one", State::Ready).await;
    let before = Instant::now();
    supervisor.stop_all(Duration::from_secs(3)).await;
    let took = before.elapsed();
    assert!(took.abs_diff(Duration::from_secs(3)) < Duration::from_millis(10), "took {took:?}");
    assert!(supervisor.status().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_back_off_unless_deliveries_wait() {
    struct Count(AtomicUsize);
    impl Answers for Count {
        fn answer(&self, _: u64, _: Outcome) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let busy = Act::Fail(ErrorKind::Busy(Duration::from_mins(1)));
    for (waiting, expected) in [(false, Duration::ZERO), (true, Duration::from_secs(20))] {
        let supervisor = Supervisor::new();
        let (_begins, mailbox) = start(&supervisor, "a", &[busy]);
        reach(&supervisor, "a", State::Waiting).await;
        if waiting {
            let envelope = Arc::new(envelope());
            let answers = Arc::new(Count(AtomicUsize::new(0)));
            mailbox.send([Delivery::new(envelope, Seq(1), "r".into(), Arc::new(()), answers, 0)]);
        }
        let before = Instant::now();
        supervisor.stop("a", Duration::from_secs(20)).await;
        assert!(
            before.elapsed().abs_diff(expected) < Duration::from_millis(10),
            "{waiting}: {:?}",
            before.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_under_a_name_in_use_ends_the_one_before() {
    let supervisor = Supervisor::new();
    let (mut first, _) = start(&supervisor, "a", &[Act::Stubborn]);
    first.recv().await.unwrap();
    let (_second, _) = start(&supervisor, "a", &[Act::Serve]);
    assert!(first.recv().await.is_none(), "the first one still runs");
    reach(&supervisor, "a", State::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn writes_of_what_a_connector_owns_are_refused_at_once_while_it_is_down() {
    for (act, state) in [
        (Act::Fail(ErrorKind::Busy(Duration::from_secs(100))), State::Waiting),
        (Act::Fail(ErrorKind::Denied), State::Denied),
    ] {
        let (supervisor, mailbox) = (Supervisor::new(), Arc::new(Mailbox::default()));
        let mut link = link(&mailbox);
        let bus = Bus::clone(&link.bus);
        link.writes = bus.own("fake".into(), "fake".into(), true);
        let (began, _begins) = mpsc::channel(1000);
        supervisor.start("fake", Box::new(Fake { acts: vec![act], runs: 0, began }), link);
        reach(&supervisor, "fake", state).await;
        let started = Instant::now();
        let key = Key::new("fake", Key::VALUE, "a");
        let refused = bus.write(key, Operation::Delete, Precondition::Any, false).await.unwrap_err();
        let Refused::Owner { status: 503, message, .. } = &refused else { panic!("{refused}") };
        assert!(message.starts_with("the connector \"fake\" is not connected: peer:1: "), "{message}");
        assert_eq!(started.elapsed(), Duration::ZERO);
        supervisor.stop_all(Duration::ZERO).await;
    }
}
