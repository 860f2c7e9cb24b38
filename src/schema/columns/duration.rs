//! How long ago, for people: two or three significant figures.

/// The longest duration there is, in seconds: what 64 bits of nanoseconds hold, some 292 years.
const DURATION_MAX: i64 = i64::MAX / 1_000_000_000;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A duration of this many seconds as kubectl and the API server show ages: `7s`, `5m30s`, `3h20m`, `2d4h`,
/// `1y20d`.
///
/// Clocks differ: one second into the future is `0s`, more is `<invalid>`.
pub fn human_duration(seconds: i64) -> String {
    let seconds = seconds.min(DURATION_MAX);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        252_288_000.. => format!("{}y", seconds / YEAR),
    }
}

/// Two units, the smaller one only if there is any of it.
fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    }
}
