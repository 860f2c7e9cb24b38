//! A core NATS subscription: at most once, in the order the server sends.
//!
//! A message's reply subject is dropped. Answering there would tell a requester, or a JetStream consumer of
//! someone else, that its message was taken care of.

use std::pin::pin;

use async_nats::Subscriber;
use bytestring::ByteString;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::codec::{Context, Decoder, Message};
use super::super::config::SubscribeConfig;
use super::session::Session;
use super::source::Source;
use crate::core::{Error, ErrorKind};
use crate::runtime::shutdown::Shutdown;

/// Most messages published at a time.
const BATCH: usize = 256;

/// Subscribes.
///
/// # Errors
/// The connection is lost.
pub(super) async fn subscribe(session: &Session, entry: &SubscribeConfig) -> Result<Subscriber, Error> {
    let subscriber = match &entry.queue {
        Some(queue) => session.client.queue_subscribe(entry.subject.clone(), queue.clone()).await,
        None => session.client.subscribe(entry.subject.clone()).await,
    };
    subscriber.map_err(|error| {
        Error::new(ErrorKind::Disconnected, &session.peer).because(format!("{}: {error}", entry.subject))
    })
}

/// Publishes what comes until the connection is `lost` or the drain has emptied it.
pub(super) async fn run(
    subscriber: Subscriber,
    source: &Source,
    shutdown: &Shutdown,
    lost: &CancellationToken,
) {
    let name: ByteString = format!("//nats/{}", source.connector).into();
    let context = || Context { id: source.ids.next(), source: name.clone(), time: None };
    let mut chunks = subscriber.ready_chunks(BATCH);
    let mut decoder = Decoder::default();
    let mut draining = false;
    let mut drain = pin!(shutdown.drain());
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = chunks.next() => chunk,
            () = lost.cancelled() => return,
            () = &mut drain, if !draining => {
                draining = true;
                // Unsubscribes; what has arrived still comes, then the end. On a lost connection the end
                // comes without it.
                drop(chunks.get_mut().drain().await);
                continue;
            }
        };
        let Some(chunk) = chunk else { return };
        let mut batch = Vec::with_capacity(chunk.len());
        for message in chunk.iter().filter(|message| message.status.is_none()) {
            let message = Message {
                subject: &message.subject,
                headers: message.headers.as_ref(),
                payload: &message.payload,
            };
            batch.extend(source.read(&mut decoder, message, context).map(|(envelope, _)| envelope));
        }
        // Nothing waits for delivery: core NATS has no acknowledgement to give.
        for refused in source.publish(batch).await.iter().filter_map(|receipt| source.refusal(receipt)) {
            warn!(connector = %source.connector, error = %refused, "the bus refused a message");
        }
    }
}
