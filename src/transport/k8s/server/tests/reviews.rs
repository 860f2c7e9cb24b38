//! A5, X13: what may I do and who am I, asked in JSON and in protobuf.

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Value, json};

use super::super::testing::{Served, serve};
use crate::core::access::{Access, Action, Rule};
use crate::core::selector::TopicFilter;

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

fn rule(principal: &str, allow: &[Action], topic: &str) -> Rule {
    Rule {
        principal: principal.to_owned().into(),
        token: Some(format!("token-{principal}").into()),
        allow: allow.to_vec(),
        topics: vec![TopicFilter::parse(topic).unwrap()],
    }
}

/// Creates a review as somebody; the code and the answer.
async fn review(served: &Served, path: &str, who: &str, body: &Value) -> (u16, Value) {
    let token = format!("Bearer token-{who}");
    let mut headers = vec![("content-type", "application/json")];
    if !who.is_empty() {
        headers.push(("authorization", &*token));
    }
    let answer = served.call("POST", path, &headers, body.to_string().as_bytes()).await;
    (answer.status.as_u16(), answer.json())
}

fn may(attributes: &Value) -> Value {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}})
}

#[tokio::test]
async fn a5_without_rules_all_that_is_served_is_allowed() {
    let served = serve("").await;
    let asked = json!({"group": "", "resource": "configmaps", "verb": "list"});
    let (code, answer) = review(&served, ACCESS, "", &may(&asked)).await;
    assert_eq!((code, &answer["kind"]), (201, &json!("SelfSubjectAccessReview")));
    assert_eq!(
        (&answer["spec"]["resourceAttributes"], &answer["status"]),
        (&asked, &json!({"allowed": true}))
    );
    for (asked, allowed) in [
        (json!({"resource": "configmaps", "verb": "*"}), true),
        (json!({"resource": "*", "group": "*", "verb": "*"}), true),
        (json!({"resource": "pods", "subresource": "status", "verb": "patch"}), true),
        (json!({"resource": "routes", "group": "meshbus.dev", "verb": "create"}), false),
        (json!({"resource": "cloudevents", "group": "meshbus.dev", "verb": "create"}), true),
        (
            json!({"resource": "selfsubjectreviews", "group": "authentication.k8s.io", "verb": "create"}),
            true,
        ),
        (json!({"resource": "selfsubjectreviews", "group": "authentication.k8s.io", "verb": "get"}), false),
    ] {
        let (_, answer) = review(&served, ACCESS, "", &may(&asked)).await;
        assert_eq!(answer["status"]["allowed"], allowed, "{asked}");
    }
    let (code, status) = review(&served, ACCESS, "", &json!({"spec": {}})).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
    assert_eq!(
        status["message"],
        "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: \
         \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified"
    );
    assert_eq!(served.get(ACCESS).await.failure(405).0, "MethodNotAllowed");
    served.end().await;
}

#[tokio::test]
async fn a5_reviews_say_what_the_rules_say() {
    let served = serve("").await;
    served.bus.set_access(Access::new(vec![
        rule("bob", &[Action::Read], "k8s/local/core/v1/ConfigMap/web/#"),
        rule("bob", &[Action::Write], "k8s/local/core/v1/ConfigMap/web/one"),
        rule("ann", &[Action::Admin], "#"),
    ]));
    let map = |verb: &str, namespace: &str, name: &str| json!({"resource": "configmaps", "verb": verb, "namespace": namespace, "name": name});
    for (asked, allowed) in [
        (map("list", "web", ""), true),
        (map("get", "web", "any"), true),
        (map("list", "", ""), false),
        (map("list", "db", ""), false),
        (map("watch", "web", ""), false),
        (map("update", "web", "one"), true),
        (map("update", "web", "two"), false),
        (map("*", "web", "one"), false),
        (json!({"resource": "*", "group": "*", "verb": "*"}), false),
    ] {
        let (_, own) = review(&served, ACCESS, "bob", &may(&asked)).await;
        assert_eq!(own["status"]["allowed"], allowed, "{asked}");
        // Asked by another, who may look into the bus, the answer is the same.
        let mut of_bob = may(&asked);
        of_bob["kind"] = json!("SubjectAccessReview");
        of_bob["spec"]["user"] = json!("bob");
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let (code, told) = review(&served, path, "ann", &of_bob).await;
        assert_eq!((code, &told["status"]["allowed"]), (201, &json!(allowed)), "{asked}");
        let (code, refused) = review(&served, path, "bob", &of_bob).await;
        assert_eq!(code, 403);
        assert_eq!(
            refused["message"],
            "subjectaccessreviews.authorization.k8s.io is forbidden: User \"bob\" cannot create resource \
             \"subjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope"
        );
    }
    let local = "/apis/authorization.k8s.io/v1/namespaces/web/localsubjectaccessreviews";
    let mut body = may(&map("list", "web", ""));
    body["kind"] = json!("LocalSubjectAccessReview");
    body["spec"]["user"] = json!("bob");
    assert_eq!(review(&served, local, "ann", &body).await.1["status"]["allowed"], true);
    body["spec"]["resourceAttributes"]["namespace"] = json!("db");
    assert_eq!(review(&served, local, "ann", &body).await.0, 400);
    assert_eq!(review(&served, ACCESS, "", &may(&map("list", "web", ""))).await.0, 401);

    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, answer) = review(&served, rules, "bob", &json!({"spec": {"namespace": "web"}})).await;
    let told = answer["status"]["resourceRules"].as_array().unwrap();
    let maps = told.iter().find(|rule| rule["resources"][0] == "configmaps").unwrap();
    assert_eq!((&maps["verbs"], &maps["apiGroups"]), (&json!(["get", "list"]), &json!([""])));
    assert_eq!(answer["status"]["incomplete"], true);
    assert!(!told.iter().any(|rule| rule["resources"][0] == "pods"));
    served.end().await;
}

#[tokio::test]
async fn a5_who_am_i() {
    let served = serve("").await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = review(&served, path, "", &json!({})).await;
    let expected = json!({"userInfo": {"username": "meshbus:admin", "groups": ["system:masters", "system:authenticated"]}});
    assert_eq!((code, &answer["status"]), (201, &expected));
    served.bus.set_access(Access::new(vec![rule("bob", &[Action::Read], "#")]));
    let (_, answer) = review(&served, path, "bob", &json!({})).await;
    let expected = json!({"userInfo": {"username": "bob", "groups": ["system:authenticated"]}});
    assert_eq!(answer["status"], expected);
    served.end().await;
}

/// A field that has a length.
fn part(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

#[tokio::test]
async fn x13_typed_clients_ask_in_protobuf_and_are_answered_in_json() {
    let served = serve("").await;
    let body = |api_version: &str, kind: &str, raw: &[u8]| {
        let meta = [part(1, api_version.as_bytes()), part(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), part(1, &meta), part(2, raw)].concat()
    };
    let headers = [
        ("content-type", "application/vnd.kubernetes.protobuf"),
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
    ];
    let asked = [part(1, b"default"), part(2, b"list"), part(5, b"configmaps")].concat();
    let raw = part(2, &part(1, &asked));
    let sent = body("authorization.k8s.io/v1", "SelfSubjectAccessReview", &raw);
    let answer = served.call("POST", ACCESS, &headers, &sent).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (201, "application/json"));
    assert_eq!(answer.json()["status"], json!({"allowed": true}));

    let raw = part(1, &part(1, b"blue"));
    let sent = body("v1", "Namespace", &raw);
    let answer = served.call("POST", "/api/v1/namespaces", &headers, &sent).await;
    assert_eq!(answer.status.as_u16(), 201, "{:?}", answer.body);
    assert_eq!(answer.json()["metadata"]["name"], "blue");
    for wrong in [&b"k8s\0\x0a\xff"[..], b"{}"] {
        let answer = served.call("POST", ACCESS, &headers, wrong).await;
        assert_eq!(answer.failure(400).0, "BadRequest");
    }
    served.end().await;
}
