//! A part of the configuration that knows where it stands in which file.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::de;
use super::env::Lookup;
use super::error::ConfigError;
use super::merge::merge;
use super::path::{self, Step};
use super::tree::{self, Entry, Kind, Node, Place};
use super::values::SECRET_IN_FILE;

/// A part of the configuration that knows where it stands in which file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Section {
    node: Arc<Node>,
    /// Where its key stands; `None` for a whole file or an item of a list.
    key: Option<Place>,
    /// From the top of the configuration.
    path: String,
}

impl Section {
    /// From text, for tests and defaults; no variable is set there.
    ///
    /// # Errors
    /// Where the text is no YAML.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self, ConfigError> {
        Self::read(file, text, &|_| None).map_err(|mut errors| errors.swap_remove(0))
    }

    /// From the text of a file, with variables from `env`.
    ///
    /// # Errors
    /// Everything that is wrong; never an empty list.
    pub fn read(file: &str, text: &str, env: Lookup<'_>) -> Result<Self, Vec<ConfigError>> {
        Ok(Self::root(tree::parse(file, text, env)?))
    }

    fn root(node: Arc<Node>) -> Self {
        Self { node, key: None, path: String::new() }
    }

    /// This file and a later one as one: maps merge, anything else that both set is an error and stays as it
    /// is here.
    #[must_use]
    pub fn merged(&self, later: &Section, errors: &mut Vec<ConfigError>) -> Section {
        Self::root(merge(&self.node, &later.node, errors))
    }

    /// Reads it as `T` (serde; use `deny_unknown_fields`); errors are located at the field.
    ///
    /// A message of a `Deserialize` or `TryFrom` of your own may end in `"\nhint: …"`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        // A section without a value reads as an empty map: `server:` alone asks for the defaults.
        let empty;
        let node = if matches!(self.node.kind, Kind::Null) {
            empty = Node::new(self.node.place.clone(), Kind::Map(Vec::new()));
            &empty
        } else {
            &*self.node
        };
        T::deserialize(de::Value::new(node, self.key.as_ref())).map_err(|fault| {
            let mut path = self.path.clone();
            for step in fault.steps.iter().rev() {
                path::push(&mut path, step);
            }
            let place = fault.place.as_ref().unwrap_or(&self.node.place);
            let mut error = place.error(path, fault.reason, fault.hint);
            if error.reason == SECRET_IN_FILE {
                error.source = None;
            }
            error
        })
    }

    /// An error at the field `path` below this section (`""` for the section itself, `urls[0]`). A field that
    /// is not there is shown at the nearest part above it that is.
    ///
    /// A reason that begins with `column N: `, as those of templates do, moves the place by so much.
    pub fn error(&self, path: &str, reason: impl Into<String>) -> ConfigError {
        let reason = reason.into();
        let full = path::join(&self.path, path);
        if let Some((column, rest)) = reason.strip_prefix("column ").and_then(|text| text.split_once(": "))
            && let Ok(column) = column.parse()
            && let Some(place) = self.get(path).and_then(|section| section.node.column(column))
        {
            return place.error(full, rest, None);
        }
        self.locate(path, false).error(full, reason, None)
    }

    /// As [`error`](Self::error) with a hint of what would be right.
    pub fn error_with_hint(
        &self,
        path: &str,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> ConfigError {
        self.error(path, reason).hint(hint)
    }

    /// As [`error`](Self::error), shown at the key rather than the value: for a field that should not be there.
    pub fn error_at_key(&self, path: &str, reason: impl Into<String>) -> ConfigError {
        self.locate(path, true).error(path::join(&self.path, path), reason, None)
    }

    /// The part below at `path` (`tls.cert`, `urls[0]`), where there is one.
    pub fn get(&self, path: &str) -> Option<Section> {
        let steps = path::parse(path);
        let mut here = self.clone();
        for step in &steps {
            here = here.child(step)?;
        }
        Some(here)
    }

    /// The parts below, of a map, in the file's order: key and value.
    pub fn entries(&self) -> Vec<(String, Section)> {
        match &self.node.kind {
            Kind::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), self.below(entry))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The parts below, of a list.
    pub fn items(&self) -> Vec<Section> {
        match &self.node.kind {
            Kind::List(items) => (0..items.len()).filter_map(|at| self.child(&Step::Index(at))).collect(),
            _ => Vec::new(),
        }
    }

    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// Whether it is a key without a value.
    pub fn is_null(&self) -> bool {
        matches!(self.node.kind, Kind::Null)
    }

    /// The same map without some of its keys.
    #[must_use]
    pub fn without(&self, keys: &[&str]) -> Section {
        let Kind::Map(entries) = &self.node.kind else { return self.clone() };
        let kept = entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())).cloned().collect();
        let node = Arc::new(Node::new(self.node.place.clone(), Kind::Map(kept)));
        Section { node, key: self.key.clone(), path: self.path.clone() }
    }

    /// The same map with `key` set to true, unless it is set to anything; its place is that of the section.
    pub(super) fn with_true(&self, key: &str) -> Section {
        let mut entries = match &self.node.kind {
            Kind::Map(entries) => entries.clone(),
            Kind::Null => Vec::new(),
            _ => return self.clone(),
        };
        if entries.iter().any(|entry| entry.key == key) {
            return self.clone();
        }
        let place = self.key.clone().unwrap_or_else(|| self.node.place.clone());
        let value = Arc::new(Node::new(place.clone(), Kind::Bool(true)));
        entries.push(Entry { key: key.to_owned(), place, value });
        let node = Arc::new(Node::new(self.node.place.clone(), Kind::Map(entries)));
        Section { node, key: self.key.clone(), path: self.path.clone() }
    }

    /// Where it stands in the configuration: `routes.warnings.to[0]`; empty for all of it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name of the file it stands in.
    pub fn file(&self) -> &str {
        self.node.place.file()
    }

    /// The same values as JSON, after variables are replaced; secrets are in it as they are written.
    pub fn to_json(&self) -> serde_json::Value {
        self.node.to_json()
    }

    fn child(&self, step: &Step) -> Option<Section> {
        match (step, &self.node.kind) {
            (Step::Key(key), _) => self.node.entry(key).map(|entry| self.below(entry)),
            (Step::Index(at), Kind::List(items)) => {
                let mut path = self.path.clone();
                path::push(&mut path, step);
                Some(Section { node: Arc::clone(items.get(*at)?), key: None, path })
            }
            _ => None,
        }
    }

    fn below(&self, entry: &Entry) -> Section {
        let mut path = self.path.clone();
        path::push(&mut path, &Step::Key(entry.key.clone()));
        Section { node: Arc::clone(&entry.value), key: Some(entry.place.clone()), path }
    }

    /// The place of the field, or of the nearest part above it. A map or list is shown at its key.
    fn locate(&self, path: &str, at_key: bool) -> Place {
        let mut here = self.clone();
        for step in &path::parse(path) {
            match here.child(step) {
                Some(below) => here = below,
                None => break,
            }
        }
        match here.key {
            Some(key) if at_key || here.node.is_collection() => key,
            _ => here.node.place.clone(),
        }
    }
}
