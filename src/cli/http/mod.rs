//! The HTTP client of the command line: one request, one answer, or a stream of server-sent events. Bounded.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::Failure;
use super::server::without_credentials;

mod sse;

pub(super) use sse::{Event, Events};

/// Most bytes of an answer: a page of state has 8 MiB, one value at most 16 MiB.
const ANSWER_MAX: usize = 64 << 20;
/// Most bytes of an answer that says what went wrong.
const PROBLEM_MAX: usize = 64 << 10;
/// How long a server may take to answer; it bounds the wait for its routes itself, well below.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Events of a batch whose reasons are told.
const EVENTS_SHOWN: usize = 10;
/// All but what RFC 3986 leaves unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

#[cfg(feature = "http")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "http"))]
type Connector = HttpConnector;

/// Why a build without the transport cannot do it.
pub(super) fn absent(scheme: &str) -> Failure {
    Failure::usage(format!("{scheme}:// is not in this build: rebuild with the feature http"))
}

/// One server.
#[derive(Debug)]
pub(super) struct Client {
    inner: legacy::Client<Connector, Full<Bytes>>,
    /// Without a `/` at its end.
    url: String,
    authorization: Option<HeaderValue>,
    connect: Duration,
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Begins with `/`.
    pub(super) path: &'static str,
    pub(super) query: Vec<(&'static str, Cow<'a, str>)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request<'_> {
    /// A plain GET.
    pub(super) fn get(path: &'static str) -> Self {
        Self { path, ..Self::default() }
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    /// A client of the server at `url`, which is connected to when something is asked, within `connect`.
    ///
    /// # Errors
    /// A URL that is none, or a protocol this build lacks: exit code 64.
    pub(super) fn new(url: &str, token: Option<&str>, connect: Duration) -> Result<Self, Failure> {
        let wrong = |reason: &str| Failure::usage(format!("{}: {reason}", without_credentials(url)));
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("is no URL: {error}")))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("is no http:// or https:// URL")),
        };
        if uri.authority().is_none_or(|authority| authority.host().is_empty()) {
            return Err(wrong("names no host"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("holds credentials: use --token-file, or the variable MESHBUS_TOKEN"));
        }
        if uri.query().is_some() {
            return Err(wrong("has a query: name the server only"));
        }
        let authorization =
            token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
        let mut authorization =
            authorization.map_err(|_| Failure::usage("the token holds what no header can hold"))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let inner = legacy::Client::builder(TokioExecutor::new()).build(connector(secure, connect)?);
        Ok(Self { inner, url: url.trim_end_matches('/').to_owned(), authorization, connect })
    }

    /// Asks and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// No connection or no answer: exit code 69.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.connect + ANSWER_TIMEOUT;
        let response = self.open(request, deadline).await?;
        self.read(response, ANSWER_MAX, deadline).await
    }

    /// Asks for a stream of events; the inner error is an answer that is none.
    ///
    /// # Errors
    /// No connection or no answer within the time for connecting: exit code 69.
    pub(super) async fn stream(&self, request: Request<'_>) -> Result<Result<Events, Answer>, Failure> {
        let deadline = Instant::now() + self.connect;
        let response = self.open(request, deadline).await?;
        if response.status().is_success() {
            return Ok(Ok(Events::new(response.into_body(), self.url.clone())));
        }
        let deadline = Instant::now() + self.connect;
        self.read(response, PROBLEM_MAX, deadline).await.map(Err)
    }

    async fn open(&self, request: Request<'_>, deadline: Instant) -> Result<Response<Incoming>, Failure> {
        let url = &self.url;
        let mut uri = format!("{url}{}", request.path);
        for (at, (name, value)) in request.query.iter().enumerate() {
            uri.extend([if at == 0 { "?" } else { "&" }, name, "="]);
            uri.extend(utf8_percent_encode(value, QUERY));
        }
        let mut built = http::Request::new(Full::new(request.body));
        *built.method_mut() = request.method;
        *built.uri_mut() = uri.parse().map_err(|error| Failure::failed(format!("{url}: {error}")))?;
        *built.headers_mut() = request.headers;
        if let Some(authorization) = &self.authorization {
            built.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        match timeout_at(deadline, self.inner.request(built)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::unreachable(format!("{url}: {}", root(&error)))),
            Err(_) => Err(Failure::unreachable(format!("{url}: no answer in time"))),
        }
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        max: usize,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let url = &self.url;
        let (head, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        loop {
            let frame = match timeout_at(deadline, body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    frame.map_err(|error| Failure::unreachable(format!("{url}: {}", root(&error))))?
                }
                Err(_) => return Err(Failure::unreachable(format!("{url}: the answer does not end"))),
            };
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > max {
                    return Err(Failure::failed(format!("{url}: an answer of more than {max} bytes")));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Answer { status: head.status, headers: head.headers, body: bytes.freeze() })
    }
}

impl Answer {
    /// A header's text; empty where it is not there or no text.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Why it is no success, in the server's own words (RFC 9457) where it has any: exit code 1.
    pub(super) fn failure(&self) -> Failure {
        let status = self.status;
        let problem = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let Some(detail) = problem.get("detail").and_then(Value::as_str) else {
            let text = String::from_utf8_lossy(&self.body);
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            let text = if self.header(CONTENT_TYPE.as_str()).contains("html") { "" } else { text.trim() };
            return Failure::failed(format!("{status} {text}").trim_end());
        };
        let events = problem.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let events = events.iter().take(EVENTS_SHOWN).map(|event| {
            let text = |name| event.get(name).and_then(Value::as_str).unwrap_or("?");
            let index = event.get("index").and_then(Value::as_u64).unwrap_or_default();
            format!("\n  event {index} ({}): {}", text("id"), text("detail"))
        });
        let message = [format!("{status}: {detail}")].into_iter().chain(events).collect::<String>();
        Failure::failed(message)
    }
}

#[cfg(feature = "http")]
fn connector(secure: bool, connect: Duration) -> Result<Connector, Failure> {
    use crate::runtime::tls::{self, ClientTls};

    tls::install_provider();
    let tls = if secure {
        let tls = tls::client_config(&ClientTls::default(), &[]);
        rustls::ClientConfig::clone(&*tls.map_err(|error| Failure::failed(error.to_string()))?)
    } else {
        // The system's authorities take time to read and are not asked.
        rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    Ok(builder.enable_all_versions().wrap_connector(plain(connect)))
}

#[cfg(not(feature = "http"))]
fn connector(secure: bool, connect: Duration) -> Result<Connector, Failure> {
    if secure { Err(absent("https")) } else { Ok(plain(connect)) }
}

fn plain(connect: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    connector
}

/// What lies at the bottom of an error: `connection refused` rather than `client error`.
fn root(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
