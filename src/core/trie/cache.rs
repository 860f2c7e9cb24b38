//! A cache of what a trie gave for a topic: direct-mapped, so it is bounded and never scans to evict. It grows
//! with the topics there are.

use std::hash::BuildHasher;

use crate::core::topic::Topic;

/// Most slots of a cache by default.
pub const SLOTS: usize = 32_768;
/// Longest topic that is cached, in bytes; with [`SLOTS`], what bounds a cache's memory: 8 MiB of text.
pub const TEXT_MAX: usize = 256;
/// Slots it begins with, and how many times more it takes when they are too few.
const SLOTS_FIRST: usize = 512;
const GROWTH: usize = 4;

/// Remembers a value for each of the topics seen last. Of two topics with one slot, the later stays.
///
/// It is for one worker and takes no lock. Nothing is allocated until the first [`put`](Self::put).
#[derive(Debug)]
pub struct MatchCache<V> {
    /// As many as a power of two.
    slots: Box<[Option<Entry<V>>]>,
    /// Most slots: a power of two.
    max: usize,
    /// Topics that gave way to another since the last growth.
    displaced: usize,
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
    /// A cache of at most [`SLOTS`].
    pub fn new() -> Self {
        Self::with_slots(SLOTS)
    }

    /// A cache of at most `slots`, rounded up to a power of two.
    pub fn with_slots(slots: usize) -> Self {
        let max = slots.clamp(1, 1 << 20).next_power_of_two();
        let hasher = foldhash::fast::RandomState::default();
        Self { slots: Box::default(), max, displaced: 0, hasher }
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
        if self.slots.is_empty() || self.displaced > self.slots.len() / 2 && self.slots.len() < self.max {
            self.grow(epoch);
        }
        let slot = self.slot(text);
        match self.slots.get_mut(slot) {
            Some(Some(entry)) => {
                self.displaced += usize::from(entry.epoch == epoch && entry.text != text);
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

    /// Takes more slots, or the first; what is out of date is let go.
    fn grow(&mut self, epoch: u64) {
        let size = (self.slots.len() * GROWTH).clamp(SLOTS_FIRST.min(self.max), self.max);
        let old = std::mem::replace(&mut self.slots, std::iter::repeat_with(|| None).take(size).collect());
        self.displaced = 0;
        for entry in old.into_iter().flatten().filter(|entry| entry.epoch == epoch) {
            let slot = self.slot(&entry.text);
            if let Some(slot) = self.slots.get_mut(slot) {
                *slot = Some(entry);
            }
        }
    }

    fn slot(&self, text: &str) -> usize {
        self.hasher.hash_one(text) as usize & self.slots.len().wrapping_sub(1)
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
        assert_eq!(cache.slots.len(), SLOTS_FIRST);
        assert_eq!(cache.get(&topic("a"), 0), Some(&1));
        assert_eq!(cache.get(&topic("a"), 1), None);
    }

    #[test]
    fn it_grows_with_the_topics_there_are_up_to_its_bound_and_forgets_none_of_them_by_that() {
        let mut cache = MatchCache::with_slots(4096);
        let topics: Vec<_> = (0..2000).map(|n| topic(&format!("a/{n}"))).collect();
        for _ in 0..4 {
            topics.iter().enumerate().for_each(|(n, topic)| cache.put(topic, 0, n));
        }
        assert_eq!(cache.slots.len(), 4096);
        let held = topics.iter().enumerate().filter(|(n, topic)| cache.get(topic, 0) == Some(n)).count();
        assert!(held > 1500, "{held} of 2000");
        for n in 0..20_000 {
            cache.put(&topic(&format!("b/{n}")), 0, n);
        }
        assert_eq!(cache.slots.len(), 4096);
    }
}
