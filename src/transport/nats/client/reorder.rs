//! Puts what a consumer is sent in the order of its stream, while messages of an earlier connection are missing.
//!
//! What was sent to a connection that is lost comes again in no order: what the server could not hand over at
//! once, behind what is new or in front of it, and the rest when `ack_wait` is over. So everything waits here
//! until the server waits for nothing that is not here, and then goes on in the order of the stream.
//!
//! What is here is compared with what the server waits for by number. That number means a moment, and messages
//! go on coming. But each sending has a number in the consumer, also when a message is sent again: so what was
//! sent before that moment is told from what was sent after it. And where a number is left out, something was
//! sent elsewhere, as to a lost connection that the server does not know to be lost yet.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::{Message as Incoming, Subject};
use tokio::time::Instant;

use super::acks::AckSubject;
use super::held::{Held, Verdict};
use super::pull;

/// How often the server is asked what it waits for.
const QUESTION_INTERVAL: Duration = Duration::from_millis(250);
/// How long the server may go on sending to a lost connection, at most.
/// Numbers that are left out later are those of another bus that shares the consumer.
const LOST_PULL: Duration = pull::EXPIRES;
/// How much later than `ack_wait` a message may come again.
const SLACK: Duration = Duration::from_secs(1);

/// What the server says of a consumer, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The number of the last sending.
    sent: u64,
    /// How many messages wait for an acknowledgement.
    pending: usize,
}

/// See the [module](self). One for each connection.
#[derive(Debug)]
pub(super) struct Reorder {
    ack_wait: Duration,
    /// The last message that was sent before the connection began, by its sequence in the stream.
    earlier: u64,
    /// The number of the next sending, when none goes elsewhere.
    next: u64,
    /// Until when a number that is left out means a lost connection.
    watched: Instant,
    gap: Option<Gap>,
    /// By sequence in the stream; empty when there is no gap.
    waiting: BTreeMap<u64, Waiting>,
}

/// Something was sent elsewhere, and is to come again.
#[derive(Debug)]
struct Gap {
    /// The last sending that went elsewhere, at most; only a report of a later moment tells whether all is here.
    last: u64,
    /// After this it is not waited for.
    until: Instant,
    asked: Instant,
}

#[derive(Debug)]
struct Waiting {
    message: Incoming,
    info: AckSubject,
    /// When the server last heard of it.
    heard: Instant,
}

impl Reorder {
    /// A connection begins to a consumer of which the server says `info`, while `held` is left of earlier ones.
    /// Without `ordered` nothing ever waits.
    pub(super) fn new(ordered: bool, info: &Info, held: &Held) -> Self {
        let now = Instant::now();
        let report = Report::from(info);
        let mut reorder = Self {
            ack_wait: info.config.ack_wait,
            earlier: info.delivered.stream_sequence,
            next: report.sent.saturating_add(1),
            watched: if ordered { now + LOST_PULL } else { now },
            gap: None,
            waiting: BTreeMap::new(),
        };
        if ordered && !reorder.is_all_here(report, held) {
            reorder.open(report.sent, now);
        }
        reorder
    }

    /// Whether anything is missing, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.gap.is_some()
    }

    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A message has arrived, whatever is to become of it.
    pub(super) fn arrived(&mut self, info: AckSubject) {
        let now = Instant::now();
        if info.sending != self.next && now < self.watched {
            self.open(info.sending.saturating_sub(1), now);
        }
        self.next = info.sending.saturating_add(1);
    }

    /// Lets a message wait, when anything is missing; gives it back when not.
    pub(super) fn wait(&mut self, message: Incoming, info: AckSubject) -> Option<Incoming> {
        if self.gap.is_none() {
            return Some(message);
        }
        self.waiting.insert(info.sequence, Waiting { message, info, heard: Instant::now() });
        None
    }

    /// Tells of what waits and the server has not heard of for `silence`.
    pub(super) fn tell(&mut self, silence: Duration, verdicts: &mut Vec<(Subject, Verdict)>) {
        let now = Instant::now();
        for waiting in self.waiting.values_mut().filter(|waiting| now - waiting.heard >= silence) {
            waiting.heard = now;
            verdicts.extend(waiting.message.reply.clone().map(|reply| (reply, Verdict::Progress)));
        }
    }

    /// Whether it is time to ask for a [`Report`].
    pub(super) fn asks(&mut self) -> bool {
        let now = Instant::now();
        let due = self.gap.as_mut().filter(|gap| now - gap.asked >= QUESTION_INTERVAL);
        due.map(|gap| gap.asked = now).is_some()
    }

    /// Whether what is missing has had its time.
    pub(super) fn is_overdue(&self) -> bool {
        self.gap.as_ref().is_some_and(|gap| Instant::now() >= gap.until)
    }

    /// Whether the report shows that nothing is missing any more.
    pub(super) fn is_filled(&self, report: Report, held: &Held) -> bool {
        self.gap.as_ref().is_some_and(|gap| gap.last <= report.sent) && self.is_all_here(report, held)
    }

    /// From now on all waits, for so long at most.
    pub(super) fn hold(&mut self, most: Duration) {
        let now = Instant::now();
        let asked = now.checked_sub(QUESTION_INTERVAL).unwrap_or(now);
        self.watched = now;
        self.gap = Some(Gap { last: 0, until: now + most, asked });
    }

    /// Whether the report shows that nothing was on its way at that moment, and nothing has come since.
    pub(super) fn is_still(&self, report: Report, held: &Held) -> bool {
        self.next <= report.sent.saturating_add(1) && self.is_all_here(report, held)
    }

    /// What has waited, in the order of the stream; from now on nothing waits.
    pub(super) fn release(&mut self) -> impl Iterator<Item = (Incoming, AckSubject)> + use<> {
        self.gap = None;
        std::mem::take(&mut self.waiting).into_values().map(|waiting| (waiting.message, waiting.info))
    }

    /// Whether the server waits for no more than what had been sent at that moment and is here.
    fn is_all_here(&self, report: Report, held: &Held) -> bool {
        let waiting = self.waiting.values().filter(|waiting| waiting.info.sending <= report.sent).count();
        report.pending <= held.sent_by(report.sent, self.earlier) + waiting
    }

    fn open(&mut self, last: u64, now: Instant) {
        let asked = self.gap.as_ref().map_or(now, |gap| gap.asked);
        self.gap = Some(Gap { last, until: now + self.ack_wait + SLACK, asked });
    }
}

impl From<&Info> for Report {
    fn from(info: &Info) -> Self {
        Self { sent: info.delivered.consumer_sequence, pending: info.num_ack_pending }
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::Taken;
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(2);

    /// A consumer that has sent messages 1 to `sent` once each, of which `pending` wait for an acknowledgement.
    fn info(sent: u64, pending: usize) -> Info {
        let sequence = serde_json::json!({"consumer_seq": sent, "stream_seq": sent});
        serde_json::from_value(serde_json::json!({
            "stream_name": "S", "name": "c", "created": "2026-01-01T00:00:00Z",
            "config": {"ack_policy": "explicit", "deliver_policy": "all", "replay_policy": "instant",
                "ack_wait": ACK_WAIT.as_nanos()},
            "delivered": sequence, "ack_floor": sequence, "num_ack_pending": pending,
            "num_redelivered": 0, "num_waiting": 0, "num_pending": 0,
        }))
        .unwrap()
    }

    fn report(sent: u64, pending: usize) -> Report {
        Report { sent, pending }
    }

    /// What is taken in at once when message `sequence` comes by sending number `sending`.
    fn arrive(reorder: &mut Reorder, sequence: u64, sending: u64) -> bool {
        let message = Incoming {
            subject: "a".into(),
            reply: Some(format!("ack.{sending}").into()),
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let info = AckSubject { tries: 1, sequence, sending, stored: 0 };
        reorder.arrived(info);
        reorder.wait(message, info).is_some()
    }

    fn released(reorder: &mut Reorder) -> Vec<u64> {
        reorder.release().map(|(_, info)| info.sequence).collect()
    }

    fn holding(sequences: std::ops::RangeInclusive<u64>) -> Held {
        let mut held = Held::default();
        for sequence in sequences {
            let (reply, subject) = (format!("ack.{sequence}").into(), "a".into());
            let sending = Some(sequence);
            held.push(Taken { reply, subject, sequence, tries: 1, sending, unreadable: None });
        }
        held.reconnect(Duration::from_mins(1));
        held
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_again_in_no_order_goes_on_in_the_order_of_the_stream() {
        let held = Held::default();
        let mut reorder = Reorder::new(true, &info(4, 4), &held);
        for (sequence, sending) in [(2, 5), (3, 6), (4, 7), (5, 8)] {
            assert!(!arrive(&mut reorder, sequence, sending), "1 is missing");
        }
        assert!(!reorder.is_filled(report(8, 5), &held));
        assert!(!arrive(&mut reorder, 1, 9));
        assert!(reorder.is_filled(report(9, 5), &held));
        assert_eq!(released(&mut reorder), [1, 2, 3, 4, 5]);
        assert!(arrive(&mut reorder, 6, 10), "nothing is missing any more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_after_the_server_spoke_does_not_stand_for_what_is_missing() {
        let held = Held::default();
        let mut reorder = Reorder::new(true, &info(2, 2), &held);
        (3..=6).for_each(|n| assert!(!arrive(&mut reorder, n, n)));
        assert!(!reorder.is_filled(report(2, 2), &held), "1 and 2 are missing, 3 to 6 are later");
        assert!(!reorder.is_filled(report(4, 4), &held));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_comes_again_while_it_waits_counts_once_and_is_answered_by_its_last_subject() {
        let held = Held::default();
        let mut reorder = Reorder::new(true, &info(1, 1), &held);
        arrive(&mut reorder, 2, 2);
        arrive(&mut reorder, 2, 3);
        assert!(!reorder.is_filled(report(3, 2), &held));
        let replies: Vec<_> = reorder.release().filter_map(|(message, _)| message.reply).collect();
        assert_eq!(replies, ["ack.3".into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_still_sends_to_a_lost_connection_is_noticed_by_its_number() {
        let held = Held::default();
        let mut reorder = Reorder::new(true, &info(10, 0), &held);
        assert!(!reorder.is_open());
        assert!(arrive(&mut reorder, 11, 11));
        assert!(!arrive(&mut reorder, 14, 14), "12 and 13 went elsewhere");
        assert!(!reorder.is_filled(report(11, 0), &held), "of a moment before they did");
        assert!(!reorder.is_filled(report(14, 3), &held));
        arrive(&mut reorder, 13, 15);
        arrive(&mut reorder, 12, 16);
        assert!(reorder.is_filled(report(16, 3), &held));
        assert_eq!(released(&mut reorder), [12, 13, 14]);
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_left_out_when_no_lost_connection_can_be_sent_to_are_those_of_other_buses() {
        let mut reorder = Reorder::new(true, &info(0, 0), &Held::default());
        tokio::time::advance(LOST_PULL).await;
        assert!(arrive(&mut reorder, 5, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_where_order_is_not_wanted() {
        let mut reorder = Reorder::new(false, &info(4, 4), &Held::default());
        assert!(arrive(&mut reorder, 9, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_not_missing_but_what_the_server_has_forgotten_stands_for_nothing() {
        assert!(!Reorder::new(true, &info(4, 2), &holding(3..=4)).is_open());
        let held = holding(4..=6);
        let mut reorder = Reorder::new(true, &info(4, 2), &held);
        assert!(reorder.is_open(), "5 and 6 are not those it waits for");
        arrive(&mut reorder, 3, 5);
        assert!(reorder.is_filled(report(5, 2), &held));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_again_is_given_up_after_ack_wait_from_when_it_may_have_been_sent_last() {
        let mut reorder = Reorder::new(true, &info(1, 1), &Held::default());
        tokio::time::advance(ACK_WAIT).await;
        arrive(&mut reorder, 3, 3);
        tokio::time::advance(ACK_WAIT).await;
        assert!(!reorder.is_overdue(), "2 was sent elsewhere, at the time of 3 at the latest");
        tokio::time::advance(SLACK).await;
        assert!(reorder.is_overdue());
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_is_held_waits_until_nothing_is_on_its_way_or_the_time_is_over() {
        let held = holding(1..=2);
        let mut reorder = Reorder::new(false, &info(2, 2), &Held::default());
        reorder.hold(Duration::from_secs(1));
        assert!(reorder.asks());
        assert!(!arrive(&mut reorder, 3, 3) && !arrive(&mut reorder, 5, 5));
        assert!(!reorder.is_still(report(5, 5), &held), "4 is on its way");
        assert!(!reorder.is_still(report(4, 3), &held), "5 was sent since");
        assert!(reorder.is_still(report(5, 4), &held), "4 is another bus's, and acknowledged");
        assert!(!reorder.is_overdue());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(reorder.is_overdue());
        assert_eq!(released(&mut reorder), [3, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_asked_at_intervals_and_hears_of_what_waits() {
        let mut reorder = Reorder::new(true, &info(1, 1), &Held::default());
        arrive(&mut reorder, 2, 2);
        assert!(!reorder.asks());
        tokio::time::advance(QUESTION_INTERVAL).await;
        assert!(reorder.asks() && !reorder.asks());
        let mut verdicts = Vec::new();
        reorder.tell(QUESTION_INTERVAL, &mut verdicts);
        reorder.tell(QUESTION_INTERVAL, &mut verdicts);
        assert_eq!(verdicts, [("ack.2".into(), Verdict::Progress)]);
    }
}
