//! Pages of a list and lines of a watch as rows: by the server's own columns where it makes tables, else by name and
//! age.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::item::age;
use crate::core::Timestamp;
use crate::transport::k8s::client::discovery::Resource;

/// Asks for rows by the server's columns, and takes objects where it makes none.
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
pub(super) const JSON: &str = "application/json";

/// Which object: namespace and name.
pub(super) type Name = (String, String);

/// One object, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) name: Name,
    /// Its `resourceVersion`.
    pub(super) version: String,
    /// A cell for each of the columns; empty where the object itself is shown.
    pub(super) cells: Vec<String>,
    /// Where that is shown: the object.
    pub(super) object: Value,
}

/// What is shown of objects.
#[derive(Clone, Debug)]
pub(super) struct Form<'a> {
    pub(super) kind: &'a Resource,
    /// Whether objects are shown rather than rows.
    pub(super) objects: bool,
    /// Whether rows have the columns that are seldom wanted, too.
    pub(super) wide: bool,
    /// As the server told them last; `None` while it told none.
    pub(super) columns: Option<Vec<Column>>,
}

/// A column of a server's table.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

/// What stands in an answer or in a line of a watch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    metadata: ListMetadata<'a>,
    column_definitions: Option<Vec<Column>>,
    #[serde(borrow)]
    rows: Option<Vec<Row<'a>>>,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata<'a> {
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default, rename = "continue")]
    next: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct Row<'a> {
    cells: Vec<Value>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    resource_version: String,
    creation_timestamp: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WithMetadata {
    #[serde(default)]
    metadata: Metadata,
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) found: Vec<Found>,
    pub(super) position: String,
    /// Where the next one begins; empty at the end.
    pub(super) next: String,
}

impl Form<'_> {
    pub(super) fn accept(&self) -> &'static str {
        if self.objects { JSON } else { TABLE }
    }

    /// Reads a page of a list.
    pub(super) fn page(&mut self, body: &[u8]) -> Result<Page, String> {
        let answer = read(body)?;
        let position = answer.metadata.resource_version.clone().into_owned();
        let next = answer.metadata.next.clone().into_owned();
        let found = match (&answer.rows, &answer.items) {
            (None, Some(items)) => items.iter().map(|item| self.object(item)).collect(),
            (None, None) if answer.kind != "Table" && !answer.kind.ends_with("List") => {
                Err(format!("a {:?} is no list", answer.kind))
            }
            _ => self.table(answer),
        };
        Ok(Page { found: found?, position, next })
    }

    /// Reads one object, or the table of it.
    pub(super) fn one(&mut self, body: &RawValue) -> Result<Found, String> {
        if !self.objects && is_table(body) {
            let found = self.table(read(body.get().as_bytes())?)?.into_iter().next();
            return found.ok_or_else(|| "a table without a row".to_owned());
        }
        self.object(body)
    }

    fn table(&mut self, answer: Answer<'_>) -> Result<Vec<Found>, String> {
        if let Some(columns) = answer.column_definitions.filter(|columns| !columns.is_empty()) {
            self.columns = Some(columns);
        }
        let rows = answer.rows.unwrap_or_default().into_iter();
        rows.map(|row| {
            let metadata = metadata(row.object)?;
            let shown = |(at, cell): (usize, &Value)| self.shows(at).then(|| text(cell));
            let cells = row.cells.iter().enumerate().filter_map(shown).collect();
            Ok(Found {
                name: (metadata.namespace, metadata.name),
                version: metadata.resource_version,
                cells,
                object: Value::Null,
            })
        })
        .collect()
    }

    fn object(&self, object: &RawValue) -> Result<Found, String> {
        let metadata = metadata(object)?;
        let (mut cells, mut value) = (Vec::new(), Value::Null);
        if self.objects {
            value = serde_json::from_str(object.get()).map_err(|error| error.to_string())?;
            if let Some(fields) = value.as_object_mut() {
                // What stands in lists does not say what it is.
                let definition = &self.kind.definition;
                for (at, name, text) in
                    [(0, "apiVersion", definition.api_version()), (1, "kind", definition.kind.clone())]
                {
                    if !fields.contains_key(name) {
                        fields.shift_insert(at, name.to_owned(), text.into());
                    }
                }
            }
        } else {
            let created = metadata.creation_timestamp.and_then(|text| Timestamp::parse(text).ok());
            let age = created.map_or_else(|| "<unknown>".to_owned(), |created| age(created.elapsed()));
            cells = vec![metadata.name.clone(), age];
        }
        Ok(Found {
            name: (metadata.namespace, metadata.name),
            version: metadata.resource_version,
            cells,
            object: value,
        })
    }

    /// The names of the columns.
    pub(super) fn head(&self) -> Vec<String> {
        match &self.columns {
            Some(columns) => {
                let shown = columns.iter().enumerate().filter(|(at, _)| self.shows(*at));
                shown.map(|(_, column)| column.name.to_uppercase()).collect()
            }
            None => vec!["NAME".to_owned(), "AGE".to_owned()],
        }
    }

    fn shows(&self, at: usize) -> bool {
        let column = self.columns.as_ref().and_then(|columns| columns.get(at));
        self.wide || column.is_none_or(|column| column.priority == 0)
    }
}

/// Objects may have members of any name and type: only a table is read as such.
fn is_table(body: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, default)]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Kind<'_>>(body.get()).is_ok_and(|it| it.kind == "Table")
}

fn read(body: &[u8]) -> Result<Answer<'_>, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn metadata(object: &RawValue) -> Result<Metadata, String> {
    let read: Result<WithMetadata, _> = serde_json::from_str(object.get());
    read.map(|object| object.metadata).map_err(|error| error.to_string())
}

/// A cell as kubectl shows it: text up to its first line break, what is absent as nothing.
fn text(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => match text.split_once(['\n', '\r']) {
            Some((first, _)) => format!("{first}..."),
            None => text.clone(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::registry::Definition;

    fn resource() -> Resource {
        let definition = Definition::guess(&"apps/v1/Deployment".into()).unwrap();
        Resource { definition, verbs: Vec::new() }
    }

    fn form(kind: &Resource, objects: bool, wide: bool) -> Form<'_> {
        Form { kind, objects, wide, columns: None }
    }

    #[test]
    fn rows_have_the_columns_that_are_asked_for_also_where_a_line_tells_none() {
        let kind = resource();
        let object = json!({"metadata": {"name": "a", "namespace": "web", "resourceVersion": "7"}});
        let table = json!({
            "kind": "Table", "metadata": {"resourceVersion": "9", "continue": "next"},
            "columnDefinitions": [{"name": "Name", "type": "string", "priority": 0}, {"name": "Images", "priority": 1},
                {"name": "Age"}],
            "rows": [{"cells": ["a", ["x"], null], "object": object}],
        });
        for (wide, head, cells) in [
            (false, vec!["NAME", "AGE"], vec!["a", ""]),
            (true, vec!["NAME", "IMAGES", "AGE"], vec!["a", "[\"x\"]", ""]),
        ] {
            let mut form = form(&kind, false, wide);
            let page = form.page(table.to_string().as_bytes()).unwrap();
            assert_eq!((&*page.position, &*page.next), ("9", "next"));
            assert_eq!((page.found[0].version.as_str(), &page.found[0].cells), ("7", &owned(&cells)));
            assert_eq!(page.found[0].name, ("web".to_owned(), "a".to_owned()));
            assert_eq!(form.head(), head);
            let line = json!({"kind": "Table", "columnDefinitions": null,
                "rows": [{"cells": ["two\nlines", "x", 3], "object": object}]});
            let found = form.one(&RawValue::from_string(line.to_string()).unwrap()).unwrap();
            assert_eq!(found.cells.len(), head.len());
            assert_eq!((&*found.cells[0], &*found.cells[head.len() - 1]), ("two...", "3"));
        }
    }

    #[test]
    fn without_tables_there_are_names_and_ages_and_objects_say_what_they_are() {
        let kind = resource();
        let item = json!({"metadata": {"name": "a", "resourceVersion": "7", "creationTimestamp": "2020-01-01T00:00:00Z"}});
        let list = json!({"kind": "DeploymentList", "metadata": {"resourceVersion": "9"}, "items": [item]})
            .to_string();
        let mut rows = form(&kind, false, false);
        let found = rows.page(list.as_bytes()).unwrap().found.remove(0);
        assert_eq!((rows.head(), &*found.cells[0]), (owned(&["NAME", "AGE"]), "a"));
        assert!(found.cells[1].ends_with('d'), "{:?}", found.cells);
        let object = form(&kind, true, false).page(list.as_bytes()).unwrap().found.remove(0).object;
        let text = object.to_string();
        assert!(text.starts_with(r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata""#), "{text}");
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        let kind = resource();
        for body in ["", "[]", r#"{"kind": "Status"}"#, r#"{"kind": "Table", "rows": [{"cells": []}]}"#] {
            assert!(form(&kind, false, false).page(body.as_bytes()).is_err(), "{body}");
        }
        let empty =
            form(&kind, false, false).page(br#"{"kind": "PodList", "metadata": {}, "items": null}"#);
        assert!(empty.unwrap().found.is_empty());
    }

    fn owned(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }
}
