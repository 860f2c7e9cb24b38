//! Connecting to a sink: the address is checked when the connection is made, on what the name resolved to.
//!
//! Checking the URL beforehand would not do: a name can resolve to another address the next moment.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::super::address::check_public;
use crate::runtime::tls::{ClientTls, client_config};

/// The pooling client of the `hyper` project, over our own connections.
pub(crate) type HttpClient = Client<HttpsConnector<Dial>, Full<bytes::Bytes>>;

/// Longest a TCP connection may take; a request's own time limit stands above it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);

/// An address a URL must not lead to.
#[derive(Debug, thiserror::Error)]
#[error("{host} leads to {address}, which is {reason}: only public addresses are allowed here")]
pub(crate) struct AddressDenied {
    host: String,
    address: SocketAddr,
    reason: &'static str,
}

/// Makes TCP connections.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    allow_private: bool,
}

/// A client for `urls` that keeps at most `idle` unused connections to a host.
///
/// # Errors
/// Names the file that cannot be read as what it should be.
pub(crate) fn http_client(
    urls: &[Uri],
    tls: &ClientTls,
    allow_private: bool,
    idle: usize,
) -> Result<HttpClient, String> {
    // A machine that trusts no authority can still speak plain HTTP.
    let tls = if urls.iter().any(|url| url.scheme_str() == Some("https")) {
        // The connector names the protocols itself.
        rustls::ClientConfig::clone(&*client_config(tls, &[]).map_err(|error| format!("tls.{error}"))?)
    } else {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(Dial { allow_private });
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle)
        .build(connector))
}

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connect(&url, allow_private)).await {
                Ok(connected) => Ok(TokioIo::new(connected?)),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in 5 s").into()),
            }
        })
    }
}

/// Tries the addresses of the URL's host in turn, passing over those that are not allowed.
async fn connect(
    url: &Uri,
    allow_private: bool,
) -> Result<TcpStream, Box<dyn std::error::Error + Send + Sync>> {
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let mut last: Box<dyn std::error::Error + Send + Sync> =
        io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")).into();
    for address in tokio::net::lookup_host((host, port)).await? {
        match check_public(address.ip()) {
            Err(reason) if !allow_private => {
                last = AddressDenied { host: host.to_owned(), address, reason }.into();
                continue;
            }
            _ => {}
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")).into(),
        }
    }
    Err(last)
}
