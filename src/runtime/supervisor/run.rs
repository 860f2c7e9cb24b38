//! The life of one connector: run, judge how the run ended, wait, run again.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::{Progress, State};
use crate::core::error::{causes, panic_message};
use crate::core::{Error, ErrorKind, Refused};
use crate::runtime::backoff::Backoff;
use crate::transport::{Connector, Link};

/// A run that was ready for so long has proved that the way is good: its failure starts the back-off anew.
const PROVEN: Duration = Duration::from_secs(10);

/// A peer that asks for more time than this is called again nevertheless.
const BUSY_MAX: Duration = Duration::from_mins(5);

/// How often a back-off looks, while draining, whether it is still waited for.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// How a run ended.
#[derive(Debug)]
enum Ended {
    Finished,
    Failed(Error),
    Panicked(String),
    /// The grace period is over; the run was dropped.
    Cut,
}

/// What follows a run.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Stop,
    Wait(Duration),
    Denied,
}

/// Runs `connector` until its shutdown, and gives the link back.
pub(super) async fn supervise(
    name: ByteString,
    mut connector: Box<dyn Connector>,
    mut link: Link,
    progress: Arc<Progress>,
) -> Link {
    let mut backoff = Backoff::default();
    loop {
        let (ended, ready_for) = run_once(connector.as_mut(), &mut link, &name, &progress).await;
        let next = judge(&ended, ready_for, link.shutdown.is_draining(), &mut backoff);
        let again = match next {
            Next::Stop => false,
            Next::Wait(wait) => {
                let reason = reason(&ended);
                warn!(connector = %name, error = %reason, retry_in = ?wait, "connector failed");
                link.ready.down(reason.clone());
                let down = Refused::unavailable(&name, &reason);
                progress.failed(State::Waiting, reason);
                let (rest, writes) = link.split();
                tokio::select! {
                    again = pause(&rest, wait) => again,
                    never = writes.refuse(&down) => match never {},
                }
            }
            Next::Denied => {
                let reason = reason(&ended);
                error!(connector = %name, error = %reason, "connector was refused, not tried again until a reload");
                link.ready.down(reason.clone());
                let down = Refused::unavailable(&name, &reason);
                progress.failed(State::Denied, reason);
                backoff.reset();
                tokio::select! {
                    () = progress.retry.notified() => true,
                    () = link.shutdown.drain() => false,
                    never = link.writes.refuse(&down) => match never {},
                }
            }
        };
        if !again {
            link.ready.down("stopped");
            return link;
        }
        progress.restarted();
    }
}

/// One call of the connector; also says for how long it was ready, if it was at all.
async fn run_once(
    connector: &mut dyn Connector,
    link: &mut Link,
    name: &ByteString,
    progress: &Progress,
) -> (Ended, Option<Duration>) {
    let shutdown = link.shutdown.clone();
    let mut ready = link.ready.watch();
    let mut up_since: Option<Instant> = None;
    let mut ready_for: Option<Duration> = None;
    // The connector connects anew in each run, so what a panic left half-done is not looked at again.
    let mut run = pin!(AssertUnwindSafe(async { connector.run(link).await }).catch_unwind());
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            biased;
            result = &mut run => break match result {
                Ok(Ok(())) => Ended::Finished,
                Ok(Err(error)) => Ended::Failed(error),
                Err(panic) => Ended::Panicked(panic_message(panic.as_ref()).to_owned()),
            },
            () = shutdown.end() => break Ended::Cut,
            () = shutdown.drain(), if !draining => {
                draining = true;
                progress.enter(State::Draining);
            }
            Ok(()) = ready.changed() => {
                let now = ready.borrow_and_update().clone();
                note(name, &now, up_since.is_some());
                if let Some(since) = up_since.take() {
                    ready_for = Some(ready_for.unwrap_or_default() + since.elapsed());
                }
                if now.is_ok() {
                    up_since = Some(Instant::now());
                    ready_for.get_or_insert_default();
                }
                if !draining {
                    progress.enter(if now.is_ok() { State::Ready } else { State::Connecting });
                }
            }
        }
    };
    if let Some(since) = up_since {
        ready_for = Some(ready_for.unwrap_or_default() + since.elapsed());
    }
    (ended, ready_for)
}

fn note(name: &ByteString, ready: &Result<(), String>, was_up: bool) {
    match ready {
        Ok(()) if !was_up => info!(connector = %name, "ready"),
        Err(reason) if was_up => info!(connector = %name, reason, "not ready any more"),
        _ => {}
    }
}

fn judge(ended: &Ended, ready_for: Option<Duration>, draining: bool, backoff: &mut Backoff) -> Next {
    match ended {
        Ended::Cut => Next::Stop,
        Ended::Finished if draining => Next::Stop,
        Ended::Failed(Error { kind: ErrorKind::Denied, .. }) => Next::Denied,
        Ended::Failed(Error { kind: ErrorKind::Busy(wait), .. }) => Next::Wait((*wait).min(BUSY_MAX)),
        Ended::Finished | Ended::Failed(_) | Ended::Panicked(_) => {
            let lost = matches!(ended, Ended::Failed(Error { kind: ErrorKind::Disconnected, .. }));
            if ready_for.is_some_and(|up| lost || up >= PROVEN) {
                backoff.reset();
            }
            Next::Wait(backoff.next_wait())
        }
    }
}

/// Waits out a back-off; says whether to run again. A drain cuts it short unless deliveries wait for the peer;
/// those of a paused mailbox wait for the connector's successor instead.
async fn pause(link: &Link, wait: Duration) -> bool {
    let mut over = pin!(sleep(wait));
    let mailbox = &link.deliveries.0;
    loop {
        let draining = link.shutdown.is_draining();
        if draining && (mailbox.is_empty() || mailbox.is_paused()) {
            return false;
        }
        tokio::select! {
            () = &mut over => return true,
            () = link.shutdown.end() => return false,
            () = link.shutdown.drain(), if !draining => {}
            // The mailbox is paused, or its last delivery is taken back, just after the drain has begun.
            () = sleep(DRAIN_LOOK), if draining => {}
        }
    }
}

/// How a run ended, in one line with all causes.
fn reason(ended: &Ended) -> String {
    match ended {
        Ended::Finished => "ended without being asked to".to_owned(),
        Ended::Panicked(message) => format!("panicked: {message}"),
        Ended::Cut => "cut off".to_owned(),
        Ended::Failed(error) => causes(error),
    }
}
