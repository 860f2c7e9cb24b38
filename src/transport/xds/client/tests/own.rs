//! The client at this crate's own server: what one bus has, another has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::testing::{CLUSTER, Driven, ENDPOINTS, LISTENER, ROUTES, SCOPE, named, soon};
use crate::config::Section;
use crate::core::bus::{Bus, BusOptions};
use crate::core::delivery::{Deliveries, Mailbox};
use crate::core::state::{Held, StateBound};
use crate::core::stats::ConnectorStats;
use crate::core::write::{Operation, Precondition};
use crate::core::{Envelope, Error, ErrorKind, Key};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::schema::address::topic_of;
use crate::transport::xds::Server;
use crate::transport::xds::codec::cluster::{endpoints_of, of_endpoints};
use crate::transport::xds::config::ServerConfig;
use crate::transport::{Connector, Link, Ready};

/// A bus with a server.
pub(super) struct Source {
    pub(super) bus: Bus,
    pub(super) address: SocketAddr,
    shutdown: Shutdown,
    mailbox: Arc<Mailbox>,
    task: JoinHandle<Result<(), Error>>,
}

impl Source {
    async fn start(listen: &str) -> Self {
        Self::serve(Self::bus(), listen, "").await
    }

    /// A bus that has all it will ever be filled with.
    pub(super) fn bus() -> Bus {
        let bus = Bus::new(BusOptions { name: "source".into(), ..BusOptions::default() });
        bus.settled().settle(Key::LOCAL.into());
        bus
    }

    pub(super) async fn serve(bus: Bus, listen: &str, settings: &str) -> Self {
        let section =
            Section::from_yaml("test.yaml", &format!("listen: \"{listen}\"\n{settings}")).unwrap();
        let mut server = Server::new(ServerConfig::from_section(&section).unwrap());
        let mut bound = server.bound();
        let mailbox = Arc::new(Mailbox::default());
        let mut link = Link {
            name: "ads".into(),
            bus: bus.ingress("ads", Key::LOCAL),
            deliveries: Deliveries(Arc::clone(&mailbox)),
            writes: bus.own("ads".into(), "ads".into(), false),
            kinds: Arc::default(),
            ready: Ready::new(),
            shutdown: Shutdown::new(),
            stats: Arc::new(ConnectorStats::default()),
        };
        let shutdown = link.shutdown.clone();
        let task = task::spawn("server", async move { server.run(&mut link).await });
        let address = soon(bound.wait_for(Option::is_some)).await.unwrap().unwrap();
        Self { bus, address, shutdown, mailbox, task }
    }

    /// Ends the server; its bus stays.
    pub(super) async fn end(self) -> Bus {
        self.shutdown.start_end();
        self.mailbox.close();
        soon(self.task).await.unwrap().unwrap();
        self.bus
    }
}

pub(super) async fn put(bus: &Bus, type_url: &str, name: &str, data: Vec<u8>) {
    let key = Key::new(Key::LOCAL, type_url, name);
    let operation = Operation::Put(Box::new(Envelope::put(topic_of(&key).unwrap(), key.clone(), "", data)));
    bus.write(key, operation, Precondition::Any, false).await.unwrap();
}

async fn delete(bus: &Bus, type_url: &str, name: &str) {
    let key = Key::new(Key::LOCAL, type_url, name);
    bus.write(key, Operation::Delete, Precondition::Any, false).await.unwrap();
}

const MODES: [&str; 2] = ["mode: delta\n", "mode: sotw\n"];

#[tokio::test]
async fn what_one_bus_has_another_has_and_follows() {
    for mode in MODES {
        let source = Source::start("127.0.0.1:0").await;
        put(&source.bus, CLUSTER, "outbound|80||a.b", of_endpoints("outbound|80||a.b", "ea", 1)).await;
        put(&source.bus, ENDPOINTS, "ea", named("ea", 1)).await;
        put(&source.bus, ENDPOINTS, "unasked", named("unasked", 1)).await;
        let settings = format!("{mode}subscribe: [{{type: cds, follow: true}}]");
        let mut client = Driven::new(source.address, &settings);
        client.run();
        client.is_ready().await;
        assert_eq!(client.names(CLUSTER), ["outbound|80||a.b"], "{mode}");
        assert_eq!(client.names(ENDPOINTS), ["ea"], "{mode}");
        put(&source.bus, CLUSTER, "c", of_endpoints("c", "", 1)).await;
        client.has(CLUSTER, &["c", "outbound|80||a.b"]).await;
        // Endpoints that come after their cluster.
        put(&source.bus, ENDPOINTS, "c", named("c", 1)).await;
        client.has(ENDPOINTS, &["c", "ea"]).await;
        delete(&source.bus, CLUSTER, "outbound|80||a.b").await;
        client.has(CLUSTER, &["c"]).await;
        client.has(ENDPOINTS, &["c"]).await;
        client.end().await;
        source.end().await;
    }
}

#[tokio::test]
async fn a_server_that_is_back_tells_what_went_and_nothing_else_changes() {
    for mode in MODES {
        let source = Source::start("127.0.0.1:0").await;
        for name in ["a", "b", "c"] {
            put(&source.bus, CLUSTER, name, named(name, 1)).await;
        }
        let mut client = Driven::new(source.address, &format!("{mode}subscribe: [{{type: cds}}]"));
        client.run();
        client.has(CLUSTER, &["a", "b", "c"]).await;
        drop(client.changes().await);
        let address = source.address.to_string();
        let bus = source.end().await;
        client.ended().await.unwrap_err();
        delete(&bus, CLUSTER, "a").await;
        put(&bus, CLUSTER, "b", named("b", 2)).await;
        let source = Source::serve(bus, &address, "").await;
        client.run();
        client.has(CLUSTER, &["b", "c"]).await;
        client.is_ready().await;
        let mut changes = client.changes().await;
        changes.sort_unstable();
        assert_eq!(changes, ["+b", "-a inferred"], "{mode}");
        client.end().await;
        source.end().await;
    }
}

#[tokio::test]
async fn a_bus_that_is_not_filled_yet_is_not_believed_to_have_all() {
    for mode in MODES {
        let bus = Bus::new(BusOptions { name: "source".into(), ..BusOptions::default() });
        let source = Source::serve(bus, "127.0.0.1:0", "").await;
        put(&source.bus, CLUSTER, "a", of_endpoints("a", "", 1)).await;
        let settings = format!("{mode}subscribe: [{{type: cds, follow: true}}]");
        let mut client = Driven::new(source.address, &settings);
        client.run();
        if mode == MODES[0] {
            client.has(CLUSTER, &["a"]).await;
        }
        // Longer than the pause after which others are believed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!client.looks_ready(), "{mode}");
        put(&source.bus, CLUSTER, "b", named("b", 1)).await;
        source.bus.settled().settle(Key::LOCAL.into());
        client.is_ready().await;
        assert_eq!(client.names(CLUSTER), ["a", "b"], "{mode}");

        // One that begins anew takes nothing away before it is filled.
        let address = source.address.to_string();
        source.end().await;
        client.ended().await.unwrap_err();
        let bus = Bus::new(BusOptions { name: "source".into(), ..BusOptions::default() });
        let source = Source::serve(bus, &address, "").await;
        client.run();
        put(&source.bus, CLUSTER, "b", named("b", 2)).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert_eq!(client.names(CLUSTER), ["a", "b"], "{mode}");
        source.bus.settled().settle(Key::LOCAL.into());
        client.has(CLUSTER, &["b"]).await;
        client.is_ready().await;
        client.end().await;
        source.end().await;
    }
}

#[tokio::test]
async fn objects_of_kubernetes_go_from_bus_to_bus() {
    const DEPLOYMENT: &str = "apps/v1/Deployment";
    for mode in MODES {
        let source = Source::start("127.0.0.1:0").await;
        let object = br#"{"metadata":{"name":"shop","namespace":"web"}}"#;
        put(&source.bus, DEPLOYMENT, "web/shop", object.to_vec()).await;
        let mut client = Driven::new(source.address, &format!("{mode}subscribe: [{{type: {DEPLOYMENT}}}]"));
        client.run();
        client.is_ready().await;
        assert_eq!(client.names(DEPLOYMENT), ["web/shop"], "{mode}");
        let key = Key::new("istiod", DEPLOYMENT, "web/shop");
        let record = client.bus.get(&key).unwrap();
        assert_eq!(record.envelope.datacontenttype.as_deref(), Some("application/json"));
        assert_eq!(record.envelope.topic.as_str(), "k8s/istiod/apps/v1/Deployment/web/shop");
        client.end().await;
        source.end().await;
    }
}

#[tokio::test]
async fn over_tls_client_and_server_prove_themselves() {
    crate::runtime::tls::install_provider();
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
    let tls =
        format!("tls: {{cert: {files}/server.pem, key: {files}/server.key, client_ca: {files}/ca.pem}}");
    let source = Source::serve(Source::bus(), "127.0.0.1:0", &tls).await;
    put(&source.bus, CLUSTER, "a", named("a", 1)).await;
    let client = |tls: &str| {
        let port = source.address.port();
        let settings =
            format!("urls: [\"https://localhost:{port}\"]\nsubscribe: [{{type: cds}}]\ntls: {tls}");
        Driven::with(StateBound::default(), &settings)
    };
    let mut proved =
        client(&format!("{{ca: {files}/ca.pem, cert: {files}/client.pem, key: {files}/client.key}}"));
    proved.run();
    proved.is_ready().await;
    assert_eq!(proved.names(CLUSTER), ["a"]);
    proved.end().await;
    for tls in [
        format!("{{ca: {files}/ca.pem}}"),
        format!("{{ca: {files}/other.pem, cert: {files}/client.pem, key: {files}/client.key}}"),
    ] {
        let mut stranger = client(&tls);
        stranger.run();
        let error = stranger.ended().await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    }
    let mut broken = client("{ca: none.pem}");
    broken.run();
    let error = broken.ended().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("tls.ca: cannot be read"), "{error}");
    source.end().await;
}

#[cfg(feature = "envoy")]
#[tokio::test]
async fn listeners_lead_to_routes_clusters_and_endpoints() {
    use crate::schema::protobuf::Descriptors;
    use serde_json::json;
    let encode = |type_url: &str, json: serde_json::Value| {
        Descriptors::built_in().read(type_url, &json).unwrap().to_vec()
    };
    let http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    for mode in MODES {
        let source = Source::start("127.0.0.1:0").await;
        let rds = json!({"@type": http, "rds": {"routeConfigName": "r1", "configSource": {"ads": {}}}});
        let listener = json!({"name": "l1", "apiListener": {"apiListener": rds}});
        put(&source.bus, LISTENER, "l1", encode(LISTENER, listener)).await;
        let routes = json!({"name": "r1", "virtualHosts": [{"name": "h", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c1"}}]}]});
        put(&source.bus, ROUTES, "r1", encode(ROUTES, routes)).await;
        put(&source.bus, CLUSTER, "c1", of_endpoints("c1", "", 1)).await;
        put(&source.bus, CLUSTER, "unasked", of_endpoints("unasked", "", 1)).await;
        put(&source.bus, ENDPOINTS, "c1", named("c1", 1)).await;
        let settings = format!("{mode}subscribe: [{{type: lds, names: [l1], follow: true}}]");
        let mut client = Driven::new(source.address, &settings);
        client.run();
        client.is_ready().await;
        for (type_url, name) in [(LISTENER, "l1"), (ROUTES, "r1"), (CLUSTER, "c1"), (ENDPOINTS, "c1")] {
            assert_eq!(client.names(type_url), [name], "{mode}{type_url}");
        }
        delete(&source.bus, LISTENER, "l1").await;
        for type_url in [LISTENER, ROUTES, CLUSTER, ENDPOINTS] {
            client.has(type_url, &[]).await;
        }
        client.end().await;
        source.end().await;
    }
}

#[cfg(feature = "envoy")]
#[tokio::test]
async fn secrets_are_followed_where_that_is_allowed_and_nowhere_else() {
    use crate::schema::protobuf::Descriptors;
    use crate::transport::xds::codec::kinds::SECRET;
    use serde_json::json;
    let context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    let secret = json!({"name": "ca", "sdsConfig": {"ads": {}}});
    let config =
        json!({"@type": context, "commonTlsContext": {"validationContextSdsSecretConfig": secret}});
    let cluster = json!({"name": "a", "transportSocket": {"name": "tls", "typedConfig": config}});
    let cluster = Descriptors::built_in().read(CLUSTER, &cluster).unwrap().to_vec();
    for mode in MODES {
        let source = Source::serve(Source::bus(), "127.0.0.1:0", "allow_secrets: true").await;
        put(&source.bus, CLUSTER, "a", cluster.clone()).await;
        for name in ["ca", "unasked"] {
            put(&source.bus, SECRET, name, named(name, 1)[..2 + name.len()].to_vec()).await;
        }
        for (allow, secrets) in [(true, &["ca"][..]), (false, &[])] {
            let settings =
                format!("{mode}allow_secrets: {allow}\nsubscribe: [{{type: cds, follow: true}}]");
            let mut client = Driven::new(source.address, &settings);
            client.run();
            client.is_ready().await;
            assert_eq!(client.names(CLUSTER), ["a"], "{mode}");
            assert_eq!(client.names(SECRET), secrets, "{mode}");
            client.end().await;
        }
        source.end().await;
    }
}

/// Names and bytes that a bus has of a type in a scope.
fn all(bus: &Bus, scope: &str, type_url: &str) -> BTreeMap<String, Bytes> {
    let snapshot = bus.snapshot();
    let range = snapshot.range(Some(scope), Some(type_url), None).map(Held::record);
    let named = range.map(|record| {
        let name = record.envelope.change.key().unwrap().name.to_string();
        (name, record.envelope.data.clone())
    });
    named.collect()
}

/// Some change of the source.
async fn change(bus: &Bus, random: &mut fastrand::Rng) {
    let name = format!("c{}", random.u8(..8));
    let more = random.u8(..4);
    match random.u8(..4) {
        0 => delete_if_there(bus, CLUSTER, &name).await,
        1 => {
            let name = format!("e{}", random.u8(..4));
            put(bus, ENDPOINTS, &name, named(&name, more)).await;
        }
        _ => put(bus, CLUSTER, &name, of_endpoints(&name, &format!("e{}", random.u8(..4)), more)).await,
    }
}

async fn delete_if_there(bus: &Bus, type_url: &str, name: &str) {
    if bus.get(&Key::new(Key::LOCAL, type_url, name)).is_some() {
        delete(bus, type_url, name).await;
    }
}

#[tokio::test]
async fn whatever_happens_a_client_ends_with_what_its_server_has() {
    for (mode, seed) in MODES.into_iter().cycle().zip(0..10) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut source = Source::start("127.0.0.1:0").await;
        let address = source.address.to_string();
        let settings = format!("{mode}subscribe: [{{type: cds, follow: true}}]");
        let mut client = Driven::new(source.address, &settings);
        client.run();
        for _ in 0..60 {
            change(&source.bus, &mut random).await;
            match random.u8(..20) {
                0 => {
                    let bus = source.end().await;
                    change(&bus, &mut random).await;
                    client.ended().await.unwrap_err();
                    source = Source::serve(bus, &address, "").await;
                    client.run();
                }
                1..10 => tokio::task::yield_now().await,
                _ => {}
            }
        }
        let clusters = all(&source.bus, Key::LOCAL, CLUSTER);
        let referred: Vec<String> =
            clusters.values().filter_map(|data| endpoints_of(data)).map(|name| name.to_string()).collect();
        let mut endpoints = all(&source.bus, Key::LOCAL, ENDPOINTS);
        endpoints.retain(|name, _| referred.contains(name));
        let mut have = (BTreeMap::new(), BTreeMap::new());
        let same = timeout(Duration::from_secs(10), async {
            while have != (clusters.clone(), endpoints.clone()) {
                have = (all(&client.bus, SCOPE, CLUSTER), all(&client.bus, SCOPE, ENDPOINTS));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(same.await.is_ok(), "{mode} seed {seed}: {have:?} in place of {clusters:?} {endpoints:?}");
        client.end().await;
        source.end().await;
    }
}
