//! Routes: order per key, retries, dead letters, back-pressure, loops, reload and receipts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use meshbus::core::cesql::Expression;
use meshbus::core::consumer::{Overflow, Source};
use meshbus::core::delivery::{Assurance, Deliveries, Delivery, Guarantee, Mailbox, Target};
use meshbus::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use meshbus::core::selector::{Selector, TopicFilter};
use meshbus::core::subscription::{Message, Start};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, Outcome, Receipt, Value};
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{event, small_bus};

pub(super) fn target(pipelined: bool) -> Target {
    let guarantee =
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: "a test".into() };
    Target { address: None, pipelined, guarantee, options: Arc::new(()) }
}

pub(super) fn to(name: &'static str, mailbox: &Arc<Mailbox>, pipelined: bool) -> To {
    let sink =
        Sink::Connector { name: name.into(), mailbox: Arc::clone(mailbox), target: target(pipelined) };
    To { output: None, sink }
}

pub(super) fn topic_sink(template: &str) -> Sink {
    Sink::Bus { topic: Template::parse(template, Spelling::Topic).expect("valid") }
}

pub(super) fn route(name: &'static str, topic: &str, to: Vec<To>) -> RouteSpec {
    RouteSpec {
        name: name.into(),
        from: vec![Source { connector: None, topic: Some(TopicFilter::parse(topic).expect("valid")) }],
        predicates: Vec::new(),
        filters: Vec::new(),
        to,
        retry: Retry {
            max_attempts: 3,
            initial: Duration::from_millis(10),
            max: Duration::from_millis(40),
        },
        dead_letter: topic_sink("dead/{route}"),
        when_full: WhenFull::Block,
        in_flight: 16,
    }
}

/// Starts a route, and the worker that comes with it, if one does.
pub(super) fn start(router: &Router, spec: RouteSpec) -> JoinHandle<()> {
    let worker = router.set(spec);
    tokio::spawn(async move {
        if let Some(worker) = worker {
            worker.run().await;
        }
    })
}

/// A sink that answers each delivery as `decide` says and notes the ids it took.
pub(super) fn sink(
    mailbox: &Arc<Mailbox>,
    mut decide: impl FnMut(&Delivery) -> Outcome + Send + 'static,
) -> JoinHandle<Vec<String>> {
    let mut deliveries = Deliveries(Arc::clone(mailbox));
    tokio::spawn(async move {
        let (mut taken, mut batch) = (Vec::new(), Vec::new());
        while deliveries.recv(&mut batch, 8).await > 0 {
            for delivery in batch.drain(..) {
                let outcome = decide(&delivery);
                if outcome == Outcome::Delivered {
                    taken.push(delivery.envelope.id.to_string());
                }
                delivery.answer(outcome);
            }
        }
        taken
    })
}

pub(super) async fn fates(receipts: &[Receipt]) -> Vec<Outcome> {
    let mut fates = Vec::new();
    for receipt in receipts {
        fates.push(timeout(Duration::from_mins(1), receipt.delivered()).await.expect("answered"));
    }
    fates
}

pub(super) fn rejected() -> Outcome {
    Outcome::Rejected("no".into())
}

#[tokio::test(start_paused = true)]
async fn an_expression_selects_and_its_errors_are_counted_apart() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let mut spec = route("r", "a/#", vec![to("out", &mailbox, false)]);
    spec.predicates.push(Arc::new(Expression::filter("n < 3 AND mbtopic != 'a/x'").expect("valid")));
    start(&router, spec);
    let taken = sink(&mailbox, |_| Outcome::Delivered);
    let mut events = vec![event("a/b", 1), event("a/b", 2), event("a/x", 3), event("a/b", 4)];
    for (event, n) in events.iter_mut().zip([1, 5, 1]) {
        event.extensions.set("n", n);
    }
    let receipts = bus.publish(events).await;
    let wanted = [Outcome::Delivered, Outcome::Filtered, Outcome::Filtered, Outcome::Filtered];
    assert_eq!(fates(&receipts).await, wanted);
    let routes = router.routes();
    let stats = &routes[0].2;
    assert_eq!((stats.delivered.get(), stats.filtered.get(), stats.errored.get()), (1, 2, 1));
    mailbox.close();
    assert_eq!(taken.await.expect("ends"), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_waits_for_every_route_and_tells_the_gravest_answer() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let (good, bad) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    start(&router, route("good", "a/#", vec![to("good", &good, false)]));
    start(&router, route("bad", "a/x", vec![to("bad", &bad, false)]));
    let (good_sink, _bad_sink) = (sink(&good, |_| Outcome::Delivered), sink(&bad, |_| rejected()));
    let receipts = bus.publish(vec![event("a/x", 1), event("a/y", 2), event("b", 3)]).await;
    let fates = fates(&receipts).await;
    assert_eq!(fates, [rejected(), Outcome::Delivered, Outcome::Delivered]);
    good.close();
    assert_eq!(good_sink.await.expect("ends"), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_dropped_unanswered_is_undelivered_and_comes_again() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "a", vec![to("s", &mailbox, false)]));
    let mut deliveries = Deliveries(Arc::clone(&mailbox));
    let receipts = bus.publish(vec![event("a", 1)]).await;
    let mut batch = Vec::new();
    for attempt in 1..=10 {
        assert_eq!(deliveries.recv(&mut batch, 8).await, 1);
        assert_eq!(batch[0].attempt, attempt, "being away never leads to the dead letter");
        batch.clear();
        assert_eq!(receipts[0].try_delivered(), None);
    }
    deliveries.recv(&mut batch, 8).await;
    batch.pop().expect("one").answer(Outcome::Delivered);
    assert_eq!(fates(&receipts).await, [Outcome::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_too_often_goes_to_the_dead_letter_with_its_reasons() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "a", vec![to("s", &mailbox, false)]));
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let _sink = sink(&mailbox, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Outcome::Rejected("line one\nline two".into())
    });
    let dead = Selector::topic(TopicFilter::parse("dead/r").expect("valid"));
    let mut dead = bus.subscribe(dead, Start::Now, 10, Overflow::Block).expect("now");
    let receipts = bus.publish(vec![event("a", 1)]).await;
    assert!(
        matches!(&fates(&receipts).await[0], Outcome::Rejected(reason) if reason.starts_with("line one"))
    );
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    let Some(Message::Batch(records)) = dead.next().await else { panic!("the dead letter") };
    let envelope = &records[0].envelope;
    assert_eq!(envelope.attribute("mbroute").as_deref(), Some("r"));
    assert_eq!(envelope.attribute("mbreason").as_deref(), Some("line one line two"));
    assert_eq!(envelope.extensions.get("mbattempts"), Some(&Value::Integer(3)));
    assert_eq!(&envelope.data[..], b"1");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_fails_stops_the_acknowledgement() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let (mailbox, dead) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    let mut spec = route("r", "a", vec![to("s", &mailbox, false)]);
    spec.dead_letter = to("d", &dead, false).sink;
    start(&router, spec);
    let _sink = sink(&mailbox, |_| rejected());
    let mut deliveries = Deliveries(Arc::clone(&dead));
    let receipts = bus.publish(vec![event("a", 1)]).await;
    let mut batch = Vec::new();
    for _ in 0..20 {
        deliveries.recv(&mut batch, 1).await;
        batch.pop().expect("one").answer(rejected());
        assert_eq!(receipts[0].try_delivered(), None);
    }
    deliveries.recv(&mut batch, 1).await;
    batch.pop().expect("one").answer(Outcome::Delivered);
    assert!(matches!(fates(&receipts).await[0], Outcome::Rejected(_)));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_waits_and_other_keys_go_on() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "a/#", vec![to("s", &mailbox, false)]));
    let away = Arc::new(AtomicUsize::new(5));
    let left = Arc::clone(&away);
    let taken = sink(&mailbox, move |delivery| {
        let stuck = delivery.envelope.topic.as_str() == "a/stuck" && left.load(Ordering::Relaxed) > 0;
        if stuck {
            left.fetch_sub(1, Ordering::Relaxed);
            return Outcome::Undelivered("away".into());
        }
        Outcome::Delivered
    });
    let batch = (0..8).map(|n| event(if n % 2 == 0 { "a/stuck" } else { "a/free" }, n)).collect();
    let receipts = bus.publish(batch).await;
    assert!(fates(&receipts).await.iter().all(|fate| *fate == Outcome::Delivered));
    mailbox.close();
    assert_eq!(taken.await.expect("ends"), ["1", "3", "5", "7", "0", "2", "4", "6"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_makes_publishers_wait_for_a_blocking_route() {
    let bus = small_bus(8);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "a", vec![to("s", &mailbox, true)]));
    let first = bus.publish((0..8).map(|n| event("a", n)).collect()).await;
    let more = bus.publish(vec![event("a", 8)]);
    tokio::pin!(more);
    assert!(timeout(Duration::from_secs(5), &mut more).await.is_err(), "the log is full");
    let taken = sink(&mailbox, |_| Outcome::Delivered);
    let receipts = timeout(Duration::from_secs(5), more).await.expect("there is room again");
    fates(&first).await;
    fates(&receipts).await;
    mailbox.close();
    assert_eq!(taken.await.expect("ends").len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_dropping_route_lets_the_oldest_go_and_counts_it() {
    let bus = small_bus(8);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let mut spec = route("r", "a", vec![to("s", &mailbox, true)]);
    spec.when_full = WhenFull::DropOldest;
    spec.in_flight = 1;
    start(&router, spec);
    let mut receipts = Vec::new();
    for n in 0..40 {
        receipts.extend(bus.publish(vec![event("a", n)]).await);
        tokio::task::yield_now().await;
    }
    let taken = sink(&mailbox, |_| Outcome::Delivered);
    let fates = fates(&receipts).await;
    let dropped = fates.iter().filter(|fate| matches!(fate, Outcome::Rejected(_))).count();
    let (_, _, stats) = router.routes().pop().expect("one route");
    assert!(dropped > 0);
    assert_eq!(stats.dropped.get(), dropped as u64);
    mailbox.close();
    assert_eq!(taken.await.expect("ends").len() + dropped, 40, "each delivered or counted as dropped");
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_delays_no_other_route() {
    let bus = small_bus(1000);
    let router = Router::new(bus.clone());
    let (slow, fast) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    start(&router, route("slow", "a", vec![to("slow", &slow, false)]));
    start(&router, route("fast", "a", vec![to("fast", &fast, false)]));
    let taken = sink(&fast, |_| Outcome::Delivered);
    bus.publish((0..500).map(|n| event("a", n)).collect()).await;
    let (_, _, stats) = router.routes().into_iter().next().expect("fast comes first");
    timeout(Duration::from_secs(5), async {
        while stats.delivered.get() < 500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the fast route delivers all");
    fast.close();
    assert_eq!(taken.await.expect("ends").len(), 500);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_back_to_the_connector_it_came_in_by() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let (here, there) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    start(&router, route("r", "a", vec![to("here", &here, false), to("there", &there, false)]));
    let taken = sink(&there, |_| Outcome::Delivered);
    let receipts = bus.ingress("here", "here").publish(vec![event("a", 1)]).await;
    assert_eq!(fates(&receipts).await, [Outcome::Delivered]);
    assert!(here.is_empty());
    there.close();
    assert_eq!(taken.await.expect("ends"), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn routes_that_feed_each_other_end_and_each_takes_an_event_once() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let echo = |name, from: &str, topic: &str| {
        route(name, from, vec![To { output: None, sink: topic_sink(topic) }])
    };
    start(&router, echo("ping", "a/#", "a/pong"));
    start(&router, echo("pong", "a/pong", "a/ping"));
    let mut all = bus.subscribe(Selector::default(), Start::Now, 100, Overflow::Block).expect("now");
    let receipts = bus.publish(vec![event("a/x", 1)]).await;
    fates(&receipts).await;
    bus.publish(vec![event("end", 2)]).await;
    let mut topics = Vec::new();
    while topics.last().map(String::as_str) != Some("end") {
        let Some(Message::Batch(records)) = all.next().await else { panic!("records") };
        topics.extend(records.iter().map(|record| record.envelope.topic.to_string()));
    }
    assert_eq!(topics, ["a/x", "a/pong", "a/ping", "end"]);
}

#[tokio::test(start_paused = true)]
async fn the_receipt_of_an_input_waits_for_what_its_bus_output_reaches() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let first = route("first", "a", vec![To { output: None, sink: topic_sink("b/{type}") }]);
    start(&router, first);
    start(&router, route("second", "b/#", vec![to("s", &mailbox, false)]));
    let receipts = bus.publish(vec![event("a", 1)]).await;
    assert!(timeout(Duration::from_secs(1), receipts[0].delivered()).await.is_err());
    let _sink = sink(&mailbox, |_| Outcome::Delivered);
    assert_eq!(fates(&receipts).await, [Outcome::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn a_dropping_route_whose_sink_is_away_holds_no_more_than_the_log_and_its_limit() {
    let bus = small_bus(100);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    let mut spec = route("r", "a/#", vec![to("s", &mailbox, false)]);
    (spec.when_full, spec.in_flight) = (WhenFull::DropOldest, 1);
    start(&router, spec);
    let mut receipts = Vec::new();
    for n in 0..5000 {
        receipts.extend(bus.publish(vec![event("a/x", n)]).await);
        tokio::task::yield_now().await;
    }
    let waiting = receipts.iter().filter(|receipt| receipt.try_delivered().is_none()).count();
    assert!(waiting < 2 * 1024 + 100, "{waiting} wait");
    let (_, _, stats) = router.routes().pop().expect("one route");
    assert_eq!(stats.dropped.get() as usize, 5000 - waiting);
}

#[tokio::test]
async fn a_thousand_changes_of_a_route_under_load_lose_and_repeat_nothing() {
    let bus = small_bus(100_000);
    let router = Arc::new(Router::new(bus.clone()));
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "a/#", vec![to("s", &mailbox, false)]));
    let taken = sink(&mailbox, |_| Outcome::Delivered);
    let publisher = {
        let bus = bus.clone();
        tokio::spawn(async move {
            let mut receipts = Vec::new();
            for n in 0..5000 {
                receipts.extend(bus.publish(vec![event(&format!("a/{}", n % 7), n)]).await);
                tokio::task::yield_now().await;
            }
            receipts
        })
    };
    for n in 0..1000 {
        let mut spec = route("r", if n % 2 == 0 { "a/+" } else { "a/#" }, vec![to("s", &mailbox, false)]);
        spec.in_flight = 1 + n % 32;
        assert!(router.set(spec).is_none());
        tokio::task::yield_now().await;
    }
    let receipts = publisher.await.expect("publishes");
    assert!(fates(&receipts).await.iter().all(|fate| *fate == Outcome::Delivered));
    mailbox.close();
    let taken = taken.await.expect("ends");
    let mut ids: Vec<usize> = taken.iter().map(|id| id.parse().expect("a number")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..5000).collect::<Vec<_>>());
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Take,
    Refuse,
    Away,
    Forget,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the sink answers, each receipt is answered once, each event is delivered or dead, and the
    /// first occurrences of a key are in order.
    #[test]
    fn each_event_is_delivered_or_dead_in_order_of_its_key(
        keys in proptest::collection::vec(0usize..4, 1..60),
        answers in proptest::collection::vec(
            prop_oneof![Just(Fate::Take), Just(Fate::Refuse), Just(Fate::Away), Just(Fate::Forget)],
            0..120,
        ),
        pipelined: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(fuzz(keys, answers, pipelined));
    }
}

/// A pipelined sink fails everything it has taken after a failure, as a connection that breaks does.
async fn fuzz(keys: Vec<usize>, answers: Vec<Fate>, pipelined: bool) {
    let bus: Bus = small_bus(1000);
    let router = Router::new(bus.clone());
    let mailbox = Arc::new(Mailbox::default());
    start(&router, route("r", "k/#", vec![to("s", &mailbox, pipelined)]));
    let mut deliveries = Deliveries(Arc::clone(&mailbox));
    let taken = tokio::spawn(async move {
        let (mut taken, mut batch, mut answers) = (Vec::new(), Vec::new(), answers.into_iter());
        while deliveries.recv(&mut batch, 5).await > 0 {
            let mut broken = false;
            for delivery in batch.drain(..) {
                let fate = if broken { Fate::Forget } else { answers.next().unwrap_or(Fate::Take) };
                broken |= pipelined && !matches!(fate, Fate::Take);
                match fate {
                    Fate::Take => {
                        taken.push((delivery.envelope.topic.to_string(), delivery.seq));
                        delivery.answer(Outcome::Delivered);
                    }
                    Fate::Refuse => delivery.answer(rejected()),
                    Fate::Away => delivery.answer(Outcome::Undelivered("away".into())),
                    Fate::Forget => drop(delivery),
                }
            }
        }
        taken
    });
    let events = keys.iter().enumerate().map(|(n, key)| event(&format!("k/{key}"), n)).collect();
    let receipts = bus.publish(events).await;
    let fates = fates(&receipts).await;
    mailbox.close();
    let taken = taken.await.expect("ends");
    let mut last: HashMap<&str, _> = HashMap::new();
    for (topic, seq) in &taken {
        if let Some(before) = last.insert(topic, *seq) {
            assert!(before < *seq, "key {topic} went back");
        }
    }
    let dead = fates.iter().filter(|fate| matches!(fate, Outcome::Rejected(_))).count();
    assert_eq!(taken.len() + dead, keys.len());
    let name: ByteString = "r".into();
    let (_, _, stats) = router.routes().into_iter().find(|(route, ..)| *route == name).expect("the route");
    assert_eq!(stats.dead.get(), dead as u64);
}
