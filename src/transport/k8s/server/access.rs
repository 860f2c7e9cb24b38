//! Who calls, and whether they may: the bus's rules, asked with the caller's bearer token.

use std::sync::Arc;

use bytestring::ByteString;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Shared;
use super::kind::Kind;
use super::topics::filter_of;
use crate::core::Topic;
use crate::core::access::{Access, Action};
use crate::core::bus::Bus;
use crate::schema::registry::Definition;
use crate::transport::k8s::codec::status::{Reason, Status};

/// The caller of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    access: Arc<Access>,
    principal: Option<ByteString>,
}

impl Caller {
    /// Reads who calls. Without rules anybody is nobody, who may do everything.
    ///
    /// # Errors
    /// 401 when there are rules and the token is missing or unknown.
    pub(super) fn of(shared: &Shared, headers: &HeaderMap) -> Result<Self, Status> {
        let access = shared.bus.access();
        if !access.is_restricted() {
            // Whoever shows a token that nobody can know is told so, as by any API server.
            return if headers.contains_key(AUTHORIZATION) {
                Err(Status::new(Reason::Unauthorized, "Unauthorized"))
            } else {
                Ok(Self { access, principal: None })
            };
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let token = match (given.next(), given.next()) {
            (Some(value), None) => value.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            }),
            _ => None,
        };
        match token.and_then(|token| access.principal_of_token(token)) {
            Some(principal) => Ok(Self { access, principal: Some(principal) }),
            None => Err(Status::new(Reason::Unauthorized, "Unauthorized")),
        }
    }

    /// The same caller under the rules as they are now.
    pub(super) fn renew(&mut self, bus: &Bus) {
        self.access = bus.access();
    }

    /// What the caller is called.
    pub(super) fn user(&self) -> &str {
        match &self.principal {
            Some(principal) => principal,
            // Without rules everybody who reaches the bus is its administrator.
            None => "meshbus:admin",
        }
    }

    /// What groups the caller is in.
    pub(super) fn groups(&self) -> Vec<&'static str> {
        let all = ["system:masters", "system:authenticated"];
        if self.may_everything() { all.to_vec() } else { vec!["system:authenticated"] }
    }

    /// Whether there are no rules.
    pub(super) fn may_everything(&self) -> bool {
        !self.access.is_restricted()
    }

    /// Whether the caller may act at a topic.
    pub(super) fn may(&self, action: Action, topic: &Topic) -> bool {
        self.access.allows(self.principal.as_deref(), action, topic)
    }

    /// Refuses what the caller may not do with one object.
    ///
    /// # Errors
    /// 403 naming caller, verb and object.
    pub(super) fn authorize_object(
        &self,
        action: Action,
        topic: &Topic,
        verb: &str,
        definition: &Definition,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        if self.may(action, topic) {
            Ok(())
        } else {
            Err(self.forbidden(verb, definition, namespace, name))
        }
    }

    /// Refuses a collection of which the caller may see nothing for sure. Where topics say little of the kind, each
    /// object is asked for on its own instead.
    ///
    /// # Errors
    /// 403 naming caller, verb and kind.
    pub(super) fn authorize_collection(
        &self,
        action: Action,
        scope: &str,
        verb: &str,
        kind: &Kind,
        namespace: &str,
    ) -> Result<(), Status> {
        let Some(filter) = filter_of(kind, scope, namespace, None) else { return Ok(()) };
        if self.access.allows_filter(self.principal.as_deref(), action, &filter) {
            return Ok(());
        }
        Err(self.forbidden(verb, &kind.definition, namespace, ""))
    }

    fn forbidden(&self, verb: &str, definition: &Definition, namespace: &str, name: &str) -> Status {
        let who = self.principal.as_deref().unwrap_or("system:anonymous");
        let place = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {namespace:?}")
        };
        let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let message = format!(
            "{}{named} is forbidden: User {who:?} cannot {verb} resource {:?} in API group {:?} {place}",
            definition.resource(),
            definition.plural,
            definition.group,
        );
        Status::new(Reason::Forbidden, message).about(&definition.group, &definition.plural, name)
    }
}
