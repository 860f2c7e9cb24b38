//! Transports that need a peer against the conformance suite: core NATS, `JetStream`, MQTT 5 and MQTT 3.1.1.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use meshbus::transport::Transport;
use meshbus::transport::mqtt::Mqtt;
use meshbus::transport::nats::Nats;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

use crate::peers::{Mosquitto, NatsServer};
use crate::process::Scratch;
use crate::senders::MqttWire;
use crate::suite::{Relay, Subject, Traits, Wire, conforms};

/// Larger than the peers take: 8 MB of nats-server, 1 MB of Mosquitto.
const OVERSIZE: usize = 9 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn core_nats_conforms() {
    let scratch = Scratch::new();
    conforms(&[&OverCoreNats { server: NatsServer::start(&scratch).await }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_conforms() {
    let scratch = Scratch::new();
    conforms(&[&OverJetStream { server: NatsServer::start(&scratch).await }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_5_conforms() {
    let scratch = Scratch::new();
    conforms(&[&OverMqtt { broker: limited(&scratch).await, version: "5" }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_3_conforms() {
    let scratch = Scratch::new();
    conforms(&[&OverMqtt { broker: limited(&scratch).await, version: "3.1.1" }]).await;
}

struct OverCoreNats {
    server: NatsServer,
}

impl Subject for OverCoreNats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn transport(&self) -> &'static dyn Transport {
        &Nats
    }

    fn traits(&self) -> Traits {
        Traits { end_to_end: false, redelivers: false, exact_json: true }
    }

    fn wire<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Wire> {
        async move {
            let relay = Relay::before(self.server.port).await;
            let (relayed, direct) = (relay.port, self.server.url());
            Wire {
                egress: format!("{{nats: {{client: {{urls: [\"nats://127.0.0.1:{relayed}\"]}}}}}}"),
                to: format!(", subject: \"{id}.events\""),
                ingress: format!(
                    "{{nats: {{client: {{urls: [\"{direct}\"], subscribe: [{{subject: \"{id}.>\"}}]}}}}}}"
                ),
                relay,
                oversize: (OVERSIZE, "size limit of"),
                send_malformed: unreadable(&self.server, id).await,
            }
        }
        .boxed()
    }
}

struct OverJetStream {
    server: NatsServer,
}

impl Subject for OverJetStream {
    fn name(&self) -> &'static str {
        "jetstream"
    }

    fn transport(&self) -> &'static dyn Transport {
        &Nats
    }

    fn traits(&self) -> Traits {
        Traits { end_to_end: false, redelivers: true, exact_json: true }
    }

    fn wire<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Wire> {
        async move {
            self.server.stream(id, &[&format!("{id}.>")], Duration::from_mins(1)).await;
            let relay = Relay::before(self.server.port).await;
            let url = format!("nats://127.0.0.1:{}", relay.port);
            Wire {
                egress: format!("{{nats: {{client: {{urls: [\"{url}\"], jetstream: {{stream: {id}}}}}}}}}"),
                to: format!(", subject: \"{id}.events\""),
                ingress: format!(
                    "{{nats: {{client: {{urls: [\"{url}\"], subscribe: [{{subject: \"{id}.>\", \
                     jetstream: {{stream: {id}, durable: receiver, ack_wait: 2s}}}}]}}}}}}"
                ),
                relay,
                oversize: (OVERSIZE, "size limit of"),
                send_malformed: unreadable(&self.server, id).await,
            }
        }
        .boxed()
    }
}

/// A message that says it is an event and is none.
async fn unreadable(
    server: &NatsServer,
    id: &str,
) -> Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync> {
    let (client, subject) = (server.client().await, format!("{id}.events"));
    Box::new(move || {
        let (client, subject) = (client.clone(), subject.clone());
        async move {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/cloudevents+json");
            client.publish_with_headers(subject, headers, "{\"id\"".into()).await.expect("a message");
            client.flush().await.expect("a message that has left");
        }
        .boxed()
    })
}

/// A broker that says which packets are too large for it, else only the receiver would know.
async fn limited(scratch: &Scratch) -> Mosquitto {
    let mut broker = Mosquitto::start(scratch).await;
    broker.stop().await;
    let file = scratch.path().join("mosquitto/mosquitto.conf");
    let config = std::fs::read_to_string(&file).expect("its configuration");
    std::fs::write(&file, format!("{config}max_packet_size 1000000\n")).expect("its configuration");
    broker.restart().await;
    broker
}

struct OverMqtt {
    broker: Mosquitto,
    version: &'static str,
}

impl Subject for OverMqtt {
    fn name(&self) -> &'static str {
        if self.version == "5" { "mqtt 5" } else { "mqtt 3.1.1" }
    }

    fn transport(&self) -> &'static dyn Transport {
        &Mqtt
    }

    fn traits(&self) -> Traits {
        // 3.1.1 has structured mode alone.
        Traits { end_to_end: false, redelivers: true, exact_json: self.version == "5" }
    }

    fn wire<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Wire> {
        async move {
            let relay = Relay::before(self.broker.port).await;
            let common = format!("urls: [\"mqtt://127.0.0.1:{}\"], version: {}", relay.port, self.version);
            let (port, topic) = (self.broker.port, id.to_owned());
            let structured = self.version == "5";
            Wire {
                egress: format!("{{mqtt: {{client: {{{common}}}}}}}"),
                to: format!(", topic: \"{id}/events\", qos: 1"),
                ingress: format!(
                    "{{mqtt: {{client: {{{common}, subscribe: [{{topic: \"{id}/#\", qos: 1}}]}}}}}}"
                ),
                relay,
                oversize: (OVERSIZE, "packet"),
                send_malformed: Box::new(move || {
                    publish_unreadable(port, topic.clone(), structured).boxed()
                }),
            }
        }
        .boxed()
    }
}

/// With MQTT 5 a message that says it is an event and is none; 3.1.1 can only have a topic that is none of ours.
async fn publish_unreadable(port: u16, topic: String, structured: bool) {
    let topic =
        if structured { format!("{topic}/events") } else { format!("{topic}/{}", "x".repeat(5000)) };
    let properties = PublishProperties {
        content_type: structured.then(|| "application/cloudevents+json".to_owned()),
        ..PublishProperties::default()
    };
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, "{\"id\"", Some(properties));
    publish.pkid = 1;
    let mut out = BytesMut::new();
    publish.write(&mut out).expect("a packet");
    let mut wire = MqttWire::connect(port, "stranger").await.expect("the broker");
    wire.write(&out).await.expect("a written packet");
    wire.read().await.expect("an acknowledgement");
}
