//! Regular expressions of schemas: Go's syntax over an engine that takes linear time whatever the expression.

use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 16 * 1024;

/// Most memory one compiled pattern may take, in bytes; also of what its matcher caches.
const COMPILED_MAX: usize = 1 << 20;

/// Deepest nesting of groups.
const NESTING_MAX: u32 = 100;

/// Compiles a pattern of a schema; the error is a sentence for its author.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_MAX {
        return Err(format!("longer than {PATTERN_MAX} bytes"));
    }
    RegexBuilder::new(&translate(pattern))
        .size_limit(COMPILED_MAX)
        .dfa_size_limit(COMPILED_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::Syntax(text) => {
                text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
            other => other.to_string(),
        })
}

/// Spells an expression of Go for the engine: `\d`, `\w`, `\s` are ASCII there, and inside a class `[`, `&`
/// and `~` stand for themselves.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len().saturating_add(16));
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str("[\\t\\n\\f\\r ]"),
                Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
                // A word boundary of Go looks at ASCII; the engine's own would need Unicode tables at match time.
                Some('b') if !in_class => out.push_str("(?-u:\\b)"),
                Some('/') => out.push('/'),
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is one of the class.
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                for named in rest.by_ref() {
                    out.push(named);
                    if named == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().is_match(text)
    }

    #[test]
    fn classes_are_those_of_go() {
        assert!(matches(r"^\d+$", "42") && !matches(r"^\d+$", "٤٢"));
        assert!(matches(r"^[\w.-]+$", "a_b.c-d"));
        assert!(matches(r"^[a[&~]+$", "a[&~"));
        assert!(matches(r"^[]a]+$", "]a"));
        assert!(matches(r"^[[:alpha:]]+$", "abc") && !matches(r"^[[:alpha:]]+$", "1"));
        assert!(matches(r"^[^\s/]+$", "ab") && !matches(r"^[^\s/]+$", "a b"));
        assert!(matches(r"a\/b", "a/b"));
        assert!(!matches(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", "-a"));
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        assert!(compile("(").is_err());
        assert!(compile(r"(?=a)").is_err());
        assert!(compile(&"a".repeat(PATTERN_MAX + 1)).is_err());
        assert!(compile("((a{1000}){1000}){1000}").is_err());
    }
}
