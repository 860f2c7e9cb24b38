//! What the bus refused, in the API's own words.

use http::StatusCode;

use crate::core::Refused;
use crate::schema::registry::Definition;
use crate::transport::k8s::codec::status::{Reason, Status};

/// What a writer is told whose object is not the latest.
pub(super) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// The Status that says what the bus said of a write.
pub(super) fn status(refused: &Refused, definition: &Definition, name: &str) -> Status {
    let (group, plural) = (&*definition.group, &*definition.plural);
    match refused {
        Refused::Conflict { current: Some(_) } => Status::conflict(group, plural, name, MODIFIED),
        Refused::Conflict { current: None } | Refused::NotFound => Status::not_found(group, plural, name),
        Refused::Owner { reason, message, status, body, .. } => Status::decode(body).unwrap_or_else(|| {
            let code = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            let (reason, message) = (reason.to_string(), message.to_string());
            Status { code, reason, message, details: None }.about(group, plural, name)
        }),
        Refused::MethodNotAllowed { owner } => {
            let message = format!(
                "the server does not allow this method on the requested resource: the connector {:?} owns {} and takes no writes",
                &**owner,
                definition.resource()
            );
            Status::new(Reason::MethodNotAllowed, message).about(group, plural, name)
        }
        Refused::Timeout { owner } => {
            let message = format!(
                "the connector {:?}, which owns {}, did not answer in time",
                &**owner,
                definition.resource()
            );
            Status::new(Reason::Timeout, message).about(group, plural, name).retry_after(1)
        }
        Refused::Invalid(why) => {
            let message = format!("{} {name:?} is invalid: {why}", definition.resource());
            Status::new(Reason::Invalid, message).about(group, plural, name)
        }
        Refused::UnsupportedMediaType(media) => super::body::unsupported(media),
        // As an exceeded quota: trying again changes nothing until something is deleted.
        Refused::Full(why) => {
            let message = format!("{} {name:?} is forbidden: exceeded quota: {why}", definition.resource());
            Status::new(Reason::Forbidden, message).about(group, plural, name)
        }
        Refused::Forbidden(why) => {
            let message = format!("{} {name:?} is forbidden: {why}", definition.resource());
            Status::new(Reason::Forbidden, message).about(group, plural, name)
        }
        Refused::Closed => {
            Status::new(Reason::ServiceUnavailable, "the bus is shutting down").retry_after(1)
        }
    }
}
