//! The time. The standard library's clocks are not there on every Wasm target; these are.

use crate::Timestamp;

/// Now, as the bus has it.
pub fn now() -> Timestamp {
    #[cfg(target_family = "wasm")]
    return crate::bindings::meshbus::filter::clock::now();
    #[cfg(not(target_family = "wasm"))]
    {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() }
    }
}

/// Nanoseconds since some moment before the filter began; never goes back.
#[allow(clippy::disallowed_methods, reason = "in native tests there is no other clock")]
pub fn monotonic_ns() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::meshbus::filter::clock::monotonic_ns();
    #[cfg(not(target_family = "wasm"))]
    {
        static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let since = BEGAN.get_or_init(std::time::Instant::now).elapsed();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
