//! What a client keeps from stream to stream, beside the table.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashSet;

use super::told::Told;

/// Most bytes of a request, where it can be helped: servers written in Go refuse more than 4 MiB.
const REQUEST_MAX: usize = 3 << 20;
/// No server refuses so few.
const REQUEST_MIN: usize = 64 << 10;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) told: Arc<Told>,
    pub(super) learned: Learned,
}

/// What servers have shown of themselves.
#[derive(Debug)]
pub(super) struct Learned {
    /// Bytes of a request that are not too many.
    pub(super) request_max: usize,
    /// Servers that mark where the first answer to a type ends.
    pub(super) marks: HashSet<String>,
    /// Types whose requests are too long and cannot be shorter.
    too_long: HashSet<ByteString>,
}

impl Learned {
    /// A request of so many bytes was refused for its length, or seems to have been.
    pub(super) fn shorten(&mut self, refused: usize) {
        if refused > REQUEST_MIN {
            self.request_max = self.request_max.min(refused / 2).max(REQUEST_MIN);
        }
    }

    /// Whether a request is too long, and it was not known that those of its type are.
    pub(super) fn is_news_too_long(&mut self, type_url: &str, bytes: usize) -> bool {
        bytes > self.request_max && self.too_long.insert(type_url.into())
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self { request_max: REQUEST_MAX, marks: HashSet::new(), too_long: HashSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_become_shorter_where_long_ones_are_refused_but_not_for_short_ones() {
        let mut learned = Learned::default();
        for (refused, max) in
            [(1000, REQUEST_MAX), (REQUEST_MAX, REQUEST_MAX / 2), (200_000, 100_000), (70_000, REQUEST_MIN)]
        {
            learned.shorten(refused);
            assert_eq!(learned.request_max, max, "{refused}");
        }
    }

    #[test]
    fn what_is_too_long_is_news_once_a_type() {
        let mut learned = Learned::default();
        let mut news = |type_url, bytes| learned.is_news_too_long(type_url, bytes);
        assert!(!news("a", REQUEST_MAX) && news("a", REQUEST_MAX + 1) && !news("a", REQUEST_MAX + 1));
        assert!(news("b", REQUEST_MAX + 1));
    }
}
