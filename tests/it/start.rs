//! Starting: nothing that a connector brings in its first moment is missed by a route of the same file.

use std::time::Duration;

use futures_util::future::BoxFuture;
use meshbus::app::App;
use meshbus::config::{Config, ConfigError, Section};
use meshbus::core::delivery::{Assurance, Guarantee, Target};
use meshbus::core::{Envelope, Error};
use meshbus::transport::{Connector, Link, Transport, TransportSchema};
use tokio::time::timeout;

/// Publishes one event the moment it is run, as a broker that has kept some does.
struct Eager;

impl Transport for Eager {
    fn name(&self) -> &'static str {
        "eager"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema { client: Some(true.into()), ..TransportSchema::default() }
    }

    fn client(&self, _name: &str, _section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(Eager))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Err(section.error("", "has no server role"))
    }

    fn target(&self, _connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        Err(section.error("", "is no sink"))
    }
}

impl Connector for Eager {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            let topic = "kept/one".parse().expect("a topic");
            link.bus.publish(vec![Envelope::event(topic, "1", "/eager", "kept.v1")]).await;
            link.ready.up();
            link.shutdown.drain().await;
            Ok(())
        })
    }

    fn ingress(&self) -> Guarantee {
        Guarantee { assurance: Assurance::AtLeastOnce, identity: true, because: "a test".into() }
    }
}

static TRANSPORTS: &[&dyn Transport] = &[&Eager];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_brings_at_once_is_taken_by_every_route_of_the_file() {
    let text = "name: t\n\
                connectors: {a: {eager: {client: {}}}, b: {eager: {client: {}}}}\n\
                routes:\n  first: {from: [a], to: [{bus: seen/a}]}\n  last: {from: [b], to: [{bus: seen/b}]}\n";
    for _ in 0..20 {
        let files = [("test".to_owned(), text.to_owned())];
        let config = Config::read(&files, &|_| None, TRANSPORTS).expect("a valid file");
        let app = App::new(config, Vec::new(), TRANSPORTS, None);
        app.start().await.expect("starts");
        let taken = async {
            while app.router().routes().iter().any(|(_, _, stats)| stats.delivered.get() < 1) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), taken).await.expect("each route has its event");
        assert!(app.drain(Duration::from_secs(5)).await);
    }
}
