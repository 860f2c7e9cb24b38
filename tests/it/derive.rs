//! Derived state follows its sources, whatever was missed, and goes with its derivation.

use std::time::Duration;

use meshbus::config::Config;
use meshbus::core::bus::Ingress;
use meshbus::core::write::{Operation, Precondition};
use meshbus::core::{Cause, Change, Envelope, Key, Topic};
use meshbus::transport::TRANSPORTS;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::case::Case;

const LIMIT: Duration = Duration::from_secs(20);
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const SERVICE: &str = "core/v1/Service";
const SLICE: &str = "discovery.k8s.io/v1/EndpointSlice";

const NONE: &str = "name: derives\n";
const MESH: &str = "name: derives\nderive: {mesh: {k8s_services_to_xds: {from: local}}}\n";
const LAB: &str =
    "name: derives\nderive: {mesh: {k8s_services_to_xds: {from: local, cluster_domain: lab.test}}}\n";

impl Case {
    async fn reload(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
        self.app.reload().await.unwrap();
    }

    async fn put(&self, type_url: &str, name: &str, object: &Value) {
        let envelope = Envelope::event(Topic::parse("t").unwrap(), "", "", "");
        let envelope = Envelope { data: object.to_string().into(), ..envelope };
        let (key, put) = (Key::new(Key::LOCAL, type_url, name), Operation::Put(Box::new(envelope)));
        self.app.bus().write(key, put, Precondition::Any, false).await.unwrap();
    }

    async fn delete(&self, type_url: &str, name: &str) {
        let key = Key::new(Key::LOCAL, type_url, name);
        self.app.bus().write(key, Operation::Delete, Precondition::Any, false).await.unwrap();
    }

    async fn service(&self, name: &str, port: u16) {
        self.put(SERVICE, name, &json!({"spec": {"ports": [{"port": port}]}})).await;
    }

    async fn slice(&self, name: &str, service: &str, addresses: &[&str]) {
        let endpoints: Vec<Value> = addresses.iter().map(|it| json!({ "addresses": [it] })).collect();
        let labels = json!({"kubernetes.io/service-name": service});
        let slice =
            json!({"metadata": {"labels": labels}, "endpoints": endpoints, "ports": [{"port": 8080}]});
        self.put(SLICE, name, &slice).await;
    }

    /// The last words of the types and the names of all there is in the scope.
    fn made(&self) -> Vec<String> {
        let snapshot = self.app.bus().snapshot();
        let keys = snapshot.range(Some("mesh"), None, None).map(meshbus::core::state::Held::record);
        keys.filter_map(|record| {
            let key = record.envelope.change.key()?;
            Some(format!("{} {}", key.type_url.rsplit('.').next()?, key.name))
        })
        .collect()
    }

    async fn comes_to(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} never came: {:?}", self.made());
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn has(&self, listener: &str) -> bool {
        self.app.bus().get(&Key::new("mesh", LISTENER, listener)).is_some()
    }

    fn endpoints(&self, name: &str) -> String {
        let record = self.app.bus().get(&Key::new("mesh", ENDPOINTS, name));
        record.map(|it| String::from_utf8_lossy(&it.envelope.data).into_owned()).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_follows_services_and_endpoints_and_goes_with_the_service() {
    let case = Case::start(MESH, TRANSPORTS).await;
    case.service("shop/web", 80).await;
    case.slice("shop/web-1", "web", &["10.0.0.1"]).await;
    case.comes_to("an endpoint", |case| case.endpoints("web.shop:80").contains("10.0.0.1")).await;
    assert_eq!(case.made().len(), 6, "{:?}", case.made());
    // A slice that moves to another Service leaves the first.
    case.service("shop/api", 90).await;
    case.slice("shop/web-1", "api", &["10.0.0.1"]).await;
    case.comes_to("the move", |case| {
        case.endpoints("api.shop:90").contains("10.0.0.1")
            && !case.endpoints("web.shop:80").contains("10.0.0.1")
    })
    .await;
    // Another port: what was for the old one goes.
    case.service("shop/web", 81).await;
    case.comes_to("the other port", |case| case.has("web.shop:81") && !case.has("web.shop:80")).await;
    case.delete(SERVICE, "shop/web").await;
    case.comes_to("the end of one", |case| case.made().len() == 6).await;
    assert!(case.has("api.shop.svc.cluster.local:90"), "{:?}", case.made());
    case.delete(SERVICE, "shop/api").await;
    case.comes_to("the end of all", |case| case.made().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_nothing_of_other_settings_and_a_removed_derivation_leaves_nothing() {
    let case = Case::start(NONE, TRANSPORTS).await;
    case.service("shop/web", 80).await;
    // What is there already is made when the derivation comes.
    case.reload(MESH).await;
    case.comes_to("the first", |case| case.has("web.shop.svc.cluster.local:80")).await;
    let before = case.app.bus().get(&Key::new("mesh", LISTENER, "web.shop:80")).unwrap().seq;
    case.reload(LAB).await;
    case.comes_to("the other domain", |case| {
        case.has("web.shop.svc.lab.test:80") && !case.has("web.shop.svc.cluster.local:80")
    })
    .await;
    let after = case.app.bus().get(&Key::new("mesh", LISTENER, "web.shop:80")).unwrap().seq;
    assert_eq!(before, after, "what is made the same is no change");
    case.reload(NONE).await;
    case.comes_to("the end", |case| case.made().is_empty()).await;
    assert_eq!(case.app.bus().ownership("mesh"), None);
    case.reload(MESH).await;
    case.comes_to("it again", |case| case.has("web.shop:80")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_writes_what_is_made_and_what_was_left_there_goes() {
    let case = Case::start(NONE, TRANSPORTS).await;
    let strange = Key::new("mesh", LISTENER, "strange");
    let left = Envelope::put(Topic::parse("xds/mesh/strange").unwrap(), strange.clone(), "1", "x");
    let ingress: Ingress = case.app.bus().ingress("before", "mesh");
    ingress.publish(vec![left]).await;
    assert!(case.has("strange"));
    case.service("shop/web", 80).await;
    case.reload(MESH).await;
    case.comes_to("what is made alone", |case| case.has("web.shop:80") && !case.has("strange")).await;
    let written = case.app.bus().write(strange, Operation::Delete, Precondition::Any, false).await;
    assert!(written.is_err(), "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_told_to_no_route_are_made_of_all_the_same() {
    let text = "name: derives\nconnectors: {cluster: {http: {server: {listen: \"127.0.0.1:0\"}}}}\n\
                derive: {mesh: {k8s_services_to_xds: {from: cluster}}}\n";
    let case = Case::start(text, TRANSPORTS).await;
    let bus = case.app.bus().ingress("cluster", "cluster");
    let key = Key::new("cluster", SERVICE, "shop/web");
    let object = json!({"spec": {"ports": [{"port": 80}]}}).to_string();
    let put = Envelope::put(Topic::parse("t").unwrap(), key.clone(), "1", object);
    bus.restore(vec![put.clone()]).await;
    case.comes_to("what is restored", |case| case.has("web.shop:80")).await;
    bus.resync(None).commit().await;
    case.comes_to("the inferred end", |case| case.made().is_empty()).await;
    bus.publish(vec![put]).await;
    case.comes_to("it again", |case| case.has("web.shop:80")).await;
    let gone = Envelope::delete(Topic::parse("t").unwrap(), key, "1", Cause::Deleted);
    assert!(matches!(gone.change, Change::Delete(..)));
    bus.restore(vec![gone]).await;
    case.comes_to("its quiet end", |case| case.made().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_of_a_scope_that_is_not_listed_yet() {
    let text = "name: derives\nconnectors: {cluster: {k8s: {client: {url: \"http://127.0.0.1:9\", \
                watch: [{type: v1/Service}], cursor: {store: none}}}}}\n\
                derive: {mesh: {k8s_services_to_xds: {from: cluster}}}\n";
    let case = Case::start(text, TRANSPORTS).await;
    let bus = case.app.bus().ingress("cluster", "cluster");
    let key = Key::new("cluster", SERVICE, "shop/web");
    let object = json!({"spec": {"ports": [{"port": 80}]}}).to_string();
    bus.restore(vec![Envelope::put(Topic::parse("t").unwrap(), key, "1", object)]).await;
    let settled = case.app.bus().settled();
    assert!(!settled.contains("cluster") && !settled.contains("mesh"));
    sleep(Duration::from_millis(300)).await;
    assert!(!case.has("web.shop:80"), "half a list is no list");
    settled.settle("cluster".into());
    case.comes_to("all of it", |case| case.has("web.shop:80") && settled.contains("mesh")).await;
}

#[test]
fn mistakes_are_told_at_their_place() {
    let read = |text: &str| {
        let files = [("f".to_owned(), format!("name: n\nderive: {text}\n"))];
        let errors = Config::read(&files, &|_| None, TRANSPORTS).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (text, told) in [
        ("{mesh: {k8s_services_to_xds: {from: nowhere}}}", "there is no scope \"nowhere\""),
        ("{local: {k8s_services_to_xds: {from: local}}}", "has an owner already"),
        ("{mesh: {k8s_service_to_xds: {from: local}}}", "there is no derivation"),
        ("{mesh: {}}", "names 0 derivations"),
        ("[mesh]", "expected a map"),
        ("{mesh: {k8s_services_to_xds: {from: local, cluster_domain: \"a..b\"}}}", "is no domain"),
    ] {
        let errors = read(text);
        assert!(errors.contains(told), "{text}: {errors}");
    }
}
