//! What the bus or an owner refused, in the codes of gRPC.

use crate::core::{Refused, Version};
use crate::transport::xds::codec::status::{Code, Status};

/// The version that stands against a write, and the status that says what the bus said; `absent`: the key was not to exist.
pub(super) fn refusal(refused: &Refused, absent: bool) -> (Version, Status) {
    let version = match refused {
        Refused::Conflict { current: Some((_, version)) } => version.clone(),
        _ => Version::default(),
    };
    let code = match refused {
        Refused::Conflict { current: Some(_) } if absent => Code::AlreadyExists,
        Refused::Conflict { current: Some(_) } => Code::Aborted,
        Refused::Conflict { current: None } | Refused::NotFound => Code::NotFound,
        Refused::Invalid(_) => Code::InvalidArgument,
        Refused::MethodNotAllowed { .. } => Code::FailedPrecondition,
        Refused::Owner { status, reason, .. } => of_owner(*status, reason),
        Refused::Timeout { .. } => Code::DeadlineExceeded,
        Refused::UnsupportedMediaType(_) => Code::Unimplemented,
        Refused::Full(_) => Code::ResourceExhausted,
        Refused::Forbidden(_) => Code::PermissionDenied,
        Refused::Closed => Code::Unavailable,
    };
    (version, Status::new(code, refused.to_string()))
}

/// The code for the HTTP status with which an owner refuses.
fn of_owner(status: u16, reason: &str) -> Code {
    match status {
        409 if reason == "AlreadyExists" => Code::AlreadyExists,
        409 => Code::Aborted,
        404 => Code::NotFound,
        400 | 413 | 415 | 422 => Code::InvalidArgument,
        401 | 403 => Code::PermissionDenied,
        405 | 501 => Code::Unimplemented,
        408 | 504 => Code::DeadlineExceeded,
        410 => Code::OutOfRange,
        429 | 507 => Code::ResourceExhausted,
        400..=499 => Code::FailedPrecondition,
        503 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::core::Seq;

    #[test]
    fn every_refusal_has_the_code_that_clients_act_on() {
        let owner = |status, reason: &'static str| Refused::Owner {
            owner: "kube".into(),
            reason: reason.into(),
            message: "no".into(),
            status,
            body: Bytes::new(),
        };
        let conflict = || Refused::Conflict { current: Some((Seq(7), "v".into())) };
        for (refused, absent, code) in [
            (conflict(), false, Code::Aborted),
            (conflict(), true, Code::AlreadyExists),
            (Refused::Conflict { current: None }, false, Code::NotFound),
            (Refused::MethodNotAllowed { owner: "kube".into() }, false, Code::FailedPrecondition),
            (Refused::Timeout { owner: "kube".into() }, false, Code::DeadlineExceeded),
            (owner(409, "Conflict"), false, Code::Aborted),
            (owner(409, "AlreadyExists"), true, Code::AlreadyExists),
            (owner(404, "NotFound"), false, Code::NotFound),
            (owner(422, "Invalid"), false, Code::InvalidArgument),
            (owner(403, "Forbidden"), false, Code::PermissionDenied),
            (owner(429, "TooManyRequests"), false, Code::ResourceExhausted),
            (owner(410, "Expired"), false, Code::OutOfRange),
            (owner(418, ""), false, Code::FailedPrecondition),
            (owner(500, "InternalError"), false, Code::Unknown),
        ] {
            assert_eq!(refusal(&refused, absent).1.code, code, "{refused}");
        }
        assert_eq!(refusal(&conflict(), false).0, "v", "what stands against it is told");
    }
}
