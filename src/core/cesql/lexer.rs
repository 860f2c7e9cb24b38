//! Cuts the text of an expression into tokens.

use std::borrow::Cow;

use super::error::{Span, SyntaxError};
use crate::core::data::Path;

/// A token, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'t> {
    pub(super) kind: TokenKind<'t>,
    pub(super) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind<'t> {
    Open,
    Close,
    Comma,
    Star,
    Slash,
    Percent,
    Plus,
    Minus,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
    Not,
    Like,
    Exists,
    In,
    Boolean(bool),
    /// Digits, without a sign.
    Integer(&'t str),
    /// The text between the quotes.
    String(Cow<'t, str>),
    /// Letters, digits and underscores that are nothing of the above.
    Word(&'t str),
    /// `data` and a path into it.
    Data(Path),
}

const KEYWORDS: [(&str, TokenKind<'static>); 9] = [
    ("AND", TokenKind::And),
    ("OR", TokenKind::Or),
    ("XOR", TokenKind::Xor),
    ("NOT", TokenKind::Not),
    ("LIKE", TokenKind::Like),
    ("EXISTS", TokenKind::Exists),
    ("IN", TokenKind::In),
    ("TRUE", TokenKind::Boolean(true)),
    ("FALSE", TokenKind::Boolean(false)),
];

/// All tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.pass(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
        let start = lexer.at;
        let Some(kind) = lexer.token()? else { return Ok(tokens) };
        tokens.push(Token { kind, span: Span::new(start, lexer.at) });
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes characters that are wanted, and gives them.
    fn pass(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn error<T>(&self, start: usize, reason: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(self.text, Span::new(start, self.at), reason))
    }

    fn token(&mut self) -> Result<Option<TokenKind<'t>>, SyntaxError> {
        let start = self.at;
        let mut next = self.rest().chars();
        let Some(first) = next.next() else { return Ok(None) };
        if first.is_ascii_alphanumeric() || first == '_' {
            return self.word().map(Some);
        }
        if first == '\'' || first == '"' {
            return self.string(first).map(Some);
        }
        let (kind, length) = match (first, next.next()) {
            ('(', _) => (TokenKind::Open, 1),
            (')', _) => (TokenKind::Close, 1),
            (',', _) => (TokenKind::Comma, 1),
            ('*', _) => (TokenKind::Star, 1),
            ('/', _) => (TokenKind::Slash, 1),
            ('%', _) => (TokenKind::Percent, 1),
            ('+', _) => (TokenKind::Plus, 1),
            ('-', _) => (TokenKind::Minus, 1),
            ('=', Some('=')) => return self.error(start, "== is no operator: write ="),
            ('=', _) => (TokenKind::Equal, 1),
            ('!', Some('=')) | ('<', Some('>')) => (TokenKind::NotEqual, 2),
            ('<', Some('=')) => (TokenKind::LessOrEqual, 2),
            ('<', _) => (TokenKind::Less, 1),
            ('>', Some('=')) => (TokenKind::GreaterOrEqual, 2),
            ('>', _) => (TokenKind::Greater, 1),
            ('!', _) => return self.error(start, "! is no operator: write NOT, or != between two values"),
            ('&', _) => return self.error(start, "& is no operator: write AND"),
            ('|', _) => return self.error(start, "| is no operator: write OR"),
            ('.', _) => return self.error(start, ". stands only in data.path; numbers have no fractions"),
            (other, _) => {
                return self
                    .error(start, format!("{other:?} is nothing of the language; text is in quotes"));
            }
        };
        self.at += length;
        Ok(Some(kind))
    }

    fn word(&mut self) -> Result<TokenKind<'t>, SyntaxError> {
        let start = self.at;
        let word = self.pass(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(TokenKind::Integer(word));
        }
        if word.eq_ignore_ascii_case("data") && self.rest().starts_with(['.', '[']) {
            return self.path(start).map(TokenKind::Data);
        }
        let keyword = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        Ok(keyword.map_or(TokenKind::Word(word), |(_, kind)| kind.clone()))
    }

    /// What follows `data`.
    fn path(&mut self, start: usize) -> Result<Path, SyntaxError> {
        let from = self.at + usize::from(self.rest().starts_with('.'));
        while let Some(first) = self.rest().chars().next() {
            match first {
                '.' => {
                    self.at += 1;
                    self.pass(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '@'));
                }
                '[' => self.bracket(start)?,
                _ => break,
            }
        }
        let path = self.text.get(from..self.at).unwrap_or_default();
        Path::parse(path).or_else(|reason| self.error(start, format!("data.{path} {reason}")))
    }

    /// Passes a bracket; one in quotes may hold everything but the quote.
    fn bracket(&mut self, start: usize) -> Result<(), SyntaxError> {
        let inside = self.rest().get(1..).unwrap_or_default();
        let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let end = match quote {
            Some(quote) => inside.get(1..).and_then(|name| name.find(quote)).map(|end| end + 3),
            None => Some(1),
        };
        let Some(end) = end else { return self.error(start, "a name in [''] is not closed") };
        self.at += end;
        self.pass(|c| c != ']' && quote.is_none());
        if !self.rest().starts_with(']') {
            return self.error(start, "[ is not closed: write [0], or ['name']");
        }
        self.at += 1;
        Ok(())
    }

    /// A quote is written `\'` or twice; every other backslash is itself.
    fn string(&mut self, quote: char) -> Result<TokenKind<'t>, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut text = Cow::Borrowed("");
        let mut plain_from = self.at;
        loop {
            self.pass(|c| c != quote && c != '\\');
            let plain = self.text.get(plain_from..self.at).unwrap_or_default();
            if text.is_empty() {
                text = Cow::Borrowed(plain);
            } else {
                text.to_mut().push_str(plain);
            }
            let mut next = self.rest().chars();
            let after = match (next.next(), next.next()) {
                (None, _) => {
                    return self.error(start, format!("the text is not closed: {quote} is missing"));
                }
                (Some('\\'), Some(escaped)) => {
                    if escaped != quote {
                        text.to_mut().push('\\');
                    }
                    escaped
                }
                (Some('\\'), None) => '\\',
                (Some(_), Some(second)) if second == quote => quote,
                _ => {
                    self.at += 1;
                    return Ok(TokenKind::String(text));
                }
            };
            text.to_mut().push(after);
            self.at += 1 + after.len_utf8();
            plain_from = self.at;
        }
    }
}
