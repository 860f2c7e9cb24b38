//! A CloudEvent through every pair of {HTTP binary, HTTP structured, NATS binary, NATS structured, MQTT 5 binary,
//! MQTT structured}: attributes and data are the same on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use parking_lot::Mutex;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, Publish, PublishProperties};

use crate::bus::{Bus, HttpClient, http_client};
use crate::forms::{Event, STRUCTURED, ce_header};
use crate::ledger::Attributes;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, free_port, until};
use crate::senders::MqttWire;
use crate::webhook::{Act, Webhook};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    HttpBinary,
    HttpStructured,
    NatsBinary,
    NatsStructured,
    MqttBinary,
    MqttStructured,
}

const FORMS: [Form; 6] = [
    Form::HttpBinary,
    Form::HttpStructured,
    Form::NatsBinary,
    Form::NatsStructured,
    Form::MqttBinary,
    Form::MqttStructured,
];

/// What arrived, by form of the sink and id.
type Arrived = Arc<Mutex<BTreeMap<(Form, String), Event>>>;

#[tokio::test(flavor = "multi_thread")]
async fn attributes_and_data_are_the_same_through_every_pair_of_forms() {
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let mosquitto = Mosquitto::start(&scratch).await;
    let arrived = Arrived::default();
    let webhook = Webhook::start(free_port(), |_| Act::Take).await;
    let _nats_sink = tokio::spawn(nats_sink(nats.client().await, arrived.clone()));
    let mut wire = MqttWire::connect(mosquitto.port, "interop-sink").await.expect("a subscriber");
    wire.subscribe("out/#").await.expect("a subscription");
    let _mqtt_sink = tokio::spawn(mqtt_sink(wire, arrived.clone()));
    let port = free_port();
    let _bus = Bus::start(&scratch, &config(port, &nats, &mosquitto, &webhook)).await;
    let mut sources = Sources {
        http: http_client(),
        port,
        nats: nats.client().await,
        mqtt: MqttWire::connect(mosquitto.port, "interop-source").await.expect("a publisher"),
    };
    let mut sent = Vec::new();
    for form in FORMS {
        for event in events(form) {
            sources.send(form, &event).await;
            sent.push((form, event));
        }
    }
    let wanted = sent.len() * FORMS.len();
    until("every event has arrived in every form", Duration::from_secs(20), async || {
        for taken in webhook.taken() {
            let headers = taken.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let (form, event) = match taken.path.rsplit('/').next() {
                Some("structured") => (Form::HttpStructured, Event::from_structured(&taken.body)),
                _ => (Form::HttpBinary, Event::from_headers(headers, taken.body.clone())),
            };
            arrived.lock().insert((form, event.id().to_owned()), event);
        }
        (arrived.lock().len() == wanted).then_some(())
    })
    .await;
    compare(&sent, &arrived.lock());
}

fn compare(sent: &[(Form, Event)], arrived: &BTreeMap<(Form, String), Event>) {
    let mut differences = Vec::new();
    for (from, event) in sent {
        for to in FORMS {
            let Some(found) = arrived.get(&(to, event.id().to_owned())) else {
                differences.push(format!("{from:?} -> {to:?}: {} is missing", event.id()));
                continue;
            };
            let found = found.clone().without_loop_guard();
            if !event.same(&found) {
                differences.push(format!("{from:?} -> {to:?}:\n  sent  {event:?}\n  found {found:?}"));
            }
        }
    }
    let pairs = FORMS.len() * FORMS.len();
    println!("{} events through {pairs} pairs, {} differ", sent.len(), differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Name, attributes beside the required ones, and data.
type Case = (&'static str, &'static [(&'static str, &'static str)], Bytes);

/// The events of one source form, each with what other bindings have trouble with.
fn events(form: Form) -> Vec<Event> {
    let all: Vec<Case> = vec![
        (
            "plain",
            &[("datacontenttype", "application/json")],
            Bytes::from_static(br#"{"a":[1,2.5,null],"b":"c"}"#),
        ),
        (
            "unicode",
            &[
                ("subject", "Euro € 😀"),
                ("comexample", "ä\u{301} \u{200d}٣"),
                ("datacontenttype", "application/json"),
            ],
            Bytes::from("{\"text\":\"Euro € 😀\"}"),
        ),
        (
            "reserved",
            &[("subject", r#"100% "quoted" %41 %25 a+b=c;d,e \ end"#), ("comexample", "two  spaces")],
            Bytes::new(),
        ),
        (
            "edges",
            &[("subject", " led and trailed "), ("datacontenttype", "text/plain")],
            Bytes::from_static(b" text "),
        ),
        (
            "time",
            &[
                ("time", "2026-03-04T05:06:07.123456789+05:30"),
                ("dataschema", "https://example.com/schema?x=%20#frag"),
                ("datacontenttype", "text/plain; charset=utf-8"),
            ],
            Bytes::from("Grüße\r\nzweite Zeile\t\u{1}"),
        ),
        (
            "binary",
            &[("datacontenttype", "application/octet-stream"), ("time", "2026-03-04T05:06:07Z")],
            Bytes::from((0..=255).collect::<Vec<u8>>()),
        ),
        ("empty", &[("datacontenttype", "text/plain")], Bytes::new()),
        ("scalar", &[("datacontenttype", "application/json")], Bytes::from_static(b"\"only text\"")),
        ("null", &[("datacontenttype", "application/vnd.example+json")], Bytes::from_static(b"null")),
        ("xml", &[("datacontenttype", "application/xml")], Bytes::from_static(b"<a b='c'>\xC3\xA9</a>")),
        (
            "types",
            &[
                ("comexampleint", "2147483647"),
                ("comexamplebool", "true"),
                ("comexamplelong", LONG),
                ("partitionkey", "p/1.2"),
            ],
            Bytes::new(),
        ),
    ];
    let events = all.into_iter().map(|(name, extra, data)| {
        let fixed = [
            ("specversion", "1.0".to_owned()),
            ("id", format!("{form:?}/{name}")),
            ("source", "urn:example:pairs/ü?x=1".to_owned()),
            ("type", "com.example.pairs".to_owned()),
        ];
        let extra = extra.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let attributes = fixed.into_iter().chain(extra).map(|(name, value)| (name.to_owned(), value));
        Event { attributes: attributes.collect(), data }
    });
    events.collect()
}

const LONG: &str = "long € long € long € long € long € long € long € long € long € long € long € long € long € long € long € long € long € long € long € long € ";

/// The ways in.
struct Sources {
    http: HttpClient,
    port: u16,
    nats: async_nats::Client,
    mqtt: MqttWire,
}

impl Sources {
    async fn send(&mut self, form: Form, event: &Event) {
        match form {
            Form::HttpBinary | Form::HttpStructured => self.send_http(form, event).await,
            Form::NatsBinary => {
                let mut headers = HeaderMap::new();
                for (name, value) in &event.attributes {
                    headers.insert(format!("ce-{name}"), ce_header(value));
                }
                let sent = self.nats.publish_with_headers("in.nats", headers, event.data.clone());
                sent.await.expect("a NATS publish");
            }
            Form::NatsStructured => {
                let mut headers = HeaderMap::new();
                headers.insert("content-type", STRUCTURED);
                let sent = self.nats.publish_with_headers("in.nats", headers, event.structured());
                sent.await.expect("a NATS publish");
            }
            Form::MqttBinary => {
                let mut attributes = event.attributes.clone();
                let content_type = attributes.remove("datacontenttype");
                self.send_mqtt(attributes, content_type, event.data.clone()).await;
            }
            Form::MqttStructured => {
                let content_type = format!("{STRUCTURED}; charset=utf-8");
                self.send_mqtt(Attributes::new(), Some(content_type), event.structured()).await;
            }
        }
    }

    async fn send_http(&self, form: Form, event: &Event) {
        let mut request = Request::post(format!("http://127.0.0.1:{}/v1/publish?topic=in/http", self.port));
        let body = if form == Form::HttpStructured {
            request = request.header("content-type", STRUCTURED);
            event.structured()
        } else {
            for (name, value) in &event.attributes {
                request = match name.as_str() {
                    "datacontenttype" => request.header("content-type", value),
                    _ => request.header(format!("ce-{name}"), ce_header(value)),
                };
            }
            event.data.clone()
        };
        let response = self.http.request(request.body(Full::new(body)).unwrap()).await.expect("an answer");
        let status = response.status();
        let text = response.into_body().collect().await.expect("an answer").to_bytes();
        assert_eq!(status, 202, "{}: {}", event.id(), String::from_utf8_lossy(&text));
    }

    async fn send_mqtt(&mut self, attributes: Attributes, content_type: Option<String>, payload: Bytes) {
        let properties = PublishProperties {
            user_properties: attributes.into_iter().collect(),
            content_type,
            ..PublishProperties::default()
        };
        let mut publish = Publish::new("in/mqtt", QoS::AtLeastOnce, payload, Some(properties));
        publish.pkid = 1;
        let mut out = BytesMut::new();
        publish.write(&mut out).unwrap();
        self.mqtt.write(&out).await.expect("an MQTT publish");
        let answer = self.mqtt.read().await.expect("an answer");
        assert!(matches!(answer, Packet::PubAck(_)), "{answer:?}");
    }
}

async fn nats_sink(client: async_nats::Client, arrived: Arrived) {
    let mut messages = client.subscribe("out.>").await.expect("a subscription");
    while let Some(message) = messages.next().await {
        let headers = message.headers.unwrap_or_default();
        let (form, event) = if message.subject.ends_with("structured") {
            (Form::NatsStructured, Event::from_structured(&message.payload))
        } else {
            let headers: Vec<_> = headers
                .iter()
                .filter(|(name, _)| name.to_string().to_ascii_lowercase().starts_with("ce-"))
                .filter_map(|(name, values)| Some((name.to_string(), values.first()?.to_string())))
                .collect();
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            (Form::NatsBinary, Event::from_headers(headers, message.payload.clone()))
        };
        arrived.lock().insert((form, event.id().to_owned()), event);
    }
}

async fn mqtt_sink(mut wire: MqttWire, arrived: Arrived) {
    while let Ok(packet) = wire.read().await {
        let Packet::Publish(publish) = packet else { continue };
        let mut ack = BytesMut::new();
        PubAck::new(publish.pkid, None).write(&mut ack).unwrap();
        wire.write(&ack).await.expect("an acknowledgement");
        let properties = publish.properties.unwrap_or_default();
        let (form, event) = if publish.topic.ends_with(b"structured") {
            (Form::MqttStructured, Event::from_structured(&publish.payload))
        } else {
            let content_type = properties.content_type.map(|value| ("datacontenttype".to_owned(), value));
            let attributes = properties.user_properties.into_iter().chain(content_type).collect();
            (Form::MqttBinary, Event { attributes, data: publish.payload })
        };
        arrived.lock().insert((form, event.id().to_owned()), event);
    }
}

/// Six targets, and as no route sends back to where an event came from, a connector for each direction.
fn config(port: u16, nats: &NatsServer, mosquitto: &Mosquitto, webhook: &Webhook) -> String {
    format!(
        r#"
name: pairs
connectors:
  http_in: {{http: {{server: {{listen: "127.0.0.1:{port}"}}}}}}
  http_out: {{http: {{client: {{url: "http://127.0.0.1:{hook}"}}}}}}
  nats_in: {{nats: {{client: {{urls: ["{nats}"], subscribe: [{{subject: "in.>"}}]}}}}}}
  nats_out: {{nats: {{client: {{urls: ["{nats}"]}}}}}}
  mqtt_in: {{mqtt: {{client: {{urls: ["{mqtt}"], version: 5, subscribe: [{{topic: "in/#", qos: 1}}]}}}}}}
  mqtt_out: {{mqtt: {{client: {{urls: ["{mqtt}"], version: 5}}}}}}
routes:
  all:
    from: [http_in, nats_in, mqtt_in]
    to:
      - {{connector: http_out, path: "binary", content_mode: binary}}
      - {{connector: http_out, path: "structured", content_mode: structured}}
      - {{connector: nats_out, subject: "out.binary", content_mode: binary}}
      - {{connector: nats_out, subject: "out.structured", content_mode: structured}}
      - {{connector: mqtt_out, topic: "out/binary", qos: 1, content_mode: binary}}
      - {{connector: mqtt_out, topic: "out/structured", qos: 1, content_mode: structured}}
"#,
        hook = webhook.port,
        nats = nats.url(),
        mqtt = mosquitto.url(),
    )
}
