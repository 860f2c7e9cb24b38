//! Pruning: fields a schema does not name are removed, and told of in the strict decoder's words.

use serde_json::{Map, Value};

use super::DEPTH_MAX;
use super::error::ERRORS_MAX;
use super::meta;
use super::node::{Additional, Node};

/// Prunes an object; its `apiVersion` and `kind` stay, its metadata is pruned to `ObjectMeta`.
pub(super) fn prune(root: &Node, object: &mut Value) -> Vec<String> {
    let mut pruning = Pruning { removed: Vec::new() };
    pruning.value(Some(root), object, "", true, 0);
    pruning.finish()
}

/// Prunes a value that is no object of its own.
pub(super) fn prune_value(node: &Node, value: &mut Value) -> Vec<String> {
    let mut pruning = Pruning { removed: Vec::new() };
    pruning.value(Some(node), value, "", false, 0);
    pruning.finish()
}

struct Pruning {
    removed: Vec<String>,
}

impl Pruning {
    fn finish(mut self) -> Vec<String> {
        self.removed.sort();
        self.removed
    }

    fn note(&mut self, path: String) {
        if self.removed.len() < ERRORS_MAX {
            self.removed.push(path);
        }
    }

    /// Without a node nothing is known, so nothing stays in an object.
    fn value(&mut self, node: Option<&Node>, value: &mut Value, path: &str, root: bool, depth: usize) {
        if depth > DEPTH_MAX {
            // Deeper than any schema reaches: nothing of it is known.
            *value = Value::Null;
            return self.note(path.to_owned());
        }
        match value {
            Value::Object(map) => self.object(node, map, path, root, depth),
            Value::Array(list) => {
                if node.is_some_and(|node| node.preserve_unknown && node.items.is_none()) {
                    return;
                }
                let items = node.and_then(|node| node.items.as_deref());
                // A list of unknown things that are kept keeps what is in them.
                for (at, item) in list.iter_mut().enumerate() {
                    self.value(items, item, &format!("{path}[{at}]"), false, depth.saturating_add(1));
                }
            }
            _ => {}
        }
    }

    fn object(
        &mut self,
        node: Option<&Node>,
        map: &mut Map<String, Value>,
        path: &str,
        root: bool,
        depth: usize,
    ) {
        let own_meta = root || node.is_some_and(|node| node.embedded);
        let keeps = node.is_some_and(|node| node.preserve_unknown);
        map.retain(|name, value| {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let below = depth.saturating_add(1);
            match name.as_str() {
                "apiVersion" | "kind" if own_meta => return true,
                "metadata" if own_meta => {
                    self.value(Some(meta::node()), value, &at, false, below);
                    return true;
                }
                _ => {}
            }
            let inner = node.and_then(|node| match (node.properties.get(name), &node.additional) {
                (Some(property), _) => Some(Some(property)),
                (None, Additional::Each(each)) => Some(Some(each.as_ref())),
                (None, Additional::Any) => Some(None),
                (None, Additional::None | Additional::Unsaid) => None,
            });
            match inner {
                Some(Some(inner)) => self.value(Some(inner), value, &at, false, below),
                // Of anything that may be there only plain values are known.
                None | Some(None) if keeps => {}
                Some(None) => self.value(None, value, &at, false, below),
                None => {
                    self.note(at);
                    return false;
                }
            }
            true
        });
    }
}
