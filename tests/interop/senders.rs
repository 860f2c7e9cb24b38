//! The senders of a fault test: an MQTT 5 publisher and an HTTP client that send again what nobody acknowledged.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, Filter, Packet, PubAckReason, Publish,
    PublishProperties, Subscribe,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bus::http_client;
use crate::faults::Progress;
use crate::forms::ce_header;
use crate::ledger::{Attributes, Ledger};

/// Publishes every event of the ledger at QoS 1 to `load/KEY`, MQTT 5 binary mode.
///
/// One session after the other: when a connection ends, the next one publishes again, in order, what saw no
/// acknowledgement. Written on the bare codec, because it has to know of every packet whether it was acknowledged.
pub(crate) struct MqttPublisher {
    pub(crate) port: u16,
    /// Unacknowledged publishes on the wire.
    pub(crate) window: usize,
    /// How far it may be ahead of what the sink stored, so that it is still at work when faults come.
    pub(crate) lead: u64,
}

impl MqttPublisher {
    /// Returns when all are acknowledged.
    pub(crate) async fn run(&self, ledger: Arc<Ledger>, progress: Progress) {
        let mut todo: VecDeque<usize> = (0..ledger.events()).collect();
        while !todo.is_empty() {
            if self.session(&ledger, &progress, &mut todo).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            todo.retain(|n| !ledger.is_acknowledged(*n));
        }
    }

    /// One connection: publishes from the front of `todo` until all is acknowledged or the connection ends.
    async fn session(
        &self,
        ledger: &Ledger,
        progress: &Progress,
        todo: &mut VecDeque<usize>,
    ) -> io::Result<()> {
        let mut wire = MqttWire::connect(self.port, "interop-publisher").await?;
        let mut next = 0;
        let mut open = HashMap::<u16, usize>::new();
        let mut pkid = 0u16;
        loop {
            let mut out = BytesMut::new();
            while next < todo.len()
                && open.len() < self.window
                && todo[next] as u64 <= progress.stored() + self.lead
            {
                pkid = if pkid == u16::MAX { 1 } else { pkid + 1 };
                let n = todo[next];
                open.insert(pkid, n);
                publish(ledger, n, pkid).write(&mut out).map_err(io::Error::other)?;
                ledger.sent(n);
                next += 1;
            }
            wire.write(&out).await?;
            if next == todo.len() && open.is_empty() {
                return Ok(());
            }
            // The pause ends also when the sink has caught up and more may be sent.
            match tokio::time::timeout(Duration::from_millis(20), wire.read()).await {
                Ok(packet) => {
                    if let Packet::PubAck(ack) = packet?
                        && let Some(n) = open.remove(&ack.pkid)
                    {
                        let good = matches!(
                            ack.reason,
                            PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                        );
                        assert!(good, "mosquitto refused event {n}: {:?}", ack.reason);
                        ledger.acknowledge(n);
                    }
                }
                Err(_) => wire.ping_when_idle().await?,
            }
        }
    }
}

fn publish(ledger: &Ledger, n: usize, pkid: u16) -> Publish {
    let mut attributes = ledger.attributes(n);
    let content_type = attributes.remove("datacontenttype");
    let properties = PublishProperties {
        user_properties: attributes.into_iter().collect(),
        content_type,
        ..PublishProperties::default()
    };
    let topic = format!("load/{}", ledger.key(n));
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, ledger.payload(n), Some(properties));
    publish.pkid = pkid;
    publish
}

/// An MQTT 5 connection on the bare codec.
#[derive(Debug)]
pub(crate) struct MqttWire {
    stream: TcpStream,
    buffer: BytesMut,
    early: VecDeque<Packet>,
    idle: u32,
}

impl MqttWire {
    /// A new session that ends with the connection.
    pub(crate) async fn connect(port: u16, client_id: &str) -> io::Result<Self> {
        Self::open(port, client_id, None).await
    }

    /// A session the broker keeps for an hour, with at most `receive_maximum` unacknowledged publishes to us.
    pub(crate) async fn resume(port: u16, client_id: &str, receive_maximum: u16) -> io::Result<Self> {
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(3600);
        properties.receive_maximum = Some(receive_maximum);
        Self::open(port, client_id, Some(properties)).await
    }

    async fn open(port: u16, client_id: &str, properties: Option<ConnectProperties>) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut wire =
            Self { stream, buffer: BytesMut::with_capacity(64 * 1024), early: VecDeque::new(), idle: 0 };
        let clean_start = properties.is_none();
        let connect = Connect { keep_alive: 60, client_id: client_id.to_owned(), clean_start, properties };
        let mut out = BytesMut::new();
        connect.write(&None, &None, &mut out).map_err(io::Error::other)?;
        wire.write(&out).await?;
        match tokio::time::timeout(Duration::from_secs(5), wire.read()).await?? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(wire),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Subscribes at QoS 1 and waits for the answer.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
        subscribe.pkid = 1;
        let mut out = BytesMut::new();
        subscribe.write(&mut out).map_err(io::Error::other)?;
        self.write(&out).await?;
        // What a resumed session holds may come before the answer.
        let mut early = VecDeque::new();
        loop {
            match self.read().await? {
                Packet::SubAck(_) => break,
                packet => early.push_back(packet),
            }
        }
        self.early = early;
        Ok(())
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.idle = 0;
        self.stream.write_all(bytes).await
    }

    /// The next packet. May be dropped while it waits.
    pub(crate) async fn read(&mut self) -> io::Result<Packet> {
        if let Some(packet) = self.early.pop_front() {
            return Ok(packet);
        }
        loop {
            match Packet::read(&mut self.buffer, None) {
                Ok(packet) => return Ok(packet),
                Err(CodecError::InsufficientBytes(_)) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn ping_when_idle(&mut self) -> io::Result<()> {
        self.idle += 1;
        // 20 ms each: after ten seconds, well within the keep alive.
        if self.idle >= 500 {
            self.write(&[0xC0, 0x00]).await?;
        }
        Ok(())
    }
}

/// Posts every event of the ledger in binary mode with `topic=load/KEY`, one request at a time for each key.
/// 503 and broken connections are tried again; any other answer than 202 is the test's failure.
pub(crate) struct HttpSender {
    pub(crate) port: u16,
    /// Requests on the way at once.
    pub(crate) workers: usize,
    /// As for [`MqttPublisher`].
    pub(crate) lead: u64,
}

impl HttpSender {
    /// Returns when all are acknowledged.
    pub(crate) async fn run(&self, ledger: Arc<Ledger>, progress: Progress) {
        let mut work = vec![Vec::new(); self.workers];
        for (key, events) in ledger.by_key().into_iter().enumerate() {
            work[key % self.workers].extend(events);
        }
        let mut tasks = tokio::task::JoinSet::new();
        for mut events in work {
            events.sort_unstable();
            let (ledger, progress, port, lead) = (ledger.clone(), progress.clone(), self.port, self.lead);
            tasks.spawn(async move {
                let client = http_client();
                for n in events {
                    while n as u64 > progress.stored() + lead {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    ledger.sent(n);
                    while let Err(pause) = post(&client, port, &ledger, n).await {
                        tokio::time::sleep(pause).await;
                        ledger.sent(n);
                    }
                    ledger.acknowledge(n);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a sender");
        }
    }
}

/// One attempt. `Err` is how long to wait before the next.
async fn post(
    client: &crate::bus::HttpClient,
    port: u16,
    ledger: &Ledger,
    n: usize,
) -> Result<(), Duration> {
    let uri = format!("http://127.0.0.1:{port}/v1/publish?topic=load/{}", ledger.key(n));
    let request = binary_request(&uri, &ledger.attributes(n), ledger.payload(n));
    // Longer than the bus may hold a request while its sink is away.
    let answer = tokio::time::timeout(Duration::from_mins(1), client.request(request)).await;
    let Ok(Ok(response)) = answer else { return Err(Duration::from_millis(50)) };
    let status = response.status();
    let Ok(body) = response.into_body().collect().await else { return Err(Duration::from_millis(50)) };
    match status {
        StatusCode::ACCEPTED => Ok(()),
        // Shorter than its Retry-After, to press harder.
        StatusCode::SERVICE_UNAVAILABLE => Err(Duration::from_millis(100)),
        other => panic!("event {n}: {other} {}", String::from_utf8_lossy(&body.to_bytes())),
    }
}

/// A CloudEvent in HTTP binary mode.
pub(crate) fn binary_request(uri: &str, attributes: &Attributes, payload: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::post(uri);
    for (name, value) in attributes {
        request = match name.as_str() {
            "datacontenttype" => request.header("content-type", value),
            _ => request.header(format!("ce-{name}"), ce_header(value)),
        };
    }
    request.body(Full::new(payload)).expect("a request")
}
