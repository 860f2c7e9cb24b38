//! One stream at one server: TCP, TLS where its URL says so, HTTP/2, and the call of the aggregated service.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::core::error::causes;
use crate::core::{Error, ErrorKind};
use crate::runtime::{task, tls};
use crate::transport::xds::codec::frame::Frames;
use crate::transport::xds::codec::services::aggregated;
use crate::transport::xds::codec::status::{Code, STATUS, Status};
use crate::transport::xds::config::ClientConfig;

/// Requests that may wait for the connection.
const REQUESTS_WAITING: usize = 4;
/// Bytes that a server may send ahead of what is read.
const WINDOW: u32 = 1 << 20;
/// Most bytes of a response's headers.
const HEADER_BYTES: u32 = 32 << 10;
/// How long a server may take for a sign of life.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// An open stream.
pub(super) struct Call {
    /// The server: `127.0.0.1:15010`.
    pub(super) peer: String,
    /// What is sent, framed.
    pub(super) requests: mpsc::Sender<Bytes>,
    /// What comes.
    pub(super) responses: Responses,
}

/// What comes on a stream. Servers send the head of their answer with the first response only.
pub(super) struct Responses {
    peer: String,
    frames: Frames,
    state: State,
    /// With which status it ended.
    status: Option<Code>,
}

enum State {
    Opening(BoxFuture<'static, hyper::Result<Response<Incoming>>>),
    Open(Incoming),
}

/// Opens a stream at a server.
///
/// # Errors
/// `Unreachable` where it is away or answers not in time, `Denied` for settings that cannot be used.
pub(super) async fn call(config: &ClientConfig, url: &Uri) -> Result<Call, Error> {
    let peer = url.authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |reason: String| Error::new(ErrorKind::Unreachable, &peer).because(reason);
    let headers = headers(config).map_err(unreachable)?;
    let io = match timeout(config.connect_timeout.0, connect(config, url)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(unreachable(format!("no connection in {}", config.connect_timeout))),
    };
    let (requests, waiting) = mpsc::channel(REQUESTS_WAITING);
    let body = StreamBody::new(frames(waiting));
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
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
        // It ends with the stream, which tells its error too.
        if let Err(error) = connection.await {
            debug!(peer = name, error = causes(&error), "connection ended");
        }
    }));
    let mut request =
        Request::post(format!("{url}").trim_end_matches('/').to_owned() + aggregated(config.variant()))
            .body(body)
            .map_err(|error| unreachable(error.to_string()))?;
    *request.headers_mut() = headers;
    let opening = async move {
        let response = sender.send_request(request).await;
        // The connection goes on for as long as the body is read.
        drop(sender);
        response
    };
    let responses = Responses {
        peer: peer.clone(),
        frames: Frames::new(config.max_response.bytes()),
        state: State::Opening(opening.boxed()),
        status: None,
    };
    Ok(Call { peer, requests, responses })
}

/// The headers of the call, the token read now.
fn headers(config: &ClientConfig) -> Result<http::HeaderMap, String> {
    let mut headers = http::HeaderMap::new();
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

fn frames(
    waiting: mpsc::Receiver<Bytes>,
) -> Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>> {
    Box::pin(stream::unfold(waiting, |mut waiting| async {
        let frame = waiting.recv().await?;
        Some((Ok(Frame::data(frame)), waiting))
    }))
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

impl Responses {
    /// With which status the server ended the stream.
    pub(super) fn status(&self) -> Option<Code> {
        self.status
    }

    /// The next message. May be dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// The stream ended: with which status, or how it broke.
    pub(super) async fn next(&mut self) -> Result<Bytes, Error> {
        let Self { peer, frames, state, status } = self;
        loop {
            match state {
                State::Opening(opening) => {
                    let response = opening.await.map_err(|error| broken(peer, &error))?;
                    *state = State::Open(checked(peer, response, status)?);
                }
                State::Open(body) => {
                    if let Some(message) = frames.take().map_err(|status| unreadable(peer, &status))? {
                        return Ok(message);
                    }
                    match body.frame().await {
                        None => return Err(ended(peer, None)),
                        Some(Err(error)) => return Err(broken(peer, &error)),
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(piece) => frames.push(&piece),
                            Err(trailers) => {
                                let trailers = trailers.into_trailers().unwrap_or_default();
                                let ends = Status::of_trailers(&trailers);
                                *status = ends.as_ref().map(|ends| ends.code);
                                return Err(ended(peer, ends));
                            }
                        },
                    }
                }
            }
        }
    }
}

/// The body of an answer that is one of gRPC; `status` is what it ended with at once.
fn checked(peer: &str, response: Response<Incoming>, status: &mut Option<Code>) -> Result<Incoming, Error> {
    let headers = response.headers();
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if response.status() != StatusCode::OK || !headers.get(CONTENT_TYPE).is_some_and(grpc) {
        let kind = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
            _ => ErrorKind::Protocol,
        };
        let reason = format!("answers HTTP {} and no gRPC", response.status().as_u16());
        return Err(Error::new(kind, peer).because(reason));
    }
    // Without a body the status stands in the head.
    if response.body().is_end_stream() || headers.contains_key(STATUS) {
        let ends = Status::of_trailers(headers);
        *status = ends.as_ref().map(|ends| ends.code);
        return Err(ended(peer, ends));
    }
    Ok(response.into_body())
}

/// A stream that ended in order.
fn ended(peer: &str, status: Option<Status>) -> Error {
    let status = status.unwrap_or_else(|| Status::new(Code::Unknown, "the stream ended without a status"));
    let kind = match status.code {
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Denied,
        Code::Unimplemented | Code::InvalidArgument => ErrorKind::Protocol,
        _ => ErrorKind::Disconnected,
    };
    let reason = match status.code {
        Code::Ok => "the server ended the stream".to_owned(),
        Code::Unimplemented => format!("{status}: it may have the other variant only, see mode"),
        _ => status.to_string(),
    };
    Error::new(kind, peer).because(reason)
}

/// A response that cannot be read on.
fn unreadable(peer: &str, status: &Status) -> Error {
    let hint = if status.code == Code::ResourceExhausted { ": raise max_response" } else { "" };
    Error::new(ErrorKind::Protocol, peer).because(format!("{status}{hint}"))
}

fn broken(peer: &str, error: &hyper::Error) -> Error {
    Error::new(ErrorKind::Disconnected, peer).because(causes(error))
}
