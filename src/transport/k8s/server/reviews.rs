//! Reviews: what may I do, what may somebody else, and who am I.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Shared;
use super::access::{Caller, User, forbidden};
use super::answer::{self, Answer};
use super::call::Call;
use super::kind::Kind;
use super::write::read_body;
use crate::core::access::Action;
use crate::transport::k8s::codec::status::{Reason, Status};

/// A kind that is only ever created, and answered at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Review {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    /// Whether it is asked in a namespace.
    pub(super) namespaced: bool,
}

const AUTHORIZATION: &str = "authorization.k8s.io";
/// The documents that are no resource; everybody who is known may read them.
const DOCUMENTS: [&str; 13] = [
    "/",
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/livez/*",
    "/openapi/*",
    "/readyz",
    "/readyz/*",
    "/scopes",
    "/version",
];

/// The reviews that are answered.
pub(super) const KINDS: [Review; 5] = [
    of(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", false),
    of(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", false),
    of(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", false),
    of(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", true),
    of("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", false),
];

const fn of(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Review {
    Review { group, kind, plural, namespaced }
}

/// Answers a review; `None` for other paths.
pub(super) fn answer(shared: &Arc<Shared>, caller: &Caller, call: &Call, path: &[&str]) -> Option<Answer> {
    let (group, plural, namespace) = match path {
        ["apis", group, "v1", "namespaces", namespace, plural] => (group, plural, Some(*namespace)),
        ["apis", group, "v1", plural] => (group, plural, None),
        _ => return None,
    };
    let review = KINDS.iter().find(|review| {
        review.group == *group && review.plural == *plural && review.namespaced == namespace.is_some()
    })?;
    if call.method != Method::POST {
        return Some(answer::method_not_allowed("POST"));
    }
    Some(match decide(shared, caller, call, review, namespace.unwrap_or_default()) {
        Ok(object) => answer::json(StatusCode::CREATED, &object),
        Err(status) => answer::status(&status),
    })
}

fn decide(
    shared: &Shared,
    caller: &Caller,
    call: &Call,
    review: &Review,
    namespace: &str,
) -> Result<Value, Status> {
    let api_version = format!("{}/v1", review.group);
    let mut object = read_body(&call.headers, &call.body, &api_version, review.kind)?;
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let status = match review.kind {
        "SelfSubjectAccessReview" => {
            check(review, spec, namespace)?;
            verdict(shared, caller, call, spec)
        }
        "SelfSubjectRulesReview" => {
            let namespace = text(spec, "namespace");
            if namespace.is_empty() {
                return Err(Status::new(Reason::BadRequest, "no namespace on request"));
            }
            rules(shared, caller, call, namespace)
        }
        "SelfSubjectReview" => json!({ "userInfo": user_info(caller.user()) }),
        _ => {
            // What others may do is for those who may look into the bus.
            if !caller.may_administer() {
                let resource = (review.group, review.plural, "");
                return Err(forbidden(&caller.user().name, "create", resource, namespace, ""));
            }
            check(review, spec, namespace)?;
            verdict(shared, &caller.another(subject(spec)), call, spec)
        }
    };
    if let Some(fields) = object.as_object_mut() {
        fields.entry("metadata").or_insert_with(|| json!({}));
        fields.insert("status".to_owned(), status);
    }
    Ok(object)
}

/// What an API server asks of a question.
fn check(review: &Review, spec: &Value, namespace: &str) -> Result<(), Status> {
    let asks = |name: &str| spec.get(name).is_some_and(Value::is_object);
    let invalid = |field: &str, value: &str, why: &str| {
        let message = format!("Invalid value: {value:?}: {why}");
        let name = format!("{}.{}", review.kind, review.group);
        Status::new(Reason::Invalid, format!("{name} \"\" is invalid: spec.{field}: {message}"))
            .about(review.group, review.kind, "")
            .cause("FieldValueInvalid", &message, &format!("spec.{field}"))
    };
    if asks("resourceAttributes") == asks("nonResourceAttributes") {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(invalid("resourceAttributes", "null", why));
    }
    let of_others = review.kind != "SelfSubjectAccessReview";
    let groups = spec.get("groups").and_then(Value::as_array).is_some_and(|groups| !groups.is_empty());
    if of_others && text(spec, "user").is_empty() && !groups {
        return Err(invalid("user", "", "at least one of user or group must be specified"));
    }
    let asked = spec.get("resourceAttributes").unwrap_or(&Value::Null);
    if review.namespaced && text(asked, "namespace") != namespace {
        let message = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
        return Err(Status::new(Reason::BadRequest, message));
    }
    Ok(())
}

/// The one somebody asks about. Rules are about users: what only a group may do is nothing.
fn subject(spec: &Value) -> User {
    let texts = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    User {
        name: text(spec, "user").into(),
        uid: text(spec, "uid").to_owned(),
        groups: texts(spec.get("groups")),
        extra: Vec::new(),
    }
}

fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".to_owned(), json!(&*user.name));
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), json!(user.uid));
    }
    info.insert("groups".to_owned(), json!(user.groups));
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(name, values)| (name.clone(), json!(values)));
        info.insert("extra".to_owned(), Value::Object(extra.collect()));
    }
    Value::Object(info)
}

fn verdict(shared: &Shared, caller: &Caller, call: &Call, spec: &Value) -> Value {
    match refusal(shared, caller, call, spec) {
        None => json!({"allowed": true}),
        Some(reason) if reason.is_empty() => json!({"allowed": false}),
        Some(reason) => json!({"allowed": false, "reason": reason}),
    }
}

/// Why not; `None` where the caller may.
fn refusal(shared: &Shared, caller: &Caller, call: &Call, spec: &Value) -> Option<String> {
    let Some(asked) = spec.get("resourceAttributes") else {
        let asked = spec.get("nonResourceAttributes").unwrap_or(&Value::Null);
        let readable = matches!(text(asked, "verb"), "get" | "head");
        return (!readable && !caller.may_everything()).then(String::new);
    };
    let [group, resource, verb] = ["group", "resource", "verb"].map(|name| text(asked, name));
    let [namespace, name] = ["namespace", "name"].map(|name| text(asked, name));
    let is_review = |review: &&Review| review.group == group && review.plural == resource;
    if let Some(review) = KINDS.iter().find(is_review) {
        let may = verb == "create" && (review.kind.starts_with("Self") || caller.may_administer());
        return (!may).then(String::new);
    }
    let kinds = shared.kinds.all(shared, &call.scope);
    let version = text(asked, "version");
    let any_version = matches!(version, "" | "*");
    let found = kinds.iter().find(|kind| {
        let definition = &kind.definition;
        definition.group == group
            && definition.plural == resource
            && (any_version || definition.version == version)
    });
    let subresource = text(asked, "subresource");
    let Some(kind) = found.filter(|kind| is_served(kind, subresource)) else {
        // Of what is not there, as of all: only who may do everything.
        let all = [Action::Read, Action::Subscribe, Action::Write];
        let may = all.into_iter().all(|action| caller.may_anywhere(action));
        let whole = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        return (!may).then(|| format!("no resource {whole:?} is served"));
    };
    let verbs: &[&str] = if verb == "*" { kind.verbs } else { &[verb] };
    if let Some(verb) = verbs.iter().find(|verb| !kind.allows(verb)) {
        return Some(format!("{} takes no {verb}", kind.definition.resource()));
    }
    let namespace = if kind.definition.namespaced { namespace } else { "" };
    let may = |verb: &&str| caller.may_do(verb, kind, &call.scope, namespace, name);
    (!verbs.iter().all(may)).then(|| {
        format!("no rule of access lets {:?} {verb} {}", &*caller.user().name, kind.definition.resource())
    })
}

fn is_served(kind: &Kind, subresource: &str) -> bool {
    subresource.is_empty() || subresource == "status" && kind.definition.status
}

/// What the caller may do in a namespace. Rules about single names are not told of.
fn rules(shared: &Shared, caller: &Caller, call: &Call, namespace: &str) -> Value {
    let kinds = shared.kinds.all(shared, &call.scope);
    let of_kind = |kind: &Arc<Kind>| {
        let definition = &kind.definition;
        let namespace = if definition.namespaced { namespace } else { "" };
        let may = |verb: &&&str| caller.may_do(verb, kind, &call.scope, namespace, "");
        let verbs: Vec<&&str> = kind.verbs.iter().filter(may).collect();
        let mut resources = vec![definition.plural.clone()];
        if definition.status {
            resources.push(format!("{}/status", definition.plural));
        }
        (!verbs.is_empty())
            .then(|| json!({"verbs": verbs, "apiGroups": [definition.group], "resources": resources}))
    };
    let of_review = |review: &Review| {
        (review.kind.starts_with("Self") || caller.may_administer()).then(
            || json!({"verbs": ["create"], "apiGroups": [review.group], "resources": [review.plural]}),
        )
    };
    let rules = kinds.iter().filter_map(of_kind).chain(KINDS.iter().filter_map(of_review));
    json!({
        "resourceRules": rules.collect::<Vec<_>>(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": DOCUMENTS}],
        "incomplete": !caller.may_everything(),
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
