//! Reads JSON text byte by byte: checks all of it, or finds a value in what was checked.

use std::borrow::Cow;

use super::index::{Index, hash};
use super::{DEPTH_MAX, Found};

/// Why a text is refused; what exactly is wrong interests nobody who only wants a value of it.
const NO_JSON: &str = "the data is no JSON";
const TOO_DEEP: &str = "the data is nested more than 64 levels deep";

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self::at(text, 0)
    }

    /// At a byte of the text.
    pub(super) fn at(text: &'a str, at: usize) -> Self {
        Self { text, bytes: text.as_bytes(), at }
    }

    /// Checks a whole text.
    pub(super) fn document(mut self) -> Result<Index, &'static str> {
        let mut index = Index::for_text(self.bytes.len());
        self.space();
        index.set_root(self.at);
        self.value(0, Some((&mut index, 0)))?;
        self.space();
        if self.at < self.bytes.len() {
            return Err(NO_JSON);
        }
        Ok(index)
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(byte @ 0..=b' ') = self.peek() {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return;
            }
            self.at += 1;
        }
    }

    /// Passes `byte` where it is next.
    #[inline]
    fn pass(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), &'static str> {
        if self.pass(byte) { Ok(()) } else { Err(NO_JSON) }
    }

    /// Checks a value; the members of objects go into the index where one is given, with what they are inside of.
    fn value(&mut self, depth: usize, index: Option<(&mut Index, u8)>) -> Result<(), &'static str> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(drop)
            }
            Some(b'{') if depth < DEPTH_MAX => self.object(depth + 1, index),
            Some(b'[') if depth < DEPTH_MAX => self.list(depth + 1),
            Some(b'{' | b'[') => Err(TOO_DEEP),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(NO_JSON),
        }
    }

    fn object(&mut self, depth: usize, mut index: Option<(&mut Index, u8)>) -> Result<(), &'static str> {
        // A copy of our own, which the compiler keeps in registers.
        let mut here = *self;
        here.at += 1;
        here.space();
        let mut over = here.pass(b'}');
        while !over {
            here.expect(b'"')?;
            let start = here.at;
            let escaped = here.string()?;
            let inside = match &mut index {
                Some((index, parent)) => {
                    let rest = here.bytes.get(start..).unwrap_or_default();
                    index.add(*parent, start, hash(rest, here.at - 1 - start, escaped))
                }
                None => None,
            };
            here.space();
            here.expect(b':')?;
            here.space();
            // Most values are text, which needs no call.
            if here.pass(b'"') {
                here.string()?;
            } else {
                let below = match (&mut index, inside) {
                    (Some((index, _)), Some(inside)) => Some((&mut **index, inside)),
                    _ => None,
                };
                self.at = here.at;
                self.value(depth, below)?;
                here.at = self.at;
            }
            here.space();
            over = here.pass(b'}');
            if !over {
                here.expect(b',')?;
                here.space();
            }
        }
        self.at = here.at;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(), &'static str> {
        self.at += 1;
        self.space();
        if self.pass(b']') {
            return Ok(());
        }
        loop {
            self.value(depth, None)?;
            self.space();
            if self.pass(b']') {
                return Ok(());
            }
            self.expect(b',')?;
            self.space();
        }
    }

    fn word(&mut self, word: &str) -> Result<(), &'static str> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            return Ok(());
        }
        Err(NO_JSON)
    }

    #[inline]
    fn digits(&mut self) -> Result<(), &'static str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += length;
        if length > 0 { Ok(()) } else { Err(NO_JSON) }
    }

    #[inline]
    fn number(&mut self) -> Result<(), &'static str> {
        self.pass(b'-');
        // No number but 0 itself begins with 0.
        if !self.pass(b'0') {
            self.digits()?;
        }
        if self.pass(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Passes a string whose quote was passed; whether it holds escapes.
    #[expect(
        clippy::inline_always,
        reason = "a call would keep our copy out of registers: a fifth of the time"
    )]
    #[inline(always)]
    fn string(&mut self) -> Result<bool, &'static str> {
        self.at = plain_end(self.bytes, self.at);
        if self.pass(b'"') {
            return Ok(false);
        }
        self.at = escaped_end(self.bytes, self.at).ok_or(NO_JSON)?;
        Ok(true)
    }

    /// The value here, of a text that was checked.
    pub(super) fn found(mut self) -> Found<'a> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.text_value().map_or(Found::Missing, Found::Text)
            }
            Some(b'{') => Found::Object,
            Some(b'[') => Found::List,
            Some(b't') => Found::Boolean(true),
            Some(b'f') => Found::Boolean(false),
            Some(b'n') => Found::Null,
            _ => {
                let start = self.at;
                let is_number = self.number().is_ok();
                let number = self.text.get(start..self.at).filter(|_| is_number);
                number.map_or(Found::Missing, Found::Number)
            }
        }
    }

    /// The value here, where it is text without escapes.
    pub(super) fn plain_text(mut self) -> Option<&'a str> {
        if !self.pass(b'"') {
            return None;
        }
        let start = self.at;
        let escaped = self.string().ok()?;
        self.text.get(start..self.at - 1).filter(|_| !escaped)
    }

    /// The string whose quote was passed. One with half a surrogate pair is no text: there is no such value.
    fn text_value(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let escaped = self.string().ok()?;
        if escaped {
            return serde_json::from_str(self.text.get(start - 1..self.at)?).ok().map(Cow::Owned);
        }
        self.text.get(start..self.at - 1).map(Cow::Borrowed)
    }

    /// Whether the string here, whose quote was passed, is `name`; passes it.
    pub(super) fn name_is(&mut self, name: &str) -> bool {
        self.text_value().is_some_and(|have| have == name)
    }

    /// From a member's name, whose quote was passed, to its value.
    pub(super) fn after_name(mut self) -> usize {
        if self.string().is_err() {
            return self.bytes.len();
        }
        self.to_value()
    }

    /// From the end of a member's name to its value.
    pub(super) fn to_value(mut self) -> usize {
        self.space();
        self.pass(b':');
        self.space();
        self.at
    }

    /// Where the value of a member of the object here begins.
    pub(super) fn find_member(&mut self, name: &str) -> Option<usize> {
        if !self.pass(b'{') {
            return None;
        }
        loop {
            self.space();
            if !self.pass(b'"') {
                return None;
            }
            let found = self.name_is(name);
            self.at = self.to_value();
            if found {
                return Some(self.at);
            }
            self.next()?;
        }
    }

    /// Where an item of the list here begins.
    pub(super) fn find_item(&mut self, number: usize) -> Option<usize> {
        if !self.pass(b'[') {
            return None;
        }
        self.space();
        if self.peek() == Some(b']') {
            return None;
        }
        for _ in 0..number {
            self.next()?;
            self.space();
        }
        Some(self.at)
    }

    /// Passes a value and the comma after it.
    fn next(&mut self) -> Option<()> {
        self.value(0, None).ok()?;
        self.space();
        self.pass(b',').then_some(())
    }
}

/// Where bytes that stand for themselves in a string end, looked at eight at a time.
#[inline]
fn plain_end(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let special = special(u64::from_le_bytes(*eight));
        if special != 0 {
            return bytes.len() - rest.len() + special.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    let last = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
    bytes.len() - rest.len() + last
}

/// The end of a string, after its quote, from its first backslash on; `None` where it has none.
fn escaped_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                at += match bytes.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                    b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                    _ => return None,
                };
            }
            _ => return None,
        }
        at = plain_end(bytes, at);
    }
}

/// Marks in each byte of eight whether it is a quote, a backslash or a control character; exact up to the
/// first that is.
fn special(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A byte that was zero, or below a space, has its high bit after the subtraction; those that had it before
    // are of characters beyond ASCII.
    let quote = (eight ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (eight ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    let control = eight.wrapping_sub(ONES * 0x20);
    (quote | backslash | control) & !eight & HIGHS
}
