//! What a connector is given to run with.

use std::sync::Arc;

use bytestring::ByteString;
use tokio::sync::watch;

use crate::core::Error;
use crate::core::bus::Ingress;
use crate::core::delivery::Deliveries;
use crate::core::stats::ConnectorStats;
use crate::core::write::Writes;
use crate::runtime::shutdown::Shutdown;
use crate::schema::registry::Registry;

/// Everything a connector may touch. One per connector; it outlives each single run.
#[derive(Debug)]
pub struct Link {
    /// The connector's name in the configuration, which is also the scope of the state it brings.
    pub name: ByteString,
    /// Publishes into the bus as this connector, lists and subscribes.
    pub bus: Ingress,
    /// What routes send to this connector.
    pub deliveries: Deliveries,
    /// Writes of state this connector owns; only for those that can write.
    pub writes: Writes,
    /// What sources know of the kinds of state they bring, for those who show them.
    pub kinds: Arc<Registry>,
    /// Says whether the peer is connected or the address bound.
    pub ready: Ready,
    /// Ends the run: first drain, then end.
    pub shutdown: Shutdown,
    /// Counters for `/metrics`; the supervisor and the router keep theirs themselves.
    pub stats: Arc<ConnectorStats>,
}

impl Link {
    /// All but the writes, as another link that has none, and the writes: for runs that take them beside the rest.
    pub fn split(&mut self) -> (Self, &mut Writes) {
        let rest = Self {
            name: self.name.clone(),
            bus: self.bus.clone(),
            deliveries: Deliveries(Arc::clone(&self.deliveries.0)),
            writes: Writes::none(),
            kinds: Arc::clone(&self.kinds),
            ready: self.ready.clone(),
            shutdown: self.shutdown.clone(),
            stats: Arc::clone(&self.stats),
        };
        (rest, &mut self.writes)
    }
}

/// A connector's readiness, shown by `/readyz` with the reason.
#[derive(Clone, Debug)]
pub struct Ready {
    now: Arc<watch::Sender<Result<(), String>>>,
    synced: Arc<watch::Sender<bool>>,
}

impl Ready {
    /// Not ready yet: `connecting`.
    pub fn new() -> Self {
        Self {
            now: Arc::new(watch::Sender::new(Err("connecting".to_owned()))),
            synced: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Connected or bound, and what the peer has of state is in the table.
    pub fn up(&self) {
        self.synced.send_replace(true);
        drop(self.now.send_replace(Ok(())));
    }

    /// As it should be, but without the peer's state: another bus is in charge of that.
    pub fn stand_by(&self) {
        drop(self.now.send_replace(Ok(())));
    }

    /// Not connected, and why; secrets never belong here.
    pub fn down(&self, reason: impl Into<String>) {
        drop(self.now.send_replace(Err(reason.into())));
    }

    /// The run is over.
    pub fn ended(&self, result: &Result<(), Error>) {
        self.down(match result {
            Ok(()) => "stopped".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<Result<(), String>> {
        self.now.subscribe()
    }

    /// Follows whether it was ever [`up`](Self::up).
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}
