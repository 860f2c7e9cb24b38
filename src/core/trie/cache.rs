//! A cache of what a trie gave for a topic: direct-mapped, so it is bounded and never scans to evict.

use std::hash::BuildHasher;

use crate::core::topic::Topic;

/// Slots of a cache by default.
pub const SLOTS: usize = 8192;
/// Longest topic that is cached, in bytes; with [`SLOTS`], what bounds a cache's memory: 4 MiB of text.
pub const TEXT_MAX: usize = 512;

/// Remembers a value for each of the topics seen last. Of two topics with one slot, the later stays.
///
/// It is for one worker and takes no lock. Nothing is allocated until the first [`put`](Self::put).
#[derive(Debug)]
pub struct MatchCache<V> {
    slots: Box<[Option<Entry<V>>]>,
    /// How many slots there will be: a power of two.
    size: usize,
    hasher: foldhash::fast::RandomState,
}

/// The text is a copy: a topic may be a slice of a large receive buffer, which a cache must not keep.
#[derive(Debug)]
struct Entry<V> {
    text: String,
    epoch: u64,
    value: V,
}

impl<V: Clone> MatchCache<V> {
    /// A cache of [`SLOTS`].
    pub fn new() -> Self {
        Self::with_slots(SLOTS)
    }

    /// A cache of `slots`, rounded up to a power of two.
    pub fn with_slots(slots: usize) -> Self {
        let size = slots.clamp(1, 1 << 20).next_power_of_two();
        Self { slots: Box::default(), size, hasher: foldhash::fast::RandomState::default() }
    }

    /// What was put for `topic` in this epoch of the trie, unless another topic has taken its slot since.
    pub fn get(&self, topic: &Topic, epoch: u64) -> Option<&V> {
        let text = topic.as_str();
        let entry = self.slots.get(self.slot(text))?.as_ref()?;
        (entry.epoch == epoch && entry.text == text).then_some(&entry.value)
    }

    /// Remembers `value`. Topics longer than [`TEXT_MAX`] are not remembered.
    pub fn put(&mut self, topic: &Topic, epoch: u64, value: V) {
        let text = topic.as_str();
        if text.len() > TEXT_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots = std::iter::repeat_with(|| None).take(self.size).collect();
        }
        let slot = self.slot(text);
        match self.slots.get_mut(slot) {
            Some(Some(entry)) => {
                // The old entry's text makes room for the new: no allocation in a steady state.
                entry.text.clear();
                entry.text.push_str(text);
                entry.epoch = epoch;
                entry.value = value;
            }
            Some(empty) => *empty = Some(Entry { text: text.to_owned(), epoch, value }),
            None => {}
        }
    }

    fn slot(&self, text: &str) -> usize {
        self.hasher.hash_one(text) as usize & (self.size - 1)
    }
}

impl<V: Clone> Default for MatchCache<V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn an_idle_cache_holds_no_memory_and_a_long_topic_none() {
        let mut cache = MatchCache::new();
        assert_eq!(cache.get(&topic("a"), 0), None);
        cache.put(&topic(&"a".repeat(TEXT_MAX + 1)), 0, 1);
        assert!(cache.slots.is_empty());
        cache.put(&topic("a"), 0, 1);
        assert_eq!(cache.slots.len(), SLOTS);
        assert_eq!(cache.get(&topic("a"), 0), Some(&1));
        assert_eq!(cache.get(&topic("a"), 1), None);
    }
}
