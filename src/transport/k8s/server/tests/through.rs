//! Writes of a scope whose owner is a connector that knows no patches, as an XDS client: what they make of the object is
//! worked out here and written under the condition that it is still what was read.

use serde_json::{Value, json};

use super::super::testing::{Served, serve, soon};
use crate::core::bus::Ingress;
use crate::core::write::{Operation, Precondition, Write, Writes};
use crate::core::{Envelope, Key, Refused};
use crate::runtime::task;
use crate::schema::address::topic_of;
use crate::schema::registry::Definition;

const TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const CLUSTERS: &str = "/scopes/core/apis/cluster.config.envoy/v3/clusters";
const MERGE: &str = "application/merge-patch+json";

/// The connector that owns the scope, played by a test.
struct Owner {
    bus: Ingress,
    writes: Writes,
}

impl Owner {
    fn of(served: &Served) -> Self {
        served.kinds.set("core".into(), vec![Definition::guess(&TYPE.into()).unwrap()]);
        let writes = served.bus.own("core".into(), "core".into(), true);
        Self { bus: served.bus.ingress("core", "core"), writes }
    }

    /// Has an object in this version, of the clusters' JSON.
    async fn has(&self, served: &Served, version: &'static str, spec: &Value) {
        let key = Key::new("core", TYPE, "c");
        let data = served.kinds.descriptors().read(TYPE, spec).unwrap();
        self.publish(Envelope::put(topic_of(&key).unwrap(), key, version, data)).await;
    }

    async fn publish(&self, envelope: Envelope) {
        self.bus.publish(vec![envelope]).await[0].stored().unwrap();
    }

    /// The next write that is no patch; patches it does not know.
    async fn next(&mut self) -> Write {
        loop {
            let write = soon(self.writes.recv()).await.unwrap();
            match write.operation {
                Operation::Patch { media_type, .. } => {
                    write.answer.send(Err(Refused::UnsupportedMediaType(media_type))).unwrap();
                }
                _ => return write,
            }
        }
    }

    /// Takes a put as this version.
    async fn take(&self, write: Write, version: &'static str) {
        let Operation::Put(envelope) = write.operation else { panic!("{write:?}") };
        let put = Envelope::put(envelope.topic, write.key, version, envelope.data);
        write.answer.send(Ok(crate::core::Version::from(version).into())).unwrap();
        self.publish(put).await;
    }
}

fn conflict() -> Refused {
    Refused::Owner {
        owner: "core".into(),
        reason: "Conflict".into(),
        message: "the key is at version 9".into(),
        status: 409,
        body: bytes::Bytes::new(),
    }
}

fn spec(data: &Value) -> Value {
    data["spec"].clone()
}

#[tokio::test]
async fn a_patch_is_of_the_latest_there_is_and_tried_again_against_others() {
    let served = serve("").await;
    let mut owner = Owner::of(&served);
    owner.has(&served, "1", &json!({"name": "c", "type": "EDS"})).await;
    let patching = async {
        let patch = json!({"spec": {"connectTimeout": "5s"}}).to_string();
        let path = format!("{CLUSTERS}/c");
        served.call("PATCH", &path, &[("content-type", MERGE)], patch.as_bytes()).await.ok()
    };
    let owning = async {
        let first = owner.next().await;
        assert_eq!(first.precondition, Precondition::Version("1".into()));
        owner.has(&served, "2", &json!({"name": "c", "type": "STATIC"})).await;
        first.answer.send(Err(conflict())).unwrap();
        let second = owner.next().await;
        assert_eq!(second.precondition, Precondition::Version("2".into()));
        owner.take(second, "3").await;
    };
    let (object, ()) = tokio::join!(patching, owning);
    assert_eq!(spec(&object), json!({"name": "c", "type": "STATIC", "connectTimeout": "5s"}));
    served.end().await;
}

#[tokio::test]
async fn an_owner_that_is_never_as_it_was_ends_a_patch_with_its_own_conflict() {
    let served = serve("").await;
    let mut owner = Owner::of(&served);
    owner.has(&served, "1", &json!({"name": "c"})).await;
    let tries = task::spawn("owner", async move {
        let mut tries = 0;
        loop {
            match tokio::time::timeout(std::time::Duration::from_secs(3), owner.next()).await {
                Ok(write) => {
                    tries += 1;
                    write.answer.send(Err(conflict())).unwrap();
                }
                Err(_) => return tries,
            }
        }
    });
    let patch = r#"[{"op": "add", "path": "/spec/connectTimeout", "value": "5s"}]"#;
    let headers = [("content-type", "application/json-patch+json")];
    let answer = served.call("PATCH", &format!("{CLUSTERS}/c"), &headers, patch.as_bytes()).await;
    assert_eq!(answer.failure(409), ("Conflict".to_owned(), "the key is at version 9".to_owned()));
    // The position in a PATCH that names one is held against the latest each time.
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"connectTimeout": "5s"}}).to_string();
    let headers = [("content-type", MERGE)];
    let answer = served.call("PATCH", &format!("{CLUSTERS}/c"), &headers, stale.as_bytes()).await;
    assert_eq!(answer.failure(409).0, "Conflict");
    assert_eq!(tries.await.unwrap(), 8, "it is bounded");
    served.end().await;
}

#[tokio::test]
async fn what_is_applied_is_created_and_what_changes_nothing_is_not_written() {
    let served = serve("").await;
    let mut owner = Owner::of(&served);
    let applied = json!({"apiVersion": "cluster.config.envoy/v3", "kind": "Cluster",
        "metadata": {"name": "c"}, "spec": {"name": "c", "type": "EDS"}});
    let apply = async || {
        let headers = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{CLUSTERS}/c?fieldManager=me");
        served.call("PATCH", &path, &headers, applied.to_string().as_bytes()).await
    };
    let owning = async {
        let first = owner.next().await;
        assert_eq!(first.precondition, Precondition::Absent);
        assert_eq!(first.parameters, [("fieldManager".into(), "me".into())]);
        owner.take(first, "1").await;
    };
    let (created, ()) = tokio::join!(apply(), owning);
    assert_eq!((created.status.as_u16(), spec(&created.json())), (201, applied["spec"].clone()));
    // The patch itself is offered to the owner, and that is all.
    let refusing = async {
        let write = soon(owner.writes.recv()).await.unwrap();
        let Operation::Patch { media_type, .. } = write.operation else { panic!("{write:?}") };
        write.answer.send(Err(Refused::UnsupportedMediaType(media_type))).unwrap();
    };
    let (again, ()) = tokio::join!(apply(), refusing);
    assert_eq!(again.status.as_u16(), 200);
    served.end().await;
}

#[tokio::test]
async fn an_edit_of_what_is_not_there_or_no_message_writes_nothing() {
    let served = serve("").await;
    let mut owner = Owner::of(&served);
    owner.has(&served, "1", &json!({"name": "c"})).await;
    let owning = task::spawn("owner", async move {
        let write = owner.next().await;
        panic!("{write:?}");
    });
    let patch = json!({"spec": {"connectTimeout": 5}}).to_string();
    for (name, code) in [("c", 422), ("none", 404)] {
        let path = format!("{CLUSTERS}/{name}");
        let answer = served.call("PATCH", &path, &[("content-type", MERGE)], patch.as_bytes()).await;
        answer.failure(code);
    }
    owning.abort();
    served.end().await;
}

#[tokio::test]
async fn a_value_is_written_as_its_data() {
    let served = serve("").await;
    served.kinds.set("core".into(), vec![Definition::guess(&Key::VALUE.into()).unwrap()]);
    let mut owner = Owner {
        writes: served.bus.own("core".into(), "core".into(), true),
        bus: served.bus.ingress("core", "core"),
    };
    let value = json!({"apiVersion": "meshbus.dev/v1", "kind": "Value", "metadata": {"name": "limits"},
        "spec": {"json": {"eu": 10}}})
    .to_string();
    let values = "/scopes/core/apis/meshbus.dev/v1/values";
    let creating = served.call("POST", values, &[], value.as_bytes());
    let owning = async {
        let write = owner.next().await;
        let Operation::Put(envelope) = &write.operation else { panic!("{write:?}") };
        assert_eq!((&*write.key.name, &*envelope.data), ("limits", &br#"{"eu":10}"#[..]));
        owner.take(write, "1").await;
    };
    let (created, ()) = tokio::join!(creating, owning);
    assert_eq!(created.status.as_u16(), 201);
    served.end().await;
}
