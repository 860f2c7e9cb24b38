//! A webhook the test serves itself: it answers, refuses, fails, hangs or breaks off as it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What the server does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Takes the event and answers 2xx.
    Take,
    /// Answers with this status and does not take it.
    Answer(u16),
    /// Breaks the connection off and does not take it.
    Break,
    /// Takes it, and breaks the connection off before the answer: it must come again.
    TakeAndBreak,
    /// Says nothing for so long, does not take it, and breaks off.
    Hang(Duration),
}

/// One request it took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

type Choose = dyn FnMut(&Taken) -> Act + Send;

/// Shared by the connections.
struct Shared {
    choose: Mutex<Box<Choose>>,
    taken: Mutex<Vec<Taken>>,
    broken: Mutex<usize>,
}

/// The server; it ends when dropped.
pub(crate) struct Webhook {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Webhook {
    pub(crate) async fn start(port: u16, choose: impl FnMut(&Taken) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port of the webhook");
        let shared = Arc::new(Shared {
            choose: Mutex::new(Box::new(choose)),
            taken: Mutex::default(),
            broken: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { port, shared, task }
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.taken.lock().len()
    }

    /// How often it took an event and did not say so.
    pub(crate) fn unanswered(&self) -> usize {
        *self.shared.broken.lock()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, which closes the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(shared.clone(), request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // It ends with an error where it is told to break off.
                    let _end = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let broken = || std::io::Error::other("told to break off");
    if request.method() == Method::OPTIONS {
        let response = Response::builder().header("webhook-allowed-origin", "*");
        return response
            .header("webhook-allowed-rate", "*")
            .body(Full::default())
            .map_err(std::io::Error::other);
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let taken = Taken { path: head.uri.path().to_owned(), headers: headers.collect(), body };
    let act = (shared.choose.lock())(&taken);
    let status = match act {
        Act::Take => {
            shared.taken.lock().push(taken);
            StatusCode::ACCEPTED
        }
        Act::Answer(status) => StatusCode::from_u16(status).map_err(std::io::Error::other)?,
        Act::Break => return Err(broken()),
        Act::TakeAndBreak => {
            shared.taken.lock().push(taken);
            *shared.broken.lock() += 1;
            return Err(broken());
        }
        Act::Hang(pause) => {
            tokio::time::sleep(pause).await;
            return Err(broken());
        }
    };
    // Without it, a client may take a refusal for now as a reason to pause for all events.
    let response = Response::builder().status(status).header("retry-after", "0");
    response.body(Full::default()).map_err(std::io::Error::other)
}
