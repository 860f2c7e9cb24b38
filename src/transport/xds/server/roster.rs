//! The streams that are open with how their clients stand, for who asks a server about its clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use meshbus_proto::xds::Node;
use parking_lot::Mutex;

use super::item::Named;
use crate::core::Timestamp;
use crate::transport::xds::codec::demand::{Demand, Interest};

/// Most ways of wanting resources that are kept of a type.
const INTERESTS_MAX: usize = 1000;

/// By their ids.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<HashMap<ByteString, Arc<Board>>>);

/// One stream.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) id: ByteString,
    pub(super) node: Node,
    pub(super) scope: ByteString,
    pub(super) peer: SocketAddr,
    pub(super) since: Timestamp,
    types: Mutex<BTreeMap<ByteString, Known>>,
}

/// How a client stands to one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What it wants, or the first of it.
    pub(super) interests: Arc<[Interest]>,
    /// The numbers of the nonces that were sent and accepted last; 0 for none.
    pub(super) sent: u32,
    pub(super) accepted: u32,
    pub(super) refused: Option<Refused>,
}

/// The last refusal.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) nonce: u32,
    pub(super) message: String,
    pub(super) names: Arc<[Named]>,
}

impl Roster {
    pub(super) fn add(&self, board: Board) -> Arc<Board> {
        let board = Arc::new(board);
        self.0.lock().insert(board.id.clone(), Arc::clone(&board));
        board
    }

    pub(super) fn remove(&self, board: &Board) {
        self.0.lock().remove(&board.id);
    }

    /// All, by the time at which they came.
    pub(super) fn all(&self) -> Vec<Arc<Board>> {
        let mut all: Vec<_> = self.0.lock().values().cloned().collect();
        // Ids begin with the time.
        all.sort_unstable_by(|left, right| left.id.cmp(&right.id));
        all
    }
}

impl Board {
    pub(super) fn new(id: &str, node: Node, scope: ByteString, peer: SocketAddr) -> Self {
        let types = Mutex::default();
        Self { id: id.into(), node, scope, peer, since: Timestamp::now(), types }
    }

    /// Notes what is wanted of a type.
    pub(super) fn wants(&self, type_url: &ByteString, demand: &Demand) {
        let mut interests: Vec<_> = demand.interests().take(INTERESTS_MAX).collect();
        interests.sort_unstable();
        self.types.lock().entry(type_url.clone()).or_default().interests = interests.into();
    }

    /// Notes how far the client is; `refusal` is asked for where it refuses another response than before.
    pub(super) fn stands(
        &self,
        type_url: &ByteString,
        (sent, accepted): (u32, u32),
        refused: Option<u32>,
        refusal: impl FnOnce() -> Option<Refused>,
    ) {
        let mut types = self.types.lock();
        let known = match types.get_mut(type_url) {
            Some(known) => known,
            None => types.entry(type_url.clone()).or_default(),
        };
        (known.sent, known.accepted) = (sent, accepted);
        if known.refused.as_ref().map(|refused| refused.nonce) != refused {
            known.refused = refusal();
        }
    }

    /// How it stands to each type.
    pub(super) fn types(&self) -> BTreeMap<ByteString, Known> {
        self.types.lock().clone()
    }
}
