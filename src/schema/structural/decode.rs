//! Decoding: whether an object has the types its schema says, in the words of an API server that reads it into its
//! own types.
//!
//! The server's own kinds are Go structs there, and what does not fit is refused before anything else is looked at.
//! The first misfit in the order of the text is told. Names of structs follow from the names of fields.

use serde_json::Value;

use super::DEPTH_MAX;
use super::meta;
use super::node::{Additional, Kind, Node};

/// The first value that does not fit; `kind` names the struct of the object.
pub(super) fn decode(root: &Node, object: &Value, kind: &str) -> Result<(), String> {
    Decoding(kind).value(root, object, "", kind, 0)
}

/// The kind of the object, which names the structs of its parts.
struct Decoding<'k>(&'k str);

impl Decoding<'_> {
    /// A value of the field at `path`, which a struct of that name has.
    fn value(
        &self,
        node: &Node,
        value: &Value,
        path: &str,
        owner: &str,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX || value.is_null() || node.int_or_string {
            return Ok(());
        }
        let Some(kind) = node.kind else { return Ok(()) };
        match (kind, value) {
            (Kind::String, Value::String(text)) => text_fits(node, text),
            (Kind::Boolean, Value::Bool(_)) | (Kind::Number, Value::Number(_)) => Ok(()),
            (Kind::Integer, Value::Number(number)) => {
                let fits = number.as_i64().is_some_and(|it| node.wide || i32::try_from(it).is_ok());
                if fits { Ok(()) } else { Err(self.misfit(&format!("number {number}"), node, path, owner)) }
            }
            (Kind::Array, Value::Array(list)) => {
                let Some(items) = &node.items else { return Ok(()) };
                let owner =
                    if items.properties.is_empty() { owner.to_owned() } else { self.go_struct(path) };
                list.iter().try_for_each(|item| self.value(items, item, path, &owner, depth + 1))
            }
            (Kind::Object, Value::Object(fields)) => {
                let inner = if path.is_empty() || node.properties.is_empty() {
                    owner.to_owned()
                } else {
                    self.go_struct(path)
                };
                for (name, value) in fields {
                    let (field, below) = match (node.properties.get(name), &node.additional) {
                        _ if path.is_empty() && name == "metadata" => (meta::node(), "metadata".to_owned()),
                        (Some(field), _) if path.is_empty() => (field, name.clone()),
                        (Some(field), _) => (field, format!("{path}.{name}")),
                        // The entries of a map are told by the field that holds it.
                        (None, Additional::Each(each)) => (each.as_ref(), path.to_owned()),
                        (None, _) => continue,
                    };
                    self.value(field, value, &below, &inner, depth + 1)?;
                }
                Ok(())
            }
            // Times read themselves, and do not know whose they are.
            (Kind::String, _) if format(node) == "date-time" => {
                Err(format!("json: cannot unmarshal {} into Go value of type string", word(value)))
            }
            _ => Err(self.misfit(word(value), node, path, owner)),
        }
    }

    /// The name of the struct of a field: `spec` of a Lease is a `LeaseSpec`, `ownerReferences` are `OwnerReference`s.
    fn go_struct(&self, path: &str) -> String {
        let field = last(path);
        match field {
            "metadata" => "ObjectMeta".to_owned(),
            "spec" | "status" if !path.contains('.') => format!("{}{}", self.0, capital(field)),
            "series" => format!("{}Series", self.0),
            "source" | "deprecatedSource" => "EventSource".to_owned(),
            "conditions" => format!("{}Condition", self.0),
            "involvedObject" | "regarding" | "related" | "secrets" => "ObjectReference".to_owned(),
            "imagePullSecrets" => "LocalObjectReference".to_owned(),
            "managedFields" => "ManagedFieldsEntry".to_owned(),
            "initContainers" => "Container".to_owned(),
            "env" => "EnvVar".to_owned(),
            "ports" => "ContainerPort".to_owned(),
            other => capital(other.strip_suffix('s').unwrap_or(other)),
        }
    }

    /// What is told of a value that does not fit.
    fn misfit(&self, what: &str, node: &Node, path: &str, owner: &str) -> String {
        let wanted = self.go_type(node, path);
        format!("json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {wanted}")
    }

    /// What holds a field there.
    fn go_type(&self, node: &Node, path: &str) -> String {
        match (node.kind, &node.additional) {
            (Some(Kind::String), _) if format(node) == "byte" => "[]uint8".to_owned(),
            (Some(Kind::String) | None, _) => "string".to_owned(),
            (Some(Kind::Boolean), _) => "bool".to_owned(),
            (Some(Kind::Number), _) => "float64".to_owned(),
            (Some(Kind::Integer), _) if node.wide => "int64".to_owned(),
            (Some(Kind::Integer), _) => "int32".to_owned(),
            (Some(Kind::Array), _) => {
                let items = node.items.as_deref();
                format!(
                    "[]{}",
                    items.map_or_else(|| "string".to_owned(), |items| self.go_type(items, path))
                )
            }
            (Some(Kind::Object), Additional::Each(each)) => {
                format!("map[string]{}", self.go_type(each, path))
            }
            (Some(Kind::Object), _) => format!("v1.{}", self.go_struct(path)),
        }
    }
}

/// Text of bytes is base64.
fn text_fits(node: &Node, text: &str) -> Result<(), String> {
    if format(node) != "byte" {
        return Ok(());
    }
    let wrong = data_encoding::BASE64.decode(text.as_bytes()).err();
    wrong.map_or(Ok(()), |wrong| Err(format!("illegal base64 data at input byte {}", wrong.position)))
}

fn format(node: &Node) -> &str {
    node.checks.as_ref().and_then(|checks| checks.format.as_ref()).map_or("", |(name, _)| name)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
