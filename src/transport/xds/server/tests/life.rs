//! Row 21: resources that hold for a time only.

use bytes::Bytes;
use meshbus_proto::xds::{DeltaDiscoveryRequest, Node};

use crate::core::write::{Operation, Precondition};
use crate::core::{Envelope, Key};
use crate::schema::{address, ttl};
use crate::transport::xds::server::testing::*;

async fn put(served: &Served, name: &str, millis: Option<u64>) -> String {
    let key = Key::new(Key::LOCAL, CLUSTER, name);
    let mut envelope = Envelope::put(address::topic_of(&key).unwrap(), key.clone(), "", Bytes::new());
    if let Some(millis) = millis {
        ttl::set(&mut envelope.extensions, std::time::Duration::from_millis(millis)).unwrap();
    }
    let put = Operation::Put(Box::new(envelope));
    served.bus.write(key, put, Precondition::Any, false).await.unwrap().version.to_string()
}

fn ask(features: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { client_features: texts(features), ..node() }),
        type_url: CLUSTER.into(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn row_21_what_has_a_time_to_live_is_told_again_without_its_message() {
    let served = serve("").await;
    let version = put(&served, "short", Some(90)).await;
    put(&served, "plain", None).await;
    let mut stream = served.delta().await;
    stream.send(ask(&["xds.config.supports-resource-ttl"])).await;
    let first = stream.next().await;
    assert_eq!(said(&first), (CLUSTER, vec!["plain", "short"], vec![]));
    let lives: Vec<_> = first.resources.iter().map(|resource| (&*resource.name, resource.ttl)).collect();
    let ninety = Some(meshbus_proto::google::Duration { seconds: 0, nanos: 90_000_000 });
    assert_eq!(lives, [("plain", None), ("short", ninety)]);
    for _ in 0..3 {
        let beat = stream.next().await;
        let [resource] = &beat.resources[..] else { panic!("one word: {beat:?}") };
        assert_eq!((&*resource.name, &resource.version, resource.ttl), ("short", &version, ninety));
        assert_eq!(resource.resource, None);
    }
    // What has none any more is told no more, and neither is what nobody wants.
    put(&served, "short", None).await;
    loop {
        let told = stream.next().await;
        if told.resources[0].resource.is_some() {
            assert_eq!((&*told.resources[0].name, told.resources[0].ttl), ("short", None));
            break;
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_21_clients_that_know_no_time_to_live_are_told_none() {
    let served = serve("").await;
    put(&served, "short", Some(10)).await;
    let mut stream = served.delta().await;
    stream.send(ask(&[])).await;
    assert_eq!(stream.next().await.resources[0].ttl, None);
    put(&served, "short", Some(20)).await;
    assert_eq!(stream.next().await.resources[0].ttl, None);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    stream.is_silent(&served).await;
    served.end().await;
}
