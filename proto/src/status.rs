//! The messages of client status discovery, `package envoy.service.status.v3`, and what they need of others. Fields that
//! meshbus has no use for are left out: a reader skips them.

use ::prost::alloc::string::String;
use ::prost::alloc::vec::Vec;

use crate::google::{Any, Timestamp};
use crate::xds::Node;

/// Which clients are asked about.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClientStatusRequest {
    /// Those that any of these matches; all where there is none.
    #[prost(message, repeated, tag = "1")]
    pub node_matchers: Vec<NodeMatcher>,
    /// Who asks.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// Whether resources are left out.
    #[prost(bool, tag = "3")]
    pub exclude_resource_contents: bool,
}

/// `envoy.type.matcher.v3.NodeMatcher`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NodeMatcher {
    /// What the id has to be.
    #[prost(message, optional, tag = "1")]
    pub node_id: Option<StringMatcher>,
    /// What the metadata has to be: not supported, but noticed.
    #[prost(message, repeated, tag = "2")]
    pub node_metadatas: Vec<Any>,
}

/// `envoy.type.matcher.v3.StringMatcher`
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StringMatcher {
    /// Which; regular expressions are not among them.
    #[prost(oneof = "StringPattern", tags = "1, 2, 3, 7")]
    pub pattern: Option<StringPattern>,
    /// Whether case makes no difference.
    #[prost(bool, tag = "6")]
    pub ignore_case: bool,
}

/// How a text is matched.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
pub enum StringPattern {
    /// It is this.
    #[prost(string, tag = "1")]
    Exact(String),
    /// It begins so.
    #[prost(string, tag = "2")]
    Prefix(String),
    /// It ends so.
    #[prost(string, tag = "3")]
    Suffix(String),
    /// It holds this.
    #[prost(string, tag = "7")]
    Contains(String),
}

/// How clients stand.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClientStatusResponse {
    /// Each.
    #[prost(message, repeated, tag = "1")]
    pub config: Vec<ClientConfig>,
}

/// How one client stands.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClientConfig {
    /// Who it is.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// What it has asked for.
    #[prost(message, repeated, tag = "3")]
    pub generic_xds_configs: Vec<GenericXdsConfig>,
    /// Tells apart clients of one node.
    #[prost(string, tag = "4")]
    pub client_scope: String,
}

/// How a client stands to one resource.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GenericXdsConfig {
    /// Its type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The version there is.
    #[prost(string, tag = "3")]
    pub version_info: String,
    /// The resource.
    #[prost(message, optional, tag = "4")]
    pub xds_config: Option<Any>,
    /// When it changed last.
    #[prost(message, optional, tag = "5")]
    pub last_updated: Option<Timestamp>,
    /// What the server knows.
    #[prost(enumeration = "ConfigStatus", tag = "6")]
    pub config_status: i32,
    /// What the client has.
    #[prost(enumeration = "ClientResourceStatus", tag = "7")]
    pub client_status: i32,
    /// Why the client refuses it.
    #[prost(message, optional, tag = "8")]
    pub error_state: Option<UpdateFailureState>,
}

/// `envoy.admin.v3.UpdateFailureState`
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateFailureState {
    /// What the client says.
    #[prost(string, tag = "3")]
    pub details: String,
    /// The version it refuses.
    #[prost(string, tag = "4")]
    pub version_info: String,
}

/// What a server knows of a client's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum ConfigStatus {
    /// Nothing.
    Unknown = 0,
    /// The client has accepted what was sent last.
    Synced = 1,
    /// There is nothing to send.
    NotSent = 2,
    /// The client has not answered yet.
    Stale = 3,
    /// The client refuses it.
    Error = 4,
}

/// `envoy.admin.v3.ClientResourceStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum ClientResourceStatus {
    /// Not known.
    Unknown = 0,
    /// Asked for and not accepted yet.
    Requested = 1,
    /// Asked for, but not there.
    DoesNotExist = 2,
    /// Accepted.
    Acked = 3,
    /// Refused.
    Nacked = 4,
}
