//! What differs between two values, part by part.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::{Element, Scalar};
use super::set::{DEPTH_MAX, FieldSet};
use super::typing::{Shape, Typing};

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

/// Whether two values are the same, whatever the order of their fields and the spelling of their numbers.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    same_within(left, right, DEPTH_MAX)
}

fn same_within(left: &Value, right: &Value, depth: usize) -> bool {
    match (left, right) {
        _ if depth == 0 => left == right,
        (Value::Object(left), Value::Object(right)) => {
            let is_same = |(name, value): (&String, &Value)| {
                right.get(name).is_some_and(|other| same_within(value, other, depth - 1))
            };
            left.len() == right.len() && left.iter().all(is_same)
        }
        (Value::Array(left), Value::Array(right)) => {
            let mut pairs = left.iter().zip(right);
            left.len() == right.len() && pairs.all(|(left, right)| same_within(left, right, depth - 1))
        }
        _ => Scalar::of(left).is_some_and(|scalar| Scalar::of(right) == Some(scalar)),
    }
}

impl Comparison {
    /// Compares `left` with what is there now.
    pub(super) fn of(left: &Value, right: &Value, typing: Typing<'_>) -> Self {
        let mut comparison = Self::default();
        comparison.walk(Some(left), Some(right), typing, &mut Vec::new());
        comparison
    }

    fn walk(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        typing: Typing<'_>,
        path: &mut Vec<Element>,
    ) {
        let (before, after) = (left.map(|left| typing.shape(left)), right.map(|right| typing.shape(right)));
        let is_leaf = match (before, after) {
            // What was of one shape and is of another is looked at as both: what was in it is gone.
            (Some(before), Some(after)) if before != after => {
                self.parts(before, left, right, typing, path);
                self.parts(after, left, right, typing, path)
            }
            (_, Some(shape)) | (Some(shape), None) => self.parts(shape, left, right, typing, path),
            (None, None) => return,
        };
        if !is_leaf && !path.is_empty() {
            match (left, right) {
                (None, _) => self.added.insert(path),
                (_, None) => self.removed.insert(path),
                _ => {}
            }
        }
    }

    /// Compares what is of a shape; whether it is one field.
    fn parts(
        &mut self,
        shape: Shape<'_>,
        left: Option<&Value>,
        right: Option<&Value>,
        typing: Typing<'_>,
        path: &mut Vec<Element>,
    ) -> bool {
        let is_made_of_parts = path.len() < DEPTH_MAX
            && match shape {
                Shape::Single => false,
                // What is empty on both sides is one field: null and empty differ.
                Shape::Map => fields(left).is_some() || fields(right).is_some(),
                Shape::Keyed(_) | Shape::Set => !(items(left).is_empty() && items(right).is_empty()),
            };
        if !is_made_of_parts {
            self.leaf(left, right, path);
        } else if shape == Shape::Map {
            self.walk_fields(fields(left), fields(right), typing, path);
        } else {
            return self.walk_items(shape, items(left), items(right), typing, path);
        }
        !is_made_of_parts
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>, path: &[Element]) {
        if path.is_empty() {
            return;
        }
        match (left, right) {
            (None, _) => self.added.insert(path),
            (_, None) => self.removed.insert(path),
            (Some(left), Some(right)) if !same(left, right) => self.modified.insert(path),
            _ => {}
        }
    }

    fn walk_fields(
        &mut self,
        left: Option<&Map<String, Value>>,
        right: Option<&Map<String, Value>>,
        typing: Typing<'_>,
        path: &mut Vec<Element>,
    ) {
        let known = |name: &String| left.is_some_and(|left| left.contains_key(name));
        let names = left.into_iter().flat_map(Map::keys);
        let new = right.into_iter().flat_map(Map::keys).filter(|name| !known(name));
        for name in names.chain(new) {
            let (before, after) =
                (left.and_then(|left| left.get(name)), right.and_then(|right| right.get(name)));
            path.push(Element::field(name));
            self.walk(before, after, typing.field(name).0, path);
            path.pop();
        }
    }

    /// Compares the items of two lists; whether they are one field, as lists are whose items cannot be told apart.
    fn walk_items(
        &mut self,
        shape: Shape<'_>,
        left: &[Value],
        right: &[Value],
        typing: Typing<'_>,
        path: &mut Vec<Element>,
    ) -> bool {
        let (Ok(left_items), Ok(right_items)) =
            (typing.elements(shape, left), typing.elements(shape, right))
        else {
            if left != right && !path.is_empty() {
                self.modified.insert(path);
            }
            return true;
        };
        let mut found: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (element, item) in left_items {
            found.entry(element).or_default().0.push(item);
        }
        for (element, item) in right_items {
            found.entry(element).or_default().1.push(item);
        }
        for (element, (before, after)) in found {
            path.push(element);
            match (before.as_slice(), after.as_slice()) {
                // Items of one key on both sides are one field.
                ([_, _, ..], [_, _, ..]) => {
                    let is_same = before.len() == after.len()
                        && before.iter().zip(&after).all(|(before, after)| same(before, after));
                    if !is_same {
                        self.modified.insert(path);
                    }
                }
                ([_, _, ..], after) => {
                    if let Some(only) = after.first() {
                        self.walk(None, Some(only), typing.items(), path);
                    }
                    self.removed.insert(path);
                }
                (before, [_, _, ..]) => {
                    if let Some(only) = before.first() {
                        self.walk(Some(only), None, typing.items(), path);
                    }
                    self.added.insert(path);
                }
                (before, after) => {
                    self.walk(before.first().copied(), after.first().copied(), typing.items(), path);
                }
            }
            path.pop();
        }
        false
    }
}

/// The fields of a map that has some.
fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|fields| !fields.is_empty())
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
