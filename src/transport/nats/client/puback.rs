//! What a stream answers to a publish, read as what it means for the delivery. Pure.

use async_nats::{Message, StatusCode};
use serde::Deserialize;

/// Errors of the JetStream API by which it says that it cannot answer now: no leader, not started yet, out
/// of memory, offline. All others are about the message or the stream's own limits.
const AWAY: [u64; 9] = [10_004, 10_006, 10_008, 10_009, 10_023, 10_039, 10_041, 10_076, 10_118];
/// The stream could not store: by its limits, or by its disk.
const STORE_FAILED: u64 = 10_077;

/// What a stream answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has the message, perhaps from an earlier try.
    Stored,
    /// Nobody takes the subject: no stream does, or JetStream is not ready.
    NoResponder,
    /// It said no, and why.
    Refused(String),
    /// It cannot now, and why.
    Away(String),
}

#[derive(Deserialize)]
struct PubAck<'a> {
    #[serde(borrow)]
    stream: Option<std::borrow::Cow<'a, str>>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Reads an answer; `None` where it is none of a stream: some service listens on the subject as well, and the
/// stream's own answer is still to come.
pub(super) fn read(message: &Message) -> Option<Answer> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Some(Answer::NoResponder);
    }
    let ack: PubAck<'_> = serde_json::from_slice(&message.payload).ok()?;
    match ack {
        PubAck { error: Some(error), .. } => Some(judge(&error)),
        PubAck { stream: Some(_), .. } => Some(Answer::Stored),
        PubAck { .. } => None,
    }
}

fn judge(error: &ApiError) -> Answer {
    let text = format!("{} (JetStream error {})", error.description, error.err_code);
    let by_limit = error.description.starts_with("maximum");
    if AWAY.contains(&error.err_code)
        || (error.err_code == STORE_FAILED && !by_limit)
        || (error.err_code == 0 && error.code == 503)
    {
        Answer::Away(text)
    } else {
        Answer::Refused(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str, status: Option<StatusCode>) -> Message {
        Message {
            subject: "_INBOX.a.1".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn an_error_about_the_message_is_a_no_and_one_about_the_server_is_not() {
        for (payload, answer) in [
            (r#"{"stream":"E","seq":1}"#, Some("stored")),
            (r#"{"stream":"E","seq":1,"duplicate":true,"domain":"hub"}"#, Some("stored")),
            (
                r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}"#,
                Some("refused"),
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#,
                Some("refused"),
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"no space left on device"}}"#,
                Some("away"),
            ),
            (
                r#"{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}"#,
                Some("away"),
            ),
            ("thank you", None),
            (r#"{"answer":42}"#, None),
            ("", None),
        ] {
            let found = read(&message(payload, None)).map(|answer| match answer {
                Answer::Stored => "stored",
                Answer::NoResponder => "nobody",
                Answer::Refused(_) => "refused",
                Answer::Away(_) => "away",
            });
            assert_eq!(found, answer, "{payload}");
        }
        assert_eq!(read(&message("", Some(StatusCode::NO_RESPONDERS))), Some(Answer::NoResponder));
    }
}
