//! The body of a write: JSON, YAML or protobuf, as the object it describes.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::super::kind::{Form, Kind, Origin};
use super::options::FieldValidation;
use crate::transport::k8s::codec::status::{Reason, Status};
use crate::transport::k8s::codec::{proto, strict};

/// How much of a body an error repeats, in bytes.
const REPEATED: usize = 30;

/// The media type, without its parameters and in lower case; JSON where there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.is_empty() { "application/json".to_owned() } else { media }
}

/// 415 that names what would be taken.
pub(super) fn unsupported(accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::new(Reason::UnsupportedMediaType, message)
}

/// An object as a create or an update sends it, its version and kind checked; and each field it names twice.
///
/// # Errors
/// 400 what cannot be read or is of another kind, 415.
pub(super) fn object(
    kind: &Kind,
    headers: &HeaderMap,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let definition = &kind.definition;
    let unrecognized = |why: &str| {
        let message = format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            definition.kind,
            repeated(body)
        );
        Status::new(Reason::BadRequest, message)
    };
    let (mut object, twice) = match &*media_type(headers) {
        "application/json" => {
            let object = json(body).map_err(|why| {
                unrecognized(&format!("couldn't get version/kind; json parse error: {why}"))
            })?;
            let text = std::str::from_utf8(body).unwrap_or_default();
            let twice = match validation {
                FieldValidation::Ignore => Vec::new(),
                _ => strict::duplicates(text).map_err(|error| unrecognized(&error.to_string()))?,
            };
            (object, twice)
        }
        "application/yaml" | "text/yaml" => (yaml(body).map_err(|why| unrecognized(&why))?, Vec::new()),
        "application/vnd.kubernetes.protobuf"
            if proto::is_known(&definition.api_version(), &definition.kind) =>
        {
            let object = proto::decode(body).map_err(|error| unrecognized(&error.to_string()))?;
            (object, Vec::new())
        }
        _ if proto::is_known(&definition.api_version(), &definition.kind) => {
            return Err(unsupported(
                "application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
        _ => return Err(unsupported("application/json, application/yaml")),
    };
    check_type(kind, &mut object).map_err(|refused| match refused {
        Refused::Unrecognized(why) => unrecognized(&why),
        Refused::Mismatch(message) => Status::new(Reason::BadRequest, message),
    })?;
    Ok((object, twice))
}

/// Checks version and kind of an object that was read elsewhere.
///
/// # Errors
/// 400 for another kind.
pub(super) fn check(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    check_type(kind, object).map_err(|refused| match refused {
        Refused::Unrecognized(message) | Refused::Mismatch(message) => {
            Status::new(Reason::BadRequest, message)
        }
    })
}

/// An object that is answered and not stored, of a version and kind that its path names.
///
/// # Errors
/// 400 what cannot be read, 415.
pub(in super::super) fn read(
    headers: &HeaderMap,
    body: &[u8],
    api_version: &str,
    kind: &str,
) -> Result<Value, Status> {
    let wrong = |why: String| {
        let message = format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            repeated(body)
        );
        Status::new(Reason::BadRequest, message)
    };
    let mut object = match &*media_type(headers) {
        "application/json" => json(body)
            .map_err(|why| wrong(format!("couldn't get version/kind; json parse error: {why}")))?,
        "application/yaml" => yaml(body).map_err(wrong)?,
        "application/vnd.kubernetes.protobuf" => {
            proto::decode(body).map_err(|error| wrong(error.to_string()))?
        }
        _ => {
            return Err(unsupported(
                "application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
    };
    let Some(fields) = object.as_object_mut() else {
        return Err(wrong("couldn't get version/kind; it is no object".to_owned()));
    };
    fields.entry("apiVersion").or_insert_with(|| Value::String(api_version.to_owned()));
    fields.entry("kind").or_insert_with(|| Value::String(kind.to_owned()));
    Ok(object)
}

enum Refused {
    Unrecognized(String),
    Mismatch(String),
}

/// Checks `apiVersion` and `kind`; the server's own kinds may leave them out.
fn check_type(kind: &Kind, object: &mut Value) -> Result<(), Refused> {
    let definition = &kind.definition;
    let api_version = definition.api_version();
    let built_in = matches!(kind.origin, Origin::BuiltIn);
    let Some(fields) = object.as_object_mut() else {
        return Err(Refused::Unrecognized("couldn't get version/kind; it is no object".to_owned()));
    };
    for (name, title, wanted) in
        [("apiVersion", "API version", &api_version), ("kind", "kind", &definition.kind)]
    {
        match fields.get(name) {
            Some(Value::String(have)) if have == wanted => {}
            None | Some(Value::Null) if built_in => {
                fields.insert(name.to_owned(), Value::String(wanted.clone()));
            }
            Some(Value::String(have)) if !have.is_empty() => {
                return Err(Refused::Mismatch(format!(
                    "the {title} in the data ({have}) does not match the expected {title} ({wanted})"
                )));
            }
            _ => {
                let field = if name == "kind" { "Kind" } else { "apiVersion" };
                return Err(Refused::Unrecognized(format!("Object '{field}' is missing")));
            }
        }
    }
    // Cheap to look up from here on.
    match fields.get("metadata") {
        Some(Value::Object(_)) => Ok(()),
        None | Some(Value::Null) => {
            fields.insert("metadata".to_owned(), Value::Object(serde_json::Map::new()));
            Ok(())
        }
        Some(_) if kind.form == Form::Occurrence => Ok(()),
        Some(_) => Err(Refused::Unrecognized("metadata is no object".to_owned())),
    }
}

/// JSON in the words of the API's own decoder.
///
/// # Errors
/// What is wrong.
pub(super) fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() }
    })
}

/// YAML, which JSON is too; one document, its aliases bounded.
///
/// # Errors
/// What is wrong and where.
pub(super) fn yaml(body: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    serde_saphyr::from_str(text).map_err(|error| format!("error converting YAML to JSON: {error}"))
}

/// The beginning of a body, as text where it looks like JSON.
fn repeated(body: &[u8]) -> String {
    let cut = body.get(..REPEATED).unwrap_or(body);
    let more = if body.len() > REPEATED { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(cut)),
        Some(_) => format!("{}{more}", data_encoding::HEXLOWER.encode(cut)),
    }
}
