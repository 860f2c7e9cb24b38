//! Writing objects in the form a client wants: whole, as metadata, or as rows of a table.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use super::accept::Shape;
use super::call::Call;
use super::columns::columns;
use super::kind::{Kind, Origin};
use super::view::{View, partial};
use crate::core::record::Record;
use crate::schema::columns::{Cell, Column, cell};
use crate::transport::k8s::codec::object::{Part, put_text};

/// What of its object a row of a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Include {
    Metadata,
    Object,
    Nothing,
}

/// Writes the objects of one kind for one request.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    view: View,
    shape: Shape,
    include: Include,
    columns: Arc<[Column]>,
}

impl Writer {
    /// In the shape that a request asks for.
    pub(super) fn new(shared: &Shared, call: &Call, kind: &Arc<Kind>, shape: Shape) -> Self {
        let include = match call.parameter("includeObject") {
            Some("Object") => Include::Object,
            Some("None") => Include::Nothing,
            _ => Include::Metadata,
        };
        let columns = match shape {
            Shape::Table { .. } => columns(shared, &call.scope, kind),
            Shape::Object | Shape::Metadata => Arc::default(),
        };
        Self { view: View::new(shared, kind, &call.scope), shape, include, columns }
    }

    /// The kind.
    pub(super) fn kind(&self) -> &Arc<Kind> {
        &self.view.kind
    }

    /// The same number for the same form of the same kind, so that what was written once can be shared.
    pub(super) fn wire(&self) -> u64 {
        use std::hash::BuildHasher;
        let origin = match self.view.kind.origin {
            Origin::Custom(seq) => seq,
            _ => 0,
        };
        let definition = &self.view.kind.definition;
        let form = (self.view.api_version(), &definition.kind, self.shape, self.include, origin);
        foldhash::fast::FixedState::with_seed(0).hash_one(form)
    }

    /// The beginning of a list; `metadata` is that of the list.
    pub(super) fn put_head(&self, out: &mut Vec<u8>, metadata: &Value) {
        let (kind, version) = match self.shape {
            Shape::Object => {
                (format!("{}List", self.view.kind.definition.kind), self.view.api_version().to_owned())
            }
            Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            Shape::Table { beta } => ("Table".to_owned(), table_version(beta).to_owned()),
        };
        out.extend_from_slice(b"{\"kind\":");
        put_text(out, &kind);
        out.extend_from_slice(b",\"apiVersion\":");
        put_text(out, &version);
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata.to_string().as_bytes());
        if self.is_table() {
            out.extend_from_slice(b",\"columnDefinitions\":");
            out.extend_from_slice(definitions(&self.columns).to_string().as_bytes());
            out.extend_from_slice(b",\"rows\":[");
        } else {
            out.extend_from_slice(b",\"items\":[");
        }
    }

    /// One item of a list.
    pub(super) fn put_item(&self, out: &mut Vec<u8>, record: &Record, now: i64) {
        match self.shape {
            Shape::Object => self.view.put(out, record, Part::Whole),
            Shape::Metadata => self.view.put(out, record, Part::Metadata),
            Shape::Table { beta } => {
                let object = self.view.value(record);
                out.extend_from_slice(self.row(object, beta, now).to_string().as_bytes());
            }
        }
    }

    /// The end of a list.
    pub(super) fn put_tail(out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}\n");
    }

    /// One object on its own: itself, or a table of one row. Columns are described where `described`.
    pub(super) fn put_one(&self, out: &mut Vec<u8>, record: &Record, now: i64, described: bool) {
        let Shape::Table { beta } = self.shape else { return self.put_item(out, record, now) };
        let table = json!({
            "kind": "Table",
            "apiVersion": table_version(beta),
            "metadata": {"resourceVersion": record.seq.to_string()},
            "columnDefinitions": if described { definitions(&self.columns) } else { Value::Null },
            "rows": [self.row(self.view.value(record), beta, now)],
        });
        out.extend_from_slice(table.to_string().as_bytes());
    }

    /// What stands for an object in a bookmark: a position, and what else is told of it.
    pub(super) fn bookmark(&self, metadata: Value) -> Value {
        match self.shape {
            Shape::Object => json!({
                "kind": self.view.kind.definition.kind,
                "apiVersion": self.view.api_version(),
                "metadata": metadata,
            }),
            Shape::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            // As rows carry it, so that clients find position and annotations where they look for them.
            Shape::Table { beta } => json!({
                "kind": "Table",
                "apiVersion": table_version(beta),
                "metadata": {"resourceVersion": metadata.get("resourceVersion")},
                "columnDefinitions": null,
                "rows": [{
                    "cells": vec![Value::Null; self.columns.len()],
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": table_version(beta),
                        "metadata": metadata,
                    },
                }],
            }),
        }
    }

    /// Whether columns are to be described.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.shape, Shape::Table { .. })
    }

    fn row(&self, object: Value, beta: bool, now: i64) -> Value {
        let cells: Vec<Value> = self.columns.iter().map(|column| cell(column, &object, now)).collect();
        let object = match self.include {
            Include::Object => object,
            Include::Nothing => Value::Null,
            Include::Metadata => {
                let mut partial = partial(object);
                if let Some(version) = partial.get_mut("apiVersion") {
                    *version = table_version(beta).into();
                }
                partial
            }
        };
        json!({"cells": cells, "object": object})
    }
}

fn table_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}

fn definitions(columns: &[Column]) -> Value {
    let definition = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.kind.as_str(),
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    columns.iter().map(definition).collect()
}

/// Seconds since 1970, now.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A column of a name, as every kind has it first.
pub(super) fn name_column() -> Column {
    let name = |object: &Value, _: i64| object.pointer("/metadata/name").cloned().unwrap_or_default();
    Column {
        name: "Name".to_owned(),
        kind: crate::schema::columns::ColumnKind::String,
        format: "name".to_owned(),
        description: NAME.to_owned(),
        priority: 0,
        cell: Cell::Computed(name),
    }
}

/// What the API says of names.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is \
    primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
