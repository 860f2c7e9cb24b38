//! Variables in scalars: `${VAR}`, `${VAR:-default}`, `${VAR:?message}`; `$${` stands for a literal `${`.

use std::borrow::Cow;

/// Looks a variable up; passed in, so that tests need not set the process's own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment. A variable that is no UTF-8 counts as missing.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What is wrong with a reference to a variable: the reason and a hint.
pub(crate) type Wrong = (String, Option<String>);

/// Replaces every reference in `text`. A default or a message ends at the first `}` and is taken as it is.
pub(crate) fn expand<'t>(text: &'t str, env: Lookup<'_>) -> Result<Cow<'t, str>, Wrong> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (reference, after) = after.split_once('}').ok_or_else(|| {
            let hint = "close it with `}`, or write `$${` for a literal `${`";
            (format!("variable reference `${{{after}` is not closed"), Some(hint.to_owned()))
        })?;
        out.push_str(&value(reference, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// The value of what stands between the braces. As in a shell, `:-` and `:?` take an empty one for missing.
fn value(reference: &str, env: Lookup<'_>) -> Result<String, Wrong> {
    let (name, default, message) = if let Some((name, default)) = reference.split_once(":-") {
        (name, Some(default), None)
    } else if let Some((name, message)) = reference.split_once(":?") {
        (name, None, Some(message))
    } else {
        (reference, None, None)
    };
    if !is_name(name) {
        let hint = "use letters, digits and `_`; write `$${` for a literal `${`";
        return Err((format!("{name:?} is no name of a variable"), Some(hint.to_owned())));
    }
    let found = env(name);
    match (default, message) {
        (Some(default), _) => {
            Ok(found.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned()))
        }
        (_, Some(message)) => found
            .filter(|value| !value.is_empty())
            .ok_or_else(|| (format!("variable {name} is not set: {message}"), None)),
        _ => found.ok_or_else(|| {
            let hint = format!("set it, or give a default: `${{{name}:-default}}`");
            (format!("variable {name} is not set"), Some(hint))
        }),
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("h".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_where_they_stand() {
        for (text, expected) in [
            ("plain $HOST $", "plain $HOST $"),
            ("mqtt://${HOST}:1", "mqtt://h:1"),
            ("${HOST}${HOST}", "hh"),
            ("${NONE:-a:b}", "a:b"),
            ("${NONE:-}", ""),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("${HOST:?needed}", "h"),
            ("$${HOST}", "${HOST}"),
            ("a$${b${HOST}", "a${bh"),
        ] {
            assert_eq!(expand(text, &env).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_reference_says_what_is_wrong() {
        for (text, expected) in [
            ("${NONE}", "variable NONE is not set"),
            ("${NONE:?set it in the unit file}", "variable NONE is not set: set it in the unit file"),
            ("${EMPTY:?m}", "variable EMPTY is not set: m"),
            ("${HOST", "variable reference `${HOST` is not closed"),
            ("${}", "\"\" is no name of a variable"),
            ("${a-b}", "\"a-b\" is no name of a variable"),
            ("${1a}", "\"1a\" is no name of a variable"),
        ] {
            assert_eq!(expand(text, &env).unwrap_err().0, expected, "{text}");
        }
    }
}
