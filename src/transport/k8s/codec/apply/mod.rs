//! Server-side apply: who manages which fields, and what becomes of an object when a manager applies what it wants.
//!
//! Follows [server-side apply] of release 1.36. Every writer's fields are told in `metadata.managedFields`; an apply
//! removes what its manager no longer lists and nobody else has, and refuses to change what another manages.
//!
//! [server-side apply]: https://kubernetes.io/docs/reference/using-api/server-side-apply/

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::set::shown;
pub use self::set::{DEPTH_MAX, Element, FieldSet};
pub use self::typing::Typing;
use self::typing::{Comparison, field_set, merge, prune};

mod set;
#[cfg(test)]
mod tests;
mod typing;

/// Most managers that have updated; the oldest beyond are put together.
const UPDATERS_MAX: usize = 10;
/// What the oldest are called then.
const ANCIENT: &str = "ancient-changes";
/// Metadata that is the server's, and so nobody's.
const UNMANAGED: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "clusterName",
    "managedFields",
    "continue",
];

/// A write, as far as it concerns who manages what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// In which version the object is written.
    pub api_version: &'a str,
    /// `status`, or none.
    pub subresource: Option<&'a str>,
    /// Whether the status is written apart, so that other writes do not touch it.
    pub status_apart: bool,
    /// Now, RFC 3339.
    pub now: &'a str,
}

/// A field that another manager has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, as messages name it.
    pub manager: String,
    /// The field's path.
    pub field: String,
}

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Others have these fields.
    Conflicts(Vec<Conflict>),
    /// What is applied cannot be read.
    Invalid(String),
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Managed {
    fields: FieldSet,
    time: Option<String>,
}

/// Who an entry is about. In the order in which entries stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    /// Applies come before updates.
    updates: bool,
    manager: String,
    api_version: String,
    subresource: String,
}

type Entries = BTreeMap<Who, Managed>;

/// The sentence of a conflict's Status.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by.entry(&conflict.manager).or_default().push(&conflict.field);
    }
    let lines = by.into_iter().flat_map(|(manager, fields)| {
        std::iter::once(format!("conflicts with {manager}:"))
            .chain(fields.into_iter().map(|field| format!("- {field}")))
    });
    let lines: Vec<String> = lines.collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The object once what `wanted` lists is applied to it, its `managedFields` told. What changes nothing gives `live`.
///
/// # Errors
/// Others have fields that would change, unless `force`; or what is applied cannot be read.
pub fn apply(
    live: Option<&Value>,
    wanted: &Value,
    writer: Writer<'_>,
    force: bool,
    typing: Typing<'_>,
) -> Result<Value, ApplyError> {
    if wanted.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
    }
    let invalid = |why: String| ApplyError::Invalid(format!("failed to create typed patch object: {why}"));
    let empty = json!({});
    let held = live.map_or_else(|| empty.clone(), without_managers);
    let mut managers = live.map(managers_of).unwrap_or_default();
    let set = writer.managed(field_set(wanted, typing).map_err(invalid)?);
    let merged = merge(&held, wanted, typing, 0).map_err(invalid)?;

    let who = writer.who(false);
    let before = managers.remove(&who);
    let others = managers.values().fold(FieldSet::default(), |all, managed| all.union(&managed.fields));
    let mut result = merged;
    if let Some(before) = &before {
        let gone = going(&before.fields.difference(&set), &set, &others);
        prune(&mut result, &gone, typing, 0);
    }
    let changes = Comparison::of(&held, &result, typing);
    let changed = writer.managed(changes.modified.clone().union(&changes.added));
    settle(&mut managers, &changed, &changes.removed, force).map_err(ApplyError::Conflicts)?;

    let same = before.as_ref().is_some_and(|before| before.fields == set) && changes.is_same();
    if let (true, Some(live)) = (same, live) {
        return Ok(live.clone());
    }
    if !set.is_empty() {
        managers.insert(who, Managed { fields: set, time: Some(writer.now.to_owned()) });
    }
    Ok(with_managers(result, &managers))
}

/// The object with its managers told of what a write other than an apply changed.
pub fn update(live: Option<&Value>, object: Value, writer: Writer<'_>, typing: Typing<'_>) -> Value {
    let sent = object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned();
    let was = live.map(managers_of).unwrap_or_default();
    // An empty list, or one with nothing in it, begins anew; else what was sent stands, where it can be read.
    let resets = sent.as_ref().is_some_and(|sent| {
        sent.is_empty() || sent.iter().all(|entry| entry.as_object().is_some_and(Map::is_empty))
    });
    let mut managers = match &sent {
        Some(_) if resets => Entries::new(),
        Some(_) if live.is_some() => managers_of(&object),
        _ => was.clone(),
    };
    let empty = json!({});
    let held = live.map_or(empty, without_managers);
    let object = without_managers(&object);
    let changes = Comparison::of(&held, &object, typing);
    if changes.is_same() && managers == was {
        return with_managers(object, &managers);
    }
    let changed = writer.managed(changes.modified.clone().union(&changes.added));
    let who = writer.who(true);
    let own = managers.remove(&who);
    // It takes what it changes: an update never conflicts.
    let taken = settle(&mut managers, &changed, &changes.removed, true);
    debug_assert!(taken.is_ok(), "forced");
    let had = own.as_ref().map(|own| own.fields.clone()).unwrap_or_default();
    let fields = had.difference(&changes.removed).union(&changed);
    if !fields.is_empty() {
        let time =
            if changes.is_same() { own.and_then(|own| own.time) } else { Some(writer.now.to_owned()) };
        managers.insert(who, Managed { fields, time });
    }
    if resets && live.is_some() {
        managers.clear();
    }
    cap(&mut managers);
    with_managers(object, &managers)
}

impl Writer<'_> {
    fn who(&self, updates: bool) -> Who {
        Who {
            updates,
            manager: self.manager.to_owned(),
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.unwrap_or_default().to_owned(),
        }
    }

    /// What of a set can be managed by this write.
    fn managed(&self, set: FieldSet) -> FieldSet {
        let field = |name: &str| Element::Field(name.to_owned());
        let mut set = set;
        for name in ["apiVersion", "kind"] {
            set.cut(&[field(name)]);
        }
        set.remove(&[field("metadata")]);
        for name in UNMANAGED {
            set.cut(&[field("metadata"), field(name)]);
        }
        match self.subresource {
            Some("status") => set.only(|element| *element == field("status")),
            _ if self.status_apart => set.only(|element| *element != field("status")),
            _ => set,
        }
    }
}

/// What of the fields a manager lets go is to be removed: what nobody else has, nor anything below it.
fn going(let_go: &FieldSet, kept: &FieldSet, others: &FieldSet) -> FieldSet {
    let mut gone = FieldSet::default();
    for path in let_go.paths() {
        if !others.has_at_or_below(&path) && !kept.has_at_or_below(&path) {
            gone.insert(&path);
        }
    }
    gone
}

/// Takes from all managers what was removed, and what was changed where they may lose it.
fn settle(
    managers: &mut Entries,
    changed: &FieldSet,
    removed: &FieldSet,
    force: bool,
) -> Result<(), Vec<Conflict>> {
    let mut conflicts = Vec::new();
    for (who, managed) in managers.iter() {
        let lost = managed.fields.intersection(changed);
        conflicts.extend(
            lost.paths().into_iter().map(|path| Conflict {
                manager: name_of(who, managed.time.as_deref()),
                field: shown(&path),
            }),
        );
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    for managed in managers.values_mut() {
        managed.fields = managed.fields.difference(changed).difference(removed);
    }
    managers.retain(|_, managed| !managed.fields.is_empty());
    Ok(())
}

/// A manager as messages name it: `"m1"`, `"kubectl" using example.com/v1`.
fn name_of(who: &Who, time: Option<&str>) -> String {
    let mut name = format!("{:?}", who.manager);
    if !who.subresource.is_empty() {
        name = format!("{name} with subresource {:?}", who.subresource);
    }
    if !who.updates {
        return name;
    }
    match time {
        Some(time) => format!("{name} using {} at {time}", who.api_version),
        None => format!("{name} using {}", who.api_version),
    }
}

/// Puts the oldest updates together where there are too many of them.
fn cap(managers: &mut Entries) {
    let mut updates: Vec<(Option<String>, Who)> = managers
        .iter()
        .filter(|(who, _)| who.updates)
        .map(|(who, managed)| (managed.time.clone(), who.clone()))
        .collect();
    if updates.len() <= UPDATERS_MAX {
        return;
    }
    updates.sort();
    let surplus = updates.len() - UPDATERS_MAX + 1;
    let mut ancient: BTreeMap<String, Managed> = BTreeMap::new();
    for (_, who) in updates.into_iter().take(surplus) {
        if let Some(managed) = managers.remove(&who) {
            let all = ancient
                .entry(who.api_version)
                .or_insert_with(|| Managed { fields: FieldSet::default(), time: managed.time.clone() });
            all.fields = std::mem::take(&mut all.fields).union(&managed.fields);
            all.time = managed.time.max(all.time.take());
        }
    }
    for (api_version, managed) in ancient {
        let manager = ANCIENT.to_owned();
        managers.insert(Who { updates: true, manager, api_version, subresource: String::new() }, managed);
    }
}

fn managers_of(object: &Value) -> Entries {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let read = |entry: &Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let who = Who {
            updates: text("operation") != "Apply",
            manager: text("manager"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        };
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        (who, Managed { fields: FieldSet::decode(entry.get("fieldsV1").unwrap_or(&Value::Null)), time })
    };
    entries.into_iter().flatten().map(read).collect()
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn with_managers(mut object: Value, managers: &Entries) -> Value {
    let mut entries: Vec<(&Who, &Managed)> = managers.iter().collect();
    entries.sort_by_key(|(who, managed)| {
        (who.updates, managed.time.clone(), &who.manager, &who.api_version, &who.subresource)
    });
    let entries: Vec<Value> = entries.into_iter().map(|(who, managed)| entry(who, managed)).collect();
    let metadata =
        object.as_object_mut().map(|object| object.entry("metadata").or_insert_with(|| json!({})));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }
    object
}

fn entry(who: &Who, managed: &Managed) -> Value {
    let mut entry = Map::new();
    entry.insert("apiVersion".to_owned(), json!(who.api_version));
    entry.insert("fieldsType".to_owned(), json!("FieldsV1"));
    entry.insert("fieldsV1".to_owned(), managed.fields.encode());
    entry.insert("manager".to_owned(), json!(who.manager));
    entry.insert("operation".to_owned(), json!(if who.updates { "Update" } else { "Apply" }));
    if !who.subresource.is_empty() {
        entry.insert("subresource".to_owned(), json!(who.subresource));
    }
    if let Some(time) = &managed.time {
        entry.insert("time".to_owned(), json!(time));
    }
    Value::Object(entry)
}
