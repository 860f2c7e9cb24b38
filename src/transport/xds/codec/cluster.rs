//! The one thing of a cluster that the protocol's order depends on: under which name its endpoints are.

use bytestring::ByteString;
use prost::Message;

/// `envoy.config.cluster.v3.Cluster`, as far as it names endpoints.
#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    eds_cluster_config: Option<EdsClusterConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct EdsClusterConfig {
    #[prost(string, tag = "2")]
    service_name: String,
}

/// The name of a cluster's `ClusterLoadAssignment`; `None` where its endpoints are found otherwise, or it is none.
pub fn endpoints_of(cluster: &[u8]) -> Option<ByteString> {
    let cluster = Cluster::decode(cluster).ok()?;
    let service = cluster.eds_cluster_config?.service_name;
    Some(if service.is_empty() { cluster.name } else { service }.into())
}

/// A cluster whose endpoints are told by the protocol, and nothing else of it.
#[cfg(test)]
pub(crate) fn of_endpoints(name: &str, service: &str, version: u8) -> Vec<u8> {
    let eds_cluster_config = Some(EdsClusterConfig { service_name: service.into() });
    let mut bytes = Cluster { name: name.into(), eds_cluster_config }.encode_to_vec();
    // The field `alt_stat_name`, so that versions differ.
    bytes.extend([0xe2, 0x01, 0x01, version]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_under_the_service_or_the_clusters_own_name() {
        assert_eq!(endpoints_of(&of_endpoints("a", "", b'1')).as_deref(), Some("a"));
        assert_eq!(endpoints_of(&of_endpoints("a", "b", b'1')).as_deref(), Some("b"));
        assert_eq!(
            endpoints_of(&Cluster { name: "a".into(), eds_cluster_config: None }.encode_to_vec()),
            None
        );
        assert_eq!(endpoints_of(&[0xff, 1, 2]), None);
    }
}
