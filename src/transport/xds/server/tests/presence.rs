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
    served.shows("/status/refused", "").await;
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

#[tokio::test]
async fn what_a_client_accepts_is_told_of_each_type_at_once_and_then_now_and_then() {
    let served = serve("status_interval: 50ms").await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    let mut last = stream.next().await;
    stream.answer(&last, None).await;
    served.shows("/status/types/0/accepted", &last.nonce).await;
    for value in ["2", "3"] {
        served.put(CLUSTER, "a", value).await;
        last = stream.next().await;
        stream.answer(&last, None).await;
    }
    served.shows("/status/types/0/accepted", &last.nonce).await;
    served.end().await;
}

#[tokio::test]
async fn who_follows_connections_is_not_told_of_its_own_answers() {
    const CONNECTION: &str = "meshbus.dev/v1/Connection";
    let served = serve("connection_interval: 1ms\nstatus_interval: 1ms").await;
    let mut stream = served.delta().await;
    stream.ask(CONNECTION, &["*"], &[]).await;
    stream.next().await;
    let told = stream.next().await;
    assert_eq!(told.resources.len(), 1, "itself");
    stream.answer(&told, None).await;
    stream.is_silent(&served).await;
    let seq = served.bus.snapshot().seq();
    stream.ask(ENDPOINTS, &["none"], &[]).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["none"]));
    assert_eq!(served.bus.snapshot().seq(), seq);
    served.end().await;
}

#[tokio::test]
async fn those_who_come_at_once_are_told_together_and_who_has_gone_meanwhile_not_at_all() {
    let served = serve("connection_interval: 1s").await;
    let filter = TopicFilter::parse("bus/connections/xds/+").unwrap();
    let mut changes =
        served.bus.subscribe(Selector::topic(filter), Start::Now, 64, Overflow::Disconnect).unwrap();
    let mut streams = Vec::new();
    for n in 0..10 {
        let mut stream = served.delta().await;
        stream.ask(CLUSTER, &["*"], &[]).await;
        stream.next().await;
        if n != 5 {
            streams.push(stream);
        }
    }
    let Some(Message::Batch(first)) = soon(changes.next()).await else { panic!("the end") };
    assert_eq!(first.len(), 1, "the first at once");
    let mut later = Vec::new();
    while later.len() < 8 {
        let Some(Message::Batch(records)) = soon(changes.next()).await else { panic!("the end") };
        later.extend(records.iter().map(|record| matches!(record.envelope.change, Change::Put(..))));
    }
    assert_eq!(later, [true; 8], "nine were there, of whom one is told already");
    assert_eq!(served.stats.following.held_back.get(), 2);
    assert_eq!(served.connections(9).await.len(), 9);
    served.end().await;
}

#[tokio::test]
async fn at_the_end_of_the_server_nobody_is_connected() {
    let served = serve("connection_interval: 1h").await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = served.delta().await;
        stream.ask(CLUSTER, &["*"], &[]).await;
        stream.next().await;
        streams.push(stream);
    }
    let bus = served.bus.clone();
    served.end().await;
    let snapshot = bus.snapshot();
    assert_eq!(snapshot.range(Some(Key::LOCAL), Some("meshbus.dev/v1/Connection"), None).count(), 0);
}
