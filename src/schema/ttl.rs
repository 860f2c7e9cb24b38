//! How long a key's value holds for readers without another word: an attribute of what was written. Pure.

use std::time::Duration;

use bytestring::ByteString;

use crate::core::envelope::Extensions;

/// The attribute, a number of milliseconds.
const TTL: &str = "mbttl";

/// Sets the time to live of what is written.
///
/// # Errors
/// For less than a millisecond, and for more than the 24 days that a number of an attribute can say.
pub fn set(extensions: &mut Extensions, ttl: Duration) -> Result<(), String> {
    let millis = i32::try_from(ttl.as_millis()).ok().filter(|millis| *millis > 0);
    let millis =
        millis.ok_or_else(|| format!("a time to live of {ttl:?}: it must be from 1ms to 24 days"))?;
    extensions.set(ByteString::from_static(TTL), millis);
    Ok(())
}

/// The time to live of what was written, where it has one.
pub fn of(extensions: &Extensions) -> Option<Duration> {
    let millis: u64 = extensions.get(TTL)?.to_text().parse().ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_and_what_no_number_can_say_is_refused() {
        let mut extensions = Extensions::default();
        assert_eq!(of(&extensions), None);
        set(&mut extensions, Duration::from_millis(1500)).unwrap();
        assert_eq!(of(&extensions), Some(Duration::from_millis(1500)));
        for wrong in [Duration::ZERO, Duration::from_micros(1), Duration::from_hours(600)] {
            assert!(set(&mut extensions, wrong).unwrap_err().contains("24 days"));
        }
        extensions.set(TTL, "soon");
        assert_eq!(of(&extensions), None);
    }
}
