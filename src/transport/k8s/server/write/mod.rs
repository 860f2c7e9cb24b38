//! Writing objects: create, replace, patch, apply and delete, with the checks and the bookkeeping of a Kubernetes API.
//!
//! A scope that the bus owns is written here, under the condition that the object is what was read. One that a
//! connector owns is written through it: its source checks, and its source's refusal is the answer.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::Value;

use self::options::Options;
use super::Shared;
use super::access::Caller;
use super::answer::{self, Answer};
use super::call::{About, Call, Resource};
use super::kind::Kind;
use crate::transport::k8s::codec::status::{Reason, Status};

mod admit;
mod body;
mod change;
mod delete;
mod made;
mod metadata;
mod namespaces;
mod occur;
mod options;
mod refused;
mod store;
mod through;

pub(super) use self::body::read as read_body;
pub(super) use self::namespaces::make_default as make_default_namespace;

/// Most warnings an answer carries.
const WARNINGS_MAX: usize = 16;

/// One write under way.
struct Writing<'a> {
    shared: &'a Arc<Shared>,
    caller: &'a Caller,
    call: &'a Call,
    resource: &'a Resource,
    options: Options,
    /// What the client is told in headers though its write is taken.
    warnings: Vec<String>,
}

/// Answers a request that changes objects.
pub(super) async fn answer(shared: &Arc<Shared>, caller: &Caller, call: &Call) -> Answer {
    match write(shared, caller, call).await {
        Ok(answer) => answer,
        Err(status) => answer::status(&status),
    }
}

async fn write(shared: &Arc<Shared>, caller: &Caller, call: &Call) -> Result<Answer, Status> {
    let About::Resource(resource) = &call.about else { return Err(not_allowed()) };
    if shared.shutdown.is_draining() {
        return Err(Status::new(Reason::ServiceUnavailable, "the bus is shutting down").retry_after(1));
    }
    resource.check_subresource()?;
    let verb = verb_of(call, resource).ok_or_else(not_allowed)?;
    if !resource.kind.allows(verb) {
        return Err(namespaces::not_served(shared, &call.scope, &resource.kind));
    }
    let kind = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => "DeleteOptions",
    };
    let options = Options::of(call, kind)?;
    let mut writing = Writing { shared, caller, call, resource, options, warnings: Vec::new() };
    shared.stats.received.add(1);
    match verb {
        "create" if resource.kind.form == super::kind::Form::Occurrence => writing.publish().await,
        "create" => writing.create().await,
        "update" => writing.replace().await,
        "patch" => writing.patch().await,
        "delete" => writing.delete().await,
        _ => writing.delete_collection().await,
    }
}

/// What a request does, in the API's words.
fn verb_of(call: &Call, resource: &Resource) -> Option<&'static str> {
    let status = resource.subresource.is_some();
    match (&call.method, &resource.name) {
        (&Method::POST, None) => Some("create"),
        (&Method::PUT, Some(_)) => Some("update"),
        (&Method::PATCH, Some(_)) => Some("patch"),
        (&Method::DELETE, Some(_)) if !status => Some("delete"),
        (&Method::DELETE, None) => Some("deletecollection"),
        _ => None,
    }
}

fn not_allowed() -> Status {
    Status::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

impl Writing<'_> {
    fn kind(&self) -> &Kind {
        &self.resource.kind
    }

    /// The name in the path; empty for a collection.
    fn name(&self) -> &str {
        self.resource.name.as_deref().unwrap_or_default()
    }

    /// Adds a warning, unless there are too many.
    fn warn(&mut self, warning: String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    fn answer(&self, code: StatusCode, object: &Value) -> Answer {
        let mut answer = answer::json(code, object);
        for warning in &self.warnings {
            // A header holds no line breaks and no quotes that end it.
            let text: String = warning.chars().filter(|c| !c.is_control()).collect();
            let value = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                answer.headers_mut().append(http::header::WARNING, value);
            }
        }
        answer
    }
}
