//! The supervisor: runs connectors, each in its own task, and calls them again after a back-off when they fail.
//!
//! Reconnecting is written here and nowhere else. A connector that fails, or panics, touches no other; its link
//! and with it its mailbox outlive the run, so what waits while the peer is away is there for the next one.
//!
//! | a run ends with | what follows |
//! |---|---|
//! | `Ok` while draining | the connector has stopped |
//! | `Ok` otherwise, `Unreachable`, `Protocol`, a panic | a new run after the back-off |
//! | `Disconnected` after it was ready, or any failure after 10 s of readiness | as above, the back-off starting anew |
//! | `Busy(d)` | a new run after `d`, at most 5 minutes |
//! | `Denied` | none until [`Supervisor::retry_denied`] or a new start |
//!
//! While draining, a connector that is down is called again only if deliveries wait for it. Deliveries wait for a
//! connector that is down; writes of what it owns are refused at once, since their writers wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::shutdown::Shutdown;
use super::task;
use crate::transport::{Connector, Link};

mod run;
#[cfg(test)]
mod tests;

/// Runs connectors by name.
#[derive(Debug, Default)]
pub struct Supervisor {
    running: Mutex<BTreeMap<ByteString, Supervised>>,
}

#[derive(Debug)]
struct Supervised {
    shutdown: Shutdown,
    progress: Arc<Progress>,
    /// Taken by whoever stops it.
    task: Option<JoinHandle<Link>>,
}

/// What a connector is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs and is not ready: not yet, or not any more.
    Connecting,
    /// It runs and is ready.
    Ready,
    /// It failed and is called again after a back-off.
    Waiting,
    /// The peer or the system refused it; not called again until a reload.
    Denied,
    /// It finishes what is under way.
    Draining,
}

impl State {
    /// The word for it in `/connectors` and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Denied => "denied",
            Self::Draining => "draining",
        }
    }
}

/// How a connector is.
#[derive(Clone, Debug)]
pub struct ConnectorStatus {
    /// Its name in the configuration.
    pub name: ByteString,
    /// What it does now.
    pub state: State,
    /// Why it is not ready; `None` when it is.
    pub not_ready: Option<String>,
    /// Since when it is in this state.
    pub since: Instant,
    /// How its last failed run ended, with all causes.
    pub last_error: Option<String>,
    /// How often it was called again.
    pub restarts: u64,
}

/// What a connector's task tells and is told.
#[derive(Debug)]
struct Progress {
    now: Mutex<Now>,
    ready: watch::Receiver<Result<(), String>>,
    retry: Notify,
}

#[derive(Debug)]
struct Now {
    state: State,
    since: Instant,
    last_error: Option<String>,
    restarts: u64,
}

impl Progress {
    fn enter(&self, state: State) {
        let mut now = self.now.lock();
        if now.state != state {
            now.state = state;
            now.since = Instant::now();
        }
    }

    fn failed(&self, state: State, error: String) {
        self.now.lock().last_error = Some(error);
        self.enter(state);
    }

    fn restarted(&self) {
        self.now.lock().restarts += 1;
        self.enter(State::Connecting);
    }

    fn status(&self, name: ByteString) -> ConnectorStatus {
        let now = self.now.lock();
        ConnectorStatus {
            name,
            state: now.state,
            not_ready: self.ready.borrow().as_ref().err().cloned(),
            since: now.since,
            last_error: now.last_error.clone(),
            restarts: now.restarts,
        }
    }
}

impl Supervisor {
    /// One that runs nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a connector. One that still runs under this name is ended at once: [`stop`](Self::stop) it first.
    pub fn start(&self, name: impl Into<ByteString>, connector: Box<dyn Connector>, link: Link) {
        let name = name.into();
        let now = Now { state: State::Connecting, since: Instant::now(), last_error: None, restarts: 0 };
        let progress =
            Arc::new(Progress { now: Mutex::new(now), ready: link.ready.watch(), retry: Notify::new() });
        let shutdown = link.shutdown.clone();
        let life = run::supervise(name.clone(), connector, link, Arc::clone(&progress));
        let task = Some(task::spawn(name.clone(), life));
        let before = self.running.lock().insert(name.clone(), Supervised { shutdown, progress, task });
        if let Some(before) = before {
            warn!(connector = %name, "ended: another one was started under its name");
            before.shutdown.start_end();
        }
    }

    /// Stops a connector: drains it, and drops its run when `grace` is over.
    ///
    /// Gives back its link, whose mailbox and writes a changed connector of this name goes on with; `None` when
    /// no such connector runs or another caller stops it already.
    pub async fn stop(&self, name: &str, grace: Duration) -> Option<Link> {
        let (task, shutdown, progress) = {
            let mut running = self.running.lock();
            let supervised = running.get_mut(name)?;
            (supervised.task.take()?, supervised.shutdown.clone(), Arc::clone(&supervised.progress))
        };
        shutdown.start_drain();
        let link = finish(name, task, &shutdown, grace).await;
        let mut running = self.running.lock();
        if running.get(name).is_some_and(|now| Arc::ptr_eq(&now.progress, &progress)) {
            running.remove(name);
        }
        link
    }

    /// Stops all connectors at the same time, as [`stop`](Self::stop) does.
    pub async fn stop_all(&self, grace: Duration) {
        let names: Vec<_> = self.running.lock().keys().cloned().collect();
        join_all(names.iter().map(|name| self.stop(name, grace))).await;
    }

    /// Calls connectors again that were denied: a reload may have found new credentials in the same place.
    pub fn retry_denied(&self) {
        for supervised in self.running.lock().values() {
            // Without a waiting task this must leave no permit behind for a later refusal.
            supervised.progress.retry.notify_waiters();
        }
    }

    /// How all connectors are, by name.
    pub fn status(&self) -> Vec<ConnectorStatus> {
        self.running.lock().iter().map(|(name, running)| running.progress.status(name.clone())).collect()
    }
}

async fn finish(
    name: &str,
    mut task: JoinHandle<Link>,
    shutdown: &Shutdown,
    grace: Duration,
) -> Option<Link> {
    let joined = if let Ok(joined) = timeout(grace, &mut task).await {
        joined
    } else {
        warn!(connector = name, ?grace, "did not drain in time, ended");
        shutdown.start_end();
        task.await
    };
    info!(connector = name, "stopped");
    joined.ok()
}
