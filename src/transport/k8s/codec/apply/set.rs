//! Sets of fields, as managers own them: a trie of path elements, read from and written to `FieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::Element;

/// Deepest path.
pub const DEPTH_MAX: usize = 100;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path to here is in it.
    member: bool,
    children: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    /// Reads `FieldsV1`. What is no element of a path, or lies deeper than [`DEPTH_MAX`], is passed over.
    pub fn decode(fields: &Value) -> Self {
        let mut set = Self::read(fields, 0);
        // An object itself is nobody's.
        set.member = false;
        set
    }

    fn read(fields: &Value, depth: usize) -> Self {
        let mut set = Self::default();
        let Some(fields) = fields.as_object().filter(|_| depth < DEPTH_MAX) else { return set };
        for (name, below) in fields {
            if name == "." {
                set.member = true;
            } else if let Some(element) = Element::parse(name) {
                let mut child = Self::read(below, depth + 1);
                // A leaf is itself in the set: nothing else would be said by it.
                child.member |= child.children.is_empty();
                // Two spellings of one element tell of one field.
                let known = set.children.remove(&element).unwrap_or_default();
                set.children.insert(element, known.union(&child));
            }
        }
        set
    }

    /// As `FieldsV1`.
    pub fn encode(&self) -> Value {
        let mut fields = Map::new();
        for (element, child) in &self.children {
            let mut below = Map::new();
            if child.member && !child.children.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            if let Value::Object(more) = child.encode() {
                below.extend(more);
            }
            fields.insert(element.encode(), Value::Object(below));
        }
        Value::Object(fields)
    }

    /// Whether no path is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Whether the path is in it.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => self.member,
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    /// Adds a path; of a deeper one than [`DEPTH_MAX`] its beginning.
    pub fn insert(&mut self, path: &[Element]) {
        let mut at = self;
        for element in path.iter().take(DEPTH_MAX) {
            at = at.children.entry(element.clone()).or_default();
        }
        at.member = true;
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.member |= other.member;
        for (element, child) in &other.children {
            let merged = self.children.remove(element).unwrap_or_default().union(child);
            self.children.insert(element.clone(), merged);
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let both = self.children.iter().filter_map(|(element, child)| {
            let both = child.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { children: both.collect(), member: self.member && other.member }
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let left = self.children.iter().filter_map(|(element, child)| {
            let left = match other.children.get(element) {
                Some(other) => child.difference(other),
                None => child.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self { children: left.collect(), member: self.member && !other.member }
    }

    /// What is in this and neither in the other nor below what is in the other.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let left = self.children.iter().filter_map(|(element, child)| {
            let left = match other.children.get(element) {
                Some(other) if other.member => return None,
                Some(other) => child.recursive_difference(other),
                None => child.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self { children: left.collect(), member: self.member && !other.member }
    }

    /// Keeps what is at or below these first elements.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&Element) -> bool) -> Self {
        self.children.retain(|element, _| keep(element));
        self
    }

    /// All that is in it at or below a first element.
    pub fn below(&self, element: &Element) -> Option<&Self> {
        self.children.get(element)
    }

    /// Each first element, with what is at or below it.
    pub fn children(&self) -> impl Iterator<Item = (&Element, &Self)> {
        self.children.iter()
    }

    /// The same with what `change` makes of each first element's part.
    #[must_use]
    pub(super) fn map(&self, mut change: impl FnMut(&Element, &Self) -> Self) -> Self {
        let children =
            self.children.iter().map(|(element, child)| (element.clone(), change(element, child)));
        Self { children: children.collect(), member: self.member }
    }

    /// The same with its own beginning in it.
    #[must_use]
    pub(super) fn with_member(mut self) -> Self {
        self.member = true;
        self
    }

    /// Every path, as the API server lists them: of each map first its own fields, then what is below them.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, at: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for (element, _) in self.children.iter().filter(|(_, child)| child.member) {
            paths.push(at.iter().chain([element]).cloned().collect());
        }
        for (element, child) in &self.children {
            at.push(element.clone());
            child.collect(at, paths);
            at.pop();
        }
    }
}

impl<'a> FromIterator<&'a [&'a str]> for FieldSet {
    /// The set of paths of fields.
    fn from_iter<I: IntoIterator<Item = &'a [&'a str]>>(paths: I) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }
}

/// A path as messages show it: `.spec.containers[name="c"].image`.
pub fn shown(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}
