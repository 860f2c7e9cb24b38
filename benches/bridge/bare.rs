//! What the program is measured against: loops that do nothing but move messages between the same client
//! crates, with the same window, acknowledgements and headers. No decoding, no routes, no retries.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};

use crate::support::Failure;

/// Most messages under way, as `in_flight` of the program.
const WINDOW: u16 = 1000;
/// Most messages between two echoes, as in the program.
const BATCH: usize = 256;

/// The way out: core NATS with an echo after each batch, which shows that the server has read it.
struct Out {
    client: async_nats::Client,
    echoes: async_nats::Subscriber,
    inbox: String,
}

impl Out {
    async fn connect(port: u16) -> Result<Self, Failure> {
        let client = async_nats::connect(format!("127.0.0.1:{port}")).await?;
        let inbox = client.new_inbox();
        let echoes = client.subscribe(inbox.clone()).await?;
        Ok(Self { client, echoes, inbox })
    }

    async fn send(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<(), Failure> {
        Ok(self.client.publish_with_headers(subject, headers, payload).await?)
    }

    async fn echo(&mut self) -> Result<(), Failure> {
        self.client.publish(self.inbox.clone(), Bytes::new()).await?;
        self.echoes.next().await.map(drop).ok_or_else(|| "the connection is lost".into())
    }
}

/// MQTT, quality of service 1, manual acknowledgements, to core NATS.
pub(crate) async fn mqtt_to_nats(mqtt: u16, nats: u16, system: &str) -> Result<(), Failure> {
    let mut out = Out::connect(nats).await?;
    let mut options = MqttOptions::new("bare", "127.0.0.1", mqtt);
    options.set_manual_acks(true).set_receive_maximum(Some(WINDOW)).set_keep_alive(Duration::from_mins(1));
    let (client, mut connection) = AsyncClient::new(options, usize::from(WINDOW));
    client.subscribe(format!("in/{system}/#"), QoS::AtLeastOnce).await?;
    let mut batch: Vec<Publish> = Vec::with_capacity(BATCH);
    loop {
        let mut event = Some(connection.poll().await?);
        while let Some(found) = event {
            match found {
                Event::Incoming(Incoming::Publish(publish)) => batch.push(publish),
                Event::Incoming(Incoming::SubAck(_)) => say_ready(),
                _ => {}
            }
            let more = if batch.len() < BATCH { connection.poll().now_or_never() } else { None };
            event = more.transpose()?;
        }
        if batch.is_empty() {
            continue;
        }
        for publish in &mut batch {
            let mut headers = HeaderMap::new();
            if let Some(properties) = publish.properties.take() {
                for (name, value) in properties.user_properties {
                    headers.insert(format!("ce-{name}"), value);
                }
                if let Some(media) = properties.content_type {
                    headers.insert("ce-datacontenttype", media);
                }
            }
            let topic = std::str::from_utf8(&publish.topic)?;
            let device = topic.rsplit('/').next().unwrap_or_default();
            out.send(format!("out.{system}.{device}"), headers, publish.payload.clone()).await?;
        }
        out.echo().await?;
        for publish in batch.drain(..) {
            client.try_ack(&publish)?;
        }
    }
}

/// Core NATS to core NATS.
pub(crate) async fn nats_to_nats(nats: u16, system: &str) -> Result<(), Failure> {
    let mut out = Out::connect(nats).await?;
    let client = async_nats::connect(format!("127.0.0.1:{nats}")).await?;
    let mut messages = client.subscribe(format!("in.{system}.>")).await?.ready_chunks(BATCH);
    client.flush().await?;
    say_ready();
    while let Some(batch) = messages.next().await {
        for message in batch {
            let device = message.subject.rsplit('.').next().unwrap_or_default();
            let subject = format!("out.{system}.{device}");
            out.send(subject, message.headers.unwrap_or_default(), message.payload).await?;
        }
        out.echo().await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent waits for this word")]
fn say_ready() {
    println!("ready");
}
