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

/// What is known of a client about one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What it wants, or the first of it.
    pub(super) interests: Arc<[Interest]>,
    pub(super) standing: Standing,
}

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

    /// Notes what is wanted of a type.
    pub(super) fn wants(&self, type_url: &ByteString, demand: &Demand) {
        let mut interests: Vec<_> = demand.interests().take(INTERESTS_MAX).collect();
        interests.sort_unstable();
        self.types.lock().entry(type_url.clone()).or_default().interests = interests.into();
    }

    /// Notes how far the client is with each type.
    pub(super) fn stands<'a>(&self, all: impl Iterator<Item = (&'a ByteString, &'a Standing)>) {
        let mut types = self.types.lock();
        for (type_url, standing) in all {
            match types.get_mut(type_url) {
                Some(known) if known.standing.is(standing) => {}
                Some(known) => known.standing = standing.clone(),
                None => {
                    let known = Known { standing: standing.clone(), ..Known::default() };
                    types.insert(type_url.clone(), known);
                }
            }
        }
    }

    /// How it stands to each type.
    pub(super) fn types(&self) -> BTreeMap<ByteString, Known> {
        self.types.lock().clone()
    }
}

impl Standing {
    fn is(&self, other: &Self) -> bool {
        let refused = |of: &Self| of.refused.as_ref().map(|refusal| refusal.nonce);
        (self.sent, self.accepted, refused(self)) == (other.sent, other.accepted, refused(other))
    }
}
