//! OpenAPI v3: one document a group and version, with what clients read of it: schemas, and which options the
//! operations on a kind take.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::kind::Kind;
use super::groups::{Version, schema_name};
use super::made;
use crate::schema::structural::meta;

/// The schema of metadata, as other schemas refer to it.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const API_VERSION: &str = "The version of the API that this object is written in: group and version.";
const KIND: &str = "The kind of this object.";

/// The document of a group and version.
pub(super) fn document(kinds: &[Arc<Kind>], at: &Version) -> Vec<u8> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let here =
        |kind: &&Arc<Kind>| kind.definition.group == at.group && kind.definition.version == at.version;
    for kind in kinds.iter().filter(here) {
        let definition = &kind.definition;
        let namespace = if definition.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{}{namespace}/{}", at.path(), definition.plural);
        paths.insert(format!("{collection}/{{name}}"), item(kind));
        if definition.status {
            paths.insert(format!("{collection}/{{name}}/status"), item(kind));
        }
        paths.insert(
            collection,
            operations(kind, &[("get", "list"), ("post", "create"), ("delete", "deletecollection")]),
        );
        schemas.insert(schema_name(kind), schema(kind, "#/components/schemas/"));
    }
    schemas.insert(OBJECT_META.to_owned(), meta::SCHEMA.clone());
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "meshbus", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    });
    document.to_string().into_bytes()
}

fn item(kind: &Kind) -> Value {
    operations(kind, &[("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete")])
}

fn operations(kind: &Kind, all: &[(&str, &str)]) -> Value {
    let definition = &kind.definition;
    let mut path = Map::new();
    for (method, verb) in all.iter().filter(|(_, verb)| kind.allows(verb)) {
        let parameters: Vec<Value> = options(verb)
            .iter()
            .map(|(name, of)| json!({"name": name, "in": "query", "schema": {"type": of, "uniqueItems": true}}))
            .collect();
        let mut operation = json!({
            "operationId": format!("{verb}{}{}", definition.version, definition.kind),
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": verb,
            "x-kubernetes-group-version-kind": gvk(kind),
        });
        if let (Some(content), Some(fields)) = (content(kind, verb), operation.as_object_mut()) {
            fields.insert("requestBody".to_owned(), json!({ "content": content }));
        }
        path.insert((*method).to_owned(), operation);
    }
    Value::Object(path)
}

/// The media types of an operation's body.
fn content(kind: &Kind, verb: &str) -> Option<Value> {
    let patches: &[&str] = match verb {
        "create" | "update" => &["application/json", "application/yaml"],
        "patch" if kind.form == super::super::kind::Form::Made && kind.messages.is_none() => {
            &["application/json-patch+json", "application/merge-patch+json"]
        }
        "patch" => {
            &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
        }
        _ => return None,
    };
    let content =
        patches.iter().map(|media_type| ((*media_type).to_owned(), json!({"schema": {"type": "object"}})));
    Some(Value::Object(content.collect()))
}

/// The options that the operations of a verb take.
pub(super) fn options(verb: &str) -> &'static [(&'static str, &'static str)] {
    match verb {
        "create" | "update" => {
            &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]
        }
        "patch" => &[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
            ("force", "boolean"),
        ],
        "delete" => {
            &[("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")]
        }
        "deletecollection" => {
            &[("dryRun", "string"), ("fieldSelector", "string"), ("labelSelector", "string")]
        }
        "list" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        _ => &[],
    }
}

/// Group, version and kind, as extensions have them.
pub(super) fn gvk(kind: &Kind) -> Value {
    let definition = &kind.definition;
    json!({"group": definition.group, "kind": definition.kind, "version": definition.version})
}

/// The schema of a kind's objects, which refers to that of metadata below `base`.
pub(super) fn schema(kind: &Kind, base: &str) -> Value {
    let mut schema = kind.schema.as_deref().cloned().unwrap_or_else(|| made::schema(kind));
    let Some(fields) = schema.as_object_mut() else { return schema };
    fields.insert("x-kubernetes-group-version-kind".to_owned(), json!([gvk(kind)]));
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        let text = |description: &str| json!({"type": "string", "description": description});
        properties.insert("apiVersion".to_owned(), text(API_VERSION));
        properties.insert("kind".to_owned(), text(KIND));
        let reference = json!({"$ref": format!("{base}{OBJECT_META}")});
        // A reference of version 3 has no siblings but in this form.
        let metadata = if base.contains("components") {
            json!({"description": "Standard metadata of every object.", "allOf": [reference]})
        } else {
            reference
        };
        properties.insert("metadata".to_owned(), metadata);
    }
    schema
}

/// The definitions of all kinds, as version 2 has them.
pub(super) fn definitions(kinds: &[Arc<Kind>]) -> Map<String, Value> {
    let base = "#/definitions/";
    let mut definitions: Map<String, Value> =
        kinds.iter().map(|kind| (schema_name(kind), schema(kind, base))).collect();
    definitions.insert(OBJECT_META.to_owned(), meta::SCHEMA.clone());
    definitions
}
