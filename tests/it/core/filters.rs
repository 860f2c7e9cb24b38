//! Filters of running routes: order per key, retries, named outputs, receipts, reload, and who waits for whom.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use meshbus::core::delivery::{Assurance, Deliveries, Guarantee, Mailbox, Reason, Target};
use meshbus::core::drops::Seen;
use meshbus::core::filter::{Filter, FilterFactory, FilterSpec, Input, Output, Verdict};
use meshbus::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use meshbus::core::selector::{Selector, TopicFilter};
use meshbus::core::subscription::{Message, Start};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, Envelope, Outcome, Receipt};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{event, small_bus};

/// A filter that is a function; whatever it keeps is the function's own.
#[derive(Clone)]
struct Scripted {
    name: ByteString,
    decide: Arc<dyn Fn(&Input<'_>) -> Verdict + Send + Sync>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Filter for Scripted {
    fn process(&mut self, batch: &[Input<'_>]) -> Vec<Verdict> {
        batch.iter().map(|input| (self.decide)(input)).collect()
    }
}

impl FilterFactory for Scripted {
    fn name(&self) -> ByteString {
        self.name.clone()
    }

    fn has_outputs(&self) -> bool {
        true
    }

    fn build(&self) -> Result<Box<dyn Filter>, Reason> {
        Ok(Box::new(self.clone()))
    }
}

fn filter(name: &str, decide: impl Fn(&Input<'_>) -> Verdict + Send + Sync + 'static) -> FilterSpec {
    let name = ByteString::from(name);
    FilterSpec { fingerprint: name.clone(), factory: Arc::new(Scripted { name, decide: Arc::new(decide) }) }
}

fn to(name: &'static str, mailbox: &Arc<Mailbox>, output: Option<&'static str>) -> To {
    let guarantee =
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: "a test".into() };
    let target = Target { address: None, pipelined: false, guarantee, options: Arc::new(()) };
    let sink = Sink::Connector { name: name.into(), mailbox: Arc::clone(mailbox), target };
    To { output: output.map(ByteString::from), sink }
}

fn route(name: &'static str, topic: &str, filters: Vec<FilterSpec>, to: Vec<To>) -> RouteSpec {
    let topic = TopicFilter::parse(topic).expect("valid");
    RouteSpec {
        name: name.into(),
        from: vec![meshbus::core::consumer::Source { connector: None, topic: Some(topic) }],
        predicates: Vec::new(),
        filters,
        to,
        retry: Retry { max_attempts: 3, initial: Duration::from_millis(1), max: Duration::from_millis(4) },
        dead_letter: Sink::Bus { topic: Template::parse("dead/{route}", Spelling::Topic).expect("valid") },
        when_full: WhenFull::Block,
        in_flight: 64,
    }
}

/// Routes of a bus, with mailboxes that note what they get: id and topic.
struct World {
    bus: Bus,
    router: Router,
}

impl World {
    fn new() -> Self {
        let bus = small_bus(100_000);
        Self { router: Router::new(bus.clone()), bus }
    }

    fn start(&self, spec: RouteSpec) {
        if let Some(worker) = self.router.set(spec) {
            drop(tokio::spawn(worker.run()));
        }
    }

    fn stats(&self, name: &str) -> Arc<meshbus::core::stats::RouteStats> {
        let routes = self.router.routes();
        Arc::clone(&routes.iter().find(|(have, ..)| **have == *name).expect("it runs").2)
    }
}

type Taken = Arc<Mutex<Vec<Arc<Envelope>>>>;

/// Takes all that comes.
fn sink(mailbox: &Arc<Mailbox>) -> (Taken, JoinHandle<()>) {
    let (taken, mut deliveries) = (Taken::default(), Deliveries(Arc::clone(mailbox)));
    let noted = Arc::clone(&taken);
    let task = tokio::spawn(async move {
        let mut batch = Vec::new();
        while deliveries.recv(&mut batch, 8).await > 0 {
            for delivery in batch.drain(..) {
                noted.lock().push(Arc::clone(&delivery.envelope));
                delivery.answer(Outcome::Delivered);
            }
        }
    });
    (taken, task)
}

fn ids(taken: &Taken) -> Vec<String> {
    taken.lock().iter().map(|envelope| envelope.id.to_string()).collect()
}

async fn fates(receipts: &[Receipt]) -> Vec<Outcome> {
    let mut fates = Vec::new();
    for receipt in receipts {
        fates.push(timeout(Duration::from_secs(30), receipt.delivered()).await.expect("answered"));
    }
    fates
}

#[tokio::test]
async fn the_receipt_tells_what_the_filters_said() {
    let world = World::new();
    let mailbox = Arc::new(Mailbox::default());
    let decide = filter("decide", |input| match &*input.envelope.id {
        "2" => Verdict::Drop(None),
        "3" => Verdict::Reject("not today".into()),
        "4" => Verdict::Retry(Duration::from_millis(1)),
        "5" if input.attempt == 1 => Verdict::Retry(Duration::from_millis(1)),
        "6" => {
            Verdict::Emit(vec![Output { name: Some("nobody".into()), envelope: input.envelope.clone() }])
        }
        _ => Verdict::Pass,
    });
    let (taken, _sink) = sink(&mailbox);
    let mut dead = world
        .bus
        .subscribe(
            Selector::topic(TopicFilter::parse("dead/r").expect("valid")),
            Start::Now,
            64,
            meshbus::core::consumer::Overflow::Block,
        )
        .expect("subscribed");
    world.start(route("r", "a/#", vec![decide], vec![to("s", &mailbox, None)]));
    let mut receipts = Vec::new();
    for id in 1..=6 {
        receipts.extend(world.bus.publish(vec![event(&format!("a/{id}"), id)]).await);
    }
    let fates = fates(&receipts).await;
    let no = |text: &str| Outcome::Rejected(format!("filter decide: {text}").into());
    assert_eq!(
        fates,
        [
            Outcome::Delivered,
            Outcome::Filtered,
            no("not today"),
            no("it failed for the last time"),
            Outcome::Delivered,
            Outcome::Filtered,
        ]
    );
    assert_eq!(ids(&taken), ["1", "5"]);
    let mut buried = HashMap::new();
    while buried.len() < 2 {
        let message = timeout(Duration::from_secs(30), dead.next()).await.expect("in time");
        let Some(Message::Batch(records)) = message else { continue };
        for record in records.iter() {
            let text = |name| record.envelope.attribute(name).unwrap_or_default().to_string();
            buried.insert(record.envelope.id.to_string(), (text("mbroute"), text("mbattempts")));
        }
    }
    assert_eq!(buried["3"], ("r".to_owned(), "1".to_owned()));
    assert_eq!(buried["4"], ("r".to_owned(), "3".to_owned()));
    let stats = world.stats("r");
    assert_eq!((stats.by_filter.get(), stats.dead.get(), stats.retried.get()), (2, 2, 3));
}

#[tokio::test]
async fn who_watches_is_told_what_was_dropped_why_and_how_much_was_missed() {
    let world = World::new();
    let mailbox = Arc::new(Mailbox::default());
    let decide = filter("decide", |input| match &*input.envelope.id {
        "0" => Verdict::Pass,
        "1" => Verdict::Emit(Vec::new()),
        _ => Verdict::Drop(Some("too old".into())),
    });
    let (_taken, _sink) = sink(&mailbox);
    world.start(route("r", "a/#", vec![decide], vec![to("s", &mailbox, None)]));
    let publish = async |ids: std::ops::Range<usize>| {
        let events = ids.map(|id| event("a/b", id)).collect();
        fates(&world.bus.publish(events).await).await
    };
    publish(0..3).await;
    let stats = world.stats("r");
    let mut watcher = stats.drops.watch(3);
    publish(0..7).await;
    let mut told = Vec::new();
    while let Ok(Seen::Dropped(dropped)) = watcher.try_recv() {
        told.push((dropped.record.envelope.id.to_string(), dropped.filter, dropped.why));
    }
    let decide = ByteString::from("decide");
    let why = || Some(Reason::from("too old"));
    assert_eq!(
        told,
        [("1", None), ("2", why()), ("3", why())].map(|(id, why)| (id.to_owned(), decide.clone(), why))
    );
    publish(7..8).await;
    assert!(matches!(watcher.try_recv(), Ok(Seen::Lost(3))), "of seven the fourth to the sixth dropped");
    assert!(
        matches!(watcher.try_recv(), Ok(Seen::Dropped(dropped)) if *dropped.record.envelope.id == *"7")
    );
    drop(watcher);
    publish(8..9).await;
    assert_eq!(format!("{:?}", stats.drops), "Drops { watchers: 0, .. }");
}

#[tokio::test]
async fn named_outputs_go_only_where_they_are_asked_for() {
    let world = World::new();
    let (main, alert) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    let split = filter("split", |input| {
        let output = |name: Option<&'static str>| Output {
            name: name.map(ByteString::from),
            envelope: input.envelope.clone(),
        };
        Verdict::Emit(vec![output(None), output(Some("alert")), output(Some("nobody"))])
    });
    let (to_main, _main) = sink(&main);
    let (to_alert, _alert) = sink(&alert);
    world.start(route("r", "a", vec![split], vec![to("m", &main, None), to("a", &alert, Some("alert"))]));
    let receipts = world.bus.publish(vec![event("a", 1)]).await;
    assert_eq!(fates(&receipts).await, [Outcome::Delivered]);
    assert_eq!((ids(&to_main), ids(&to_alert)), (vec!["1/r/1".to_owned()], vec!["1/r/2".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_filter_of_one_route_holds_up_no_other_route() {
    let world = World::new();
    let (slow, quick) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let stuck = filter("stuck", move |_| {
        assert!(blocked.lock().recv().is_err());
        Verdict::Pass
    });
    let (to_slow, _slow) = sink(&slow);
    let (to_quick, _quick) = sink(&quick);
    world.start(route("slow", "a", vec![stuck], vec![to("s", &slow, None)]));
    world.start(route("quick", "b", vec![filter("pass", |_| Verdict::Pass)], vec![to("q", &quick, None)]));
    let waiting = world.bus.publish(vec![event("a", 1)]).await;
    let passed = world.bus.publish((0..500).map(|n| event("b", n)).collect()).await;
    assert!(fates(&passed).await.iter().all(|fate| *fate == Outcome::Delivered));
    assert_eq!(to_quick.lock().len(), 500);
    assert!(waiting[0].try_delivered().is_none() && to_slow.lock().is_empty());
    assert!(!world.router.is_idle(), "a drain waits for what a filter has");
    drop(release);
    assert_eq!(fates(&waiting).await, [Outcome::Delivered]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_loses_nothing_and_does_nothing_twice() {
    const EVENTS: usize = 3000;
    let world = World::new();
    let mailbox = Arc::new(Mailbox::default());
    let (taken, _sink) = sink(&mailbox);
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let version = |at: usize| {
        let count = Arc::clone(&counts[at]);
        filter(&format!("v{at}"), move |input| {
            if input.attempt == 1 && input.envelope.id.ends_with('7') {
                return Verdict::Retry(Duration::from_millis(1));
            }
            count.fetch_add(1, Ordering::Relaxed);
            Verdict::Pass
        })
    };
    let spec = |at: usize| route("r", "a/#", vec![version(at)], vec![to("s", &mailbox, None)]);
    world.start(spec(0));
    let mut receipts = Vec::new();
    for n in 0..EVENTS {
        receipts.extend(world.bus.publish(vec![event(&format!("a/{}", n % 8), n)]).await);
        if n % 250 == 0 {
            assert!(world.router.set(spec(n / 250 % 2)).is_none());
        }
    }
    assert!(fates(&receipts).await.iter().all(|fate| *fate == Outcome::Delivered));
    let mut last: HashMap<String, usize> = HashMap::new();
    for envelope in taken.lock().iter() {
        let id: usize = envelope.id.parse().expect("a number");
        let before = last.insert(envelope.topic.to_string(), id);
        assert!(before.is_none_or(|before| before < id), "{before:?} before {id}");
    }
    assert_eq!(taken.lock().len(), EVENTS);
    let [old, new] = counts.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(old + new, EVENTS);
    assert!(old > 0 && new > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_the_filters_are_taken_away_stays_behind_what_they_still_have() {
    let world = World::new();
    let mailbox = Arc::new(Mailbox::default());
    let (taken, _sink) = sink(&mailbox);
    let holding = filter("hold", |input| {
        let first = input.attempt < 20 && *input.envelope.id == *"1";
        if first { Verdict::Hold(Duration::from_millis(5)) } else { Verdict::Pass }
    });
    let spec = |filters| route("r", "a/#", filters, vec![to("s", &mailbox, None)]);
    world.start(spec(vec![holding]));
    let mut receipts = world.bus.publish(vec![event("a", 1)]).await;
    let entered = async {
        while world.stats("r").in_flight.get() == 0 && world.stats("r").waiting.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), entered).await.expect("it is with the filter");
    assert!(world.router.set(spec(Vec::new())).is_none());
    receipts.extend(world.bus.publish(vec![event("a", 2), event("b", 3)]).await);
    assert!(fates(&receipts).await.iter().all(|fate| *fate == Outcome::Delivered));
    assert_eq!(ids(&taken), ["1", "2"]);
}

/// The only filter of `filters:` as a file has it.
fn native(yaml: &str) -> FilterSpec {
    let section = meshbus::config::Section::from_yaml("f.yaml", yaml).expect(yaml);
    let (name, settings) = section.entries().swap_remove(0);
    let kind = meshbus::filter::KINDS.iter().find(|kind| kind.name() == name).expect("a kind");
    FilterSpec { fingerprint: yaml.into(), factory: kind.read(&settings).expect(yaml) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_is_acknowledged_no_sooner_than_the_first() {
    let world = World::new();
    let mailbox = Arc::new(Mailbox::default());
    world.start(route("r", "a/#", vec![native("dedupe: {}")], vec![to("s", &mailbox, None)]));
    let mut deliveries = Deliveries(Arc::clone(&mailbox));
    let mut next = async || {
        let mut batch = Vec::new();
        timeout(Duration::from_secs(30), deliveries.recv(&mut batch, 1)).await.expect("in time");
        batch.remove(0)
    };
    let receipts = world.bus.publish(vec![event("a/1", 1), event("a/2", 1)]).await;
    let first = next().await;
    // Long enough for the repetition to have been looked at more than once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(receipts.iter().all(|receipt| receipt.try_delivered().is_none()), "both wait");
    first.answer(Outcome::Delivered);
    assert_eq!(fates(&receipts).await, [Outcome::Delivered, Outcome::Filtered]);
    let receipts = world.bus.publish(vec![event("a/1", 2), event("a/2", 2)]).await;
    for _ in 0..3 {
        next().await.answer(Outcome::Rejected("no".into()));
    }
    next().await.answer(Outcome::Delivered);
    assert_eq!(fates(&receipts).await, [Outcome::Rejected("no".into()), Outcome::Delivered]);
    assert_eq!(world.stats("r").by_filter.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_holds_each_event_as_long_whatever_is_before_it() {
    let world = World::new();
    let mailbox = Arc::new(Mailbox::default());
    let (taken, _sink) = sink(&mailbox);
    world.start(route("r", "a", vec![native("delay: 150ms")], vec![to("s", &mailbox, None)]));
    let start = tokio::time::Instant::now();
    let mut receipts = Vec::new();
    for n in 0..20 {
        receipts.extend(world.bus.publish(vec![event("a", n)]).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let published = start.elapsed();
    assert!(fates(&receipts).await.iter().all(|fate| *fate == Outcome::Delivered));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(150) && took < published + Duration::from_secs(2), "{took:?}");
    assert_eq!(ids(&taken), (0..20).map(|n: i32| n.to_string()).collect::<Vec<_>>());
    let stats = world.stats("r");
    assert_eq!((stats.retried.get(), stats.dead.get()), (0, 0), "being held is no failure");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever two filters say: every receipt is answered, with the gravest of what became of it, and each
    /// sink gets what it should, in the order of the key.
    #[test]
    fn every_receipt_is_answered_once(verdicts in proptest::collection::vec((0u8..8, 0u8..3), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mailbox = Arc::new(Mailbox::default());
            let (taken, _sink) = sink(&mailbox);
            let script: Vec<u8> = verdicts.iter().map(|(verdict, _)| *verdict).collect();
            let first = filter("first", move |input| {
                match script[input.envelope.id.parse::<usize>().expect("a number")] {
                    0 => Verdict::Drop(None),
                    1 => Verdict::Reject("no".into()),
                    2 if input.attempt < 3 => Verdict::Retry(Duration::from_millis(1)),
                    3 if input.attempt < 5 => Verdict::Hold(Duration::from_millis(1)),
                    4 => Verdict::Emit(vec![
                        Output { name: None, envelope: input.envelope.clone() },
                        Output { name: None, envelope: input.envelope.clone() },
                    ]),
                    5 => Verdict::Emit(vec![Output { name: Some("x".into()), envelope: input.envelope.clone() }]),
                    6 => Verdict::Retry(Duration::from_millis(1)),
                    _ => Verdict::Pass,
                }
            });
            world.start(route("r", "a/#", vec![first, filter("second", |_| Verdict::Pass)], vec![to("s", &mailbox, None)]));
            let events = verdicts.iter().enumerate().map(|(n, (_, key))| event(&format!("a/{key}"), n)).collect();
            let receipts = world.bus.publish(events).await;
            let fates = fates(&receipts).await;
            let mut expected = Vec::new();
            for (n, (fate, (verdict, _))) in fates.iter().zip(&verdicts).enumerate() {
                let want = match verdict {
                    0 | 5 => Outcome::Filtered,
                    1 => Outcome::Rejected("filter first: no".into()),
                    6 => Outcome::Rejected("filter first: it failed for the last time".into()),
                    _ => Outcome::Delivered,
                };
                assert_eq!(*fate, want, "event {n}");
                match verdict {
                    4 => expected.extend([format!("{n}/r/1"), format!("{n}/r/2")]),
                    0 | 1 | 5 | 6 => {}
                    _ => expected.push(n.to_string()),
                }
            }
            let number = |id: &String| id.split('/').next().unwrap_or_default().parse::<usize>().expect("a number");
            for key in 0..3 {
                let of_key = |id: &&String| verdicts[number(id)].1 == key;
                let came: Vec<String> = ids(&taken);
                let came: Vec<&String> = came.iter().filter(of_key).collect();
                let wanted: Vec<&String> = expected.iter().filter(of_key).collect();
                assert_eq!(came, wanted, "key {key}");
            }
        });
    }
}
