//! Reviews: what may I do, and who am I.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::access::Caller;
use super::answer::{self, Answer};
use super::call::Call;
use super::write::read_body;
use crate::transport::k8s::codec::status::Status;

/// A kind that is only ever created, and answered at once.
pub(super) struct Review {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
}

/// The reviews that are answered.
pub(super) const KINDS: [Review; 3] = [
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
    },
    Review { group: "authentication.k8s.io", kind: "SelfSubjectReview", plural: "selfsubjectreviews" },
];

/// Answers a review; `None` for other paths.
pub(super) fn answer(shared: &Arc<Shared>, caller: &Caller, call: &Call, path: &[&str]) -> Option<Answer> {
    let ["apis", group, "v1", plural] = path else { return None };
    let review = KINDS.iter().find(|review| review.group == *group && review.plural == *plural)?;
    Some(match decide(shared, caller, call, review) {
        Ok(object) => answer::json(StatusCode::CREATED, &object),
        Err(status) => answer::status(&status),
    })
}

fn decide(shared: &Shared, caller: &Caller, call: &Call, review: &Review) -> Result<Value, Status> {
    let api_version = format!("{}/v1", review.group);
    let mut object = read_body(&call.headers, &call.body, &api_version, review.kind)?;
    let status = match review.kind {
        "SelfSubjectAccessReview" => {
            let (allowed, reason) =
                allowed(shared, caller, call, object.get("spec").unwrap_or(&Value::Null));
            let mut status = json!({ "allowed": allowed });
            if let (false, Some(fields)) = (reason.is_empty(), status.as_object_mut()) {
                fields.insert("reason".to_owned(), json!(reason));
            }
            status
        }
        "SelfSubjectRulesReview" => rules(shared, caller, call),
        _ => json!({"userInfo": {"username": caller.user(), "groups": caller.groups()}}),
    };
    if let Some(fields) = object.as_object_mut() {
        fields.entry("metadata").or_insert_with(|| json!({}));
        fields.insert("status".to_owned(), status);
    }
    Ok(object)
}

/// Whether the caller may, and why not.
fn allowed(shared: &Shared, caller: &Caller, call: &Call, spec: &Value) -> (bool, String) {
    let Some(asked) = spec.get("resourceAttributes").filter(|asked| asked.is_object()) else {
        // What is no resource is documents about the API, which everybody who is known may read.
        return (true, String::new());
    };
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, resource, verb) = (text("group"), text("resource"), text("verb"));
    let kinds = shared.kinds.all(shared, &call.scope);
    let found =
        kinds.iter().find(|kind| kind.definition.group == group && kind.definition.plural == resource);
    let Some(kind) = found else {
        // Of what is not there, as of all: only who may do everything.
        let reason = format!("no resource {resource:?} is served in API group {group:?}");
        return (caller.may_everything(), if caller.may_everything() { String::new() } else { reason });
    };
    if verb != "*" && !kind.allows(verb) {
        return (false, format!("{} takes no {verb}", kind.definition.resource()));
    }
    match caller.authorize_collection(action_of(verb), &call.scope, verb, kind, text("namespace")) {
        Ok(()) => (true, String::new()),
        Err(status) => (false, status.message),
    }
}

fn rules(shared: &Shared, caller: &Caller, call: &Call) -> Value {
    let kinds = shared.kinds.all(shared, &call.scope);
    let rules: Vec<Value> = kinds
        .iter()
        .filter_map(|kind| {
            let may = |verb: &&&str| {
                caller.authorize_collection(action_of(verb), &call.scope, verb, kind, "").is_ok()
            };
            let verbs: Vec<&&str> = kind.verbs.iter().filter(may).collect();
            let definition = &kind.definition;
            (!verbs.is_empty()).then(|| {
                json!({"verbs": verbs, "apiGroups": [definition.group], "resources": [definition.plural]})
            })
        })
        .collect();
    let open = json!({"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version"]});
    json!({"resourceRules": rules, "nonResourceRules": [open], "incomplete": false})
}

/// What the bus calls a verb.
fn action_of(verb: &str) -> crate::core::access::Action {
    use crate::core::access::Action;
    match verb {
        "get" | "list" => Action::Read,
        "watch" => Action::Subscribe,
        _ => Action::Write,
    }
}
