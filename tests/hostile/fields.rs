//! Who owns which field: `metadata.managedFields`, and server-side apply on top of it.
//!
//! Maps are granular and lists are atomic, as a server does for kinds without a schema. Entries name no `.` members.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::status::Refusal;
use super::store::now;

/// The names on the way to a field.
type Path = Vec<String>;

/// Who writes, and by which way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Author {
    /// The field manager.
    pub(crate) name: String,
    /// `Apply` or `Update`.
    pub(crate) operation: &'static str,
    /// `None`, or `status`.
    pub(crate) subresource: Option<String>,
    /// The API version written in.
    pub(crate) api_version: String,
}

#[derive(Debug, Clone)]
struct Entry {
    manager: String,
    operation: String,
    subresource: Option<String>,
    api_version: String,
    time: String,
    paths: BTreeSet<Path>,
}

/// Deepest field that has an owner of its own.
const DEPTH_MAX: usize = 64;
/// Metadata that has no owner.
const UNOWNED: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Notes on `new` that `author` made the difference from `old`.
pub(crate) fn own_changes(old: Option<&Value>, new: &mut Value, author: &Author) {
    let mut entries = old.map(entries_of).unwrap_or_default();
    let after = leaves(new);
    let changed: BTreeSet<Path> =
        after.iter().filter(|path| old.is_none_or(|old| at(old, path) != at(new, path))).cloned().collect();
    for entry in &mut entries {
        let mine = entry.is_of(author);
        entry.paths.retain(|path| after.contains(path) && (mine || !changed.contains(path)));
    }
    if !changed.is_empty() {
        entry_of(&mut entries, author).paths.extend(changed);
    }
    store(new, entries);
}

/// `live` with `applied` laid over it by `author`, or the conflicts.
pub(crate) fn apply(
    live: Option<&Value>,
    applied: &Value,
    author: &Author,
    force: bool,
) -> Result<Value, Refusal> {
    let mut new = live.cloned().unwrap_or_else(|| {
        json!({"apiVersion": applied["apiVersion"], "kind": applied["kind"], "metadata": applied["metadata"]})
    });
    let mut entries = live.map(entries_of).unwrap_or_default();
    let wanted = leaves(applied);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is_of(author)) {
        let differs = |path: &Path| at(&new, path) != at(applied, path);
        let taken: Vec<Path> =
            entry.paths.iter().filter(|path| wanted.contains(*path) && differs(path)).cloned().collect();
        if force {
            entry.paths.retain(|path| !taken.contains(path));
        } else {
            conflicts.extend(taken.iter().map(|path| (entry.title(), format!(".{}", path.join(".")))));
        }
    }
    if !conflicts.is_empty() {
        return Err(Refusal::conflicts(&conflicts));
    }
    let given_up: Vec<Path> = entries
        .iter()
        .filter(|entry| entry.is_of(author))
        .flat_map(|entry| entry.paths.difference(&wanted).cloned())
        .collect();
    for path in given_up {
        let kept = entries.iter().any(|entry| !entry.is_of(author) && entry.paths.contains(&path));
        if !kept {
            remove(&mut new, &path);
        }
    }
    for path in &wanted {
        set(&mut new, path, at(applied, path).cloned().unwrap_or_default());
    }
    let present = leaves(&new);
    for entry in &mut entries {
        entry.paths.retain(|path| present.contains(path));
    }
    entry_of(&mut entries, author).paths = wanted;
    store(&mut new, entries);
    Ok(new)
}

impl Entry {
    fn is_of(&self, author: &Author) -> bool {
        self.manager == author.name
            && self.operation == author.operation
            && self.subresource == author.subresource
    }

    /// As a conflict names it.
    fn title(&self) -> String {
        let mut title = format!("\"{}\"", self.manager);
        if let Some(subresource) = &self.subresource {
            title = format!("{title} with subresource \"{subresource}\"");
        }
        if self.operation == "Update" {
            title = format!("{title} using {} at {}", self.api_version, self.time);
        }
        title
    }
}

fn entry_of<'a>(entries: &'a mut Vec<Entry>, author: &Author) -> &'a mut Entry {
    let found = entries.iter().position(|entry| entry.is_of(author)).unwrap_or_else(|| {
        entries.push(Entry {
            manager: author.name.clone(),
            operation: author.operation.to_owned(),
            subresource: author.subresource.clone(),
            api_version: author.api_version.clone(),
            time: now(),
            paths: BTreeSet::new(),
        });
        entries.len() - 1
    });
    &mut entries[found]
}

fn entries_of(object: &Value) -> Vec<Entry> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let read = |entry: &Value| {
        let mut paths = BTreeSet::new();
        read_paths(&entry["fieldsV1"], &mut Vec::new(), &mut paths);
        Entry {
            manager: text(entry, "manager"),
            operation: text(entry, "operation"),
            subresource: entry["subresource"].as_str().map(str::to_owned),
            api_version: text(entry, "apiVersion"),
            time: text(entry, "time"),
            paths,
        }
    };
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(read).collect()
}

fn read_paths(fields: &Value, path: &mut Path, into: &mut BTreeSet<Path>) {
    let Some(fields) = fields.as_object() else { return };
    if fields.is_empty() && !path.is_empty() {
        into.insert(path.clone());
    }
    for (name, below) in fields {
        if let Some(name) = name.strip_prefix("f:")
            && path.len() < DEPTH_MAX
        {
            path.push(name.to_owned());
            read_paths(below, path, into);
            path.pop();
        }
    }
}

/// Writes the entries back. The time of an entry moves only when its fields do.
fn store(object: &mut Value, entries: Vec<Entry>) {
    let before = entries_of(object);
    let write = |mut entry: Entry| {
        let same = |old: &&Entry| old.manager == entry.manager && old.operation == entry.operation;
        if before.iter().find(same).is_some_and(|old| old.paths != entry.paths) {
            entry.time = now();
        }
        let mut fields = json!({});
        for path in &entry.paths {
            let mut node = &mut fields;
            for name in path {
                node = &mut node[format!("f:{name}")];
            }
            if node.is_null() {
                *node = json!({});
            }
        }
        let mut written = json!({
            "apiVersion": entry.api_version, "fieldsType": "FieldsV1", "fieldsV1": fields,
            "manager": entry.manager, "operation": entry.operation, "time": entry.time,
        });
        if let Some(subresource) = entry.subresource {
            written["subresource"] = subresource.into();
        }
        written
    };
    let written: Vec<Value> =
        entries.into_iter().filter(|entry| !entry.paths.is_empty()).map(write).collect();
    if written.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove("managedFields");
        }
    } else {
        object["metadata"]["managedFields"] = written.into();
    }
}

/// The fields of an object that can be owned.
fn leaves(object: &Value) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let owned = |(name, _): &(&String, &Value)| !UNOWNED.contains(&name.as_str());
                for (name, value) in value.as_object().into_iter().flatten().filter(owned) {
                    collect(value, &mut vec!["metadata".to_owned(), name.clone()], &mut found);
                }
            }
            _ if is_default(object, value) => {}
            "involvedObject" | "related" if object["kind"] == "Event" => {
                found.insert(vec![name.clone()]);
            }
            _ => collect(value, &mut vec![name.clone()], &mut found),
        }
    }
    found
}

/// What a server fills in of an Event is nobody's.
fn is_default(object: &Value, value: &Value) -> bool {
    let empty = value.is_null() || *value == json!({}) || value == "";
    object["kind"] == "Event" && empty
}

fn collect(value: &Value, path: &mut Path, into: &mut BTreeSet<Path>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() && path.len() < DEPTH_MAX => {
            for (name, value) in fields {
                path.push(name.clone());
                collect(value, path, into);
                path.pop();
            }
        }
        _ => {
            into.insert(path.clone());
        }
    }
}

fn at<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn set(object: &mut Value, path: &Path, value: Value) {
    let mut node = object;
    for name in path {
        if !node.is_object() {
            *node = Value::Object(Map::new());
        }
        node = &mut node[name];
    }
    *node = value;
}

/// Removes a field, and the maps that are empty without it.
fn remove(object: &mut Value, path: &Path) {
    for length in (1..=path.len()).rev() {
        let (last, parents) = (&path[length - 1], &path[..length - 1]);
        let parent = parents.iter().try_fold(&mut *object, |value, name| value.get_mut(name));
        let Some(fields) = parent.and_then(Value::as_object_mut) else { return };
        let empty = fields.get(last).is_some_and(|value| value.as_object().is_some_and(Map::is_empty));
        if length == path.len() || empty {
            fields.shift_remove(last);
        } else {
            return;
        }
    }
}
