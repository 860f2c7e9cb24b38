//! The children of a trie's node by the text of their level.

use hashbrown::HashMap;

/// Most nodes have one child, for which a table would cost two more cache misses in every lookup.
#[derive(Debug, Default)]
pub(super) enum Children {
    #[default]
    None,
    One(Box<str>, usize),
    /// Two or more, or what was so once. Seeded at random: filters that clients choose must not collide.
    Many(HashMap<Box<str>, usize, foldhash::fast::RandomState>),
}

impl Children {
    /// The child for `level`.
    #[inline]
    pub(super) fn get(&self, level: &str) -> Option<usize> {
        match self {
            Self::None => None,
            Self::One(text, child) => (**text == *level).then_some(*child),
            Self::Many(children) => children.get(level).copied(),
        }
    }

    /// Adds a child for a `level` that has none.
    pub(super) fn insert(&mut self, level: &str, child: usize) {
        match std::mem::take(self) {
            Self::None => *self = Self::One(level.into(), child),
            Self::One(text, first) => {
                *self = Self::Many([(text, first), (level.into(), child)].into_iter().collect());
            }
            Self::Many(mut children) => {
                children.insert(level.into(), child);
                *self = Self::Many(children);
            }
        }
    }

    /// Removes the child that `level` has, and the table with the last.
    pub(super) fn remove(&mut self, level: &str) {
        if let Self::Many(children) = self {
            children.remove(level);
            if !children.is_empty() {
                return;
            }
        }
        *self = Self::None;
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}
