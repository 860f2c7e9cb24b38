//! What the tests of the client share: a running client, and a server of another maker that says whatever a test wants.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, stream};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshbus_proto::google::Any;
use meshbus_proto::meshbus::{UpdateRequest, UpdateResponse};
use meshbus_proto::xds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Client;
use crate::config::Section;
use crate::core::bus::{Bus, BusOptions};
use crate::core::consumer::Overflow;
use crate::core::delivery::{Deliveries, Mailbox};
use crate::core::selector::Selector;
use crate::core::state::{Held, StateBound, version_of};
use crate::core::stats::ConnectorStats;
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::{Change, Error, Seq};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::schema::registry::Registry;
use crate::transport::xds::codec::services::UPDATE_ONCE;
use crate::transport::xds::config::ClientConfig;
use crate::transport::{Connector, Link, Ready};

pub(super) use crate::transport::xds::codec::kinds::{CLUSTER, ENDPOINTS, LISTENER, ROUTES};

/// Longest any test waits for anything.
const DEADLINE: Duration = Duration::from_secs(10);
/// The scope of the clients of these tests.
pub(super) const SCOPE: &str = "istiod";

/// Waits for `what`, which must come before the deadline.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("in time")
}

/// A run, with what it leaves.
type Run = (Client, Link, Result<(), Error>);

/// A client that is run by a test in place of the supervisor.
pub(super) struct Driven {
    pub(super) bus: Bus,
    pub(super) kinds: Arc<Registry>,
    pub(super) stats: Arc<ConnectorStats>,
    pub(super) ready: Ready,
    pub(super) shutdown: Shutdown,
    mailbox: Arc<Mailbox>,
    changes: Subscription,
    /// Between runs.
    idle: Option<(Client, Link)>,
    task: Option<JoinHandle<Run>>,
}

impl Driven {
    /// A client of the server at `address` with these settings, which is not run yet.
    pub(super) fn new(address: SocketAddr, settings: &str) -> Self {
        Self::with(StateBound::default(), &format!("urls: [\"http://{address}\"]\n{settings}"))
    }

    /// As [`new`](Self::new), on a bus with this table, all settings given.
    pub(super) fn with(state: StateBound, settings: &str) -> Self {
        let bus = Bus::new(BusOptions { name: "test".into(), state, ..BusOptions::default() });
        let changes = bus.subscribe(
            Selector { scope: Some(SCOPE.into()), ..Selector::default() },
            Start::Now,
            10_000,
            Overflow::Block,
        );
        let section = Section::from_yaml("test.yaml", settings).unwrap();
        let client = Client::new(ClientConfig::from_section(&section).unwrap());
        let mailbox = Arc::new(Mailbox::default());
        let link = Link {
            name: SCOPE.into(),
            bus: bus.ingress(SCOPE, SCOPE),
            deliveries: Deliveries(Arc::clone(&mailbox)),
            writes: bus.own(SCOPE.into(), SCOPE.into(), true),
            kinds: Arc::default(),
            ready: Ready::new(),
            shutdown: Shutdown::new(),
            stats: Arc::new(ConnectorStats::default()),
        };
        let kinds = Arc::clone(&link.kinds);
        let (stats, ready, shutdown) = (Arc::clone(&link.stats), link.ready.clone(), link.shutdown.clone());
        let idle = Some((client, link));
        Self { bus, kinds, stats, ready, shutdown, mailbox, changes: changes.unwrap(), idle, task: None }
    }

    /// Takes other settings, as a reload does.
    pub(super) fn configure(&mut self, address: SocketAddr, settings: &str) {
        let text = format!("urls: [\"http://{address}\"]\n{settings}");
        let section = Section::from_yaml("test.yaml", &text).unwrap();
        let (client, _) = self.idle.as_mut().expect("no run is under way");
        *client = Client::new(ClientConfig::from_section(&section).unwrap());
    }

    /// Begins a run.
    pub(super) fn run(&mut self) {
        let (mut client, mut link) = self.idle.take().expect("no run is under way");
        self.task = Some(task::spawn("client", async move {
            let result = client.run(&mut link).await;
            (client, link, result)
        }));
    }

    /// Waits for the end of a run.
    pub(super) async fn ended(&mut self) -> Result<(), Error> {
        let (client, link, result) = soon(self.task.take().expect("a run")).await.expect("no panic");
        self.idle = Some((client, link));
        result
    }

    /// Drains and waits until the run has ended in order.
    pub(super) async fn end(mut self) {
        self.shutdown.start_drain();
        self.mailbox.close();
        self.ended().await.unwrap();
    }

    /// Waits until it is ready.
    pub(super) async fn is_ready(&self) {
        soon(self.ready.watch().wait_for(Result::is_ok)).await.unwrap();
    }

    pub(super) fn looks_ready(&self) -> bool {
        self.ready.watch().borrow().is_ok()
    }

    /// Names and versions that the table has of a type.
    pub(super) fn table(&self, type_url: &str) -> Vec<(String, String)> {
        let snapshot = self.bus.snapshot();
        let range = snapshot.range(Some(SCOPE), Some(type_url), None).map(Held::record);
        range
            .map(|record| {
                let name = record.envelope.change.key().unwrap().name.to_string();
                (name, version_of(&record).to_string())
            })
            .collect()
    }

    pub(super) fn names(&self, type_url: &str) -> Vec<String> {
        self.table(type_url).into_iter().map(|(name, _)| name).collect()
    }

    /// Waits until the table has exactly these of a type.
    pub(super) async fn has(&self, type_url: &str, names: &[&str]) {
        let mut have = Vec::new();
        let all = timeout(DEADLINE, async {
            loop {
                have = self.names(type_url);
                if have == names {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(all.await.is_ok(), "{type_url}: {have:?} in place of {names:?}");
    }

    /// What has changed since this was last called: `+name`, and of what is gone `-name cause`.
    pub(super) async fn changes(&mut self) -> Vec<String> {
        let last = self.bus.snapshot().seq();
        let mut changes = Vec::new();
        let mut seq = Seq::default();
        while seq < last {
            let Ok(message) = timeout(Duration::from_millis(50), self.changes.next()).await else { break };
            let Some(Message::Batch(records)) = message else { continue };
            for record in records.iter() {
                seq = record.seq;
                changes.push(match &record.envelope.change {
                    Change::Put(key, _) => format!("+{}", key.name),
                    Change::Delete(key, _, cause) => format!("-{} {}", key.name, cause.as_str()),
                    Change::Occurred => continue,
                });
            }
        }
        changes
    }
}

/// One stream of a client, which a test answers by hand.
pub(super) struct Scripted<Q, R> {
    pub(super) headers: MetadataMap,
    requests: Streaming<Q>,
    responses: mpsc::Sender<Result<R, Status>>,
}

pub(super) type Delta = Scripted<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub(super) type Sotw = Scripted<DiscoveryRequest, DiscoveryResponse>;

/// A server whose streams are those of a test.
pub(super) struct Server<Q, R> {
    pub(super) address: SocketAddr,
    streams: mpsc::Receiver<Scripted<Q, R>>,
    task: JoinHandle<()>,
}

impl<Q, R> Drop for Server<Q, R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<Q, R> Server<Q, R>
where
    Q: prost::Message + Default + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    /// One without the service that writes.
    pub(super) async fn start() -> Self {
        Self::serve(None).await
    }

    /// One whose writes a test answers by hand.
    pub(super) async fn start_with_writes() -> (Self, mpsc::Receiver<Update>) {
        let (asked, updates) = mpsc::channel(16);
        (Self::serve(Some(Updates(asked))).await, updates)
    }

    async fn serve(updates: Option<Updates>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, streams) = mpsc::channel(16);
        let task = task::spawn("scripted server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (opened, updates) = (opened.clone(), updates.clone());
                drop(task::spawn("scripted connection", async move {
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (opened, updates) = (opened.clone(), updates.clone());
                        async move {
                            if request.uri().path() == UPDATE_ONCE {
                                return Ok(Updates::answer(updates, request).await);
                            }
                            let mut grpc = Grpc::new(ProstCodec::<R, Q>::default())
                                .apply_max_message_size_config(Some(usize::MAX), Some(usize::MAX));
                            Ok::<_, std::convert::Infallible>(grpc.streaming(Open(opened), request).await)
                        }
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // It ends with an error where the client breaks off.
                    let _end = builder.serve_connection(TokioIo::new(stream), service).await;
                }));
            }
        });
        Self { address, streams, task }
    }

    /// The next stream that a client opens.
    pub(super) async fn accept(&mut self) -> Scripted<Q, R> {
        soon(self.streams.recv()).await.expect("the server runs")
    }
}

/// A request that writes, and where its answer goes.
pub(super) type Update = (UpdateRequest, oneshot::Sender<Result<UpdateResponse, Status>>);

#[derive(Clone)]
struct Updates(mpsc::Sender<Update>);

impl Updates {
    async fn answer(
        updates: Option<Self>,
        request: http::Request<hyper::body::Incoming>,
    ) -> http::Response<tonic::body::Body> {
        let Some(updates) = updates else { return Status::unimplemented("").into_http() };
        Grpc::new(ProstCodec::<UpdateResponse, UpdateRequest>::default()).unary(updates, request).await
    }
}

impl UnaryService<UpdateRequest> for Updates {
    type Response = UpdateResponse;
    type Future = BoxFuture<'static, Result<Response<UpdateResponse>, Status>>;

    fn call(&mut self, request: Request<UpdateRequest>) -> Self::Future {
        let asked = self.0.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            drop(asked.send((request.into_inner(), answer)).await);
            answered
                .await
                .unwrap_or_else(|_| Err(Status::internal("the test gave no answer")))
                .map(Response::new)
        }
        .boxed()
    }
}

struct Open<Q, R>(mpsc::Sender<Scripted<Q, R>>);

type Answers<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

impl<Q: Send + 'static, R: Send + 'static> StreamingService<Q> for Open<Q, R> {
    type Response = R;
    type ResponseStream = Answers<R>;
    type Future = BoxFuture<'static, Result<Response<Answers<R>>, Status>>;

    fn call(&mut self, request: Request<Streaming<Q>>) -> Self::Future {
        let opened = self.0.clone();
        async move {
            let (responses, answers) = mpsc::channel(64);
            let (headers, _, requests) = request.into_parts();
            let stream = Scripted { headers, requests, responses };
            drop(opened.send(stream).await);
            let answers: Answers<R> =
                Box::pin(stream::unfold(answers, |mut answers: mpsc::Receiver<_>| async {
                    Some((answers.recv().await?, answers))
                }));
            Ok(Response::new(answers))
        }
        .boxed()
    }
}

impl<Q, R> Scripted<Q, R> {
    /// The next request.
    pub(super) async fn next(&mut self) -> Q {
        soon(self.requests.message()).await.expect("no status").expect("no end")
    }

    pub(super) async fn send(&self, response: R) {
        soon(self.responses.send(Ok(response))).await.expect("the stream is open");
    }

    /// Ends the stream with a status.
    pub(super) async fn fail(self, status: Status) {
        soon(self.responses.send(Err(status))).await.expect("the stream is open");
    }
}

impl Delta {
    /// Sends a response and gives the client's answer to it, with the requests before it.
    pub(super) async fn tell(
        &mut self,
        response: DeltaDiscoveryResponse,
    ) -> (DeltaDiscoveryRequest, Vec<DeltaDiscoveryRequest>) {
        let nonce = response.nonce.clone();
        self.send(response).await;
        let mut before = Vec::new();
        loop {
            let request = self.next().await;
            if request.response_nonce == nonce {
                return (request, before);
            }
            before.push(request);
        }
    }

    /// As [`tell`](Self::tell), of what the client must take.
    pub(super) async fn gives(
        &mut self,
        type_url: &str,
        nonce: &str,
        resources: Vec<Resource>,
        removed: &[&str],
    ) {
        let (answer, before) = self.tell(delta(type_url, nonce, resources, removed)).await;
        assert_eq!((answer.error_detail, before), (None, vec![]), "of {type_url}");
    }
}

/// An incremental response.
pub(super) fn delta(
    type_url: &str,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.into(),
        nonce: nonce.into(),
        resources,
        removed_resources: texts(removed),
        ..DeltaDiscoveryResponse::default()
    }
}

/// A response of the state of the world.
pub(super) fn sotw(type_url: &str, nonce: &str, resources: &[&[u8]]) -> DiscoveryResponse {
    let any = |value: &&[u8]| Any { type_url: type_url.into(), value: value.to_vec().into() };
    DiscoveryResponse {
        type_url: type_url.into(),
        nonce: nonce.into(),
        version_info: format!("v{nonce}"),
        resources: resources.iter().map(any).collect(),
        ..DiscoveryResponse::default()
    }
}

/// A resource with its name and version.
pub(super) fn resource(type_url: &str, name: &str, version: &str, value: impl Into<Vec<u8>>) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(Any { type_url: type_url.into(), value: value.into().into() }),
        ..Resource::default()
    }
}

/// A message of which the first field is a name, with something after it that makes it another.
pub(super) fn named(name: &str, more: u8) -> Vec<u8> {
    let mut bytes = vec![0x0a, name.len() as u8];
    bytes.extend(name.as_bytes());
    // The field `alt_stat_name` of clusters, which is unknown to others.
    bytes.extend([0xe2, 0x01, 0x01, more]);
    bytes
}

pub(super) fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
