//! Standard output and what verbs write there: lines and JSON. A reader that goes away ends a verb quietly.

use std::io::{ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::Failure;

/// The form of what is written, where there are these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

/// Writes text as it is, at once.
pub(super) fn write(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::unread(),
        _ => Failure::failed(format!("standard output: {error}")),
    })
}

/// Writes one line, at once.
pub(super) fn line(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let text = text.as_ref();
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text);
    line.push(b'\n');
    write(line)
}

/// Says something about the work on standard error, for a person: nothing where nobody watches.
pub(super) fn progress(text: impl AsRef<str>) {
    if std::io::stderr().is_terminal() {
        note(text);
    }
}

/// Says something about the work on standard error that a script should find in its log, too.
pub(super) fn note(text: impl AsRef<str>) {
    // Nobody reads it any more: what counts goes to standard output.
    drop(writeln!(std::io::stderr(), "{}", text.as_ref()));
}

/// JSON over several lines.
pub(super) fn pretty(value: &Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::failed(format!("as JSON: {error}")))
}

/// Text for a terminal: what a stranger put into a name moves no cursor.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
