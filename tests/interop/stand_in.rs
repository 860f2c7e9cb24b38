//! A bare MQTT → JetStream loop that stands in for the bus, to prove that the harness sees a loss where there is
//! one (the mutant acknowledges before it delivers) and none where there is none (the honest one, after).

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, context::Context};
use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, Publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::Scratch;
use crate::senders::MqttWire;

/// Unacknowledged publishes Mosquitto may have on the way to it.
pub(crate) const WINDOW: u16 = 100;

/// All a header value may hold unencoded here: letters, digits and what ids are made of.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'/');

/// Starts one. `early` is the mutant.
pub(crate) async fn start(scratch: &Scratch, early: bool, mosquitto: &Mosquitto, nats: &NatsServer) -> Bus {
    let env = [
        ("STAND_IN_MQTT", mosquitto.port.to_string()),
        ("STAND_IN_NATS", nats.url()),
        ("STAND_IN_EARLY", early.to_string()),
    ];
    Bus::stand_in(scratch, "stand_in::plays_the_bus", &env).await
}

#[test]
#[ignore = "the child process of another test, not a test"]
fn plays_the_bus() {
    let var = |name| std::env::var(name).ok();
    let (Some(health), Some(mqtt), Some(nats)) =
        (var("STAND_IN_HEALTH"), var("STAND_IN_MQTT"), var("STAND_IN_NATS"))
    else {
        return;
    };
    let early = var("STAND_IN_EARLY").as_deref() == Some("true");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client =
            async_nats::ConnectOptions::new().retry_on_initial_connect().connect(nats).await.unwrap();
        let context = jetstream::new(client);
        let mut answers = None;
        let (queue, work) = mpsc::channel(10_000);
        tokio::spawn(deliver(work, context.clone()));
        loop {
            let Ok(mut wire) = MqttWire::resume(mqtt.parse().unwrap(), "stand-in", WINDOW).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if wire.subscribe("load/#").await.is_err() {
                continue;
            }
            answers.get_or_insert_with(|| tokio::spawn(answer_health(health.clone())));
            let _broken = bridge(&mut wire, early, &queue, &context).await;
        }
    });
}

/// Moves publishes until the connection breaks.
async fn bridge(
    wire: &mut MqttWire,
    early: bool,
    queue: &mpsc::Sender<Publish>,
    context: &Context,
) -> std::io::Result<()> {
    loop {
        let Packet::Publish(publish) = wire.read().await? else { continue };
        let mut ack = BytesMut::new();
        PubAck::new(publish.pkid, None).write(&mut ack).map_err(std::io::Error::other)?;
        if early {
            wire.write(&ack).await?;
            queue.send(publish).await.map_err(std::io::Error::other)?;
        } else {
            store(context, &publish).await;
            wire.write(&ack).await?;
        }
    }
}

async fn deliver(mut work: mpsc::Receiver<Publish>, context: Context) {
    while let Some(publish) = work.recv().await {
        store(&context, &publish).await;
    }
}

/// Publishes to JetStream until it says that it has it.
async fn store(context: &Context, publish: &Publish) {
    let topic = String::from_utf8_lossy(&publish.topic).replace('/', ".");
    let mut headers = HeaderMap::new();
    let properties = publish.properties.clone().unwrap_or_default();
    let content_type = properties.content_type.map(|value| ("datacontenttype".to_owned(), value));
    for (name, value) in properties.user_properties.into_iter().chain(content_type) {
        headers.insert(format!("ce-{name}"), utf8_percent_encode(&value, ENCODED).to_string());
    }
    loop {
        let sent =
            context.publish_with_headers(topic.clone(), headers.clone(), publish.payload.clone()).await;
        if let Ok(stored) = sent
            && matches!(tokio::time::timeout(Duration::from_secs(1), stored).await, Ok(Ok(_)))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// 200 to whatever is asked.
async fn answer_health(port: String) {
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 1024];
        let _asked = stream.read(&mut request).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _answered = stream.write_all(answer).await;
    }
}
