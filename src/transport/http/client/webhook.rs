//! Sending to a webhook ([CloudEvents webhook specification]): one request, and what its answer means.
//!
//! [CloudEvents webhook specification]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::dial::{AddressDenied, HttpClient};
use crate::core::error::causes;
use crate::core::{Outcome, Reason};

/// Most of an error answer's body that is quoted as the reason, in bytes.
const QUOTED: usize = 200;
/// Most of an answer's body that is read so that its connection can be used again, in bytes.
const DRAINED: usize = 64 * 1024;
/// Longest pause a sink may ask for.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// One sink, at one or several addresses.
#[derive(Debug)]
pub(crate) struct Webhook {
    client: HttpClient,
    method: Method,
    timeout: Duration,
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Endpoint {
    url: Uri,
    permits: Semaphore,
    closed_until: Mutex<Option<Instant>>,
}

/// What one request to one address came to.
enum Answer {
    /// The sink has said yes or no.
    Said(Outcome),
    /// The sink is away; where it asked for a pause, that long.
    Away(Reason, Option<Duration>),
}

impl Webhook {
    /// Sends to `urls` with at most `concurrency` requests under way to each.
    pub(crate) fn new(
        client: HttpClient,
        method: Method,
        timeout: Duration,
        urls: &[Uri],
        concurrency: usize,
    ) -> Self {
        let endpoint = |url: &Uri| Endpoint {
            url: url.clone(),
            permits: Semaphore::new(concurrency),
            closed_until: Mutex::new(None),
        };
        let endpoints = urls.iter().map(endpoint).collect();
        Self { client, method, timeout, endpoints, next: AtomicUsize::new(0) }
    }

    /// Sends one message, to the next address that is not away, with `path` appended to its own.
    pub(crate) async fn send(&self, path: Option<&str>, headers: &HeaderMap, body: &Bytes) -> Outcome {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut reason = Reason::from_static("every address asked for a pause");
        for turn in 0..self.endpoints.len() {
            let at = (first.wrapping_add(turn)) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(at) else { continue };
            if endpoint.is_closed() && self.endpoints.len() > 1 {
                continue;
            }
            let Ok(_permit) = endpoint.permits.acquire().await else { continue };
            match self.attempt(&endpoint.url, path, headers, body).await {
                Answer::Said(outcome) => return outcome,
                Answer::Away(why, pause) => {
                    if let Some(pause) = pause {
                        endpoint.close(pause);
                    }
                    reason = why;
                }
            }
        }
        Outcome::Undelivered(reason)
    }

    /// When the sink takes requests again, after it asked for a pause; `None` when it does now.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        let mut earliest = None;
        for endpoint in &self.endpoints {
            let until = (*endpoint.closed_until.lock()).filter(|until| *until > Instant::now())?;
            earliest = Some(earliest.map_or(until, |have: Instant| have.min(until)));
        }
        earliest
    }

    /// Asks each address for permission to send, as `origin`; gives the lowest rate allowed, in requests
    /// a minute, where one is named.
    ///
    /// # Errors
    /// `(away, reason)`: whether it is worth asking again later, and why there is no permission.
    pub(crate) async fn handshake(
        &self,
        origin: &str,
        headers: &HeaderMap,
    ) -> Result<Option<u32>, (bool, String)> {
        let mut lowest = None;
        for endpoint in &self.endpoints {
            let host = host_of(&endpoint.url);
            let answer = self.options(&endpoint.url, origin, headers).await;
            let answer = answer.map_err(|reason| (true, format!("{host}: {reason}")))?;
            if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
                return Err((true, format!("{host} answered the handshake with {}", answer.status())));
            }
            let rate =
                allowed_rate(&answer, origin).map_err(|reason| (false, format!("{host} {reason}")))?;
            lowest = match (lowest, rate) {
                (Some(a), Some(b)) => Some(std::cmp::min::<u32>(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(lowest)
    }

    async fn options(
        &self,
        url: &Uri,
        origin: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::OPTIONS;
        *request.uri_mut() = url.clone();
        request.headers_mut().clone_from(headers);
        let origin = origin.parse().map_err(|_| format!("origin {origin:?} cannot stand in a header"))?;
        request.headers_mut().insert("webhook-request-origin", origin);
        match timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer in {:?}", self.timeout)),
        }
    }

    async fn attempt(&self, url: &Uri, path: Option<&str>, headers: &HeaderMap, body: &Bytes) -> Answer {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = match join(url, path) {
            Ok(url) => url,
            Err(reason) => return Answer::Said(Outcome::Rejected(reason.into())),
        };
        request.headers_mut().clone_from(headers);
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                Answer::Away(format!("{}: no answer in {:?}", host_of(url), self.timeout).into(), None)
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        let host = host_of(request.uri());
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => {
                let reason = Reason::from(format!("{host}: {}", causes(&error)));
                return if is_denied(&error) {
                    Answer::Said(Outcome::Rejected(reason))
                } else {
                    Answer::Away(reason, None)
                };
            }
        };
        let (head, mut body) = answer.into_parts();
        let status = head.status;
        if status.is_success() {
            drop(read_up_to(&mut body, DRAINED).await);
            return Answer::Said(Outcome::Delivered);
        }
        let quoted = read_up_to(&mut body, QUOTED).await;
        let mut reason = format!("{host} answered {status}");
        if status.is_redirection() {
            let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok()?.parse::<Uri>().ok());
            let to = to.as_ref().map_or_else(|| "elsewhere".to_owned(), host_of);
            reason =
                format!("{reason}, a redirect to {to}, which is not followed: set url to where it leads");
        } else if !quoted.is_empty() {
            reason = format!("{reason}: {quoted}");
        }
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let pause = retry_after(&head.headers).unwrap_or(Duration::from_secs(1));
                Answer::Away(reason.into(), Some(pause.min(PAUSE_MAX)))
            }
            StatusCode::REQUEST_TIMEOUT => Answer::Away(reason.into(), None),
            _ => Answer::Said(Outcome::Rejected(reason.into())),
        }
    }
}

impl Endpoint {
    fn is_closed(&self) -> bool {
        self.closed_until.lock().is_some_and(|until| until > Instant::now())
    }

    fn close(&self, pause: Duration) {
        *self.closed_until.lock() = Some(Instant::now() + pause);
    }
}

/// Host and port of a URL: what may be shown of it.
pub(crate) fn host_of(url: &Uri) -> String {
    url.authority().map_or_else(
        || "?".to_owned(),
        |authority| match authority.port_u16() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        },
    )
}

/// `url` with `path`, which is percent-encoded already, appended to its path.
fn join(url: &Uri, path: Option<&str>) -> Result<Uri, String> {
    let Some(path) = path else { return Ok(url.clone()) };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let joined = format!("{}/{}{query}", url.path().trim_end_matches('/'), path.trim_start_matches('/'));
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(joined.parse().map_err(|error| format!("path {joined:?}: {error}"))?);
    Uri::from_parts(parts).map_err(|error| format!("path {joined:?}: {error}"))
}

/// The start of a body as one line of text.
async fn read_up_to(body: &mut Incoming, limit: usize) -> String {
    let mut read = Vec::new();
    while read.len() < limit {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    read.extend(data.iter().take(limit - read.len()));
                }
            }
            _ => break,
        }
    }
    let line = String::from_utf8_lossy(&read);
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// `Retry-After` in either form: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let wait = date.as_millisecond().saturating_sub(jiff::Timestamp::now().as_millisecond());
    Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
}

/// What a handshake's answer allows (webhook specification 4.2).
fn allowed_rate(answer: &Response<Incoming>, origin: &str) -> Result<Option<u32>, String> {
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    match text("webhook-allowed-origin") {
        Some(allowed) if allowed == "*" || allowed.eq_ignore_ascii_case(origin) => {}
        Some(allowed) => return Err(format!("allows the origin {allowed:?}, not ours, {origin:?}")),
        None => {
            return Err(format!(
                "gave no permission: it answered the OPTIONS handshake with {} and no WebHook-Allowed-Origin",
                answer.status()
            ));
        }
    }
    match text("webhook-allowed-rate") {
        None | Some("*") => Ok(None),
        Some(rate) => match rate.parse() {
            Ok(rate) if rate > 0 => Ok(Some(rate)),
            _ => Err(format!("answered with a WebHook-Allowed-Rate that is no count: {rate:?}")),
        },
    }
}

fn is_denied(error: &hyper_util::client::legacy::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<AddressDenied>() {
            return true;
        }
        source = error.source();
    }
    false
}
