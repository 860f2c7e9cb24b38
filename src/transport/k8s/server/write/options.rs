//! The options of a write: dry run, field validation, who manages the fields, and what a deletion asks for.

use http::header::{HeaderMap, USER_AGENT};
use serde_json::Value;

use super::super::call::Call;
use crate::transport::k8s::codec::apply::{MANAGER_MAX, manager_of};
use crate::transport::k8s::codec::status::{Reason, Status};

/// What becomes of fields that the schema does not know, and of those given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, and told in a header.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// The options of one write.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Everything is done but storing.
    pub(super) dry_run: bool,
    /// See [`FieldValidation`].
    pub(super) validation: FieldValidation,
    /// Who manages the fields that are written.
    pub(super) manager: String,
    /// Whether the query named the manager.
    pub(super) named: bool,
    /// Whether an apply takes fields from other managers.
    pub(super) force: bool,
}

impl Options {
    /// Reads them from the query; `kind` names the options in messages: `CreateOptions`.
    ///
    /// # Errors
    /// 422 naming the option and what it may be.
    pub(super) fn of(call: &Call, kind: &str) -> Result<Self, Status> {
        let dry_run =
            dry_run(call.query.iter().filter(|(name, _)| name == "dryRun").map(|(_, v)| &**v), kind)?;
        let validation = match call.parameter("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let detail = format!(
                    "Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(invalid(kind, "fieldValidation", "FieldValueNotSupported", &detail));
            }
        };
        let named = call.parameter("fieldManager").filter(|name| !name.is_empty());
        if let Some(name) = named {
            if name.len() > MANAGER_MAX {
                let detail = format!("Too long: may not be more than {MANAGER_MAX} bytes");
                return Err(invalid(kind, "fieldManager", "FieldValueTooLong", &detail));
            }
            if name.chars().any(char::is_control) {
                let detail = format!("Invalid value: {name:?}: should only contain printable characters");
                return Err(invalid(kind, "fieldManager", "FieldValueInvalid", &detail));
            }
        }
        Ok(Self {
            dry_run,
            validation,
            manager: named.map_or_else(|| by_agent(&call.headers), str::to_owned),
            named: named.is_some(),
            force: call.flag("force"),
        })
    }
}

/// A text that says something.
fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What a deletion asks for, from its body and its query.
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    pub(super) dry_run: bool,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    /// `Orphan`, `Background`, `Foreground`; there are no dependents here, an owning cluster has them.
    pub(super) propagation: Option<String>,
    pub(super) grace_seconds: Option<i64>,
}

impl DeleteOptions {
    /// Reads the body, where there is one, and then the query.
    ///
    /// # Errors
    /// 422 for an option that is none.
    pub(super) fn of(call: &Call, body: Option<&Value>) -> Result<Self, Status> {
        const KIND: &str = "DeleteOptions";
        let empty = Value::Null;
        let body = body.unwrap_or(&empty);
        let wanted = body.get("preconditions").unwrap_or(&empty);
        let in_body = body.get("dryRun").and_then(Value::as_array).into_iter().flatten();
        let in_query =
            call.query.iter().filter(|(name, _)| name == "dryRun").map(|(_, value)| value.as_str());
        let propagation =
            text(body.get("propagationPolicy")).or_else(|| call.parameter("propagationPolicy"));
        if let Some(policy) = propagation
            && !matches!(policy, "Orphan" | "Background" | "Foreground")
        {
            let detail = format!(
                "Unsupported value: {policy:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
            );
            return Err(invalid(KIND, "propagationPolicy", "FieldValueNotSupported", &detail));
        }
        let grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        Ok(Self {
            dry_run: dry_run(in_body.filter_map(Value::as_str).chain(in_query), KIND)?,
            uid: text(wanted.get("uid")).map(str::to_owned),
            resource_version: text(wanted.get("resourceVersion")).map(str::to_owned),
            propagation: propagation.map(str::to_owned),
            grace_seconds: grace
                .or_else(|| call.parameter("gracePeriodSeconds").and_then(|text| text.parse().ok())),
        })
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, Status> {
    let mut any = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            let detail = format!("Unsupported value: {value:?}: supported values: \"All\"");
            return Err(invalid(kind, "dryRun", "FieldValueNotSupported", &detail));
        }
        any = true;
    }
    Ok(any)
}

/// `PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: …`
pub(super) fn invalid(kind: &str, field: &str, reason: &str, detail: &str) -> Status {
    let message = format!("{kind}.meta.k8s.io \"\" is invalid: {field}: {detail}");
    Status::new(Reason::Invalid, message).about("meta.k8s.io", kind, "").cause(reason, detail, field)
}

/// A user agent up to its first slash, as the manager of what an unnamed one writes.
fn by_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let name = manager_of(agent);
    if name.is_empty() { "unknown".to_owned() } else { name }
}
