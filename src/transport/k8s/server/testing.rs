//! What the tests of the server share: a running server, plain requests to it, and what it answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Server;
use crate::config::Section;
use crate::core::bus::{Bus, BusOptions};
use crate::core::delivery::{Deliveries, Mailbox};
use crate::core::stats::ConnectorStats;
use crate::core::write::{Operation, Precondition};
use crate::core::{Envelope, Error, Key, Seq};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::schema::address;
use crate::schema::registry::Registry;
use crate::transport::k8s::config::ServerConfig;
use crate::transport::{Connector, Link, Ready};

/// Longest any test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for `what`, which must come before the deadline.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("in time")
}

/// A running server.
pub(crate) struct Served {
    pub(crate) bus: Bus,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) kinds: Arc<Registry>,
    pub(crate) stats: Arc<ConnectorStats>,
    mailbox: Arc<Mailbox>,
    task: JoinHandle<Result<(), Error>>,
}

/// Starts a server named `api` with these settings, on a free port.
pub(crate) async fn serve(settings: &str) -> Served {
    serve_on(Bus::new(BusOptions { name: "test".into(), ..BusOptions::default() }), settings).await
}

/// As [`serve`], of this bus.
pub(crate) async fn serve_on(bus: Bus, settings: &str) -> Served {
    let mut server = Server::new(config(settings));
    let mut bound = server.bound();
    let (mut link, mailbox) = link(&bus);
    let (shutdown, stats, kinds) =
        (link.shutdown.clone(), Arc::clone(&link.stats), Arc::clone(&link.kinds));
    let task = task::spawn("server", async move { server.run(&mut link).await });
    let address = soon(bound.wait_for(Option::is_some)).await.unwrap().unwrap();
    Served { bus, address, shutdown, kinds, stats, mailbox, task }
}

/// These settings of a server on a free port.
pub(crate) fn config(settings: &str) -> ServerConfig {
    let section = Section::from_yaml("test.yaml", &format!("listen: 127.0.0.1:0\n{settings}")).unwrap();
    ServerConfig::from_section(&section).unwrap()
}

/// What a server named `api` has of this bus, and the other end of its deliveries.
pub(crate) fn link(bus: &Bus) -> (Link, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::default());
    let link = Link {
        name: "api".into(),
        bus: bus.ingress("api", Key::LOCAL),
        deliveries: Deliveries(Arc::clone(&mailbox)),
        writes: bus.own("api".into(), "api".into(), false),
        kinds: Arc::default(),
        ready: Ready::new(),
        shutdown: Shutdown::new(),
        stats: Arc::new(ConnectorStats::default()),
    };
    (link, mailbox)
}

/// Writes a key of a bus's scope `local`.
pub(crate) async fn put(bus: &Bus, type_url: &str, name: &str, data: &Value) -> Seq {
    let key = Key::new(Key::LOCAL, type_url, name);
    let mut envelope = Envelope::put(address::topic_of(&key).unwrap(), key.clone(), "", data.to_string());
    envelope.datacontenttype = Some("application/json".into());
    let put = Operation::Put(Box::new(envelope));
    bus.write(key, put, Precondition::Any, false).await.unwrap().seq
}

/// Deletes a key of a bus's scope `local`; `None` where there is none.
pub(crate) async fn delete(bus: &Bus, type_url: &str, name: &str) -> Option<Seq> {
    let key = Key::new(Key::LOCAL, type_url, name);
    bus.write(key, Operation::Delete, Precondition::Any, false).await.ok().map(|stored| stored.seq)
}

impl Served {
    /// Drains and waits until the server has ended.
    pub(crate) async fn end(self) {
        self.shutdown.start_drain();
        self.mailbox.close();
        soon(self.task).await.unwrap().unwrap();
    }

    /// Writes a key of the scope `local`.
    pub(crate) async fn put(&self, type_url: &str, name: &str, data: &Value) -> Seq {
        put(&self.bus, type_url, name, data).await
    }

    /// Deletes a key of the scope `local`.
    pub(crate) async fn delete(&self, type_url: &str, name: &str) -> Seq {
        delete(&self.bus, type_url, name).await.unwrap()
    }

    /// One GET, on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"").await
    }

    /// One request, on a connection of its own.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (head, body) = response.into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// One request whose answer's body is read piece by piece.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        drop(task::spawn("client", connection));
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        let body = Full::new(Bytes::copy_from_slice(body));
        soon(sender.send_request(request.body(body).unwrap())).await.unwrap()
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        self.watch_with(path, &[]).await
    }

    /// As [`watch`](Self::watch), with headers.
    pub(crate) async fn watch_with(&self, path: &str, headers: &[(&str, &str)]) -> Watch {
        let response = self.open("GET", path, headers, b"").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        Watch { body: response.into_body(), text: String::new() }
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        self.json()
    }

    /// The reason and message of a failure with this code.
    #[track_caller]
    pub(crate) fn failure(&self, code: u16) -> (String, String) {
        assert_eq!(self.status.as_u16(), code, "{:?}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        let status = self.json();
        assert_eq!((&status["kind"], &status["apiVersion"]), (&"Status".into(), &"v1".into()));
        assert_eq!((&status["status"], &status["code"]), (&"Failure".into(), &code.into()));
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// The names of a list's items or a table's rows, with their namespaces.
    #[track_caller]
    pub(crate) fn names(&self) -> Vec<String> {
        let list = self.ok();
        let items = list["items"].as_array().or_else(|| list["rows"].as_array()).unwrap();
        let name = |item: &Value| {
            let metadata = item.get("object").map_or(&item["metadata"], |object| &object["metadata"]);
            let name = metadata["name"].as_str().unwrap();
            metadata["namespace"]
                .as_str()
                .map_or(name.to_owned(), |namespace| format!("{namespace}/{name}"))
        };
        items.iter().map(name).collect()
    }
}

/// A watch, read event by event.
pub(crate) struct Watch {
    body: Incoming,
    text: String,
}

impl Watch {
    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = soon(self.body.frame()).await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next event as its type, its object's name and its object's version.
    pub(crate) async fn told(&mut self) -> (String, String, u64) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &event["object"]["metadata"];
        (text(&event["type"]), text(&metadata["name"]), text(&metadata["resourceVersion"]).parse().unwrap())
    }
}
