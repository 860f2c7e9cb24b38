//! Delivering to the sink of a push subscription.
//!
//! Records of one order key go one after the other; several keys at a time. A sink that is away is tried
//! again for as long as it is; meanwhile the oldest records that wait are dropped, counted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::Shared;
use super::super::access::Caller;
use super::Checked;
use crate::core::Outcome;
use crate::core::access::Action;
use crate::core::consumer::Overflow;
use crate::core::record::{Record, Records};
use crate::core::subscription::{Message, Start, Subscription};
use crate::runtime::backoff::Backoff;
use crate::runtime::task;
use crate::runtime::tls::ClientTls;
use crate::transport::http::client::dial::http_client;
use crate::transport::http::client::webhook::Webhook;
use crate::transport::http::codec::encode;

/// Order keys delivered at a time.
const LANES: u64 = 8;
/// How often a sink may say no to one record before it is given up.
const ATTEMPTS: u32 = 8;
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

struct Delivery {
    id: String,
    checked: Checked,
    caller: Caller,
    webhook: Webhook,
    shared: Arc<Shared>,
}

/// Starts deliveries with what comes next, until `end`.
///
/// # Errors
/// When this machine's certificates cannot be read.
pub(super) fn start(
    shared: &Arc<Shared>,
    id: &str,
    checked: Checked,
    caller: Caller,
    end: CancellationToken,
) -> Result<(), String> {
    let urls = [checked.url.clone()];
    let allow_private = shared.config.allow_private_sinks;
    let http = http_client(&urls, &ClientTls::default(), allow_private, LANES as usize)?;
    let webhook = Webhook::new(http, checked.method.clone(), TIMEOUT, &urls, LANES as usize);
    let delivery = Delivery { id: id.to_owned(), checked, caller, webhook, shared: Arc::clone(shared) };
    // Subscribed before the answer goes out: what is published after it is delivered.
    let feed = delivery.subscribe().map_err(|gone| gone.to_string())?;
    drop(task::spawn(format!("subscription {id}"), async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = delivery.shared.shutdown.drain() => {}
            () = delivery.run(feed) => {}
        }
    }));
    Ok(())
}

impl Delivery {
    fn subscribe(&self) -> Result<Subscription, crate::core::log::Gone> {
        let max = self.shared.config.max_queued;
        self.shared.bus.subscribe(self.checked.selector.clone(), Start::Now, max, Overflow::DropOldest)
    }

    async fn run(&self, mut feed: Subscription) {
        loop {
            match feed.next().await {
                Some(Message::Batch(records)) => self.deliver(&records).await,
                Some(Message::Lost(n)) => {
                    self.shared.stats.lost.add(n);
                    warn!(subscription = self.id, lost = n, "sink too slow, oldest events dropped");
                }
                // State this sink missed while it was away is read from the table again.
                Some(Message::SnapshotBegin | Message::SnapshotEnd(_)) => {}
                Some(Message::Gone(_)) | None => match self.subscribe() {
                    Ok(fresh) if !self.shared.shutdown.is_draining() => feed = fresh,
                    _ => return,
                },
            }
        }
    }

    async fn deliver(&self, records: &Records) {
        let lane = |lane: u64| async move {
            for record in records.iter().filter(|record| record.envelope.order_key() % LANES == lane) {
                self.deliver_one(record).await;
            }
        };
        join_all((0..LANES).map(lane)).await;
    }

    async fn deliver_one(&self, record: &Record) {
        let mut caller = self.caller.clone();
        caller.renew(&self.shared.bus);
        if !caller.may(Action::Subscribe, &record.envelope.topic) {
            return;
        }
        let Checked { mode, format, compat, headers, .. } = &self.checked;
        let (own, body) = match encode(&record.envelope, *mode, *format, *compat) {
            Ok(message) => message,
            Err(error) => {
                warn!(subscription = self.id, seq = %record.seq, %error, "cannot be sent");
                return;
            }
        };
        let mut headers = headers.clone();
        headers.extend(own);
        let mut backoff = Backoff::default();
        let mut refusals = 0;
        loop {
            match self.webhook.send(None, &headers, &body).await {
                Outcome::Delivered | Outcome::Filtered => return self.shared.stats.sent.add(1),
                Outcome::Rejected(reason) => {
                    refusals += 1;
                    if refusals == ATTEMPTS {
                        warn!(subscription = self.id, seq = %record.seq, %reason, "sink refused, given up");
                        return;
                    }
                }
                Outcome::Undelivered(reason) => {
                    info!(subscription = self.id, %reason, "sink away, tried again");
                }
            }
            sleep(backoff.next_wait()).await;
        }
    }
}
