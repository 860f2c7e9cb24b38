//! Who is connected, as state of the bus.

use crate::core::consumer::Overflow;
use crate::core::selector::{Selector, TopicFilter};
use crate::core::subscription::{Message, Start};
use crate::core::{Change, Key};
use crate::transport::xds::server::testing::*;

#[tokio::test]
async fn a_stream_is_a_connection_before_its_first_response_until_its_end() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    stream.next().await;
    let connection = served.connections(1).await.remove(0);
    let spec = &connection["spec"];
    assert_eq!(
        (&spec["node"], &spec["cluster"], &spec["transport"]),
        (&"n1".into(), &"c1".into(), &"xds".into())
    );
    assert_eq!((&spec["variant"], &spec["scope"]), (&"delta".into(), &"local".into()));
    assert!(spec["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{spec}");
    drop(stream);
    served.connections(0).await;
    served.end().await;
}

#[tokio::test]
async fn a_refusal_is_shown_with_what_was_refused_and_taken_back_with_the_next_acceptance() {
    let served = serve("").await;
    served.put(CLUSTER, "bad", "1").await;
    let filter = TopicFilter::parse("k8s/local/core/v1/Event/#").unwrap();
    let mut events =
        served.bus.subscribe(Selector::topic(filter), Start::Now, 16, Overflow::Disconnect).unwrap();
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    let response = stream.next().await;
    stream.answer(&response, Some("bad: no such thing")).await;
    let Some(Message::Batch(records)) = soon(events.next()).await else { panic!("no event") };
    let event: serde_json::Value = serde_json::from_slice(&records[0].envelope.data).unwrap();
    assert_eq!(
        (&event["reason"], &event["involvedObject"]["kind"]),
        (&"Refused".into(), &"Connection".into())
    );
    assert!(event["message"].as_str().unwrap().contains("bad: no such thing"), "{event}");
    let connection = served.connections(1).await.remove(0);
    assert_eq!(connection["status"]["refused"], "Cluster");
    let refused = &connection["status"]["types"][0]["refused"];
    assert_eq!(
        (&refused["resources"][0]["name"], &refused["nonce"]),
        (&"bad".into(), &response.nonce.into())
    );
    served.put(CLUSTER, "bad", "2").await;
    let response = stream.next().await;
    stream.answer(&response, None).await;
    stream.is_silent(&served).await;
    assert_eq!(served.connections(1).await[0]["status"]["refused"], "");
    served.end().await;
}

#[tokio::test]
async fn connections_are_found_by_topic() {
    let served = serve("").await;
    let filter = TopicFilter::parse("bus/connections/xds/+").unwrap();
    let mut changes =
        served.bus.subscribe(Selector::topic(filter), Start::Now, 16, Overflow::Disconnect).unwrap();
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    stream.next().await;
    drop(stream);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let Some(Message::Batch(records)) = soon(changes.next()).await else { panic!("the end") };
        seen.extend(records.iter().map(|record| match &record.envelope.change {
            Change::Put(key, _) if key.scope == *Key::LOCAL => "put",
            Change::Delete(..) => "delete",
            _ => "other",
        }));
    }
    assert_eq!(seen, ["put", "delete"]);
    served.end().await;
}
