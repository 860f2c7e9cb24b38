//! Row 23: resources that are asked for by another name.

use bytes::Bytes;
use meshbus_proto::xds::DeltaDiscoveryResponse;

use crate::core::write::{Operation, Precondition};
use crate::core::{Envelope, Key};
use crate::schema::{address, aliases};
use crate::transport::xds::server::testing::*;

const HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";

async fn put(served: &Served, name: &str, other: &[&str]) {
    let key = Key::new(Key::LOCAL, HOST, name);
    let mut envelope = Envelope::put(address::topic_of(&key).unwrap(), key.clone(), "", Bytes::new());
    aliases::set(&mut envelope.extensions, other).unwrap();
    served.bus.write(key, Operation::Put(Box::new(envelope)), Precondition::Any, false).await.unwrap();
}

/// The name of the one resource, with its other names.
fn told(response: &DeltaDiscoveryResponse) -> (&str, Vec<&str>) {
    let [resource] = &response.resources[..] else { panic!("one resource: {response:?}") };
    (&resource.name, resource.aliases.iter().map(|alias| &**alias).collect())
}

#[tokio::test]
async fn row_23_a_resource_is_subscribed_to_and_let_go_by_its_alias() {
    let served = serve("").await;
    put(&served, "r/web", &["r/web.shop", "r/10.0.0.1"]).await;
    let mut stream = served.delta().await;
    stream.ask(HOST, &["r/web.shop"], &[]).await;
    let named = ("r/web", vec!["r/web.shop", "r/10.0.0.1"]);
    assert_eq!(told(&stream.next().await), named);
    put(&served, "r/other", &["r/other.shop"]).await;
    put(&served, "r/web", &["r/web.shop", "r/10.0.0.1"]).await;
    assert_eq!(told(&stream.next().await), named);
    served.delete(HOST, "r/web").await;
    assert_eq!(said(&stream.next().await), (HOST, vec![], vec!["r/web", "r/web.shop"]));
    put(&served, "r/web", &["r/web.shop"]).await;
    assert_eq!(told(&stream.next().await), ("r/web", vec!["r/web.shop"]));
    stream.ask(HOST, &[], &["r/web.shop"]).await;
    stream.is_silent(&served).await;
    put(&served, "r/web", &["r/web.shop"]).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_23_an_alias_that_nobody_has_is_removed_and_told_when_it_is_born() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream.ask(HOST, &["r/web.shop"], &[]).await;
    assert_eq!(said(&stream.next().await), (HOST, vec![], vec!["r/web.shop"]));
    put(&served, "r/web", &["r/web.shop"]).await;
    assert_eq!(told(&stream.next().await), ("r/web", vec!["r/web.shop"]));
    // Who asks later finds it, too; and who asked knows that it is there.
    let mut other = served.delta().await;
    other.ask(HOST, &["r/web.shop"], &[]).await;
    assert_eq!(told(&other.next().await), ("r/web", vec!["r/web.shop"]));
    stream.ask(HOST, &["r/web.shop"], &[]).await;
    assert_eq!(told(&stream.next().await), ("r/web", vec!["r/web.shop"]));
    served.end().await;
}

#[tokio::test]
async fn row_23_a_resource_that_loses_the_alias_it_was_asked_for_by_is_removed() {
    let served = serve("").await;
    put(&served, "r/web", &["r/web.shop", "r/10.0.0.1"]).await;
    let mut stream = served.delta().await;
    stream.ask(HOST, &["r/web.shop"], &[]).await;
    assert_eq!(told(&stream.next().await).0, "r/web");
    let mut both = served.delta().await;
    both.ask(HOST, &["r/web.shop", "r/web"], &[]).await;
    assert_eq!(told(&both.next().await).0, "r/web");
    put(&served, "r/web", &["r/10.0.0.1"]).await;
    // The client has it under its name, and asked for it by the other.
    assert_eq!(said(&stream.next().await), (HOST, vec![], vec!["r/web", "r/web.shop"]));
    assert_eq!(said(&both.next().await), (HOST, vec!["r/web"], vec!["r/web.shop"]));
    // The name that another takes over is not gone.
    put(&served, "r/new", &["r/web.shop"]).await;
    assert_eq!(told(&stream.next().await).0, "r/new");
    put(&served, "r/newer", &["r/web.shop"]).await;
    assert_eq!(told(&stream.next().await).0, "r/newer");
    put(&served, "r/new", &[]).await;
    assert_eq!(said(&stream.next().await), (HOST, vec![], vec!["r/new"]));
    served.delete(HOST, "r/newer").await;
    assert_eq!(said(&stream.next().await), (HOST, vec![], vec!["r/newer", "r/web.shop"]));
    served.end().await;
}

#[tokio::test]
async fn row_23_an_alias_that_was_lost_while_the_client_was_away_is_removed() {
    let served = serve("").await;
    put(&served, "r/web", &["r/web.shop"]).await;
    let position = served.bus.snapshot().seq().to_string();
    put(&served, "r/web", &[]).await;
    let mut stream = served.delta().await;
    stream.resume(HOST, &["r/web.shop"], &[("*", &position)]).await;
    assert_eq!(said(&stream.next().await), (HOST, vec![], vec!["r/web.shop"]));
    served.end().await;
}
