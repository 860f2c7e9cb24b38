//! Who is at the other end of a stream, and what of the table they see.

use std::sync::Arc;

use bytestring::ByteString;
use meshbus_proto::xds::Node;
use prost::Message;

use super::answer::key_of;
use crate::core::Record;
use crate::core::state::{Held, Snapshot};
use crate::schema::registry::Registry;
use crate::transport::xds::codec::demand::Interest;
use crate::transport::xds::codec::kinds::is_secret;
use crate::transport::xds::codec::resource::Encoded;
use crate::transport::xds::codec::response::Variant;
use crate::transport::xds::codec::status::{Code, Status};
use crate::transport::xds::server::caller::Caller;
use crate::transport::xds::server::feed::Feed;
use crate::transport::xds::server::inbox::Inbox;
use crate::transport::xds::server::item::{Form, Item, encode, name_of};

/// The feature of clients that take a resource without a body for the end of the first answer, and wait for it: for a
/// whole answer in the state of the world, which has no such mark.
const SYNC_MARKER: &str = "meshbus.sync-marker";

/// A stream whose client has said who it is.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) variant: Variant,
    pub(super) node: Node,
    pub(super) caller: Caller,
    pub(super) feed: Arc<Feed>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) allow_secrets: bool,
    pub(super) form: Form,
    pub(super) kinds: Arc<Registry>,
}

impl Session {
    /// Whether the client is one of gRPC's, for which no names always mean none.
    pub(super) fn is_grpc(&self) -> bool {
        self.node.user_agent_name.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("grpc"))
    }

    /// What a record holds, in the client's form.
    pub(super) fn encode(&self, record: &Record) -> Arc<Encoded> {
        Arc::new(encode(self.form, record, &self.kinds))
    }

    /// What an item holds, in the client's form.
    pub(super) fn encoded(&self, item: &Item) -> Arc<Encoded> {
        Arc::clone(item.encoded(self.form, &self.kinds))
    }

    /// Whether the client is to be told when it has all there was when it asked.
    pub(super) fn wants_marker(&self) -> bool {
        self.variant == Variant::Delta && self.knows_marker()
    }

    /// Whether the client waits until it is told all there is.
    pub(super) fn knows_marker(&self) -> bool {
        self.node.client_features.iter().any(|name| name == SYNC_MARKER)
    }

    /// Whether the client may see all there is of a type, so that it can be told what others are told.
    pub(super) fn may_see_all(&self, type_url: &str) -> bool {
        !self.hides(type_url) && self.caller.may_see_all(self.feed.scope(), type_url)
    }

    /// Whether the client may see what a record holds.
    pub(super) fn may_see(&self, record: &Record) -> bool {
        let hidden = record.envelope.change.key().is_some_and(|key| self.hides(&key.type_url));
        !hidden && self.caller.may_see(&record.envelope.topic)
    }

    /// One resource by its name.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` or `NOT_FOUND`, naming it.
    pub(super) fn find(
        &self,
        type_url: &ByteString,
        name: &ByteString,
        snapshot: &Snapshot,
    ) -> Result<Arc<Record>, Status> {
        if self.hides(type_url) {
            let text = format!("{name:?}: secrets are not served: see the setting allow_secrets");
            return Err(Status::new(Code::PermissionDenied, text));
        }
        let record = snapshot.get(&key_of(self, type_url, name)).or_else(|| {
            let named = self.feed.named(type_url, name)?;
            snapshot.get(&key_of(self, type_url, &named))
        });
        let Some(record) = record else {
            let text = format!("there is no {} {name:?} in scope {}", last(type_url), self.feed.scope());
            return Err(Status::new(Code::NotFound, text));
        };
        if !self.caller.may_see(&record.envelope.topic) {
            let who = self.caller.principal().map_or("nobody", |name| &**name);
            let text = format!("{who} may not subscribe to {}", record.envelope.topic);
            return Err(Status::new(Code::PermissionDenied, text));
        }
        Ok(record)
    }

    /// All that is wanted in one way and may be seen.
    pub(super) fn look_up(
        &self,
        type_url: &ByteString,
        interest: &Interest,
        snapshot: &Snapshot,
        mut found: impl FnMut(Arc<Record>),
    ) {
        let (after, prefix) = match interest {
            Interest::Name(name) => {
                if let Ok(record) = self.find(type_url, name, snapshot) {
                    found(record);
                }
                return;
            }
            Interest::All => (None, None),
            // A name that is the prefix alone has nothing behind the slash: no name.
            Interest::Prefix(prefix) => (Some(key_of(self, type_url, prefix)), Some(prefix)),
        };
        if self.hides(type_url) {
            return;
        }
        let scope = Some(&**self.feed.scope());
        snapshot
            .range(scope, Some(type_url), after.as_ref())
            .map(Held::record)
            .take_while(|record| prefix.is_none_or(|prefix| name_of(record).starts_with(&**prefix)))
            .filter(|record| self.caller.may_see(&record.envelope.topic))
            .for_each(found);
    }

    fn hides(&self, type_url: &str) -> bool {
        !self.allow_secrets && is_secret(type_url)
    }
}

/// The last word of a type.
fn last(type_url: &str) -> &str {
    type_url.rsplit(['/', '.']).next().unwrap_or(type_url)
}

/// Most bytes of a text by which a client says who it is or what it wants.
pub(super) const TEXT_MAX: usize = 4096;
/// Most bytes of a node that are kept for others to see.
const NODE_MAX: usize = 64 << 10;

/// # Errors
/// For a node with names that are too long to be kept.
pub(super) fn check(node: &Node) -> Result<(), Status> {
    let texts = [("id", &node.id), ("cluster", &node.cluster), ("user_agent_name", &node.user_agent_name)];
    match texts.iter().find(|(_, text)| text.len() > TEXT_MAX) {
        None => Ok(()),
        Some((field, _)) => {
            Err(Status::new(Code::InvalidArgument, format!("node.{field} is over {TEXT_MAX} bytes")))
        }
    }
}

/// Leaves of a node what may be kept for as long as others ask for it.
pub(super) fn trim(node: &mut Node) {
    if node.encoded_len() > NODE_MAX {
        node.metadata = None;
        node.user_agent_version = None;
    }
    if node.encoded_len() > NODE_MAX {
        node.client_features.clear();
        node.locality = None;
    }
}
