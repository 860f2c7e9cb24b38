//! Makes the tree of a text by precedence climbing.
//!
//! From the tightest: `NOT` and `-` before a value; `LIKE` and `IN` after one; `*` `/` `%`; `+` `-`;
//! comparisons; `AND`; `OR`; `XOR`. So `NOT a = b` is `(NOT a) = b`. Operators of one level group from the left.

use super::ast::{Arithmetic, Comparison, Expr, ExprKind, Logic, Subject};
use super::attribute::Attribute;
use super::error::{Span, SyntaxError};
use super::function::Function;
use super::lexer::{Token, TokenKind, tokens};
use super::like::Pattern;
use super::network::Network;
use super::value::Value;
use super::{DEPTH_MAX, EXPRESSION_MAX, NODES_MAX};
use crate::core::data::Path;

/// An operator between two expressions.
#[derive(Clone, Copy)]
enum Infix {
    Logic(Logic),
    Compare(Comparison),
    Calculate(Arithmetic),
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    if text.len() > EXPRESSION_MAX {
        let reason = format!("the expression is too long: at most {EXPRESSION_MAX} bytes");
        return Err(SyntaxError { column: 1, reason });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, at: 0, nodes: 0 };
    let expr = parser.expression(0, 1)?;
    match parser.peek() {
        None => Ok(expr),
        Some(TokenKind::Close) => parser.error(") closes nothing"),
        Some(_) => parser.error("an operator such as AND or = is missing before this"),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: &'t [Token<'t>],
    at: usize,
    nodes: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t TokenKind<'t>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// Passes the token where it is next.
    fn pass(&mut self, kind: &TokenKind<'_>) -> bool {
        let is_next = self.peek() == Some(kind);
        self.at += usize::from(is_next);
        is_next
    }

    /// Where the next token stands; at the end of the text, after it.
    fn span(&self) -> Span {
        let end = Span::new(self.text.len(), self.text.len());
        self.tokens.get(self.at).map_or(end, |token| token.span)
    }

    /// Where the last token that was passed stands.
    fn passed(&self) -> Span {
        self.tokens.get(self.at.wrapping_sub(1)).map(|token| token.span).unwrap_or_default()
    }

    fn error<T>(&self, reason: impl Into<String>) -> Result<T, SyntaxError> {
        self.error_at(self.span(), reason)
    }

    fn error_at<T>(&self, span: Span, reason: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(self.text, span, reason))
    }

    /// A part of the tree, from `start` to the last token.
    fn node(&mut self, start: Span, kind: ExprKind) -> Result<Expr, SyntaxError> {
        let mut expr = Expr { kind, span: start.to(self.passed()), depth: 1 };
        expr.depth += expr.parts().iter().map(|part| part.depth).max().unwrap_or(0);
        self.nodes += 1;
        if expr.depth > DEPTH_MAX {
            return self.error_at(start, format!("nested too deeply: at most {DEPTH_MAX} levels"));
        }
        if self.nodes > NODES_MAX {
            return self.error_at(start, format!("the expression has over {NODES_MAX} parts"));
        }
        Ok(expr)
    }

    /// An expression of operators that bind at least as tightly as `least`, `depth` brackets and signs deep.
    fn expression(&mut self, least: u8, depth: usize) -> Result<Expr, SyntaxError> {
        if depth > DEPTH_MAX {
            return self.error(format!("nested too deeply: at most {DEPTH_MAX} levels"));
        }
        let start = self.span();
        let mut left = self.prefixed(depth)?;
        loop {
            left = self.suffixed(start, left, depth)?;
            let Some((infix, tightness)) = self.peek().and_then(infix) else { return Ok(left) };
            if tightness < least {
                return Ok(left);
            }
            self.at += 1;
            let right = self.expression(tightness + 1, depth + 1)?;
            let kind = match (infix, left.kind) {
                // `a OR b OR c` is one part, so that long lists are not deep.
                (Infix::Logic(logic), ExprKind::Logic(same, mut list)) if same == logic => {
                    list.push(right);
                    ExprKind::Logic(logic, list)
                }
                (Infix::Logic(logic), kind) => ExprKind::Logic(logic, vec![Expr { kind, ..left }, right]),
                (Infix::Compare(comparison), kind) => {
                    ExprKind::Compare(comparison, Box::new([Expr { kind, ..left }, right]))
                }
                (Infix::Calculate(arithmetic), kind) => {
                    ExprKind::Calculate(arithmetic, Box::new([Expr { kind, ..left }, right]))
                }
            };
            left = self.node(start, kind)?;
        }
    }

    /// `NOT x`, `-x`, or a value.
    fn prefixed(&mut self, depth: usize) -> Result<Expr, SyntaxError> {
        if depth > DEPTH_MAX {
            return self.error(format!("nested too deeply: at most {DEPTH_MAX} levels"));
        }
        let start = self.span();
        let kind = match self.peek() {
            Some(TokenKind::Not) => {
                self.at += 1;
                ExprKind::Not(self.prefixed(depth + 1)?.into())
            }
            Some(TokenKind::Minus | TokenKind::Plus) => {
                let is_minus = self.pass(&TokenKind::Minus) || !self.pass(&TokenKind::Plus);
                // A sign that touches a number is part of it.
                let touches = self.span().start == start.end;
                match self.peek() {
                    Some(TokenKind::Integer(digits)) if touches => {
                        self.at += 1;
                        self.integer(start, digits, is_minus)?
                    }
                    _ if is_minus => ExprKind::Negate(self.prefixed(depth + 1)?.into()),
                    _ => return self.error_at(start, "+ stands between two values, or touches a number"),
                }
            }
            _ => return self.value(depth),
        };
        self.node(start, kind)
    }

    fn value(&mut self, depth: usize) -> Result<Expr, SyntaxError> {
        let start = self.span();
        let Some(token) = self.peek() else {
            return self.error(if self.at == 0 {
                "the expression is empty"
            } else {
                "a value is missing here"
            });
        };
        self.at += 1;
        let kind = match token {
            TokenKind::Open => {
                let inside = self.expression(0, depth + 1)?;
                self.close(start)?;
                return Ok(inside);
            }
            TokenKind::Boolean(value) => ExprKind::Literal(Value::Boolean(*value)),
            TokenKind::Integer(digits) => self.integer(start, digits, false)?,
            TokenKind::String(text) => ExprKind::Literal(Value::String(text.clone().into_owned().into())),
            TokenKind::Exists => ExprKind::Exists(self.subject()?),
            TokenKind::Word(word) if self.peek() == Some(&TokenKind::Open) => {
                self.call(start, word, depth)?
            }
            TokenKind::Word(_) | TokenKind::Data(_) => {
                self.at -= 1;
                ExprKind::Get(self.subject()?)
            }
            _ => return self.error_at(start, "a value is missing before this"),
        };
        self.node(start, kind)
    }

    fn close(&mut self, open: Span) -> Result<(), SyntaxError> {
        if self.pass(&TokenKind::Close) {
            return Ok(());
        }
        match self.peek() {
            None => self.error_at(open, "( is not closed"),
            Some(_) => self.error(", or ) or an operator is missing before this"),
        }
    }

    fn integer(&self, start: Span, digits: &str, negative: bool) -> Result<ExprKind, SyntaxError> {
        let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
        match signed.parse() {
            Ok(number) => Ok(ExprKind::Literal(Value::Integer(number))),
            Err(_) => {
                self.error_at(start, format!("{signed} is beyond 32 bits: -2147483648 to 2147483647"))
            }
        }
    }

    /// The attribute, or the value of the data, that is named next.
    fn subject(&mut self) -> Result<Subject, SyntaxError> {
        let subject = match self.peek() {
            Some(TokenKind::Data(path)) => Subject::Data(path.clone()),
            Some(TokenKind::Word(word)) if word.eq_ignore_ascii_case("data") => {
                Subject::Data(Path::default())
            }
            Some(TokenKind::Word(word)) if word.contains('_') => {
                return self.error("no attribute has a _ in its name; a function needs ( after it");
            }
            Some(TokenKind::Word(word)) => Subject::Attribute(Attribute::named(&word.to_ascii_lowercase())),
            _ => return self.error("the name of an attribute is missing here"),
        };
        self.at += 1;
        Ok(subject)
    }

    /// `LIKE` and `IN`, as often as they follow.
    fn suffixed(&mut self, start: Span, mut left: Expr, depth: usize) -> Result<Expr, SyntaxError> {
        loop {
            let after_not = self.tokens.get(self.at + 1).map(|token| &token.kind);
            let negated = self.peek() == Some(&TokenKind::Not)
                && matches!(after_not, Some(TokenKind::Like | TokenKind::In));
            self.at += usize::from(negated);
            let kind = match self.peek() {
                Some(TokenKind::Like) => {
                    self.at += 1;
                    ExprKind::Like(left.into(), self.pattern()?)
                }
                Some(TokenKind::In) => {
                    self.at += 1;
                    let open = self.span();
                    if !self.pass(&TokenKind::Open) {
                        return self.error("IN needs a list: x IN ('a', 'b')");
                    }
                    ExprKind::In(left.into(), self.list(open, depth)?)
                }
                _ => return Ok(left),
            };
            left = self.node(start, kind)?;
            if negated {
                left = self.node(start, ExprKind::Not(left.into()))?;
            }
        }
    }

    fn pattern(&mut self) -> Result<Pattern, SyntaxError> {
        let Some(TokenKind::String(pattern)) = self.peek() else {
            return self.error("LIKE needs a pattern in quotes: x LIKE 'a%'");
        };
        match Pattern::parse(pattern) {
            Ok(pattern) => {
                self.at += 1;
                Ok(pattern)
            }
            Err(reason) => self.error(format!("the pattern {reason}")),
        }
    }

    /// At least one expression, between commas, and the closing bracket.
    fn list(&mut self, open: Span, depth: usize) -> Result<Vec<Expr>, SyntaxError> {
        let mut list = vec![self.expression(0, depth + 1)?];
        while self.pass(&TokenKind::Comma) {
            list.push(self.expression(0, depth + 1)?);
        }
        self.close(open)?;
        Ok(list)
    }

    /// The arguments of a function whose name was passed.
    fn call(&mut self, start: Span, name: &str, depth: usize) -> Result<ExprKind, SyntaxError> {
        if name.bytes().any(|byte| byte.is_ascii_digit()) || name.starts_with('_') {
            return self.error_at(start, "a function's name is of letters and _");
        }
        let open = self.span();
        self.at += 1;
        let arguments = if self.pass(&TokenKind::Close) { Vec::new() } else { self.list(open, depth)? };
        if name.eq_ignore_ascii_case("IP_IN") && arguments.len() > 1 {
            return self.ip_in(arguments);
        }
        Ok(match Function::find(name, arguments.len()) {
            Some(function) => ExprKind::Call(function, arguments),
            None => ExprKind::Unknown,
        })
    }

    fn ip_in(&self, arguments: Vec<Expr>) -> Result<ExprKind, SyntaxError> {
        let mut arguments = arguments.into_iter();
        let network = |argument: &Expr| match &argument.kind {
            ExprKind::Literal(Value::String(text)) => Network::parse(text),
            _ => None,
        };
        let Some(address) = arguments.next() else { return Ok(ExprKind::Unknown) };
        let mut networks = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let Some(network) = network(&argument) else {
                return self.error_at(argument.span, "IP_IN needs networks in quotes: '10.0.0.0/8', '::1'");
            };
            networks.push(network);
        }
        Ok(ExprKind::IpIn(address.into(), networks))
    }
}

/// The operator of a token, and how tightly it binds.
fn infix(kind: &TokenKind<'_>) -> Option<(Infix, u8)> {
    Some(match kind {
        TokenKind::Xor => (Infix::Logic(Logic::Xor), 1),
        TokenKind::Or => (Infix::Logic(Logic::Or), 2),
        TokenKind::And => (Infix::Logic(Logic::And), 3),
        TokenKind::Equal => (Infix::Compare(Comparison::Equal), 4),
        TokenKind::NotEqual => (Infix::Compare(Comparison::NotEqual), 4),
        TokenKind::Less => (Infix::Compare(Comparison::Less), 4),
        TokenKind::LessOrEqual => (Infix::Compare(Comparison::LessOrEqual), 4),
        TokenKind::Greater => (Infix::Compare(Comparison::Greater), 4),
        TokenKind::GreaterOrEqual => (Infix::Compare(Comparison::GreaterOrEqual), 4),
        TokenKind::Plus => (Infix::Calculate(Arithmetic::Add), 5),
        TokenKind::Minus => (Infix::Calculate(Arithmetic::Subtract), 5),
        TokenKind::Star => (Infix::Calculate(Arithmetic::Multiply), 6),
        TokenKind::Slash => (Infix::Calculate(Arithmetic::Divide), 6),
        TokenKind::Percent => (Infix::Calculate(Arithmetic::Remainder), 6),
        _ => return None,
    })
}
