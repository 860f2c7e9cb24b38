//! The HTTP server: takes events in, shows and writes state, and lets clients subscribe.
//!
//! One `Shared` stands behind all requests of a listener. A request that is refused is answered with a
//! problem and disturbs no other; what one may hold (body, headers, time, memory) is bounded by settings.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::{StatusCode, Uri};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;
use tracing::{debug, info};

use self::body::Bodies;
use self::encoded::Encoded;
use self::problem::Problem;
use self::push::Subscriptions;
use super::config::ServerConfig;
use crate::core::bus::Ingress;
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::stats::ConnectorStats;
use crate::core::template::Template;
use crate::core::{Error, ErrorKind, Outcome, Topic};
use crate::runtime::connection::{self, Limits};
use crate::runtime::request::{foreign_origin, is_oversized};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::{listener, tls};
use crate::schema::registry::Registry;
use crate::transport::{Announcement, Connector, Link};

mod access;
mod body;
mod encoded;
mod feed;
mod openapi;
mod problem;
mod publish;
mod push;
mod sse;
mod state;
mod ws;

#[cfg(test)]
mod tests;

/// Most requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 128;

/// A connector that serves HTTP.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    topic: Template,
    /// Told when bound, for tests and for who asks for port 0.
    bound: tokio::sync::watch::Sender<Option<SocketAddr>>,
}

/// What all requests of a listener share.
#[derive(Debug)]
struct Shared {
    /// The connector's name.
    name: ByteString,
    config: ServerConfig,
    topic: Template,
    /// Stands in where an event has no topic yet.
    unplaced: Topic,
    bus: Ingress,
    /// The protobuf types that are known.
    kinds: Arc<Registry>,
    stats: Arc<ConnectorStats>,
    shutdown: Shutdown,
    bodies: Bodies,
    subscribers: Arc<Semaphore>,
    encoded: Encoded,
    push: Subscriptions,
}

impl Server {
    /// A server with checked settings; `topic` is parsed from them.
    pub fn new(config: ServerConfig, topic: Template) -> Self {
        Self { config, topic, bound: tokio::sync::watch::Sender::new(None) }
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
        let unplaced = Topic::parse("events").map_err(|error| denied(error.to_string()))?;
        let shared = self.shared(link, unplaced);
        let routes = routes(Arc::clone(&shared));
        info!(connector = %link.name, %address, tls = tls.is_some(), "listening");
        self.bound.send_replace(Some(address));
        link.ready.up();
        let connections = listener::serve_connections(
            listener,
            config.max_connections as u32,
            &link.shutdown,
            |stream, peer| connect(stream, peer, tls.clone(), routes.clone(), Arc::clone(&shared)),
        );
        let mut inbox = Vec::new();
        let refuse = async {
            while link.deliveries.recv(&mut inbox, 64).await > 0 {
                for delivery in inbox.drain(..) {
                    let reason = "an HTTP server is no sink: its clients subscribe, or use a bus: target";
                    delivery.answer(Outcome::Rejected(reason.into()));
                }
            }
        };
        tokio::join!(connections, refuse);
        // Upgraded connections have left the listener's count: all seats back means that they have ended.
        let seats = shared.config.max_subscribers as u32;
        tokio::select! {
            seats = shared.subscribers.acquire_many(seats) => drop(seats),
            () = link.shutdown.end() => {}
        }
        shared.push.close();
        self.bound.send_replace(None);
        Ok(())
    }

    fn shared(&self, link: &Link, unplaced: Topic) -> Arc<Shared> {
        let config = self.config.clone();
        Arc::new(Shared {
            name: link.name.clone(),
            topic: self.topic.clone(),
            unplaced,
            bus: link.bus.clone(),
            kinds: Arc::clone(&link.kinds),
            stats: Arc::clone(&link.stats),
            shutdown: link.shutdown.clone(),
            bodies: Bodies::new(
                config.max_body.0 as usize,
                config.max_buffered.0 as usize,
                config.body_timeout.0,
            ),
            subscribers: Arc::new(Semaphore::new(config.max_subscribers)),
            encoded: Encoded::default(),
            push: Subscriptions::new(config.max_subscriptions),
            config,
        })
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
            because: "HTTP: 202 only when every route has it; a plain body has no identity".into(),
        }
    }

    fn announce(&self) -> Option<Announcement> {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", self.config.listen);
        let try_it = format!("curl -si '{address}/v1/publish?topic=hello' -d world");
        Some(Announcement { address, try_it })
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", post(publish::publish).options(publish::permit))
        .route("/v1/publish", post(publish::publish).options(publish::permit))
        .route("/v1/subscribe", get(sse::subscribe))
        .route("/v1/state", get(state::read).put(state::put).delete(state::delete))
        .route("/v1/subscriptions", get(push::list).post(push::create).options(push::features))
        .route(
            "/v1/subscriptions/{id}",
            get(push::read).put(push::replace).delete(push::delete).options(push::feature),
        )
        .route("/openapi.json", get(openapi::document))
        .fallback(async |uri: Uri| {
            Problem::new(StatusCode::NOT_FOUND, format!("{} is not served: see /openapi.json", uri.path()))
        })
        .method_not_allowed_fallback(async |uri: Uri| {
            let detail = format!("{} takes other methods: see the header Allow", uri.path());
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(from_fn_with_state(Arc::clone(&shared), gate))
        .with_state(shared)
}

/// What every request must pass before it is looked at.
async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if is_oversized(headers, shared.config.max_headers, shared.config.max_header_bytes.0) {
        shared.stats.oversize.add(1);
        let detail = format!(
            "at most {} headers and {} bytes of them",
            shared.config.max_headers, shared.config.max_header_bytes.0
        );
        return Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail).into_response();
    }
    if let Some(origin) = foreign_origin(headers, request.uri(), &shared.config.allowed_origins) {
        let detail = format!("pages of {origin} may not call: list it in allowed_origins");
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    next.run(request).await
}

async fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: Router,
    shared: Arc<Shared>,
) {
    shared.stats.connected.add(1);
    match tls {
        None => Box::pin(converse(stream, peer, routes, shared)).await,
        Some(tls) => match tls::accept(tls, stream).await {
            Ok(stream) => Box::pin(converse(stream, peer, routes, shared)).await,
            Err(error) => debug!(%peer, %error, "no TLS handshake"),
        },
    }
}

/// Serves one connection.
async fn converse<T>(io: T, peer: SocketAddr, routes: Router, shared: Arc<Shared>)
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
    connection::serve(io, peer, limits, &shared.shutdown, move |request: hyper::Request<Incoming>| {
        let mut routes = routes.clone();
        async move { Ok::<_, Infallible>(infallible(routes.call(request.map(Body::new)).await)) }
    })
    .await;
}

/// A router's own error type says that there is none.
fn infallible(response: Result<Response, Infallible>) -> Response {
    match response {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
