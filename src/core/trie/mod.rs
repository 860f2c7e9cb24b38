//! The topic trie: which of many filters want a topic, in time that depends on the topic and not on how
//! many filters there are.
//!
//! A filter is a path of levels from the root. A lookup follows, at each level of the topic, the child of
//! that text and the child for `+`; it visits a node at most once, so at most the nodes there are, and goes
//! no deeper than [`LEVELS_MAX`](super::topic::LEVELS_MAX).

mod cache;
mod children;
#[cfg(test)]
mod tests;

use std::hash::Hash;

use slab::Slab;

use super::selector::{Level, TopicFilter};
use super::topic::Topic;
use children::Children;

pub use cache::{MatchCache, SLOTS, TEXT_MAX};

/// The node of the empty path.
const ROOT: usize = 0;

/// A set of pairs of a topic filter and a value. Whoever inserts bounds how many there are.
#[derive(Debug)]
pub struct Trie<T> {
    nodes: Slab<Node<T>>,
    epoch: u64,
    len: usize,
}

#[derive(Debug)]
struct Node<T> {
    literals: Children,
    one: Option<usize>,
    /// Values of filters that end here, that end in `#` here, and that end in `>` here; each sorted.
    here: Vec<T>,
    rest: Vec<T>,
    some: Vec<T>,
}

impl<T: Copy + Ord + Hash> Trie<T> {
    /// An empty one.
    pub fn new() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new());
        debug_assert_eq!(root, ROOT);
        Self { nodes, epoch: 0, len: 0 }
    }

    /// How many pairs it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rises with every change, so that what was collected before can be told apart: see [`MatchCache`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds a pair; `false` when it was there.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) -> bool {
        let mut at = ROOT;
        for level in filter.levels() {
            let next = match level {
                Level::Literal(text) => self.literal_child(at, text),
                Level::One => self.one_child(at),
                Level::Rest | Level::Some => break,
            };
            at = next;
        }
        let Some(values) = self.nodes.get_mut(at).map(|node| node.values_mut(filter)) else { return false };
        let Err(place) = values.binary_search(&value) else { return false };
        values.insert(place, value);
        self.len += 1;
        self.epoch += 1;
        true
    }

    /// Removes a pair and the nodes no other filter needs; `false` when it was not there.
    pub fn remove(&mut self, filter: &TopicFilter, value: T) -> bool {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        for level in filter.levels() {
            let node = self.nodes.get(at);
            let next = match level {
                Level::Literal(text) => node.and_then(|node| node.literals.get(text)),
                Level::One => node.and_then(|node| node.one),
                Level::Rest | Level::Some => break,
            };
            let Some(next) = next else { return false };
            path.push(next);
            at = next;
        }
        let Some(values) = self.nodes.get_mut(at).map(|node| node.values_mut(filter)) else { return false };
        let Ok(place) = values.binary_search(&value) else { return false };
        values.remove(place);
        if values.is_empty() {
            *values = Vec::new();
        }
        self.prune(&path, filter);
        self.len -= 1;
        self.epoch += 1;
        true
    }

    /// Appends the values of all filters that match, in no order that means anything.
    ///
    /// A value comes once for each of its filters that match: who inserted one value under several filters
    /// sorts and removes duplicates. Allocates nothing but what `values` needs to grow.
    pub fn collect(&self, topic: &Topic, values: &mut Vec<T>) {
        let text = topic.as_str();
        if !text.starts_with('$') {
            return self.walk(ROOT, Some(text), values);
        }
        // A wildcard in the first level sees no such topic.
        let (first, rest) = split_level(text);
        if let Some(child) = self.nodes.get(ROOT).and_then(|root| root.literals.get(first)) {
            self.walk(child, rest, values);
        }
    }

    /// Collects below `at`; `rest` is what is left of the topic. Recurs only for `+`, once a level at most.
    fn walk(&self, mut at: usize, mut rest: Option<&str>, values: &mut Vec<T>) {
        while let Some(node) = self.nodes.get(at) {
            values.extend_from_slice(&node.rest);
            let Some(text) = rest else { return values.extend_from_slice(&node.here) };
            values.extend_from_slice(&node.some);
            let (level, after) = split_level(text);
            at = match (node.literals.get(level), node.one) {
                (Some(child), Some(one)) => {
                    self.walk(one, after, values);
                    child
                }
                (Some(child), None) => child,
                (None, Some(one)) => one,
                (None, None) => return,
            };
            rest = after;
        }
    }

    fn literal_child(&mut self, at: usize, text: &str) -> usize {
        if let Some(child) = self.nodes.get(at).and_then(|node| node.literals.get(text)) {
            return child;
        }
        let child = self.nodes.insert(Node::new());
        if let Some(node) = self.nodes.get_mut(at) {
            node.literals.insert(text, child);
        }
        child
    }

    fn one_child(&mut self, at: usize) -> usize {
        if let Some(child) = self.nodes.get(at).and_then(|node| node.one) {
            return child;
        }
        let child = self.nodes.insert(Node::new());
        if let Some(node) = self.nodes.get_mut(at) {
            node.one = Some(child);
        }
        child
    }

    /// Removes the nodes of `path`, which `filter` leads along, that hold nothing; from the last, never the
    /// root.
    fn prune(&mut self, path: &[usize], filter: &TopicFilter) {
        for (edge, level) in path.windows(2).zip(filter.levels()).rev() {
            let [parent, child] = *edge else { return };
            if !self.nodes.get(child).is_some_and(Node::is_empty) {
                return;
            }
            drop(self.nodes.try_remove(child));
            let Some(parent) = self.nodes.get_mut(parent) else { return };
            match level {
                Level::Literal(text) => parent.literals.remove(text),
                _ => parent.one = None,
            }
        }
    }
}

impl<T: Copy + Ord + Hash> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self {
            literals: Children::default(),
            one: None,
            here: Vec::new(),
            rest: Vec::new(),
            some: Vec::new(),
        }
    }

    /// Where the values of `filter` are, in the node its path leads to.
    fn values_mut(&mut self, filter: &TopicFilter) -> &mut Vec<T> {
        match filter.levels().last() {
            Some(Level::Rest) => &mut self.rest,
            Some(Level::Some) => &mut self.some,
            _ => &mut self.here,
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty()
            && self.one.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
            && self.some.is_empty()
    }
}

/// The first level, and what follows its `/`.
fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (text, None),
    }
}
