//! Reads a JetStream stream back from its first message, and CloudEvents from NATS messages.
//!
//! The decoding is the test's own, written from the binding, so that a mistake of the bus is not undone by itself.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer};
use bytes::Bytes;
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;

use crate::ledger::{Attributes, Ledger, Report, Seen};
use crate::peers::NatsServer;
use crate::process::until;

/// One stored message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Every message of the stream in its order.
pub(crate) async fn read(server: &NatsServer, stream: &str) -> Vec<Message> {
    let client = server.client().await;
    let stream = jetstream::new(client).get_stream(stream).await.expect("the stream");
    let total = stream.cached_info().state.messages as usize;
    let config = consumer::pull::Config { ack_policy: consumer::AckPolicy::None, ..Default::default() };
    let consumer = stream.create_consumer(config).await.expect("a consumer of the stream");
    let mut messages = Vec::with_capacity(total);
    while messages.len() < total {
        let batch = consumer.fetch().max_messages(500).expires(Duration::from_secs(5)).messages().await;
        let mut batch = batch.expect("a batch of the stream");
        let before = messages.len();
        while let Some(message) = batch.next().await {
            let message = message.expect("a message of the stream");
            messages.push(Message {
                subject: message.subject.to_string(),
                headers: message.headers.clone().unwrap_or_default(),
                payload: message.payload.clone(),
            });
        }
        assert!(messages.len() > before, "the stream ended after {before} of {total} messages");
    }
    messages
}

/// Waits until all that was acknowledged is stored and nothing more comes, then checks the whole stream.
pub(crate) async fn settle(server: &NatsServer, stream: &str, ledger: &Ledger, limit: Duration) -> Report {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        quiet(server, stream, limit).await;
        let seen: Vec<_> = read(server, stream).await.iter().map(Message::seen).collect();
        let report = ledger.check(&seen);
        if report.missing.is_empty() || tokio::time::Instant::now() > deadline {
            return report;
        }
    }
}

/// Waits until a stream has not grown for two seconds.
pub(crate) async fn quiet(server: &NatsServer, stream: &str, limit: Duration) {
    let client = server.client().await;
    let stream = jetstream::new(client).get_stream_no_info(stream).await.expect("the stream");
    let mut last = (u64::MAX, tokio::time::Instant::now());
    until("the stream stops growing", limit, async || {
        let messages = stream.get_info().await.ok()?.state.messages;
        if messages != last.0 {
            last = (messages, tokio::time::Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
}

impl Message {
    /// As a binary-mode CloudEvent: `ce-` headers, percent-encoded.
    pub(crate) fn binary(&self) -> Attributes {
        let headers = self.headers.iter().filter_map(|(name, values)| {
            let name = name.to_string().to_ascii_lowercase();
            let value = percent_decode_str(values.first()?.as_str()).decode_utf8_lossy().into_owned();
            Some((name.strip_prefix("ce-")?.to_owned(), value))
        });
        headers.collect()
    }

    /// For the ledger: the key is the last token of the subject.
    pub(crate) fn seen(&self) -> Seen {
        let key = self.subject.rsplit('.').next().unwrap_or_default().to_owned();
        Seen { attributes: self.binary(), key, payload: self.payload.clone() }
    }
}
