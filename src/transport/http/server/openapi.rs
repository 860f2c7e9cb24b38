//! `/openapi.json`: what this server serves, for tools that read [OpenAPI 3.1].
//!
//! [OpenAPI 3.1]: https://spec.openapis.org/oas/v3.1.0

use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::{Value, json};

/// The document.
pub(super) async fn document() -> Response {
    axum::Json(build()).into_response()
}

fn build() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "meshbus",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Publish events, subscribe to them, list and write state."
        },
        "paths": {
            "/": {"post": publish("Publishes events (CloudEvents binary, structured, batch; a plain body becomes an event)")},
            "/v1/publish": {"post": publish("Publishes events to a topic")},
            "/v1/subscribe": {"get": subscribe()},
            "/v1/state": {"get": read_state(), "put": put_state(), "delete": delete_state()},
            "/v1/subscriptions": {
                "get": operation("getSubscriptions", "The caller's push subscriptions", &[], &[("200", "A list")]),
                "post": operation("createSubscription", "Begins a push subscription", &[],
                    &[("201", "Begun; see Location"), ("400", "Malformed, or not supported"), ("507", "Too many")])
            },
            "/v1/subscriptions/{id}": {
                "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}],
                "get": operation("getSubscription", "Shows one", &[], &[("200", "It"), ("404", "None")]),
                "put": operation("updateSubscription", "Replaces one", &[],
                    &[("200", "Replaced"), ("400", "Malformed"), ("404", "None")]),
                "delete": operation("deleteSubscription", "Ends one", &[], &[("200", "Ended"), ("404", "None")])
            }
        },
        "components": {
            "schemas": {"Problem": problem()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}
        },
        "security": [{}, {"token": []}]
    })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457",
        "properties": {
            "type": {"type": "string"}, "title": {"type": "string"},
            "status": {"type": "integer"}, "detail": {"type": "string"},
            "oldest": {"type": "string", "description": "the oldest position that can be resumed from"},
            "errors": {"type": "array", "items": {"type": "object", "properties": {
                "index": {"type": "integer"}, "id": {"type": "string"},
                "status": {"type": "integer"}, "detail": {"type": "string"}
            }}}
        },
        "required": ["type", "title", "status", "detail"]
    })
}

/// Parameters as (name, description), answers as (status, description); 4xx and 5xx are problems.
fn operation(id: &str, summary: &str, query: &[(&str, &str)], answers: &[(&str, &str)]) -> Value {
    let parameter = |(name, text): &(&str, &str)| {
        let (place, name) = match name.strip_prefix("header:") {
            Some(name) => ("header", name),
            None => ("query", *name),
        };
        json!({"name": name, "in": place, "description": text, "schema": {"type": "string"}})
    };
    let answer = |(status, text): &(&str, &str)| {
        let mut answer = json!({"description": text});
        if let (true, Some(fields)) = (status.starts_with(['4', '5']), answer.as_object_mut()) {
            let schema = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
            drop(fields.insert("content".to_owned(), json!({"application/problem+json": schema})));
        }
        ((*status).to_owned(), answer)
    };
    json!({
        "operationId": id,
        "summary": summary,
        "parameters": query.iter().map(parameter).collect::<Vec<_>>(),
        "responses": answers.iter().map(answer).collect::<serde_json::Map<_, _>>()
    })
}

fn publish(summary: &str) -> Value {
    let query = [("topic", "Where to publish; default: the listener's template")];
    let answers = [
        ("202", "Every route has it; mb-seq tells its position"),
        ("400", "Cannot be decoded"),
        ("401", "No token"),
        ("403", "Not allowed there, or a reserved topic"),
        ("413", "Too large"),
        ("415", "Media type or content coding not supported"),
        ("422", "Rejected"),
        ("503", "Not delivered: send it again"),
    ];
    let id = if summary.ends_with("topic") { "publishTo" } else { "publish" };
    let mut operation = operation(id, summary, &query, &answers);
    let body = json!({"content": {
        "application/cloudevents+json": {}, "application/cloudevents-batch+json": {},
        "application/cloudevents+protobuf": {}, "application/cloudevents-batch+protobuf": {}, "*/*": {}
    }});
    if let Some(fields) = operation.as_object_mut() {
        drop(fields.insert("requestBody".to_owned(), body));
    }
    operation
}

fn subscribe() -> Value {
    let query = [
        ("filter", "Topic filter: + or * one level, # the rest; default #"),
        ("from", "now (default), snapshot, or the position after which to begin"),
        ("policy", "When too slow for events: disconnect (default) or drop_oldest"),
        ("scope", "State of this scope only"),
        ("where", "CloudEvents SQL that is true for the events wanted"),
        ("type", "State of this type only"),
        ("name", "State of this name only"),
        ("header:Last-Event-ID", "The position after which to resume"),
    ];
    let answers = [
        ("101", "WebSocket, subprotocol cloudevents.json"),
        (
            "200",
            "text/event-stream: id = position, event = message, put, delete, snapshot_begin, snapshot_end, lost, gone or slow, data = a JSON CloudEvent with the extensions mbseq and mbtopic",
        ),
        ("400", "Malformed"),
        ("403", "Not allowed"),
        ("410", "The position is gone"),
        ("503", "Too many subscribers"),
    ];
    operation("subscribe", "Follows events and state", &query, &answers)
}

fn read_state() -> Value {
    let query = [
        ("type", "With name: default meshbus.dev/v1/Value; without: all types"),
        ("name", "One key; without it a page of keys"),
        ("scope", "With name: default local; without: all scopes"),
        ("limit", "Items of a page, 1 to 5000; default 500"),
        ("continue", "next of the page before"),
        ("header:If-None-Match", "ETags that are known"),
        (
            "header:Accept",
            "With name: application/cloudevents+json for the whole event, not its data alone; application/json \
             for a protobuf message as JSON",
        ),
    ];
    let answers = [
        ("200", "The key's data, or the key as one event, or {items, seq, next}"),
        ("304", "As known"),
        ("404", "No such key"),
        ("410", "The listing is no longer kept: begin anew"),
    ];
    operation("readState", "Reads one key, or lists keys", &query, &answers)
}

const WRITE: [(&str, &str); 5] = [
    ("type", "Default meshbus.dev/v1/Value"),
    ("name", "Which key"),
    ("scope", "Default local"),
    ("dry_run", "true: check only"),
    ("header:If-Match", "The ETag it must have"),
];

fn put_state() -> Value {
    let answers = [
        ("200", "Written; ETag tells the position"),
        ("201", "Created"),
        ("403", "Not allowed"),
        ("405", "Its owner takes no writes"),
        ("409", "Conflict"),
        ("412", "The precondition does not hold"),
        ("422", "No message of the key's type: names the field"),
        ("504", "Its owner did not answer"),
        ("507", "The table is full"),
    ];
    operation("putState", "Writes one key; a protobuf message as its bytes or its JSON", &WRITE, &answers)
}

fn delete_state() -> Value {
    let answers = [
        ("200", "Deleted"),
        ("403", "Not allowed"),
        ("404", "No such key"),
        ("405", "Its owner takes no writes"),
        ("412", "The precondition does not hold"),
        ("504", "Its owner did not answer"),
    ];
    operation("deleteState", "Deletes one key", &WRITE, &answers)
}
