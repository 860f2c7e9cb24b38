//! What objects must be to be stored, and what is told of them on the bus.

use serde_json::{Value, json};

use super::super::testing::serve;
use super::{WIDGETS, apply, create, send, send_as, widget, with_widgets};
use crate::core::{Key, Value as Attribute};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const EVENTS: &str = "/api/v1/namespaces/default/events";

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Objects with one value of another type than its field has, and how a server that decodes them tells it.
fn misfits() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let maps = |object, why| (CONFIG_MAPS, "ConfigMap", object, why);
    let events = |object, why| (EVENTS, "Event", object, why);
    vec![
        maps(json!({"data": {"a": 1}}), "number into Go struct field ConfigMap.data of type string"),
        maps(json!({"data": ["a"]}), "array into Go struct field ConfigMap.data of type map[string]string"),
        maps(json!({"immutable": "yes"}), "string into Go struct field ConfigMap.immutable of type bool"),
        maps(
            json!({"metadata": {"labels": {"a": true}}}),
            "bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        events(json!({"count": "many"}), "string into Go struct field Event.count of type int32"),
        events(
            json!({"count": 3_000_000_000_u64}),
            "number 3000000000 into Go struct field Event.count of type int32",
        ),
        events(
            json!({"involvedObject": {"name": 7}}),
            "number into Go struct field ObjectReference.involvedObject.name of type string",
        ),
        events(json!({"firstTimestamp": 7}), "number into Go value of type string"),
        (
            LEASES,
            "Lease",
            json!({"spec": {"leaseTransitions": "1"}}),
            "string into Go struct field LeaseSpec.spec.leaseTransitions of type int32",
        ),
        (
            ACCOUNTS,
            "ServiceAccount",
            json!({"secrets": {}}),
            "object into Go struct field ServiceAccount.secrets of type []v1.ObjectReference",
        ),
        (
            "/api/v1/namespaces",
            "Namespace",
            json!({"spec": []}),
            "array into Go struct field Namespace.spec of type v1.NamespaceSpec",
        ),
        (
            PODS,
            "Pod",
            json!({"spec": {"containers": [{"name": 1}]}}),
            "number into Go struct field Container.spec.containers.name of type string",
        ),
    ]
}

#[tokio::test]
async fn values_of_other_types_than_their_fields_are_refused_as_by_a_server_that_decodes_them() {
    let served = serve("").await;
    for (path, kind, mut object, why) in misfits() {
        object["metadata"]["name"] = "a".into();
        let refused = send(&served, "POST", path, &object).await.failure(400);
        let expected =
            format!("{kind} in version \"v1\" cannot be handled as a {kind}: json: cannot unmarshal {why}");
        assert_eq!(refused, ("BadRequest".to_owned(), expected), "{object}");
    }
    let bytes = json!({"metadata": {"name": "a"}, "binaryData": {"k": "ab*d"}});
    let (_, message) = send(&served, "POST", CONFIG_MAPS, &bytes).await.failure(400);
    assert!(message.ends_with(": illegal base64 data at input byte 2"), "{message}");
    served.end().await;
}

#[tokio::test]
async fn a_change_to_a_value_of_another_type_is_refused_however_it_is_sent() {
    let served = serve("").await;
    let path = format!("{CONFIG_MAPS}/a");
    // Nothing is no value.
    let fits = json!({"metadata": {"name": "a", "labels": null}, "data": {"k": null, "l": "1"}});
    let stored = create(&served, CONFIG_MAPS, &fits).await;
    let mut wrong = stored.clone();
    wrong["data"] = json!({"l": 1});
    assert_eq!(send(&served, "PUT", &path, &wrong).await.failure(400).0, "BadRequest");
    let patch = json!({"data": {"l": 1}});
    for media in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let (reason, message) = send_as(&served, "PATCH", &path, media, &patch).await.failure(422);
        assert_eq!(reason, "Invalid");
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
        assert!(message.ends_with("into Go struct field ConfigMap.data of type string"), "{message}");
    }
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"l": 1}});
    let applied = apply(&served, &path, "fieldManager=m&force=true", &wanted).await;
    assert_eq!(applied.status, 500, "what is applied is held to its types before: {:?}", applied.body);
    assert_eq!(served.get(&path).await.ok(), stored);
    served.end().await;
}

#[tokio::test]
async fn a_changed_custom_object_keeps_the_rules_of_changes() {
    let served = with_widgets().await;
    let mut held = widget("a", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&served, WIDGETS, &held).await;
    let path = format!("{WIDGETS}/a");
    send(&served, "DELETE", &path, &Value::Null).await.ok();
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let (reason, message) = send(&served, "PATCH", &path, &more).await.failure(422);
    assert_eq!(reason, "Invalid");
    assert_eq!(
        message,
        "Widget.example.com \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can \
        be added if the object is being deleted, found new finalizers []string{\"example.com/more\"}"
    );
    let label = json!({"metadata": {"labels": {"a": "not a label"}}});
    let refused = send(&served, "PATCH", &path, &label).await;
    assert_eq!(refused.failure(422).0, "Invalid");
    assert_eq!(refused.json()["details"]["causes"].as_array().unwrap().len(), 1);
    served.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_definition_is_told_once() {
    let served = with_widgets().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition = served.get(&format!("{crds}/widgets.example.com")).await.ok();
    definition["metadata"]["labels"] = json!({"a": "not a label"});
    let causes = |answer: &super::Answer| {
        assert_eq!(answer.failure(422).0, "Invalid");
        let causes = answer.json()["details"]["causes"].as_array().unwrap().clone();
        causes.iter().map(|cause| cause["field"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let path = format!("{crds}/widgets.example.com");
    assert_eq!(causes(&send(&served, "PUT", &path, &definition).await), ["metadata.labels"]);
    definition["metadata"] = json!({"name": "gadgets.example.com", "labels": {"a": "not a label"}});
    let causes = causes(&send(&served, "POST", crds, &definition).await);
    assert_eq!(causes, ["metadata.labels", "metadata.name"]);
    served.end().await;
}

#[tokio::test]
async fn an_event_that_is_written_tells_how_often_it_happened_and_what_is_new_of_it() {
    let served = serve("").await;
    let event = json!({"metadata": {"name": "e"}, "reason": "Tested", "type": "Warning", "count": 2,
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    create(&served, EVENTS, &event).await;
    let attributes = || {
        let record = served.bus.get(&Key::new(Key::LOCAL, "core/v1/Event", "default/e")).unwrap();
        [
            "apiversion",
            "kind",
            "name",
            "namespace",
            "reason",
            "eventtype",
            "eventcount",
            "eventdelta",
            "involvedkind",
            "involvedname",
            "involvednamespace",
        ]
        .map(|name| {
            record.envelope.extensions.get(name).map(Attribute::to_text).unwrap_or_default().to_string()
        })
    };
    let expected = |count: &str, delta: &str| {
        ["v1", "Event", "e", "default", "Tested", "Warning", count, delta, "Pod", "p", "default"]
            .map(str::to_owned)
    };
    assert_eq!(attributes(), expected("2", "2"));
    send(&served, "PATCH", &format!("{EVENTS}/e"), &json!({"count": 7})).await.ok();
    assert_eq!(attributes(), expected("7", "5"));
    // Another of the same name begins anew.
    send(&served, "DELETE", &format!("{EVENTS}/e"), &Value::Null).await.ok();
    create(&served, EVENTS, &event).await;
    assert_eq!(attributes(), expected("2", "2"));
    served.end().await;
}
