//! Strategic merge patch: maps merge, and lists do as `x-kubernetes-patch-strategy` and
//! `x-kubernetes-patch-merge-key` of the kind's schema say.
//!
//! | in the patch | does |
//! |---|---|
//! | `field: null` | removes the field |
//! | `$patch: replace` in a map or an element | replaces the map or the list with the rest of the patch |
//! | `$patch: delete` in a map | empties it |
//! | `$patch: delete` in an element | deletes the element with the same merge key |
//! | `$patch: merge` | merges, as without it |
//! | `$deleteFromPrimitiveList/f: […]` | deletes these values from the list `f` |
//! | `$setElementOrder/f: […]` | puts the list `f` in this order |
//! | `$retainKeys: […]` | removes all fields of the map but these |

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::list::{Identity, check_order, delete_from, merge_list, set_order};
use super::{DEPTH_MAX, PatchError, go_type, nests_within};

/// The field that says how its map or element is patched.
pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const DELETE: &str = "delete";
pub(super) const REPLACE: &str = "replace";
pub(super) const MERGE: &str = "merge";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";
const STRATEGY: &str = "x-kubernetes-patch-strategy";
const MERGE_KEY: &str = "x-kubernetes-patch-merge-key";
/// The most references and `allOf` that are followed to one schema.
const REFERENCES_MAX: usize = 8;

/// The object with a strategic merge patch applied.
///
/// `schema` is the `OpenAPI` v3 schema of the object, with the schemas it refers to under
/// `components/schemas` if there are references. Without one, and where it says nothing, maps merge and lists
/// are replaced; of the metadata all kinds share, owner references merge by `uid` and finalizers as a set.
///
/// # Errors
///
/// The patch is no object, nests deeper than [`DEPTH_MAX`], has a directive of a wrong form, or names
/// elements without their merge key.
pub fn strategic_merge(doc: &Value, patch: &Value, schema: Option<&Value>) -> Result<Value, PatchError> {
    let Value::Object(fields) = patch else {
        let found = go_type(patch);
        let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
        return Err(PatchError::BadRequest(why));
    };
    if !nests_within(patch, DEPTH_MAX) {
        return Err(PatchError::BadRequest(format!("the patch nests more than {DEPTH_MAX} deep")));
    }
    let doc = doc.as_object().cloned().unwrap_or_default();
    let root = Node { root: schema, schema, place: Place::Object };
    merge_map(doc, fields.clone(), root).map(Value::Object)
}

/// A place in the object, and what the schema says of it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    root: Option<&'a Value>,
    schema: Option<&'a Value>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Object,
    Metadata,
    Elsewhere,
}

/// How a field is patched.
struct Field<'a> {
    node: Node<'a>,
    merges: bool,
    replaces: bool,
    merge_key: Option<&'a str>,
}

impl<'a> Node<'a> {
    fn field(self, name: &str) -> Field<'a> {
        let found = self.resolve(self.schema).and_then(|schema| {
            let property = schema.get("properties").and_then(|properties| properties.get(name));
            property.or_else(|| schema.get("additionalProperties"))
        });
        let place = if self.place == Place::Object && name == "metadata" {
            Place::Metadata
        } else {
            Place::Elsewhere
        };
        let said = |extension: &str| found.and_then(|schema| schema.get(extension)).and_then(Value::as_str);
        let known = match (self.place, name) {
            (Place::Metadata, "ownerReferences") => (Some(MERGE), Some("uid")),
            (Place::Metadata, "finalizers") => (Some(MERGE), None),
            _ => (None, None),
        };
        let strategy = said(STRATEGY).or(known.0).unwrap_or_default();
        let has = |wanted: &str| strategy.split(',').any(|strategy| strategy.trim() == wanted);
        Field {
            node: Self { schema: found, place, ..self },
            merges: has(MERGE),
            replaces: has(REPLACE),
            merge_key: said(MERGE_KEY).or(known.1).filter(|key| !key.is_empty()),
        }
    }

    /// The elements of a list.
    fn element(self) -> Self {
        let items = self.resolve(self.schema).and_then(|schema| schema.get("items"));
        Self { schema: items, ..self }
    }

    /// The schema behind references, and behind the `allOf` that wraps one to add a default.
    fn resolve(self, mut schema: Option<&'a Value>) -> Option<&'a Value> {
        for _ in 0..REFERENCES_MAX {
            let at = schema?;
            if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
                schema = self.root?.pointer(reference.strip_prefix('#')?);
            } else if let (None, Some([one])) =
                (at.get("properties"), at.get("allOf").and_then(Value::as_array).map(Vec::as_slice))
            {
                schema = Some(one);
            } else {
                return schema;
            }
        }
        None
    }
}

/// A map with a patch applied.
pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    node: Node<'_>,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.shift_remove(DIRECTIVE) {
        match directive.as_str() {
            Some(REPLACE) => return Ok(clean_map(patch)),
            Some(DELETE) => return Ok(Map::new()),
            Some(MERGE) => {}
            _ => return Err(unknown_directive(&directive)),
        }
    }
    retain_keys(&mut original, &mut patch)?;
    order_lists(&mut original, &mut patch, node)?;
    for (name, value) in patch {
        if name.starts_with(DELETE_FROM) {
            delete_values(&mut original, &name, &value)?;
            continue;
        }
        if value.is_null() {
            original.shift_remove(&name);
            continue;
        }
        let Some(before) = original.get_mut(&name) else {
            original.insert(name, clean(value));
            continue;
        };
        let field = node.field(&name);
        *before = match (before.take(), value) {
            (Value::Object(before), Value::Object(value)) if !field.replaces => {
                Value::Object(merge_map(before, value, field.node)?)
            }
            (Value::Array(before), Value::Array(value)) if field.merges => {
                Value::Array(merge_list(before, value, field.merge_key, field.node.element())?)
            }
            (_, value) => clean(value),
        };
    }
    Ok(original)
}

/// Applies `$retainKeys`: what it does not name goes, and the patch may set nothing else.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let Some(retained) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let wrong = || PatchError::BadRequest("invalid patch format of retainKeys".to_owned());
    let retained: HashSet<&str> =
        retained.as_array().ok_or_else(wrong)?.iter().filter_map(Value::as_str).collect();
    let sets = |name: &str, value: &Value| {
        !value.is_null() && !name.starts_with(DELETE_FROM) && !name.starts_with(SET_ORDER)
    };
    if patch.iter().any(|(name, value)| sets(name, value) && !retained.contains(name.as_str())) {
        return Err(wrong());
    }
    original.retain(|name, _| retained.contains(name.as_str()));
    Ok(())
}

/// Applies each `$setElementOrder/f` together with the patch's list `f`, and takes both off the patch.
fn order_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    node: Node<'_>,
) -> Result<(), PatchError> {
    let directives: Vec<String> =
        patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let order = array(patch.shift_remove(&directive).unwrap_or_default())?;
        let name = named_list(&directive, SET_ORDER).ok_or_else(|| {
            PatchError::BadRequest("invalid patch format of setElementOrder list".to_owned())
        })?;
        let before = original.get(name).cloned().map(array).transpose()?;
        let patched = patch.shift_remove(name).map(array).transpose()?;
        let field = node.field(name);
        let identity = Identity(field.merge_key);
        check_order(patched.as_deref().unwrap_or_default(), &order, identity)?;
        let was = before.clone().unwrap_or_default();
        let merged = match (before, patched) {
            (None, None) => continue,
            (Some(before), None) => before,
            (Some(before), Some(patched)) if field.merges => {
                merge_list(before, patched, field.merge_key, field.node.element())?
            }
            (_, Some(patched)) => clean_list(patched),
        };
        original.insert(name.to_owned(), Value::Array(set_order(merged, &order, &was, identity)?));
    }
    Ok(())
}

/// Applies `$deleteFromPrimitiveList/f`.
fn delete_values(
    original: &mut Map<String, Value>,
    directive: &str,
    values: &Value,
) -> Result<(), PatchError> {
    let wrong = || PatchError::BadRequest("invalid patch format of primitive list".to_owned());
    let name = named_list(directive, DELETE_FROM).ok_or_else(wrong)?;
    let values = values.as_array().ok_or_else(wrong)?;
    if let Some(Value::Array(list)) = original.get_mut(name) {
        *list = delete_from(std::mem::take(list), values);
    }
    Ok(())
}

/// The list that a directive is for: `f` of `$setElementOrder/f`.
fn named_list<'a>(directive: &'a str, prefix: &str) -> Option<&'a str> {
    directive.strip_prefix(prefix)?.strip_prefix('/')
}

fn array(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(elements) => Ok(elements),
        other => {
            let why = format!("expected a []interface {{}}, but received a {}", go_type(&other));
            Err(PatchError::Unmergeable(why))
        }
    }
}

/// A value of the patch where there was none before: without directives, nulls and deletions.
/// The patch's depth was checked.
pub(super) fn clean(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.get(DIRECTIVE).is_some_and(|directive| directive == DELETE) => {
            Value::Object(Map::new())
        }
        Value::Object(fields) => Value::Object(clean_map(fields)),
        Value::Array(elements) => Value::Array(clean_list(elements)),
        other => other,
    }
}

fn clean_map(fields: Map<String, Value>) -> Map<String, Value> {
    let directive = |name: &str| {
        name == DIRECTIVE
            || name == RETAIN_KEYS
            || name.starts_with(SET_ORDER)
            || name.starts_with(DELETE_FROM)
    };
    let kept = fields.into_iter().filter(|(name, value)| !value.is_null() && !directive(name));
    kept.map(|(name, value)| (name, clean(value))).collect()
}

fn clean_list(elements: Vec<Value>) -> Vec<Value> {
    let directs = |element: &Value| {
        element.get(DIRECTIVE).is_some_and(|directive| directive == DELETE || directive == REPLACE)
    };
    elements.into_iter().filter(|element| !directs(element)).map(clean).collect()
}

pub(super) fn unknown_directive(directive: &Value) -> PatchError {
    let directive: String = directive.to_string().chars().take(100).collect();
    PatchError::Unmergeable(format!("unknown patch type: {directive}; $patch is replace, delete or merge"))
}
