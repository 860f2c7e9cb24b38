//! The application: the only part that knows everything. It turns a configuration into a running bus.

mod admin;
mod apply;
mod derive;
mod explain;
mod offline;
mod own;
mod settle;
mod tap;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError, Fingerprint, process_environment};
use crate::core::bus::BusOptions;
use crate::core::delivery::{Guarantee, Mailbox};
use crate::core::log::RingBound;
use crate::core::route::Router;
use crate::core::state::StateBound;
use crate::core::stats::ConnectorStats;
use crate::core::{Bus, Error};
use crate::runtime::health;
use crate::runtime::listener;
use crate::runtime::metrics::Metrics;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervisor::{State, Supervisor};
use crate::runtime::task;
use crate::runtime::telemetry::Telemetry;
use crate::runtime::watch::{Signal, Signals};
use crate::schema::registry::Registry;
use crate::transport::{Announcement, Transport};

/// How often the drain looks whether all is delivered.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// A bus with its connectors and routes, as configured. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    /// The files it is configured by; none for the embedded default.
    paths: Vec<PathBuf>,
    transports: &'static [&'static dyn Transport],
    bus: Bus,
    router: Router,
    supervisor: Supervisor,
    /// What sources say of their kinds of state.
    kinds: Arc<Registry>,
    /// What runs, by connector name.
    connectors: Mutex<BTreeMap<ByteString, Running>>,
    /// The configuration that runs.
    config: ArcSwap<Config>,
    /// One change of configuration at a time.
    applying: tokio::sync::Mutex<()>,
    shutdown: Shutdown,
    telemetry: Option<Telemetry>,
    metrics: std::sync::OnceLock<Metrics>,
    version: AtomicU64,
    rejected: AtomicU64,
    started: AtomicBool,
}

/// A connector that runs.
struct Running {
    transport: &'static str,
    fingerprint: Option<Fingerprint>,
    mailbox: Arc<Mailbox>,
    ingress: Guarantee,
    stats: Arc<ConnectorStats>,
    announcement: Option<Announcement>,
    is_server: bool,
    /// Whether it is a derivation, whose state goes with it.
    derives: bool,
}

impl App {
    /// The application of a checked configuration; nothing runs yet, and no I/O is done.
    pub fn new(
        config: Config,
        paths: Vec<PathBuf>,
        transports: &'static [&'static dyn Transport],
        telemetry: Option<Telemetry>,
    ) -> Self {
        let ring = |ring: crate::config::settings::Ring| RingBound {
            max: ring.max,
            max_bytes: usize::try_from(ring.max_bytes.0).unwrap_or(usize::MAX),
        };
        let bus = Bus::new(BusOptions {
            name: config.name.clone().into(),
            changes: ring(config.event_log.changes),
            events: ring(config.event_log.events),
            state: StateBound {
                max_keys: config.state.max_keys,
                max_bytes: usize::try_from(config.state.max_bytes.0).unwrap_or(usize::MAX),
                max_tombstones: config.state.max_deletions,
            },
            ..BusOptions::default()
        });
        let app = Self(Arc::new(Shared {
            paths,
            transports,
            router: Router::new(bus.clone()),
            bus,
            supervisor: Supervisor::new(),
            kinds: Arc::default(),
            connectors: Mutex::default(),
            config: ArcSwap::from_pointee(config),
            applying: tokio::sync::Mutex::default(),
            shutdown: Shutdown::new(),
            telemetry,
            metrics: std::sync::OnceLock::new(),
            version: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            started: AtomicBool::new(false),
        }));
        let metrics = Metrics::new(Arc::new(admin::Figures(Arc::downgrade(&app.0))));
        drop(app.0.metrics.set(metrics));
        app
    }

    /// The bus.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// The routes.
    pub fn router(&self) -> &Router {
        &self.0.router
    }

    /// The configuration that runs.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Starts listeners, connectors and routes.
    ///
    /// # Errors
    /// The admin or health address cannot be bound. Connectors fail on their own: see
    /// [`settled`](Self::settled).
    pub async fn start(&self) -> Result<(), Error> {
        let config = self.config();
        let embedded = self.0.paths.is_empty();
        for (name, listen) in [("admin", &config.admin), ("health", &config.health)] {
            let Some(listen) = listen else { continue };
            match listener::bind(&listen.listen).await {
                Ok(socket) => self.serve(name, socket),
                Err(error) if embedded => warn!(%error, listener = name, "off: its port is taken"),
                Err(error) => return Err(error),
            }
        }
        let _applying = self.0.applying.lock().await;
        if let Err(error) = self.apply(Arc::clone(&config)).await {
            warn!(%error, "a connector of a checked configuration could not be built");
        }
        self.tell_own(true).await;
        own::start(self);
        self.settle_local(&config);
        self.0.started.store(true, Ordering::Release);
        Ok(())
    }

    fn serve(&self, name: &'static str, socket: tokio::net::TcpListener) {
        let app = self.clone();
        let shutdown = self.0.shutdown.clone();
        drop(task::spawn(name, async move {
            let face = Arc::new(admin::Face(app));
            if name == "admin" {
                return crate::runtime::admin::serve(socket, face, &shutdown).await;
            }
            // Who asks during the drain is told of it.
            let last = Shutdown::new();
            let end = async {
                shutdown.end().await;
                last.start_end();
            };
            tokio::join!(health::serve(socket, face, &last), end);
        }));
    }

    /// Waits until every server is bound or has failed for good; gives the failures.
    ///
    /// Bounded: a server that is neither after `limit` counts as failed.
    pub async fn settled(&self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        loop {
            let servers: Vec<ByteString> = {
                let connectors = self.0.connectors.lock();
                connectors.iter().filter(|(_, c)| c.is_server).map(|(name, _)| name.clone()).collect()
            };
            let status = self.0.supervisor.status();
            let open: Vec<_> = status
                .into_iter()
                .filter(|status| servers.contains(&status.name) && status.state != State::Ready)
                .collect();
            let failed = |status: &crate::runtime::supervisor::ConnectorStatus| status.last_error.is_some();
            if open.iter().all(failed) || Instant::now() >= deadline {
                return open
                    .into_iter()
                    .map(|status| {
                        let reason = status.last_error.or(status.not_ready).unwrap_or_default();
                        format!("connector {}: {reason}", status.name)
                    })
                    .collect();
            }
            sleep(DRAIN_LOOK).await;
        }
    }

    /// Addresses that are served, each with something to try, in order of name.
    pub fn announcements(&self) -> Vec<(ByteString, Announcement)> {
        let ready: Vec<ByteString> = self
            .0
            .supervisor
            .status()
            .into_iter()
            .filter(|status| status.state == State::Ready)
            .map(|status| status.name)
            .collect();
        let connectors = self.0.connectors.lock();
        connectors
            .iter()
            .filter(|(name, _)| ready.contains(name))
            .filter_map(|(name, running)| Some((name.clone(), running.announcement.clone()?)))
            .collect()
    }

    /// Runs until a signal ends it: reloads on SIGHUP or a changed file, drains on the first SIGTERM.
    pub async fn run(&self, mut signals: Signals) {
        let mut files = self.config().filter_files();
        loop {
            match signals.next().await {
                Signal::Reload => {
                    if let Err(errors) = self.reload().await {
                        for error in errors {
                            error!(%error, "configuration not taken up: the old one stays");
                        }
                    }
                    let now = self.config().filter_files();
                    if now != files {
                        signals.watch(self.0.paths.iter().chain(&now).cloned());
                        files = now;
                    }
                }
                Signal::Drain => break,
                Signal::End => return self.0.shutdown.start_end(),
            }
        }
        let grace = self.config().shutdown.grace.0;
        info!(grace_seconds = grace.as_secs_f64(), "draining; a second signal ends at once");
        tokio::select! {
            drained = self.drain(grace) => {
                if drained {
                    info!("drained: everything taken is delivered");
                } else {
                    warn!("the grace period is over: what is not delivered stays with its source");
                }
            }
            () = async { while signals.next().await != Signal::End {} } => {
                warn!("ending at once: what is not delivered stays with its source");
                self.0.shutdown.start_end();
            }
        }
    }

    /// Takes nothing new in, delivers what was taken and ends the connectors; `false` when `grace` was over
    /// before that was done.
    pub async fn drain(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        self.0.shutdown.start_drain();
        let stopped = self.0.supervisor.stop_all(grace);
        let delivered = async {
            let idle = async {
                // Twice in a row: a source may publish what it had read when the drain began.
                let mut idle = 0;
                while idle < 2 {
                    idle = if self.0.router.is_idle() { idle + 1 } else { 0 };
                    sleep(DRAIN_LOOK).await;
                }
            };
            // A second is left to say goodbye with.
            let margin = (grace / 10).min(Duration::from_secs(1));
            let idle = timeout(grace.saturating_sub(margin), idle).await.is_ok();
            self.0.connectors.lock().values().for_each(|running| running.mailbox.close());
            idle
        };
        let (delivered, ()) = tokio::join!(delivered, stopped);
        self.0.shutdown.start_end();
        delivered && Instant::now() <= deadline + DRAIN_LOOK
    }

    /// Reads the files again and takes up what changed. An invalid configuration replaces nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn reload(&self) -> Result<(), Vec<ConfigError>> {
        if self.0.paths.is_empty() {
            let reason = "the embedded default has no file to read again; start with -c FILE";
            return Err(vec![ConfigError::in_file("-", reason)]);
        }
        let _applying = self.0.applying.lock().await;
        let loaded = Config::load(&self.0.paths, &process_environment, self.0.transports);
        let prepared = match loaded {
            Ok(config) => task::blocking(move || config.prepare_filters().map(|()| config)).await,
            Err(errors) => Err(errors),
        };
        let config = match prepared {
            Ok(config) => Arc::new(config),
            Err(errors) => {
                self.0.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(errors);
            }
        };
        self.apply(config).await.map_err(|error| {
            self.0.rejected.fetch_add(1, Ordering::Relaxed);
            vec![error]
        })?;
        self.tell_own(true).await;
        Ok(())
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("paths", &self.0.paths).finish_non_exhaustive()
    }
}
