//! The columns of tables: those that a kind's definition names, or what a reader of its list wants to see.

use std::sync::Arc;

use bytestring::ByteString;
use serde_json::Value;

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
    if let Some(message) = proto_name(&kind.stored_as).filter(|_| kind.messages.is_some()) {
        let own = of_message(message);
        let rest = RESOURCE.iter().filter_map(plain);
        return std::iter::once(name_column()).chain(own).chain(rest).chain(age()).collect();
    }
    let of_form = match kind.form {
        Form::Occurrence => OCCURRENCE,
        Form::Made if kind.stored_as == Key::VALUE => VALUE,
        Form::Made if &*kind.definition.kind == "Route" => ROUTE,
        Form::Made if &*kind.definition.kind == "Connector" => CONNECTOR,
        Form::Made if &*kind.definition.kind == "Connection" => CONNECTION,
        Form::Object | Form::Event | Form::Made => &[],
    };
    std::iter::once(name_column()).chain(of_form.iter().filter_map(plain)).chain(age()).collect()
}

fn plain((name, path, priority): &Plain) -> Option<Column> {
    let mut column = Column::path(name, ColumnKind::String, path).ok()?;
    column.priority = *priority;
    Some(column)
}

/// What of an XDS resource its readers look for first.
fn of_message(message: &str) -> Vec<Column> {
    let number = |name: &str, description: &str, count: fn(&Value, i64) -> Value| {
        Column::computed(name, ColumnKind::Integer, description, count)
    };
    let text = |name: &str, description: &str, tell: fn(&Value, i64) -> Value| {
        Column::computed(name, ColumnKind::String, description, tell)
    };
    match message {
        "envoy.config.cluster.v3.Cluster" => {
            vec![text("Type", "How the cluster's endpoints are found.", |object, _| cluster_type(object))]
        }
        "envoy.config.listener.v3.Listener" => {
            vec![text("Address", "Where it listens.", |object, _| address(object.pointer("/spec/address")))]
        }
        "envoy.config.endpoint.v3.ClusterLoadAssignment" => {
            vec![number("Endpoints", "Endpoints of all localities.", |object, _| endpoints(object))]
        }
        "envoy.config.route.v3.RouteConfiguration" => {
            vec![number("Virtual Hosts", "Virtual hosts in it.", |object, _| {
                length(object.pointer("/spec/virtualHosts")).into()
            })]
        }
        _ => Vec::new(),
    }
}

/// A cluster that names no type is a static one.
fn cluster_type(object: &Value) -> Value {
    let of = |pointer: &str| object.pointer(pointer).filter(|value| value.is_string()).cloned();
    of("/spec/clusterType/name").or_else(|| of("/spec/type")).unwrap_or_else(|| Value::from("STATIC"))
}

/// `0.0.0.0:80`, or the path of a pipe; nothing where it is neither.
fn address(address: Option<&Value>) -> Value {
    let text = |pointer: &str| address.and_then(|address| address.pointer(pointer)).and_then(Value::as_str);
    let port =
        address.and_then(|address| address.pointer("/socketAddress/portValue")).and_then(Value::as_u64);
    match (text("/socketAddress/address"), port, text("/pipe/path")) {
        (Some(host), Some(port), _) if host.contains(':') => format!("[{host}]:{port}").into(),
        (Some(host), Some(port), _) => format!("{host}:{port}").into(),
        (Some(host), None, _) => host.into(),
        (None, _, Some(path)) => path.into(),
        (None, _, None) => Value::Null,
    }
}

fn endpoints(object: &Value) -> Value {
    let localities = object.pointer("/spec/endpoints").and_then(Value::as_array);
    let count: usize =
        localities.into_iter().flatten().map(|locality| length(locality.get("lbEndpoints"))).sum();
    count.into()
}

fn length(list: Option<&Value>) -> usize {
    list.and_then(Value::as_array).map_or(0, Vec::len)
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
