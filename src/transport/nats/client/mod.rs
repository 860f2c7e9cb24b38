//! The client: one connection, its subscriptions, and what routes send over it.
//!
//! A run is one connection: [`session`] makes it, [`core_source`] and [`consumer`] take in, [`sink`] sends.
//! All of it is one future on one task; what has to outlive a connection is in [`Client`].

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ServerAddr, Subscriber};
use bytestring::ByteString;
use futures_util::future::{BoxFuture, join_all, try_join_all};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::config::ClientConfig;
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::{Error, ErrorKind};
use crate::schema::cloudevents::ContentMode;
use crate::transport::{Connector, Link};

mod acks;
mod consumer;
mod core_source;
mod held;
mod puback;
mod pull;
mod reorder;
mod session;
mod setup;
mod sink;
mod source;
mod window;

use consumer::{Intake, Reader};
use session::{Inbox, Session};
use sink::Sink;
use source::{Ids, Source};

/// How long messages that had arrived before a connection was lost may take to be published.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// What a route's target asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TargetOptions {
    pub(super) content_mode: ContentMode,
    pub(super) jetstream: bool,
}

/// A connection to a NATS server or cluster.
pub struct Client {
    config: ClientConfig,
    /// Servers of the cluster that earlier connections told of.
    known: Vec<ServerAddr>,
    ids: Arc<Ids>,
    /// One for each entry of `subscribe`.
    intakes: Vec<Intake>,
}

impl Client {
    /// A client with checked settings.
    pub fn new(config: ClientConfig) -> Self {
        let intakes = config.subscribe.iter().map(|_| Intake::default()).collect();
        Self { config, known: Vec::new(), ids: Arc::default(), intakes }
    }

    /// One connection, from its making to its loss or the end of the drain.
    async fn connected(&mut self, link: &mut Link) -> Result<(), Error> {
        let Self { config, known, ids, intakes } = self;
        let (session, mut inbox) = Session::connect(config, &link.name, known, &link.stats).await?;
        let source = Source {
            connector: link.name.clone(),
            bus: link.bus.clone(),
            stats: Arc::clone(&link.stats),
            ids: Arc::clone(ids),
        };
        let opened = open(&session, config, &source, intakes, &mut inbox).await;
        let (subscribers, readers, echoes) = opened.map_err(|error| explained(error, &mut inbox))?;
        link.stats.connected.add(1);
        link.ready.up();
        info!(connector = %link.name, peer = session.peer, "connected");
        let (shutdown, lost) = (&link.shutdown, &CancellationToken::new());
        let core = subscribers.into_iter().map(|core| core_source::run(core, &source, shutdown, lost));
        let readers = try_join_all(readers.into_iter().map(|reader| reader.run(shutdown, lost)));
        let sink = Sink::new(&session, config, &link.stats, inbox, echoes).run(&mut link.deliveries);
        together(sink, join_all(core), readers, lost).await?;
        // The last acknowledgements are still on their way.
        drop(session.client.flush().await);
        Ok(())
    }
}

/// Runs all until they are done or one fails; then what had arrived is still taken in.
async fn together(
    sink: impl Future<Output = Result<(), Error>>,
    core: impl Future,
    readers: impl Future<Output = Result<Vec<()>, Error>>,
    lost: &CancellationToken,
) -> Result<(), Error> {
    let (mut sink, mut core, mut readers) = (pin!(sink), pin!(core), pin!(readers));
    let (mut sinks, mut cores, mut reads) = (true, true, true);
    let failed = loop {
        tokio::select! {
            biased;
            result = &mut sink, if sinks => {
                sinks = false;
                if let Err(error) = result {
                    break error;
                }
            }
            result = &mut readers, if reads => {
                reads = false;
                if let Err(error) = result {
                    break error;
                }
            }
            _ = &mut core, if cores => cores = false,
            else => return Ok(()),
        }
    };
    lost.cancel();
    let rest = async {
        if cores {
            core.await;
        }
        if reads {
            // Its error can only be that of the loss.
            drop(readers.await);
        }
    };
    // Bounded: the bus may have no room until this very connector is back and delivers.
    if timeout(LAST_MESSAGES, rest).await.is_err() {
        warn!(error = %failed, "messages lost: the connection ended while the bus had no room");
    }
    Err(failed)
}

type Opened<'a> = (Vec<Subscriber>, Vec<Reader<'a>>, bool);

/// Subscribes and waits until the server has read it.
async fn open<'a>(
    session: &'a Session,
    config: &'a ClientConfig,
    source: &'a Source,
    intakes: &'a mut [Intake],
    inbox: &mut Inbox,
) -> Result<Opened<'a>, Error> {
    let echoes = session.echoes(inbox, config).await?;
    setup::stream(session, config).await?;
    let (mut subscribers, mut readers) = (Vec::new(), Vec::new());
    for (entry, intake) in config.subscribe.iter().zip(intakes) {
        match &entry.jetstream {
            None => subscribers.push(core_source::subscribe(session, entry).await?),
            Some(settings) => {
                readers.push(Reader::open(session, config, entry, settings, source, intake).await?);
            }
        }
    }
    if echoes {
        session.echoes(inbox, config).await?;
    } else {
        debug!(peer = session.peer, "no echoes: deliveries of core NATS are answered when they have left");
    }
    Ok((subscribers, readers, echoes))
}

/// An error, with what the server complained about meanwhile: a request that is not permitted only times out.
fn explained(error: Error, inbox: &mut Inbox) -> Error {
    let mut complaints = Vec::new();
    while let Ok(complaint) = inbox.faults.try_recv() {
        complaints.push(complaint);
    }
    if complaints.is_empty() {
        return error;
    }
    let denied = complaints.iter().any(|complaint| complaint.contains("Permissions Violation"));
    let kind = if denied { ErrorKind::Denied } else { error.kind };
    let cause = error.source.map(|source| source.to_string()).unwrap_or_default();
    Error::new(kind, error.peer).because(format!("{cause}; the server says: {}", complaints.join("; ")))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Connector for Client {
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let (ready, shutdown) = (link.ready.clone(), link.shutdown.clone());
            let result = tokio::select! {
                biased;
                () = shutdown.end() => Ok(()),
                result = self.connected(link) => result,
            };
            ready.ended(&result);
            result
        })
    }

    fn ingress(&self) -> Guarantee {
        let (assurance, identity, because): (_, _, ByteString) =
            match self.config.subscribe.iter().find(|entry| entry.jetstream.is_none()) {
                Some(core) => (
                    Assurance::AtMostOnce,
                    false,
                    format!("core NATS subscription {:?}: nothing is acknowledged", core.subject).into(),
                ),
                None => (
                    Assurance::AtLeastOnce,
                    true,
                    "JetStream durable consumer, explicit acknowledgement".into(),
                ),
            };
        Guarantee { assurance, identity, because }
    }
}

/// How sure a publish is.
pub(super) fn egress(config: &ClientConfig, jetstream: bool) -> Guarantee {
    let (assurance, because) = match (jetstream, config.dedupe) {
        (true, true) => (Assurance::AtLeastOnce, "JetStream publish, acknowledged, with Nats-Msg-Id"),
        (true, false) => (Assurance::AtLeastOnce, "JetStream publish, acknowledged, without Nats-Msg-Id"),
        (false, _) if config.no_echo => (
            Assurance::AtMostOnce,
            "core NATS publish with no_echo: answered when sent, what the server forbids is only logged",
        ),
        (false, _) => (Assurance::AtMostOnce, "core NATS publish: subscribers that are away miss it"),
    };
    Guarantee { assurance, identity: true, because: because.into() }
}

/// As the target's options are kept.
pub(super) fn options(content_mode: ContentMode, jetstream: bool) -> Arc<TargetOptions> {
    Arc::new(TargetOptions { content_mode, jetstream })
}
