//! What istio's configuration clients take, `package istio.mcp.v1alpha1`.

use ::prost::alloc::collections::BTreeMap;
use ::prost::alloc::string::String;

use crate::google::{Any, Timestamp};

/// An object with its metadata.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Resource {
    /// What all objects have.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// What it says.
    #[prost(message, optional, tag = "2")]
    pub body: Option<Any>,
}

/// What all objects have.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Metadata {
    /// `namespace/name`
    #[prost(string, tag = "1")]
    pub name: String,
    /// When it was created.
    #[prost(message, optional, tag = "2")]
    pub create_time: Option<Timestamp>,
    /// Its version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "4")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}
