//! Transports: the protocols the bus speaks, and the two traits through which it speaks them.
//!
//! A transport is one folder with the same five files (`mod.rs`, `config.rs`, `codec.rs`, `client.rs`,
//! `server.rs`), one line in [`TRANSPORTS`] and one feature. Codecs are pure functions shared by the client
//! and the server. Transports never import each other; what several need lives in [`crate::schema`].

use futures_util::future::BoxFuture;

use crate::config::{ConfigError, Section};
use crate::core::Error;
use crate::core::delivery::{Guarantee, Target};

mod link;

pub use link::{Link, Ready};

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "k8s")]
pub mod k8s;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "xds")]
pub mod xds;

/// A protocol the bus speaks. Builds connectors from configuration and performs no I/O doing so.
pub trait Transport: Sync {
    /// The word for it in configuration: `connectors: {x: {NAME: {client: …}}}`.
    fn name(&self) -> &'static str;

    /// The URL schemes for which the command line uses this transport (`-s nats://…`).
    fn schemes(&self) -> &'static [&'static str];

    /// Which roles it has, each with the JSON Schema of its settings, and the schema of a route's `to:` entry.
    fn schema(&self) -> TransportSchema;

    /// A connector that connects to a peer.
    ///
    /// # Errors
    /// Names the place in the file and what would be right.
    fn client(&self, name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError>;

    /// A connector that serves an address.
    ///
    /// # Errors
    /// As [`client`](Self::client); also when the transport has no server role.
    fn server(&self, name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError>;

    /// Where a route sends: the `to:` entry without its `connector` and `output`, for the connector whose
    /// settings are `connector`.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError>;
}

/// The schemas of a transport's settings; `None` where it lacks the role.
#[derive(Debug, Default)]
pub struct TransportSchema {
    /// Of `client:`.
    pub client: Option<schemars::Schema>,
    /// Of `server:`.
    pub server: Option<schemars::Schema>,
    /// Of a `to:` entry.
    pub target: Option<schemars::Schema>,
}

/// One connection we make, or one address we serve.
pub trait Connector: Send {
    /// Connects or binds, then moves envelopes until the shutdown (`Ok`) or a failure.
    ///
    /// The supervisor calls it again, after a back-off, when the error allows it. A delivery or a write
    /// that is dropped unanswered counts as undelivered and comes again in the next run.
    ///
    /// # Errors
    /// [`Error`] says whether it is worth trying again, and names the peer.
    fn run<'a>(&'a mut self, link: &'a mut Link) -> BoxFuture<'a, Result<(), Error>>;

    /// How sure what comes in by it is; `explain` names the weakest point on a route's way.
    fn ingress(&self) -> Guarantee;

    /// Whether it can write the state it brings back to its source.
    fn writes(&self) -> bool {
        false
    }

    /// Whether it says when it has told all that there is in its scope: by [`Ingress::told_all`].
    ///
    /// [`Ingress::told_all`]: crate::core::bus::Ingress::told_all
    fn tells_all(&self) -> bool {
        false
    }

    /// Where it can be reached, for those that serve: printed when the bus starts.
    fn announce(&self) -> Option<Announcement> {
        None
    }
}

/// An address that is served, and something to try there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// A URL.
    pub address: String,
    /// A shell command that shows that it works.
    pub try_it: String,
}

/// The table of transports. A sixth is a folder, its `mod` above, and a line here.
pub static TRANSPORTS: &[&dyn Transport] = &[
    #[cfg(feature = "http")]
    &http::Http,
    #[cfg(feature = "nats")]
    &nats::Nats,
    #[cfg(feature = "mqtt")]
    &mqtt::Mqtt,
    #[cfg(feature = "k8s")]
    &k8s::K8s,
    #[cfg(feature = "xds")]
    &xds::Xds,
];
