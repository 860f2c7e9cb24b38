//! What the tests of client and server share: a bus with a link, a plain HTTP peer on either side, answers.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::config::ServerConfig;
use super::server::Server;
use crate::config::Section;
use crate::core::bus::{Bus, BusOptions};
use crate::core::consumer::Overflow;
use crate::core::delivery::{Answers, Deliveries, Mailbox};
use crate::core::record::Record;
use crate::core::selector::Selector;
use crate::core::stats::ConnectorStats;
use crate::core::subscription::{Message, Start, Subscription};
use crate::core::{Envelope, Error, Outcome};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task;
use crate::transport::{Connector, Link, Ready};

/// Longest any test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for `what`, which must come before the deadline.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("in time")
}

/// Waits until `holds`.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "never held");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A link of a connector named `name` on a fresh bus, and the other ends of it.
pub(crate) fn link(name: &'static str) -> (Bus, Link, Arc<Mailbox>) {
    let bus = Bus::new(BusOptions { name: "test".into(), ..BusOptions::default() });
    let mailbox = Arc::new(Mailbox::default());
    let link = Link {
        name: name.into(),
        bus: bus.ingress(name, name),
        deliveries: Deliveries(Arc::clone(&mailbox)),
        writes: bus.own(name.into(), name.into(), false),
        kinds: Arc::default(),
        ready: Ready::new(),
        shutdown: Shutdown::new(),
        stats: Arc::new(ConnectorStats::default()),
    };
    (bus, link, mailbox)
}

/// A running server.
pub(crate) struct Served {
    pub(crate) bus: Bus,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) stats: Arc<ConnectorStats>,
    mailbox: Arc<Mailbox>,
    task: JoinHandle<Result<(), Error>>,
}

/// Starts a server named `in` with these settings, on a free port.
pub(crate) async fn serve(settings: &str) -> Served {
    let section = Section::from_yaml("test.yaml", &format!("listen: 127.0.0.1:0\n{settings}")).unwrap();
    let (config, topic) = ServerConfig::from_section(&section).unwrap();
    let mut server = Server::new(config, topic);
    let mut bound = server.bound();
    let (bus, mut link, mailbox) = link("in");
    let (shutdown, stats) = (link.shutdown.clone(), Arc::clone(&link.stats));
    let task = task::spawn("server", async move { server.run(&mut link).await });
    let address = soon(bound.wait_for(Option::is_some)).await.unwrap().unwrap();
    Served { bus, address, shutdown, stats, mailbox, task }
}

impl Served {
    /// Drains and waits until the server has ended.
    pub(crate) async fn end(self) {
        self.shutdown.start_drain();
        self.mailbox.close();
        soon(self.task).await.unwrap().unwrap();
    }

    /// Follows all there is from now on.
    pub(crate) fn follow(&self) -> Follow {
        let subscribed = self.bus.subscribe(Selector::default(), Start::Now, 100, Overflow::Disconnect);
        Follow { subscription: subscribed.unwrap(), waiting: VecDeque::new() }
    }

    /// One request on a connection of its own.
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

    /// Publishes an event in binary mode.
    pub(crate) async fn publish(&self, topic: &str, id: &str) -> Answer {
        let headers = [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", "/s"), ("ce-type", "t")];
        self.call("POST", &format!("/v1/publish?topic={topic}"), &headers, b"data").await
    }

    /// Sends bytes as they are and reads until the server closes, or nothing comes for a while.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may close before it has read everything.
        drop(stream.write_all(bytes).await);
        read_all(&mut stream).await
    }
}

/// What comes until the peer closes.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = soon(stream.read(&mut buffer)).await {
        read.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// What is published, one by one.
pub(crate) struct Follow {
    subscription: Subscription,
    waiting: VecDeque<Arc<Record>>,
}

impl Follow {
    pub(crate) async fn next(&mut self) -> Arc<Envelope> {
        while self.waiting.is_empty() {
            match soon(self.subscription.next()).await {
                Some(Message::Batch(records)) => self.waiting.extend(records.iter().cloned()),
                other => panic!("{other:?}"),
            }
        }
        Arc::clone(&self.waiting.pop_front().unwrap().envelope)
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Asserts a problem of this status and gives its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["status"], status);
        assert!(json["type"].is_string() && json["title"].is_string());
        json["detail"].as_str().unwrap().to_owned()
    }
}

/// Server-sent events, read one by one.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

/// One of them: its fields by name.
pub(crate) type Fields = HashMap<String, String>;

impl Events {
    pub(crate) async fn open(served: &Served, query: &str, headers: &[(&str, &str)]) -> Self {
        let response = served.open("GET", &format!("/v1/subscribe{query}"), headers, b"").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event or comment (field `""`); `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Fields> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let fields = event.lines().map(|line| line.split_once(": ").unwrap());
                let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                self.text = rest.to_owned();
                return Some(fields);
            }
            let frame = soon(self.body.frame()).await?.ok()?;
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

/// Counts the answers of deliveries by ticket.
#[derive(Debug, Default)]
pub(crate) struct Answered(Mutex<HashMap<u64, Vec<Outcome>>>);

impl Answers for Answered {
    fn answer(&self, ticket: u64, outcome: Outcome) {
        self.0.lock().entry(ticket).or_default().push(outcome);
    }
}

impl Answered {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// The one answer of a delivery.
    pub(crate) async fn of(&self, ticket: u64) -> Outcome {
        until(|| self.0.lock().contains_key(&ticket)).await;
        let answers = self.0.lock()[&ticket].clone();
        assert_eq!(answers.len(), 1, "answered once");
        answers[0].clone()
    }
}

/// A sink that answers as it is told.
pub(crate) mod sink {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    /// The answer that takes everything.
    pub(crate) fn ok() -> String {
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
    }

    /// Takes one request at a time on each connection; the n-th gets the n-th answer, the rest the last.
    pub(crate) struct Sink {
        pub(crate) address: SocketAddr,
        requests: mpsc::Receiver<String>,
    }

    impl Sink {
        pub(crate) async fn start(answers: Vec<String>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (sender, requests) = mpsc::channel(1000);
            let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
            drop(task::spawn("sink", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(task::spawn("sink", answer(stream, sender.clone(), Arc::clone(&answers))));
                }
            }));
            Self { address, requests }
        }

        pub(crate) fn url(&self, path: &str) -> String {
            format!("http://{}{path}", self.address)
        }

        /// The next request, as it came; its headers in lower case.
        pub(crate) async fn next(&mut self) -> String {
            self.requests.recv().await.unwrap()
        }

        pub(crate) fn try_next(&mut self) -> Option<String> {
            self.requests.try_recv().ok()
        }
    }

    async fn answer(
        mut stream: TcpStream,
        requests: mpsc::Sender<String>,
        answers: Arc<Mutex<VecDeque<String>>>,
    ) {
        while let Some(request) = read_request(&mut stream).await {
            let answer = {
                let mut answers = answers.lock();
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
            };
            let answer = answer.unwrap_or_else(ok);
            drop(requests.send(request).await);
            if let Some(wait) = answer.strip_prefix("wait ") {
                sleep(Duration::from_millis(wait.parse().unwrap())).await;
                drop(stream.write_all(ok().as_bytes()).await);
            } else if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn read_request(stream: &mut TcpStream) -> Option<String> {
        let mut read = Vec::new();
        loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..at]).into_owned();
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if read.len() >= at + 4 + length.unwrap_or(0) {
                    return Some(String::from_utf8_lossy(&read).into_owned());
                }
            }
            read.push(stream.read_u8().await.ok()?);
        }
    }
}
