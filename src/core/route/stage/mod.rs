//! The filter stage of a route: what waits for its filters, in the order of each key, and what comes out.
//!
//! One batch is under way at a time. A key whose next event is paused waits, and what is behind it in its key;
//! other keys go on. What filters make of one event stays together, in order. Pure: time is passed in, and
//! batches are run by the caller.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::chain::{Call, Chain, Entry, Fate, Piece, Root, State};
use crate::core::delivery::Reason;
use crate::core::envelope::{Envelope, Seq};
use crate::core::filter::FilterSpec;

/// The events of one order key.
#[derive(Debug, Default)]
struct Lane {
    pieces: VecDeque<Piece>,
    place: Place,
}

/// Where a lane is noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    Ready,
    Paused,
    UnderWay,
}

/// What waits for the filters of a route.
#[derive(Debug, Default)]
pub(super) struct Stage {
    chain: Arc<Chain>,
    lanes: HashMap<u64, Lane>,
    /// Lanes whose first piece may be filtered, in the order in which it became able to.
    ready: VecDeque<u64>,
    paused: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Pieces of the batch under way.
    under_way: usize,
    /// What filters are to hear with the next batch.
    settled: Vec<Settled>,
    /// Retries that filters asked for, since they were last counted.
    retried: u64,
}

/// Pieces that go through their filters together; all of one chain.
#[derive(Debug)]
pub(super) struct Batch {
    chain: Arc<Chain>,
    settled: Vec<Settled>,
    pieces: Vec<Piece>,
    now: Instant,
}

/// What became of a record that was in a chain.
#[derive(Debug)]
struct Settled {
    chain: Arc<Chain>,
    seq: Seq,
    taken: bool,
}

/// What the worker is to do, in this order.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Send it to the sinks with this output.
    Send(usize, Arc<Envelope>, Option<ByteString>),
    /// Send it to the dead letter, after so many attempts.
    Bury(usize, Arc<Envelope>, Reason, u32),
    /// The filter of this name dropped it, with a word on why.
    Drop(usize, ByteString, Option<Reason>),
    /// All that was made of this task has come out.
    End(usize),
}

impl Batch {
    /// Takes it through its filters; on a filter thread.
    pub(super) fn run(self, route: &str) -> Vec<Piece> {
        for Settled { chain, seq, taken } in self.settled {
            chain.settled(seq, taken);
        }
        self.chain.run(self.pieces, Call { route, now: self.now })
    }
}

impl Stage {
    /// The filters for what enters from now on; what is in the stage stays with those it came in under.
    pub(super) fn set_filters(&mut self, specs: &[FilterSpec]) {
        if !self.chain.is_of(specs) {
            self.chain = Arc::new(Chain::after(&self.chain, specs));
        }
    }

    /// Takes in a record's envelope, behind all others of its order key.
    pub(super) fn enter(&mut self, entry: Entry, envelope: Arc<Envelope>) {
        let key = envelope.order_key();
        let root = Root::new(entry, key, Arc::clone(&self.chain));
        let lane = self.lanes.entry(key).or_default();
        lane.pieces.push_back(Piece::new(Arc::new(root), envelope));
        if lane.place == Place::Nowhere {
            lane.place = Place::Ready;
            self.ready.push_back(key);
        }
    }

    /// The chain that records enter, where one of its filters wants to hear what becomes of them.
    pub(super) fn listener(&self) -> Option<Arc<Chain>> {
        self.chain.wants_settled().then(|| Arc::clone(&self.chain))
    }

    /// Lets the filters of a chain hear, with the next batch, what became of a record.
    pub(super) fn settled(&mut self, chain: Arc<Chain>, seq: Seq, taken: bool) {
        self.settled.push(Settled { chain, seq, taken });
    }

    /// Whether it has nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Pieces of the batch under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// How often a filter asked for a retry since the last call.
    pub(super) fn take_retried(&mut self) -> u64 {
        std::mem::take(&mut self.retried)
    }

    /// When the next pause is over; those whose is become ready.
    pub(super) fn wake(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((due, key))) = self.paused.peek().copied() {
            if due > now {
                return Some(due);
            }
            self.paused.pop();
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.place = Place::Ready;
                self.ready.push_back(key);
            }
        }
        None
    }

    /// Up to `limit` pieces that may be filtered; `None` while a batch is under way, or where nothing may.
    pub(super) fn next_batch(&mut self, limit: usize, now: Instant) -> Option<Batch> {
        if self.under_way > 0 {
            return None;
        }
        let (mut pieces, mut room) = (Vec::new(), limit);
        let mut chain: Option<Arc<Chain>> = None;
        let mut others = Vec::new();
        while room > 0 {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(first) = lane.pieces.front() else { continue };
            let chain = chain.get_or_insert_with(|| Arc::clone(&first.root.chain));
            if !Arc::ptr_eq(chain, &first.root.chain) {
                others.push(key);
                continue;
            }
            lane.place = Place::UnderWay;
            room -= lane.take(chain, room, now, &mut pieces);
        }
        // Older than what became ready behind them, and of another chain: the next batch is theirs.
        others.into_iter().rev().for_each(|key| self.ready.push_front(key));
        self.under_way = pieces.len();
        let chain = chain.filter(|_| !pieces.is_empty())?;
        Some(Batch { chain, settled: std::mem::take(&mut self.settled), pieces, now })
    }

    /// Takes back the pieces of the batch under way, and gives what is to be done now.
    pub(super) fn returned(&mut self, pieces: Vec<Piece>, now: Instant, steps: &mut Vec<Step>) {
        self.under_way = 0;
        let mut keys = Vec::new();
        for piece in pieces.into_iter().rev() {
            self.retried += u64::from(piece.is_retried());
            let key = piece.root.key;
            if keys.last() != Some(&key) {
                keys.push(key);
            }
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.pieces.push_front(piece);
            }
        }
        for key in keys.into_iter().rev() {
            self.settle(key, now, steps);
        }
    }

    /// Lets out what is done at the head of a lane, and notes where the lane is now.
    fn settle(&mut self, key: u64, now: Instant, steps: &mut Vec<Step>) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        while let Some(done) = lane.pieces.pop_front_if(|piece| piece.is_done()) {
            let task = done.root.entry.task;
            match done.state {
                State::Done(Fate::Sent(output)) => steps.push(Step::Send(task, done.envelope, output)),
                State::Done(Fate::Rejected(reason, attempts)) => {
                    steps.push(Step::Bury(task, done.envelope, reason, attempts));
                }
                State::Done(Fate::Dropped(by, why)) => {
                    steps.push(Step::Drop(task, done.root.chain.name(by), why));
                }
                State::Waiting | State::Paused(_) => {}
            }
            if !lane.pieces.front().is_some_and(|next| Arc::ptr_eq(&next.root, &done.root)) {
                steps.push(Step::End(task));
            }
        }
        match lane.pieces.front().map(|piece| &piece.state) {
            None => drop(self.lanes.remove(&key)),
            Some(State::Paused(due)) if *due > now => {
                self.paused.push(Reverse((*due, key)));
                lane.place = Place::Paused;
            }
            Some(_) => {
                lane.place = Place::Ready;
                self.ready.push_back(key);
            }
        }
    }
}

impl Lane {
    /// Moves what may be filtered from its head to the end of `batch`, and what is done among it; gives how many.
    fn take(&mut self, chain: &Arc<Chain>, room: usize, now: Instant, batch: &mut Vec<Piece>) -> usize {
        let mut taken = 0;
        let may = |piece: &mut Piece| {
            piece.due().is_none_or(|due| due <= now) && Arc::ptr_eq(chain, &piece.root.chain)
        };
        while taken < room
            && let Some(mut piece) = self.pieces.pop_front_if(may)
        {
            piece.resume();
            batch.push(piece);
            taken += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests;
