//! What a resource is called where a response does not say: by the bytes of its type. And the version of one that has
//! none: what it holds.

use data_encoding::HEXLOWER;
use prost::Message;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::kinds::{
    CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, RUNTIME, SCOPED_ROUTES, SECRET, VIRTUAL_HOST,
};
use crate::schema::kinds::{group_version_kind, proto_name};

/// Bytes of a digest that are kept as a version: enough that two contents never share one.
const VERSION_BYTES: usize = 16;

/// Any type of Envoy's discovery services, of which all have their name in the first field: `name`, or `cluster_name` of
/// endpoints.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// An object of Kubernetes, as far as it is named.
#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
}

/// Whether resources of the type say their own name, as they must where responses give none.
pub fn names_itself(type_url: &str) -> bool {
    is_envoys(type_url) || is_object(type_url)
}

/// The name of a resource by its bytes.
///
/// # Errors
/// Says why they give none.
pub fn name_of(type_url: &str, data: &[u8]) -> Result<String, String> {
    let named = |name: String| if name.is_empty() { Err("has no name".to_owned()) } else { Ok(name) };
    if is_envoys(type_url) {
        let read = Named::decode(data).map_err(|error| format!("cannot be decoded: {error}"))?;
        return named(read.name);
    }
    if is_object(type_url) {
        let object: Object =
            serde_json::from_slice(data).map_err(|error| format!("is no object with a name: {error}"))?;
        let Metadata { namespace, name } = object.metadata;
        return named(name).map(|name| format!("{namespace}/{name}"));
    }
    Err("is of a type whose resources do not say their name: ask for it incrementally".to_owned())
}

/// The version of what has none: a digest, so that the same is never taken for a change.
pub fn digest_of(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    HEXLOWER.encode(digest.get(..VERSION_BYTES).unwrap_or(&digest))
}

/// Whether the type is a kind of Kubernetes: JSON, and named by its metadata.
pub fn is_object(type_url: &str) -> bool {
    proto_name(type_url).is_none() && group_version_kind(type_url).is_some_and(|kind| !kind.is_own())
}

fn is_envoys(type_url: &str) -> bool {
    matches!(
        type_url,
        CLUSTER
            | ENDPOINTS
            | EXTENSION
            | LISTENER
            | ROUTES
            | RUNTIME
            | SCOPED_ROUTES
            | SECRET
            | VIRTUAL_HOST
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::xds::codec::cluster::of_endpoints;

    #[test]
    fn a_resource_of_envoy_is_named_by_its_first_field() {
        assert_eq!(name_of(CLUSTER, &of_endpoints("outbound|80||a.b", "", 1)).unwrap(), "outbound|80||a.b");
        assert_eq!(name_of(ENDPOINTS, b"\x0a\x01e").unwrap(), "e");
        assert_eq!(name_of(CLUSTER, b"").unwrap_err(), "has no name");
        assert!(name_of(CLUSTER, b"\xff\x01").unwrap_err().starts_with("cannot be decoded"), "garbage");
    }

    #[test]
    fn an_object_of_kubernetes_is_named_by_its_metadata() {
        let deployment = "apps/v1/Deployment";
        let name = |data: &str| name_of(deployment, data.as_bytes());
        assert_eq!(name(r#"{"metadata":{"name":"a","namespace":"web"}}"#).unwrap(), "web/a");
        assert_eq!(name(r#"{"metadata":{"name":"node"}}"#).unwrap(), "/node");
        assert_eq!(name(r#"{"metadata":{"name":""}}"#).unwrap_err(), "has no name");
        for wrong in ["", "[]", "{}", r#"{"metadata":{}}"#, "\u{1}"] {
            assert!(name(wrong).unwrap_err().starts_with("is no object with a name"), "{wrong}");
        }
    }

    #[test]
    fn who_has_no_name_of_its_own_is_said_to_have_none() {
        for type_url in ["meshbus.dev/v1/Value", "type.googleapis.com/x.Y", ""] {
            assert!(!names_itself(type_url) && name_of(type_url, b"\x0a\x01e").is_err(), "{type_url}");
        }
        assert!(names_itself(CLUSTER) && names_itself("core/v1/Pod"));
    }

    #[test]
    fn the_same_bytes_have_the_same_version() {
        assert_eq!(digest_of(b""), "e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(digest_of(b"a"), digest_of(b"a"));
        assert_ne!(digest_of(b"a"), digest_of(b"b"));
    }
}
