//! What the MQTT tests share: a broker of their own, buses with MQTT connectors, and a plain client as peer.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meshbus::config::Section;
use meshbus::core::consumer::{Overflow, Source};
use meshbus::core::delivery::{Deliveries, Mailbox};
use meshbus::core::route::{Retry, RouteSpec, Router, Sink, To, WhenFull};
use meshbus::core::selector::{Selector, TopicFilter};
use meshbus::core::stats::ConnectorStats;
use meshbus::core::subscription::{Message, Start, Subscription};
use meshbus::core::template::{Spelling, Template};
use meshbus::core::{Bus, BusOptions, Envelope, Error, Record, Topic};
use meshbus::runtime::shutdown::Shutdown;
use meshbus::transport::mqtt::Mqtt;
use meshbus::transport::{Link, Ready, Transport};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits until `ready` gives something.
pub(crate) async fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Mosquitto on a port and a directory that stay the same over restarts. Killed when dropped.
pub(crate) struct Broker {
    child: Option<Child>,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::start_with("allow_anonymous true\n").await
    }

    /// With further lines of configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let config = format!(
            "listener {port} 127.0.0.1\npersistence true\npersistence_location {0}/\nuser {1}\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nlog_dest file {0}/log\nlog_type all\n{more}",
            dir.path().display(),
            String::from_utf8_lossy(
                &Command::new("id").arg("-un").output().expect("the program id").stdout
            )
            .trim(),
        );
        std::fs::write(dir.path().join("conf"), config).expect("a configuration");
        let mut broker = Self { child: None, port, dir };
        broker.restart().await;
        broker
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// SIGTERM: it saves sessions and retained messages.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().expect("a running broker");
        let killed = Command::new("kill").arg(child.id().to_string()).status().expect("the program kill");
        assert!(killed.success());
        until("the broker has ended", || child.try_wait().expect("a child")).await;
    }

    pub(crate) async fn restart(&mut self) {
        let program = std::env::var_os("MESHBUS_MOSQUITTO").unwrap_or_else(|| "/usr/sbin/mosquitto".into());
        let child = Command::new(&program)
            .arg("-c")
            .arg(self.path("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| {
                panic!("{}: {e}: install mosquitto or set MESHBUS_MOSQUITTO", program.display())
            });
        let child = self.child.insert(child);
        let port = self.port;
        until("the broker accepts", || {
            assert!(child.try_wait().expect("a child").is_none(), "mosquitto ended at once");
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let told = log.lines().filter(|line| !line.contains(" PUB"));
            let tail: Vec<&str> = told.rev().take(40).collect();
            for line in tail.iter().rev() {
                eprintln!("mosquitto: {line}");
            }
        }
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A bus with its routes.
pub(crate) struct Node {
    pub(crate) bus: Bus,
    pub(crate) router: Router,
}

impl Node {
    pub(crate) fn new(name: &'static str) -> Self {
        Self::with(BusOptions { name: name.into(), ..BusOptions::default() })
    }

    pub(crate) fn with(options: BusOptions) -> Self {
        let bus = Bus::new(options);
        Self { router: Router::new(bus.clone()), bus }
    }

    /// Starts an MQTT client connector that is run again, after a short back-off, as long as it may be.
    pub(crate) fn connect(&self, name: &'static str, settings: &str) -> Connection {
        let section = Section::from_yaml("test", settings).expect("YAML");
        let mut connector = Mqtt.client(name, &section).unwrap_or_else(|e| panic!("{e}"));
        let scope =
            section.get("scope").and_then(|s| s.text().map(str::to_owned)).unwrap_or_else(|| name.into());
        let mailbox = Arc::new(Mailbox::default());
        let (stats, ready, shutdown) = (Arc::new(ConnectorStats::default()), Ready::new(), Shutdown::new());
        let mut link = Link {
            name: name.into(),
            bus: self.bus.ingress(name, scope.clone()),
            deliveries: Deliveries(Arc::clone(&mailbox)),
            writes: self.bus.own(scope.into(), name.into(), true),
            kinds: Arc::default(),
            ready: ready.clone(),
            shutdown: shutdown.clone(),
            stats: Arc::clone(&stats),
        };
        let task = tokio::spawn(async move {
            loop {
                match connector.run(&mut link).await {
                    Ok(()) => return Ok(()),
                    Err(e) if e.kind == meshbus::core::ErrorKind::Denied => return Err(e),
                    Err(e) => {
                        eprintln!("{name}: {e}");
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        Connection { section, mailbox, stats, ready, shutdown, task: Some(task) }
    }

    /// A route from everything below a topic to a sink.
    pub(crate) fn route(&self, name: &'static str, from: &str, sink: Sink) {
        let spec = RouteSpec {
            name: name.into(),
            from: vec![Source {
                connector: None,
                topic: Some(TopicFilter::parse(from).expect("a filter")),
            }],
            predicates: Vec::new(),
            filters: Vec::new(),
            to: vec![To { output: None, sink }],
            retry: Retry {
                max_attempts: 2,
                initial: Duration::from_millis(10),
                max: Duration::from_millis(50),
            },
            dead_letter: Sink::Bus {
                topic: Template::parse("dead/{route}", Spelling::Topic).expect("a template"),
            },
            when_full: WhenFull::Block,
            in_flight: 1000,
        };
        if let Some(worker) = self.router.set(spec) {
            tokio::spawn(worker.run());
        }
    }

    /// Follows a topic from now on.
    pub(crate) fn follow(&self, topic: &str) -> Follower {
        let selector =
            Selector { topic: Some(TopicFilter::parse(topic).expect("a filter")), ..Selector::default() };
        let subscription =
            self.bus.subscribe(selector, Start::Now, 1_000_000, Overflow::Block).expect("a start");
        Follower { subscription, read: Vec::new() }
    }
}

/// A running connector. Dropped, it is cut off as by a crash.
pub(crate) struct Connection {
    section: Section,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) stats: Arc<ConnectorStats>,
    ready: Ready,
    shutdown: Shutdown,
    task: Option<JoinHandle<Result<(), Error>>>,
}

impl Connection {
    pub(crate) async fn ready(self) -> Self {
        self.is_ready().await;
        self
    }

    pub(crate) async fn is_ready(&self) {
        let mut watch = self.ready.watch();
        let wait = watch.wait_for(Result::is_ok);
        timeout(LIMIT, wait).await.expect("the connector is ready in time").expect("a connector");
    }

    /// A sink of this connector.
    pub(crate) fn sink(&self, to: &str) -> Sink {
        let entry = Section::from_yaml("test", to).expect("YAML");
        let target = Mqtt.target(&self.section, &entry).unwrap_or_else(|e| panic!("{e}"));
        Sink::Connector { name: "mqtt".into(), mailbox: Arc::clone(&self.mailbox), target }
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> Result<(), Error> {
        let task = self.task.take().expect("a task");
        timeout(LIMIT, task).await.expect("the connector ends in time").expect("no panic")
    }

    /// Stops taking in.
    pub(crate) fn drain(&self) {
        self.shutdown.start_drain();
    }

    /// Drains to the end.
    pub(crate) async fn stop(mut self) {
        self.drain();
        self.mailbox.close();
        self.ended().await.expect("a clean end");
    }

    /// As SIGKILL: nothing is said to anybody.
    pub(crate) async fn kill(mut self) {
        let task = self.task.take().expect("a task");
        task.abort();
        drop(task.await);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Reads what a subscription tells, one by one.
pub(crate) struct Follower {
    subscription: Subscription,
    read: Vec<Arc<Record>>,
}

impl Follower {
    pub(crate) async fn next(&mut self) -> Arc<Envelope> {
        self.maybe(LIMIT).await.expect("a record in time")
    }

    pub(crate) async fn maybe(&mut self, limit: Duration) -> Option<Arc<Envelope>> {
        while self.read.is_empty() {
            match timeout(limit, self.subscription.next()).await.ok()?.expect("a subscription that goes on")
            {
                Message::Batch(records) => self.read = records.iter().rev().cloned().collect(),
                other => panic!("unexpected {other:?}"),
            }
        }
        self.read.pop().map(|record| Arc::clone(&record.envelope))
    }
}

/// A plain MQTT 5 client, on rumqttc.
pub(crate) struct Peer {
    client: AsyncClient,
    incoming: mpsc::Receiver<Publish>,
    acknowledged: Arc<AtomicU32>,
    sent: u32,
    task: JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn connect(broker: &Broker, subscribe: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = format!("peer-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.port);
        options.set_max_packet_size(Some(8 << 20)).set_clean_start(true);
        let (client, mut events) = AsyncClient::new(options, 10);
        for topic in subscribe {
            let mut filter = Filter::new(*topic, QoS::AtLeastOnce);
            filter.preserve_retain = true;
            client.try_subscribe_many([filter]).expect("room");
        }
        let (sender, incoming) = mpsc::channel(100_000);
        let acknowledged = Arc::new(AtomicU32::new(0));
        let wanted = subscribe.len();
        let subscribed = Arc::new(AtomicU32::new(0));
        let (count, done) = (Arc::clone(&acknowledged), Arc::clone(&subscribed));
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => drop(sender.send(publish).await),
                    Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_) | Packet::ConnAck(_))) => {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) => {}
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        until("the peer is subscribed", || {
            (subscribed.load(Ordering::Relaxed) as usize > wanted).then_some(())
        })
        .await;
        Self { client, incoming, acknowledged, sent: 0, task }
    }

    /// Publishes and, where there is one, waits for the acknowledgement.
    pub(crate) async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: impl Into<Bytes>) {
        self.send(topic, qos, retain, payload, PublishProperties::default()).await;
        self.settled().await;
    }

    /// Publishes without waiting.
    pub(crate) async fn send(
        &mut self,
        topic: &str,
        qos: QoS,
        retain: bool,
        payload: impl Into<Bytes>,
        properties: PublishProperties,
    ) {
        self.sent += u32::from(qos != QoS::AtMostOnce);
        let sent = self.client.publish_with_properties(topic, qos, retain, payload.into(), properties);
        timeout(LIMIT, sent).await.expect("room in time").expect("a running client");
    }

    /// Waits until all that was sent is acknowledged.
    pub(crate) async fn settled(&self) {
        until("all is acknowledged", || {
            (self.acknowledged.load(Ordering::Relaxed) >= self.sent).then_some(())
        })
        .await;
    }

    pub(crate) async fn next(&mut self) -> Publish {
        timeout(LIMIT, self.incoming.recv()).await.expect("a message in time").expect("a running client")
    }

    pub(crate) async fn maybe(&mut self, limit: Duration) -> Option<Publish> {
        timeout(limit, self.incoming.recv()).await.ok()?
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event with every attribute, not all of it ASCII.
pub(crate) fn full_event(topic: &str, id: &str) -> Envelope {
    let mut event =
        Envelope::event(Topic::parse(topic).expect("a topic"), id, "/søurce/π", "com.example.tést");
    event.subject = Some("subject ☂ %41".into());
    event.time = Some(meshbus::core::Timestamp::parse("2026-01-02T03:04:05.678+01:00").expect("a time"));
    event.datacontenttype = Some("text/plain; charset=utf-8".into());
    event.dataschema = Some("https://example.com/schema".into());
    event.extensions.set("partitionkey", "k1");
    event.extensions.set("text", "naïve \"quoted\" 日本");
    event.data = Bytes::from_static("dåta\n\u{0}ÿ".as_bytes());
    event
}
