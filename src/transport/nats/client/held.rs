//! JetStream messages that were taken in and are not acknowledged yet.
//!
//! They outlive a connection: what was published before it was lost is acknowledged over the next one, so
//! that the server need not send it again. A message that is sent again all the same, while the first copy is
//! still under way, is recognised by its sequence and only brings a fresh subject for the acknowledgement.
//!
//! A server that is killed forgets the acknowledgements of its last moments, whatever its `sync_interval`. So
//! those of earlier connections are remembered and given again: all at once when there is a new connection,
//! and in place of a duplicate for as long as it can take the server to notice. After that a repetition is
//! taken at its word.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use async_nats::Subject;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::acks::AckSubject;
use crate::core::{Outcome, Reason, Receipt};

/// Back-off of what could not be delivered: doubles with each try up to the last.
const NAK_INITIAL: Duration = Duration::from_secs(1);
const NAK_MAX: Duration = Duration::from_secs(30);

/// Most acknowledged messages remembered.
const SETTLED_MAX: usize = 8192;

/// How often what is known from before is thinned out once its time is over.
const EXPIRE_AGAIN: Duration = Duration::from_secs(10);

/// What to tell the server about a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done.
    Ack,
    /// Send it again, after so long.
    Nak(Duration),
    /// Never send it again, and why.
    Term(Reason),
    /// Still being worked on: do not send it again yet.
    Progress,
}

/// A message that was taken in.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where the server takes the verdict.
    pub(super) reply: Subject,
    /// Where it was published.
    pub(super) subject: Subject,
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// How often the server has sent it.
    pub(super) tries: u32,
    /// The number of the sending that brought it last; `None` when that was over an earlier connection.
    pub(super) sending: Option<u64>,
    /// It could not be read, and why; what was published is its dead letter.
    pub(super) unreadable: Option<Reason>,
}

#[derive(Debug)]
struct Entry {
    taken: Taken,
    /// When the server last heard of it.
    heard: Instant,
    receipt: Option<Receipt>,
}

/// See the [module](self). In the order they came; the first `published` have receipts.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: VecDeque<Entry>,
    published: usize,
    /// What was last acknowledged or ended, oldest first.
    settled: VecDeque<(u64, Subject)>,
    /// Those of them from before this connection and all held since then, without what was refused; and until
    /// when they count.
    before: Before,
}

type Before = Option<(HashSet<u64, RandomState>, Instant)>;

/// What is known of a message that the server has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: it is to be taken in.
    New,
    /// It is held already, and will be answered by way of this latest copy.
    Held,
    /// It was acknowledged before the connection was made.
    Settled,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A message was taken in and is about to be published.
    pub(super) fn push(&mut self, taken: Taken) {
        self.entries.push_back(Entry { taken, heard: Instant::now(), receipt: None });
    }

    /// Those without receipts, oldest first.
    pub(super) fn unpublished(&self) -> impl Iterator<Item = &Taken> {
        self.entries.iter().skip(self.published).map(|entry| &entry.taken)
    }

    /// Receipts of the oldest that had none.
    pub(super) fn publish(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        for receipt in receipts {
            if let Some(entry) = self.entries.get_mut(self.published) {
                entry.receipt = Some(receipt);
                self.published += 1;
            }
        }
    }

    /// How many of those held the server waits for at the moment of the sending number `sent`. The numbers of an
    /// earlier connection mean nothing, as a server that was killed goes back: what came over one had been sent
    /// as far as the server knows when it is not after `earlier` in the stream.
    pub(super) fn sent_by(&self, sent: u64, earlier: u64) -> usize {
        let known = |taken: &Taken| match taken.sending {
            Some(sending) => sending <= sent,
            None => taken.sequence <= earlier,
        };
        self.entries.iter().filter(|entry| known(&entry.taken)).count()
    }

    /// A new connection begins. Within `memory` what was acknowledged before may come again.
    pub(super) fn reconnect(&mut self, memory: Duration) {
        self.entries.iter_mut().for_each(|entry| entry.taken.sending = None);
        let held = self.entries.iter().map(|entry| entry.taken.sequence);
        let before: HashSet<_, _> =
            held.chain(self.settled.iter().map(|(sequence, _)| *sequence)).collect();
        self.before = (!before.is_empty()).then(|| (before, Instant::now() + memory));
    }

    /// Forgets what was acknowledged: the consumer is a new one, and starts where it was told to.
    pub(super) fn forget_settled(&mut self) {
        self.settled.clear();
    }

    /// The acknowledgements that the server may have forgotten; those it has not it passes over.
    pub(super) fn acknowledge_again(&self, verdicts: &mut Vec<(Subject, Verdict)>) {
        verdicts.extend(self.settled.iter().map(|(_, reply)| (reply.clone(), Verdict::Ack)));
    }

    /// Looks up a message that is sent, perhaps not for the first time.
    pub(super) fn look_up(&mut self, info: AckSubject, reply: &Subject) -> Known {
        let AckSubject { tries, sequence, sending, .. } = info;
        self.expire();
        let before = self.before.as_ref().is_some_and(|(sequences, _)| sequences.contains(&sequence));
        // A first copy is not held: the common case looks no further.
        if tries <= 1 && !before {
            return Known::New;
        }
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.taken.sequence == sequence) else {
            return if before { Known::Settled } else { Known::New };
        };
        entry.taken.reply = reply.clone();
        entry.taken.tries = tries;
        entry.taken.sending = Some(sending);
        entry.heard = Instant::now();
        Known::Held
    }

    /// When its time is over, only what is still held is known from before.
    fn expire(&mut self) {
        let now = Instant::now();
        let Some((sequences, until)) = self.before.as_mut().filter(|(_, until)| now >= *until) else {
            return;
        };
        let held: HashSet<u64, RandomState> =
            self.entries.iter().map(|entry| entry.taken.sequence).collect();
        sequences.retain(|sequence| held.contains(sequence));
        *until = now + EXPIRE_AGAIN;
        if sequences.is_empty() {
            self.before = None;
        }
    }

    /// Waits until the fate of the oldest is known; for ever while it is not published.
    pub(super) async fn oldest_delivered(&self) {
        match self.entries.front().and_then(|entry| entry.receipt.as_ref()) {
            Some(receipt) => drop(receipt.delivered().await),
            None => std::future::pending().await,
        }
    }

    /// Takes out what is decided at the front, in order.
    pub(super) fn settle_oldest(&mut self, verdicts: &mut Vec<(Subject, Verdict)>) {
        while let Some(verdict) = self.entries.front().and_then(Entry::verdict) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.published -= 1;
            remember(&mut self.settled, &mut self.before, &entry.taken, &verdict);
            verdicts.push((entry.taken.reply, verdict));
        }
    }

    /// Takes out what is decided anywhere, and tells of what the server has not heard of for `silence`.
    pub(super) fn settle(&mut self, silence: Duration, verdicts: &mut Vec<(Subject, Verdict)>) {
        let now = Instant::now();
        let Self { entries, published, settled, before } = self;
        entries.retain_mut(|entry| {
            if let Some(verdict) = entry.verdict() {
                *published -= 1;
                remember(settled, before, &entry.taken, &verdict);
                verdicts.push((entry.taken.reply.clone(), verdict));
                return false;
            }
            if now.duration_since(entry.heard) >= silence {
                entry.heard = now;
                verdicts.push((entry.taken.reply.clone(), Verdict::Progress));
            }
            true
        });
    }
}

impl Entry {
    fn verdict(&self) -> Option<Verdict> {
        let outcome = self.receipt.as_ref()?.try_delivered()?;
        Some(match (outcome, &self.taken.unreadable) {
            (Outcome::Undelivered(_), _) => Verdict::Nak(nak_delay(self.taken.tries)),
            (_, Some(reason)) => Verdict::Term(reason.clone()),
            (Outcome::Rejected(reason), None) => Verdict::Term(reason),
            (Outcome::Delivered | Outcome::Filtered, None) => Verdict::Ack,
        })
    }
}

fn remember(settled: &mut VecDeque<(u64, Subject)>, before: &mut Before, taken: &Taken, verdict: &Verdict) {
    if matches!(verdict, Verdict::Nak(_)) {
        // It is to come again, and then to be taken in.
        if let Some((before, _)) = before {
            before.remove(&taken.sequence);
        }
        return;
    }
    if settled.len() >= SETTLED_MAX {
        settled.pop_front();
    }
    settled.push_back((taken.sequence, taken.reply.clone()));
}

fn nak_delay(tries: u32) -> Duration {
    NAK_INITIAL.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(NAK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::bus::{Bus, BusOptions};
    use crate::core::{Envelope, Topic};

    fn taken(sequence: u64) -> Taken {
        let (reply, subject) = (format!("ack.{sequence}").into(), "a".into());
        Taken { reply, subject, sequence, tries: 1, sending: Some(sequence), unreadable: None }
    }

    fn sent(sequence: u64, tries: u32) -> AckSubject {
        AckSubject { tries, sequence, sending: 100 + sequence, stored: 0 }
    }

    async fn receipts(n: usize) -> Vec<Receipt> {
        let bus = Bus::new(BusOptions::default());
        let topic = Topic::parse("a").unwrap();
        let batch = (0..n).map(|i| Envelope::event(topic.clone(), i.to_string(), "s", "t")).collect();
        bus.ingress("c", "c").publish(batch).await
    }

    fn replies(verdicts: &[(Subject, Verdict)]) -> Vec<(&str, &Verdict)> {
        verdicts.iter().map(|(reply, verdict)| (reply.as_str(), verdict)).collect()
    }

    #[tokio::test]
    async fn what_is_delivered_is_acknowledged_and_what_has_no_receipt_is_kept() {
        let mut held = Held::default();
        (1..=3).for_each(|sequence| held.push(taken(sequence)));
        held.publish(receipts(2).await);
        held.oldest_delivered().await;
        let mut verdicts = Vec::new();
        held.settle_oldest(&mut verdicts);
        assert_eq!(replies(&verdicts), [("ack.1", &Verdict::Ack), ("ack.2", &Verdict::Ack)]);
        assert_eq!(held.len(), 1);
        let mut again = Vec::new();
        held.acknowledge_again(&mut again);
        assert_eq!(again, verdicts);
    }

    #[tokio::test]
    async fn a_dead_letter_ends_the_message_it_stands_for() {
        let mut held = Held::default();
        held.push(Taken { unreadable: Some("no JSON".into()), ..taken(1) });
        held.publish(receipts(1).await);
        let mut verdicts = Vec::new();
        held.settle(Duration::from_secs(1), &mut verdicts);
        assert_eq!(replies(&verdicts), [("ack.1", &Verdict::Term("no JSON".into()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_hears_in_time_of_what_takes_long_and_not_more_often() {
        let mut held = Held::default();
        held.push(taken(1));
        let silence = Duration::from_secs(15);
        let mut verdicts = Vec::new();
        held.settle(silence, &mut verdicts);
        assert!(verdicts.is_empty());
        tokio::time::advance(silence).await;
        held.settle(silence, &mut verdicts);
        held.settle(silence, &mut verdicts);
        assert_eq!(replies(&verdicts), [("ack.1", &Verdict::Progress)]);
    }

    #[tokio::test]
    async fn a_second_copy_is_recognised_and_answered_once_by_its_own_subject() {
        let mut held = Held::default();
        held.push(taken(7));
        assert_eq!(held.look_up(sent(7, 2), &"ack.again".into()), Known::Held);
        assert_eq!(held.look_up(sent(8, 2), &"ack.8".into()), Known::New);
        held.publish(receipts(1).await);
        let mut verdicts = Vec::new();
        held.settle(Duration::from_secs(1), &mut verdicts);
        assert_eq!(replies(&verdicts), [("ack.again", &Verdict::Ack)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_acknowledged_before_a_server_forgot_is_known_for_a_while() {
        let mut held = Held::default();
        (1..=4).for_each(|sequence| held.push(taken(sequence)));
        held.publish(receipts(3).await);
        let mut verdicts = Vec::new();
        held.settle_oldest(&mut verdicts);
        let known = |held: &mut Held, sequence, tries| held.look_up(sent(sequence, tries), &"a".into());
        assert_eq!(known(&mut held, 2, 2), Known::New, "on the same connection the server means it");
        held.reconnect(Duration::from_mins(1));
        assert_eq!(known(&mut held, 3, 1), Known::Settled);
        assert_eq!(known(&mut held, 4, 1), Known::Held);
        assert_eq!(known(&mut held, 5, 1), Known::New);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(known(&mut held, 3, 2), Known::New);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_when_the_server_forgets_is_known_however_it_comes_again() {
        let mut held = Held::default();
        held.push(taken(1));
        held.publish(receipts(1).await);
        held.reconnect(Duration::ZERO);
        assert_eq!(held.look_up(sent(1, 1), &"first".into()), Known::Held);
        let mut verdicts = Vec::new();
        held.settle_oldest(&mut verdicts);
        assert_eq!(replies(&verdicts), [("first", &Verdict::Ack)]);
        assert_eq!(held.look_up(sent(1, 1), &"second".into()), Known::Settled);
    }

    #[test]
    fn a_nak_carries_the_back_off() {
        let delays: Vec<u64> = [1, 2, 3, 6, 7, 1000].map(|tries| nak_delay(tries).as_secs()).to_vec();
        assert_eq!(delays, [1, 2, 4, 30, 30, 30]);
    }
}
