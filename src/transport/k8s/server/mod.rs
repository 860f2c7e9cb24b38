//! The server: the bus as a Kubernetes API.
//!
//! One `Shared` stands behind all requests of a listener. A request that is refused is answered with a `Status` and
//! disturbs no other; what one may hold (body, headers, time, memory, watches) is bounded by settings.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use self::discovery::Documents;
use self::encoded::Encoded;
use self::kinds::Kinds;
use self::names::Names;
use self::pages::Pages;
use super::config::ServerConfig;
use crate::core::bus::Ingress;
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::stats::ConnectorStats;
use crate::core::{Error, ErrorKind, Outcome};
use crate::runtime::certificate::Subject;
use crate::runtime::connection::{self, Limits};
use crate::runtime::request::Bodies;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::{listener, tls};
use crate::schema::registry::Registry;
use crate::transport::{Announcement, Connector, Link};

mod accept;
mod access;
mod answer;
mod body;
mod call;
mod columns;
mod compress;
mod discovery;
mod dispatch;
mod encoded;
mod facts;
mod get;
mod impersonate;
mod kind;
mod kinds;
mod list;
mod names;
mod pages;
mod parse;
mod position;
mod reviews;
mod selection;
mod topics;
mod view;
mod watch;
mod write;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// Most requests of one HTTP/2 connection at a time: informers have a watch for each kind on one.
const STREAMS: u32 = 1000;

/// A connector that serves the Kubernetes API.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    /// Told when bound, for tests and for who asks for port 0.
    bound: tokio::sync::watch::Sender<Option<SocketAddr>>,
}

/// What all requests of a listener share.
#[derive(Debug)]
struct Shared {
    /// The connector's name.
    name: ByteString,
    config: ServerConfig,
    bus: Ingress,
    stats: Arc<ConnectorStats>,
    shutdown: Shutdown,
    /// What sources say of their kinds.
    registry: Arc<Registry>,
    /// What is served of each scope.
    kinds: Kinds,
    documents: Documents,
    names: Names,
    pages: Pages,
    encoded: Encoded,
    bodies: Bodies,
    /// Seats of requests that are no watches.
    in_flight: Arc<Semaphore>,
    /// Seats of watches.
    watches: Arc<Semaphore>,
}

impl Server {
    /// A server with checked settings.
    pub fn new(config: ServerConfig) -> Self {
        Self { config, bound: tokio::sync::watch::Sender::new(None) }
    }

    /// Follows the address it is bound to; `None` while it is not.
    pub fn bound(&self) -> tokio::sync::watch::Receiver<Option<SocketAddr>> {
        self.bound.subscribe()
    }

    async fn serve(&mut self, link: &mut Link) -> Result<(), Error> {
        let config = &self.config;
        let denied = |reason: String| Error::new(ErrorKind::Denied, &config.listen).because(reason);
        let tls = match &config.tls {
            Some(tls) => Some(
                tls::server_config(tls, &["h2", "http/1.1"])
                    .map_err(|error| denied(format!("tls.{error}")))?,
            ),
            None => None,
        };
        let listener = listener::bind(&config.listen).await?;
        let address = listener.local_addr().map_err(|error| denied(error.to_string()))?;
        let shared = Arc::new(shared(config.clone(), link));
        write::make_default_namespace(&shared).await;
        info!(connector = %link.name, %address, tls = tls.is_some(), "listening");
        self.bound.send_replace(Some(address));
        link.ready.up();
        let limit = config.max_connections as u32;
        let connections = listener::serve_connections(listener, limit, &link.shutdown, |stream, peer| {
            connect(stream, peer, tls.clone(), Arc::clone(&shared))
        });
        let mut inbox = Vec::new();
        let refuse = async {
            while link.deliveries.recv(&mut inbox, 64).await > 0 {
                for delivery in inbox.drain(..) {
                    let reason = "a Kubernetes API server is no sink: send to a k8s client, or put the key";
                    delivery.answer(Outcome::Rejected(reason.into()));
                }
            }
        };
        tokio::join!(connections, refuse);
        self.bound.send_replace(None);
        Ok(())
    }
}

fn shared(config: ServerConfig, link: &Link) -> Shared {
    Shared {
        name: link.name.clone(),
        bus: link.bus.clone(),
        stats: Arc::clone(&link.stats),
        shutdown: link.shutdown.clone(),
        registry: Arc::clone(&link.kinds),
        kinds: Kinds::default(),
        documents: Documents::default(),
        names: Names::default(),
        pages: Pages::default(),
        encoded: Encoded::default(),
        bodies: Bodies::new(
            config.max_body.0 as usize,
            config.max_buffered.0 as usize,
            config.body_timeout.0,
        ),
        in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
        watches: Arc::new(Semaphore::new(config.max_watches)),
        config,
    }
}

impl Connector for Server {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.serve(link))
    }

    fn ingress(&self) -> Guarantee {
        Guarantee {
            assurance: Assurance::AtLeastOnce,
            identity: true,
            because: "Kubernetes: a write is answered when it is stored".into(),
        }
    }

    fn announce(&self) -> Option<Announcement> {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", self.config.listen);
        let try_it = format!("kubectl --server {address} get events -A");
        Some(Announcement { address, try_it })
    }
}

async fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    shared: Arc<Shared>,
) {
    shared.stats.connected.add(1);
    match tls {
        None => Box::pin(converse(stream, peer, None, shared)).await,
        Some(tls) => match tls::accept(tls, stream).await {
            Ok(stream) => {
                let subject = Subject::of(stream.get_ref().1.peer_certificates());
                Box::pin(converse(stream, peer, subject, shared)).await;
            }
            Err(error) => debug!(%peer, %error, "no TLS handshake"),
        },
    }
}

/// Serves one connection, whose client is the certificate's subject where it showed one.
async fn converse<T>(io: T, peer: SocketAddr, subject: Option<Subject>, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let config = &shared.config;
    let limits = Limits {
        header_timeout: config.header_timeout.0,
        max_headers: config.max_headers,
        max_header_bytes: config.max_header_bytes.0 as usize,
        max_streams: STREAMS,
        idle: Some(connection::IDLE),
        gathers: false,
    };
    let (answers, subject) = (Arc::clone(&shared), subject.map(Arc::new));
    connection::serve(io, peer, limits, &shared.shutdown, move |request: Request<Incoming>| {
        let (shared, subject) = (Arc::clone(&answers), subject.clone());
        // Boxed: what a connection keeps while its watch is idle is the watch alone.
        async move {
            Ok::<_, Infallible>(Box::pin(dispatch::answer(&shared, subject.as_deref(), request)).await)
        }
    })
    .await;
}
