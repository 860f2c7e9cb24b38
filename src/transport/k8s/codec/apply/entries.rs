//! The managers of an object's fields, as `metadata.managedFields` tells them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::FieldSet;

/// Most managers that have updated; the oldest beyond are put together.
pub(super) const UPDATERS_MAX: usize = 10;
/// What the oldest are called then.
pub(super) const ANCIENT: &str = "ancient-changes";

/// Who an entry is about. In the order in which conflicts are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) manager: String,
    /// Whether it is about updates; about applies else.
    pub(super) updates: bool,
    /// The version of updates. Applies in another version are still those of the same manager, so theirs is not here.
    pub(super) api_version: Option<String>,
    pub(super) subresource: String,
}

/// What an entry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Managed {
    pub(super) fields: FieldSet,
    /// In which version the fields are told.
    pub(super) api_version: String,
    /// RFC 3339.
    pub(super) time: Option<String>,
}

/// All entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries(pub(super) BTreeMap<Who, Managed>);

impl Who {
    /// The one whose updates are told in a version.
    pub(super) fn updating(manager: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            updates: true,
            api_version: Some(api_version.to_owned()),
            subresource: subresource.to_owned(),
        }
    }

    /// The one whose applies are told.
    pub(super) fn applying(manager: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            updates: false,
            api_version: None,
            subresource: subresource.to_owned(),
        }
    }

    /// As messages name it: `"m1"`, `"kubectl-edit" using example.com/v1`.
    pub(super) fn shown(&self) -> String {
        let mut name = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            name = format!("{name} with subresource {:?}", self.subresource);
        }
        match &self.api_version {
            Some(api_version) => format!("{name} using {api_version}"),
            None => name,
        }
    }
}

impl Entries {
    /// The managers an object tells of. `None` where an entry is none: then it tells of nobody.
    pub(super) fn of(object: &Value) -> Option<Self> {
        match object.pointer("/metadata/managedFields") {
            None | Some(Value::Null) => Some(Self::default()),
            Some(entries) => entries.as_array()?.iter().map(read).collect::<Option<_>>().map(Self),
        }
    }

    /// Whether an object asks for nobody to manage it from now on: by a list with nothing in it.
    pub(super) fn are_reset(object: &Value) -> bool {
        let said = |value: &Value| !(value.is_null() || value.as_str() == Some(""));
        match object.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => true,
            Some([only]) => only.as_object().is_some_and(|entry| !entry.values().any(said)),
            _ => false,
        }
    }

    /// What somebody manages.
    pub(super) fn all_fields(&self) -> FieldSet {
        self.0.values().fold(FieldSet::default(), |all, managed| all.union(&managed.fields))
    }

    /// Drops who manages nothing.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, managed| !managed.fields.is_empty());
    }

    /// Puts the oldest updates of each version together where there are too many of them.
    pub(super) fn cap(&mut self) {
        let mut updates: Vec<(Option<String>, Who)> = self
            .0
            .iter()
            .filter(|(who, _)| who.updates)
            .map(|(who, managed)| (managed.time.clone(), who.clone()))
            .collect();
        let mut count = updates.len();
        updates.sort();
        // A version's oldest stays what it is until there is a second to put it together with.
        let mut oldest: BTreeMap<String, Who> = BTreeMap::new();
        for (time, who) in updates {
            if count <= UPDATERS_MAX {
                return;
            }
            let Some(api_version) = self.0.get(&who).map(|managed| managed.api_version.clone()) else {
                continue;
            };
            let Some(first) = oldest.get(&api_version).cloned() else {
                oldest.insert(api_version, who);
                continue;
            };
            let ancient = Who::updating(ANCIENT, &api_version, "");
            if !self.0.contains_key(&ancient)
                && let Some(managed) = self.0.remove(&first)
            {
                self.0.insert(ancient.clone(), managed);
            }
            if who != ancient
                && let Some(managed) = self.0.remove(&who)
            {
                if let Some(all) = self.0.get_mut(&ancient) {
                    all.fields = std::mem::take(&mut all.fields).union(&managed.fields);
                    all.time = time;
                }
                count -= 1;
            }
        }
    }

    /// The object with these managers told in it.
    pub(super) fn told_in(&self, mut object: Value) -> Value {
        let mut entries: Vec<(&Who, &Managed)> = self.0.iter().collect();
        entries.sort_by_key(|(who, managed)| {
            (who.updates, &managed.time, &who.manager, &managed.api_version, &who.subresource)
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
}

/// The object without its managers.
pub(super) fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn read(entry: &Value) -> Option<(Who, Managed)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("apiVersion");
    if api_version.is_empty() || text("fieldsType") != "FieldsV1" {
        return None;
    }
    let who = match text("operation") {
        "Apply" => Who::applying(text("manager"), text("subresource")),
        "Update" => Who::updating(text("manager"), api_version, text("subresource")),
        _ => return None,
    };
    let fields = FieldSet::decode(entry.get("fieldsV1").unwrap_or(&Value::Null));
    let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
    Some((who, Managed { fields, api_version: api_version.to_owned(), time }))
}

fn entry(who: &Who, managed: &Managed) -> Value {
    let mut entry = Map::new();
    entry.insert("apiVersion".to_owned(), json!(managed.api_version));
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
