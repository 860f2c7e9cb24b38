//! A JetStream pull consumer: at least once, each message acknowledged when the bus has delivered it.
//!
//! A delivery that takes long is reported as in progress, so that the server does not send it again; the
//! router retries inside, which keeps the order of a key. Only what the bus gives up is refused with a delay.
//!
//! After a connection was lost the server goes on with new messages at once, and sends what was under way
//! again in no order, most of it only when `ack_wait` is over. To keep the order of a key, all that comes waits
//! until nothing is missing: see [`Reorder`].

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use async_nats::{Message as Incoming, Subject};
use bytestring::ByteString;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::codec::{Context, Decoder, Message};
use super::super::config::{ClientConfig, ConsumerConfig, SubscribeConfig};
use super::acks::{AckSubject, payload};
use super::held::{Held, Known, Taken, Verdict};
use super::pull::Pull;
use super::reorder::{Reorder, Report};
use super::session::Session;
use super::setup;
use super::source::Source;
use crate::core::{Envelope, Error, ErrorKind, Receipt};
use crate::runtime::shutdown::Shutdown;

/// How often what is not at the front is looked at, while anything is held.
const SWEEP: Duration = Duration::from_millis(20);

/// How long a drain waits, at most, for what the server may have sent: other buses that share the consumer, or a
/// steady trickle, leave no moment at which nothing is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// What a consumer keeps from one connection to the next.
#[derive(Default)]
pub(super) struct Intake {
    held: Held,
    /// Read, and not published yet.
    batch: Vec<Envelope>,
    /// The batch that is being published; the bus may have no room.
    publishing: Option<BoxFuture<'static, Vec<Receipt>>>,
    /// When its stream was created, and when the consumer.
    created: Option<(i128, i128)>,
}

/// A consumer that is being read.
pub(super) struct Reader<'a> {
    session: &'a Session,
    settings: &'a ConsumerConfig,
    source: &'a Source,
    intake: &'a mut Intake,
    pull: Pull,
    reorder: Reorder,
    asking: Option<BoxFuture<'static, Option<Report>>>,
    decoder: Decoder,
    /// `STREAM/` of ids.
    stream: String,
    /// Of messages that have none.
    name: ByteString,
    /// After how long the server hears that a message is still being worked on.
    silence: Duration,
    verdicts: Vec<(Subject, Verdict)>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Taking,
    /// The server is asked for no more, and what it has sent waits, to be given back.
    Draining,
    /// Nothing is on its way.
    Still,
    /// Given back.
    Drained,
}

impl<'a> Reader<'a> {
    /// Finds or makes the consumer and starts to pull.
    ///
    /// # Errors
    /// See [`setup::consumer`].
    pub(super) async fn open(
        session: &'a Session,
        config: &ClientConfig,
        entry: &SubscribeConfig,
        settings: &'a ConsumerConfig,
        source: &'a Source,
        intake: &'a mut Intake,
    ) -> Result<Self, Error> {
        let (consumer, created) = setup::consumer(session, config, entry, settings).await?;
        let info = consumer.cached_info();
        let ack_wait = info.config.ack_wait;
        intake.resume((created, info.created.unix_timestamp_nanos()), ack_wait);
        let reorder = Reorder::new(settings.ordered, info, &intake.held);
        let mut verdicts = Vec::new();
        intake.held.acknowledge_again(&mut verdicts);
        let pull = Pull::open(&session.client, consumer, settings.batch).await.map_err(|error| {
            session.error(ErrorKind::Unreachable, format!("consumer {}: {error}", settings.durable))
        })?;
        let stream = setup::stream_name(config, settings);
        let name = format!("//nats/{}/{stream}", session.authority).into();
        let (stream, silence) = (format!("{stream}/"), ack_wait / 2);
        Ok(Self {
            session,
            settings,
            source,
            intake,
            pull,
            reorder,
            asking: None,
            decoder: Decoder::default(),
            stream,
            name,
            silence,
            verdicts,
            stage: Stage::Taking,
        })
    }

    /// Takes in, publishes and acknowledges until the drain is done: then what was taken in is answered, and the
    /// rest of what the server has sent is given back.
    ///
    /// # Errors
    /// The connection is `lost`, the consumer is gone or does not answer.
    pub(super) async fn run(mut self, shutdown: &Shutdown, lost: &CancellationToken) -> Result<(), Error> {
        let mut drain = pin!(shutdown.drain());
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.stage == Stage::Still || self.stage == Stage::Draining && self.pull.is_exhausted() {
                self.give_back().await?;
            }
            self.tell().await?;
            self.intake.publish_next(self.source);
            if self.stage == Stage::Drained && self.intake.held.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = lost.cancelled() => {
                    self.take_rest();
                    return Err(self.session.lost());
                }
                () = &mut drain, if self.stage == Stage::Taking => {
                    self.stage = Stage::Draining;
                    self.pull.ask_no_more();
                    self.reorder.hold(ON_ITS_WAY);
                }
                receipts = ready(&mut self.intake.publishing) => {
                    self.tell_of_refused(&receipts);
                    self.intake.held.publish(receipts);
                    self.intake.held.settle_oldest(&mut self.verdicts);
                }
                () = self.intake.held.oldest_delivered(), if !self.intake.held.is_empty() => {
                    self.intake.held.settle_oldest(&mut self.verdicts);
                }
                _ = sweep.tick(), if !self.intake.held.is_empty() || self.reorder.is_open() => self.sweep(),
                report = ready(&mut self.asking) => self.compare(report),
                message = self.pull.next(), if self.reads() => self.take_ready(message)?,
            }
        }
    }

    /// What never became an event has no dead letter: the log is where its end is told.
    fn tell_of_refused(&self, receipts: &[Receipt]) {
        for (taken, receipt) in self.intake.held.unpublished().zip(receipts) {
            let Some(error) = self.source.refusal(receipt) else { continue };
            let (connector, stream) = (&self.source.connector, self.stream.trim_end_matches('/'));
            let (sequence, subject) = (taken.sequence, &taken.subject);
            warn!(%connector, stream, sequence, %subject, %error, "the bus refused a message: it is ended");
        }
    }

    /// Gives back what nobody has looked at, so that the server need not wait for it.
    async fn give_back(&mut self) -> Result<(), Error> {
        // First of all: the server would send it again, to nobody.
        self.pull.end().await.map_err(|_| self.session.lost())?;
        let replies = self.reorder.release().filter_map(|(message, _)| message.reply);
        self.verdicts.extend(replies.map(|reply| (reply, Verdict::Nak(Duration::ZERO))));
        self.stage = Stage::Drained;
        Ok(())
    }

    fn reads(&self) -> bool {
        match self.stage {
            Stage::Taking => {
                self.intake.batch.len() < self.settings.batch
                    && self.intake.held.len() + self.reorder.len() < self.settings.max_ack_pending
            }
            Stage::Draining => true,
            Stage::Still | Stage::Drained => false,
        }
    }

    fn sweep(&mut self) {
        self.intake.held.settle(self.silence, &mut self.verdicts);
        self.reorder.tell(self.silence, &mut self.verdicts);
        if self.stage == Stage::Draining && self.reorder.is_overdue() {
            self.stage = Stage::Still;
        } else if self.reorder.is_overdue() {
            info!(connector = %self.source.connector, "messages of an earlier connection did not come again");
            self.release();
        } else if self.asking.is_none() && self.reorder.asks() {
            let consumer = self.pull.consumer();
            self.asking =
                Some(async move { consumer.get_info().await.ok().map(|info| Report::from(&info)) }.boxed());
        }
    }

    /// Takes in what waited, when nothing is missing; of a drain, notes when nothing is on its way.
    fn compare(&mut self, report: Option<Report>) {
        let (Some(report), held) = (report, &self.intake.held) else { return };
        match self.stage {
            Stage::Taking if self.reorder.is_filled(report, held) => self.release(),
            Stage::Draining if self.reorder.is_still(report, held) => self.stage = Stage::Still,
            _ => {}
        }
    }

    fn release(&mut self) {
        for (message, info) in self.reorder.release() {
            self.take_in(&message, info);
        }
    }

    /// Takes in this message and those that have come with it.
    fn take_ready(&mut self, first: Result<Option<Incoming>, String>) -> Result<(), Error> {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Ok(Some(message)) => self.take(message),
                Ok(None) => return Err(self.session.lost()),
                Err(reason) => return Err(self.failed(&reason)),
            }
            next = if self.reads() { self.pull.next_ready() } else { None };
        }
        Ok(())
    }

    fn take(&mut self, message: Incoming) {
        let Some((reply, info)) =
            message.reply.as_ref().and_then(|reply| Some((reply, AckSubject::parse(reply)?)))
        else {
            warn!(connector = %self.source.connector, "message without the subject of its acknowledgement");
            return;
        };
        self.reorder.arrived(info);
        match self.intake.held.look_up(info, reply) {
            Known::New => {
                if let Some(message) = self.reorder.wait(message, info) {
                    self.take_in(&message, info);
                }
            }
            Known::Held => {
                debug!(connector = %self.source.connector, sequence = info.sequence, "sent again while under way");
            }
            Known::Settled => self.verdicts.push((reply.clone(), Verdict::Ack)),
        }
    }

    /// Reads a message, to be published with the next batch.
    fn take_in(&mut self, message: &Incoming, info: AckSubject) {
        let Some(reply) = &message.reply else { return };
        let context = || Context {
            id: format!("{}{}", self.stream, info.sequence).into(),
            source: self.name.clone(),
            time: info.stored(),
        };
        let incoming = Message {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
        };
        let Some((envelope, unreadable)) = self.source.read(&mut self.decoder, incoming, context) else {
            self.verdicts.push((reply.clone(), Verdict::Term("cannot be read".into())));
            return;
        };
        self.intake.batch.push(envelope);
        let taken = Taken {
            reply: reply.clone(),
            subject: message.subject.clone(),
            sequence: info.sequence,
            tries: info.tries,
            sending: Some(info.sending),
            unreadable,
        };
        self.intake.held.push(taken);
    }

    /// Takes what had arrived when the connection was lost; it would come again only after `ack_wait`.
    fn take_rest(&mut self) {
        while let Some(Ok(Some(message))) = self.pull.next_ready() {
            self.take(message);
        }
    }

    /// Sends the verdicts that are due.
    async fn tell(&mut self) -> Result<(), Error> {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        let reasons = self.session.takes_reasons;
        let verdicts = self.verdicts.drain(..);
        let client = &self.session.client;
        if self.settings.double_ack {
            let confirmed =
                verdicts.map(|(reply, verdict)| client.request(reply, payload(&verdict, reasons)));
            for error in join_all(confirmed).await.into_iter().filter_map(Result::err) {
                // The server sends the message again, which is safe; the connection tells about itself.
                warn!(connector = %self.source.connector, %error, "acknowledgement not confirmed");
            }
            return Ok(());
        }
        for (reply, verdict) in verdicts {
            let sent = client.publish(reply, payload(&verdict, reasons)).await;
            sent.map_err(|_| self.session.lost())?;
        }
        Ok(())
    }

    fn failed(&self, reason: &str) -> Error {
        let consumer = &self.settings.durable;
        self.session.error(ErrorKind::Disconnected, format!("consumer {consumer}: {reason}"))
    }
}

impl Intake {
    /// A connection begins, to the consumer of the stream that were created then.
    fn resume(&mut self, created: (i128, i128), ack_wait: Duration) {
        match self.created.replace(created) {
            Some((stream, consumer)) if stream == created.0 => {
                if consumer != created.1 {
                    self.held.forget_settled();
                }
            }
            // Another stream's sequences mean other messages.
            _ => *self = Self { created: Some(created), ..Self::default() },
        }
        self.held.reconnect(2 * ack_wait);
    }

    /// Publishes what was read while the last batch was being published.
    fn publish_next(&mut self, source: &Source) {
        if self.publishing.is_none() && !self.batch.is_empty() {
            let (source, batch) = (source.clone(), std::mem::take(&mut self.batch));
            self.publishing = Some(async move { source.publish(batch).await }.boxed());
        }
    }
}

/// Waits for a future that is there and takes it away; for ever when there is none.
async fn ready<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let output = future.await;
    *slot = None;
    output
}
