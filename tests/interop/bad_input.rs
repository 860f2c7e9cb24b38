//! Bad input over real sockets: a clear answer to the sender where the protocol has one, a counted metric, and a
//! good event sent right after still arrives.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bus::{Bus, HttpClient, http_client};
use crate::ledger::Ledger;
use crate::peers::{Mosquitto, NatsServer};
use crate::process::{Scratch, free_port, until};
use crate::senders::{MqttWire, binary_request};
use crate::stored;

/// What is expected of a bad request.
enum Answer {
    /// One of these.
    Status(&'static [u16]),
    /// An answer of 4xx, or the end of the connection.
    RefusedOrClosed,
}

struct Setup {
    scratch: Scratch,
    nats: NatsServer,
    mosquitto: Mosquitto,
    bus: Bus,
    port: u16,
    http: HttpClient,
    ledger: Ledger,
    sent: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_and_disturb_nothing() {
    let mut setup = Setup::start().await;
    for (what, request, expected) in requests() {
        // Half-closed where the request is cut off, so that a server waiting for the rest learns that there is none.
        let cut_off = matches!(expected, Answer::RefusedOrClosed);
        let status = ask(setup.port, &request, cut_off).await;
        let good = match expected {
            Answer::Status(allowed) => status.is_some_and(|status| allowed.contains(&status)),
            Answer::RefusedOrClosed => status.is_none_or(|status| (400..500).contains(&status)),
        };
        println!("{what}: {status:?}");
        assert!(good, "{what}: {status:?}");
        setup.good_event().await;
    }
    let malformed = setup.bus.metric("meshbus_connector_malformed_total", &["ingest"]).await;
    let oversize = setup.bus.metric("meshbus_connector_oversize_total", &["ingest"]).await;
    println!("counted: {malformed} malformed, {oversize} oversize");
    assert!(malformed >= 5, "malformed requests are not counted: {malformed}");
    assert!(oversize >= 1, "an oversize request is not counted");
    setup.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_of_brokers_are_counted_and_disturb_nothing() {
    let mut setup = Setup::start().await;
    let mut wire = MqttWire::connect(setup.mosquitto.port, "interop-bad").await.expect("a publisher");
    let mut bad = 0;
    for (what, properties, payload) in mqtt_messages() {
        publish(&mut wire, properties, payload).await;
        bad += 1;
        setup.counted(what, "sensors", bad).await;
        setup.good_event().await;
    }
    let client = setup.nats.client().await;
    bad = 0;
    for (what, headers, payload) in nats_messages() {
        let sent = client.publish_with_headers("in.bad", headers, Bytes::from_static(payload)).await;
        sent.expect("a publish");
        client.flush().await.expect("a flush");
        bad += 1;
        setup.counted(what, "feed", bad).await;
        setup.good_event().await;
    }
    setup.finish().await;
}

impl Setup {
    async fn start() -> Self {
        let scratch = Scratch::new();
        let nats = NatsServer::start(&scratch).await;
        let mosquitto = Mosquitto::start(&scratch).await;
        nats.stream("LEDGER", &["load.>"], Duration::from_mins(2)).await;
        let port = free_port();
        let bus = Bus::start(&scratch, &config(port, &mosquitto, &nats)).await;
        let ledger = Ledger::new(9, 200, 5);
        Self { scratch, nats, mosquitto, bus, port, http: http_client(), ledger, sent: 0 }
    }

    /// Sends the next event of the ledger and sees it accepted.
    async fn good_event(&mut self) {
        let n = self.sent;
        self.sent += 1;
        let uri = format!("http://127.0.0.1:{}/v1/publish?topic=load/{}", self.port, self.ledger.key(n));
        self.ledger.sent(n);
        let request = binary_request(&uri, &self.ledger.attributes(n), self.ledger.payload(n));
        let answer = self.http.request(request).await.expect("an answer to a good event");
        assert_eq!(answer.status(), 202, "a good event");
        self.ledger.acknowledge(n);
    }

    /// Waits until a connector has counted so many malformed messages.
    async fn counted(&self, what: &str, connector: &str, wanted: u64) {
        until(&format!("{what} is counted"), Duration::from_secs(10), async || {
            let count = self.bus.metric("meshbus_connector_malformed_total", &[connector]).await;
            assert!(count <= wanted, "{what}: counted {count} times instead of {wanted}");
            (count == wanted).then_some(())
        })
        .await;
    }

    /// All good events are there and nothing else is, and the bus ends in peace.
    async fn finish(mut self) {
        let report = stored::settle(&self.nats, "LEDGER", &self.ledger, Duration::from_secs(20)).await;
        println!("{report} in {}", self.scratch.path().display());
        report.assert_kept();
        assert!(!self.bus.process.log().contains("panicked"), "{}", self.bus.process.log_tail());
        assert_eq!(self.bus.terminate(Duration::from_secs(30)).await.code(), Some(0));
    }
}

/// Raw requests, each with what is wrong with it.
fn requests() -> Vec<(&'static str, Vec<u8>, Answer)> {
    use Answer::{RefusedOrClosed, Status};
    let post = |headers: &str, body: &str| {
        let length = body.len();
        format!("POST /v1/publish?topic=load/x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
            .into_bytes()
    };
    let ce = "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /x\r\nce-type: t\r\n";
    let structured = "content-type: application/cloudevents+json\r\n";
    let with = |extra: &[u8]| {
        let head = format!(
            "POST /v1/publish?topic=load/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n{ce}ce-subject: a"
        );
        [head.as_bytes(), extra, b"b\r\n\r\n"].concat()
    };
    let bomb = (0..2_000).map(|n| format!("ce-x{n}: {}\r\n", "v".repeat(50))).collect::<Vec<_>>().concat();
    let deep = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/x","type":"t","data":{}"#,
        "[".repeat(100_000)
    );
    vec![
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".to_vec(), RefusedOrClosed),
        ("a truncated head", b"POST / HTT".to_vec(), RefusedOrClosed),
        (
            "a truncated body",
            format!("POST /?topic=load/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n{ce}\r\nshort").into_bytes(),
            RefusedOrClosed,
        ),
        ("no id", post("ce-specversion: 1.0\r\nce-source: /x\r\nce-type: t\r\n", ""), Status(&[400])),
        ("an empty source", post("ce-specversion: 1.0\r\nce-id: 1\r\nce-source:\r\nce-type: t\r\n", ""), Status(&[400])),
        ("an unknown specversion", post("ce-specversion: 9\r\nce-id: 1\r\nce-source: /x\r\nce-type: t\r\n", ""), Status(&[400])),
        ("an illegal attribute name", post(&format!("{ce}ce-a_b: 1\r\n"), ""), Status(&[400])),
        ("a time that is none", post(&format!("{ce}ce-time: yesterday\r\n"), ""), Status(&[400])),
        ("structured and no JSON", post(structured, "{\"specversion\":"), Status(&[400])),
        ("structured and no object", post(structured, "[1,2]"), Status(&[400])),
        ("structured with a nested attribute", post(structured, r#"{"specversion":"1.0","id":{},"source":"/x","type":"t"}"#), Status(&[400])),
        ("structured and endlessly deep", post(structured, &deep), Status(&[400])),
        ("an unknown event format", post("content-type: application/cloudevents+avro\r\n", "x"), Status(&[400, 415])),
        ("a batch that is no list", post("content-type: application/cloudevents-batch+json\r\n", "{}"), Status(&[400])),
        ("an encoding nobody knows", post(&format!("{ce}content-encoding: x-unknown\r\n"), "x"), Status(&[400, 415])),
        ("a gzip that is none", post(&format!("{ce}content-encoding: gzip\r\n"), "no gzip"), Status(&[400, 415])),
        (
            "a body of 100 MiB announced",
            format!("POST /?topic=load/x HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n{ce}\r\n").into_bytes(),
            Status(&[413]),
        ),
        ("a length that is none", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n".to_vec(), Status(&[400])),
        (
            // RFC 9112 section 6.3: the chunks count, or it is refused.
            "a length and chunks",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Status(&[202, 400]),
        ),
        ("a header bomb", post(&bomb, ""), Status(&[400, 431])),
        ("one enormous header", post(&format!("{ce}ce-x: {}\r\n", "v".repeat(1 << 20)), ""), Status(&[400, 431])),
        ("NUL in an attribute", with(b"\0"), Status(&[400])),
        ("a bare CR in an attribute", with(b"\r"), Status(&[400])),
        ("an encoded line break in an attribute", with(b"%0D%0Ace-type: other"), Status(&[400])),
        ("an encoded NUL in an attribute", with(b"%00"), Status(&[400])),
        ("bytes that are no UTF-8 in an attribute", with(b"\xff\xfe"), Status(&[400])),
        ("an encoding of no UTF-8 in an attribute", with(b"%FF%FE"), Status(&[400])),
        ("a topic that is reserved", b"POST /v1/publish?topic=bus/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_vec(), Status(&[400, 403])),
        ("a topic with a wildcard", b"POST /v1/publish?topic=a/%23 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_vec(), Status(&[400])),
        ("another method", b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), Status(&[405, 501])),
    ]
}

/// MQTT messages that announce a CloudEvent and are none.
fn mqtt_messages() -> Vec<(&'static str, PublishProperties, &'static [u8])> {
    let structured = || PublishProperties {
        content_type: Some("application/cloudevents+json".to_owned()),
        ..PublishProperties::default()
    };
    let binary = |pairs: &[(&str, &str)]| PublishProperties {
        user_properties: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..PublishProperties::default()
    };
    vec![
        ("structured and cut off", structured(), br#"{"specversion":"1.0","id":"#),
        ("structured and no UTF-8", structured(), b"{\"specversion\":\"1.0\",\"id\":\"\xff\"}"),
        ("structured without id", structured(), br#"{"specversion":"1.0","source":"/x","type":"t"}"#),
        (
            "structured with a NUL",
            structured(),
            br#"{"specversion":"1.0","id":"a\u0000","source":"/x","type":"t"}"#,
        ),
        ("binary without source", binary(&[("specversion", "1.0"), ("id", "1"), ("type", "t")]), b""),
        (
            "binary with a bad time",
            binary(&[
                ("specversion", "1.0"),
                ("id", "1"),
                ("source", "/x"),
                ("type", "t"),
                ("time", "soon"),
            ]),
            b"",
        ),
    ]
}

/// The same over NATS.
fn nats_messages() -> Vec<(&'static str, HeaderMap, &'static [u8])> {
    let headers = |pairs: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    };
    let structured = || headers(&[("content-type", "application/cloudevents+json")]);
    vec![
        ("structured and cut off", structured(), br#"{"specversion":"1.0","id":"#),
        ("structured and no UTF-8", structured(), b"{\"specversion\":\"1.0\",\"id\":\"\xff\"}"),
        ("structured without id", structured(), br#"{"specversion":"1.0","source":"/x","type":"t"}"#),
        (
            "binary without source",
            headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "t")]),
            b"",
        ),
        (
            "binary with an encoded line break",
            headers(&[
                ("ce-specversion", "1.0"),
                ("ce-id", "a%0Ab"),
                ("ce-source", "/x"),
                ("ce-type", "t"),
            ]),
            b"",
        ),
    ]
}

/// Sends raw bytes and reads the status of the answer; `None` when the connection just ends.
async fn ask(port: u16, request: &[u8], cut_off: bool) -> Option<u16> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the HTTP port");
    let (mut reader, mut writer) = stream.into_split();
    // It may refuse before it has read everything; then writing fails and the answer still counts.
    let write = async {
        let _cut = writer.write_all(request).await;
        if cut_off {
            let _cut = writer.shutdown().await;
        }
    };
    let read = async {
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut part).await {
            answer.extend_from_slice(&part[..read]);
            if answer.len() >= 12 {
                break;
            }
        }
        answer
    };
    let both = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(write, read).1 }).await;
    let answer = both.expect("an answer or the end of the connection");
    let line = std::str::from_utf8(answer.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

async fn publish(wire: &mut MqttWire, properties: PublishProperties, payload: &'static [u8]) {
    let mut publish = Publish::new("load/bad", QoS::AtLeastOnce, payload, Some(properties));
    publish.pkid = 1;
    let mut out = BytesMut::new();
    publish.write(&mut out).unwrap();
    wire.write(&out).await.expect("a publish");
    let answer = wire.read().await.expect("an answer");
    assert!(matches!(answer, Packet::PubAck(_)), "{answer:?}");
}

fn config(port: u16, mosquitto: &Mosquitto, nats: &NatsServer) -> String {
    format!(
        r#"
name: bad-input
connectors:
  sensors: {{mqtt: {{client: {{urls: ["{mqtt}"], version: 5, subscribe: [{{topic: "load/#", qos: 1}}]}}}}}}
  feed: {{nats: {{client: {{urls: ["{nats}"], subscribe: [{{subject: "in.>"}}]}}}}}}
  ingest: {{http: {{server: {{listen: "127.0.0.1:{port}"}}}}}}
  broker: {{nats: {{client: {{urls: ["{nats}"], jetstream: {{stream: LEDGER}}}}}}}}
routes:
  all:
    from: [sensors, feed, ingest]
    dialects: [{{exact: {{type: dev.meshbus.interop.numbered}}}}]
    to: [{{connector: broker, subject: "load.{{topic.1}}"}}]
"#,
        mqtt = mosquitto.url(),
        nats = nats.url(),
    )
}
