//! The feeds of a server: one a scope, begun when its first client comes.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use meshbus_proto::xds::Node;
use parking_lot::Mutex;

use super::Shared;
use super::feed::{Feed, follow};
use crate::runtime::task;
use crate::transport::xds::codec::status::{Code, Status};

/// The feeds that there are: no more than scopes in the settings.
#[derive(Debug, Default)]
pub(super) struct Feeds(Mutex<HashMap<ByteString, Arc<Feed>>>);

impl Feeds {
    /// The feed of the scope that a node may see.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` where the settings have no scope for it.
    pub(super) fn of(
        &self,
        shared: &Shared,
        node: &Node,
        principal: Option<&ByteString>,
    ) -> Result<Arc<Feed>, Status> {
        let scope = scope_of(shared, node, principal)?;
        let mut feeds = self.0.lock();
        if let Some(feed) = feeds.get(scope) {
            return Ok(Arc::clone(feed));
        }
        let scope = ByteString::from(scope);
        let (feed, subscription) = Feed::open(&shared.bus, scope.clone());
        feeds.insert(scope, Arc::clone(&feed));
        if let Some(subscription) = subscription {
            drop(task::spawn("xds feed", follow(Arc::clone(&feed), subscription, shared.shutdown.clone())));
        }
        Ok(feed)
    }
}

/// The scope that a node may see.
///
/// # Errors
/// `PERMISSION_DENIED` where the settings have none for it.
pub(super) fn scope_of<'a>(
    shared: &'a Shared,
    node: &Node,
    principal: Option<&ByteString>,
) -> Result<&'a str, Status> {
    shared.config.scope_of(node, principal.map(|name| &**name)).ok_or_else(|| {
        let text = format!(
            "no scope is for node {:?} of cluster {:?}: see the setting nodes",
            node.id, node.cluster
        );
        Status::new(Code::PermissionDenied, text)
    })
}
