//! The NATS client connector, alone on a bus, against a real nats-server.

mod auth;
mod consume;
mod core;
mod publish;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use meshbus::config::Section;
use meshbus::core::bus::BusOptions;
use meshbus::core::consumer::{Overflow, Source};
use meshbus::core::delivery::{Answers, Deliveries, Delivery, Mailbox, Target};
use meshbus::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use meshbus::core::selector::{Selector, TopicFilter};
use meshbus::core::stats::ConnectorStats;
use meshbus::core::subscription::{Message, Start, Subscription};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, Envelope, Outcome, Seq, Timestamp, Topic};
use meshbus::runtime::shutdown::Shutdown;
use meshbus::runtime::supervisor::{State, Supervisor};
use meshbus::transport::nats::Nats;
use meshbus::transport::{Link, Ready, Transport};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::process::{Process, Scratch, free_port, until};

/// For anything that should take milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
/// For what has to wait for back-offs and restarts.
const LONG: Duration = Duration::from_mins(1);

/// A bus with one connector, `broker`, under a supervisor.
struct Wire {
    bus: Bus,
    router: Router,
    supervisor: Supervisor,
    mailbox: Arc<Mailbox>,
    stats: Arc<ConnectorStats>,
    settings: Section,
}

impl Wire {
    /// Not waited for: see [`ready`](Self::ready).
    fn start(settings: &str) -> Self {
        let wire = Self::idle(settings);
        wire.start_connector();
        wire
    }

    /// Without its connector, so that a route is there before the first message.
    fn idle(settings: &str) -> Self {
        Self::idle_with(BusOptions::default(), settings)
    }

    /// The same on a bus with bounds of its own.
    fn idle_with(options: BusOptions, settings: &str) -> Self {
        let bus = Bus::new(BusOptions { name: "test-bus".into(), ..options });
        let settings = Section::from_yaml("test.yaml", settings).expect("YAML");
        Self {
            router: Router::new(bus.clone()),
            bus,
            supervisor: Supervisor::new(),
            mailbox: Arc::default(),
            stats: Arc::default(),
            settings,
        }
    }

    async fn connected(settings: &str) -> Self {
        let wire = Self::start(settings);
        wire.ready().await;
        wire
    }

    fn start_connector(&self) {
        let connector = Nats.client("broker", &self.settings).expect("right settings");
        let link = Link {
            name: "broker".into(),
            bus: self.bus.ingress("broker", "broker"),
            deliveries: Deliveries(Arc::clone(&self.mailbox)),
            writes: self.bus.own("broker".into(), "broker".into(), false),
            kinds: Arc::default(),
            ready: Ready::new(),
            shutdown: Shutdown::new(),
            stats: Arc::clone(&self.stats),
        };
        self.supervisor.start("broker", connector, link);
    }

    async fn ready(&self) {
        let mut why = String::new();
        until("the connector is ready", LONG, async || {
            let status = self.supervisor.status().pop()?;
            let now = format!("{status:?}");
            if now != why && status.state != State::Connecting {
                why = now;
                println!("{why}");
            }
            (status.state == State::Ready).then_some(())
        })
        .await;
    }

    fn target(&self, to: &str) -> Target {
        let to = Section::from_yaml("test.yaml", to).expect("YAML");
        Nats.target(&self.settings, &to).expect("a right target")
    }

    /// Hands deliveries to the connector and waits for the answer to each.
    async fn deliver(&self, envelopes: impl IntoIterator<Item = Envelope>, to: &str) -> Vec<Outcome> {
        let target = self.target(to);
        let answers = Arc::new(Collected::default());
        let deliveries: Vec<_> = envelopes
            .into_iter()
            .enumerate()
            .map(|(ticket, envelope)| {
                answers.0.lock().push(None);
                let address =
                    target.address.as_ref().map(|t| t.render(&envelope, "r").expect("an address"));
                let (envelope, answers) = (Arc::new(envelope), Arc::clone(&answers));
                let options = Arc::clone(&target.options);
                let mut delivery =
                    Delivery::new(envelope, Seq(1), "r".into(), options, answers, ticket as u64);
                delivery.address = address;
                delivery
            })
            .collect();
        self.mailbox.send(deliveries);
        until("every delivery is answered", LONG, async || {
            answers.0.lock().iter().cloned().collect::<Option<Vec<_>>>()
        })
        .await
    }

    /// A route from the connector `from`, or from all, to this mailbox.
    fn route(&self, topic: &str, from: Option<&'static str>, to: Sink) -> JoinHandle<()> {
        let topic = Some(TopicFilter::parse(topic).expect("a topic filter"));
        let spec = RouteSpec {
            name: "r".into(),
            from: vec![Source { connector: from.map(Into::into), topic }],
            predicates: Vec::new(),
            filters: Vec::new(),
            to: vec![To { output: None, sink: to }],
            retry: Retry {
                max_attempts: 2,
                initial: Duration::from_millis(5),
                max: Duration::from_millis(50),
            },
            dead_letter: Sink::Bus { topic: Template::parse("dead/{route}", Spelling::Topic).unwrap() },
            when_full: WhenFull::Block,
            in_flight: 4096,
        };
        let worker = self.router.set(spec);
        tokio::spawn(async move {
            if let Some(worker) = worker {
                worker.run().await;
            }
        })
    }

    /// Where a test takes the deliveries of a route itself.
    fn probe() -> (Sink, Deliveries) {
        let mailbox = Arc::new(Mailbox::default());
        let target = Target {
            address: None,
            pipelined: true,
            guarantee: meshbus::core::delivery::Guarantee {
                assurance: meshbus::core::delivery::Assurance::AtLeastOnce,
                identity: true,
                because: "a test".into(),
            },
            options: Arc::new(()),
        };
        let sink = Sink::Connector { name: "probe".into(), mailbox: Arc::clone(&mailbox), target };
        (sink, Deliveries(mailbox))
    }

    fn subscribe(&self, topic: &str) -> Events {
        let selector = Selector::topic(TopicFilter::parse(topic).expect("a topic filter"));
        let subscription = self.bus.subscribe(selector, Start::Now, 100_000, Overflow::Block);
        Events { subscription: subscription.expect("a subscription"), waiting: Vec::new() }
    }

    async fn stop(self) {
        self.mailbox.close();
        self.supervisor.stop_all(LIMIT).await;
    }
}

#[derive(Default)]
struct Collected(Mutex<Vec<Option<Outcome>>>);

impl Answers for Collected {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        let before = self.0.lock()[ticket as usize].replace(outcome);
        assert_eq!(before, None, "answered twice");
    }
}

/// What came into the bus.
struct Events {
    subscription: Subscription,
    waiting: Vec<Envelope>,
}

impl Events {
    /// The next event, without what the bus added to it.
    async fn next(&mut self) -> Envelope {
        while self.waiting.is_empty() {
            let message = timeout(LIMIT, self.subscription.next()).await.expect("an event in time");
            if let Some(Message::Batch(records)) = message {
                self.waiting.extend(records.iter().rev().map(|record| {
                    let mut envelope = (*record.envelope).clone();
                    envelope.extensions.remove("mborigin");
                    envelope.extensions.remove("mbhops");
                    envelope
                }));
            }
        }
        self.waiting.pop().unwrap()
    }

    async fn quiet(&mut self, time: Duration) {
        assert!(self.waiting.is_empty());
        if let Ok(message) = timeout(time, self.subscription.next()).await {
            panic!("nothing should come, but there is {message:?}");
        }
    }
}

/// nats-server with a configuration of the test's own.
struct Server {
    process: Process,
    port: u16,
}

impl Server {
    async fn start(scratch: &Scratch, program: impl AsRef<Path>, extra: &str) -> Self {
        let port = free_port();
        let file = scratch.dir("nats").join("nats.conf");
        let store = scratch.dir("nats").join("jetstream");
        let store = store.display();
        let config =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{store}\" }}\n{extra}\n");
        std::fs::write(&file, config).expect("the configuration of nats-server");
        let program = program.as_ref();
        let mut server = Self { process: Process::new(scratch, "nats", program).arg("-c").arg(file), port };
        server.restart().await;
        server
    }

    async fn restart(&mut self) {
        self.process.start();
        until("nats-server accepts", LIMIT, async || {
            if let Some(why) = self.process.ended() {
                panic!("{why}");
            }
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok().map(drop)
        })
        .await;
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

fn event(topic: &str, id: impl ToString) -> Envelope {
    let mut envelope = Envelope::event(Topic::parse(topic).unwrap(), id.to_string(), "/test", "test.event");
    envelope.data = Bytes::from_static(b"data");
    envelope
}

/// Every attribute, with text that needs encoding, and with or without data.
fn full(topic: &str, data: &'static [u8]) -> Envelope {
    let mut envelope = event(topic, "id €");
    envelope.subject = Some("Euro € 😀 100% \"quoted\"".into());
    envelope.time = Some(Timestamp::parse("2026-01-01T00:00:00.25+01:00").unwrap());
    envelope.datacontenttype = Some("application/octet-stream".into());
    envelope.dataschema = Some("https://example.com/schema?a=b%20c".into());
    envelope.extensions.set("partitionkey", "ключ");
    envelope.extensions.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    envelope.data = Bytes::from_static(data);
    envelope
}

async fn raw(url: &str) -> async_nats::Client {
    async_nats::ConnectOptions::new().retry_on_initial_connect().connect(url).await.expect("a client")
}

async fn consumer_info(
    context: &jetstream::Context,
    stream: &str,
    name: &str,
) -> jetstream::consumer::Info {
    let stream = context.get_stream(stream).await.expect("the stream");
    let mut consumer: jetstream::consumer::PullConsumer =
        stream.get_consumer(name).await.expect("the consumer");
    consumer.info().await.expect("its state").clone()
}
