//! Deliveries on their way to the server, each answered by what is known of it and nothing else.
//!
//! - To a stream: delivered when its acknowledgement has come.
//! - Core NATS acknowledges nothing. After each batch an empty message is sent to this very connection; when
//!   it is back the server has read the batch, since it reads a connection in order. A refusal (no permission)
//!   comes before that echo, but by another way through the client library; so the first batch to a subject
//!   is only answered after a second echo.
//! - Where echoes are not permitted or not wanted: delivered when the bytes are handed to the system.
//!
//! When the connection is lost everything unanswered is undelivered. A message's own reply subject is never
//! used, nor is anything ever published to one.

use std::collections::HashSet;
use std::sync::Arc;

use async_nats::client::traits::Publisher as _;
use async_nats::header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::Stream;
use async_nats::message::OutboundMessage;
use async_nats::{Message, PublishErrorKind, Subject};
use bytes::Bytes;
use bytestring::ByteString;
use foldhash::fast::RandomState;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::super::codec::{Encoder, message_id};
use super::super::config::ClientConfig;
use super::TargetOptions;
use super::puback::{self, Answer};
use super::session::{Inbox, Session};
use super::setup::takes_subject;
use super::window::{Addressed, Sent, Window};
use crate::core::delivery::{Deliveries, Reason};
use crate::core::spelling::to_subject;
use crate::core::stats::ConnectorStats;
use crate::core::{Delivery, Error, ErrorKind, Outcome};

/// Most deliveries taken from the mailbox at a time.
const BATCH: usize = 256;
/// Most subjects remembered as permitted; beyond, they are forgotten and earn it again.
const PERMITTED_MAX: usize = 4096;

/// See the [module](self).
pub(super) struct Sink<'a> {
    session: &'a Session,
    config: &'a ClientConfig,
    stats: &'a ConnectorStats,
    inbox: Inbox,
    echoes: bool,
    encoder: Encoder,
    window: Window,
    /// Subjects that a batch was delivered to.
    permitted: HashSet<ByteString, RandomState>,
    /// Nobody took these; whether a stream should have is being asked.
    homeless: Vec<Addressed>,
    asking: Option<BoxFuture<'static, Result<Stream, GetStreamError>>>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        session: &'a Session,
        config: &'a ClientConfig,
        stats: &'a Arc<ConnectorStats>,
        inbox: Inbox,
        echoes: bool,
    ) -> Self {
        Self {
            session,
            config,
            stats,
            inbox,
            echoes,
            encoder: Encoder::default(),
            window: Window::new(),
            permitted: HashSet::default(),
            homeless: Vec::new(),
            asking: None,
        }
    }

    /// Sends until the mailbox is closed and all is answered.
    ///
    /// # Errors
    /// The connection is lost, or the server takes nothing more. All that waited is answered.
    pub(super) async fn run(mut self, deliveries: &mut Deliveries) -> Result<(), Error> {
        let result = self.work(deliveries).await;
        let reason: Reason = match &result {
            Ok(()) => "the connector stopped".into(),
            Err(error) => error.to_string().into(),
        };
        let waiting = self.window.drain().flat_map(Sent::into_deliveries);
        for delivery in waiting.chain(self.homeless.drain(..).map(|(_, delivery)| delivery)) {
            delivery.answer(Outcome::Undelivered(reason.clone()));
        }
        result
    }

    async fn work(&mut self, deliveries: &mut Deliveries) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut open = true;
        let mut tick = interval((self.config.ack_timeout.0 / 8).max(std::time::Duration::from_millis(5)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while open || !self.window.is_empty() || !self.homeless.is_empty() {
            let room =
                self.config.in_flight.saturating_sub(self.window.len() + self.homeless.len()).min(BATCH);
            tokio::select! {
                biased;
                reply = self.inbox.replies.next() => {
                    let Some(reply) = reply else { return Err(self.loss()) };
                    self.take_replies(reply).await?;
                }
                Some(fault) = self.inbox.faults.recv() => self.fault(&fault)?,
                answer = ask(&mut self.asking), if self.asking.is_some() => self.place(answer),
                n = deliveries.recv(&mut batch, room), if open && room > 0 => {
                    open = n > 0;
                    self.send(&mut batch).await?;
                }
                _ = tick.tick(), if !self.window.is_empty() => self.expire()?,
            }
        }
        Ok(())
    }

    /// Takes this reply and all that have come with it.
    async fn take_replies(&mut self, first: Message) -> Result<(), Error> {
        let mut next = Some(first);
        while let Some(reply) = next {
            self.take_reply(reply).await?;
            next = self.inbox.replies.next().now_or_never().flatten();
        }
        Ok(())
    }

    async fn take_reply(&mut self, reply: Message) -> Result<(), Error> {
        let Some(number) = reply.subject.rsplit('.').next().and_then(|number| number.parse().ok()) else {
            return Ok(());
        };
        match self.window.is_stream(number) {
            Some(true) => {
                // Anything else is of a service that listens on the subject as well: the stream's own is still
                // to come.
                if let Some(answer) = puback::read(&reply)
                    && let Some(Sent::Stream(addressed)) = self.window.take(number)
                {
                    self.settle(addressed, answer);
                }
            }
            Some(false) => match self.window.take(number) {
                Some(Sent::Core { deliveries, settled: false }) => {
                    self.echo(Sent::Core { deliveries, settled: true }).await?;
                }
                Some(Sent::Core { deliveries, .. }) => self.delivered(deliveries),
                _ => {}
            },
            None => debug!(peer = self.session.peer, number, "answer to nothing that waits"),
        }
        Ok(())
    }

    fn settle(&mut self, (subject, delivery): Addressed, answer: Answer) {
        match answer {
            Answer::Stored => {
                self.stats.sent.add(1);
                delivery.answer(Outcome::Delivered);
            }
            Answer::Refused(reason) => {
                delivery.answer(Outcome::Rejected(format!("{subject}: {reason}").into()));
            }
            Answer::Away(reason) => {
                delivery.answer(Outcome::Undelivered(format!("{subject}: {reason}").into()));
            }
            Answer::NoResponder => {
                self.homeless.push((subject, delivery));
                if self.asking.is_none() {
                    self.asking = self.config.jetstream.as_ref().map(|jetstream| {
                        let (context, stream) = (self.session.context.clone(), jetstream.stream.clone());
                        async move { context.get_stream(stream).await }.boxed()
                    });
                }
            }
        }
    }

    /// Decides about what nobody took: wrong when the stream does not have the subject, else only too early.
    fn place(&mut self, answer: Result<Stream, GetStreamError>) {
        self.asking = None;
        for (subject, delivery) in std::mem::take(&mut self.homeless) {
            let outcome = match &answer {
                Ok(stream) => {
                    let config = &stream.cached_info().config;
                    if takes_subject(&config.subjects, &subject) {
                        Outcome::Undelivered(
                            format!("{subject}: stream {} is not ready", config.name).into(),
                        )
                    } else {
                        let (name, has) = (&config.name, config.subjects.join(", "));
                        Outcome::Rejected(
                            format!(
                                "no stream has subject {subject}: stream {name} has {has}; add the subject to \
                                 the stream, or set jetstream: false at the route's target for core NATS"
                            )
                            .into(),
                        )
                    }
                }
                Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(_)) => {
                    Outcome::Rejected(format!("no stream has subject {subject}: {error}").into())
                }
                Err(error) => Outcome::Undelivered(format!("{subject}: {error}").into()),
            };
            delivery.answer(outcome);
        }
    }

    async fn send(&mut self, batch: &mut Vec<Delivery>) -> Result<(), Error> {
        let now = Instant::now();
        let mut core = Vec::new();
        for delivery in batch.drain(..) {
            let Some(target) = delivery.options::<TargetOptions>().copied() else {
                delivery.answer(Outcome::Rejected("the target is none of NATS".into()));
                continue;
            };
            let message = match self.message(&delivery, target) {
                Ok(message) => message,
                Err(reason) => {
                    delivery.answer(Outcome::Rejected(reason));
                    continue;
                }
            };
            let subject = message.subject.clone();
            if let Err(error) = self.session.client.publish_message(message).await {
                self.unsent(delivery, &error)?;
            } else if target.jetstream {
                self.window.push(Sent::Stream((subject, delivery)), now);
            } else {
                core.push((subject, delivery));
            }
        }
        if core.is_empty() {
            return Ok(());
        }
        if self.echoes {
            let settled = core.iter().all(|(subject, _)| self.permitted.contains(&**subject));
            return self.echo(Sent::Core { deliveries: core, settled }).await;
        }
        let flushed = self.session.client.flush().await;
        flushed.map_err(|error| self.loss().because(error))?;
        self.delivered(core);
        Ok(())
    }

    fn message(&mut self, delivery: &Delivery, target: TargetOptions) -> Result<OutboundMessage, Reason> {
        let subject = match &delivery.address {
            Some(address) => Subject::from_utf8(address.clone().into_bytes()).map_err(|e| e.to_string())?,
            None => to_subject(&delivery.envelope.topic).map_err(|error| error.to_string())?.into(),
        };
        let encoded = self
            .encoder
            .encode(&delivery.envelope, target.content_mode)
            .map_err(|error| Reason::from(error.to_string()))?;
        let mut headers = encoded.headers;
        let mut reply = None;
        if target.jetstream {
            if self.config.dedupe {
                headers.insert(NATS_MESSAGE_ID, message_id(&delivery.envelope, &subject));
            }
            if let Some(jetstream) = &self.config.jetstream {
                headers.insert(NATS_EXPECTED_STREAM, jetstream.stream.as_str());
            }
            reply = Some(self.answer_subject());
        }
        let headers = (!headers.is_empty()).then_some(headers);
        Ok(OutboundMessage { subject, reply, payload: encoded.payload, headers })
    }

    /// Where the answer to the next entry of the window comes to.
    fn answer_subject(&self) -> Subject {
        format!("{}.{}", self.session.inbox, self.window.next()).into()
    }

    /// Answers for a message the client library did not take.
    fn unsent(&self, delivery: Delivery, error: &async_nats::PublishError) -> Result<(), Error> {
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                self.stats.oversize.add(1);
                delivery.answer(Outcome::Rejected(cause.into()));
                Ok(())
            }
            PublishErrorKind::InvalidSubject => {
                delivery.answer(Outcome::Rejected(format!("the subject is invalid: {cause}").into()));
                Ok(())
            }
            PublishErrorKind::Send => {
                let lost = self.loss();
                delivery.answer(Outcome::Undelivered(lost.to_string().into()));
                Err(lost)
            }
        }
    }

    async fn echo(&mut self, sent: Sent) -> Result<(), Error> {
        let token = self.answer_subject();
        self.window.push(sent, Instant::now());
        let published = self.session.client.publish(token, Bytes::new()).await;
        published.map_err(|error| self.loss().because(error))
    }

    fn delivered(&mut self, deliveries: Vec<Addressed>) {
        self.stats.sent.add(deliveries.len() as u64);
        for (subject, delivery) in deliveries {
            if self.echoes && !self.permitted.contains(&*subject) {
                if self.permitted.len() >= PERMITTED_MAX {
                    self.permitted.clear();
                }
                self.permitted.insert(subject.as_str().into());
            }
            delivery.answer(Outcome::Delivered);
        }
    }

    fn expire(&mut self) -> Result<(), Error> {
        let Some(limit) = Instant::now().checked_sub(self.config.ack_timeout.0) else { return Ok(()) };
        while let Some(sent) = self.window.overdue(limit) {
            let limit = self.config.ack_timeout;
            match sent {
                Sent::Stream((subject, delivery)) => delivery.answer(Outcome::Undelivered(
                    format!("{subject}: no acknowledgement within {limit}").into(),
                )),
                core @ Sent::Core { .. } => {
                    // Echoes need nothing but the connection: it is stuck.
                    let error =
                        self.session.error(ErrorKind::Disconnected, format!("no answer within {limit}"));
                    for delivery in core.into_deliveries() {
                        delivery.answer(Outcome::Undelivered(error.to_string().into()));
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Acts on a complaint of the server: refuses what it is about, or ends the connection.
    fn fault(&mut self, text: &str) -> Result<(), Error> {
        if let Some(subject) = quoted_after(text, "Permissions Violation for Publish to ") {
            if subject.starts_with(&self.session.inbox) {
                // Without echoes it is known already; else the server's rules have just changed.
                let changed = || Err(self.session.error(ErrorKind::Disconnected, text));
                return if self.echoes { changed() } else { Ok(()) };
            }
            warn!(peer = self.session.peer, subject, "the server permits no publish to this subject");
            self.permitted.remove(subject);
            let reason = Reason::from(format!("the server refused: {text}"));
            for delivery in self.window.refused(subject) {
                delivery.answer(Outcome::Rejected(reason.clone()));
            }
            return Ok(());
        }
        if let Some(subject) = quoted_after(text, "Permissions Violation for Subscription to ") {
            if subject.starts_with(&self.session.inbox) && self.config.jetstream.is_none() {
                return Ok(());
            }
            return Err(self.session.error(ErrorKind::Denied, text));
        }
        warn!(peer = self.session.peer, error = text, "the server complains");
        Ok(())
    }

    /// The connection is lost; the server may have said why.
    fn loss(&self) -> Error {
        self.session.lost()
    }
}

/// The text in double quotes that follows `what`.
fn quoted_after<'t>(text: &'t str, what: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(what)?;
    rest.strip_prefix('"')?.split('"').next()
}

/// Polls the question that is under way; never ready without one.
async fn ask(
    asking: &mut Option<BoxFuture<'static, Result<Stream, GetStreamError>>>,
) -> Result<Stream, GetStreamError> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}
