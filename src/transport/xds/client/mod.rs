//! The client: takes in what a management server tells, as one node.
//!
//! A run is one stream at one server, and beside it one that polls who is connected there, where that is set. What was taken
//! in stays in the table when it ends, and the next one goes on with the versions of that: what has not changed meanwhile
//! is told to nobody. Writes of what it brought go to the same server, where that has meshbus's own service for them
//! ([`writes`]).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::Uri;
use tracing::{debug, info};

use super::codec::follow::Follow;
use super::config::{ClientConfig, SubscribeConfig};
use crate::core::delivery::{Assurance, Deliveries, Guarantee};
use crate::core::{Error, ErrorKind, Outcome, Refused};
use crate::schema::registry::Definition;
use crate::transport::{Connector, Link};

mod calls;
mod dial;
mod intake;
mod memory;
mod of_type;
mod poll;
mod session;
mod stream;
mod told;
mod writes;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use calls::Calls;
use memory::Memory;
use poll::Polled;
use session::Session;
use writes::Writer;

/// A connector to one management server, or to several that tell the same.
pub struct Client {
    config: ClientConfig,
    servers: Vec<Uri>,
    /// The server to try first.
    first: usize,
    memory: Memory,
    polled: Polled,
    /// Whether a server has ever told anything.
    worked: bool,
}

impl Client {
    /// A client with checked settings.
    pub fn new(config: ClientConfig) -> Self {
        let servers = config.servers();
        let (memory, polled) = (Memory::default(), Polled::default());
        Self { config, servers, first: 0, memory, polled, worked: false }
    }

    /// Connects to the first server that can be reached.
    async fn dial(&mut self) -> Result<Calls, Error> {
        let mut last = None;
        for turn in 0..self.servers.len() {
            let at = (self.first + turn) % self.servers.len();
            let Some(url) = self.servers.get(at) else { break };
            match dial::dial(&self.config, url).await {
                Ok(calls) => {
                    self.first = at;
                    return Ok(calls);
                }
                Err(error) if error.kind == ErrorKind::Denied => return Err(error),
                Err(error) => {
                    debug!(%error, "server passed over");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Unreachable, self.config.urls.join(","))))
    }

    /// One stream, from its opening to its end.
    async fn connected(&mut self, link: &mut Link) -> Result<(), Error> {
        let (link, writes) = link.split();
        let link = &link;
        // Before there is any, so that the first can be written.
        link.kinds.set(link.bus.scope().clone(), definitions(&self.config));
        let away = Refused::unavailable(&link.name, "it is connecting");
        let calls = tokio::select! {
            () = link.shutdown.drain() => return Ok(()),
            calls = self.dial() => calls.map_err(|error| self.lasting(error))?,
            never = writes.refuse(&away) => match never {},
        };
        link.stats.connected.add(1);
        info!(connector = %link.name, peer = calls.peer, "connected");
        let told = Arc::clone(&self.memory.told);
        let writer = Writer::new(&self.config, &calls, link, &told);
        let mut session = Session::new(&self.config, &calls.peer, link, &mut self.memory);
        let ended = tokio::select! {
            biased;
            // Also while the bus has no room for what came.
            () = link.shutdown.drain() => None,
            error = stream::run(&mut session, calls.stream(self.config.variant())) => Some(error),
            never = writer.run(writes) => match never {},
            never = poll::run(&self.config, &calls, link, &mut self.polled) => match never {},
        };
        let heard = session.has_heard();
        if !heard {
            // Another may do better.
            self.first = (self.first + 1) % self.servers.len().max(1);
        }
        self.worked |= heard;
        ended.map_or(Ok(()), |error| Err(self.lasting(error)))
    }

    /// Whom a server let in once it will let in again: its own source of names may be away, or a certificate being
    /// exchanged here.
    fn lasting(&self, mut error: Error) -> Error {
        if error.kind == ErrorKind::Denied && self.worked {
            error.kind = ErrorKind::Unreachable;
        }
        error
    }
}

/// The kinds that are asked for, those that references lead to among them.
fn definitions(config: &ClientConfig) -> Vec<Definition> {
    let named = |entry: &SubscribeConfig| ByteString::from(entry.type_url.clone());
    let followed = config.subscribe.iter().filter(|entry| entry.follow).map(named);
    let follow = Follow::new(followed, config.allow_secrets);
    let types: BTreeSet<ByteString> =
        config.subscribe.iter().map(named).chain(follow.types().cloned()).collect();
    types.iter().filter_map(Definition::guess).collect()
}

/// Answers deliveries, of which configurations allow none.
async fn refuse(deliveries: &mut Deliveries) {
    let mut inbox = Vec::new();
    while deliveries.recv(&mut inbox, 64).await > 0 {
        for delivery in inbox.drain(..) {
            delivery.answer(Outcome::Rejected("an XDS client is no sink: it takes state in".into()));
        }
    }
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
            if result.is_ok() {
                let away = Refused::unavailable(&link.name, "it is stopping");
                tokio::select! {
                    () = shutdown.end() => {}
                    () = refuse(&mut link.deliveries) => {}
                    never = link.writes.refuse(&away) => match never {},
                }
            }
            result
        })
    }

    fn ingress(&self) -> Guarantee {
        Guarantee {
            assurance: Assurance::AtMostOnce,
            identity: false,
            because:
                "XDS: what resources are is told again after a restart, what they were meanwhile is not"
                    .into(),
        }
    }

    fn writes(&self) -> bool {
        true
    }
}
