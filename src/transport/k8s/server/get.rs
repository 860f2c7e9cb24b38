//! One object, by its name.

use std::sync::Arc;

use http::StatusCode;

use super::accept::{self, Media, Wanted};
use super::access::{Caller, Target};
use super::answer::{self, Answer, Body};
use super::call::{Call, Resource};
use super::position::{Options, reach};
use super::writer::{Writer, now};
use super::{Shared, view};
use crate::core::access::Action;
use crate::schema::address;
use crate::transport::k8s::codec::status::Status;

/// Answers with the object that a path names.
///
/// # Errors
/// 403, 404, 406; 504 for a position that is not reached.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    caller: &Caller,
    call: &Call,
    resource: &Resource,
) -> Result<Answer, Status> {
    let form = accept::form(&call.headers, Wanted::One)?;
    let options = Options::of(call, false)?;
    let kind = &resource.kind;
    let definition = &kind.definition;
    let name = resource.name.as_deref().unwrap_or_default();
    if let Some(version) = options.version {
        reach(shared, version).await?;
    }
    let found = view::find(shared, kind, &call.scope, &resource.namespace, name);
    let topic = match &found {
        Some(record) => Ok(record.envelope.topic.clone()),
        None => address::topic_of(&kind.key(&call.scope, &resource.namespace, name)),
    };
    if let Ok(topic) = topic {
        let subresource = resource.subresource.as_deref().unwrap_or_default();
        let target = Target { definition, subresource, namespace: &resource.namespace, name };
        caller.authorize_object(Action::Read, &topic, "get", target)?;
    }
    let Some(record) = found else {
        return Err(Status::not_found(&definition.group, &definition.plural, name));
    };
    let writer = Writer::new(shared, call, kind, form.shape);
    let mut out = Vec::with_capacity(record.envelope.data.len() + 512);
    writer.put_one(&mut out, &record, now(), true);
    out.push(b'\n');
    Ok(match form.media {
        Media::Json => answer::of(StatusCode::OK, answer::JSON, Body::whole(out)),
        Media::Yaml => {
            let value = serde_json::from_slice(&out).unwrap_or_default();
            answer::of(StatusCode::OK, "application/yaml", Body::whole(crate::config::to_yaml(value)))
        }
    })
}
