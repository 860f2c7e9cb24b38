//! One watch: what there is of a type, then what changes of it, from wherever it had come to, for as long as the
//! connector lives.
//!
//! | there is | what is done |
//! |---|---|
//! | nothing kept | a list; all of it is told |
//! | a position | a list of exactly that position, of which routes are told nothing; then a watch after it |
//! | a position that the server no longer has | a list, and of it what differs from what was known |
//!
//! Only the second loses nothing; the third loses what lies between, and says so. A watch of which something was
//! delivered to nobody, since a reload took its route away, goes back to what is kept, as a restart does.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::super::codec::envelope::Describing;
use super::super::codec::event_attributes::About;
use super::super::codec::received::{Reading, Received};
use super::super::config::{ClientConfig, EventTypes, WatchConfig};
use super::api::{Api, Failure, segment};
use super::board::Board;
use super::buckets::{Buckets, when};
use super::cursor::{self, Cursors, Known};
use super::discovery::Kinds;
use super::election::Lead;
use super::enrich::Enrich;
use super::window::Window;
use crate::core::bus::Ingress;
use crate::core::stats::ConnectorStats;
use crate::runtime::backoff::Backoff;
use crate::runtime::shutdown::Shutdown;

mod batch;
mod lines;
mod list;
mod stream;
mod streamed;

pub(crate) use lines::Lines;

/// The shortest and the longest time before something is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long after a failure it is tried again to keep progress.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// A stream that lasted so long was a good one, also without a change.
const LASTED: Duration = Duration::from_secs(5);
/// How long the last progress may take to be kept at the end.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// What a watch knows.
#[derive(Debug, Default)]
struct Memory {
    /// The objects there are, as they were published last.
    known: Known,
    /// Objects that routes were told of after the position that a restart goes on at.
    ahead: Known,
    window: Window,
    /// How far the watch has come, answered or not; `None` where a list is due.
    position: Option<ByteString>,
    /// Whether what was kept has been looked at.
    started: bool,
    /// Whether it was begun anew, and is no first start.
    rewound: bool,
    /// Without known objects: up to here everything was told before.
    floor: Option<u64>,
}

/// What is around all watches of a connector.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) config: &'a ClientConfig,
    pub(super) api: &'a Api,
    pub(super) kinds: &'a Kinds,
    pub(super) cluster: &'a ByteString,
    pub(super) bus: &'a Ingress,
    pub(super) stats: &'a Arc<ConnectorStats>,
    pub(super) board: &'a Board,
    pub(super) shutdown: &'a Shutdown,
    pub(super) lead: &'a Lead,
    pub(super) enrich: Option<&'a Enrich<'a>>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Watch<'a> {
    around: &'a Around<'a>,
    cursors: &'a Cursors,
    config: &'a WatchConfig,
    number: usize,
    buckets: Buckets<About, Received>,
    memory: Memory,
    /// Under which its progress is kept.
    cursor: String,
    save_at: Instant,
    /// Streams in a row that ended at once without a line.
    empties: u32,
    /// Whether the server may have lists that are told as a stream.
    streams: bool,
}

/// Why nothing can go on at once.
#[derive(Debug)]
struct Trouble {
    reason: String,
    /// How long the server wants us to wait.
    wait: Duration,
    /// Whether it is none of the connector's health: the position is gone, say.
    expected: bool,
}

impl Trouble {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), wait: Duration::ZERO, expected: false }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let mut trouble = Self::new(failure.to_string());
        trouble.wait = failure.retry_after().unwrap_or_default();
        if failure.is_final() {
            // Permissions and selectors are mended by people.
            trouble.wait = trouble.wait.max(LASTED);
        }
        trouble
    }
}

/// A kind that is watched: where it is, and how its objects are read.
#[derive(Debug)]
struct Subject {
    reading: Reading,
    describing: Describing,
    /// Namespaces, where objects of others come too and are left out.
    only: Vec<String>,
    path: String,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        around: &'a Around<'a>,
        cursors: &'a Cursors,
        config: &'a WatchConfig,
        number: usize,
    ) -> Self {
        Self {
            around,
            cursors,
            config,
            number,
            buckets: Buckets::new(),
            memory: Memory { window: Window::new(around.stats), ..Memory::default() },
            cursor: cursor::name_of(around.cluster, config),
            save_at: Instant::now(),
            empties: 0,
            streams: true,
        }
    }

    /// Watches until the drain, then waits for the last answers.
    pub(super) async fn run(mut self) {
        let shutdown = self.around.shutdown;
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let began = Instant::now();
            let advanced = tokio::select! {
                biased;
                () = shutdown.drain() => break,
                advanced = self.advance() => advanced.and_then(|()| self.undelivered()),
            };
            let worked = self.memory.position.is_some() && began.elapsed() >= LASTED;
            let wait = match advanced {
                Ok(()) => {
                    backoff.reset();
                    continue;
                }
                Err(trouble) => {
                    debug!(watch = self.cursor, reason = trouble.reason, "watch interrupted");
                    if worked {
                        backoff.reset();
                    }
                    if !trouble.expected {
                        self.around.board.bad(self.number, &trouble.reason);
                    }
                    trouble.wait.max(backoff.next_wait())
                }
            };
            tokio::select! {
                biased;
                () = shutdown.drain() => break,
                () = self.idle(wait) => {}
            }
        }
        self.finish().await;
    }

    /// One step: a list, or a watch for as long as it lasts.
    async fn advance(&mut self) -> Result<(), Trouble> {
        let subject = self.subject()?;
        if self.memory.window.held().is_some() {
            self.rewind().await;
        }
        if !self.memory.started {
            self.start(&subject).await?;
            self.memory.started = true;
        }
        match self.memory.position.clone() {
            None => self.relist(&subject, false).await,
            Some(position) => self.stream(&subject, &position).await,
        }
    }

    fn subject(&self) -> Result<Subject, Trouble> {
        let Around { config, kinds, .. } = self.around;
        let type_url = &self.config.type_url;
        let Some(resource) = kinds.get(type_url) else {
            kinds.miss();
            let asked = kinds.known();
            return Err(Trouble::new(if asked {
                "the cluster has no such kind"
            } else {
                "not discovered yet"
            }));
        };
        if !(resource.can("list") && resource.can("watch")) {
            kinds.miss();
            return Err(Trouble::new("the cluster does not let it be listed and watched"));
        }
        let definition = &resource.definition;
        let namespaces = if definition.namespaced { self.config.namespaces.as_slice() } else { &[] };
        let (path, only) = match namespaces {
            [one] => (resource.path(one), Vec::new()),
            several => (resource.path(""), several.to_vec()),
        };
        Ok(Subject {
            reading: Reading {
                api_version: definition.api_version(),
                kind: definition.kind.clone(),
                event: self.config.is_event(),
                managed_fields: self.config.managed_fields,
                manager: config.field_manager.clone(),
            },
            describing: Describing {
                scope: self.around.bus.scope().clone(),
                type_url: self.config.key_type().into(),
                cluster: self.around.cluster.clone(),
                api_version: definition.api_version().into(),
                kind: definition.kind.as_str().into(),
                plural: definition.plural.clone(),
                knative: config.event_types == EventTypes::Knative,
            },
            only,
            path,
        })
    }

    /// The query that all lists and watches have, to be gone on with.
    fn query(&self, first: &str) -> String {
        let mut query = format!("?{first}");
        for (name, selector) in
            [("labelSelector", &self.config.label_selector), ("fieldSelector", &self.config.field_selector)]
        {
            if let Some(selector) = selector {
                query = format!("{query}&{name}={}", segment(selector));
            }
        }
        query
    }

    fn accept(&self) -> &'static str {
        if self.config.metadata_only {
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,\
             application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        } else {
            "application/json"
        }
    }

    /// Waits, while answers still come and are kept.
    async fn idle(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.memory.window.answered() => self.memory.window.settle(),
                () = sleep_until(self.save_at), if self.memory.window.has_progress() => self.save().await,
                () = when(self.buckets.due()) => self.sum_up(Instant::now()).await,
            }
        }
    }

    /// Whether something was delivered to nobody.
    fn undelivered(&self) -> Result<(), Trouble> {
        match self.memory.window.held() {
            None => Ok(()),
            Some(reason) => {
                Err(Trouble { expected: true, ..Trouble::new(format!("not delivered: {reason}")) })
            }
        }
    }

    /// Goes back to what is kept, as a restart would: what nobody got is told again, with all that came after it.
    async fn rewind(&mut self) {
        if self.memory.window.has_progress() {
            self.save().await;
        }
        let window = Window::new(self.around.stats);
        self.memory = Memory { window, rewound: true, ..Memory::default() };
    }

    /// Waits until there is room for `n` more changes.
    async fn room(&mut self, n: usize) {
        let most = self.around.config.in_flight.saturating_sub(n);
        while self.memory.window.len() > most {
            tokio::select! {
                () = self.memory.window.answered() => self.memory.window.settle(),
                () = sleep_until(self.save_at), if self.memory.window.has_progress() => self.save().await,
            }
        }
        if self.memory.window.has_progress() && Instant::now() >= self.save_at {
            self.save().await;
        }
    }

    /// Keeps the progress there is.
    async fn save(&mut self) {
        let progress = self.memory.window.take();
        self.save_at = Instant::now() + self.cursors.pace();
        if let Err(reason) = self.cursors.save(&self.cursor, &progress).await {
            warn!(watch = self.cursor, reason, "the progress of a watch could not be kept");
            self.memory.window.put_back(progress);
            self.save_at = Instant::now() + SAVE_AGAIN;
        } else {
            let now = jiff::Timestamp::now().as_second();
            self.around.stats.following.kept.set(u64::try_from(now).unwrap_or(0));
        }
    }

    /// Waits for the answers that are due and keeps the last progress; the supervisor bounds it.
    async fn finish(&mut self) {
        if let (Some(rate), true) = (self.around.config.frequency, self.around.lead.holds()) {
            // What is still held back has no later time to be told at.
            self.sum_up(Instant::now() + rate.per.0).await;
        }
        while self.memory.window.len() > 0 {
            self.memory.window.answered().await;
            self.memory.window.settle();
            if self.memory.window.has_progress() && Instant::now() >= self.save_at {
                self.save().await;
            }
        }
        if self.memory.window.has_progress() && timeout(LAST_SAVE, self.save()).await.is_err() {
            warn!(watch = self.cursor, "the last progress of a watch was not kept in time");
        }
    }

    /// The position is no longer kept by the server: a list is due.
    fn gone(&mut self, why: &str) -> Trouble {
        self.memory.position = None;
        self.empties = 0;
        self.around.stats.following.gone.add(1);
        Trouble { expected: true, ..Trouble::new(format!("the position is gone: {why}")) }
    }
}
