//! What a control plane tells, as objects of a cluster. The cluster is a stand-in API server, the configuration is the
//! example.

use std::path::Path;

use serde_json::json;

use super::resources::{Cluster, cluster, with_timeout};
use super::rig::{LIMIT, Mesh};
use crate::bus::Bus;
use crate::hostile::{Hostile, Kind, Options};
use crate::process::{Scratch, until};

const KIND: &str = "Cluster";
const NAME: &str = "outbound|80||a.b";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_control_plane_tells_is_written_into_a_cluster_and_taken_back() {
    let scratch = Scratch::new();
    let mesh = Mesh::start(&scratch).await;
    let kind = Kind::custom("cluster.config.envoy", "v3", KIND, "clusters").cluster_scoped();
    let options = Options { kinds: vec![kind], ..Options::default() };
    let east = Hostile::start(fastrand::u64(..), options).await;
    let kubeconfig = scratch.path().join("kubeconfig");
    std::fs::write(&kubeconfig, east.kubeconfig()).expect("a file");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/xds-to-kubernetes.yaml");
    let example = std::fs::read_to_string(example).expect("the example");
    let example = example.replace("127.0.0.1:15010", &format!("127.0.0.1:{}", mesh.xds));
    let mut bus = Bus::prepare(&scratch, "writer", &example);
    bus.process = bus.process.env("KUBECONFIG", kubeconfig.display());
    mesh.put(&cluster("web")).await;
    bus.restart().await;
    let timeout = |name: &str| {
        let objects = east.objects(KIND);
        objects.get(name).map(|object| object.value["spec"]["connectTimeout"].clone())
    };
    until("the first is an object", LIMIT, async || timeout("web")).await;
    mesh.put(&with_timeout(cluster("web"), 7)).await;
    mesh.put(&cluster(NAME)).await;
    until("the change is", LIMIT, async || (timeout("web")? == json!("7s")).then_some(())).await;
    let named = until("so is one whose name no object may have", LIMIT, async || {
        let objects = east.objects(KIND).into_values();
        objects.map(|object| object.value).find(|object| object["spec"]["name"] == NAME)
    })
    .await;
    assert_eq!(named["metadata"]["annotations"]["meshbus.dev/name"], NAME, "{named}");
    assert_eq!(named["apiVersion"], "cluster.config.envoy/v3", "{named}");
    mesh.delete::<Cluster>(NAME).await;
    mesh.delete::<Cluster>("web").await;
    until("all is taken back", LIMIT, async || east.objects(KIND).is_empty().then_some(())).await;
}
