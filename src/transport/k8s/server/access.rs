//! Who calls, and whether they may: the bus's rules, asked with the name that a client certificate or a bearer token
//! proves.

use std::sync::Arc;

use bytestring::ByteString;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Shared;
use super::impersonate;
use super::kind::{Form, Kind};
use super::topics::filter_of;
use crate::core::access::{Access, Action};
use crate::core::bus::Bus;
use crate::core::selector::TopicFilter;
use crate::core::{Key, Topic};
use crate::runtime::certificate::Subject;
use crate::runtime::request::bearer_token;
use crate::schema::registry::Definition;
use crate::transport::k8s::codec::status::{Reason, Status};

/// The group of all who are known.
pub(super) const AUTHENTICATED: &str = "system:authenticated";

/// What a caller is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: ByteString,
    /// Empty where there is none.
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    /// What else is said of them, in order of name.
    pub(super) extra: Vec<(String, Vec<String>)>,
}

/// What a caller wants to reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) definition: &'a Definition,
    /// `status`; empty for the object itself.
    pub(super) subresource: &'a str,
    /// Empty for all, and where there are none.
    pub(super) namespace: &'a str,
    /// Empty for a collection.
    pub(super) name: &'a str,
}

/// The caller of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    access: Arc<Access>,
    /// Whom the rules are asked about; `None` for who proved nothing, which only bothers where there are rules.
    principal: Option<ByteString>,
    user: Arc<User>,
}

impl Caller {
    /// Reads who calls. Without rules anybody is nobody, who may do everything.
    ///
    /// A certificate is looked at before a token, as API servers do.
    ///
    /// # Errors
    /// 401 when there are rules and nothing proves a name, or the token is unknown; 403 and 500 of who wants to be
    /// somebody else and may not, or does not say whom.
    pub(super) fn of(
        shared: &Shared,
        headers: &HeaderMap,
        certificate: Option<&Subject>,
    ) -> Result<Self, Status> {
        let access = shared.bus.access();
        let authenticated = |groups: &[String]| {
            let own = groups.iter().cloned();
            own.chain([AUTHENTICATED.to_owned()]).collect::<Vec<_>>()
        };
        let (principal, name, groups) = match (certificate, access.is_restricted()) {
            (Some(subject), _) => {
                (Some(subject.name.clone()), subject.name.clone(), authenticated(&subject.groups))
            }
            // Whoever shows a token that nobody can know is told so, as by any API server.
            (None, false) if headers.contains_key(AUTHORIZATION) => return Err(unauthorized()),
            // Without rules everybody who reaches the bus is its administrator.
            (None, false) => {
                let name = ByteString::from_static("meshbus:admin");
                (None, name, authenticated(&["system:masters".to_owned()]))
            }
            (None, true) => {
                let principal = bearer_token(headers).and_then(|token| access.principal_of_token(token));
                let principal = principal.ok_or_else(unauthorized)?;
                (Some(principal.clone()), principal, authenticated(&[]))
            }
        };
        let user = Arc::new(User { name, uid: String::new(), groups, extra: Vec::new() });
        let caller = Self { access, principal, user };
        match impersonate::wanted(headers)? {
            None => Ok(caller),
            Some(wanted) => caller.become_user(wanted),
        }
    }

    /// The caller under another's name, with what that one may do and no more.
    fn become_user(self, wanted: User) -> Result<Self, Status> {
        if !self.may_administer() {
            return Err(impersonate::forbidden(&self.user.name, &wanted.name));
        }
        // Who proved nothing is nobody under any name, should there be rules before the request is over.
        let principal = self.principal.is_some().then(|| wanted.name.clone());
        Ok(Self { access: self.access, principal, user: Arc::new(wanted) })
    }

    /// Somebody else, of whom is asked what they may do.
    pub(super) fn another(&self, user: User) -> Self {
        let principal = Some(user.name.clone());
        Self { access: Arc::clone(&self.access), principal, user: Arc::new(user) }
    }

    /// The same caller under the rules as they are now.
    pub(super) fn renew(&mut self, bus: &Bus) {
        self.access = bus.access();
    }

    /// What the caller is called.
    pub(super) fn user(&self) -> &User {
        &self.user
    }

    /// Whether there are no rules.
    pub(super) fn may_everything(&self) -> bool {
        !self.access.is_restricted()
    }

    /// Whether the caller may look into the bus itself, wherever.
    pub(super) fn may_administer(&self) -> bool {
        self.may_anywhere(Action::Admin)
    }

    /// Whether the caller may act at every topic.
    pub(super) fn may_anywhere(&self, action: Action) -> bool {
        TopicFilter::parse("#").is_ok_and(|all| self.access.allows_filter(self.principal(), action, &all))
    }

    /// Whether the caller may act at a topic.
    pub(super) fn may(&self, action: Action, topic: &Topic) -> bool {
        self.access.allows(self.principal(), action, topic)
    }

    /// Whether a request about these objects would be answered: all, those of a namespace, or one. Of a collection
    /// whose objects are asked for one by one it may be answered with none of them.
    pub(super) fn may_do(&self, verb: &str, kind: &Kind, scope: &str, namespace: &str, name: &str) -> bool {
        let action = action_of(verb, kind);
        let name = (!name.is_empty()).then_some(name);
        if let Some(filter) = filter_of(kind, scope, namespace, name) {
            return self.access.allows_filter(self.principal(), action, &filter);
        }
        match name {
            // The topic of a value is its name.
            Some(name) if kind.stored_as == Key::VALUE => {
                Topic::parse(name).is_ok_and(|topic| self.may(action, &topic))
            }
            _ if matches!(action, Action::Read | Action::Subscribe) => true,
            _ => self.may_anywhere(action),
        }
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
        target: Target<'_>,
    ) -> Result<(), Status> {
        if self.may(action, topic) { Ok(()) } else { Err(self.forbidden(verb, target)) }
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
        if self.access.allows_filter(self.principal(), action, &filter) {
            return Ok(());
        }
        let definition = &kind.definition;
        Err(self.forbidden(verb, Target { definition, subresource: "", namespace, name: "" }))
    }

    fn forbidden(&self, verb: &str, target: Target<'_>) -> Status {
        let Target { definition, subresource, namespace, name } = target;
        let resource = (&*definition.group, &*definition.plural, subresource);
        forbidden(&self.user.name, verb, resource, namespace, name)
    }

    fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }
}

/// 403 in the words of an API server; `resource` is its group, plural and subresource.
pub(super) fn forbidden(
    who: &str,
    verb: &str,
    resource: (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> Status {
    let (group, plural, subresource) = resource;
    let part = if subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{subresource}") };
    let place = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {namespace:?}")
    };
    let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    let message = format!(
        "{}{named} is forbidden: User {who:?} cannot {verb} resource {part:?} in API group {group:?} {place}",
        crate::transport::k8s::codec::status::resource(group, plural),
    );
    Status::new(Reason::Forbidden, message).about(group, plural, name)
}

/// What the bus calls a verb.
fn action_of(verb: &str, kind: &Kind) -> Action {
    match verb {
        "get" | "list" => Action::Read,
        "watch" => Action::Subscribe,
        _ if kind.form == Form::Occurrence => Action::Publish,
        _ => Action::Write,
    }
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}
