//! The tables of the built-in kinds: columns and cells as the API server prints them.

use serde_json::Value;

use crate::schema::columns::{Cell, Column, ColumnKind, age};

use super::event::{field, text};
use super::pod;

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

type Compute = fn(&Value, i64) -> Value;

fn column(name: &str, description: &str, priority: i32, compute: Compute) -> Column {
    Column {
        name: name.to_owned(),
        kind: ColumnKind::String,
        format: if name == "Name" { "name".to_owned() } else { String::new() },
        description: description.to_owned(),
        priority,
        cell: Cell::Computed(compute),
    }
}

fn name_column(priority: i32) -> Column {
    column("Name", "Name of the object.", priority, |object, _| at(object, "/metadata/name").into())
}

fn age_column() -> Column {
    column("Age", "How long ago the server stored it first.", 0, |object, now| {
        since(object.pointer("/metadata/creationTimestamp"), now).into()
    })
}

/// `kubectl get configmaps`
pub(super) fn config_map() -> Vec<Column> {
    vec![
        name_column(0),
        column("Data", "How many keys it has.", 0, |object, _| {
            let keys =
                |name: &str| object.get(name).and_then(Value::as_object).map_or(0, serde_json::Map::len);
            keys("data").saturating_add(keys("binaryData")).into()
        }),
        age_column(),
    ]
}

/// `kubectl get namespaces`
pub(super) fn namespace() -> Vec<Column> {
    let status = column("Status", "Whether it is in use or going.", 0, |object, _| {
        at(object, "/status/phase").into()
    });
    vec![name_column(0), status, age_column()]
}

/// `kubectl get serviceaccounts`
pub(super) fn service_account() -> Vec<Column> {
    let secrets = column("Secrets", "How many secrets it may use.", 0, |object, _| {
        object.get("secrets").and_then(Value::as_array).map_or(0, Vec::len).into()
    });
    vec![name_column(0), secrets, age_column()]
}

/// `kubectl get leases`
pub(super) fn lease() -> Vec<Column> {
    let holder =
        column("Holder", "Who holds it.", 0, |object, _| at(object, "/spec/holderIdentity").into());
    vec![name_column(0), holder, age_column()]
}

/// `kubectl get customresourcedefinitions`
pub(super) fn custom_resource_definition() -> Vec<Column> {
    let mut created = column("Created At", "When the server stored it first.", 0, |object, _| {
        match at(object, "/metadata/creationTimestamp") {
            "" => UNKNOWN.into(),
            time => time.into(),
        }
    });
    created.kind = ColumnKind::Date;
    vec![name_column(0), created]
}

/// `kubectl get pods`
pub(super) fn pod() -> Vec<Column> {
    let address = |object: &Value, _: i64| -> Value {
        let first = at(object, "/status/podIPs/0/ip");
        or_none(if first.is_empty() { at(object, "/status/podIP") } else { first })
    };
    vec![
        name_column(0),
        column("Ready", "How many of its containers serve.", 0, |object, _| pod::ready(object).into()),
        column("Status", "How its containers are, taken together.", 0, |object, _| {
            pod::status(object).into()
        }),
        column("Restarts", "How often its containers were begun anew, and when last.", 0, |object, now| {
            pod::restarts(object, now).into()
        }),
        age_column(),
        column("IP", "Its address.", 1, address),
        column("Node", "The node it is on.", 1, |object, _| or_none(at(object, "/spec/nodeName"))),
        column("Nominated Node", "The node it may come to.", 1, |object, _| {
            or_none(at(object, "/status/nominatedNodeName"))
        }),
        column("Readiness Gates", "How many of the conditions it waits for hold.", 1, |object, _| {
            or_none(&pod::gates(object))
        }),
    ]
}

/// `kubectl get events`, of either API group.
pub(super) fn event() -> Vec<Column> {
    vec![
        column("Last Seen", "When it last happened.", 0, |event, now| last_seen(event, now).into()),
        column("Type", "Normal or Warning.", 0, |event, _| text(event, "type", "type").into()),
        column("Reason", "Why, in one word.", 0, |event, _| text(event, "reason", "reason").into()),
        column("Object", "The object it is about.", 0, |event, _| event_object(event).into()),
        column("Subobject", "The part of the object it is about.", 1, |event, _| {
            about(event, "fieldPath").into()
        }),
        column("Source", "Who told.", 1, |event, _| event_source(event).into()),
        column("Message", "What happened, for people.", 0, |event, _| {
            text(event, "message", "note").trim().into()
        }),
        column("First Seen", "When it first happened.", 1, |event, now| first_seen(event, now).into()),
        column("Count", "How often it happened.", 1, |event, _| event_count(event).into()),
        name_column(1),
    ]
}

fn about<'e>(event: &'e Value, name: &str) -> &'e str {
    let object = field(event, "involvedObject", "regarding");
    object.and_then(|object| object.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn event_object(event: &Value) -> String {
    let kind = about(event, "kind").to_lowercase();
    match about(event, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn event_source(event: &Value) -> String {
    let source = field(event, "source", "deprecatedSource");
    let of =
        |name: &str| source.and_then(|source| source.get(name)).and_then(Value::as_str).unwrap_or_default();
    let first =
        |one: &'_ str, other: &'_ str| if one.is_empty() { other.to_owned() } else { one.to_owned() };
    let component = first(of("component"), text(event, "reportingComponent", "reportingController"));
    let instance = first(of("host"), text(event, "reportingInstance", "reportingInstance"));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

fn first_seen(event: &Value, now: i64) -> String {
    let first = field(event, "firstTimestamp", "deprecatedFirstTimestamp");
    since(first.or_else(|| field(event, "eventTime", "eventTime")), now)
}

fn last_seen(event: &Value, now: i64) -> String {
    if let Some(series) = field(event, "series", "series") {
        return since(series.get("lastObservedTime"), now);
    }
    match field(event, "lastTimestamp", "deprecatedLastTimestamp") {
        Some(last) => since(Some(last), now),
        None => first_seen(event, now),
    }
}

fn event_count(event: &Value) -> i64 {
    let count = field(event, "count", "deprecatedCount").and_then(Value::as_i64).unwrap_or(0);
    match field(event, "series", "series") {
        Some(series) => series.get("count").and_then(Value::as_i64).unwrap_or(0),
        // One that happened once has no count in the newer form.
        None if count == 0 => 1,
        None => count,
    }
}

/// How long ago; `<unknown>` where there is no time.
pub(super) fn since(time: Option<&Value>, now: i64) -> String {
    age(time.and_then(Value::as_str).unwrap_or_default(), now)
}

fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { NONE } else { text })
}

/// The text at a pointer, empty where there is none.
pub(super) fn at<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
