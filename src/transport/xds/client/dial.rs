//! The connection to one server: TCP, TLS where its URL says so, and HTTP/2.

use std::io;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::calls::Calls;
use crate::core::error::causes;
use crate::core::{Error, ErrorKind};
use crate::runtime::{task, tls};
use crate::transport::xds::config::ClientConfig;

/// Bytes that a server may send ahead of what is read.
const WINDOW: u32 = 1 << 20;
/// Most bytes of a response's headers.
const HEADER_BYTES: u32 = 32 << 10;
/// How long a server may take for a sign of life.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to a server.
///
/// # Errors
/// `Unreachable` where it is away or answers not in time, `Denied` for settings that cannot be used.
pub(super) async fn dial(config: &ClientConfig, url: &Uri) -> Result<Calls, Error> {
    let peer = url.authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |reason: String| Error::new(ErrorKind::Unreachable, &peer).because(reason);
    let headers = headers(config).map_err(unreachable)?;
    let io = match timeout(config.connect_timeout.0, connect(config, url)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(unreachable(format!("no connection in {}", config.connect_timeout))),
    };
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(config.keepalive.0)
        .keep_alive_timeout(ALIVE_TIMEOUT)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| unreachable(causes(&error)))?;
    let name = peer.clone();
    drop(task::spawn("xds connection", async move {
        // It ends with the last call on it, which tells its error too.
        if let Err(error) = connection.await {
            debug!(peer = name, error = causes(&error), "connection ended");
        }
    }));
    let max_response = config.max_response.bytes();
    Ok(Calls { peer, url: url.clone(), headers, max_response, sender })
}

/// The headers of each call, the token read now.
fn headers(config: &ClientConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("meshbus/", env!("CARGO_PKG_VERSION"))));
    if let Some(token) = &config.token {
        let wrong = |_| "token: it holds a character that no header can hold".to_owned();
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.read()?)).map_err(wrong)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// A connection, with TLS or without.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn connect(config: &ClientConfig, url: &Uri) -> Result<Box<dyn Io>, Error> {
    let peer = url.authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |reason: String| Error::new(ErrorKind::Unreachable, &peer).because(reason);
    let denied = |reason: String| Error::new(ErrorKind::Denied, &peer).because(reason);
    let secure = url.scheme_str() == Some("https");
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(|error| unreachable(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    if !secure {
        return Ok(Box::new(stream));
    }
    let settings =
        tls::client_config(&config.tls, &["h2"]).map_err(|error| denied(format!("tls.{error}")))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| denied(format!("{host}: {error}")))?;
    let connected: io::Result<_> = TlsConnector::from(settings).connect(name, stream).await;
    Ok(Box::new(connected.map_err(|error| unreachable(error.to_string()))?))
}
