//! The events of the bridge bench: who publishes them, in a process of its own and on time, and who counts
//! them at the other end.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use tokio::time::{Instant, timeout};

use crate::support::Failure;

/// Bytes of an event's data.
const DATA: usize = 1024;
/// Devices that take turns: each is a topic.
const DEVICES: u64 = 100;
/// How long the last events may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Events a second.
    pub(crate) rate: u64,
    pub(crate) events: u64,
}

/// Attributes that all events have in common; `id` and `subject` are added to each.
const ATTRIBUTES: [(&str, &str); 6] = [
    ("source", "//plant.example.com/line/4"),
    ("type", "com.example.reading.taken.v1"),
    ("time", "2026-03-01T12:30:45.123456Z"),
    ("dataschema", "https://schemas.example.com/reading/v1.json"),
    ("region", "eu-central-1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];
const MEDIA: &str = "application/octet-stream";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
}

/// The data: number, scheduled time, padding.
fn data(number: u64, scheduled: u64) -> Bytes {
    let mut data = BytesMut::with_capacity(DATA);
    data.put_u64(number);
    data.put_u64(scheduled);
    data.put_bytes(b'x', DATA - data.len());
    data.freeze()
}

/// Waits until each event is due and calls `send` with its number and the time it was due at. An open loop: who
/// is late sends at once, and the time counts from when it should have been sent.
fn on_time(load: Load, mut send: impl FnMut(u64, u64) -> Result<(), Failure>) -> Result<(), Failure> {
    let start = now() + 20_000_000;
    for number in 0..load.events {
        let due = start + number * 1_000_000_000 / load.rate;
        let early = due.saturating_sub(now());
        if early > 0 {
            std::thread::sleep(Duration::from_nanos(early));
        }
        send(number, due)?;
    }
    Ok(())
}

/// Publishes to MQTT, quality of service 1, and ends when all is acknowledged.
pub(crate) async fn publish_mqtt(port: u16, system: &str, load: Load) -> Result<(), Failure> {
    let mut options = MqttOptions::new(format!("publisher-{system}"), "127.0.0.1", port);
    options.set_keep_alive(Duration::from_mins(1));
    let (client, mut connection) = AsyncClient::new(options, 4096);
    let acknowledged = tokio::spawn(async move {
        let mut acknowledged = 0;
        while acknowledged < load.events {
            if let Event::Incoming(Incoming::PubAck(_)) = connection.poll().await? {
                acknowledged += 1;
            }
        }
        Ok::<_, rumqttc::v5::ConnectionError>(())
    });
    let (system, runtime) = (system.to_owned(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        on_time(load, |number, due| {
            let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let mut properties = vec![("specversion".to_owned(), "1.0".to_owned())];
            properties.extend(ATTRIBUTES.map(own));
            properties.push(("id".to_owned(), format!("b3f1c7e2-0000-4000-8000-{number:012x}")));
            properties.push(("subject".to_owned(), format!("sensor-{number}")));
            let properties = PublishProperties {
                user_properties: properties,
                content_type: Some(MEDIA.to_owned()),
                ..PublishProperties::default()
            };
            let topic = format!("in/{system}/d{}", number % DEVICES);
            let data = data(number, due);
            let sent =
                client.publish_bytes_with_properties(topic, QoS::AtLeastOnce, false, data, properties);
            Ok(runtime.block_on(sent)?)
        })
    })
    .await??;
    timeout(PATIENCE, acknowledged).await???;
    Ok(())
}

/// Publishes to core NATS.
pub(crate) async fn publish_nats(port: u16, system: &str, load: Load) -> Result<(), Failure> {
    let client = async_nats::connect(format!("127.0.0.1:{port}")).await?;
    let (system, runtime, sender) = (system.to_owned(), tokio::runtime::Handle::current(), client.clone());
    tokio::task::spawn_blocking(move || {
        on_time(load, |number, due| {
            let mut headers = HeaderMap::new();
            headers.insert("ce-specversion", "1.0");
            headers.insert("ce-datacontenttype", MEDIA);
            for (name, value) in ATTRIBUTES {
                headers.insert(format!("ce-{name}"), value);
            }
            headers.insert("ce-id", format!("b3f1c7e2-0000-4000-8000-{number:012x}"));
            headers.insert("ce-subject", format!("sensor-{number}"));
            let subject = format!("in.{system}.d{}", number % DEVICES);
            let sent = sender.publish_with_headers(subject, headers, data(number, due));
            Ok(runtime.block_on(sent)?)
        })
    })
    .await??;
    client.flush().await?;
    Ok(())
}

/// Counts what arrives at the sink, and how late.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Microseconds from the time an event was due at the publisher.
    pub(crate) latency: Histogram<u64>,
    pub(crate) duplicates: u64,
}

/// Reads the events of one load; an error when one has not come in time.
pub(crate) async fn count(mut sink: async_nats::Subscriber, load: Load) -> Result<Counted, Failure> {
    let mut counted = Counted { latency: Histogram::new(3)?, duplicates: 0 };
    let mut seen = HashSet::new();
    let limit = Duration::from_millis(load.events * 1000 / load.rate) + PATIENCE;
    let deadline = Instant::now() + limit;
    while (seen.len() as u64) < load.events {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = timeout(left, sink.next()).await;
        let Ok(Some(message)) = message else {
            return Err(format!("{} of {} events came within {limit:?}", seen.len(), load.events).into());
        };
        let field = |at: usize| {
            let bytes = message.payload.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_be_bytes)
        };
        let (Some(number), Some(due)) = (field(0), field(8)) else {
            return Err("the sink got what was not sent".into());
        };
        if message.headers.as_ref().is_none_or(|headers| headers.len() < ATTRIBUTES.len() + 4) {
            return Err(format!("attributes are missing: {:?}", message.headers).into());
        }
        if !seen.insert(number) {
            counted.duplicates += 1;
            continue;
        }
        counted.latency.saturating_record(now().saturating_sub(due) / 1000);
    }
    Ok(counted)
}
