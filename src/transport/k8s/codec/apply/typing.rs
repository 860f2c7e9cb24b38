//! How the parts of a value merge: what is one field, and what is made of several.
//!
//! From an OpenAPI v3 schema and its `x-kubernetes-list-type`, `-list-map-keys` and `-map-type`. What no schema tells is
//! deduced: maps are made of their fields, lists are one field. Metadata has the schema of every object's.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::set::{DEPTH_MAX, Element, FieldSet, canonical};

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
    /// Inside a list that is one field, where everything is.
    atomic: bool,
}

/// What a part is.
enum Shape<'a> {
    Single,
    Map,
    List(&'a Value),
    Set,
}

impl<'a> Typing<'a> {
    /// The type of an object whose schema is `schema`.
    pub fn of(schema: Option<&'a Value>) -> Self {
        Self { schema, atomic: false }
    }

    fn word(&self, name: &str) -> Option<&'a str> {
        self.schema?.get(name)?.as_str()
    }

    fn shape(&self, value: &Value) -> Shape<'a> {
        match value {
            _ if self.atomic => Shape::Single,
            Value::Object(_) if self.word("x-kubernetes-map-type") == Some("atomic") => Shape::Single,
            Value::Object(_) => Shape::Map,
            Value::Array(_) => match self.word("x-kubernetes-list-type") {
                Some("set") => Shape::Set,
                Some("map") => {
                    match self.schema.and_then(|schema| schema.get("x-kubernetes-list-map-keys")) {
                        Some(keys) => Shape::List(keys),
                        None => Shape::Single,
                    }
                }
                _ => Shape::Single,
            },
            _ => Shape::Single,
        }
    }

    /// The type of a field, and whether the schema names it.
    fn field(&self, name: &str, depth: usize) -> (Typing<'a>, bool) {
        if depth == 0 && name == "metadata" {
            return (Typing { schema: Some(&METADATA), atomic: false }, true);
        }
        let named = self.schema.and_then(|schema| schema.get("properties")?.get(name));
        let other = || {
            self.schema.and_then(|schema| schema.get("additionalProperties")).filter(|it| it.is_object())
        };
        (Typing { schema: named.or_else(other), atomic: self.atomic }, named.is_some())
    }

    fn items(&self) -> Typing<'a> {
        Typing { schema: self.schema.and_then(|schema| schema.get("items")), atomic: self.atomic }
    }

    /// The element that stands for an item of a list by its keys; a default of the schema stands in for one.
    fn key_of(&self, keys: &Value, item: &Value) -> Result<Element, String> {
        let mut key = Map::new();
        for name in keys.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let default = || {
                self.items()
                    .schema
                    .and_then(|schema| schema.get("properties")?.get(name)?.get("default"))
                    .cloned()
            };
            if let Some(value) = item.get(name).cloned().or_else(default) {
                key.insert(name.to_owned(), value);
            }
        }
        if key.is_empty() {
            return Err(format!("associative list with keys has an element that omits key field {keys}"));
        }
        Ok(Element::Key(canonical(&Value::Object(key))))
    }

    /// The items of a list, each with what stands for it.
    fn elements<'v>(
        &self,
        shape: &Shape<'a>,
        list: &'v [Value],
    ) -> Result<Vec<(Element, &'v Value)>, String> {
        let element = |item: &'v Value| match shape {
            Shape::List(keys) => self.key_of(keys, item).map(|element| (element, item)),
            _ => Ok((Element::Value(canonical(item)), item)),
        };
        list.iter().map(element).collect()
    }
}

/// The paths of what is set in a value that somebody applies.
///
/// # Errors
/// A list that is a map has two items of a key, or one without.
pub(super) fn field_set(value: &Value, typing: Typing<'_>) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    walk(value, typing, &mut Vec::new(), &mut set)?;
    Ok(set)
}

fn walk(
    value: &Value,
    typing: Typing<'_>,
    path: &mut Vec<Element>,
    set: &mut FieldSet,
) -> Result<(), String> {
    if path.len() >= DEPTH_MAX {
        return Err(format!("is nested more than {DEPTH_MAX} levels deep"));
    }
    let shape = typing.shape(value);
    match (&shape, value) {
        (Shape::Map, Value::Object(fields)) => {
            for (name, field) in fields {
                let (below, named) = typing.field(name, path.len());
                path.push(Element::Field(name.clone()));
                walk(field, below, path, set)?;
                let is_empty = match field {
                    Value::Object(fields) => fields.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    other => other.is_null(),
                };
                if is_empty || !named {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::List(_) | Shape::Set, Value::Array(items)) => {
            let mut seen = std::collections::BTreeSet::new();
            for (element, item) in typing.elements(&shape, items)? {
                if !seen.insert(element.clone()) {
                    return Err(format!(
                        "{}: duplicate entries for key {element}",
                        super::set::shown(path)
                    ));
                }
                path.push(element);
                walk(item, typing.items(), path, set)?;
                set.insert(path);
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        _ => set.insert(path),
    }
    Ok(())
}

/// What differs between two values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// In the second only.
    pub(super) added: FieldSet,
    /// In both, and not the same.
    pub(super) modified: FieldSet,
    /// In the first only.
    pub(super) removed: FieldSet,
}

impl Comparison {
    /// Compares `left` with what is there now.
    pub(super) fn of(left: &Value, right: &Value, typing: Typing<'_>) -> Self {
        let mut comparison = Self::default();
        comparison.walk(Some(left), Some(right), typing, &mut Vec::new());
        comparison
    }

    /// Whether nothing differs.
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn walk(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        typing: Typing<'_>,
        path: &mut Vec<Element>,
    ) {
        let Some(some) = right.or(left) else { return };
        if !path.is_empty() {
            match (left, right) {
                (None, Some(_)) => self.added.insert(path),
                (Some(_), None) => self.removed.insert(path),
                _ => {}
            }
        }
        let (shape, other) = (typing.shape(some), left.map(|left| typing.shape(left)));
        let alike = matches!(
            (&shape, other.as_ref().unwrap_or(&shape)),
            (Shape::Map, Shape::Map) | (Shape::List(_), Shape::List(_)) | (Shape::Set, Shape::Set)
        );
        if !alike || path.len() >= DEPTH_MAX {
            if let (Some(left), Some(right)) = (left, right)
                && left != right
            {
                self.modified.insert(path);
            }
            return;
        }
        match shape {
            Shape::Map => {
                let fields = |value: Option<&'_ Value>| {
                    value.and_then(Value::as_object).cloned().unwrap_or_default()
                };
                let (left, right) = (fields(left), fields(right));
                for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
                    let (below, _) = typing.field(name, path.len());
                    path.push(Element::Field(name.clone()));
                    self.walk(left.get(name), right.get(name), below, path);
                    path.pop();
                }
            }
            Shape::List(_) | Shape::Set => self.walk_list(left, right, typing, &shape, path),
            Shape::Single => {}
        }
    }

    fn walk_list(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        typing: Typing<'_>,
        shape: &Shape<'_>,
        path: &mut Vec<Element>,
    ) {
        let list = |value: Option<&'_ Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let (left, right) = (list(left), list(right));
        let (Ok(had), Ok(has)) = (typing.elements(shape, &left), typing.elements(shape, &right)) else {
            if left != right {
                self.modified.insert(path);
            }
            return;
        };
        let of = |list: &[(Element, &Value)], wanted: &Element| -> Option<Value> {
            list.iter().find(|(element, _)| element == wanted).map(|(_, item)| (*item).clone())
        };
        let new = has.iter().filter(|(element, _)| !had.iter().any(|(other, _)| other == element));
        for (element, _) in had.iter().chain(new) {
            path.push(element.clone());
            self.walk(of(&had, element).as_ref(), of(&has, element).as_ref(), typing.items(), path);
            path.pop();
        }
    }
}

/// `live` with what `applied` sets.
///
/// # Errors
/// As [`field_set`].
pub(super) fn merge(
    live: &Value,
    applied: &Value,
    typing: Typing<'_>,
    depth: usize,
) -> Result<Value, String> {
    if depth >= DEPTH_MAX {
        return Err(format!("is nested more than {DEPTH_MAX} levels deep"));
    }
    let (shape, have) = (typing.shape(applied), typing.shape(live));
    match (&shape, &have, live, applied) {
        (Shape::Map, Shape::Map, Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let (below, _) = typing.field(name, depth);
                let value = match live.get(name) {
                    Some(live) => merge(live, value, below, depth + 1)?,
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Ok(Value::Object(merged))
        }
        (
            Shape::List(_) | Shape::Set,
            Shape::List(_) | Shape::Set,
            Value::Array(live),
            Value::Array(applied),
        ) => {
            let wanted = typing.elements(&shape, applied)?;
            let held = typing.elements(&have, live)?;
            let mut merged: Vec<(Element, Value)> =
                held.into_iter().map(|(element, item)| (element, item.clone())).collect();
            for (element, item) in wanted {
                match merged.iter_mut().find(|(other, _)| *other == element) {
                    Some((_, held)) => *held = merge(held, item, typing.items(), depth + 1)?,
                    None => merged.push((element, item.clone())),
                }
            }
            Ok(Value::Array(merged.into_iter().map(|(_, item)| item).collect()))
        }
        _ => Ok(applied.clone()),
    }
}

/// Takes out of a value what is in `gone`: a field or item whose own path is in it, and of others what is below.
pub(super) fn prune(value: &mut Value, gone: &FieldSet, typing: Typing<'_>, depth: usize) {
    if depth >= DEPTH_MAX {
        return;
    }
    let shape = typing.shape(value);
    match (&shape, value) {
        (Shape::Map, Value::Object(fields)) => {
            fields.retain(|name, field| {
                let Some(below) = gone.below(&Element::Field(name.clone())) else { return true };
                if below.has(&[]) {
                    return false;
                }
                prune(field, below, typing.field(name, depth).0, depth + 1);
                true
            });
        }
        (Shape::List(_) | Shape::Set, Value::Array(items)) => {
            let Ok(elements) = typing.elements(&shape, items) else { return };
            let elements: Vec<Element> = elements.into_iter().map(|(element, _)| element).collect();
            let mut at = elements.into_iter();
            items.retain_mut(|item| {
                let Some(below) = at.next().and_then(|element| gone.below(&element).cloned()) else {
                    return true;
                };
                if below.has(&[]) {
                    return false;
                }
                prune(item, &below, typing.items(), depth + 1);
                true
            });
        }
        _ => {}
    }
}
