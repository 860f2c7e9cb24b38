//! What a consumer asks the server to send, and what comes.
//!
//! async-nats has a stream for this, which asks on until it is dropped. Whatever is on its way then comes again only
//! when `ack_wait` is over: the library forgets a subscription when it ends it, and passes over what still comes for
//! it. So a reader that drains has to [ask no more](Pull::ask_no_more) first and to end the subscription last.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message as Incoming, StatusCode, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};

/// How long the server keeps a request, at most: less where the consumer's `max_expires` is.
pub(super) const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server tells of a request that it has nothing for. It is gone when it misses two.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Header: how many messages were left of a request that ended.
const LEFT: &str = "Nats-Pending-Messages";

/// A consumer that is asked for messages, over one connection.
#[derive(Debug)]
pub(super) struct Pull {
    consumer: PullConsumer,
    request: BatchConfig,
    inbox: Subject,
    subscriber: Subscriber,
    /// How many messages the server was asked for and has neither sent nor refused.
    asked: usize,
    /// When the server was last heard or asked.
    heard: Instant,
    asks: bool,
}

/// What a status in place of a message means.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    /// The server lives.
    Heartbeat,
    /// A request has ended with so many messages left.
    Ended(usize),
    /// Nothing will come any more; why.
    Failed(String),
}

impl Pull {
    /// Nothing is asked for until the first [`next`](Self::next). `batch` is lowered to the consumer's `max_batch`.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn open(
        client: &async_nats::Client,
        consumer: PullConsumer,
        batch: usize,
    ) -> Result<Self, async_nats::SubscribeError> {
        let limits = &consumer.cached_info().config;
        let request = request(limits.max_batch, limits.max_expires, batch);
        let inbox = Subject::from(client.new_inbox());
        let subscriber = client.subscribe(inbox.clone()).await?;
        Ok(Self { consumer, request, inbox, subscriber, asked: 0, heard: Instant::now(), asks: true })
    }

    /// The consumer, to be asked how it stands.
    pub(super) fn consumer(&self) -> PullConsumer {
        self.consumer.clone()
    }

    /// The next message; asks for more when half of what was asked for has come. `None` when the connection is
    /// lost. May be cancelled without a loss.
    ///
    /// # Errors
    /// Why the server will send no more: the consumer was deleted, a limit of it exceeded, or it is silent.
    pub(super) async fn next(&mut self) -> Result<Option<Incoming>, String> {
        loop {
            if self.asks && self.asked <= self.request.batch / 2 {
                let sent = self.consumer.request_batch(self.request.clone(), self.inbox.clone()).await;
                sent.map_err(|error| error.to_string())?;
                self.asked += self.request.batch;
                self.heard = Instant::now();
            }
            let silent = self.heard + 2 * self.request.idle_heartbeat;
            let Ok(message) = timeout_at(silent, self.subscriber.next()).await else {
                return Err("missed idle heartbeat".into());
            };
            let Some(message) = message else { return Ok(None) };
            self.heard = Instant::now();
            let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
                self.asked = self.asked.saturating_sub(1);
                return Ok(Some(message));
            };
            match notice(status, &message, self.request.batch) {
                Notice::Failed(reason) if self.asks => return Err(reason),
                Notice::Failed(_) => self.asked = 0,
                Notice::Ended(left) => self.asked = self.asked.saturating_sub(left),
                Notice::Heartbeat => {}
            }
        }
    }

    /// The next message if it is here already.
    pub(super) fn next_ready(&mut self) -> Option<Result<Option<Incoming>, String>> {
        self.next().now_or_never()
    }

    /// From now on only what was asked for comes, or less: a request that ends early is no error any more.
    pub(super) fn ask_no_more(&mut self) {
        self.asks = false;
    }

    /// Whether the server has sent all that it was asked for.
    pub(super) fn is_exhausted(&self) -> bool {
        self.asked == 0
    }

    /// Ends the subscription: what is on its way is lost. What is acknowledged or given back from now on the server
    /// hears after this, and sends nothing in its place.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn end(&mut self) -> Result<(), async_nats::UnsubscribeError> {
        self.subscriber.unsubscribe().await
    }
}

/// What is asked for at a time, within the limits of the consumer: 0 where it has none.
fn request(max_batch: i64, max_expires: Duration, batch: usize) -> BatchConfig {
    let most = usize::try_from(max_batch).ok().filter(|most| *most > 0);
    let expires = if max_expires.is_zero() { EXPIRES } else { EXPIRES.min(max_expires) };
    BatchConfig {
        batch: batch.min(most.unwrap_or(usize::MAX)),
        expires: Some(expires),
        // The server takes no more than half.
        idle_heartbeat: HEARTBEAT.min(expires / 2),
        ..Default::default()
    }
}

/// `batch`: the size of a request, of which old servers do not say how much was left.
fn notice(status: StatusCode, message: &Incoming, batch: usize) -> Notice {
    let description = message.description.as_deref().unwrap_or_default();
    let left = message.headers.as_ref().and_then(|headers| headers.get(LEFT)?.as_str().parse().ok());
    match (status, left) {
        (StatusCode::IDLE_HEARTBEAT, _) => Notice::Heartbeat,
        (StatusCode::TIMEOUT, left) => Notice::Ended(left.unwrap_or(batch)),
        (StatusCode::REQUEST_TERMINATED, Some(left)) => Notice::Ended(left),
        (StatusCode::NO_RESPONDERS, _) => Notice::Failed("no responders".into()),
        // Of a consumer that is gone, of a limit: to ask again at once would bring the same answer.
        _ => Notice::Failed(format!("{status} {description}").trim_end().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn status(description: &str, left: Option<&str>) -> Incoming {
        let headers = left.map(|left| {
            let mut headers = HeaderMap::new();
            headers.insert(LEFT, left);
            headers
        });
        Incoming {
            subject: "_INBOX.a".into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers,
            status: None,
            description: Some(description.into()),
            length: 0,
        }
    }

    #[test]
    fn a_status_tells_how_much_of_a_request_was_left_or_why_no_more_comes() {
        for (code, description, left, expected) in [
            (StatusCode::IDLE_HEARTBEAT, "Idle Heartbeat", None, Notice::Heartbeat),
            (StatusCode::TIMEOUT, "Request Timeout", Some("3"), Notice::Ended(3)),
            (StatusCode::TIMEOUT, "Request Timeout", None, Notice::Ended(10)),
            (StatusCode::REQUEST_TERMINATED, "Leadership Change", Some("7"), Notice::Ended(7)),
            (
                StatusCode::REQUEST_TERMINATED,
                "Consumer Deleted",
                None,
                Notice::Failed("409 Consumer Deleted".into()),
            ),
            (StatusCode::NO_RESPONDERS, "", None, Notice::Failed("no responders".into())),
            (StatusCode::NOT_FOUND, "", None, Notice::Failed("404".into())),
        ] {
            assert_eq!(notice(code, &status(description, left), 10), expected, "{code} {description}");
        }
    }

    #[test]
    fn a_request_keeps_to_the_limits_of_the_consumer() {
        let asked = |max_batch, max_expires, batch| {
            let request = request(max_batch, Duration::from_secs(max_expires), batch);
            (request.batch, request.expires.unwrap().as_secs(), request.idle_heartbeat.as_secs())
        };
        assert_eq!(asked(0, 0, 256), (256, 30, 5));
        assert_eq!(asked(100, 8, 256), (100, 8, 4));
        assert_eq!(asked(1000, 60, 256), (256, 30, 5));
    }
}
