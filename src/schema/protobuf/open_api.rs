//! What the JSON of a message may hold, as a schema of OpenAPI v3 for readers of documentation.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::is_leaf;

/// How many messages deep fields are told; deeper ones are any object.
const LEVELS: usize = 3;

/// The schema of a message's JSON.
pub(super) fn schema(message: &MessageDescriptor) -> Value {
    let mut schema = of_message(message, LEVELS);
    let comment = comments(&message.parent_file()).remove(message.path());
    if let (Some(comment), Some(fields)) = (comment, schema.as_object_mut()) {
        fields.insert("description".to_owned(), json!(comment));
    }
    schema
}

fn of_message(message: &MessageDescriptor, levels: usize) -> Value {
    let name = message.full_name();
    match name.strip_prefix("google.protobuf.") {
        Some("Any") => return any(&format!("Any message, its type in @type ({name}).")),
        Some("Struct") => return any("Any object."),
        Some("Value") => {
            return json!({"description": "Any JSON.", "x-kubernetes-preserve-unknown-fields": true});
        }
        Some("ListValue") => {
            return json!({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}});
        }
        Some("Timestamp") => return json!({"type": "string", "format": "date-time"}),
        Some("Duration") => return json!({"type": "string", "description": "Seconds, as 1.5s."}),
        Some("FieldMask") => {
            return json!({"type": "string", "description": "Paths of fields, with commas."});
        }
        // A wrapper: what it wraps.
        Some(leaf) if is_leaf(leaf) => {
            let wrapped = message.get_field_by_name("value");
            return wrapped.map_or_else(|| any("No fields."), |field| scalar(&field.kind()));
        }
        _ => {}
    }
    if levels == 0 {
        return any(&format!("A {name}."));
    }
    let comments = comments(&message.parent_file());
    let field = |field: FieldDescriptor| {
        let mut schema = of_field(&field, levels - 1);
        let told = description(&field, comments.get(field.path()).map(String::as_str));
        if let (false, Some(fields)) = (told.is_empty(), schema.as_object_mut()) {
            fields.insert("description".to_owned(), json!(told));
        }
        (field.json_name().to_owned(), schema)
    };
    let properties: Map<String, Value> = message.fields().map(field).collect();
    json!({"type": "object", "description": format!("A {name}."), "properties": properties})
}

fn of_field(field: &FieldDescriptor, levels: usize) -> Value {
    let of_kind = |kind: &Kind| match kind {
        Kind::Message(message) => of_message(message, levels),
        kind => scalar(kind),
    };
    let kind = field.kind();
    match kind.as_message().filter(|_| field.is_map()) {
        Some(entry) => {
            json!({"type": "object", "additionalProperties": of_kind(&entry.map_entry_value_field().kind())})
        }
        None if field.is_list() => json!({"type": "array", "items": of_kind(&kind)}),
        None => of_kind(&kind),
    }
}

fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer"})
        }
        // Written as text and read as either.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            json!({"x-kubernetes-int-or-string": true})
        }
        Kind::Float | Kind::Double => json!({"type": "number"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Enum(of) => {
            let values: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
            json!({"type": "string", "enum": values})
        }
        Kind::Message(_) => any(""),
    }
}

fn any(description: &str) -> Value {
    json!({"type": "object", "description": description, "x-kubernetes-preserve-unknown-fields": true})
}

/// What is known of a field beside its type: its comment, its like that exclude it, its message.
fn description(field: &FieldDescriptor, comment: Option<&str>) -> String {
    let mut told: Vec<String> = comment.map(str::to_owned).into_iter().collect();
    if let Some(oneof) = field.containing_oneof().filter(|oneof| oneof.fields().len() > 1) {
        let names: Vec<String> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
        told.push(format!("At most one of {}.", names.join(", ")));
    }
    if let (Kind::Message(message), false) = (field.kind(), field.is_map()) {
        told.push(format!("A {}.", message.full_name()));
    }
    let options = field.field_descriptor_proto().options.as_ref();
    if options.is_some_and(prost_reflect::prost_types::FieldOptions::deprecated) {
        told.push("Deprecated.".to_owned());
    }
    told.join(" ")
}

/// The comments of a file by the path of what they stand at; none where its set was made without.
fn comments(file: &FileDescriptor) -> BTreeMap<Vec<i32>, String> {
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let told = locations.filter_map(|location| {
        let lines = location.leading_comments.as_deref()?.lines().map(str::trim);
        // Directives to generators are no text for readers.
        let lines: Vec<&str> =
            lines.take_while(|line| !line.starts_with("[#")).filter(|line| !line.is_empty()).collect();
        (!lines.is_empty()).then(|| (location.path.clone(), lines.join(" ")))
    });
    told.collect()
}
