//! JSON Patch (RFC 6902), with the liberties the API server takes.
//!
//! | where the RFC fails | the server |
//! |---|---|
//! | `replace` of a member that is not there | adds it |
//! | `test` of a member that is not there | takes it for null |
//! | an operation without `value` | takes null |
//! | an index below zero | counts from the end |
//! | `add` to the whole document | fails |

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{DEPTH_MAX, PATCH_MAX, PatchError, go_type, nests_within};

/// The most operations one patch can have.
pub const OPERATIONS_MAX: usize = 10_000;

/// One operation as it is written.
#[derive(Deserialize)]
struct Operation {
    op: Option<String>,
    path: Option<String>,
    from: Option<String>,
    #[serde(default)]
    value: Value,
}

/// The object with a JSON Patch applied: all of it or, on an error, none.
///
/// # Errors
///
/// The patch cannot be read, is larger than [`PATCH_MAX`], has more than [`OPERATIONS_MAX`] operations,
/// copies more than [`PATCH_MAX`] bytes, nests deeper than [`DEPTH_MAX`], or one of its operations fails.
pub fn json_patch(doc: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    if patch.len() > PATCH_MAX {
        return Err(PatchError::TooLarge(format!("limit is {PATCH_MAX}")));
    }
    let operations: Vec<&RawValue> =
        serde_json::from_slice(patch).map_err(|error| no_list(&error, patch))?;
    let count = operations.len();
    if count > OPERATIONS_MAX {
        let why =
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}");
        return Err(PatchError::TooLarge(why));
    }
    let mut patched = doc.clone();
    let mut copied = 0;
    for (at, operation) in operations.into_iter().enumerate() {
        let operation = serde_json::from_str(operation.get()).map_err(|error| unreadable(&error))?;
        let refuse = |why: String| PatchError::Invalid(format!("operation {at}: {why}"));
        apply(&mut patched, operation, &mut copied).map_err(refuse)?;
    }
    Ok(patched)
}

fn no_list(error: &serde_json::Error, patch: &[u8]) -> PatchError {
    match serde_json::from_slice::<Value>(patch) {
        Ok(found) if error.is_data() => PatchError::BadRequest(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            go_type(&found)
        )),
        _ => unreadable(error),
    }
}

fn unreadable(error: &serde_json::Error) -> PatchError {
    let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
    PatchError::BadRequest(format!("error decoding patch: {why}"))
}

fn apply(doc: &mut Value, operation: Operation, copied: &mut usize) -> Result<(), String> {
    let Operation { op, path, from, value } = operation;
    let path = path.ok_or("`path` is missing")?;
    let from = || from.as_deref().ok_or("`from` is missing");
    match op.as_deref() {
        Some("add") => add(doc, &path, value),
        Some("remove") => remove(doc, &path).map(|_| ()),
        Some("replace") => replace(doc, &path, value),
        Some("move") => {
            let moved = remove(doc, from()?)?;
            add(doc, &path, moved)
        }
        Some("copy") => {
            let copy = get(doc, from()?)?;
            *copied += copy.to_string().len();
            if *copied > PATCH_MAX {
                return Err(format!("the copies have more than {PATCH_MAX} bytes"));
            }
            let copy = copy.clone();
            add(doc, &path, copy)
        }
        Some("test") => {
            let found = if path.is_empty() { doc } else { get(doc, &path)? };
            if *found == value { Ok(()) } else { Err(format!("testing value {path} failed")) }
        }
        op => Err(format!("`{}` is no operation", op.unwrap_or_default())),
    }
}

fn add(doc: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    match container(doc, path)? {
        (Value::Array(elements), key) if key == "-" => elements.push(value),
        (Value::Array(elements), key) => {
            // The place behind the last element is one more.
            let at = index(&key, elements.len() + 1)?;
            elements.insert(at, value);
        }
        (Value::Object(fields), key) => {
            fields.insert(key, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(doc: &mut Value, path: &str) -> Result<Value, String> {
    match container(doc, path)? {
        (Value::Array(elements), key) => {
            let at = index(&key, elements.len())?;
            Ok(elements.remove(at))
        }
        (Value::Object(fields), key) => fields.shift_remove(&key).ok_or_else(|| missing(path)),
        _ => Err(missing(path)),
    }
}

fn replace(doc: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("a document can only be replaced with an object or an array".to_owned());
        }
        *doc = value;
        return Ok(());
    }
    match container(doc, path)? {
        (Value::Array(elements), key) => {
            let at = index(&key, elements.len())?;
            *elements.get_mut(at).ok_or_else(|| missing(path))? = value;
        }
        (Value::Object(fields), key) => {
            fields.insert(key, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

/// What is at a path; a member that is not there is null.
fn get<'a>(doc: &'a mut Value, path: &str) -> Result<&'a Value, String> {
    match container(doc, path)? {
        (Value::Array(elements), key) => {
            let at = index(&key, elements.len())?;
            elements.get(at).ok_or_else(|| missing(path))
        }
        (Value::Object(fields), key) => Ok(fields.get(&key).unwrap_or(&Value::Null)),
        _ => Err(missing(path)),
    }
}

/// The object or array that the last part of a path is in, and that part.
fn container<'a>(doc: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    // What stands before the first slash is not looked at.
    let (_, path_within) = path.split_once('/').ok_or_else(|| missing(path))?;
    let (parents, last) =
        path_within.rsplit_once('/').map_or((None, path_within), |(parents, last)| (Some(parents), last));
    let mut at = doc;
    for part in parents.into_iter().flat_map(|parents| parents.split('/')) {
        let key = unescape(part);
        at = match at {
            Value::Array(elements) => {
                let at = index(&key, elements.len())?;
                elements.get_mut(at)
            }
            Value::Object(fields) => fields.get_mut(&key),
            _ => None,
        }
        .ok_or_else(|| missing(path))?;
    }
    Ok((at, unescape(last)))
}

/// An index below a length; below zero it counts from the end.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let at: i64 = key.parse().map_err(|_| format!("`{key}` is no index"))?;
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let absolute = if at < 0 { at + length } else { at };
    let within = usize::try_from(absolute).ok().filter(|_| absolute < length);
    within.ok_or_else(|| format!("index {at} is beyond the array"))
}

fn unescape(part: &str) -> String {
    if part.contains('~') { part.replace("~1", "/").replace("~0", "~") } else { part.to_owned() }
}

fn missing(path: &str) -> String {
    format!("the document has no `{path}`")
}

/// Many operations could nest deeper than anybody reads.
fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let above = path.matches('/').count();
    match DEPTH_MAX.checked_sub(above) {
        Some(depth) if nests_within(value, depth) => Ok(()),
        _ => Err(format!("`{path}` nests more than {DEPTH_MAX} deep")),
    }
}
