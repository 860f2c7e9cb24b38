//! meshbus's own messages, `package meshbus.xds.v1`: see `proto/meshbus/xds/v1/update.proto`.

use std::collections::HashMap;

use ::prost::alloc::string::String;
use ::prost::alloc::vec::Vec;

use crate::google::Status;
use crate::xds::{Node, Resource};

/// What a client wants written.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateRequest {
    /// Who writes; in the first request of a stream only.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type of all that is written.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// What is created or replaced.
    #[prost(message, repeated, tag = "3")]
    pub resources: Vec<Resource>,
    /// Names of what is deleted.
    #[prost(string, repeated, tag = "4")]
    pub removed_resources: Vec<String>,
    /// The versions that must be there, by name; an empty one for what must not exist.
    #[prost(map = "string, string", tag = "5")]
    pub expected_versions: HashMap<String, String>,
    /// Who manages what is written.
    #[prost(string, tag = "6")]
    pub field_manager: String,
    /// Whether to check only.
    #[prost(bool, tag = "7")]
    pub dry_run: bool,
    /// Comes back in the response.
    #[prost(string, tag = "8")]
    pub nonce: String,
}

/// What became of each write.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateResponse {
    /// That of the request.
    #[prost(string, tag = "1")]
    pub nonce: String,
    /// One for each name.
    #[prost(message, repeated, tag = "2")]
    pub results: Vec<UpdateResult>,
}

/// `UpdateResponse.Result`: what became of one write.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UpdateResult {
    /// Which.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The version there is now.
    #[prost(string, tag = "2")]
    pub version: String,
    /// How it went; always there.
    #[prost(message, optional, tag = "3")]
    pub status: Option<Status>,
}
