//! How soon a client that connects is seen by whoever follows connections.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::envoy::{Envoy, Variant};
use super::grpc::{Caller, Language};
use super::rig::{LIMIT, Mesh};
use crate::bus::http_client;
use crate::process::Scratch;
use crate::suite::Relay;

/// What server-sent events tell.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    async fn follow(web: u16) -> Self {
        let uri = format!("http://127.0.0.1:{web}/v1/subscribe?filter=bus/connections/%23");
        let answer = http_client().get(uri.parse().expect("an address")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The moment at which a node was told of.
    async fn told_of(&mut self, node: &str) -> Instant {
        let wanted = format!("\"node\":\"{node}\"");
        while !self.text.contains(&wanted) {
            let frame = timeout(LIMIT, self.body.frame()).await.expect("an event in time");
            let frame = frame.expect("the subscription goes on").expect("the subscription goes on");
            let data = frame.into_data().expect("data");
            self.text.push_str(&String::from_utf8_lossy(&data));
        }
        Instant::now()
    }
}

/// The moment at which another connection has come.
async fn connected(relay: &Relay, before: u32) -> Instant {
    let deadline = Instant::now() + LIMIT;
    while relay.passed() == before {
        assert!(Instant::now() < deadline, "nobody connects");
        tokio::task::yield_now().await;
    }
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_is_told_to_those_who_follow_connections() {
    let scratch = Scratch::new();
    let mesh = Mesh::start(&scratch).await;
    let relay = Relay::before(mesh.xds).await;
    let mut events = Events::follow(mesh.web).await;
    for language in [Language::Python, Language::Node] {
        let node = format!("notice-{language:?}");
        let before = relay.passed();
        let mut caller = Caller::start(&scratch, &node, language, relay.port);
        caller.ask("svc", 1).await;
        let (from, to) = tokio::join!(connected(&relay, before), events.told_of(&node));
        println!("gRPC of {language:?}: told {:?} after it connected", to.saturating_duration_since(from));
    }
    for variant in [Variant::Delta, Variant::Sotw] {
        let node = format!("notice-{variant:?}");
        let before = relay.passed();
        let (from, to, _envoy) = tokio::join!(
            connected(&relay, before),
            events.told_of(&node),
            Envoy::start(&scratch, &node, variant, relay.port)
        );
        println!("Envoy, {variant:?}: told {:?} after it connected", to.saturating_duration_since(from));
    }
}
