//! The operator's error: where in which file, what is wrong, what would be right.

use std::fmt;
use std::sync::Arc;

use super::tree::Source;

/// Most characters of a source line that an excerpt shows.
const EXCERPT_MAX: usize = 160;

/// A configuration mistake: where it is, what is wrong, what would be right.
///
/// Displayed as `FILE:LINE:COLUMN: PATH: REASON`, and the hint on a second line. Parts that do not apply are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// File name, `-` for standard input.
    pub file: String,
    /// 1-based; 0 where there is no place.
    pub line: usize,
    /// 1-based, in characters; 0 where there is no place.
    pub column: usize,
    /// `routes.warnings.to[0].subject`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub hint: Option<String>,
    /// The file, for [`render`](Self::render); it may hold what the operator keeps private, so none of it is in
    /// `Display`, which goes to logs.
    pub(super) source: Option<Arc<Source>>,
}

impl ConfigError {
    /// An error about `file` as a whole.
    pub fn in_file(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            path: String::new(),
            reason: reason.into(),
            hint: None,
            source: None,
        }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For a terminal: the message, the line of the file with a caret below the place, the hint.
    pub fn render(&self) -> String {
        let excerpt = self.source.as_ref().and_then(|source| source.line(self.line)).map(|line| {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let line: String = without_credentials(line).chars().take(EXCERPT_MAX).collect();
            let before: String = line
                .chars()
                .take(self.column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            format!("\n {gutter} |\n {number} | {line}\n {gutter} | {before}^")
        });
        format!("{}{}{}", self.headline(), excerpt.unwrap_or_default(), self.hint_line())
    }

    fn headline(&self) -> String {
        let place = match self.line {
            0 => String::new(),
            line => format!(":{line}:{}", self.column),
        };
        let colon = if self.path.is_empty() { "" } else { ": " };
        format!("{}{place}{colon}{}: {}", self.file, self.path, self.reason)
    }

    fn hint_line(&self) -> String {
        self.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.headline(), self.hint_line())
    }
}

impl std::error::Error for ConfigError {}

/// Stars for what stands before the `@` of a URL, one for each character, so that columns stay.
fn without_credentials(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        out.extend([before, "://"]);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"',]}".contains(c)).unwrap_or(after.len());
        let at = after.get(..end).and_then(|authority| authority.rfind('@')).unwrap_or(0);
        let (credentials, tail) = after.split_at(at);
        out.extend(credentials.chars().map(|_| '*'));
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        for (line, expected) in [
            ("urls: [\"mqtt://ü:p@h:1\", \"nats://t@h\"]", "urls: [\"mqtt://***@h:1\", \"nats://*@h\"]"),
            ("url: http://h/a@b", "url: http://h/a@b"),
            ("a: b@c", "a: b@c"),
            ("x://", "x://"),
        ] {
            assert_eq!(without_credentials(line), expected);
        }
    }
}
