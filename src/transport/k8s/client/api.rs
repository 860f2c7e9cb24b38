//! Raw requests to an API server: bounded in time and size, with failures in the server's own words.
//!
//! kube makes the connection, authentication and TLS; it retries nothing here and parses nothing, since who asks
//! decides what a refusal means.

use std::fmt;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::super::codec::status::{Reason, Status};
use super::super::config::ClientConfig;
use crate::core::error::causes;
use crate::core::{Error, ErrorKind};

/// Most bytes of a page of a list, or of a discovery document.
pub(crate) const PAGE_MAX: usize = 256 << 20;
/// Most bytes of a refusal that are read.
const STATUS_MAX: usize = 1 << 20;
/// Connections that may end under a request before it is sent.
const SENDS_MAX: u32 = 5;
/// Longest that a server may ask us to stay away.
const RETRY_MAX: Duration = Duration::from_mins(5);
/// All but what RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A cluster's API server. Clones share connections.
#[derive(Clone)]
pub(crate) struct Api {
    client: kube::Client,
    /// Its URL, for errors and the log.
    pub(crate) peer: String,
    /// The namespace that the kubeconfig's context has; else `default`.
    pub(crate) namespace: String,
    timeout: Duration,
    max_object: usize,
}

/// Why a request came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server said no.
    Refused(Box<Refusal>),
    /// There was no answer, or not all of it; a write may have been done.
    Broken(String),
    /// The answer is too large.
    Oversize(usize),
}

/// The server's no.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// What it says; made of the HTTP status where the body is none.
    pub(crate) status: Status,
    /// After how long it may be tried again, where it says so.
    pub(crate) retry_after: Option<Duration>,
    /// The body as it came.
    pub(crate) body: Bytes,
}

impl Failure {
    /// The HTTP status of a refusal.
    pub(crate) fn code(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.status.code),
            Self::Broken(_) | Self::Oversize(_) => None,
        }
    }

    /// Whether the server will not say otherwise when asked the same again.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                let code = refusal.status.code;
                code.is_client_error()
                    && code != StatusCode::TOO_MANY_REQUESTS
                    && code != StatusCode::REQUEST_TIMEOUT
                    && code != StatusCode::UNAUTHORIZED
            }
            Self::Broken(_) => false,
            Self::Oversize(_) => true,
        }
    }

    /// Whether the position asked for is no longer kept.
    pub(crate) fn is_gone(&self) -> bool {
        self.code() == Some(StatusCode::GONE)
    }

    /// After how long the server wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Broken(_) | Self::Oversize(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                let Status { code, reason, message, .. } = &refusal.status;
                write!(f, "{} {reason}: {message}", code.as_u16())
            }
            Self::Broken(why) => f.write_str(why),
            Self::Oversize(max) => write!(f, "the answer is larger than {max} bytes"),
        }
    }
}

impl Api {
    /// The API server that the settings name; a connection may take `connect`. No request is made yet.
    ///
    /// # Errors
    /// `Unreachable` where the kubeconfig cannot be read or used: it may be mounted later.
    pub(crate) async fn open(config: &ClientConfig, connect: Duration) -> Result<Self, Error> {
        let named = || match (&config.url, &config.kubeconfig) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => path.display().to_string(),
            (None, None) => "kubeconfig".to_owned(),
        };
        let wrong = |error: String| Error::new(ErrorKind::Unreachable, named()).because(error);
        let mut settings = settings(config).await.map_err(wrong)?;
        settings.default_retry = false;
        settings.read_timeout = None;
        settings.connect_timeout = Some(connect);
        let peer = settings.cluster_url.to_string();
        let namespace = settings.default_namespace.clone();
        let client = kube::Client::try_from(settings).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            client,
            peer,
            namespace,
            timeout: config.timeout.0,
            max_object: config.max_object.bytes(),
        })
    }

    /// Reads a document.
    pub(crate) async fn get(&self, path: &str, accept: &str, max: usize) -> Result<Bytes, Failure> {
        let request = request(Method::GET, path, accept, None, Bytes::new())?;
        let whole = async { read(self.begin(request).await?.into_body(), max).await };
        timeout(self.timeout, whole).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Reads one object.
    pub(crate) async fn object(&self, path: &str) -> Result<Bytes, Failure> {
        self.get(path, "application/json", self.max_object).await
    }

    /// Begins to read a stream: its answer has begun, its body goes on.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Body, Failure> {
        let request = request(Method::GET, path, accept, None, Bytes::new())?;
        let begun = timeout(self.timeout, self.begin(request)).await;
        Ok(begun.unwrap_or_else(|_| Err(self.silent()))?.into_body())
    }

    /// Writes, and reads the object that is answered.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let request = request(method, path, "application/json", Some(media_type), body)?;
        let whole = async { read(self.begin(request).await?.into_body(), self.max_object).await };
        timeout(self.timeout, whole).await.unwrap_or_else(|_| Err(self.silent()))
    }

    async fn begin(&self, request: Request<Bytes>) -> Result<Response<Body>, Failure> {
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let seconds = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read(body, STATUS_MAX).await.unwrap_or_default();
        let status = Status::decode(&body).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
            let mut status = Status::new(Reason::InternalError, text);
            status.code = parts.status;
            parts.status.canonical_reason().unwrap_or("").clone_into(&mut status.reason);
            status
        });
        let told = status.details.as_ref().map_or(0, |details| details.retry_after);
        let seconds = seconds.or((told > 0).then_some(u64::from(told)));
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_MAX));
        Err(Failure::Refused(Box::new(Refusal { status, retry_after, body })))
    }

    /// Sends a request. One whose connection ended before it was sent goes to another: nothing was done, and of what the
    /// server said at its end (a TLS alert: it wants a certificate) only a request that was under way is told.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, Failure> {
        let mut left = SENDS_MAX;
        loop {
            left -= 1;
            match self.client.send(request.clone().map(Body::from)).await {
                Err(error) if left > 0 && is_unsent(&error) => {}
                sent => return sent.map_err(|error| Failure::Broken(causes(&error))),
            }
        }
    }

    fn silent(&self) -> Failure {
        Failure::Broken(format!("no answer within {:?}", self.timeout))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Text as one segment of a path or one value of a query.
pub(crate) fn segment(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// Whether a request did not leave.
fn is_unsent(error: &kube::Error) -> bool {
    let first: &dyn std::error::Error = error;
    let mut all = iter::successors(Some(first), |error| error.source());
    all.any(|error| error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

fn request(
    method: Method,
    path: &str,
    accept: &str,
    media_type: Option<&str>,
    body: Bytes,
) -> Result<Request<Bytes>, Failure> {
    // Each event of a watch is flushed: compressed one by one it would gain nothing.
    let mut request = Request::builder().method(method).uri(path).header(ACCEPT, accept);
    request = request.header(ACCEPT_ENCODING, "identity");
    if let Some(media_type) = media_type {
        request = request.header(CONTENT_TYPE, media_type);
    }
    request.body(body).map_err(|error| Failure::Broken(error.to_string()))
}

async fn read(mut body: Body, max: usize) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Broken(causes(&error)))?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > max {
                return Err(Failure::Oversize(max));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

async fn settings(config: &ClientConfig) -> Result<kube::Config, String> {
    if let Some(url) = &config.url {
        return direct(config, url);
    }
    let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &config.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(at_home(path)).map_err(|error| causes(&error))?;
        let settings = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
        return settings.map_err(|error| causes(&error));
    }
    match kube::Config::from_kubeconfig(&options).await {
        Ok(settings) => Ok(settings),
        Err(error) if config.context.is_some() => Err(causes(&error)),
        Err(error) => kube::Config::incluster().map_err(|inside| {
            format!("{}; and this is no pod of a cluster: {}", causes(&error), causes(&inside))
        }),
    }
}

/// The server of a URL.
fn direct(config: &ClientConfig, url: &str) -> Result<kube::Config, String> {
    let url = url.trim_end_matches('/').parse().map_err(|error| format!("url: {error}"))?;
    let mut settings = kube::Config::new(url);
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    settings.auth_info.client_certificate = shown(&config.tls.cert);
    settings.auth_info.client_key = shown(&config.tls.key);
    settings.root_cert_file.clone_from(&config.tls.ca);
    if let Some(token) = &config.token {
        // Read here: the crate shows a file as it is, with the line break that it ends in.
        let token = token.read().map_err(|error| format!("token: {error}"))?;
        settings.auth_info.token = Some(token.into());
    }
    Ok(settings)
}

/// The path with `~` for the home directory.
fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}
