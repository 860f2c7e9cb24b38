//! One compiled expression for all that say the same.

use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;

use super::Expression;
use crate::core::view::Number;

/// The expressions of one configuration, by text.
///
/// An expression that is asked for again is numbered: a record remembers its result for all who share it.
#[derive(Debug)]
pub struct Expressions {
    generation: u32,
    numbered: u32,
    known: HashMap<Box<str>, Expression>,
}

impl Expressions {
    /// None yet. Each set is another generation, so numbers of two configurations never meet.
    pub fn new() -> Self {
        static GENERATIONS: AtomicU32 = AtomicU32::new(0);
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        Self { generation, numbered: 0, known: HashMap::new() }
    }

    /// The first of this text, in place of this one.
    pub fn share(&mut self, expression: &mut Expression) {
        match self.known.get(expression.text()) {
            Some(first) => {
                let (generation, at) = (self.generation, self.numbered);
                first.0.number.get_or_init(|| {
                    self.numbered += 1;
                    Number { generation, at }
                });
                expression.clone_from(first);
            }
            None => {
                self.known.insert(expression.text().into(), expression.clone());
            }
        }
    }

    /// How many different ones there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl Default for Expressions {
    fn default() -> Self {
        Self::new()
    }
}
