//! A publisher over HTTP while the sink is away: it is asked to come again, with the log empty and with it full.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;

use crate::bus::{Bus, http_client};
use crate::faults::seed;
use crate::ledger::Ledger;
use crate::peers::NatsServer;
use crate::process::{Scratch, free_port, until};
use crate::senders::binary_request;
use crate::stored;

/// Records the log holds.
const LOG: usize = 4;
/// Three times as many.
const EVENTS: usize = 3 * LOG;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_sink_is_away_a_publisher_is_asked_to_come_again_and_loses_nothing() {
    let limit = Duration::from_mins(1);
    let scratch = Scratch::new();
    let mut nats = NatsServer::start(&scratch).await;
    nats.stream("LEDGER", &["load.>"], limit * 2).await;
    let port = free_port();
    let bus = Bus::start(&scratch, &config(port, &nats)).await;
    let (client, ledger) = (http_client(), Ledger::new(seed(), EVENTS, 1));
    let post = async |n: usize| {
        let uri = format!("http://127.0.0.1:{port}/v1/publish?topic=load/{}", ledger.key(n));
        ledger.sent(n);
        let request = binary_request(&uri, &ledger.attributes(n), ledger.payload(n));
        let answer = tokio::time::timeout(limit, client.request(request)).await;
        let answer = answer.expect("an answer in time").expect("an answer");
        let (head, body) = answer.into_parts();
        (head, body.collect().await.expect("a body").to_bytes())
    };
    nats.kill();
    for n in 0..EVENTS {
        let (head, body) = post(n).await;
        assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE, "event {n}");
        assert_eq!(head.headers["retry-after"], "1");
        assert_eq!(head.headers["content-type"], "application/problem+json");
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(problem["type"], "urn:meshbus:problem:undelivered");
    }
    let kept =
        bus.metric("meshbus_route_waiting", &[]).await + bus.metric("meshbus_route_in_flight", &[]).await;
    assert_eq!(kept, LOG as u64, "the log holds what it may and the rest was not taken");
    nats.restart().await;
    for n in 0..EVENTS {
        until("it is taken", limit, async || {
            (post(n).await.0.status == StatusCode::ACCEPTED).then_some(())
        })
        .await;
        ledger.acknowledge(n);
    }
    let report = stored::settle(&nats, "LEDGER", &ledger, limit).await;
    report.assert_kept();
    assert_eq!((report.acknowledged, report.duplicates), (EVENTS, 0), "{report}");
}

fn config(port: u16, nats: &NatsServer) -> String {
    format!(
        r#"
name: pressed
event_log: {{events: {{max: {LOG}}}}}
connectors:
  ingest: {{http: {{server: {{listen: "127.0.0.1:{port}", ack_timeout: 300ms}}}}}}
  broker: {{nats: {{client: {{urls: ["{}"], jetstream: {{stream: LEDGER}}}}}}}}
routes:
  all: {{from: [ingest], to: [{{connector: broker, subject: "load.{{topic.1}}"}}]}}
"#,
        nats.url()
    )
}
