//! A bus as a control plane, and servers for its clients to be led to.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::resources::Resource;
use crate::bus::{Bus, HttpClient, http_client};
use crate::peers::NatsServer;
use crate::process::{Scratch, free_port, until};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A bus that serves XDS, HTTP and the Kubernetes API.
pub(crate) struct Mesh {
    bus: Bus,
    pub(crate) xds: u16,
    pub(crate) web: u16,
    pub(crate) api: u16,
    http: HttpClient,
}

impl Mesh {
    /// One whose key space has settled.
    pub(crate) async fn start(scratch: &Scratch) -> Self {
        Self::start_settling(scratch, Duration::ZERO).await
    }

    /// One that takes its time to settle whenever it starts.
    pub(crate) async fn start_settling(scratch: &Scratch, settle: Duration) -> Self {
        Self::start_with(scratch, settle, "").await
    }

    /// One where messages of a NATS server become state.
    pub(crate) async fn start_beside(scratch: &Scratch, nats: &NatsServer) -> Self {
        let more = format!(
            "  broker: {{nats: {{client: {{urls: [\"{}\"], subscribe: [{{subject: \"put.>\"}}]}}}}}}\nroutes:\n  \
             puts: {{from: [broker], to: [{{state: \"xds/local/{{topic.1}}/{{topic.2}}\"}}]}}\n",
            nats.url()
        );
        Self::start_with(scratch, Duration::ZERO, &more).await
    }

    async fn start_with(scratch: &Scratch, settle: Duration, more: &str) -> Self {
        let settle = settle.as_secs();
        let (xds, web, api) = (free_port(), free_port(), free_port());
        let config = format!(
            "name: mesh\nstate: {{settle: {settle}s}}\nconnectors:\n  ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\"}}}}}}\n  \
             web: {{http: {{server: {{listen: \"127.0.0.1:{web}\"}}}}}}\n  \
             api: {{k8s: {{server: {{listen: \"127.0.0.1:{api}\"}}}}}}\n{more}"
        );
        Self { bus: Bus::start(scratch, &config).await, xds, web, api, http: http_client() }
    }

    /// Kills it and starts it again: its table is empty then.
    pub(crate) async fn restart(&mut self) {
        self.bus.kill();
        self.bus.restart().await;
    }

    pub(crate) async fn put<R: Resource>(&self, resource: &R) {
        self.put_bytes(R::TYPE, resource.name(), "application/protobuf", resource.encode_to_vec()).await;
    }

    /// Puts an object of Kubernetes.
    pub(crate) async fn put_object(&self, type_url: &str, name: &str, object: &Value) {
        self.put_bytes(type_url, name, "application/json", object.to_string().into_bytes()).await;
    }

    async fn put_bytes(&self, type_url: &str, name: &str, media_type: &str, body: Vec<u8>) {
        let body = (media_type, Bytes::from(body));
        let (status, said) = self.call_with(Method::PUT, type_url, Some(name), body).await;
        assert!(matches!(status, 200 | 201), "{type_url} {name}: {status} {said}");
    }

    /// Puts it by a message of NATS, and waits until it is state.
    pub(crate) async fn put_by<R: Resource>(&self, nats: &async_nats::Client, resource: &R) {
        let shown = async || self.call(Method::GET, R::TYPE, Some(resource.name())).await;
        let before = shown().await;
        // A dot within a token is two slashes.
        let message = R::TYPE.rsplit('/').next().expect("a name").replace('.', "//");
        let subject = format!("put.{message}.{}", resource.name());
        nats.publish(subject, resource.encode_to_vec().into()).await.expect("a connection");
        until("the message is state", LIMIT, async || (shown().await != before).then_some(())).await;
    }

    pub(crate) async fn delete<R: Resource>(&self, name: &str) {
        self.delete_named(R::TYPE, name).await;
    }

    pub(crate) async fn delete_named(&self, type_url: &str, name: &str) {
        let (status, said) = self.call(Method::DELETE, type_url, Some(name)).await;
        assert_eq!(status, 200, "{type_url} {name}: {said}");
    }

    /// The data of all state of a type.
    pub(crate) async fn list(&self, type_url: &str) -> Vec<Value> {
        let (status, said) = self.call(Method::GET, type_url, None).await;
        assert_eq!(status, 200, "{type_url}: {said}");
        let page: Value = serde_json::from_str(&said).expect("JSON");
        page["items"].as_array().expect("items").iter().map(|item| item["data"].clone()).collect()
    }

    /// Those who are connected as this node.
    pub(crate) async fn connections(&self, node: &str) -> Vec<Value> {
        let mut all = self.list("meshbus.dev/v1/Connection").await;
        all.retain(|connection| connection["spec"]["node"] == node);
        all
    }

    async fn call(&self, method: Method, type_url: &str, name: Option<&str>) -> (u16, String) {
        self.call_with(method, type_url, name, ("application/json", Bytes::new())).await
    }

    async fn call_with(
        &self,
        method: Method,
        type_url: &str,
        name: Option<&str>,
        (media_type, body): (&str, Bytes),
    ) -> (u16, String) {
        let name = name.map(|name| format!("&name={name}")).unwrap_or_default();
        let uri = format!("http://127.0.0.1:{}/v1/state?type={type_url}{name}", self.web);
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("content-type", media_type).body(Full::new(body));
        let answer = self.http.request(request.expect("a request")).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("an answer").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// A server that answers every request of HTTP, and every call of gRPC, with its port. Ends when dropped.
pub(crate) struct Backend {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        Self { port, task: tokio::spawn(accept(listener, port)) }
    }

    /// What it answers.
    pub(crate) fn says(&self) -> String {
        self.port.to_string()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(async move {
                    let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(port, &request))));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // It ends with an error where the client breaks off.
                    let _end = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

type Frames = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn answer(port: u16, request: &Request<Incoming>) -> Response<Frames> {
    let text = port.to_string();
    let content_type = request.headers().get("content-type").filter(|text| *text == "application/grpc");
    let frames = if content_type.is_some() {
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(text.len() as u32);
        message.put_slice(text.as_bytes());
        let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), 0.into())]);
        vec![Ok(Frame::data(message.freeze())), Ok(Frame::trailers(trailers))]
    } else {
        vec![Ok(Frame::data(Bytes::from(text)))]
    };
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    if let Some(content_type) = content_type {
        response.headers_mut().insert("content-type", content_type.clone());
    }
    response
}
