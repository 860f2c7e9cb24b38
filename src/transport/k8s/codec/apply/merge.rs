//! Putting what is applied into what is there, and taking out what is let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::element::Element;
use super::set::{DEPTH_MAX, FieldSet};
use super::typing::{Shape, Typing};

/// `live` with what `applied` sets. Lists made of items take the order of `applied`; maps and such lists that `applied`
/// has as null stay as they are.
///
/// Both were checked; what is deeper than [`DEPTH_MAX`] or has items without keys is taken as one field.
pub(super) fn merge(live: &Value, applied: &Value, typing: Typing<'_>) -> Value {
    merge_within(live, applied, typing, DEPTH_MAX)
}

fn merge_within(live: &Value, applied: &Value, typing: Typing<'_>, depth: usize) -> Value {
    if depth == 0 {
        return applied.clone();
    }
    let shape = typing.shape(live);
    match (shape, live, applied) {
        (Shape::Map, Value::Object(fields), Value::Null) if !fields.is_empty() => live.clone(),
        (Shape::Keyed(_) | Shape::Set, Value::Array(items), Value::Null) if !items.is_empty() => {
            live.clone()
        }
        (Shape::Map, Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let value = match live.get(name) {
                    Some(live) => merge_within(live, value, typing.field(name).0, depth - 1),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Shape::Keyed(_) | Shape::Set, Value::Array(live), Value::Array(applied)) => {
            let (Ok(live), Ok(wanted)) = (typing.elements(shape, live), typing.elements(shape, applied))
            else {
                return Value::Array(applied.clone());
            };
            let items = typing.items();
            let merged = merge_items(live, wanted, |live, applied| match (live, applied) {
                (Some(live), Some(applied)) => merge_within(live, applied, items, depth - 1),
                (live, applied) => applied.or(live).cloned().unwrap_or_default(),
            });
            Value::Array(merged)
        }
        _ => applied.clone(),
    }
}

type Items<'v> = Vec<(Element, &'v Value)>;

/// The items of both lists, those of `applied` in its order; what only `live` has stands where it stood among what both have.
fn merge_items(
    live: Items<'_>,
    applied: Items<'_>,
    merge: impl Fn(Option<&Value>, Option<&Value>) -> Value,
) -> Vec<Value> {
    let wanted: BTreeSet<Element> = applied.iter().map(|(element, _)| element.clone()).collect();
    // Of items that are not told apart, none is merged into what is applied.
    let mut held: BTreeMap<Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in &live {
        held.entry(element.clone()).and_modify(|held| *held = None).or_insert(Some(item));
    }
    let mut shared: VecDeque<Element> = applied
        .iter()
        .map(|(element, _)| element)
        .filter(|element| held.contains_key(element))
        .cloned()
        .collect();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let mut taken: BTreeSet<Element> = BTreeSet::new();
    let (mut live, mut applied) = (live.into_iter().peekable(), applied.into_iter().peekable());
    loop {
        if let (Some((have, _)), Some((want, _))) = (live.peek(), applied.peek()) {
            let next = shared.front();
            // An item of both that is not the next of both to come waits for its turn in the order of what is applied.
            if have != want && wanted.contains(have) && next.is_some_and(|next| next != have) {
                live.next();
                continue;
            }
        }
        match live.peek() {
            Some((have, item)) if !wanted.contains(have) => {
                merged.push(merge(Some(item), None));
                live.next();
                continue;
            }
            Some((have, _))
                if taken.contains(have) || applied.peek().is_some_and(|(want, _)| want == have) =>
            {
                live.next();
            }
            _ => {}
        }
        match applied.next() {
            Some((want, item)) => {
                merged.push(merge(held.get(&want).copied().flatten(), Some(item)));
                if shared.front() == Some(&want) {
                    shared.pop_front();
                }
                taken.insert(want);
            }
            None if live.peek().is_none() => return merged,
            // What is left of `live` and wanted was taken.
            None => {
                live.next_if(|(have, _)| wanted.contains(have));
            }
        }
    }
}

/// A value without what is in `gone`: a field or item whose own path is in it, and of others what is below. A map or list
/// of which nothing is left is null.
pub(super) fn remove(value: &Value, gone: &FieldSet, typing: Typing<'_>) -> Value {
    remove_within(value, gone, typing, DEPTH_MAX)
}

fn remove_within(value: &Value, gone: &FieldSet, typing: Typing<'_>, depth: usize) -> Value {
    let shape = typing.shape(value);
    let part = |element: &Element, value: &Value, typing: Typing<'_>| match gone.below(element) {
        None => Some(value.clone()),
        Some(below) if below.has(&[]) => None,
        Some(below) if depth == 0 || below.is_empty() => Some(value.clone()),
        Some(below) => Some(remove_within(value, below, typing, depth - 1)),
    };
    match (shape, value) {
        (Shape::Map, Value::Object(fields)) if !fields.is_empty() => {
            let left: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.clone(), part(&Element::field(name), value, typing.field(name).0)?))
                })
                .collect();
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        (Shape::Keyed(_) | Shape::Set, Value::Array(items)) if !items.is_empty() => {
            let Ok(elements) = typing.elements(shape, items) else { return value.clone() };
            let left: Vec<Value> =
                elements.iter().filter_map(|(element, item)| part(element, item, typing.items())).collect();
            if left.is_empty() { Value::Null } else { Value::Array(left) }
        }
        _ => value.clone(),
    }
}

/// Takes away the nulls that [`remove`] left for maps and lists in which there is nothing any more.
pub(super) fn drop_emptied(value: &mut Value, gone: &FieldSet, typing: Typing<'_>) {
    let shape = typing.shape(value);
    match (shape, value) {
        (Shape::Map, Value::Object(fields)) => {
            fields.retain(|name, value| match gone.below(&Element::field(name)) {
                Some(_) if value.is_null() => false,
                Some(below) => {
                    drop_emptied(value, below, typing.field(name).0);
                    true
                }
                None => true,
            });
        }
        (Shape::Keyed(_), Value::Array(items)) => {
            items.retain_mut(|item| {
                let below =
                    typing.element(shape, item).ok().and_then(|element| gone.below(&element).cloned());
                if let Some(below) = below {
                    drop_emptied(item, &below, typing.items());
                }
                !item.is_null()
            });
        }
        _ => {}
    }
}
