//! XDS: a server that shows the bus's state as resources, and a client that takes in what a management server tells, both
//! in both variants of the protocol.
//!
//! Follows the [xDS transport protocol] of release 1.37 and later, version 3 of the API. Any type is served: Envoy's, the
//! kinds of Kubernetes as `group/version/Kind`, the bus's own.
//!
//! | on the wire | in the envelope |
//! |---|---|
//! | `type_url` | the key's type |
//! | the name of a resource | the key's name; of an object of Kubernetes `namespace/name`, or `/name` |
//! | `Resource.version`; where a server gives none, a digest of the bytes | the key's version |
//! | `version_info`, `system_version_info` | of the server, a position in the log |
//! | `Any.value` | `data` |
//! | `Resource.aliases` | extension `mbaliases`, with spaces between |
//! | `Resource.ttl` | extension `mbttl`, in milliseconds |
//! | the scope a node sees | the key's scope, by the rules of `nodes`; of a client, its name or `scope` |
//! | a resource in a response | `change` = Put |
//! | `removed_resources`; absence in a whole response | `change` = Delete |
//!
//! The client answers a response when what it holds is stored, and refuses what it cannot decode or store, by name; the rest
//! of such a response is taken. Resources with the bytes that the table has already are no change, so that a server that
//! was started again tells nobody anything new. Where the versions of what it has are too long for one request, it is told
//! all again; what it is not told then is gone when the answer has its mark, or has paused.
//!
//! To the server, a client with the versions of what it has in `initial_resource_versions` is told the difference. One that sends
//! `{"*": POSITION}` there is told what has changed since; where that is no longer known it hears `OUT_OF_RANGE` for the name
//! `*`, and begins again with versions. The position to go on after is the version of the mark (below), when what was told
//! before it is taken: all up to there was told. The `system_version_info` of a response is only how far the server had
//! looked when it made it. It may stand beyond changes that the client is told later: the end of clusters and endpoints while
//! others may refer to them, what refers to clusters that the client has not answered to, and, before the scope has settled,
//! that something is absent. Who resumes after it never hears of what was held back then.
//!
//! A client that comes back with something is not told that it is gone before the scope has settled (`state.settle`).
//!
//! An incremental client with the feature `meshbus.sync-marker` is told after the first answer of each type that it has all:
//! by a resource `*` that has a version, the position, and no message. Before the scope has settled the resource has no
//! version: there is more to come, and the mark follows when the scope has settled. Until then no client with the feature
//! is told that something is absent, and one of the state of the world is told no response that has to be whole.
//!
//! Writes are a service of their own, `meshbus.xds.v1.UpdateService` (`proto/meshbus/xds/v1/update.proto`): resources and
//! names to delete, each under the version that it is to have, each with a status of its own. They go to the owner of the
//! key and need `write` at its topic. A client that is such a bus itself hands writes of its scope to its server by that
//! service, and answers them with the server's status when the stream has shown what they made: so it takes writes of what
//! it subscribes to. At a server without the service they are refused (405), and while there is no connection as well (503).
//! A client of the state of the world with the feature `meshbus.resource-versions` is told each resource in a `Resource`, with
//! its name and version, which a condition of a write is about.
//!
//! Beside what is in the table, `istio.io/connections` are the nodes that are connected, by the id of their connection, and
//! `istio.io/connect`, `istio.io/disconnect` and `istio.io/nack` what happened to them: the last thousand of each, with
//! numbers as names and versions, from which a client resumes (`version_info` of its first request, or `{"*": NUMBER}`).
//! Of connections a client may show the versions it has, too. They need `subscribe` at `bus/connections/#`.
//!
//! `istio.io/debug` with one name (`connections`, `syncz`, `config_dump?proxyID=ID`, `list`) and `istio.io/debug/syncz` are
//! answered once, as istio's tools ask; with client status discovery (CSDS, both methods, by `node_id`) they need `admin` at
//! `bus/connections/#`.
//!
//! A resource is asked for by its name or by one of its aliases, and always told by its name. Where it loses the alias, or is
//! gone, the alias is removed as well, for who asked by it; and the name, where the client wants it in no other way.
//!
//! What was written with a time to live (`Resource.ttl` of an update, `mb-ttl` over HTTP) is told with it to incremental
//! clients with the feature `xds.config.supports-resource-ttl`, and told again without its message, three times within
//! it, but no more often than each second where it is longer than two. The bus itself lets nothing go.
//!
//! A client of the state of the world whose node has the metadata `GENERATOR: api` gets objects of Kubernetes as istio's
//! configuration clients take them, in `istio.mcp.v1alpha1.Resource` (MCP over XDS): what they specify is the message of their kind
//! where `descriptors` have it, else a `Struct`.
//!
//! The other way round, a client of ours with that metadata takes in what istio's control plane has of a kind
//! (`networking.istio.io/v1/VirtualService`) as objects of Kubernetes: JSON with `apiVersion`, `kind`, `metadata` and `spec`. A
//! `spec` that `descriptors` do not know, or not all of, is the type of its message and the bytes in base64, so that nothing
//! of it is lost on the way; `status` is not told. What has no namespace is named `/name`; other names that are not
//! `namespace/name` are refused, as are bodies that cannot be decoded, each by its name.
//!
//! Who is connected to it, istio's control plane tells to who asks, and in no other way. With `poll_debug` a client of ours
//! asks on a second stream of its connection, by `istio.io/debug` with the name `connections`, and each is a
//! `meshbus.dev/v1/Connection` in the client's scope, at `bus/connections/xds/SCOPE/ID`. Those are the connections of the one
//! server that it is connected to, its own two among them, and they are as old as the interval: who comes and goes within it is
//! never seen. A server that does not answer, or refuses, is asked again later each time, up to every 5 minutes, and meanwhile
//! they stay as they were. Of one answer 100,000 are kept.
//!
//! Not supported: `istio.io/debug/config_dump`, compressed messages, times to live in the state of the world; of the client,
//! times to live and aliases that it is told, and media types of what is written. In the state of the world one request names all that is wanted of a type: servers in Go take
//! 4 MiB, unless they are told otherwise.
//!
//! [xDS transport protocol]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol

use super::{Connector, Transport, TransportSchema};
use crate::config::{ConfigError, Section};
use crate::core::delivery::Target;

mod client;
pub mod codec;
pub mod config;
mod server;

pub use client::Client;
pub use server::Server;

use config::{ClientConfig, ServerConfig};

/// The transport.
#[derive(Debug)]
pub struct Xds;

impl Transport for Xds {
    fn name(&self) -> &'static str {
        "xds"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["xds"]
    }

    fn schema(&self) -> TransportSchema {
        TransportSchema {
            client: Some(schemars::schema_for!(ClientConfig)),
            server: Some(schemars::schema_for!(ServerConfig)),
            target: None,
        }
    }

    fn client(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(Client::new(ClientConfig::from_section(section)?)))
    }

    fn server(&self, _name: &str, section: &Section) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(Server::new(ServerConfig::from_section(section)?)))
    }

    fn target(&self, connector: &Section, section: &Section) -> Result<Target, ConfigError> {
        if connector.get("urls").is_some() {
            let hint = "route what it brings: from: [NAME]";
            return Err(section.error_with_hint("", "an XDS client is no sink: it takes state in", hint));
        }
        let hint = "put the resource as state, which the server serves";
        Err(section.error_with_hint("", "an XDS server is no sink", hint))
    }
}
