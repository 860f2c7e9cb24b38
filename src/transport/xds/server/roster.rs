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
    types: Mutex<BTreeMap<ByteString, Watched>>,
}

/// One type of a stream.
#[derive(Debug)]
struct Watched {
    interests: Arc<[Interest]>,
    standing: SharedStanding,
}

/// What is known of a client about one type.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What it wants, or the first of it.
    pub(super) interests: Arc<[Interest]>,
    pub(super) standing: Standing,
}

/// How far a client is with one type: written by its stream, read by who asks.
pub(super) type SharedStanding = Arc<Mutex<Standing>>;

/// How far a client is with one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// The numbers of the nonces that were sent and accepted last; 0 for none.
    pub(super) sent: u32,
    pub(super) accepted: u32,
    /// The last refusal, with what was refused; forgotten when a later response is accepted.
    pub(super) refused: Option<Refusal>,
}

/// A response that was refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
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

    /// Notes what is wanted of a type, and where it can be seen how far the client is with it.
    pub(super) fn wants(&self, type_url: &ByteString, demand: &Demand, standing: &SharedStanding) {
        let mut interests: Vec<_> = demand.interests().take(INTERESTS_MAX).collect();
        interests.sort_unstable();
        let watched = Watched { interests: interests.into(), standing: Arc::clone(standing) };
        self.types.lock().insert(type_url.clone(), watched);
    }

    /// How it stands to each type.
    pub(super) fn types(&self) -> BTreeMap<ByteString, Known> {
        let known = |(type_url, Watched { interests, standing }): (&ByteString, &Watched)| {
            let (interests, standing) = (Arc::clone(interests), standing.lock().clone());
            (type_url.clone(), Known { interests, standing })
        };
        self.types.lock().iter().map(known).collect()
    }
}
