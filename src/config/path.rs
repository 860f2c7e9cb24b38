//! Paths of fields: `routes.warnings.to[0].subject`, and `connectors["a.b"]` for names that hold other signs.

/// One step down the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A map's key.
    Key(String),
    /// A list's position, from 0.
    Index(usize),
}

/// Appends `step` to the text of a path.
pub(crate) fn push(path: &mut String, step: &Step) {
    match step {
        Step::Index(at) => path.extend(["[", &at.to_string(), "]"]),
        Step::Key(key) if is_plain(key) => {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        Step::Key(key) => path.extend(["[", &format!("{key:?}"), "]"]),
    }
}

/// `base` and then `rest`, both as text.
pub(crate) fn join(base: &str, rest: &str) -> String {
    let dot = if base.is_empty() || rest.is_empty() || rest.starts_with('[') { "" } else { "." };
    format!("{base}{dot}{rest}")
}

/// Reads the text of a path. What is no path reads as one key, so that a lookup just finds nothing.
pub(crate) fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
            bracket(inner)
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            (Step::Key(key.to_owned()), after)
        };
        steps.push(step);
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

/// What follows a `[`: a number or a quoted key, and the closing bracket.
fn bracket(inner: &str) -> (Step, &str) {
    if let Some((index, after)) = inner.split_once(']')
        && let Ok(at) = index.parse()
    {
        return (Step::Index(at), after);
    }
    // A quoted key is written by `push` as Rust's `Debug` does, of which JSON reads all that keys need.
    let mut values = serde_json::Deserializer::from_str(inner).into_iter::<String>();
    if let Some(Ok(key)) = values.next() {
        let after = inner.get(values.byte_offset()..).unwrap_or_default();
        return (Step::Key(key), after.strip_prefix(']').unwrap_or(after));
    }
    (Step::Key(inner.to_owned()), "")
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        let steps = [
            Step::Key("routes".into()),
            Step::Key("a.b \"c\"".into()),
            Step::Key("to".into()),
            Step::Index(3),
            Step::Key("x-y_z".into()),
        ];
        let mut text = String::new();
        for step in &steps {
            push(&mut text, step);
        }
        assert_eq!(text, r#"routes["a.b \"c\""].to[3].x-y_z"#);
        assert_eq!(parse(&text), steps);
    }

    #[test]
    fn what_is_no_path_finds_nothing_and_does_not_panic() {
        for text in ["[", "[[", "a[", "[x]", "..", "a..b", "[\"", "[1"] {
            drop(parse(text));
        }
    }
}
