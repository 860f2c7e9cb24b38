//! Lists of a strategic merge patch: elements found by their merge key, or by themselves, and put in order.
//!
//! Elements that the patch names come in its order, the others in theirs. Between the two, the list as it
//! was decides where it knows both; else what the patch names comes first.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use serde_json::{Map, Value};

use super::PatchError;
use super::strategic::{DELETE, DIRECTIVE, MERGE, Node, REPLACE, clean, merge_map, unknown_directive};

/// Where identities stand in a list.
type Positions = HashMap<String, usize, RandomState>;

/// What makes two elements the same: the value of a merge key, or the element itself.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a>(pub(super) Option<&'a str>);

impl Identity<'_> {
    /// The identity of an element, as text.
    fn of(self, element: &Value) -> Result<String, PatchError> {
        let Some(key) = self.0 else { return Ok(element.to_string()) };
        let fields = element.as_object().ok_or_else(mixed)?;
        fields.get(key).map(ToString::to_string).ok_or_else(|| no_merge_key(fields, key))
    }

    /// The first position of each identity.
    fn positions(self, list: &[Value]) -> Result<Positions, PatchError> {
        let mut positions = Positions::default();
        for (at, element) in list.iter().enumerate() {
            positions.entry(self.of(element)?).or_insert(at);
        }
        Ok(positions)
    }
}

/// A merging list with a patch applied.
pub(super) fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: Option<&str>,
    element: Node<'_>,
) -> Result<Vec<Value>, PatchError> {
    let objects = check_elements(&original, &patch)?;
    if !objects {
        return merge_scalars(original, patch);
    }
    let Some(key) = merge_key else {
        return Err(PatchError::Unmergeable("cannot merge lists of maps without merge key".to_owned()));
    };
    let identity = Identity(Some(key));
    let (original, patch) = take_directives(original, patch, identity)?;
    let order = identity.positions(&original)?;
    let patch_order = identity.positions(&patch)?;
    let mut merged: Vec<_> = original.into_iter().map(Some).collect();
    let mut positions = order.clone();
    for value in patch {
        let id = identity.of(&value)?;
        let Value::Object(fields) = value else { return Err(mixed()) };
        let found = positions.get(&id).and_then(|at| merged.get_mut(*at));
        if let Some(slot) = found {
            let before = slot.take().and_then(into_object).unwrap_or_default();
            *slot = Some(Value::Object(merge_map(before, fields, element)?));
        } else {
            positions.insert(id, merged.len());
            merged.push(Some(clean(Value::Object(fields))));
        }
    }
    arrange(merged.into_iter().flatten().collect(), &patch_order, &order, identity)
}

/// A list without the elements that a deletion list names.
pub(super) fn delete_from(list: Vec<Value>, deleted: &[Value]) -> Vec<Value> {
    let deleted: HashSet<String, RandomState> = deleted.iter().map(ToString::to_string).collect();
    list.into_iter().filter(|value| !deleted.contains(&value.to_string())).collect()
}

/// A merged list in the order that `$setElementOrder` gives; `original` is the list as it was.
pub(super) fn set_order(
    merged: Vec<Value>,
    order: &[Value],
    original: &[Value],
    identity: Identity<'_>,
) -> Result<Vec<Value>, PatchError> {
    arrange(merged, &identity.positions(order)?, &identity.positions(original)?, identity)
}

/// Whether the patch's list names nothing that its `$setElementOrder` does not, in the same order.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    identity: Identity<'_>,
) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut order = order.iter();
    for element in patch.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let id = identity.of(element)?;
        loop {
            let Some(next) = order.next() else {
                let why = format!("The order in patch list doesn't match $setElementOrder list at {id}");
                return Err(PatchError::Unmergeable(why));
            };
            if identity.of(next)? == id {
                break;
            }
        }
    }
    Ok(())
}

/// Whether the elements are objects. All must be, or none, and no element is a list.
fn check_elements(original: &[Value], patch: &[Value]) -> Result<bool, PatchError> {
    let mut all = original.iter().chain(patch).peekable();
    let objects = all.peek().is_some_and(|first| first.is_object());
    for element in all {
        if element.is_array() {
            return Err(PatchError::Invalid("lists of lists are not supported".to_owned()));
        }
        if element.is_object() != objects {
            return Err(mixed());
        }
    }
    Ok(objects)
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let identity = Identity(None);
    let (order, patch_order) = (identity.positions(&original)?, identity.positions(&patch)?);
    let mut seen = HashSet::<String, RandomState>::default();
    let mut merged = Vec::with_capacity(original.len() + patch.len());
    merged.extend(original.into_iter().chain(patch).filter(|value| seen.insert(value.to_string())));
    arrange(merged, &patch_order, &order, identity)
}

/// The original without what the patch deletes, or what the patch replaces it by; and the patch without its
/// directives.
fn take_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    identity: Identity<'_>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut deleted = HashSet::<String, RandomState>::default();
    let mut replaced = false;
    for mut element in patch {
        let directive = element.as_object_mut().and_then(|fields| fields.shift_remove(DIRECTIVE));
        match directive.as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
            None | Some(MERGE) => plain.push(element),
            Some(DELETE) => {
                deleted.insert(identity.of(&element)?);
            }
            Some(REPLACE) => replaced = true,
            Some(_) => return Err(unknown_directive(&directive.unwrap_or_default())),
        }
    }
    if replaced {
        return Ok((plain.into_iter().map(clean).collect(), Vec::new()));
    }
    if !deleted.is_empty() {
        // Whatever has no merge key is not deleted: the order asks for its key later.
        original.retain(|element| !identity.of(element).is_ok_and(|id| deleted.contains(&id)));
    }
    Ok((original, plain))
}

/// Puts the elements in order: those in `first` by it, the others by `before`, interleaved where `before`
/// has both.
fn arrange(
    merged: Vec<Value>,
    first: &Positions,
    before: &Positions,
    identity: Identity<'_>,
) -> Result<Vec<Value>, PatchError> {
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for element in merged {
        let id = identity.of(&element)?;
        let was = before.get(&id).copied();
        match first.get(&id) {
            Some(position) => named.push((*position, was, element)),
            None => others.push((was.unwrap_or(usize::MAX), was, element)),
        }
    }
    named.sort_by_key(|(position, ..)| *position);
    others.sort_by_key(|(position, ..)| *position);
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, was, element) in named {
        let earlier = |other: &(usize, Option<usize>, Value)| {
            other.1.zip(was).is_some_and(|(other, own)| other < own)
        };
        while let Some((.., other)) = others.next_if(earlier) {
            arranged.push(other);
        }
        arranged.push(element);
    }
    arranged.extend(others.map(|(.., other)| other));
    Ok(arranged)
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn mixed() -> PatchError {
    PatchError::Unmergeable("list element types are not identical".to_owned())
}

fn no_merge_key(fields: &Map<String, Value>, key: &str) -> PatchError {
    let names: Vec<_> = fields.keys().take(10).map(String::as_str).collect();
    let names = names.join(", ");
    PatchError::Unmergeable(format!("map: [{names}] does not contain declared merge key: {key}"))
}
