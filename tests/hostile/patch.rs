//! Merge, strategic merge and JSON patches, and bodies that may be YAML.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use super::status::Refusal;

/// Deepest patch; `serde_json` bounds what it parses, YAML is bounded by this.
const DEPTH_MAX: usize = 100;
/// Most operations in a JSON patch.
const OPERATIONS_MAX: usize = 10_000;

/// RFC 7396. `strategic` also drops the directives that begin with `$`; lists are replaced in both, which is what the
/// kinds here need.
pub(crate) fn merge(target: &mut Value, patch: &Value, strategic: bool, depth: usize) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if depth > DEPTH_MAX {
        return;
    }
    if strategic && patch.get("$patch").is_some_and(|directive| directive == "replace") {
        *target = Value::Object(without_directives(patch));
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if strategic && name.starts_with('$') {
            continue;
        }
        if value.is_null()
            || strategic && value.get("$patch").is_some_and(|directive| directive == "delete")
        {
            fields.shift_remove(name);
        } else {
            merge(fields.entry(name.as_str()).or_insert(Value::Null), value, strategic, depth + 1);
        }
    }
}

fn without_directives(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .filter(|(name, _)| !name.starts_with('$'))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// RFC 6902.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let operations = patch
        .as_array()
        .ok_or_else(|| Refusal::bad_request("error decoding patch: not a list of operations"))?;
    if operations.len() > OPERATIONS_MAX {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        );
        return Err(Refusal::new(413, "RequestEntityTooLarge", message));
    }
    for operation in operations {
        let rejected = "the server rejected our request due to an error in our request";
        apply_one(target, operation).ok_or_else(|| Refusal::new(422, "Invalid", rejected))?;
    }
    Ok(())
}

fn apply_one(target: &mut Value, operation: &Value) -> Option<()> {
    let path = operation["path"].as_str()?;
    match operation["op"].as_str()? {
        "add" => add(target, path, operation.get("value")?.clone()),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            *target.pointer_mut(path)? = operation.get("value")?.clone();
            Some(())
        }
        "move" => {
            let value = remove(target, operation["from"].as_str()?)?;
            add(target, path, value)
        }
        "copy" => {
            let value = target.pointer(operation["from"].as_str()?)?.clone();
            add(target, path, value)
        }
        "test" => (target.pointer(path)? == operation.get("value")?).then_some(()),
        _ => None,
    }
}

fn parent<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((target.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    match parent(target, path)? {
        (Value::Object(fields), name) => drop(fields.insert(name, value)),
        (Value::Array(items), index) if index == "-" => items.push(value),
        (Value::Array(items), index) => {
            let index: usize = index.parse().ok()?;
            if index > items.len() {
                return None;
            }
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    match parent(target, path)? {
        (Value::Object(fields), name) => fields.shift_remove(&name),
        (Value::Array(items), index) => {
            let index: usize = index.parse().ok()?;
            (index < items.len()).then(|| items.remove(index))
        }
        _ => None,
    }
}

/// A body as JSON, or else as YAML; `None` when it is neither.
pub(crate) fn json_or_yaml(body: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Some(value);
    }
    let documents = Yaml::load_from_str(std::str::from_utf8(body).ok()?).ok()?;
    from_yaml(documents.first()?, 0)
}

fn from_yaml(yaml: &Yaml<'_>, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(flag)) => (*flag).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::FloatingPoint(number)) => number.into_inner().into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => {
            Value::Array(items.iter().map(|item| from_yaml(item, depth + 1)).collect::<Option<_>>()?)
        }
        Yaml::Mapping(entries) => {
            let mut fields = Map::new();
            for (key, value) in entries {
                let Yaml::Value(Scalar::String(name)) = key else { return None };
                fields.insert(name.to_string(), from_yaml(value, depth + 1)?);
            }
            Value::Object(fields)
        }
        _ => return None,
    })
}
