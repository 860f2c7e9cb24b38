//! Two buses joined by a wire: started, published to, looked at, stopped.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meshbus::app::App;
use meshbus::config::Config;
use meshbus::core::{Envelope, Outcome, Receipt, Topic, Value};
use meshbus::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::probe::{Answering, Probe};
use super::{Bench, Wire};

/// For what takes milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// Most deliveries of the receiver's route under way.
const IN_FLIGHT: usize = 64;

static WIRES: AtomicU32 = AtomicU32::new(1);

/// One bus of a wire.
pub(crate) struct Node {
    pub(crate) app: App,
    health: u16,
}

/// Both ends of a wire.
pub(crate) struct World {
    pub(crate) wire: Wire,
    pub(crate) sender: Node,
    pub(crate) receiver: Node,
    /// The receiver's sink.
    pub(crate) probe: Probe,
    transport: &'static dyn Transport,
    id: String,
    log_bytes: usize,
}

impl Bench<'_> {
    /// A wire and its two ends, ready.
    pub(crate) async fn open(&self, answering: Answering) -> World {
        self.open_bounded(answering, 64 << 20).await
    }

    /// As [`open`](Self::open), where neither bus may hold more than `log_bytes` of events.
    pub(crate) async fn open_bounded(&self, answering: Answering, log_bytes: usize) -> World {
        let (id, wire) = self.wire().await;
        let transport = self.subject.transport();
        let probe = Probe::new(answering);
        // The receiver first: what is sent to nobody is lost where nobody keeps it.
        let receiver = receiver(&id, &wire, transport, &probe, log_bytes).await;
        let out = format!(
            "connectors: {{out: {}}}\n\
             routes: {{out: {{from: [{{topic: \"out/#\"}}], to: [{{connector: out{}}}], retry: {RETRY}}}}}",
            wire.egress, wire.to
        );
        let sender = Node::start(&format!("{id}sender"), log_bytes, &out, &[transport]).await;
        World { wire, sender, receiver, probe, transport, id, log_bytes }
    }

    /// A wire both of whose ends are on one bus: what goes out comes in again, and would go out again.
    pub(crate) async fn open_loop(&self) -> (Wire, Node) {
        let (id, wire) = self.wire().await;
        let config = format!(
            "connectors: {{out: {}, in: {}}}\n\
             routes: {{around: {{from: [in, {{topic: \"out/#\"}}], to: [{{connector: out{}}}], retry: {RETRY}}}}}",
            wire.egress, wire.ingress, wire.to
        );
        let node = Node::start(&format!("{id}loop"), 64 << 20, &config, &[self.subject.transport()]).await;
        (wire, node)
    }

    async fn wire(&self) -> (String, Wire) {
        let id = format!("c{}x{}", std::process::id(), WIRES.fetch_add(1, Ordering::Relaxed));
        let wire = self.subject.wire(&id).await;
        (id, wire)
    }
}

const RETRY: &str = "{max_attempts: 3, backoff: {initial: 5ms, max: 200ms}}";

async fn receiver(
    id: &str,
    wire: &Wire,
    transport: &'static dyn Transport,
    probe: &Probe,
    log_bytes: usize,
) -> Node {
    let config = format!(
        "connectors: {{in: {}, probe: {{probe: {{client: {{}}}}}}}}\n\
         routes: {{in: {{from: [in], to: [{{connector: probe}}], retry: {RETRY}, in_flight: {IN_FLIGHT}}}}}",
        wire.ingress
    );
    // A few hundred bytes for each receiver of a test run: the application's table is static.
    let probe: &'static dyn Transport = Box::leak(Box::new(probe.clone()));
    Node::start(&format!("{id}receiver"), log_bytes, &config, &[transport, probe]).await
}

impl World {
    /// Publishes at the sender, one after the other.
    pub(crate) async fn publish(&self, envelopes: impl IntoIterator<Item = Envelope>) -> Vec<Receipt> {
        self.sender.app.bus().publish(envelopes.into_iter().collect()).await
    }

    /// Publishes one event and waits until it has arrived: the wire lives.
    pub(crate) async fn is_alive(&self, marker: &str) {
        self.publish([event(marker)]).await;
        self.probe
            .until(&format!("event {marker} arrives"), LIMIT, |arrived, _| {
                arrived.iter().any(|event| *event.id == *marker)
            })
            .await;
    }

    /// Stops the receiver without letting it finish, and starts another of the same name in its place.
    pub(crate) async fn replace_receiver(&mut self, answering: Answering) {
        self.receiver.app.drain(Duration::ZERO).await;
        self.probe = Probe::new(answering);
        self.receiver = receiver(&self.id, &self.wire, self.transport, &self.probe, self.log_bytes).await;
    }

    /// As [`replace_receiver`](Self::replace_receiver), where the link is cut: it is healed for the new one.
    pub(crate) async fn replace_receiver_behind_a_cut(&mut self, answering: Answering) {
        self.receiver.app.drain(Duration::ZERO).await;
        self.wire.relay.heal();
        self.probe = Probe::new(answering);
        self.receiver = receiver(&self.id, &self.wire, self.transport, &self.probe, self.log_bytes).await;
    }

    /// Stops both ends; each must be done in time.
    pub(crate) async fn close(self) {
        for (name, node) in [("sender", &self.sender), ("receiver", &self.receiver)] {
            assert!(node.app.drain(Duration::from_secs(5)).await, "the {name} did not drain within 5 s");
        }
    }
}

impl Node {
    async fn start(
        name: &str,
        log_bytes: usize,
        config: &str,
        transports: &[&'static dyn Transport],
    ) -> Self {
        let health = free_port();
        let text = format!(
            "name: {name}\nhealth: {{listen: \"127.0.0.1:{health}\"}}\n\
             event_log: {{events: {{max_bytes: {log_bytes}}}}}\n{config}\n"
        );
        let table: &'static [&'static dyn Transport] = Vec::leak(transports.to_vec());
        let config = Config::read(&[(format!("{name}.yaml"), text.clone())], &|_| None, table)
            .unwrap_or_else(|errors| {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                panic!("{}\n{text}", errors.join("\n"))
            });
        // With a path: without one it would be the embedded default, whose health port may be taken.
        let app = App::new(config, vec![PathBuf::from(format!("{name}.yaml"))], table, None);
        app.start().await.unwrap_or_else(|error| panic!("{name} starts: {error}"));
        let node = Self { app, health };
        node.is_ready().await;
        node
    }

    async fn is_ready(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = self.health("/readyz").await;
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            assert!(Instant::now() < deadline, "not ready within {LIMIT:?}: {answer}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The sum of a metric's samples for the connector `in` or `out`.
    pub(crate) async fn metric(&self, name: &str, connector: &str) -> u64 {
        let text = self.health("/metrics").await;
        let label = format!("connector=\"{connector}\"");
        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(&label));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    async fn health(&self, path: &str) -> String {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.health)).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        timeout(LIMIT, asked).await.ok().flatten().unwrap_or_default()
    }
}

/// An event with nothing special.
pub(crate) fn event(id: &str) -> Envelope {
    let topic = Topic::parse("out/events").expect("a topic");
    let mut envelope = Envelope::event(topic, id.to_owned(), "/conformance", "dev.meshbus.test.v1");
    envelope.datacontenttype = Some("text/plain".into());
    envelope.data = Bytes::from(format!("data of {id}"));
    envelope
}

/// An event that keeps its place among those of its key.
pub(crate) fn keyed(id: &str, key: &str) -> Envelope {
    let mut envelope = event(id);
    envelope.extensions.set("partitionkey", Value::from(key.to_owned()));
    envelope
}

/// Waits for the fate of a publication.
pub(crate) async fn fate(receipt: &Receipt) -> Outcome {
    timeout(LIMIT, receipt.delivered())
        .await
        .unwrap_or_else(|_| panic!("no answer within {LIMIT:?}: {receipt:?}"))
}

/// Waits until `enough` says so.
pub(crate) async fn until(what: &str, limit: Duration, mut enough: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !enough().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A port nobody has, below the range that outgoing connections use.
pub(crate) fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut tried = std::iter::repeat_with(|| fastrand::u16(18_500..32_000)).take(1000);
    tried.find(free).expect("a free port between 18500 and 32000")
}
