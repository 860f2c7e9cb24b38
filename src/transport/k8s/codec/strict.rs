//! Strict decoding: fields that stand twice in a JSON text, and the sentence about fields that are unknown or twice.
//!
//! A parser keeps the last of two equal fields, so the text itself is read; once, without recursion, and with
//! memory no larger than the text.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::schema::structural::quote;

/// Deepest nesting of a text.
pub const DEPTH_MAX: usize = 512;

/// Most fields told of.
const FIELDS_MAX: usize = 100;

/// Why a text cannot be read; each is the text of a `BadRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("json: exceeded max depth of {DEPTH_MAX}")]
    TooDeep,
    /// It is no JSON; the position is in bytes.
    #[error("json: malformed at offset {0}")]
    Malformed(usize),
}

/// One object or array that is open.
enum Open<'t> {
    Object { seen: HashSet<Cow<'t, str>>, field: Option<Cow<'t, str>> },
    Array { at: usize },
}

/// The paths of fields that stand twice in their object, each once, in the order of the text.
///
/// # Errors
///
/// Says that the text is nested too deeply or is no JSON; brackets and strings are looked at, plain values are not.
pub fn duplicates(text: &str) -> Result<Vec<String>, StrictError> {
    let mut scanner = Scanner { text, at: 0, open: Vec::new(), found: Vec::new() };
    while let Some(byte) = scanner.next_token() {
        scanner.token(byte)?;
    }
    if scanner.open.is_empty() { Ok(scanner.found) } else { Err(StrictError::Malformed(text.len())) }
}

/// `strict decoding error: duplicate field "a", unknown field "b"`; `None` where there is nothing to tell.
pub fn sentence(duplicates: &[String], unknown: &[String]) -> Option<String> {
    let fields = warnings(duplicates, unknown);
    (!fields.is_empty()).then(|| format!("strict decoding error: {}", fields.join(", ")))
}

/// `duplicate field "a"`, `unknown field "b"`: a warning each.
pub fn warnings(duplicates: &[String], unknown: &[String]) -> Vec<String> {
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {}", quote(path)));
    let unknown = unknown.iter().map(|path| format!("unknown field {}", quote(path)));
    duplicates.chain(unknown).collect()
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    open: Vec<Open<'t>>,
    found: Vec<String>,
}

impl<'t> Scanner<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that opens, closes or separates, or begins a string.
    fn next_token(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let found = rest.iter().position(|b| matches!(b, b'{' | b'}' | b'[' | b']' | b',' | b'"'))?;
        self.at = self.at.saturating_add(found);
        self.peek()
    }

    fn token(&mut self, byte: u8) -> Result<(), StrictError> {
        let malformed = StrictError::Malformed(self.at);
        match byte {
            b'{' | b'[' if self.open.len() >= DEPTH_MAX => return Err(StrictError::TooDeep),
            b'{' => self.open.push(Open::Object { seen: HashSet::new(), field: None }),
            b'[' => self.open.push(Open::Array { at: 0 }),
            b'}' => match self.open.pop() {
                Some(Open::Object { .. }) => {}
                _ => return Err(malformed),
            },
            b']' => match self.open.pop() {
                Some(Open::Array { .. }) => {}
                _ => return Err(malformed),
            },
            b',' => match self.open.last_mut() {
                Some(Open::Object { field, .. }) => *field = None,
                Some(Open::Array { at }) => *at = at.saturating_add(1),
                None => return Err(malformed),
            },
            _ => return self.string(),
        }
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    fn string(&mut self) -> Result<(), StrictError> {
        let begin = self.at;
        let malformed = StrictError::Malformed(begin);
        let mut end = begin.saturating_add(1);
        let mut escaped = false;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(end) {
                Some(b'\\') => {
                    escaped = true;
                    end = end.saturating_add(1);
                }
                Some(b'"') => break,
                Some(_) => {}
                None => return Err(malformed),
            }
            end = end.saturating_add(1);
        }
        end = end.saturating_add(1);
        self.at = end;
        let Some(Open::Object { seen, field }) = self.open.last_mut() else { return Ok(()) };
        if field.is_some() {
            return Ok(());
        }
        let quoted = self.text.get(begin..end).ok_or(malformed)?;
        let name: Cow<'t, str> = if escaped {
            serde_json::from_str::<String>(quoted).map_err(|_| malformed)?.into()
        } else {
            quoted.trim_matches('"').into()
        };
        let again = !seen.insert(name.clone());
        *field = Some(name);
        if again {
            self.tell();
        }
        Ok(())
    }

    /// Notes the path that is open.
    fn tell(&mut self) {
        use std::fmt::Write as _;
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::Array { at } => write!(path, "[{at}]").unwrap_or_default(),
                Open::Object { field, .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(field.as_deref().unwrap_or_default());
                }
            }
        }
        if self.found.len() < FIELDS_MAX && !self.found.contains(&path) {
            self.found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        duplicates(text).unwrap()
    }

    #[test]
    fn a_field_that_stands_twice_is_told_by_its_path_once() {
        assert_eq!(found(r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#), [""; 0]);
        assert_eq!(found(r#"{"spec":{"x":1,"x":2,"x":3}}"#), ["spec.x"]);
        assert_eq!(found(r#"{"l":[{"a":1},{"b":[[{"c":1,"c":1}]]}]}"#), ["l[1].b[0][0].c"]);
        assert_eq!(found(r#"{"a":"x\"},{","a":"{"}"#), ["a"]);
    }

    #[test]
    fn names_are_compared_without_their_escapes() {
        assert_eq!(found(r#"{"a":1,"\u0061":2}"#), ["a"]);
        assert_eq!(found(r#"{"a\"":1,"a\"":2}"#), ["a\""]);
    }

    #[test]
    fn depth_is_bounded() {
        assert!(duplicates(&format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX))).is_ok());
        assert_eq!(duplicates(&"[".repeat(1 << 20)), Err(StrictError::TooDeep));
        assert_eq!(duplicates("{]"), Err(StrictError::Malformed(1)));
        assert_eq!(duplicates(r#"{"a"#), Err(StrictError::Malformed(1)));
    }

    #[test]
    fn the_sentence_names_duplicates_then_unknown_fields() {
        let list =
            |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        assert_eq!(sentence(&[], &[]), None);
        assert_eq!(
            sentence(&list(&["spec.a"]), &list(&["spec.b", "metadata.c"])).unwrap(),
            r#"strict decoding error: duplicate field "spec.a", unknown field "spec.b", unknown field "metadata.c""#
        );
    }

    #[test]
    fn three_mebibytes_are_read_in_one_pass() {
        let fields: Vec<String> = (0..200_000).map(|n| format!("\"field{n}\":\"{n}\"")).collect();
        let text = format!("{{{},\"field7\":1}}", fields.join(","));
        assert!(text.len() > 3 << 20);
        assert_eq!(found(&text), ["field7"]);
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text in r#"[{}\[\]",:\\a1 ü]{0,60}"#) {
            duplicates(&text).ok();
        }
    }
}
