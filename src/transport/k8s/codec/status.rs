//! `Status`: how a Kubernetes API says that something went wrong, and that a deletion went well.
//!
//! The reasons, codes and sentences are those of
//! [the API conventions](https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind)
//! as an API server of release 1.36 words them; clients match on them.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// Why, as the `reason` of a Status; each has one HTTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 409: the name is taken.
    AlreadyExists,
    /// 409: the object is another than the writer thinks.
    Conflict,
    /// 410: the position is no longer held.
    Expired,
    /// 413
    RequestEntityTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422
    Invalid,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
        }
    }

    /// The HTTP code.
    pub fn code(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::AlreadyExists | Self::Conflict => StatusCode::CONFLICT,
            Self::Expired => StatusCode::GONE,
            Self::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// One cause among the details of a Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, `ResourceVersionTooLarge`, …
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// The field, `spec.size`; empty where it is about none.
    pub field: String,
}

/// What it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind, or (as the real API has it in many answers) the plural.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// Each thing that is wrong.
    pub causes: Vec<Cause>,
    /// Seconds after which it may be tried again; zero for never mind.
    pub retry_after: u32,
}

/// A failure, as clients read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP code; that of the reason, or what an owner answered.
    pub code: StatusCode,
    /// The word; one of [`Reason`]'s, or what an owner answered.
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// What it is about; boxed, since a failure is rare and its type travels in every result.
    pub details: Option<Box<Details>>,
}

impl Status {
    /// A failure that says so much.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason: reason.as_str().to_owned(),
            message: message.into(),
            details: None,
        }
    }

    /// With what it is about.
    #[must_use]
    pub fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        group.clone_into(&mut details.group);
        kind.clone_into(&mut details.kind);
        name.clone_into(&mut details.name);
        self
    }

    /// With one more thing that is wrong.
    #[must_use]
    pub fn cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause =
            Cause { reason: reason.to_owned(), message: message.to_owned(), field: field.to_owned() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// With the seconds after which to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after = seconds;
        self
    }

    /// `widgets.example.com "one" not found`; `resource` is the plural with its group.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource(group, plural));
        Self::new(Reason::NotFound, message).about(group, plural, name)
    }

    /// `widgets.example.com "one" already exists`
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource(group, plural));
        Self::new(Reason::AlreadyExists, message).about(group, plural, name)
    }

    /// `Operation cannot be fulfilled on widgets.example.com "one": …`
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource(group, plural));
        Self::new(Reason::Conflict, message).about(group, plural, name)
    }

    /// A failure that another API server answered; `None` where the body is no Status.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text =
            |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        if text(&body, "kind") != "Status" {
            return None;
        }
        let code = body.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let code = code.and_then(|code| StatusCode::from_u16(code).ok())?;
        let cause = |cause: &Value| Cause {
            reason: text(cause, "reason"),
            message: text(cause, "message"),
            field: text(cause, "field"),
        };
        let details = body.get("details").map(|details| {
            let causes = details.get("causes").and_then(Value::as_array);
            let seconds = details.get("retryAfterSeconds").and_then(Value::as_u64).unwrap_or(0);
            Box::new(Details {
                name: text(details, "name"),
                group: text(details, "group"),
                kind: text(details, "kind"),
                uid: text(details, "uid"),
                causes: causes.into_iter().flatten().map(cause).collect(),
                retry_after: u32::try_from(seconds).unwrap_or(u32::MAX),
            })
        });
        Some(Self { code, reason: text(&body, "reason"), message: text(&body, "message"), details })
    }

    /// The Status object.
    pub fn encode(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        });
        let fields = status.as_object_mut().into_iter();
        for fields in fields {
            if !self.reason.is_empty() {
                fields.insert("reason".to_owned(), json!(self.reason));
            }
            if let Some(details) = &self.details {
                fields.insert("details".to_owned(), details.encode());
            }
            fields.insert("code".to_owned(), json!(self.code.as_u16()));
        }
        status
    }
}

impl Details {
    fn encode(&self) -> Value {
        let mut fields = Map::new();
        let texts =
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        for (name, text) in texts {
            if !text.is_empty() {
                fields.insert(name.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::encode).collect();
            fields.insert("causes".to_owned(), Value::Array(causes));
        }
        if self.retry_after > 0 {
            fields.insert("retryAfterSeconds".to_owned(), json!(self.retry_after));
        }
        Value::Object(fields)
    }
}

impl Cause {
    fn encode(&self) -> Value {
        let mut fields = Map::new();
        for (name, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                fields.insert(name.to_owned(), json!(text));
            }
        }
        Value::Object(fields)
    }
}

/// `widgets.example.com`, or `pods` of the core group.
pub fn resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_back_as_it_was() {
        let status = Status::conflict("example.com", "widgets", "one", "the object has been modified")
            .cause("FieldManagerConflict", "conflict with \"m1\"", ".spec.size")
            .retry_after(3);
        assert_eq!(Status::decode(status.encode().to_string().as_bytes()), Some(status));
        assert_eq!(Status::decode(b"{}"), None);
        assert_eq!(Status::decode(b"{"), None);
    }

    #[test]
    fn messages_are_those_of_an_api_server() {
        let missing = Status::not_found("example.com", "widgets", "nosuch");
        assert_eq!(missing.message, "widgets.example.com \"nosuch\" not found");
        assert_eq!(missing.code, StatusCode::NOT_FOUND);
        assert_eq!(Status::already_exists("", "events", "e").message, "events \"e\" already exists");
    }
}
