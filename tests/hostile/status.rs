//! Refusals as a real API server words them: a Status with reason, message and details.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::kinds::Kind;

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// HTTP status, as `code` in the body.
    pub(crate) code: u16,
    pub(crate) body: Value,
    /// Seconds, for the header `Retry-After`.
    pub(crate) retry_after: Option<u64>,
    /// Sent in place of the Status: overload protection and unknown paths answer in plain text.
    pub(crate) plain: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code,
        });
        Self { code, body, retry_after: None, plain: None }
    }

    pub(crate) fn plain(code: u16, text: &'static str) -> Self {
        Self { plain: Some(text), ..Self::new(code, "", text) }
    }

    pub(crate) fn details(mut self, details: Value) -> Self {
        // A real body ends with the code.
        let code = self.body.as_object_mut().and_then(|body| body.remove("code"));
        self.body["details"] = details;
        self.body["code"] = code.unwrap_or_default();
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message).details(about(kind, name, &kind.plural))
    }

    pub(crate) fn path_not_found() -> Self {
        Self::plain(404, "404 page not found\n")
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message).details(about(kind, name, &kind.plural))
    }

    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your \
             changes to the latest version and try again",
            kind.resource()
        );
        Self::new(409, "Conflict", message).details(about(kind, name, &kind.plural))
    }

    /// A DELETE whose precondition does not hold.
    pub(crate) fn precondition(kind: &Kind, name: &str, what: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {what}", kind.qualified_kind());
        Self::new(409, "Conflict", message).details(about(kind, name, &kind.kind))
    }

    /// One invalid field: `what` is the full detail, such as `Required value`.
    pub(crate) fn invalid(kind: &Kind, name: &str, field: &str, reason: &str, what: &str) -> Self {
        let mut details = about(kind, name, &kind.kind);
        details["causes"] = json!([{"reason": reason, "message": what, "field": field}]);
        let message = format!("{} \"{name}\" is invalid: {field}: {what}", kind.qualified_kind());
        Self::new(422, "Invalid", message).details(details)
    }

    /// A query parameter that must not be there.
    pub(crate) fn forbidden_option(field: &str, what: &str) -> Self {
        let what = format!("Forbidden: {what}");
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {what}");
        Self::new(422, "Invalid", message).details(json!({
            "group": "meta.k8s.io", "kind": "ListOptions",
            "causes": [{"reason": "FieldValueForbidden", "message": what, "field": field}],
        }))
    }

    /// A list at a resource version that is gone.
    pub(crate) fn list_too_old() -> Self {
        Self::new(410, "Expired", "The resourceVersion for the provided list is too old.")
    }

    /// A page at a resource version that is gone; `token` continues inconsistently.
    pub(crate) fn page_too_old(token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can \
                       start a new list without the continue parameter, or use the continue token in this \
                       response to retrieve the remainder of the results. Continuing with the provided token \
                       results in an inconsistent list - objects that were created, modified, or deleted \
                       between the time the first chunk was returned and now may show up in the list.";
        let mut refusal = Self::new(410, "Expired", message);
        refusal.body["metadata"] = json!({ "continue": token });
        refusal
    }

    /// A watch from a resource version that is gone. Cached kinds and Events word it differently.
    pub(crate) fn watch_too_old(asked: u64, floor: u64, cached: bool) -> Self {
        if cached {
            return Self::new(410, "Expired", format!("too old resource version: {asked} ({floor})"));
        }
        Self::new(410, "Expired", "The resourceVersion for the provided watch is too old.")
    }

    pub(crate) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message)
            .details(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }))
            .retry_after(1)
    }

    pub(crate) fn conflicts(causes: &[(String, String)]) -> Self {
        let listed = match causes {
            [(who, field)] => format!("1 conflict: conflict with {who}: {field}"),
            many => {
                let whose: BTreeSet<&String> = many.iter().map(|(who, _)| who).collect();
                let mut lines = Vec::new();
                for who in whose {
                    lines.push(format!("conflicts with {who}:"));
                    let fields = many.iter().filter(|(other, _)| other == who);
                    lines.extend(fields.map(|(_, field)| format!("- {field}")));
                }
                format!("{} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let cause = |(who, field): &(String, String)| {
            let message = format!("conflict with {who}");
            json!({"reason": "FieldManagerConflict", "message": message, "field": field})
        };
        Self::new(409, "Conflict", format!("Apply failed with {listed}"))
            .details(json!({ "causes": causes.iter().map(cause).collect::<Vec<_>>() }))
    }

    pub(crate) fn media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }
}

fn about(kind: &Kind, name: &str, word: &str) -> Value {
    let mut details = json!({});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_str().into();
    }
    details["kind"] = word.into();
    details
}
