//! Lines of watches, written once and shared by all who watch the same in the same form.

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::core::Seq;

/// Most lines kept.
const KEPT: usize = 1024;
/// Most bytes kept.
const BYTES: usize = 8 << 20;

/// What a line says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    /// `ADDED`
    Added,
    /// `MODIFIED`
    Modified,
    /// `DELETED`
    Deleted,
}

impl Said {
    /// The word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Which line: the change by its position, what it says, and the form's number.
///
/// A position has one deletion only: that a key left a selector shows the same data to all it left.
pub(super) type Line = (Seq, Said, u64);

/// The last lines, for watches that read at about the same time.
#[derive(Debug, Default)]
pub(super) struct Encoded(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    lines: HashMap<Line, Bytes>,
    order: VecDeque<Line>,
    bytes: usize,
}

impl Encoded {
    /// The line, written by `write` where it is not kept.
    pub(super) fn line(&self, line: Line, write: impl FnOnce() -> Bytes) -> Bytes {
        if let Some(found) = self.0.lock().lines.get(&line) {
            return found.clone();
        }
        let bytes = write();
        self.0.lock().keep(line, bytes.clone());
        bytes
    }
}

impl Kept {
    fn keep(&mut self, line: Line, bytes: Bytes) {
        self.bytes += bytes.len();
        match self.lines.insert(line, bytes) {
            // Two wrote it at the same time.
            Some(same) => self.bytes -= same.len(),
            None => self.order.push_back(line),
        }
        while self.order.len() > KEPT || self.bytes > BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.lines.remove(&oldest) {
                self.bytes -= gone.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_and_no_more_are_kept_than_so_many() {
        let encoded = Encoded::default();
        let line = |seq| (Seq(seq), Said::Added, 0);
        assert_eq!(encoded.line(line(1), || "a".into()), "a");
        assert_eq!(encoded.line(line(1), || panic!("written twice")), "a");
        assert_eq!(encoded.line((Seq(1), Said::Deleted, 0), || "d".into()), "d");
        for seq in 0..2000 {
            encoded.line(line(seq + 10), || Bytes::from(vec![0; 8192]));
        }
        let kept = encoded.0.lock();
        assert!(kept.bytes <= BYTES && kept.lines.len() <= KEPT && kept.lines.len() == kept.order.len());
    }
}
