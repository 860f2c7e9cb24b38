//! The core alone: what a publication, a delivery and a route cost in CPU time, in this process.

mod support;

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use meshbus::core::consumer::{Overflow, Source};
use meshbus::core::delivery::{Assurance, Deliveries, Guarantee, Mailbox, Target};
use meshbus::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use meshbus::core::selector::{Selector, TopicFilter};
use meshbus::core::subscription::{Message, Start, Subscription};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, BusOptions, Envelope, Outcome, Timestamp, Topic};
use support::{Args, Failure, Report, Samples, cpu};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Events of a batch.
const BATCH: usize = 64;
/// Bytes of an event's data.
const DATA: usize = 1024;
/// Records that wait for a subscriber before publishers do.
const QUEUE: usize = 1024;
/// Events made before the clock runs: making them is not measured. So few that, as when they have just been
/// received, they are in the processor's cache.
const CHUNK: usize = 512;
/// Events that fill the log, after which each new one lets the oldest go: the steady state.
const WARM_UP: usize = 200_000;

fn main() -> ExitCode {
    support::main("core", run)
}

fn run() -> Result<ExitCode, Failure> {
    let args = Args::read()?;
    let mut report = Report::new(&args);
    publish(&args, &mut report)?;
    fan_out(&args, &mut report)?;
    routes(&args, &mut report)?;
    Ok(report.finish())
}

/// One publisher and one subscriber, as in one task each, on the program's kind of runtime and on one thread.
fn publish(args: &Args, report: &mut Report) -> Result<(), Failure> {
    let cases = [
        ("publish, batch of 64", BATCH, false, Some(500.0)),
        ("publish, batch of 64, two threads", BATCH, true, None),
        ("publish, batch of 1", 1, false, None),
        ("publish, batch of 1, two threads", 1, true, None),
    ];
    let mut benches = Vec::new();
    for (name, batch, threads, gate) in cases {
        if args.wants(name) {
            let mut bench = Publication::new(1, threads)?;
            bench.round(args.size(WARM_UP, BATCH), BATCH)?;
            benches.push((name, batch, gate, bench, Samples::default()));
        }
    }
    for _ in 0..args.rounds {
        for (_, batch, _, bench, samples) in &mut benches {
            let events = args.size(if *batch == 1 { 32 << 10 } else { 256 << 10 }, 1 << 10);
            samples.push(bench.round(events, *batch)? / events as f64);
        }
    }
    for (name, _, gate, _, samples) in &benches {
        match gate {
            Some(gate) => report.gated(name, samples, " ns/event", *gate),
            None => report.noted(name, samples, " ns/event"),
        }
    }
    Ok(())
}

/// One publisher and many subscribers.
fn fan_out(args: &Args, report: &mut Report) -> Result<(), Failure> {
    let subscribers = args.size(1000, 50);
    let cases = [("1 to 1,000, batch of 64", BATCH, Some(20.0)), ("1 to 1,000, batch of 1", 1, None)];
    for (name, batch, gate) in cases {
        if !args.wants(name) {
            continue;
        }
        let mut bench = Publication::new(subscribers, false)?;
        bench.round(args.size(WARM_UP, BATCH), BATCH)?;
        let mut samples = Samples::default();
        for _ in 0..args.rounds {
            let events = args.size(if batch == 1 { 1 << 10 } else { 16 << 10 }, 128);
            samples.push(bench.round(events, batch)? / (events * subscribers) as f64);
        }
        match gate {
            Some(gate) => report.gated(name, &samples, " ns/delivery", gate),
            None => report.noted(name, &samples, " ns/delivery"),
        }
    }
    Ok(())
}

/// 10 routes against 10,000, on the same number of topics, each event taken by exactly one route.
fn routes(args: &Args, report: &mut Report) -> Result<(), Failure> {
    let many = args.size(10_000, 200);
    for (name, zipf, gate) in [
        ("10,000 routes to 10, Zipf topics", true, 2.0),
        ("10,000 routes to 10, all topics differ", false, 5.0),
    ] {
        if !args.wants(name) {
            continue;
        }
        let mut few = Routes::new(10, zipf)?;
        let mut all = Routes::new(many, zipf)?;
        few.round(args.size(WARM_UP, BATCH))?;
        all.round(args.size(WARM_UP, BATCH))?;
        let (mut ratio, mut costs) = (Samples::default(), [Samples::default(), Samples::default()]);
        for _ in 0..args.rounds {
            let events = args.size(64 << 10, 1 << 10);
            let [few, all] = [few.round(events)?, all.round(events)?].map(|cpu| cpu / events as f64);
            ratio.push(all / few);
            for (samples, cost) in costs.iter_mut().zip([few, all]) {
                samples.push(cost);
            }
        }
        report.gated(name, &ratio, "×", gate);
        let [few, all] = &costs;
        report.noted("  with 10 routes", few, " ns/event");
        report.noted("  with 10,000 routes", all, " ns/event");
    }
    Ok(())
}

/// A bus with subscribers that all take everything.
struct Publication {
    runtime: Runtime,
    bus: Bus,
    /// One message from each subscriber that has read all of a round.
    done: mpsc::Receiver<()>,
    subscribers: usize,
    /// How many events each subscriber is to read in a round.
    expect: Arc<tokio::sync::watch::Sender<usize>>,
}

impl Publication {
    fn new(subscribers: usize, threads: bool) -> Result<Self, Failure> {
        let runtime = if threads {
            Builder::new_multi_thread().worker_threads(2).enable_all().build()?
        } else {
            Builder::new_current_thread().enable_all().build()?
        };
        let bus = Bus::new(BusOptions::default());
        let (told, done) = mpsc::channel(subscribers);
        let expect = Arc::new(tokio::sync::watch::Sender::new(0));
        for _ in 0..subscribers {
            let selector = Selector::topic(TopicFilter::parse("plant/#")?);
            let subscription = bus.subscribe(selector, Start::Now, QUEUE, Overflow::Block)?;
            runtime.spawn(read_on(subscription, expect.subscribe(), told.clone()));
        }
        Ok(Self { runtime, bus, done, subscribers, expect })
    }

    /// CPU nanoseconds of both sides for publishing `events` and awaiting every receipt.
    fn round(&mut self, events: usize, batch: usize) -> Result<f64, Failure> {
        let mut spent = 0.0;
        let mut left = events;
        while left > 0 {
            let n = left.min(CHUNK);
            spent += self.chunk(n, batch)?;
            left -= n;
        }
        Ok(spent)
    }

    fn chunk(&mut self, events: usize, batch: usize) -> Result<f64, Failure> {
        let batches = batches(events, batch, |n| format!("plant/p{}/d{}/temperature", n % 7, n % 100))?;
        self.expect.send_modify(|expected| *expected += events);
        let bus = self.bus.clone();
        let (done, subscribers) = (&mut self.done, self.subscribers);
        let publisher = self.runtime.spawn(async move {
            let before = cpu();
            for batch in batches {
                for receipt in bus.publish(batch).await {
                    assert_eq!(receipt.delivered().await, Outcome::Delivered);
                }
            }
            before
        });
        self.runtime.block_on(async {
            let before = publisher.await?;
            for _ in 0..subscribers {
                done.recv().await.ok_or("a subscriber ended")?;
            }
            Ok(cpu() - before)
        })
    }
}

/// Reads as many records as `expect` says, tells so, and again.
async fn read_on(
    mut subscription: Subscription,
    mut expect: tokio::sync::watch::Receiver<usize>,
    told: mpsc::Sender<()>,
) {
    let mut have = 0;
    while expect.changed().await.is_ok() {
        let expected = *expect.borrow_and_update();
        while have < expected {
            match subscription.next().await {
                Some(Message::Batch(records)) => have += records.len(),
                other => panic!("a blocking subscriber loses nothing: {other:?}"),
            }
        }
        if told.send(()).await.is_err() {
            return;
        }
    }
}

/// A bus with routes to one sink that takes everything.
struct Routes {
    runtime: Runtime,
    bus: Bus,
    router: Router,
    count: usize,
    topics: Topics,
    /// Published so far.
    events: u64,
}

/// Which topic comes next.
enum Topics {
    Zipf(Vec<f64>, fastrand::Rng),
    Unique(usize),
}

/// Topics that a Zipf law draws from.
const POPULATION: usize = 100_000;

impl Routes {
    fn new(routes: usize, zipf: bool) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let bus = Bus::new(BusOptions::default());
        let router = Router::new(bus.clone());
        let mailbox = Arc::new(Mailbox::default());
        for n in 0..routes {
            if let Some(worker) = router.set(route(n, &mailbox)?) {
                runtime.spawn(worker.run());
            }
        }
        runtime.spawn(answer(Deliveries(mailbox)));
        let topics = if zipf {
            let mut sum = 0.0;
            let cumulated = (1..=POPULATION).map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            });
            Topics::Zipf(cumulated.collect(), fastrand::Rng::with_seed(7))
        } else {
            Topics::Unique(0)
        };
        Ok(Self { runtime, bus, router, count: routes, topics, events: 0 })
    }

    fn round(&mut self, events: usize) -> Result<f64, Failure> {
        let mut spent = 0.0;
        let mut left = events;
        while left > 0 {
            let n = left.min(CHUNK);
            left -= n;
            let (topics, routes) = (&mut self.topics, self.count);
            let batches = batches(n, BATCH, |_| topic(topics.next(), routes))?;
            let bus = &self.bus;
            spent += self.runtime.block_on(async {
                let before = cpu();
                for batch in batches {
                    for receipt in bus.publish(batch).await {
                        assert_eq!(receipt.delivered().await, Outcome::Delivered);
                    }
                }
                cpu() - before
            });
        }
        self.events += events as u64;
        let taken: u64 = self.router.routes().iter().map(|(_, _, stats)| stats.taken.get()).sum();
        assert_eq!(taken, self.events, "each event has one route");
        Ok(spent)
    }
}

impl Topics {
    fn next(&mut self) -> usize {
        match self {
            Self::Zipf(cumulated, random) => {
                let at = random.f64() * cumulated.last().copied().unwrap_or_default();
                cumulated.partition_point(|sum| *sum < at)
            }
            Self::Unique(next) => {
                *next += 1;
                *next
            }
        }
    }
}

/// The topic number `n`, which one of `routes` routes takes.
fn topic(n: usize, routes: usize) -> String {
    let (route, device) = (n % routes, n / routes);
    if route.is_multiple_of(2) {
        format!("plant/p{route}/d{device}/temperature")
    } else {
        format!("plant/q{device}/d{route}/pressure")
    }
}

/// Half of the routes fix the second level, half the third behind a wildcard.
fn route(n: usize, mailbox: &Arc<Mailbox>) -> Result<RouteSpec, Failure> {
    let filter =
        if n.is_multiple_of(2) { format!("plant/p{n}/#") } else { format!("plant/+/d{n}/pressure") };
    let guarantee =
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: "a bench".into() };
    let target = Target { address: None, pipelined: true, guarantee, options: Arc::new(()) };
    let sink = Sink::Connector { name: "sink".into(), mailbox: Arc::clone(mailbox), target };
    Ok(RouteSpec {
        name: format!("route-{n}").into(),
        from: vec![Source { connector: None, topic: Some(TopicFilter::parse(&filter)?) }],
        predicates: Vec::new(),
        filters: Vec::new(),
        to: vec![To { output: None, sink }],
        retry: Retry::default(),
        dead_letter: Sink::Bus { topic: Template::parse("dead/{route}", Spelling::Topic)? },
        when_full: WhenFull::Block,
        in_flight: 1024,
    })
}

/// A sink that takes everything at once.
async fn answer(mut deliveries: Deliveries) {
    let mut batch = Vec::new();
    while deliveries.recv(&mut batch, 256).await > 0 {
        for delivery in batch.drain(..) {
            delivery.answer(Outcome::Delivered);
        }
    }
}

/// Events as a transport decodes them: 1 KiB of data and nine attributes, each with bytes of its own.
fn batches(
    events: usize,
    batch: usize,
    mut topic: impl FnMut(usize) -> String,
) -> Result<Vec<Vec<Envelope>>, Failure> {
    let time = Timestamp::parse("2026-03-01T12:30:45.123456Z")?;
    let mut event = |n: usize| -> Result<Envelope, Failure> {
        let text = |text: &str| ByteString::from(text.to_owned());
        let topic = Topic::parse(topic(n))?;
        let mut event = Envelope::event(
            topic,
            format!("b3f1c7e2-0000-4000-8000-{n:012x}"),
            "//plant.example.com/line/4".to_owned(),
            "com.example.reading.taken.v1".to_owned(),
        );
        event.subject = Some(format!("sensor-{n}").into());
        event.time = Some(time.clone());
        event.datacontenttype = Some(text("application/json"));
        event.dataschema = Some(text("https://schemas.example.com/reading/v1.json"));
        event.extensions.set("region", text("eu-central-1"));
        event
            .extensions
            .set("traceparent", text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        event.data = Bytes::from(vec![b'x'; DATA]);
        Ok(event)
    };
    (0..events.div_ceil(batch)).map(|at| (0..batch).map(|n| event(at * batch + n)).collect()).collect()
}
