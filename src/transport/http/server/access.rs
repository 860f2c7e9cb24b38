//! Who calls, and whether they may: the bus's rules, asked with the caller's bearer token.

use std::sync::Arc;

use bytestring::ByteString;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::problem::Problem;
use crate::core::Topic;
use crate::core::access::{Access, Action};
use crate::core::bus::Bus;
use crate::core::selector::TopicFilter;
use crate::runtime::request::bearer_token;

/// The caller of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    access: Arc<Access>,
    pub(crate) principal: Option<ByteString>,
}

impl Caller {
    /// Reads who calls. Without rules anybody is nobody, who may do everything.
    ///
    /// # Errors
    /// 401 when there are rules and the token is missing or unknown.
    pub(crate) fn of(bus: &Bus, headers: &HeaderMap) -> Result<Self, Problem> {
        let access = bus.access();
        if !access.is_restricted() {
            return Ok(Self { access, principal: None });
        }
        let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        if headers.get_all(AUTHORIZATION).iter().count() != 1 {
            return Err(unauthorized("send one header Authorization: Bearer TOKEN"));
        }
        let principal = bearer_token(headers).and_then(|token| access.principal_of_token(token));
        match principal {
            Some(principal) => Ok(Self { access, principal: Some(principal) }),
            None => Err(unauthorized("the bearer token is none we know")),
        }
    }

    /// The same caller under the rules as they are now.
    pub(crate) fn renew(&mut self, bus: &Bus) {
        self.access = bus.access();
    }

    /// Whether the caller may act at a topic.
    pub(crate) fn may(&self, action: Action, topic: &Topic) -> bool {
        self.access.allows(self.principal.as_deref(), action, topic)
    }

    /// Refuses what the caller may not do at a topic.
    ///
    /// # Errors
    /// 403 naming the caller, the action and the topic.
    pub(crate) fn authorize(&self, action: Action, topic: &Topic) -> Result<(), Problem> {
        if self.may(action, topic) { Ok(()) } else { Err(self.forbidden(action, topic.as_str())) }
    }

    /// As [`authorize`](Self::authorize), for all that a filter matches.
    ///
    /// # Errors
    /// As [`authorize`](Self::authorize).
    pub(crate) fn authorize_filter(&self, action: Action, filter: &TopicFilter) -> Result<(), Problem> {
        if self.access.allows_filter(self.principal.as_deref(), action, filter) {
            return Ok(());
        }
        Err(self.forbidden(action, &filter.to_string()))
    }

    fn forbidden(&self, action: Action, topic: &str) -> Problem {
        let who = self.principal.as_deref().unwrap_or("anonymous");
        let detail = format!("{who} may not {} {topic:?}", format!("{action:?}").to_lowercase());
        Problem::new(StatusCode::FORBIDDEN, detail)
    }
}
