//! A4: certificates, tokens, and those who ask to be somebody else.

use std::path::Path;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::testing::{Served, serve, soon};
use crate::core::access::{Access, Action, Rule};
use crate::core::selector::TopicFilter;
use crate::runtime::task;
use crate::runtime::tls::{ClientTls, client_config};

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn rules() -> Access {
    let rule = |principal: &str, allow: Vec<Action>, topic: &str| Rule {
        principal: principal.to_owned().into(),
        token: Some(format!("token-{principal}").into()),
        allow,
        topics: vec![TopicFilter::parse(topic).unwrap()],
    };
    Access::new(vec![
        rule("root", vec![Action::Admin], "#"),
        rule("bob", vec![Action::Read], "k8s/local/core/v1/ConfigMap/web/#"),
        rule("client", vec![Action::Read], "k8s/local/core/v1/Pod/#"),
    ])
}

async fn who(served: &Served, headers: &[(&str, &str)]) -> Value {
    let answer = served.call("POST", WHO, headers, b"{}").await;
    assert_eq!(answer.status.as_u16(), 201, "{:?}", answer.body);
    answer.json()["status"]["userInfo"].clone()
}

#[tokio::test]
async fn a4_who_may_look_into_the_bus_may_be_somebody_else_with_their_rights() {
    let served = serve("").await;
    served.bus.set_access(rules());
    let root = ("authorization", "Bearer token-root");
    let told = who(
        &served,
        &[
            root,
            ("impersonate-user", "bob"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.com%2fscope", "a"),
            ("impersonate-extra-example.com%2fscope", "b"),
        ],
    )
    .await;
    assert_eq!(
        told,
        json!({"username": "bob", "uid": "7", "groups": ["dev", "ops", "system:authenticated"],
            "extra": {"example.com/scope": ["a", "b"]}})
    );
    let maps = "/api/v1/namespaces/web/configmaps";
    let as_bob = [root, ("impersonate-user", "bob")];
    assert_eq!(served.call("GET", maps, &[root], b"").await.status, 403);
    assert_eq!(served.call("GET", maps, &as_bob, b"").await.status, 200);
    let pods = served.call("GET", "/api/v1/pods", &as_bob, b"").await.failure(403);
    assert!(pods.1.contains("User \"bob\" cannot list resource \"pods\""), "{}", pods.1);
    let account = who(&served, &[root, ("impersonate-user", "system:serviceaccount:web:default")]).await;
    let groups = ["system:serviceaccounts", "system:serviceaccounts:web", "system:authenticated"];
    assert_eq!(account["groups"], json!(groups));
    let nobody = who(&served, &[root, ("impersonate-user", "system:anonymous")]).await;
    assert_eq!(nobody["groups"], json!(["system:unauthenticated"]));
    served.end().await;
}

#[tokio::test]
async fn a4_others_may_not_be_somebody_else() {
    let served = serve("").await;
    served.bus.set_access(rules());
    let bob = ("authorization", "Bearer token-bob");
    for (wanted, message) in [
        (
            "root",
            "users \"root\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ),
        (
            "system:serviceaccount:web:default",
            "serviceaccounts \"default\" is forbidden: User \"bob\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"web\"",
        ),
    ] {
        let answer = served.call("POST", WHO, &[bob, ("impersonate-user", wanted)], b"{}").await;
        assert_eq!(answer.failure(403), ("Forbidden".to_owned(), message.to_owned()));
    }
    let of_nobody = served.call("POST", WHO, &[bob, ("impersonate-group", "ops")], b"{}").await;
    assert_eq!(of_nobody.failure(500).0, "InternalError");
    // Without rules everybody is an administrator.
    served.bus.set_access(Access::default());
    let told = who(&served, &[("impersonate-user", "bob")]).await;
    assert_eq!(told, json!({"username": "bob", "groups": ["system:authenticated"]}));
    served.end().await;
}

#[tokio::test]
async fn a4_a_refusal_names_the_part_of_the_object() {
    let served = serve("").await;
    served.put("core/v1/Pod", "web/p", &json!({"metadata": {"name": "p", "namespace": "web"}})).await;
    served.bus.set_access(rules());
    let bob = ("authorization", "Bearer token-bob");
    let path = "/api/v1/namespaces/web/pods/p";
    for (method, path, part, verb) in [
        ("PATCH", format!("{path}/status"), "pods/status", "patch"),
        ("GET", format!("{path}/status"), "pods/status", "get"),
        ("DELETE", path.to_owned(), "pods", "delete"),
    ] {
        let (_, message) = served.call(method, &path, &[bob], b"{}").await.failure(403);
        let expected = format!(
            "pods \"p\" is forbidden: User \"bob\" cannot {verb} resource \"{part}\" in API group \"\" in the namespace \"web\""
        );
        assert_eq!(message, expected);
    }
    served.end().await;
}

/// The answer to a request with the client certificate of the fixtures.
async fn with_certificate(served: &Served, method: &str, path: &str, token: Option<&str>) -> (u16, Value) {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    let settings = ClientTls {
        ca: Some(file("ca.pem")),
        cert: Some(file("client.pem")),
        key: Some(file("client.key")),
    };
    let connector = TlsConnector::from(client_config(&settings, &["http/1.1"]).unwrap());
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = soon(connector.connect(name, stream)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    drop(task::spawn("client", connection));
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = Full::new(bytes::Bytes::from_static(b"{}"));
    let response = soon(sender.send_request(request.body(body).unwrap())).await.unwrap();
    let (head, body) = response.into_parts();
    let body = soon(body.collect()).await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a4_a_client_certificate_names_who_calls() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let file = |name: &str| folder.join(name).display().to_string();
    let settings = format!(
        "tls: {{cert: {}, key: {}, client_ca: {}}}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let served = serve(&settings).await;
    served.bus.set_access(rules());
    // It is looked at before a token, as API servers do.
    for token in [None, Some("token-bob"), Some("wrong")] {
        let (code, told) = with_certificate(&served, "POST", WHO, token).await;
        let expected = json!({"username": "client", "groups": ["system:authenticated"]});
        assert_eq!((code, &told["status"]["userInfo"]), (201, &expected), "{told}");
    }
    assert_eq!(with_certificate(&served, "GET", "/api/v1/pods", None).await.0, 200);
    let (code, refused) = with_certificate(&served, "GET", "/api/v1/configmaps", None).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")));
    served.end().await;
}
