//! The messages of xDS transport, `package envoy.service.discovery.v3`, and what they need of
//! `envoy.config.core.v3`. Fields that meshbus has no use for are left out: a reader skips them.

use std::collections::HashMap;

use ::prost::alloc::string::String;
use ::prost::alloc::vec::Vec;

use crate::google::{Any, Duration, Status, Struct, Value};

/// `envoy.config.core.v3.Node`: who a client says it is.
///
/// Without the list of extensions, which is most of what an Envoy sends (some 60 KB).
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Node {
    /// Names the node among those of a control plane.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The local service cluster it belongs to.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// What else it says of itself.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    /// Where it runs.
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    /// Which program: `envoy`, `gRPC C-core linux Python`.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Which version of it; the other arm of the oneof is a structured one.
    #[prost(oneof = "UserAgentVersion", tags = "7, 8")]
    pub user_agent_version: Option<UserAgentVersion>,
    /// What it can do beyond the protocol's base.
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

/// The version of a client's program.
#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum UserAgentVersion {
    /// As text.
    #[prost(string, tag = "7")]
    Text(String),
    /// As Envoy says it.
    #[prost(message, tag = "8")]
    Build(BuildVersion),
}

/// `envoy.config.core.v3.BuildVersion`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BuildVersion {
    /// Its number.
    #[prost(message, optional, tag = "1")]
    pub version: Option<SemanticVersion>,
    /// Labels, such as the revision.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<Struct>,
}

/// `envoy.type.v3.SemanticVersion`
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SemanticVersion {
    /// Major.
    #[prost(uint32, tag = "1")]
    pub major_number: u32,
    /// Minor.
    #[prost(uint32, tag = "2")]
    pub minor_number: u32,
    /// Patch.
    #[prost(uint32, tag = "3")]
    pub patch: u32,
}

/// `envoy.config.core.v3.Locality`
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Locality {
    /// Region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// Zone.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// Sub-zone.
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.core.v3.ControlPlane`
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ControlPlane {
    /// Names the server.
    #[prost(string, tag = "1")]
    pub identifier: String,
}

/// State of the world: what a client wants of one type, and what it says of the last response.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DiscoveryRequest {
    /// The version of the last response that was accepted.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Guaranteed in the first request of a stream only.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// All names that are wanted.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// The type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The response this answers; empty in the first request.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Why that response is refused.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
    /// More names, with parameters.
    #[prost(message, repeated, tag = "7")]
    pub resource_locators: Vec<ResourceLocator>,
}

/// State of the world: resources of one type.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DiscoveryResponse {
    /// The version of these resources.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// The resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    /// Whether it is a trial.
    #[prost(bool, tag = "3")]
    pub canary: bool,
    /// The type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Names this response, for the client's answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Who sends it.
    #[prost(message, optional, tag = "6")]
    pub control_plane: Option<ControlPlane>,
    /// Resources that are not there, and why.
    #[prost(message, repeated, tag = "7")]
    pub resource_errors: Vec<ResourceError>,
}

/// Incremental: what a client wants more or less of one type, and what it says of a response.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Guaranteed in the first request of a stream only.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to add; `*` is all.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to take away.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// The versions of what the client has, in the first request of a type on a stream.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    /// The response this answers.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Why that response is refused.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
    /// More names to add, with parameters.
    #[prost(message, repeated, tag = "8")]
    pub resource_locators_subscribe: Vec<ResourceLocator>,
    /// More names to take away, with parameters.
    #[prost(message, repeated, tag = "9")]
    pub resource_locators_unsubscribe: Vec<ResourceLocator>,
}

/// Incremental: changes of one type.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// The version of the whole, for people and for clients that resume.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Resources that are new or changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// The type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Names this response, for the client's answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that are gone, or never were.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// Who sends it.
    #[prost(message, optional, tag = "7")]
    pub control_plane: Option<ControlPlane>,
    /// As [`Self::removed_resources`], with parameters.
    #[prost(message, repeated, tag = "8")]
    pub removed_resource_names: Vec<ResourceName>,
    /// Resources that are not there, and why.
    #[prost(message, repeated, tag = "9")]
    pub resource_errors: Vec<ResourceError>,
}

/// One resource of an incremental response.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Resource {
    /// Its version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The resource; absent in a heartbeat.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Other names of it.
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
    /// How long it holds without another word.
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Duration>,
    /// Its name, with parameters.
    #[prost(message, optional, tag = "8")]
    pub resource_name: Option<ResourceName>,
}

/// A name with the parameters that select among variants.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResourceLocator {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The parameters asked with.
    #[prost(map = "string, string", tag = "2")]
    pub dynamic_parameters: HashMap<String, String>,
}

/// A name with the constraints under which it holds.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResourceName {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Why a resource is not there.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResourceError {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub resource_name: Option<ResourceName>,
    /// Why: `NOT_FOUND`, `PERMISSION_DENIED` and others.
    #[prost(message, optional, tag = "2")]
    pub error_detail: Option<Status>,
}

/// `envoy.config.cluster.v3.Cluster`, as far as it says where its endpoints are.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Cluster {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How its endpoints are discovered, where xDS does it.
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
}

/// `envoy.config.cluster.v3.Cluster.EdsClusterConfig`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EdsClusterConfig {
    /// The name of the endpoints, where it is not that of the cluster.
    #[prost(string, tag = "2")]
    pub service_name: String,
}

impl Node {
    /// The member `name` of the metadata, where it is a string.
    pub fn metadata_text(&self, name: &str) -> Option<&str> {
        match self.metadata.as_ref()?.fields.get(name) {
            Some(Value { kind: Some(crate::google::Kind::String(text)) }) => Some(text),
            _ => None,
        }
    }
}
