//! Server-side apply: who manages which fields, and what becomes of an object when a manager applies what it wants.
//!
//! Follows [server-side apply] of release 1.36. Every writer's fields are told in `metadata.managedFields`; an apply
//! removes what its manager no longer lists and nobody else has, and refuses to change what another manages.
//!
//! [server-side apply]: https://kubernetes.io/docs/reference/using-api/server-side-apply/

use std::sync::LazyLock;

use serde_json::{Map, Value};

use self::check::{Strictness, check};
use self::compare::{Comparison, same};
pub use self::element::{Element, Scalar};
use self::entries::{Entries, Managed, Who, without_managers};
use self::merge::{drop_emptied, merge, remove};
pub use self::set::{DEPTH_MAX, FieldSet, shown};
pub use self::typing::Typing;
use self::typing::{field_set, reconciled, with_named};

mod check;
mod compare;
mod element;
mod entries;
mod last_applied;
mod merge;
#[cfg(test)]
mod recorded;
mod set;
#[cfg(test)]
mod tests;
mod typing;

/// Most bytes of a manager's name.
pub const MANAGER_MAX: usize = 128;

/// Who has what was there before anybody applied, where nobody was told.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What is the server's, and so nobody's.
static UNMANAGED: LazyLock<FieldSet> = LazyLock::new(|| {
    let paths: [&[&str]; 14] = [
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "uid"],
        &["metadata", "resourceVersion"],
        &["metadata", "generation"],
        &["metadata", "creationTimestamp"],
        &["metadata", "deletionTimestamp"],
        &["metadata", "deletionGracePeriodSeconds"],
        &["metadata", "selfLink"],
        &["metadata", "clusterName"],
        &["metadata", "managedFields"],
    ];
    paths.into_iter().collect()
});

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
    /// Others have these fields: 409.
    Conflicts(Vec<Conflict>),
    /// The request is none that can be applied: 400.
    Invalid(String),
    /// What is applied is not of the object's type: 500 without a reason, as the API server answers.
    Untyped(String),
}

/// The sentence of a conflict's Status.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let lines: Vec<String> = conflicts
        .chunk_by(|one, next| one.manager == next.manager)
        .flat_map(|of_one| {
            let head = of_one.first().map(|conflict| format!("conflicts with {}:", conflict.manager));
            head.into_iter().chain(of_one.iter().map(|conflict| format!("- {}", conflict.field)))
        })
        .collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The manager of a write that names none: the user agent up to its first slash, as far as it can be printed, of at most
/// [`MANAGER_MAX`] bytes.
pub fn manager_of(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let mut manager = String::new();
    for char in name.chars().filter(|char| !char.is_control()) {
        if manager.len() + char.len_utf8() > MANAGER_MAX {
            break;
        }
        manager.push(char);
    }
    manager
}

/// The object once what `wanted` lists is applied to it, its `managedFields` told. What changes nothing gives `live`.
///
/// # Errors
/// Others have fields that would change, unless `force`; or `wanted` tells managers, or is not of the type.
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
    let untyped = |which: &str, object: &Value, why: String| {
        ApplyError::Untyped(format!("failed to create typed {which} object ({}): {why}", called(object)))
    };
    check(wanted, typing, Strictness::Applied).map_err(|why| untyped("patch", wanted, why))?;
    let held = live.map_or_else(|| Value::Object(Map::new()), without_managers);
    check(&held, typing, Strictness::Stored).map_err(|why| untyped("live", &held, why))?;

    let told = live.and_then(Entries::of).unwrap_or_default();
    let mut before = told.clone();
    if before.0.is_empty() && live.is_some() {
        let first = Writer { manager: BEFORE_FIRST_APPLY, ..writer };
        let all = Comparison::of(&Value::Object(Map::new()), &held, typing).added;
        before.add_update(first, first.owned(all).difference(&UNMANAGED));
    }
    for managed in before.0.values_mut() {
        managed.fields = reconciled(&managed.fields, typing);
    }

    let apply = Apply { held: &held, wanted, writer, typing };
    let mut done = apply.run(before.clone(), force);
    if let Err(conflicts) = &mut done
        && writer.manager == last_applied::KUBECTL
        && let Some(allowed) = last_applied::unchanged(&held, writer.api_version, typing)
    {
        conflicts.retain(|(_, path)| !allowed.has(path));
        if conflicts.is_empty() {
            done = apply.run(before, true);
        }
    }
    let (mut object, managers) = done.map_err(|conflicts| {
        let conflict = |(who, path): Clash| Conflict { manager: who.shown(), field: shown(&path) };
        ApplyError::Conflicts(conflicts.into_iter().map(conflict).collect())
    })?;
    if writer.manager == last_applied::KUBECTL {
        last_applied::tell(&mut object, wanted);
    }
    match live {
        Some(live) if managers == told && same(&object, &held) => Ok(live.clone()),
        _ => Ok(managers.told_in(object)),
    }
}

/// The object with its managers told of what a write other than an apply changed.
///
/// A `managedFields` that was sent counts, other than through a subresource: an empty one ends that fields are managed until
/// somebody applies, and one that cannot be read is passed over. An object that has no managers gets none by updates.
pub fn update(live: Option<&Value>, object: Value, writer: Writer<'_>, typing: Typing<'_>) -> Value {
    let stored = || live.and_then(Entries::of).unwrap_or_default();
    let mut managers = if writer.subresource.is_some() {
        stored()
    } else if Entries::are_reset(&object) {
        Entries::default()
    } else {
        Entries::of(&object).filter(|sent| !sent.0.is_empty()).unwrap_or_else(stored)
    };
    let object = without_managers(&object);
    if managers.0.is_empty() && live.is_some() {
        return object;
    }
    for managed in managers.0.values_mut() {
        managed.fields = reconciled(&managed.fields, typing);
    }
    let held = live.map_or_else(|| Value::Object(Map::new()), without_managers);
    let changes = Changes::of(Comparison::of(&held, &object, typing), writer);
    // The writer's own entry too: what it changed comes back to it below.
    managers.take(&changes);
    let changed = changes.set.difference(&UNMANAGED);
    // What only removes tells nothing new of its writer.
    managers.add_update(writer, changed);
    managers.cap();
    managers.told_in(object)
}

/// Whether a write leaves an object as it is, but for the times at which managers wrote: then nothing is to be stored.
pub fn is_unchanged(live: &Value, object: &Value) -> bool {
    let entries = |object: &Value| {
        let mut entries = object.pointer("/metadata/managedFields").cloned().unwrap_or_default();
        for entry in entries.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries
    };
    entries(live) == entries(object) && same(&without_managers(live), &without_managers(object))
}

/// A field that one manager has and another's apply would change.
type Clash = (Who, Vec<Element>);

/// What a write changes, as far as it may.
struct Changes {
    /// What it adds or modifies.
    set: FieldSet,
    removed: FieldSet,
}

impl Changes {
    fn of(changes: Comparison, writer: Writer<'_>) -> Self {
        Self {
            set: writer.owned(changes.modified.union(&changes.added)),
            removed: writer.owned(changes.removed),
        }
    }
}

impl Writer<'_> {
    fn part(&self) -> &str {
        self.subresource.unwrap_or_default()
    }

    /// What of a set this write reaches: the status, or all but the status where that is apart.
    fn owned(&self, set: FieldSet) -> FieldSet {
        let status = Element::field("status");
        match self.subresource {
            Some("status") => set.only(|element| *element == status),
            _ if self.status_apart => set.only(|element| *element != status),
            _ => set,
        }
    }
}

impl Entries {
    /// Adds to what a writer's updates changed. Nothing changes nothing, not even its time.
    fn add_update(&mut self, writer: Writer<'_>, fields: FieldSet) {
        if fields.is_empty() {
            return;
        }
        let who = Who::updating(writer.manager, writer.api_version, writer.part());
        let had = self.0.remove(&who).map(|managed| managed.fields).unwrap_or_default();
        let (api_version, time) = (writer.api_version.to_owned(), Some(writer.now.to_owned()));
        self.0.insert(who, Managed { fields: had.union(&fields), api_version, time });
    }

    /// What of their fields is changed.
    fn conflicts(&self, changes: &Changes) -> Vec<Clash> {
        let of_one = |(who, managed): (&Who, &Managed)| -> Vec<Clash> {
            let paths = managed.fields.intersection(&changes.set).paths();
            paths.into_iter().map(|path| (who.clone(), path)).collect()
        };
        self.0.iter().flat_map(of_one).collect()
    }

    /// Takes from all what is changed or removed.
    fn take(&mut self, changes: &Changes) {
        for managed in self.0.values_mut() {
            managed.fields = managed.fields.difference(&changes.set).difference(&changes.removed);
        }
        self.drop_empty();
    }
}

/// An apply under way.
struct Apply<'a> {
    /// The object as it is, without its managers.
    held: &'a Value,
    wanted: &'a Value,
    writer: Writer<'a>,
    typing: Typing<'a>,
}

impl Apply<'_> {
    /// The object and its managers afterwards, or which of whose fields would change.
    fn run(&self, mut managers: Entries, force: bool) -> Result<(Value, Entries), Vec<Clash>> {
        let (writer, typing) = (self.writer, self.typing);
        let who = Who::applying(writer.manager, writer.part());
        let set = writer.owned(field_set(self.wanted, typing));
        let merged = merge(self.held, self.wanted, typing);
        let before = managers.0.remove(&who);
        let gone = match &before {
            Some(before) => self.let_go(&merged, &before.fields, managers.all_fields().union(&set)),
            None => FieldSet::default(),
        };
        let mut object = if gone.is_empty() { merged } else { remove(&merged, &gone, typing) };
        let changes = Changes::of(Comparison::of(self.held, &object, typing), writer);
        if !force {
            let conflicts = managers.conflicts(&changes);
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        managers.take(&changes);
        drop_emptied(&mut object, &gone, typing);
        if !object.is_object() {
            object = Value::Object(Map::new());
        }
        // What changes only who manages is of no time.
        let time = if same(self.held, &object) {
            before.and_then(|before| before.time)
        } else {
            Some(writer.now.to_owned())
        };
        let fields = set.difference(&UNMANAGED);
        managers.0.insert(who, Managed { fields, api_version: writer.api_version.to_owned(), time });
        managers.drop_empty();
        Ok((object, managers))
    }

    /// What is to be removed: what the manager applied before, and nobody has any more, this apply included.
    fn let_go(&self, merged: &Value, before: &FieldSet, kept: FieldSet) -> FieldSet {
        let typing = self.typing;
        let all = |value: &Value| with_named(&field_set(value, typing), typing);
        let (before, had) = (with_named(before, typing), all(merged));
        let mut kept = with_named(&kept, typing);
        // An object has its metadata whoever lists what of it.
        kept.insert(&[Element::field("metadata")]);
        let left = all(&remove(merged, &before, typing)).union(&kept);
        let left = all(&remove(merged, &had.difference(&left), typing));
        had.difference(&left).intersection(&before)
    }
}

/// An object, as the API server's errors name it: `default/a; example.com/v1, Kind=Widget`.
fn called(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let (namespace, name, kind) = (text("/metadata/namespace"), text("/metadata/name"), text("/kind"));
    format!("{namespace}/{name}; {group}/{version}, Kind={kind}")
}
