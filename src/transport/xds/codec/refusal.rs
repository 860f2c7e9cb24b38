//! What a server says of a write, for who wrote: the codes of gRPC as refusals of the key's owner, in the server's own words.

use bytes::Bytes;
use bytestring::ByteString;

use super::services::UPDATE;
use super::status::{Code, Status};
use crate::core::Refused;

/// Who is asked: the connector that owns the key, and its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The connector's name.
    pub connector: ByteString,
    /// The server: `127.0.0.1:15010`.
    pub peer: String,
}

impl Owner {
    /// What the server says of one write.
    pub fn refusal(&self, status: Status) -> Refused {
        let Status { code, message } = status;
        let (status, reason) = match code {
            Code::InvalidArgument => (422, "Invalid"),
            Code::NotFound => (404, "NotFound"),
            Code::AlreadyExists => (409, "AlreadyExists"),
            Code::Aborted => (409, "Conflict"),
            // The connector's own credentials count as the writer's: there are no others.
            Code::PermissionDenied | Code::Unauthenticated => (403, "Forbidden"),
            Code::FailedPrecondition | Code::Unimplemented => (405, "MethodNotAllowed"),
            Code::OutOfRange => (410, "Expired"),
            Code::ResourceExhausted => (507, "InsufficientStorage"),
            Code::Unavailable => (503, "ServiceUnavailable"),
            Code::DeadlineExceeded | Code::Cancelled => (504, "Timeout"),
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => (502, "BadGateway"),
        };
        self.says(status, reason, message)
    }

    /// What the server says of a call, and so of each write in it.
    pub fn refusal_of_call(&self, status: Status) -> Refused {
        if status.code == Code::Unimplemented {
            return self.without_service();
        }
        let message = format!("{}: {}", self.peer, status.message);
        self.refusal(Status { message, ..status })
    }

    /// The server has no service that writes.
    pub fn without_service(&self) -> Refused {
        let message = format!(
            "the connector {:?} takes no writes: its server {} does not have {UPDATE}",
            &*self.connector, self.peer
        );
        self.says(405, "MethodNotAllowed", message)
    }

    /// The connector does not ask for the resource.
    pub fn without_subscription(&self, type_url: &str, name: &str) -> Refused {
        let message = format!(
            "the connector {:?} does not ask for {type_url} {name:?}, so no write of it could be confirmed: add it to \
             subscribe",
            &*self.connector
        );
        self.says(405, "MethodNotAllowed", message)
    }

    /// The connection ended before the server was asked.
    pub fn unasked(&self) -> Refused {
        Refused::unavailable(&self.connector, format_args!("the connection to {} has ended", self.peer))
    }

    /// The server was asked, and there is no answer.
    pub fn unanswered(&self, why: &str) -> Refused {
        let message = format!("{} was asked, and whether it has written is not known: {why}", self.peer);
        self.says(504, "Timeout", message)
    }

    /// The server has written, and what that made is not there yet.
    pub fn unshown(&self, version: &str) -> Refused {
        let message = format!("{} has written version {version:?}, but has not shown it yet", self.peer);
        self.says(504, "Timeout", message)
    }

    fn says(&self, status: u16, reason: &'static str, message: String) -> Refused {
        Refused::Owner {
            owner: self.connector.clone(),
            reason: ByteString::from_static(reason),
            message: message.into(),
            status,
            body: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { connector: "core".into(), peer: "10.0.0.1:15010".to_owned() }
    }

    /// Status, reason and message.
    fn parts(refused: Refused) -> (u16, String, String) {
        match refused {
            Refused::Owner { owner, reason, message, status, .. } => {
                assert_eq!(owner, "core");
                (status, reason.to_string(), message.to_string())
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_code_is_what_writers_act_on_in_the_servers_own_words() {
        for (code, status, reason) in [
            (Code::InvalidArgument, 422, "Invalid"),
            (Code::NotFound, 404, "NotFound"),
            (Code::AlreadyExists, 409, "AlreadyExists"),
            (Code::Aborted, 409, "Conflict"),
            (Code::PermissionDenied, 403, "Forbidden"),
            (Code::Unauthenticated, 403, "Forbidden"),
            (Code::FailedPrecondition, 405, "MethodNotAllowed"),
            (Code::Unimplemented, 405, "MethodNotAllowed"),
            (Code::OutOfRange, 410, "Expired"),
            (Code::ResourceExhausted, 507, "InsufficientStorage"),
            (Code::Unavailable, 503, "ServiceUnavailable"),
            (Code::DeadlineExceeded, 504, "Timeout"),
            (Code::Internal, 502, "BadGateway"),
        ] {
            let expected = (status, reason.to_owned(), "so it is".to_owned());
            assert_eq!(parts(owner().refusal(Status::new(code, "so it is"))), expected, "{code:?}");
        }
    }

    #[test]
    fn what_is_said_of_a_call_names_the_server() {
        let (status, _, message) =
            parts(owner().refusal_of_call(Status::new(Code::Unavailable, "going away")));
        assert_eq!((status, &*message), (503, "10.0.0.1:15010: going away"));
        let (status, reason, message) =
            parts(owner().refusal_of_call(Status::new(Code::Unimplemented, "")));
        assert_eq!((status, &*reason), (405, "MethodNotAllowed"));
        assert!(message.contains("\"core\"") && message.contains("10.0.0.1:15010"), "{message}");
    }

    #[test]
    fn what_is_not_known_is_never_told_as_refused() {
        for refused in [owner().unanswered("it broke"), owner().unshown("7")] {
            let (status, reason, message) = parts(refused);
            assert_eq!((status, &*reason), (504, "Timeout"), "{message}");
        }
        assert_eq!(parts(owner().unasked()).0, 503);
    }
}
