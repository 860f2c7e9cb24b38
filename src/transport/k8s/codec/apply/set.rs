//! Sets of fields, as managers own them: a trie of path elements, read from and written to `FieldsV1`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// Deepest path.
pub const DEPTH_MAX: usize = 100;

/// One step of a path. The order is that of `FieldsV1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of a map.
    Field(String),
    /// An item of a list, by its key fields: `{"name":"x"}`, canonical.
    Key(String),
    /// An item of a set, by its value, canonical.
    Value(String),
    /// An item of a list, by its place.
    Index(usize),
}

impl Element {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(2)?;
        match kind {
            "f:" => Some(Self::Field(rest.to_owned())),
            "k:" => Some(Self::Key(canonical(
                &serde_json::from_str::<Value>(rest).ok().filter(Value::is_object)?,
            ))),
            "v:" => Some(Self::Value(canonical(&serde_json::from_str::<Value>(rest).ok()?))),
            "i:" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(key) => format!("k:{key}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }
}

impl fmt::Display for Element {
    /// As paths are shown: `.spec`, `[name="x"]`, `["a"]` as `[="a"]`, `[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(key) => {
                let fields: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path to here is in it.
    member: bool,
    children: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    /// Reads `FieldsV1`. What is no element of a path is passed over.
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
                set.children.insert(element, child);
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
            fields.insert(element.text(), Value::Object(below));
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

    /// Whether the path, or one below it, is in it.
    pub fn has_at_or_below(&self, path: &[Element]) -> bool {
        match path {
            [] => !self.is_empty(),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has_at_or_below(rest)),
        }
    }

    /// Adds a path.
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
        Self { member: self.member && other.member, children: both.collect() }
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
        Self { member: self.member && !other.member, children: left.collect() }
    }

    /// Without a path and all below it.
    pub fn cut(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => drop(self.children.remove(last)),
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(first) {
                    child.cut(rest);
                    if child.is_empty() {
                        self.children.remove(first);
                    }
                }
            }
        }
    }

    /// Takes one path out; what is below it stays.
    pub fn remove(&mut self, path: &[Element]) {
        match path {
            [] => self.member = false,
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(first) {
                    child.remove(rest);
                    if child.is_empty() {
                        self.children.remove(first);
                    }
                }
            }
        }
    }

    /// All that is in it below a first element.
    pub fn below(&self, element: &Element) -> Option<&Self> {
        self.children.get(element)
    }

    /// Keeps what is below these first elements, or what is not.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&Element) -> bool) -> Self {
        self.children.retain(|element, _| keep(element));
        self
    }

    /// Every path, in order.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, at: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        if self.member {
            paths.push(at.clone());
        }
        for (element, child) in &self.children {
            at.push(element.clone());
            child.collect(at, paths);
            at.pop();
        }
    }
}

/// A path as messages show it.
pub(super) fn shown(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// JSON with its maps in order of key: equal values have equal texts.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::String(name.clone()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}
