//! The client: brings what a cluster has onto the bus, and writes back.
//!
//! A run is one future on one task: it finds out which kinds there are ([`discovery`]), watches them ([`watch`]),
//! keeps how far that has come ([`cursor`]), and writes what owners ([`writes`]) and routes ([`sink`]) send. It ends with the drain only: what fails is tried again
//! where it failed, so that one kind that is missing or forbidden takes no other with it.

use std::fmt;

use bytestring::ByteString;
use futures_util::future::{BoxFuture, join_all, try_join};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::config::{ClientConfig, Store};
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::{Error, ErrorKind};
use crate::transport::{Connector, Link};

pub(crate) mod api;
mod board;
mod buckets;
mod cursor;
pub(crate) mod discovery;
mod election;
mod enrich;
mod recorder;
mod sink;
mod watch;
mod window;
mod writes;

use api::Api;
use board::Board;
use cursor::Cursors;
use discovery::Kinds;
use election::{Election, Lead};
use enrich::Enrich;
use recorder::Recorder;
use sink::Sink;
pub(crate) use watch::Lines;
use watch::{Around, Watch};
use writes::Writer;
pub(crate) use writes::{complete, remains, text};

/// The object whose uid names the cluster.
const IDENTITY: &str = "/api/v1/namespaces/kube-system";
/// Digits of the hash that stands in for it.
const HASH_DIGITS: usize = 32;

/// A connector to one cluster.
pub struct Client {
    config: ClientConfig,
    /// Who this bus is where leaders are elected.
    identity: String,
}

impl Client {
    /// A client with checked settings.
    pub fn new(config: ClientConfig) -> Self {
        let identity = config.leader_election.as_ref().map(election::identity).unwrap_or_default();
        Self { config, identity }
    }

    async fn connected(&mut self, link: &mut Link) -> Result<(), Error> {
        let config = &self.config;
        let api = Api::open(config, config.timeout.0).await?;
        let cluster = cluster(&api).await?;
        info!(connector = %link.name, peer = api.peer, %cluster, "connected");
        let kinds = Kinds::new();
        let board = Board::new(config.watch.iter().map(|watch| watch.type_url.clone()));
        let lead = Lead::new(config.leader_election.is_some());
        let enrich = config.enrich.as_ref().map(Enrich::new);
        let around = Around {
            config,
            api: &api,
            kinds: &kinds,
            cluster: &cluster,
            bus: &link.bus,
            stats: &link.stats,
            board: &board,
            shutdown: &link.shutdown,
            lead: &lead,
            enrich: enrich.as_ref(),
        };
        let recorder = Recorder::new(&config.field_manager);
        let registry = &link.kinds;
        let sink =
            Sink { config, api: &api, kinds: &kinds, stats: &link.stats, recorder: &recorder, registry };
        let writer = Writer { config, api: &api, kinds: &kinds, bus: &link.bus, lead: &lead };
        let every = config.discovery_interval.0;
        let election = config
            .leader_election
            .as_ref()
            .map(|election| Election::new(election, &api, &self.identity, &config.field_manager, &lead));
        let enriching = enriching(enrich.as_ref(), &around);
        let rest = async {
            tokio::select! {
                () = writer.run(&mut link.writes) => {}
                () = kinds.keep(&api, &link.kinds, link.bus.scope(), every) => {}
                () = board.keep(&link.ready) => {}
                () = enriching => {}
            }
        };
        let watches = elected(&around, election);
        let sending = async {
            sink.run(&mut link.deliveries).await;
            Ok(())
        };
        tokio::select! {
            // What there is to be finished; the others never end.
            result = try_join(watches, sending) => result.map(drop),
            () = rest => Ok(()),
        }
    }
}

/// Watches until the drain, whenever this bus leads; then another one may at once.
async fn elected(around: &Around<'_>, election: Option<Election<'_>>) -> Result<(), Error> {
    let Some(mut election) = election else { return watch_all(around).await };
    let result = tokio::select! {
        () = election.run() => Ok(()),
        result = take_turns(around) => result,
    };
    election.release().await;
    result
}

/// Watches while this bus leads. What is under way when it does not any more is dropped: unpublished, or unkept.
async fn take_turns(around: &Around<'_>) -> Result<(), Error> {
    let Around { lead, board, shutdown, .. } = around;
    loop {
        board.stand_by(true);
        tokio::select! {
            biased;
            () = shutdown.drain() => return Ok(()),
            () = lead.becomes(true) => {}
        }
        board.stand_by(false);
        tokio::select! {
            biased;
            () = lead.becomes(false) => {}
            result = watch_all(around) => return result,
        }
    }
}

async fn watch_all(around: &Around<'_>) -> Result<(), Error> {
    let config = around.config;
    let cursors = Cursors::open(config, around.bus.connector(), around.api).await?;
    let watches = config.watch.iter().enumerate();
    join_all(watches.map(|(number, watch)| Watch::new(around, &cursors, watch, number).run())).await;
    Ok(())
}

/// Follows what Events are about; never ends.
async fn enriching(enrich: Option<&Enrich<'_>>, around: &Around<'_>) {
    let Around { config, api, kinds, .. } = around;
    if let (Some(enrich), Some(settings)) = (enrich, &config.enrich) {
        join_all(settings.types.iter().map(|type_url| enrich.follow(config, api, kinds, type_url))).await;
    }
    std::future::pending::<()>().await;
}

/// What names the cluster, whoever connects to it and however: the uid of a namespace that every cluster has. Where
/// that may not be read, its URL has to do.
///
/// # Errors
/// `Unreachable` where nothing is answered: under another name, all that was known would be void.
async fn cluster(api: &Api) -> Result<ByteString, Error> {
    let body = match api.object(IDENTITY).await {
        Ok(body) => body,
        Err(failure) if failure.is_final() => {
            warn!(peer = api.peer, error = %failure, "named by its URL: {IDENTITY} cannot be read");
            let digits = data_encoding::HEXLOWER.encode(&Sha256::digest(api.peer.as_bytes()));
            return Ok(digits.chars().take(HASH_DIGITS).collect::<String>().into());
        }
        Err(failure) => {
            return Err(Error::new(ErrorKind::Unreachable, &api.peer).because(failure.to_string()));
        }
    };
    let uid = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|namespace| {
        let uid = namespace.get("metadata")?.get("uid")?.as_str()?;
        (!uid.is_empty()).then(|| ByteString::from(uid))
    });
    uid.ok_or_else(|| Error::new(ErrorKind::Protocol, &api.peer).because(format!("{IDENTITY} has no uid")))
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
        let (assurance, because) = match self.config.cursor.store {
            Store::None => (
                Assurance::AtMostOnce,
                "Kubernetes watch without a cursor: what happens while the bus is down is not told",
            ),
            Store::Lease => (
                Assurance::AtLeastOnce,
                "Kubernetes watch, its position kept in a Lease: what went while the cluster forgot it is not told",
            ),
            Store::File => {
                (Assurance::AtLeastOnce, "Kubernetes watch, its position and objects kept in a file")
            }
        };
        Guarantee { assurance, identity: true, because: because.into() }
    }

    fn writes(&self) -> bool {
        true
    }
}
