//! The server: the bus as a Kubernetes API.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

mod call;
mod kind;

use super::config::ServerConfig;
use crate::core::Error;
use crate::core::delivery::{Assurance, Guarantee};
use crate::runtime::connection::{self, Limits};
use crate::runtime::listener;
use crate::transport::{Announcement, Connector, Link};

/// A connector that serves the Kubernetes API.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    /// Told when bound, for tests and for who asks for port 0.
    bound: tokio::sync::watch::Sender<Option<SocketAddr>>,
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
        let listener = listener::bind(&self.config.listen).await?;
        self.bound.send_replace(listener.local_addr().ok());
        link.ready.up();
        let limits = Limits {
            header_timeout: self.config.header_timeout.0,
            max_headers: self.config.max_headers,
            max_header_bytes: self.config.max_header_bytes.0 as usize,
            max_streams: 128,
        };
        let shutdown = link.shutdown.clone();
        let limit = self.config.max_connections as u32;
        listener::serve_connections(listener, limit, &link.shutdown, |stream, peer| {
            let shutdown = shutdown.clone();
            async move {
                connection::serve(stream, peer, limits, &shutdown, |_: Request<Incoming>| async {
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    Ok::<_, Infallible>(response)
                })
                .await;
            }
        })
        .await;
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
