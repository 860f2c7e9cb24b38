//! Lines in the log of the bus, under the name of the plugin and its route; in native tests, on standard error.

pub use crate::bindings::meshbus::filter::log::Level;

/// Whether a line of this level would be written: ask before a costly message.
pub fn enabled(level: Level) -> bool {
    #[cfg(target_family = "wasm")]
    return crate::bindings::meshbus::filter::log::enabled(level);
    #[cfg(not(target_family = "wasm"))]
    return level >= Level::Debug;
}

/// Writes a line with fields.
pub fn line(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    #[cfg(target_family = "wasm")]
    crate::bindings::meshbus::filter::log::log(level, message, &fields);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message} {fields:?}");
}

/// Writes a line for whoever looks for a mistake.
pub fn debug(message: &str) {
    line(Level::Debug, message, &[]);
}

/// Writes a line about something normal.
pub fn info(message: &str) {
    line(Level::Info, message, &[]);
}

/// Writes a line about something that should be looked at.
pub fn warn(message: &str) {
    line(Level::Warn, message, &[]);
}

/// Writes a line about something that went wrong.
pub fn error(message: &str) {
    line(Level::Error, message, &[]);
}
