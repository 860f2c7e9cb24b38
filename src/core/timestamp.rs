//! RFC 3339 instants that keep the sender's spelling, so that an offset or a fraction passes unchanged.

use std::time::{Duration, SystemTime};

use bytestring::ByteString;

use super::error::InvalidEnvelope;

/// An instant, as the text it was received as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp(ByteString);

impl Timestamp {
    /// Takes RFC 3339 text and keeps it as it is.
    ///
    /// # Errors
    /// When the text is no RFC 3339 date and time with an offset.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, InvalidEnvelope> {
        let text = text.into();
        // RFC 3339 proper: jiff also takes basic ISO 8601 forms and annotations, which peers do not.
        let bytes = text.as_bytes();
        let shaped = bytes.len() >= 20
            && bytes.len() <= 64
            && bytes.get(4) == Some(&b'-')
            && bytes.get(7) == Some(&b'-')
            && matches!(bytes.get(10), Some(b'T' | b't' | b' '))
            && bytes.get(13) == Some(&b':')
            && bytes.get(16) == Some(&b':')
            && !bytes.contains(&b'[');
        if !shaped || text.parse::<jiff::Timestamp>().is_err() {
            return Err(InvalidEnvelope::new("time", "is not an RFC 3339 date and time"));
        }
        Ok(Self(text))
    }

    /// Text that was a timestamp before.
    pub(crate) fn known(text: ByteString) -> Self {
        Self(text)
    }

    /// The instant, in UTC with as many digits of fraction as it needs.
    pub fn from_system_time(time: SystemTime) -> Self {
        let instant = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self(instant.to_string().into())
    }

    /// The current instant, to the microsecond.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self(jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now).to_string().into())
    }

    /// The text, as received.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// Nanoseconds since 1970, negative before.
    pub fn unix_nanos(&self) -> i128 {
        self.0.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_nanosecond)
    }

    /// Whole seconds since 1970, negative before, and the nanoseconds after them.
    pub fn unix(&self) -> (i64, u32) {
        let Ok(time) = self.0.parse::<jiff::Timestamp>() else { return (0, 0) };
        // The digits after the point have the sign of the whole.
        match (time.as_second(), time.subsec_nanosecond()) {
            (seconds, nanos) if nanos < 0 => (seconds - 1, (nanos + 1_000_000_000).unsigned_abs()),
            (seconds, nanos) => (seconds, nanos.unsigned_abs()),
        }
    }

    /// From seconds and nanoseconds since 1970, as protobuf has it; `None` outside the years 1 to 9999.
    pub fn from_unix(seconds: i64, nanos: i32) -> Option<Self> {
        let instant = jiff::Timestamp::new(seconds, nanos).ok()?;
        let text = instant.to_string();
        text.starts_with(|c: char| c.is_ascii_digit()).then(|| Self(text.into()))
    }

    /// How long ago it was; zero for the future.
    pub fn elapsed(&self) -> Duration {
        let age = jiff::Timestamp::now().as_nanosecond() - self.unix_nanos();
        u64::try_from(age).map_or(Duration::ZERO, Duration::from_nanos)
    }
}
