//! Several files as one: maps merge, everything else may be set only once.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::ConfigError;
use super::path::{self, Step};
use super::tree::{Entry, Kind, Node};

/// Merges `later` into `earlier`; what is wrong is added to `errors`, the earlier value is kept.
///
/// A key without a value (`routes:`) sets nothing. Keys stay in order, the earlier file's first.
pub(crate) fn merge(earlier: &Arc<Node>, later: &Arc<Node>, errors: &mut Vec<ConfigError>) -> Arc<Node> {
    let mut path = Vec::new();
    merge_at(earlier, later, None, &mut path, errors)
}

fn merge_at(
    earlier: &Arc<Node>,
    later: &Arc<Node>,
    keys: Option<(&Entry, &Entry)>,
    path: &mut Vec<Step>,
    errors: &mut Vec<ConfigError>,
) -> Arc<Node> {
    match (&earlier.kind, &later.kind) {
        (Kind::Map(ours), Kind::Map(theirs)) => {
            let entries = merge_entries(ours, theirs, path, errors);
            Arc::new(Node::new(earlier.place.clone(), Kind::Map(entries)))
        }
        (_, Kind::Null) => Arc::clone(earlier),
        (Kind::Null, _) => Arc::clone(later),
        _ => {
            let (first, second) =
                keys.map_or((&earlier.place, &later.place), |(a, b)| (&a.place, &b.place));
            let mut text = String::new();
            for step in path.iter() {
                path::push(&mut text, step);
            }
            let hint = format!("the first is at {}; files merge by maps only, keep one", first.text());
            errors.push(second.error(text, "is set in two files", Some(hint)));
            Arc::clone(earlier)
        }
    }
}

fn merge_entries(
    ours: &[Entry],
    theirs: &[Entry],
    path: &mut Vec<Step>,
    errors: &mut Vec<ConfigError>,
) -> Vec<Entry> {
    let mut entries = ours.to_vec();
    let positions: HashMap<&str, usize> =
        ours.iter().enumerate().map(|(at, entry)| (entry.key.as_str(), at)).collect();
    for their in theirs {
        let slot = positions.get(their.key.as_str()).and_then(|&at| entries.get_mut(at));
        let Some(slot) = slot else {
            entries.push(their.clone());
            continue;
        };
        path.push(Step::Key(their.key.clone()));
        slot.value = merge_at(&slot.value, &their.value, Some((slot, their)), path, errors);
        path.pop();
    }
    entries
}
