//! Who calls, and what of the bus they may see.

use std::sync::Arc;

use bytestring::ByteString;
use http::HeaderMap;

use crate::core::access::{Access, Action};
use crate::core::selector::TopicFilter;
use crate::core::topic::escape;
use crate::core::{Bus, Topic};
use crate::runtime::request::bearer_token;
use crate::schema::kinds::{OWN, proto_name};
use crate::transport::xds::codec::status::{Code, Status};

/// The topics of all connections.
const CONNECTIONS: &str = "bus/connections/#";

/// The caller of a stream.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    access: Arc<Access>,
    principal: Option<ByteString>,
}

impl Caller {
    /// Reads who calls. Without rules anybody may do everything.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where there are rules and nothing proves a name.
    pub(super) fn of(
        bus: &Bus,
        headers: &HeaderMap,
        certificate: Option<&ByteString>,
    ) -> Result<Self, Status> {
        let access = bus.access();
        let token = || access.principal_of_token(bearer_token(headers)?);
        let principal = certificate.cloned().or_else(token);
        if access.is_restricted() && principal.is_none() {
            let text = "send a known token: authorization: Bearer TOKEN, or a client certificate";
            return Err(Status::new(Code::Unauthenticated, text));
        }
        Ok(Self { access, principal })
    }

    /// The same caller under the rules as they are now.
    pub(super) fn renew(&mut self, bus: &Bus) {
        bus.renew_access(&mut self.access);
    }

    /// The proved name.
    pub(super) fn principal(&self) -> Option<&ByteString> {
        self.principal.as_ref()
    }

    /// Whether the caller may see all of a type in a scope.
    pub(super) fn may_see_all(&self, scope: &str, type_url: &str) -> bool {
        if !self.access.is_restricted() {
            return true;
        }
        let text = if let Some(message) = proto_name(type_url) {
            format!("xds/{}/{}/#", escape(scope), escape(message))
        } else if type_url.starts_with(OWN) {
            // These have topics of their own: each is asked for on its own.
            return false;
        } else {
            let words: Vec<_> = type_url.splitn(3, '/').map(escape).collect();
            format!("k8s/{}/{}/#", escape(scope), words.join("/"))
        };
        TopicFilter::parse_mqtt(&text)
            .is_ok_and(|all| self.access.allows_filter(self.principal.as_deref(), Action::Subscribe, &all))
    }

    /// Whether the caller may see what travels on a topic.
    pub(super) fn may_see(&self, topic: &Topic) -> bool {
        self.access.allows(self.principal.as_deref(), Action::Subscribe, topic)
    }

    /// # Errors
    /// `PERMISSION_DENIED` where the caller may not look into the bus at its connections.
    pub(super) fn check_admin(&self) -> Result<(), Status> {
        self.check_all(Action::Admin, "administer")
    }

    /// # Errors
    /// `PERMISSION_DENIED` where the caller may not follow all connections.
    pub(super) fn check_connections(&self) -> Result<(), Status> {
        self.check_all(Action::Subscribe, "subscribe to")
    }

    fn check_all(&self, action: Action, verb: &str) -> Result<(), Status> {
        let all = TopicFilter::parse(CONNECTIONS);
        if all.is_ok_and(|all| self.access.allows_filter(self.principal.as_deref(), action, &all)) {
            return Ok(());
        }
        let who = self.principal.as_deref().unwrap_or("nobody");
        Err(Status::new(Code::PermissionDenied, format!("{who} may not {verb} {CONNECTIONS}")))
    }

    /// # Errors
    /// `PERMISSION_DENIED` where the caller may not write what travels on a topic.
    pub(super) fn check_write(&self, topic: &Topic) -> Result<(), Status> {
        if self.access.allows(self.principal.as_deref(), Action::Write, topic) {
            return Ok(());
        }
        let who = self.principal.as_deref().unwrap_or("nobody");
        Err(Status::new(Code::PermissionDenied, format!("{who} may not write {topic}")))
    }
}
