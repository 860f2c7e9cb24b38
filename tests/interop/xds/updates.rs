//! Writes by a gRPC client, which an Envoy follows; and how the bus says that the Envoy stands.

use std::process::Stdio;

use data_encoding::BASE64;
use meshbus_proto::google::Any;
use meshbus_proto::meshbus::{UpdateRequest, UpdateResponse};
use meshbus_proto::status::{ClientResourceStatus, ClientStatusRequest, ClientStatusResponse};
use meshbus_proto::xds::Resource as Named;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::envoy::{Envoy, Variant};
use super::grpc::python;
use super::resources::{Cluster, Resource, bad_cluster, cluster, endpoints};
use super::rig::{LIMIT, Mesh};
use crate::process::{Scratch, until};

/// A stream of gRPC of C++, from Python.
struct Call {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Call {
    fn start(xds: u16, path: &str) -> Self {
        let mut child = python("call.py")
            .args([format!("127.0.0.1:{xds}"), path.to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python runs");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { _child: child, input, output }
    }

    async fn ask<R: Message + Default>(&mut self, request: &impl Message) -> R {
        let line = format!("{}\n", BASE64.encode(&request.encode_to_vec()));
        self.input.write_all(line.as_bytes()).await.expect("its input is open");
        self.input.flush().await.expect("its input is open");
        let line = timeout(LIMIT, self.output.next_line()).await.expect("an answer in time");
        let line = line.expect("output").expect("an answer");
        R::decode(&BASE64.decode(line.as_bytes()).expect("base64")[..]).expect("a response")
    }
}

fn put(clusters: &[Cluster]) -> UpdateRequest {
    let resource = |cluster: &Cluster| Named {
        name: cluster.name().to_owned(),
        resource: Some(Any { type_url: Cluster::TYPE.to_owned(), value: cluster.encode_to_vec().into() }),
        ..Named::default()
    };
    UpdateRequest {
        type_url: Cluster::TYPE.to_owned(),
        resources: clusters.iter().map(resource).collect(),
        ..UpdateRequest::default()
    }
}

fn codes(response: &UpdateResponse) -> Vec<i32> {
    response.results.iter().map(|result| result.status.as_ref().expect("a status").code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_grpc_client_writes_reaches_an_envoy_and_how_that_stands_is_told() {
    let scratch = Scratch::new();
    let mesh = Mesh::start(&scratch).await;
    for name in ["c1", "bad"] {
        mesh.put(&endpoints(name, &[1])).await;
    }
    let envoy = Envoy::start(&scratch, "follows", Variant::Delta, mesh.xds).await;
    let mut updates = Call::start(mesh.xds, "/meshbus.xds.v1.UpdateService/StreamUpdates");
    let made: UpdateResponse = updates.ask(&put(&[cluster("c1"), bad_cluster("bad")])).await;
    assert_eq!(codes(&made), [0, 0], "{made:?}");
    envoy.shows_cluster("c1", true).await;
    let path = "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus";
    let mut statuses = Call::start(mesh.xds, path);
    until("the refusal is told", LIMIT, async || {
        let all: ClientStatusResponse = statuses.ask(&ClientStatusRequest::default()).await;
        let client =
            all.config.iter().find(|client| client.node.as_ref().is_some_and(|it| it.id == "follows"))?;
        let bad = client.generic_xds_configs.iter().find(|config| config.name == "bad")?;
        let error = bad.error_state.as_ref().map(|error| error.details.as_str()).unwrap_or_default();
        (bad.client_status() == ClientResourceStatus::Nacked && error.contains("bad")).then_some(())
    })
    .await;
    // Under the version that it had before, which it has no more.
    let mut late = put(&[cluster("c1")]);
    late.expected_versions.insert("c1".to_owned(), made.results[0].version.clone());
    let second: UpdateResponse = updates.ask(&late).await;
    assert_eq!(codes(&second), [0]);
    let third: UpdateResponse = updates.ask(&late).await;
    assert_eq!(codes(&third), [10], "ABORTED: {third:?}");
    let gone = UpdateRequest { removed_resources: vec!["c1".to_owned()], ..put(&[]) };
    let gone: UpdateResponse = updates.ask(&gone).await;
    assert_eq!(codes(&gone), [0]);
    envoy.shows_cluster("c1", false).await;
}
