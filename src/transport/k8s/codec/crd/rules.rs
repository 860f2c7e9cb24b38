//! The rules of a definition, in the API server's words.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::schema::structural::{ERRORS_MAX, FieldError, Structural, meta, names};

use super::{Crd, CrdVersion, Names, PrinterColumn, SELECTABLE_FIELDS_MAX, is_established};

/// Longest warning of a deprecated version, in bytes.
const WARNING_MAX: usize = 256;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// What may stand at the root of a schema whose status is a subresource, as the API server names it.
const ROOT_FIELDS: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// Reads a definition; it is good for use where there are no errors.
pub(super) fn read(object: &Value) -> (Crd, Vec<FieldError>) {
    let empty = Map::new();
    let spec = object.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let mut errors = meta::validate(object, false, names::dns_subdomain);
    let group = text(spec, "group").to_owned();
    let kind_names = read_names(spec.get("names").and_then(Value::as_object).unwrap_or(&empty));
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name != format!("{}.{group}", kind_names.plural) {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid_text("metadata.name", name, detail));
    }
    check_group(&group, &mut errors);
    let scope = text(spec, "scope");
    match scope {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(FieldError::required("spec.scope", "")),
        other => errors.push(FieldError::not_supported(
            "spec.scope",
            &Value::from(other),
            &["Cluster", "Namespaced"],
        )),
    }
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &Value::Bool(true), detail));
    }
    let versions = read_versions(spec, &group, &kind_names.kind, &mut errors);
    check_names(&kind_names, &mut errors);
    check_conversion(spec, &mut errors);
    errors.truncate(ERRORS_MAX);
    let crd = Crd { group, names: kind_names, namespaced: scope == "Namespaced", versions };
    (crd, errors)
}

/// The rules of a change: besides those of [`Crd::parse`], what may not change.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(read(new).1.into_iter().filter(|error| !errors.contains(error)).collect::<Vec<_>>());
    let mut fixed = vec!["/spec/group", "/spec/names/plural"];
    if is_established(old) {
        fixed.extend(["/spec/scope", "/spec/names/kind"]);
    }
    for pointer in fixed {
        let of = |object: &Value| object.pointer(pointer).cloned().unwrap_or_default();
        if of(new) != of(old) {
            let path = pointer.trim_start_matches('/').replace('/', ".");
            errors.push(FieldError::invalid(path, &of(new), "field is immutable"));
        }
    }
    stored_versions(new, &mut errors);
    errors.truncate(ERRORS_MAX);
    errors
}

/// A version that was stored once stays until nothing of it is stored.
fn stored_versions(object: &Value, errors: &mut Vec<FieldError>) {
    let list =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let versions = list("/spec/versions");
    for (at, stored) in list("/status/storedVersions").iter().enumerate() {
        if !versions.iter().any(|version| version.get("name") == Some(stored)) {
            let name = stored.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("status.storedVersions[{at}]"), stored, &detail));
        }
    }
}

fn check_group(group: &str, errors: &mut Vec<FieldError>) {
    let wrong = names::dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid_text("spec.group", group, &wrong.join(",")));
    } else if !group.contains('.') {
        let detail = "should be a domain with at least one dot";
        errors.push(FieldError::invalid_text("spec.group", group, detail));
    }
}

fn read_names(map: &Map<String, Value>) -> Names {
    Names {
        plural: text(map, "plural").to_owned(),
        singular: text(map, "singular").to_owned(),
        kind: text(map, "kind").to_owned(),
        list_kind: text(map, "listKind").to_owned(),
        short_names: strings(map, "shortNames"),
        categories: strings(map, "categories"),
    }
}

fn check_names(names: &Names, errors: &mut Vec<FieldError>) {
    let single = [
        ("plural", &names.plural, false),
        ("singular", &names.singular, false),
        ("kind", &names.kind, true),
        ("listKind", &names.list_kind, true),
    ];
    for (field, name, _) in single {
        if name.is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    for (field, name, mixed_case) in single {
        let wrong = if mixed_case {
            names::dns_1035_label(&name.to_lowercase())
        } else {
            names::dns_1035_label(name)
        };
        if !name.is_empty() && !wrong.is_empty() {
            let prefix = if mixed_case { "may have mixed case, but should otherwise match: " } else { "" };
            let detail = format!("{prefix}{}", wrong.join(","));
            errors.push(FieldError::invalid_text(format!("spec.names.{field}"), name, &detail));
        }
    }
    let lists = [("shortNames", &names.short_names), ("categories", &names.categories)];
    for (field, list) in lists {
        for (at, name) in list.iter().enumerate() {
            let wrong = names::dns_1035_label(name);
            if !wrong.is_empty() {
                let path = format!("spec.names.{field}[{at}]");
                errors.push(FieldError::invalid_text(path, name, &wrong.join(",")));
            }
        }
    }
    if !names.kind.is_empty() && names.kind == names.list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid_text("spec.names.listKind", &names.list_kind, detail));
    }
}

fn check_conversion(spec: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let Some(conversion) = spec.get("conversion").and_then(Value::as_object) else { return };
    match text(conversion, "strategy") {
        "None" => {
            if conversion.get("webhook").is_some_and(|webhook| !webhook.is_null()) {
                let detail = "should not be set when strategy is not set to Webhook";
                errors.push(FieldError::forbidden("spec.conversion.webhook", detail));
            }
        }
        "" => errors.push(FieldError::required("spec.conversion.strategy", "")),
        other => {
            let value = Value::from(other);
            errors.push(FieldError::not_supported("spec.conversion.strategy", &value, &["None"]));
        }
    }
}

fn read_versions(
    spec: &Map<String, Value>,
    group: &str,
    kind: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<CrdVersion> {
    let empty = Vec::new();
    let list = spec.get("versions").and_then(Value::as_array).unwrap_or(&empty);
    for (at, version) in list.iter().enumerate() {
        if version.pointer("/schema/openAPIV3Schema").is_none_or(Value::is_null) {
            let path = format!("spec.versions[{at}].schema.openAPIV3Schema");
            errors.push(FieldError::required(path, "schemas are required"));
        }
    }
    let mut versions: Vec<CrdVersion> = Vec::with_capacity(list.len());
    let mut unique = true;
    for (at, version) in list.iter().enumerate() {
        if errors.len() >= ERRORS_MAX {
            return versions;
        }
        let path = format!("spec.versions[{at}]");
        let Some(version) = version.as_object() else {
            errors.push(FieldError::type_invalid(path, version, "must be an object"));
            continue;
        };
        let name = text(version, "name");
        unique &=
            !list.iter().take(at).any(|earlier| earlier.get("name").and_then(Value::as_str) == Some(name));
        let wrong = names::dns_1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid_text(format!("{path}.name"), name, &wrong.join(",")));
        }
        versions.extend(read_version(version, name, group, kind, &path, errors));
    }
    let all = Value::from(list.clone());
    if !unique {
        errors.push(FieldError::invalid("spec.versions", &all, "must contain unique version names"));
    }
    if list.iter().filter(|version| version.get("storage") == Some(&Value::Bool(true))).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", &all, detail));
    }
    versions
}

fn read_version(
    version: &Map<String, Value>,
    name: &str,
    group: &str,
    kind: &str,
    path: &str,
    errors: &mut Vec<FieldError>,
) -> Option<CrdVersion> {
    let flag = |field: &str| version.get(field) == Some(&Value::Bool(true));
    let warning = version.get("deprecationWarning").and_then(Value::as_str);
    check_warning(flag("deprecated"), warning, path, errors);
    let status = version
        .get("subresources")
        .and_then(|subresources| subresources.get("status"))
        .is_some_and(|status| !status.is_null());
    let columns = read_columns(version, path, errors);
    let open_api = version.get("schema")?.get("openAPIV3Schema").filter(|schema| !schema.is_null())?;
    let schema_path = format!("{path}.schema.openAPIV3Schema");
    if status {
        check_root(open_api, &schema_path, errors);
    }
    let schema = match Structural::compile_at(open_api, &schema_path) {
        Ok(schema) => schema,
        Err(wrong) => {
            errors.extend(wrong);
            return None;
        }
    };
    let selectable = read_selectable(version, &schema, path, errors);
    Some(CrdVersion {
        name: name.to_owned(),
        served: flag("served"),
        storage: flag("storage"),
        deprecation: flag("deprecated")
            .then(|| warning.map_or_else(|| format!("{group}/{name} {kind} is deprecated"), str::to_owned)),
        schema: Arc::new(schema),
        open_api: Arc::new(open_api.clone()),
        status,
        columns,
        selectable,
    })
}

fn check_warning(deprecated: bool, warning: Option<&str>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(warning) = warning else { return };
    let unprintable = warning.char_indices().find(|(_, c)| c.is_control());
    let wrong = match warning {
        _ if !deprecated => "can only be set for deprecated versions".to_owned(),
        "" => "must not be an empty string".to_owned(),
        text if text.len() > WARNING_MAX => format!("must be <= {WARNING_MAX} characters long"),
        _ => match unprintable {
            Some((at, _)) => format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ),
            None => return,
        },
    };
    errors.push(FieldError::invalid_text(format!("{path}.deprecationWarning"), warning, &wrong));
}

/// The status is read out of the schema on its own, so nothing at the root may speak of it.
fn check_root(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let allowed = |key: &str| {
        let named = key.strip_prefix("x-kubernetes-").map_or_else(
            || key.to_owned(),
            |rest| format!("x{}", rest.split('-').map(capitalized).collect::<String>()),
        );
        ROOT_FIELDS.contains(&capitalized(&named).as_str())
    };
    let unset = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
    // Nullable at the root has a sentence of its own.
    let forbidden = schema.as_object().is_some_and(|schema| {
        schema.iter().any(|(key, value)| !allowed(key) && key != "nullable" && !unset(value))
    });
    if forbidden {
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            ROOT_FIELDS.join(" ")
        );
        errors.push(FieldError::invalid(path, schema, &detail));
    }
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

fn read_columns(
    version: &Map<String, Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<PrinterColumn> {
    let list = version.get("additionalPrinterColumns").and_then(Value::as_array);
    let mut columns = Vec::new();
    for (at, column) in list.into_iter().flatten().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{at}]");
        let of = |name: &str| column.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let priority = column.get("priority").and_then(Value::as_i64).unwrap_or(0);
        let column = PrinterColumn {
            name: of("name"),
            kind: of("type"),
            format: of("format"),
            description: of("description"),
            priority: i32::try_from(priority).unwrap_or(i32::MAX),
            json_path: of("jsonPath"),
        };
        check_column(&column, &path, errors);
        columns.push(column);
    }
    columns
}

fn check_column(column: &PrinterColumn, path: &str, errors: &mut Vec<FieldError>) {
    if column.name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if column.kind.is_empty() {
        errors.push(FieldError::required(format!("{path}.type"), &types));
    } else if !COLUMN_TYPES.contains(&column.kind.as_str()) {
        errors.push(FieldError::invalid_text(format!("{path}.type"), &column.kind, &types));
    }
    if !column.format.is_empty() && !COLUMN_FORMATS.contains(&column.format.as_str()) {
        let formats = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid_text(format!("{path}.format"), &column.format, &formats));
    }
    let json_path = &column.json_path;
    if json_path.is_empty() {
        errors.push(FieldError::required(format!("{path}.jsonPath"), ""));
    } else if !json_path.starts_with('.') {
        let detail = "must be a simple json path starting with .";
        errors.push(FieldError::invalid_text(format!("{path}.jsonPath"), json_path, detail));
    }
}

fn read_selectable(
    version: &Map<String, Value>,
    schema: &Structural,
    path: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<String> {
    let list = version.get("selectableFields").and_then(Value::as_array);
    let mut paths: Vec<String> = Vec::new();
    for (at, field) in list.into_iter().flatten().enumerate() {
        if errors.len() >= ERRORS_MAX {
            return paths;
        }
        let path = format!("{path}.selectableFields[{at}].jsonPath");
        let json_path = field.get("jsonPath").and_then(Value::as_str).unwrap_or_default();
        if json_path.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        if json_path == ".metadata" || json_path.starts_with(".metadata.") {
            errors.push(FieldError::invalid_text(&path, json_path, "must not point to fields in metadata"));
            continue;
        }
        match schema.scalar_at(json_path) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let detail = "must point to a field of type string, boolean or integer. Enum string fields and \
                              strings with formats are allowed.";
                errors.push(FieldError::invalid_text(&path, json_path, detail));
            }
            Err(why) => {
                let detail = format!("is an invalid path: {why}");
                errors.push(FieldError::invalid_text(path, json_path, &detail));
                continue;
            }
        }
        if paths.iter().any(|earlier| earlier == json_path) {
            errors.push(FieldError::duplicate(path, &Value::from(json_path)));
        } else {
            paths.push(json_path.to_owned());
        }
    }
    if paths.len() > SELECTABLE_FIELDS_MAX {
        let at = format!("{path}.selectableFields");
        errors.push(FieldError::too_many(at, paths.len(), SELECTABLE_FIELDS_MAX as u64));
    }
    paths
}

fn text<'m>(map: &'m Map<String, Value>, name: &str) -> &'m str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn strings(map: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = map.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
