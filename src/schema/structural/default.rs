//! Defaulting: what is missing is set, what is null and may not be goes.

use serde_json::Value;

use super::node::{Additional, Node};

/// Sets the defaults of a value and of all within it.
pub(super) fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                if map.get(name).is_none_or(|value| value.is_null() && !property.nullable) {
                    map.insert(name.clone(), default.clone());
                }
            }
            let each = match &node.additional {
                Additional::Each(each) => Some(each.as_ref()),
                _ => None,
            };
            map.retain(|name, value| {
                let Some(inner) = node.properties.get(name).or(each) else { return true };
                if value.is_null() && !inner.nullable {
                    // A null where none may be is as good as nothing.
                    match &inner.default {
                        Some(default) => *value = default.clone(),
                        None => return !is_typed(inner),
                    }
                }
                default_inner(inner, value);
                true
            });
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for item in list {
                if let (true, false, Some(default)) = (item.is_null(), items.nullable, &items.default) {
                    *item = default.clone();
                }
                default_inner(items, item);
            }
        }
        _ => {}
    }
}

/// Each step down consumes a level of the schema, whose depth is bounded.
fn default_inner(node: &Node, value: &mut Value) {
    default(node, value);
}

/// A node without a type keeps whatever is there.
fn is_typed(node: &Node) -> bool {
    node.kind.is_some() || node.int_or_string
}
