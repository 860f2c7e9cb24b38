//! Standard output and what verbs write there: lines, JSON, YAML. A reader that goes away ends a verb quietly.

use std::io::{ErrorKind, IsTerminal, Write};

use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use serde_json::Value;

use super::Failure;

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

/// One YAML document.
pub(super) fn yaml(value: Value) -> Result<String, Failure> {
    let mut text = String::new();
    YamlEmitter::new(&mut text)
        .dump(&to_yaml(value))
        .map_err(|error| Failure::failed(format!("as YAML: {error:?}")))?;
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(text.trim_end().to_owned())
}

fn to_yaml(value: Value) -> Yaml<'static> {
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(value) => Yaml::Value(Scalar::Boolean(value)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Yaml::Value(Scalar::Integer(number)),
            (None, Some(number)) => Yaml::Value(Scalar::FloatingPoint(number.into())),
            (None, None) => Yaml::Value(Scalar::String(number.to_string().into())),
        },
        Value::String(text) => Yaml::Value(Scalar::String(text.into())),
        Value::Array(items) => Yaml::Sequence(items.into_iter().map(to_yaml).collect()),
        Value::Object(fields) => {
            let mut map = Mapping::new();
            for (key, field) in fields {
                map.insert(Yaml::Value(Scalar::String(key.into())), to_yaml(field));
            }
            Yaml::Mapping(map)
        }
    }
}

/// Text for a terminal: what a stranger put into a name moves no cursor.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
