//! What verbs read: text on the command line, a file, standard input.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use super::Failure;

/// Most bytes of one piece of input: what the bus takes as one event.
pub(super) const INPUT_MAX: usize = 16 << 20;

/// The bytes of a file, or with `-` of standard input.
pub(super) fn file(path: &Path) -> Result<Bytes, Failure> {
    let name = path.display();
    let failed = |error: std::io::Error| Failure::failed(format!("{name}: {error}"));
    let mut bytes = Vec::new();
    // One byte more than allowed, to tell.
    let limit = INPUT_MAX as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() > INPUT_MAX {
        return Err(Failure::failed(format!("{name}: is over {INPUT_MAX} bytes")));
    }
    Ok(bytes.into())
}

/// YAML as the JSON that it means.
pub(super) fn yaml_as_json(path: &Path, yaml: &[u8]) -> Result<Bytes, Failure> {
    let name = path.display().to_string();
    let text = std::str::from_utf8(yaml).map_err(|error| Failure::failed(format!("{name}: {error}")))?;
    // Read as configuration is, so a literal `${` is `$${` here, too; a variable is an error.
    let section = crate::config::Section::from_yaml(&name, text)
        .map_err(|error| Failure::failed(error.to_string()))?;
    Ok(section.to_json().to_string().into())
}

/// The data an argument names: `@FILE`, `-` for standard input, else its own text.
pub(super) fn data(argument: &str) -> Result<Bytes, Failure> {
    match argument.strip_prefix('@') {
        Some(path) => file(Path::new(path)),
        None if argument == "-" => file(Path::new("-")),
        None => Ok(Bytes::copy_from_slice(argument.as_bytes())),
    }
}

/// `NAME=VALUE`, for clap.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// A duration, for clap: `100ms`, `30s`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed = text.parse::<crate::config::values::Duration>();
    parsed.map(|duration| duration.0).map_err(|reason| reason.replace("\nhint: ", "; "))
}

/// The media type of data that says none: by the name of its file, else by a look at it.
pub(super) fn media_type(file: Option<&Path>, data: &[u8]) -> Option<&'static str> {
    let extension = file.and_then(Path::extension).and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("json") => return Some("application/json"),
        Some("yaml" | "yml") => return Some("application/yaml"),
        Some("txt") => return Some("text/plain; charset=utf-8"),
        Some("xml") => return Some("application/xml"),
        _ => {}
    }
    if data.is_empty() {
        None
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() {
        Some("application/json")
    } else if std::str::from_utf8(data).is_ok() {
        Some("text/plain; charset=utf-8")
    } else {
        Some("application/octet-stream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_says_no_media_type_gets_the_one_it_looks_like() {
        for (file, data, expected) in [
            (None, &b"{\"a\":1}"[..], Some("application/json")),
            (None, b"42", Some("application/json")),
            (None, b"{a", Some("text/plain; charset=utf-8")),
            (None, b"\xff", Some("application/octet-stream")),
            (None, b"", None),
            (Some("x.YAML"), b"{}", Some("application/yaml")),
            (Some("x.bin"), b"{}", Some("application/json")),
        ] {
            assert_eq!(media_type(file.map(Path::new), data), expected, "{file:?} {data:?}");
        }
    }

    #[test]
    fn a_pair_has_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err() && pair("b").is_err());
    }
}
