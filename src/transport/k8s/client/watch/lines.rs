//! Cuts the body of a watch into lines. What is longer than allowed is left out; what is cut off is no line.

use bytes::{Buf, Bytes, BytesMut};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// So much of it holds no end of a line.
    looked: usize,
    max: usize,
    /// The line that is under way is too long already.
    skips: bool,
    /// How many were left out since this was asked last.
    oversize: u64,
}

impl Lines {
    pub(crate) fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), looked: 0, max, skips: false, oversize: 0 }
    }

    /// Takes a piece of the body.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole line, without its end; empty ones are passed over.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        loop {
            let rest = self.buffer.get(self.looked..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.looked = self.buffer.len();
                if self.looked > self.max {
                    self.skips = true;
                    self.buffer.clear();
                    self.looked = 0;
                }
                return None;
            };
            let line = self.buffer.split_to(self.looked + end).freeze();
            self.buffer.advance(1);
            self.looked = 0;
            if std::mem::take(&mut self.skips) || line.len() > self.max {
                self.oversize += 1;
            } else if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    }

    /// How many lines were left out since this was asked last.
    pub(crate) fn take_oversize(&mut self) -> u64 {
        std::mem::take(&mut self.oversize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&[u8]], max: usize) -> (Vec<Bytes>, u64) {
        let mut lines = Lines::new(max);
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(line) = lines.next() {
                all.push(line);
            }
        }
        (all, lines.take_oversize())
    }

    #[test]
    fn a_line_that_is_cut_off_is_none() {
        assert_eq!(cut(&[b"one\ntw", b"o\n\nthr"], 9), (vec!["one".into(), "two".into()], 0));
    }

    #[test]
    fn a_line_that_is_too_long_takes_no_other_with_it() {
        let (all, oversize) = cut(&[b"a\n12345", b"6789", b"0\nb\n1234567\nc\n"], 6);
        assert_eq!((all, oversize), (vec!["a".into(), "b".into(), "c".into()], 2));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_body_is_cut(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'x'), Just(b'y')], 0..80),
            at in proptest::collection::vec(0_usize..80, 0..6),
        ) {
            let mut at: Vec<usize> = at.into_iter().map(|at| at.min(text.len())).collect();
            at.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for end in at.into_iter().chain([text.len()]) {
                pieces.push(&text[start..end]);
                start = end;
            }
            prop_assert_eq!(cut(&pieces, 7), cut(&[&text], 7));
        }
    }
}
