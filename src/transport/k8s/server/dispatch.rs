//! From a request to whoever answers it.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, Method, Request, Uri};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::access::Caller;
use super::answer::{self, Answer};
use super::call::{About, Call, Resource};
use super::parse::{Place, place};
use super::{Shared, body, compress, get, list, view, watch};
use crate::runtime::certificate::Subject;
use crate::runtime::request::{Read, foreign_origin, is_oversized};
use crate::transport::k8s::codec::status::{Reason, Status};

/// Answers one request of who showed that certificate.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    certificate: Option<&Subject>,
    request: Request<Incoming>,
) -> Answer {
    match route(shared, certificate, request).await {
        Ok(answer) => answer,
        Err(status) => answer::status(&status),
    }
}

async fn route(
    shared: &Arc<Shared>,
    certificate: Option<&Subject>,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let (head, body) = request.into_parts();
    check_head(shared, &head.headers, &head.uri)?;
    let place = place(head.uri.path(), head.uri.query().unwrap_or_default())?;
    let caller = Caller::of(shared, &head.headers, certificate)?;
    let Some(mut call) = call(shared, place, head.method, head.headers) else {
        return Ok(answer::not_found());
    };
    if let About::Resource(resource) = &call.about
        && is_watch(&call, resource)
    {
        return read(shared, &caller, &call, resource, None).await;
    }
    let permit = Arc::clone(&shared.in_flight).try_acquire_owned().map_err(|_| {
        Status::new(Reason::TooManyRequests, "Too many requests, please try again later.").retry_after(1)
    })?;
    let sent = match call.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Read::default(),
        _ => body::read(&shared.bodies, &call.headers, body).await?,
    };
    call.body = sent.bytes.clone();
    let answer = match &call.about {
        About::Path(_) => {
            super::discovery::answer(shared, &caller, &call).unwrap_or_else(answer::not_found)
        }
        About::Resource(resource) => match call.method {
            Method::GET | Method::HEAD => read(shared, &caller, &call, resource, Some(permit)).await?,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                super::write::answer(shared, &caller, &call).await
            }
            _ => answer::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE"),
        },
    };
    Ok(compress::whole(&call.headers, answer))
}

/// What is asked for; `None` where nothing of that scope or name is served.
fn call(shared: &Arc<Shared>, place: Place, method: Method, headers: HeaderMap) -> Option<Call> {
    let base = match &place.scope {
        Some(scope) => {
            // A scope that nobody owns and that has no state is none.
            let there = shared.bus.ownership(scope).is_some()
                || shared.bus.snapshot().types(scope).next().is_some();
            if !there {
                return None;
            }
            format!(
                "/scopes/{}",
                percent_encoding::utf8_percent_encode(scope, percent_encoding::NON_ALPHANUMERIC)
            )
        }
        None => String::new(),
    };
    let scope = ByteString::from(place.scope.unwrap_or_else(|| shared.config.default_scope.clone()));
    let resource = place.resource.and_then(|named| {
        let kind = shared.kinds.resolve(shared, &scope, &named.group, &named.version, &named.plural)?;
        // One object of a kind that lives in namespaces is only there; others are never.
        let placed = match (kind.definition.namespaced, named.namespace.is_empty()) {
            (true, true) => named.name.is_none(),
            (false, false) => false,
            _ => true,
        };
        placed.then(|| Resource {
            kind,
            namespace: named.namespace,
            name: named.name,
            subresource: named.subresource,
            watch: named.watch,
        })
    });
    let about = resource.map_or(About::Path(place.path), About::Resource);
    Some(Call { scope, base, about, method, query: place.query, headers, body: Bytes::new() })
}

fn is_watch(call: &Call, resource: &Resource) -> bool {
    call.method == Method::GET && (resource.watch || resource.name.is_none() && call.flag("watch"))
}

/// Answers what changes nothing; a watch without `permit`, which does not count among requests under way.
async fn read(
    shared: &Arc<Shared>,
    caller: &Caller,
    call: &Call,
    resource: &Resource,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Answer, Status> {
    let verb = match (&permit, &resource.name) {
        (None, _) => "watch",
        (_, Some(_)) => "get",
        (_, None) => "list",
    };
    resource.check_subresource()?;
    if !resource.kind.allows(verb) {
        return Ok(answer::method_not_allowed("POST"));
    }
    if view::is_secret(&resource.kind.stored_as) && !shared.config.allow_secrets {
        let definition = &resource.kind.definition;
        let message = format!(
            "{} is forbidden: secrets are not shown: set allow_secrets: true of connector {}",
            definition.resource(),
            shared.name
        );
        let name = resource.name.as_deref().unwrap_or_default();
        return Err(Status::new(Reason::Forbidden, message).about(
            &definition.group,
            &definition.plural,
            name,
        ));
    }
    match permit {
        None => watch::answer(shared, caller, call, resource).await,
        Some(_) if resource.name.is_some() => get::answer(shared, caller, call, resource).await,
        Some(permit) => list::answer(shared, caller, call, resource, permit).await,
    }
}

/// What every request must pass before it is looked at.
fn check_head(shared: &Shared, headers: &HeaderMap, uri: &Uri) -> Result<(), Status> {
    if is_oversized(headers, shared.config.max_headers, shared.config.max_header_bytes.0) {
        shared.stats.oversize.add(1);
        let message = format!(
            "at most {} headers and {} bytes of them",
            shared.config.max_headers, shared.config.max_header_bytes.0
        );
        return Err(Status::new(Reason::BadRequest, message));
    }
    match foreign_origin(headers, uri, &[]) {
        None => Ok(()),
        Some(origin) => Err(Status::new(Reason::Forbidden, format!("pages of {origin} may not call"))),
    }
}
