//! Positions: the `resourceVersion` that a list or a watch asks for, what goes together with it, and the tokens
//! with which a list goes on.
//!
//! The rules and sentences are those of
//! [the API concepts](https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list) as
//! release 1.36 has them.

use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, Encoding, Specification};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::call::Call;
use crate::core::Seq;
use crate::transport::k8s::codec::status::{Reason, Status};

/// How long a request waits for a position that is not reached yet.
const WAIT: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// The version of the form of tokens.
const TOKEN: &str = "meta.k8s.io/v1";
/// The position of a token that goes on from a list as it is now.
const NOW: i64 = -1;

/// How a position is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    NotOlderThan,
    Exact,
}

/// What a list or a watch asks for.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// The position; `None` for the newest, zero for any.
    pub(super) version: Option<Seq>,
    pub(super) matched: Option<Match>,
    /// Most items; zero for all.
    pub(super) limit: usize,
    /// Where an earlier page ended.
    pub(super) token: Option<Token>,
    /// Whether a watch begins with the state as it is.
    pub(super) initial: Option<bool>,
    /// How many seconds a watch is to last; zero where it does not matter.
    pub(super) seconds: u64,
}

/// Where a list goes on; opaque to clients.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Options {
    /// Reads and checks what a request asks for.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what does not go together.
    pub(super) fn of(call: &Call, watch: bool) -> Result<Self, Status> {
        let text = |name: &str| call.parameter(name).filter(|text| !text.is_empty());
        let (version, matched, token) =
            (text("resourceVersion"), text("resourceVersionMatch"), text("continue"));
        let initial = call.parameter("sendInitialEvents").map(|_| call.flag("sendInitialEvents"));
        let causes = if watch {
            wrong_watch(matched, token, initial)
        } else {
            wrong_list(version, matched, token, initial)
        };
        if !causes.is_empty() {
            return Err(invalid(&causes));
        }
        let number = |name: &str| match text(name) {
            None => Ok(0),
            Some(text) => text.parse::<i64>().map_err(|_| {
                let message = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
                Status::new(Reason::BadRequest, message)
            }),
        };
        let limit = usize::try_from(number("limit")?).unwrap_or(0);
        let seconds = u64::try_from(number("timeoutSeconds")?).unwrap_or(0);
        if token.is_some() && version.is_some_and(|version| version != "0") {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Status::new(Reason::BadRequest, message));
        }
        Ok(Self {
            version: version.map(read_version).transpose()?,
            matched: matched.map(|text| if text == "Exact" { Match::Exact } else { Match::NotOlderThan }),
            limit,
            token: token.map(Token::read).transpose()?,
            initial,
            seconds,
        })
    }
}

/// The position that a parameter names.
///
/// # Errors
/// 400 when it is no number.
pub(super) fn read_version(text: &str) -> Result<Seq, Status> {
    text.parse().map_err(|_| {
        let message = format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        );
        Status::new(Reason::BadRequest, message)
    })
}

/// Waits until the bus has reached a position.
///
/// # Errors
/// 504 when it does not within three seconds.
pub(super) async fn reach(shared: &Shared, version: Seq) -> Result<(), Status> {
    let begun = Instant::now();
    loop {
        let current = shared.bus.figures().seq;
        if current >= version {
            return Ok(());
        }
        if begun.elapsed() >= WAIT || shared.shutdown.is_draining() {
            let message = format!("Too large resource version: {version}, current: {current}");
            return Err(Status::new(Reason::Timeout, message)
                .cause("ResourceVersionTooLarge", "Too large resource version", "")
                .retry_after(1));
        }
        sleep(LOOK).await;
    }
}

impl Token {
    /// That of a page which ends with this name, of a list at this position.
    pub(super) fn after(name: &str, at: Seq) -> Self {
        Self { v: TOKEN.to_owned(), rv: at.0.cast_signed(), start: format!("{name}\0") }
    }

    /// The same place in a list as it is now.
    pub(super) fn now(mut self) -> Self {
        self.rv = NOW;
        self
    }

    /// The position of its list; `None` for a list as it is now.
    pub(super) fn at(&self) -> Option<Seq> {
        u64::try_from(self.rv).ok().map(Seq)
    }

    /// The name that the page before ended with.
    pub(super) fn name(&self) -> &str {
        self.start.strip_suffix('\0').unwrap_or(&self.start)
    }

    /// As text.
    pub(super) fn text(&self) -> String {
        // Numbers and text always become JSON.
        BASE64URL_NOPAD.encode(&serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(text: &str) -> Result<Self, Status> {
        let wrong = |why: String| {
            Status::new(
                Reason::BadRequest,
                format!("invalid continue token: continue key is not valid: {why}"),
            )
        };
        let bytes = base64()
            .decode(text.trim_end_matches('=').as_bytes())
            .map_err(|error| wrong(format!("illegal base64 data at input byte {}", error.position)))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|error| match bytes.first() {
            Some(first) if *first != b'{' => {
                wrong(format!("invalid character {} looking for beginning of value", quoted(*first)))
            }
            _ => wrong(error.to_string()),
        })?;
        if token.v != TOKEN {
            return Err(wrong(format!("server does not recognize this encoded version {:?}", token.v)));
        }
        if token.rv == 0 || token.rv < NOW || token.start.is_empty() {
            return Err(wrong(format!("incorrect encoded start resourceVersion (version {TOKEN})")));
        }
        Ok(token)
    }
}

/// As the clients' own reader has it, which takes what is left over in the last digit.
fn base64() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    specification.check_trailing_bits = false;
    specification.encoding().unwrap_or(BASE64URL_NOPAD)
}

/// A byte as the server's language shows it in such a sentence.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b' '..=b'~' | 0xa1..=0xff => format!("'{}'", char::from(byte)),
        0x80..=0xa0 => format!("'\\u{byte:04x}'"),
        _ => format!("'\\x{byte:02x}'"),
    }
}

/// What is wrong: the field, the kind of error, the sentence.
type Wrong = (&'static str, &'static str, String);

fn forbidden(field: &'static str, detail: &str) -> Wrong {
    (field, "FieldValueForbidden", format!("Forbidden: {detail}"))
}

fn wrong_list(
    version: Option<&str>,
    matched: Option<&str>,
    token: Option<&str>,
    initial: Option<bool>,
) -> Vec<Wrong> {
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    if let Some(matched) = matched {
        if version.is_none() {
            wrong.push(forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if token.is_some() {
            wrong.push(forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matched, "Exact" | "NotOlderThan") {
            let detail = format!(
                "Unsupported value: {matched:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            );
            wrong.push((field, "FieldValueNotSupported", detail));
        }
        if matched == "Exact" && version == Some("0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            wrong.push(forbidden(field, detail));
        }
    }
    if initial.is_some() {
        wrong.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    wrong
}

fn wrong_watch(matched: Option<&str>, token: Option<&str>, initial: Option<bool>) -> Vec<Wrong> {
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    if initial.is_some() && matched != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        wrong.push(forbidden(field, detail));
    }
    if let Some(matched) = matched {
        if initial.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            wrong.push(forbidden(field, detail));
        }
        if matched != "NotOlderThan" {
            let detail = format!("Unsupported value: {matched:?}: supported values: \"NotOlderThan\"");
            wrong.push((field, "FieldValueNotSupported", detail));
        }
        if token.is_some() {
            wrong.push(forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    wrong
}

fn invalid(wrong: &[Wrong]) -> Status {
    let each: Vec<String> = wrong.iter().map(|(field, _, detail)| format!("{field}: {detail}")).collect();
    let all = if let [one] = each.as_slice() { one.clone() } else { format!("[{}]", each.join(", ")) };
    let status = Status::new(Reason::Invalid, format!("ListOptions.meta.k8s.io \"\" is invalid: {all}"))
        .about("meta.k8s.io", "ListOptions", "");
    wrong.iter().fold(status, |status, (field, reason, detail)| status.cause(reason, detail, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r6_a_token_is_read_as_it_was_written() {
        let token = Token::after("web/a", Seq(514));
        let read = Token::read(&token.text()).unwrap();
        assert_eq!((read.name(), read.at()), ("web/a", Some(Seq(514))));
        assert_eq!(Token::read(&read.now().text()).unwrap().at(), None);
        let refused = Token::read("garbage").unwrap_err();
        assert_eq!(
            (refused.code.as_u16(), refused.message.as_str()),
            (
                400,
                "invalid continue token: continue key is not valid: invalid character '\\u0081' looking for beginning of value"
            )
        );
        for text in ["!!", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6ImEifQ"] {
            assert!(
                Token::read(text).unwrap_err().message.starts_with("invalid continue token: "),
                "{text}"
            );
        }
    }

    #[test]
    fn r7_what_does_not_go_together_is_named() {
        let list = |version, matched, token, initial| {
            invalid(&wrong_list(version, matched, token, initial)).message
        };
        let start = "ListOptions.meta.k8s.io \"\" is invalid: ";
        assert_eq!(
            list(None, Some("Exact"), None, None),
            format!(
                "{start}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
        );
        assert!(
            list(Some("0"), Some("Exact"), None, None).ends_with("forbidden for resourceVersion \"0\"")
        );
        assert!(list(Some("1"), Some("No"), Some("t"), Some(true)).starts_with(&format!("{start}[")));
        assert!(wrong_list(Some("5"), Some("Exact"), None, None).is_empty());
        assert!(wrong_watch(None, None, None).is_empty());
        assert!(wrong_watch(Some("NotOlderThan"), None, Some(true)).is_empty());
        assert_eq!(wrong_watch(None, None, Some(true)).len(), 1);
        assert_eq!(wrong_watch(Some("NotOlderThan"), None, None).len(), 1);
        assert_eq!(wrong_watch(Some("Exact"), Some("t"), None).len(), 3);
    }
}
