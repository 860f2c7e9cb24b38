//! What the tests of the server share: a running server, and a client of another maker that sends any request there is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use meshbus_proto::xds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoStreamingRequest, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Server;
use crate::config::Section;
use crate::core::bus::{Bus, BusOptions};
use crate::core::delivery::{Deliveries, Mailbox};
use crate::core::state::StateBound;
use crate::core::stats::ConnectorStats;
use crate::core::write::{Operation, Precondition};
use crate::core::{Cause, Envelope, Error, Key, Seq};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::schema::address;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::services::aggregated;
use crate::transport::xds::config::ServerConfig;
use crate::transport::{Connector, Link, Ready};

pub(super) use crate::transport::xds::codec::kinds::{CLUSTER, ENDPOINTS, LISTENER, ROUTES};

/// Longest any test waits for anything.
const DEADLINE: Duration = Duration::from_secs(10);
/// The type of resources by which a test knows that all before has been told.
const MARK: &str = "test/v1/Mark";

/// Waits for `what`, which must come before the deadline.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("in time")
}

/// A running server.
pub(super) struct Served {
    pub(super) bus: Bus,
    pub(super) address: SocketAddr,
    pub(super) shutdown: Shutdown,
    pub(super) stats: Arc<ConnectorStats>,
    mailbox: Arc<Mailbox>,
    task: JoinHandle<Result<(), Error>>,
}

/// Starts a server named `ads` with these settings, on a free port.
pub(super) async fn serve(settings: &str) -> Served {
    serve_with(StateBound::default(), settings).await
}

/// As [`serve`], of a bus that has just begun: its table may still be filled.
pub(super) async fn serve_unsettled() -> Served {
    start(StateBound::default(), "").await
}

/// As [`serve`], of a bus with this table.
pub(super) async fn serve_with(state: StateBound, settings: &str) -> Served {
    let served = start(state, settings).await;
    served.bus.settled().settle(Key::LOCAL.into());
    served
}

async fn start(state: StateBound, settings: &str) -> Served {
    let bus = Bus::new(BusOptions { name: "test".into(), state, ..BusOptions::default() });
    let section = Section::from_yaml("test.yaml", &format!("listen: 127.0.0.1:0\n{settings}")).unwrap();
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
    let (shutdown, stats) = (link.shutdown.clone(), Arc::clone(&link.stats));
    let task = task::spawn("server", async move { server.run(&mut link).await });
    let address = soon(bound.wait_for(Option::is_some)).await.unwrap().unwrap();
    Served { bus, address, shutdown, stats, mailbox, task }
}

impl Served {
    /// Drains and waits until the server has ended.
    pub(super) async fn end(self) {
        self.shutdown.start_drain();
        self.mailbox.close();
        soon(self.task).await.unwrap().unwrap();
    }

    /// Puts a resource of the scope `local`, and gives its version.
    pub(super) async fn put(&self, type_url: &str, name: &str, data: impl Into<Bytes>) -> String {
        self.write(type_url, name, Some(data.into())).await.to_string()
    }

    /// Deletes a resource of the scope `local`.
    pub(super) async fn delete(&self, type_url: &str, name: &str) -> Seq {
        self.write(type_url, name, None).await
    }

    async fn write(&self, type_url: &str, name: &str, data: Option<Bytes>) -> Seq {
        let key = Key::new(Key::LOCAL, type_url, name);
        let operation = match data {
            None => Operation::Delete,
            Some(data) => {
                let topic = address::topic_of(&key).unwrap();
                Operation::Put(Box::new(Envelope::put(topic, key.clone(), "", data)))
            }
        };
        self.bus.write(key, operation, Precondition::Any, false).await.unwrap().seq
    }

    pub(super) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A stream of the aggregated service, incremental.
    pub(super) async fn delta(&self) -> Delta {
        Driver::open(self.channel().await, aggregated(Variant::Delta)).await.unwrap()
    }

    /// A stream of the aggregated service, state of the world.
    pub(super) async fn sotw(&self) -> Sotw {
        Driver::open(self.channel().await, aggregated(Variant::Sotw)).await.unwrap()
    }

    /// Waits until the one connection shows a value at a place.
    pub(super) async fn shows(&self, place: &str, value: &str) {
        soon(async {
            while self.connections(1).await[0].pointer(place).and_then(|it| it.as_str()) != Some(value) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until as many streams have a client that has said who it is and not ended, beside the one that asks.
    pub(super) async fn connected(&self, n: usize) {
        let mut tool = self.sotw().await;
        soon(async {
            loop {
                let question =
                    DiscoveryRequest { node: None, ..request("istio.io/debug", &["connections"]) };
                tool.send(question).await;
                let answer = tool.next().await;
                let told: serde_json::Value = serde_json::from_slice(&answer.resources[0].value).unwrap();
                if told["totalClients"] == n + 1 {
                    return;
                }
            }
        })
        .await;
    }

    /// Waits until as many streams are connections on the bus.
    pub(super) async fn connections(&self, n: usize) -> Vec<serde_json::Value> {
        soon(async {
            loop {
                let snapshot = self.bus.snapshot();
                let found = snapshot.range(Some(Key::LOCAL), Some("meshbus.dev/v1/Connection"), None);
                let found: Vec<_> = found
                    .map(|held| serde_json::from_slice(&held.record().envelope.data).unwrap())
                    .collect();
                if found.len() == n {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// Puts (with data) and deletes (without) in one publication.
pub(super) async fn at_once(served: &Served, changes: &[(&str, &str, Option<&str>)]) {
    let change = |(type_url, name, data): &(&str, &str, Option<&str>)| {
        let key = Key::new(Key::LOCAL, *type_url, *name);
        let topic = address::topic_of(&key).unwrap();
        match data {
            Some(data) => Envelope::put(topic, key, "", Bytes::copy_from_slice(data.as_bytes())),
            None => Envelope::delete(topic, key, "", Cause::Deleted),
        }
    };
    drop(served.bus.publish(changes.iter().map(change).collect()).await);
}

/// A stream that a test drives by hand.
pub(super) struct Driver<Q, R> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<R>,
    marks: u32,
}

pub(super) type Delta = Driver<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub(super) type Sotw = Driver<DiscoveryRequest, DiscoveryResponse>;

impl<Q, R> Driver<Q, R>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    /// Opens a stream by its path.
    pub(super) async fn open(channel: Channel, path: &str) -> Result<Self, Status> {
        Self::open_as(channel, path, "").await
    }

    /// As [`open`](Self::open), with a token.
    pub(super) async fn open_as(channel: Channel, path: &str, token: &str) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel::<Q>(16);
        let sent =
            stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        soon(client.ready()).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = path.parse().unwrap();
        let codec = ProstCodec::<Q, R>::default();
        let mut request = sent.into_streaming_request();
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let response = soon(client.streaming(request, path, codec)).await?;
        Ok(Self { requests, responses: response.into_inner(), marks: 0 })
    }

    pub(super) async fn send(&mut self, request: Q) {
        soon(self.requests.send(request)).await.expect("the stream is open");
    }

    /// The next response.
    pub(super) async fn next(&mut self) -> R {
        soon(self.responses.message()).await.expect("no status").expect("no end")
    }

    /// The status with which the stream ends.
    pub(super) async fn status(&mut self) -> Status {
        loop {
            match soon(self.responses.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

/// Who a client of these tests says it is.
pub(super) fn node() -> Node {
    Node { id: "n1".into(), cluster: "c1".into(), ..Node::default() }
}

pub(super) fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

impl Delta {
    /// Asks for more and less of a type.
    pub(super) async fn ask(&mut self, type_url: &str, subscribe: &[&str], unsubscribe: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: type_url.into(),
            resource_names_subscribe: texts(subscribe),
            resource_names_unsubscribe: texts(unsubscribe),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// Begins a type with the versions of what the client has.
    pub(super) async fn resume(&mut self, type_url: &str, subscribe: &[&str], versions: &[(&str, &str)]) {
        let versions = versions.iter().map(|(name, version)| (name.to_string(), version.to_string()));
        self.send(DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: type_url.into(),
            resource_names_subscribe: texts(subscribe),
            initial_resource_versions: versions.collect(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// Answers a response; with an error refuses it.
    pub(super) async fn answer(&mut self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(refusal),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// Checks that nothing has been told before what is asked for and put now.
    pub(super) async fn is_silent(&mut self, served: &Served) {
        self.marks += 1;
        let name = format!("/m{}-{}", self.marks, served.bus.snapshot().seq());
        self.ask(MARK, &[&name], &[]).await;
        assert_eq!(said(&self.next().await), (MARK, vec![], vec![&*name]));
        served.put(MARK, &name, "x").await;
        assert_eq!(said(&self.next().await), (MARK, vec![&*name], vec![]));
    }
}

impl Sotw {
    /// Asks for names of a type, answering nothing.
    pub(super) async fn ask(&mut self, type_url: &str, names: &[&str]) {
        self.send(request(type_url, names)).await;
    }

    /// Answers a response, and wants these names; with an error refuses it.
    pub(super) async fn answer(
        &mut self,
        response: &DiscoveryResponse,
        names: &[&str],
        error: Option<&str>,
    ) {
        self.send(DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(refusal),
            ..request(&response.type_url, names)
        })
        .await;
    }

    /// Checks that nothing has been told before what is asked for and put now.
    pub(super) async fn is_silent(&mut self, served: &Served) {
        self.marks += 1;
        let name = format!("/m{}-{}", self.marks, served.bus.snapshot().seq());
        self.ask(MARK, &[&name]).await;
        let response = self.next().await;
        assert_eq!((&*response.type_url, response.resources.len()), (MARK, 0), "{response:?}");
        served.put(MARK, &name, "x").await;
        let response = self.next().await;
        assert_eq!((&*response.type_url, response.resources.len()), (MARK, 1), "{response:?}");
    }
}

pub(super) fn request(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node()),
        type_url: type_url.into(),
        resource_names: texts(names),
        ..DiscoveryRequest::default()
    }
}

fn refusal(message: &str) -> meshbus_proto::google::Status {
    meshbus_proto::google::Status { code: 3, message: message.into(), details: Vec::new() }
}

/// Type, names of resources and names removed, sorted.
pub(super) fn said(response: &DeltaDiscoveryResponse) -> (&str, Vec<&str>, Vec<&str>) {
    let mut names: Vec<_> = response.resources.iter().map(|resource| &*resource.name).collect();
    let mut removed: Vec<_> = response.removed_resources.iter().map(|name| &**name).collect();
    names.sort_unstable();
    removed.sort_unstable();
    (&response.type_url, names, removed)
}

/// Type and values of resources as text, sorted.
pub(super) fn values(response: &DiscoveryResponse) -> (&str, Vec<&str>) {
    let mut values: Vec<_> = response.resources.iter().map(|any| text_of(&any.value)).collect();
    values.sort_unstable();
    (&response.type_url, values)
}

fn text_of(value: &Bytes) -> &str {
    std::str::from_utf8(value).unwrap()
}
