//! How the parts of a value merge: what is one field, and what is made of several.
//!
//! From an OpenAPI v3 schema and its `x-kubernetes-list-type`, `-list-map-keys` and `-map-type`. What no schema tells is
//! deduced: maps are made of their fields, lists are one field. Metadata has the schema of every object's.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::element::{Element, Scalar};
use super::set::{DEPTH_MAX, FieldSet};

/// The parts of metadata that are not single values.
static METADATA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ownerReferences": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["uid"],
                "items": {"type": "object", "x-kubernetes-map-type": "atomic"},
            },
        },
    })
});

/// The type of one part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Typing<'a> {
    schema: Option<&'a Value>,
    /// Whether it is an object of the API, with metadata.
    object: bool,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape<'a> {
    /// One field, whatever is in it.
    Single,
    /// Made of its fields.
    Map,
    /// Made of its items, which these fields tell apart.
    Keyed(&'a [Value]),
    /// Made of its items, each of them told by its value.
    Set,
}

impl<'a> Typing<'a> {
    /// The type of an object whose schema is `schema`; all but its metadata is deduced without one.
    pub fn of(schema: Option<&'a Value>) -> Self {
        Self { schema, object: true }
    }

    fn part(schema: Option<&'a Value>) -> Self {
        let embeds = schema.and_then(|schema| schema.get("x-kubernetes-embedded-resource"));
        Self { schema, object: embeds == Some(&Value::Bool(true)) }
    }

    fn word(&self, name: &str) -> Option<&'a str> {
        self.schema?.get(name)?.as_str()
    }

    /// The one type its values have, where the schema tells it.
    pub(super) fn kind(&self) -> Option<&'a str> {
        let mixed = self.schema?.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        self.word("type").filter(|_| !mixed)
    }

    /// What a value of this type is. Null is taken for what the schema wants; without one, for a map.
    pub(super) fn shape(&self, value: &Value) -> Shape<'a> {
        match (value, self.kind()) {
            (Value::Array(_), _) | (Value::Null, Some("array")) => self.list(),
            (Value::Object(_), _) | (Value::Null, Some("object") | None) => {
                match self.word("x-kubernetes-map-type") {
                    Some("atomic") => Shape::Single,
                    _ => Shape::Map,
                }
            }
            _ => Shape::Single,
        }
    }

    fn list(&self) -> Shape<'a> {
        let keys = || self.schema?.get("x-kubernetes-list-map-keys")?.as_array();
        match self.word("x-kubernetes-list-type") {
            Some("set") => Shape::Set,
            Some("map") => match keys() {
                Some(keys) if !keys.is_empty() => Shape::Keyed(keys),
                _ => Shape::Single,
            },
            _ => Shape::Single,
        }
    }

    /// The type of a field, and whether the schema names it.
    pub(super) fn field(&self, name: &str) -> (Typing<'a>, bool) {
        if self.object && name == "metadata" {
            return (Typing::part(Some(&METADATA)), true);
        }
        let named = self.schema.and_then(|schema| schema.get("properties")?.get(name));
        let other = || self.schema?.get("additionalProperties").filter(|schema| schema.is_object());
        let is_named = named.is_some() || self.object && matches!(name, "apiVersion" | "kind");
        (Typing::part(named.or_else(other)), is_named)
    }

    /// The type of a list's items.
    pub(super) fn items(&self) -> Typing<'a> {
        Typing::part(self.schema.and_then(|schema| schema.get("items")))
    }

    /// What stands for an item of a list that is made of its items.
    ///
    /// # Errors
    /// The item lacks a key that has no default, or is nothing that such a list may hold.
    pub(super) fn element(&self, shape: Shape<'a>, item: &Value) -> Result<Element, String> {
        let Shape::Keyed(keys) = shape else {
            let why = match item {
                Value::Object(_) => "associative list without keys has an element that's a map type",
                Value::Array(_) => "not supported: associative list with lists as elements",
                _ => "associative list without keys has an element that's an explicit null",
            };
            let scalar = Scalar::of(item).filter(|_| !item.is_null());
            return scalar.map(Element::Value).ok_or_else(|| why.to_owned());
        };
        let Some(fields) = item.as_object() else {
            let what = if item.is_null() { "a null element" } else { "non-map elements" };
            return Err(format!("associative list with keys may not have {what}"));
        };
        let items = self.items().schema;
        let mut key = Vec::with_capacity(keys.len());
        for name in keys.iter().filter_map(Value::as_str) {
            let default =
                || items?.get("properties")?.get(name)?.get("default").filter(|value| !value.is_null());
            let value = fields.get(name).or_else(default).ok_or_else(|| {
                format!(
                    "associative list with keys has an element that omits key field {name:?} (and doesn't \
                     have default value)"
                )
            })?;
            let value = Scalar::of(value).ok_or_else(|| {
                format!("associative list with keys has an element whose key field {name:?} is no scalar")
            })?;
            key.push((name.to_owned(), value));
        }
        Element::key(key).ok_or_else(|| "associative list with keys names none".to_owned())
    }

    /// The items of a list, each with what stands for it.
    ///
    /// # Errors
    /// As [`Self::element`], for the first item that is wrong.
    pub(super) fn elements<'v>(
        &self,
        shape: Shape<'a>,
        list: &'v [Value],
    ) -> Result<Vec<(Element, &'v Value)>, String> {
        list.iter().map(|item| Ok((self.element(shape, item)?, item))).collect()
    }
}

/// The paths of what is set in a value.
pub(super) fn field_set(value: &Value, typing: Typing<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    collect(value, typing, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, typing: Typing<'_>, path: &mut Vec<Element>, set: &mut FieldSet) {
    let shape = typing.shape(value);
    match (shape, value) {
        (Shape::Map, Value::Object(fields)) if path.len() < DEPTH_MAX => {
            for (name, field) in fields {
                let (below, named) = typing.field(name);
                path.push(Element::field(name));
                collect(field, below, path, set);
                let empty = field.as_object().is_some_and(serde_json::Map::is_empty);
                // A field the schema names is had with what is in it; others are had on their own.
                if empty || field.is_null() || !named {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::Keyed(_) | Shape::Set, Value::Array(items)) if path.len() < DEPTH_MAX => {
            let mut found: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
            for item in items {
                if let Ok(element) = typing.element(shape, item) {
                    found.entry(element).or_default().push(item);
                }
            }
            for (element, items) in found {
                path.push(element);
                // Items that are not told apart are had as one.
                if let [item] = items.as_slice() {
                    collect(item, typing.items(), path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        (Shape::Map | Shape::Keyed(_) | Shape::Set, Value::Null) => {}
        _ if path.is_empty() => {}
        _ => set.insert(path),
    }
}

/// The set, and with it each field the schema names of which something is in it.
pub(super) fn with_named(set: &FieldSet, typing: Typing<'_>) -> FieldSet {
    set.map(|element, child| {
        let (below, named) = match element {
            Element::Field(name) => typing.field(name),
            Element::Key(_) => (typing.items(), false),
            Element::Value(_) | Element::Index(_) => (Typing::default(), false),
        };
        let child = with_named(child, below);
        if named && child.children().next().is_some() { child.with_member() } else { child }
    })
}

/// The set as a schema has it that now takes something for one field which was made of several: who had a part has all.
pub(super) fn reconciled(set: &FieldSet, typing: Typing<'_>) -> FieldSet {
    set.map(|element, child| {
        let below = match element {
            Element::Field(name) => typing.field(name).0,
            Element::Key(_) => typing.items(),
            Element::Value(_) | Element::Index(_) => Typing::default(),
        };
        let single = match below.kind() {
            Some("array") => below.list() == Shape::Single,
            Some("object") => below.word("x-kubernetes-map-type") == Some("atomic"),
            _ => false,
        };
        if single && child.children().next().is_some() {
            FieldSet::default().with_member()
        } else {
            reconciled(child, below)
        }
    })
}
