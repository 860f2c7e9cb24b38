//! The client: brings what a cluster has onto the bus, and writes back.

use futures_util::future::BoxFuture;

use super::config::ClientConfig;
use crate::core::delivery::{Assurance, Guarantee};
use crate::core::{Error, ErrorKind};
use crate::transport::{Connector, Link};

/// A connector to one cluster.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
}

impl Client {
    /// A client with checked settings.
    pub fn new(config: ClientConfig) -> Self {
        Self { config }
    }
}

impl Connector for Client {
    fn run<'a>(&'a mut self, _link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>> {
        let peer = self.config.context.clone().unwrap_or_default();
        Box::pin(async move { Err(Error::new(ErrorKind::Unreachable, peer)) })
    }

    fn ingress(&self) -> Guarantee {
        Guarantee {
            assurance: Assurance::AtLeastOnce,
            identity: true,
            because: "Kubernetes: a change has the object's uid and resourceVersion".into(),
        }
    }

    fn writes(&self) -> bool {
        true
    }
}
