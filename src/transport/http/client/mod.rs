//! The webhook client: sends what routes hand it to an HTTP sink, and says what became of each.
//!
//! Up to `concurrency` requests are under way to an address. The router hands out one delivery of an order
//! key at a time, so requests that overtake each other never reorder a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::uri::Uri;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};
use tracing::info;

use self::webhook::Webhook;
use super::codec::{self, Compat, Format, Mode, Unwritable};
use super::config::{ClientConfig, HeaderText, header_name};
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::{Delivery, Error, ErrorKind, Outcome};
use crate::transport::{Connector, Link};

pub(crate) mod dial;
pub(crate) mod webhook;

#[cfg(test)]
mod tests;

/// How often secrets are read again, so that a rotated one is taken without a restart.
const SECRETS_AGE: Duration = Duration::from_secs(30);

/// How a message to a sink is written: the connector's settings, with those of the route's `to:` above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How events are laid out.
    pub mode: Mode,
    /// Event format of structured and batch mode.
    pub format: Format,
    /// How attribute values stand in headers.
    pub compat: Compat,
}

/// A connector that sends to a webhook.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    urls: Vec<Uri>,
}

impl Client {
    /// A client with checked settings.
    pub fn new(config: ClientConfig, urls: Vec<Uri>) -> Self {
        Self { config, urls }
    }

    fn peer(&self) -> String {
        self.urls.iter().map(webhook::host_of).collect::<Vec<_>>().join(",")
    }

    /// The headers each request has, secrets read now.
    fn fixed_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("meshbus/", env!("CARGO_PKG_VERSION"))));
        for (name, text) in &self.config.headers {
            let value = match text {
                HeaderText::Text(text) => text.clone(),
                HeaderText::Secret(secret) => secret.read()?,
            };
            let name = header_name(name)?;
            headers.insert(&name, secret_value(&value, name.as_str())?);
        }
        if let Some(bearer) = &self.config.bearer {
            let value = format!("Bearer {}", bearer.read()?);
            headers.insert(AUTHORIZATION, secret_value(&value, "bearer")?);
        }
        Ok(headers)
    }

    async fn start(&self, link: &Link) -> Result<(Arc<Webhook>, HeaderMap, Pace), Error> {
        let denied = |reason: String| Error::new(ErrorKind::Denied, self.peer()).because(reason);
        let headers = self
            .fixed_headers()
            .map_err(|reason| Error::new(ErrorKind::Unreachable, self.peer()).because(reason))?;
        let config = &self.config;
        let http = dial::http_client(&self.urls, &config.tls, config.allow_private, config.concurrency)
            .map_err(denied)?;
        let webhook = Webhook::new(http, config.method(), config.timeout.0, &self.urls, config.concurrency);
        let mut pace = Pace { open_at: None, interval: None };
        if config.handshake {
            let origin = config.origin.clone().unwrap_or_else(|| link.bus.name().to_string());
            let rate = webhook.handshake(&origin, &headers).await.map_err(|(away, reason)| {
                let kind = if away { ErrorKind::Unreachable } else { ErrorKind::Denied };
                Error::new(kind, self.peer()).because(reason)
            })?;
            if let Some(rate) = rate {
                info!(connector = %link.name, rate, "sink allows requests a minute");
                pace.interval = Some(Duration::from_mins(1) / rate);
            }
        }
        link.stats.connected.add(1);
        link.ready.up();
        Ok((Arc::new(webhook), headers, pace))
    }

    async fn serve(&mut self, link: &mut Link) -> Result<(), Error> {
        let shutdown = link.shutdown.clone();
        let (webhook, headers, mut pace) = tokio::select! {
            () = shutdown.end() => return Ok(()),
            started = self.start(link) => started?,
        };
        let mut sender = Sender { webhook, headers: Arc::new(headers), link: LinkParts::of(link) };
        let mut read_at = Instant::now();
        let mut requests: JoinSet<()> = JoinSet::new();
        let mut inbox = Vec::new();
        let most = self.config.concurrency * self.urls.len();
        loop {
            pace.after(sender.webhook.closed_until());
            let wait = pace.open_at;
            // One message at a time where the sink named a rate; one batch's worth where batches are sent.
            let messages = if pace.interval.is_some() { 1 } else { most.saturating_sub(requests.len()) };
            let limit =
                if self.config.content_mode == Mode::Batch { self.config.max_batch } else { messages };
            tokio::select! {
                () = shutdown.end() => return Ok(()),
                Some(_) = requests.join_next(), if !requests.is_empty() => {}
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => pace.open_at = None,
                n = link.deliveries.recv(&mut inbox, limit), if wait.is_none() && requests.len() < most => {
                    if n == 0 {
                        break;
                    }
                    if read_at.elapsed() > SECRETS_AGE {
                        read_at = Instant::now();
                        self.read_secrets(&mut sender);
                    }
                    for message in into_messages(inbox.drain(..), self.config.max_batch) {
                        pace.sent();
                        requests.spawn(sender.clone().send(message));
                    }
                }
            }
        }
        tokio::select! {
            () = shutdown.end() => {}
            () = async { while requests.join_next().await.is_some() {} } => {}
        }
        Ok(())
    }

    fn read_secrets(&self, sender: &mut Sender) {
        match self.fixed_headers() {
            Ok(headers) => sender.headers = Arc::new(headers),
            // The old ones may still be good; the sink will say so if they are not.
            Err(reason) => tracing::warn!(connector = %sender.link.name, reason, "secret not read"),
        }
    }
}

impl Connector for Client {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.serve(link))
    }

    fn ingress(&self) -> Guarantee {
        Guarantee {
            assurance: Assurance::AtMostOnce,
            identity: false,
            because: "a webhook client takes nothing in".into(),
        }
    }
}

/// When the next message may be sent.
#[derive(Debug)]
struct Pace {
    open_at: Option<Instant>,
    interval: Option<Duration>,
}

impl Pace {
    /// Not before `until` either.
    fn after(&mut self, until: Option<Instant>) {
        self.open_at = self.open_at.max(until);
    }

    /// One message was sent.
    fn sent(&mut self) {
        if let Some(interval) = self.interval {
            let now = Instant::now();
            self.open_at = Some(self.open_at.map_or(now, |at| at.max(now)) + interval);
        }
    }
}

/// Sends messages, each in a task of its own.
#[derive(Clone)]
struct Sender {
    webhook: Arc<Webhook>,
    headers: Arc<HeaderMap>,
    link: LinkParts,
}

/// What of the link a request's task needs.
#[derive(Clone)]
struct LinkParts {
    name: bytestring::ByteString,
    ready: crate::transport::Ready,
    stats: Arc<crate::core::stats::ConnectorStats>,
    /// Whether the last request found the sink away.
    away: Arc<AtomicBool>,
}

impl LinkParts {
    fn of(link: &Link) -> Self {
        Self {
            name: link.name.clone(),
            ready: link.ready.clone(),
            stats: link.stats.clone(),
            away: Arc::default(),
        }
    }

    /// Tells readiness when it changes, and only then: whoever follows it is woken each time.
    fn note(&self, outcome: &Outcome) {
        let away = matches!(outcome, Outcome::Undelivered(_));
        if self.away.swap(away, Ordering::Relaxed) == away {
            return;
        }
        match outcome {
            Outcome::Undelivered(reason) => {
                info!(connector = %self.name, %reason, "sink away");
                self.ready.down(reason.to_string());
            }
            _ => self.ready.up(),
        }
    }
}

impl Sender {
    async fn send(self, message: Vec<Delivery>) {
        let Some(first) = message.first() else { return };
        let outcome = match write(&message) {
            Ok((own, body)) => {
                let mut headers = HeaderMap::clone(&self.headers);
                headers.extend(own);
                self.webhook.send(first.address.as_deref(), &headers, &body).await
            }
            Err(error) => Outcome::Rejected(error.to_string().into()),
        };
        self.link.note(&outcome);
        for delivery in message {
            if outcome == Outcome::Delivered {
                self.link.stats.sent.add(1);
            }
            delivery.answer(outcome.clone());
        }
    }
}

/// The headers and the body of a message; all its deliveries have the same form.
fn write(message: &[Delivery]) -> Result<(HeaderMap, Bytes), Unwritable> {
    let form = message.first().and_then(|first| first.options::<Form>());
    match (form, message) {
        (None, _) => Err(Unwritable("the route's target is of another transport".to_owned())),
        (Some(form), [one]) => codec::encode(&one.envelope, form.mode, form.format, form.compat),
        (Some(form), several) => {
            Ok(codec::encode_batch(several.iter().map(|delivery| &*delivery.envelope), form.format))
        }
    }
}

/// Groups deliveries into messages. A batch holds first tries for one address only: what was tried before
/// goes alone, so that one event the sink refuses never takes others to the dead letter.
fn into_messages(deliveries: impl Iterator<Item = Delivery>, max_batch: usize) -> Vec<Vec<Delivery>> {
    let mut messages: Vec<Vec<Delivery>> = Vec::new();
    for delivery in deliveries {
        let joins = |message: &&mut Vec<Delivery>| {
            message.len() < max_batch
                && message.iter().all(|other| {
                    other.attempt == 1
                        && other.address == delivery.address
                        && other.options::<Form>() == delivery.options::<Form>()
                })
        };
        let batched = delivery.attempt == 1
            && delivery.options::<Form>().is_some_and(|form| form.mode == Mode::Batch);
        match messages.last_mut().filter(joins) {
            Some(message) if batched => message.push(delivery),
            _ => messages.push(vec![delivery]),
        }
    }
    messages
}

fn secret_value(text: &str, name: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| format!("header {name}: its value holds a character that no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}
