//! The server: state of the bus over xDS, aggregated and by type, both variants.
//!
//! gRPC is framing and a status in trailers on HTTP/2, and written here on hyper: so a response is shared bytes that no
//! stream copies, what requests take of memory is bounded over all streams, and a request that is too long ends in
//! `RESOURCE_EXHAUSTED`, as clients expect.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use self::feeds::Feeds;
use self::requests::Budget;
use self::rings::Rings;
use self::roll::Roll;
use self::roster::Roster;
use super::config::ServerConfig;
use crate::core::bus::Ingress;
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::stats::ConnectorStats;
use crate::core::{Error, ErrorKind, Outcome};
use crate::runtime::certificate::Subject;
use crate::runtime::connection::{self, Limits};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::{listener, tls};
use crate::schema::registry::Registry;
use crate::transport::{Announcement, Connector, Link};

mod aliases;
mod caller;
mod clients;
mod dispatch;
mod exchange;
mod feed;
mod feeds;
mod full;
mod inbox;
mod item;
mod requests;
mod rings;
mod roll;
mod roster;
mod stream;
mod update;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// Most streams of one connection at a time.
const STREAMS: u32 = 1000;
/// Most bytes of a call's headers, and most headers.
const HEADER_BYTES: usize = 32 << 10;
const HEADERS: usize = 64;

/// A connector that serves xDS.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    /// Told when bound, for tests and for who asks for port 0.
    bound: tokio::sync::watch::Sender<Option<SocketAddr>>,
}

/// What all streams of a listener share.
#[derive(Debug)]
struct Shared {
    config: ServerConfig,
    bus: Ingress,
    kinds: Arc<Registry>,
    stats: Arc<ConnectorStats>,
    shutdown: Shutdown,
    feeds: Feeds,
    roll: Roll,
    roster: Roster,
    rings: Rings,
    budget: Budget,
    /// Seats of streams.
    streams: Arc<Semaphore>,
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
            Some(tls) => {
                Some(tls::server_config(tls, &["h2"]).map_err(|error| denied(format!("tls.{error}")))?)
            }
            None => None,
        };
        let listener = listener::bind(&config.listen).await?;
        let address = listener.local_addr().map_err(|error| denied(error.to_string()))?;
        let shared = Arc::new(Shared {
            bus: link.bus.clone(),
            kinds: Arc::clone(&link.kinds),
            stats: Arc::clone(&link.stats),
            shutdown: link.shutdown.clone(),
            feeds: Feeds::default(),
            roll: Roll::new(
                link.bus.clone(),
                Arc::clone(&link.stats),
                config.connection_interval.0,
                config.max_streams,
            ),
            roster: Roster::default(),
            rings: Rings::new(micros()),
            budget: Budget::new(config.max_buffered.0.max(config.max_request.0) as usize),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            config: config.clone(),
        });
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
                    let reason = "an XDS server is no sink: put the resource as state, which it serves";
                    delivery.answer(Outcome::Rejected(reason.into()));
                }
            }
        };
        let served = async {
            tokio::join!(connections, refuse);
            shared.roll.close();
        };
        tokio::join!(served, shared.roll.run(&link.shutdown));
        self.bound.send_replace(None);
        Ok(())
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
            because: "XDS: an update is answered when it is stored".into(),
        }
    }

    fn announce(&self) -> Option<Announcement> {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", self.config.listen);
        let try_it = format!("meshbus bootstrap grpc -s {address} > bootstrap.json");
        Some(Announcement { address, try_it })
    }
}

/// Microseconds since 1970.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
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
                Box::pin(converse(stream, peer, subject.map(|subject| subject.name), shared)).await;
            }
            Err(error) => debug!(%peer, %error, "no TLS handshake"),
        },
    }
}

/// Serves one connection, whose client is the certificate's subject where it showed one.
async fn converse<T>(io: T, peer: SocketAddr, subject: Option<ByteString>, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = Limits {
        header_timeout: shared.config.header_timeout.0,
        max_headers: HEADERS,
        max_header_bytes: HEADER_BYTES,
        max_streams: STREAMS,
        idle: None,
        gathers: true,
    };
    let answers = Arc::clone(&shared);
    connection::serve(io, peer, limits, &shared.shutdown, move |request: Request<Incoming>| {
        let (shared, subject) = (Arc::clone(&answers), subject.clone());
        async move { Ok::<_, Infallible>(dispatch::answer(&shared, peer, subject.as_ref(), request)) }
    })
    .await;
}
