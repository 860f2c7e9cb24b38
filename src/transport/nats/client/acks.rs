//! The words of JetStream acknowledgements: what their subjects say, and what is sent to them. Pure.

use async_nats::Subject;
use bytes::Bytes;

use super::held::Verdict;
use crate::core::Timestamp;

/// Longest reason sent with `+TERM`.
const TERM_REASON_MAX: usize = 200;

/// What is sent for a verdict; `reasons` when the server takes one with `+TERM`.
pub(super) fn payload(verdict: &Verdict, reasons: bool) -> Bytes {
    match verdict {
        Verdict::Ack => Bytes::from_static(b"+ACK"),
        Verdict::Progress => Bytes::from_static(b"+WPI"),
        Verdict::Nak(delay) if delay.is_zero() => Bytes::from_static(b"-NAK"),
        Verdict::Nak(delay) => format!("-NAK {{\"delay\":{}}}", delay.as_nanos()).into(),
        Verdict::Term(reason) if reasons => {
            let reason: String = reason.chars().filter(|c| !c.is_control()).take(TERM_REASON_MAX).collect();
            format!("+TERM {reason}").into()
        }
        // An older server takes a reason for something it does not know, and sends the message again.
        Verdict::Term(_) => Bytes::from_static(b"+TERM"),
    }
}

/// What the subject of an acknowledgement says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckSubject {
    /// How often the message was sent.
    pub(super) tries: u32,
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// The number of this sending of it in the consumer, which counts every sending of every message.
    pub(super) sending: u64,
    /// When the stream stored it, in nanoseconds since 1970.
    pub(super) stored: i64,
}

impl AckSubject {
    /// `$JS.ACK.STREAM.CONSUMER.TRIES.SEQUENCE.CONSUMER-SEQUENCE.TIME.PENDING`, since 2.2 with domain and
    /// account before the stream where there are some, perhaps with a token at the end.
    pub(super) fn parse(subject: &Subject) -> Option<Self> {
        let rest = subject.strip_prefix("$JS.ACK.")?;
        let skip = if rest.split('.').count() >= 9 { 4 } else { 2 };
        let mut tokens = rest.split('.').skip(skip);
        let tries = tokens.next()?.parse().ok()?;
        let sequence = tokens.next()?.parse().ok()?;
        let sending = tokens.next()?.parse().ok()?;
        let stored = tokens.next()?.parse().ok()?;
        Some(Self { tries, sequence, sending, stored })
    }

    /// When the stream stored the message.
    pub(super) fn stored(self) -> Option<Timestamp> {
        const SECOND: i64 = 1_000_000_000;
        let nanos = i32::try_from(self.stored.rem_euclid(SECOND)).ok()?;
        Timestamp::from_unix(self.stored.div_euclid(SECOND), nanos)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_subject_of_an_acknowledgement_is_read_in_all_its_forms() {
        let expected =
            AckSubject { tries: 3, sequence: 100, sending: 7, stored: 1_790_230_470_084_404_000 };
        for subject in [
            "$JS.ACK.events.durable.3.100.7.1790230470084404000.42",
            "$JS.ACK._.szMpdrwD.events.durable.3.100.7.1790230470084404000.42",
            "$JS.ACK.hub.szMpdrwD.events.durable.3.100.7.1790230470084404000.42.token",
        ] {
            assert_eq!(AckSubject::parse(&subject.into()), Some(expected), "{subject}");
        }
        for subject in ["$JS.ACK.a.b.c", "_INBOX.a", "$JS.ACK.a.b.x.1.1.1.1"] {
            assert_eq!(AckSubject::parse(&subject.into()), None, "{subject}");
        }
        assert_eq!(&**expected.stored().unwrap().text(), "2026-09-24T06:14:30.084404Z");
    }

    #[test]
    fn an_older_server_is_told_no_reason() {
        let term = Verdict::Term("no\r\nJSON".into());
        assert_eq!(payload(&term, false), "+TERM");
        assert_eq!(payload(&term, true), "+TERM noJSON");
        assert_eq!(payload(&Verdict::Nak(Duration::from_secs(1)), true), "-NAK {\"delay\":1000000000}");
    }
}
