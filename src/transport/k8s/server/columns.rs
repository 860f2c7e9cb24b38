//! The columns of tables: those that a kind's definition names, or what a reader of its list wants to see.

use std::sync::Arc;

use bytestring::ByteString;

use super::Shared;
use super::kind::{Form, Kind};
use super::writer::name_column;
use crate::core::Key;
use crate::schema::columns::{Column, ColumnKind};
use crate::schema::kinds::proto_name;
use crate::transport::k8s::codec::builtin;
use crate::transport::k8s::codec::crd::PrinterColumn;

/// Name, path and priority of a column.
type Plain = (&'static str, &'static str, i32);

const OCCURRENCE: &[Plain] = &[
    ("Type", ".spec.type", 0),
    ("Source", ".spec.source", 0),
    ("Topic", ".status.topic", 0),
    ("Subject", ".spec.subject", 1),
];
const VALUE: &[Plain] = &[("Content-Type", ".spec.contentType", 0), ("Key", ".status.resourceName", 1)];
const RESOURCE: &[Plain] = &[
    ("Version", ".status.version", 0),
    ("Source", ".status.source", 0),
    ("Resource Name", ".status.resourceName", 1),
];

const ROUTE: &[Plain] = &[
    ("From", ".spec.from", 0),
    ("To", ".spec.to", 0),
    ("Delivered", ".status.delivered", 0),
    ("Waiting", ".status.waiting", 0),
    ("Dead", ".status.dead", 0),
    ("Retried", ".status.retried", 1),
];
const CONNECTOR: &[Plain] = &[
    ("Transport", ".spec.transport", 0),
    ("Role", ".spec.role", 0),
    ("State", ".status.state", 0),
    ("Received", ".status.received", 0),
    ("Sent", ".status.sent", 0),
    ("Address", ".spec.address", 1),
    ("Last Error", ".status.lastError", 1),
];

const CONNECTION: &[Plain] = &[
    ("Node", ".spec.node", 0),
    ("Transport", ".spec.transport", 0),
    ("Address", ".spec.address", 0),
    ("Agent", ".spec.agent", 0),
    ("Refused", ".status.refused", 0),
    ("Cluster", ".spec.cluster", 1),
    ("Scope", ".spec.scope", 1),
    ("Principal", ".spec.principal", 1),
];

/// The columns of a kind in a scope.
pub(super) fn columns(shared: &Shared, scope: &ByteString, kind: &Kind) -> Arc<[Column]> {
    let age = || Column::path("Age", ColumnKind::Date, ".metadata.creationTimestamp").ok();
    if let Some(crd) = shared.kinds.crd(shared, scope, kind)
        && let Some(version) = crd.version(&kind.definition.version)
        && !version.columns.is_empty()
    {
        let own = version.columns.iter().filter_map(printed);
        return std::iter::once(name_column()).chain(own).collect();
    }
    if let Some(known) = builtin::find(&kind.definition.type_url) {
        return known.columns().into();
    }
    let plain = match kind.form {
        Form::Occurrence => OCCURRENCE,
        Form::Made if kind.stored_as == Key::VALUE => VALUE,
        Form::Made if proto_name(&kind.stored_as).is_some() => RESOURCE,
        Form::Made if &*kind.definition.kind == "Route" => ROUTE,
        Form::Made if &*kind.definition.kind == "Connector" => CONNECTOR,
        Form::Made if &*kind.definition.kind == "Connection" => CONNECTION,
        Form::Object | Form::Event | Form::Made => &[],
    };
    let plain = plain.iter().filter_map(|(name, path, priority)| {
        let mut column = Column::path(name, ColumnKind::String, path).ok()?;
        column.priority = *priority;
        Some(column)
    });
    std::iter::once(name_column()).chain(plain).chain(age()).collect()
}

/// A column as a definition has it; `None` where its path cannot be read.
fn printed(column: &PrinterColumn) -> Option<Column> {
    let mut printed = Column::path(&column.name, column.kind.parse().ok()?, &column.json_path).ok()?;
    printed.format.clone_from(&column.format);
    printed.priority = column.priority;
    if !column.description.is_empty() {
        printed.description.clone_from(&column.description);
    }
    Some(printed)
}
