//! What is served where, and what is not.

use super::super::testing::serve;
use super::{MAP, MAPS, fill, map};
use crate::core::access::{Access, Action, Rule};
use crate::core::selector::TopicFilter;
use serde_json::json;

#[tokio::test]
async fn what_nobody_serves_is_not_found() {
    let served = serve("").await;
    for path in [
        "/nowhere",
        "/apis/nope.example.com/v1",
        "/api/v1/namespaces/default/gizmos",
        "/scopes/x/api/v1/configmaps",
        "/api/v1/configmaps/a",
        "/api/v1/namespaces/a/namespaces/b",
    ] {
        let answer = served.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (404, &b"404 page not found\n"[..]),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    let (reason, message) = served.get(&format!("{MAPS}/a")).await.failure(404);
    assert_eq!((&*reason, &*message), ("NotFound", "configmaps \"a\" not found"));
    let (reason, message) = served.get(&format!("{MAPS}/a/nope")).await.failure(404);
    assert_eq!((&*reason, &*message), ("NotFound", "the server could not find the requested resource"));
    served.end().await;
}

#[tokio::test]
async fn methods_that_a_resource_does_not_take_are_named() {
    let served = serve("").await;
    let answer = served.call("OPTIONS", MAPS, &[], b"").await;
    let (reason, message) = answer.failure(405);
    assert_eq!(
        (&*reason, &*message),
        ("MethodNotAllowed", "the server does not allow this method on the requested resource")
    );
    assert!(answer.header("allow").contains("GET"));
    fill(&served, &["a"]).await;
    let head = served.call("HEAD", &format!("{MAPS}/a"), &[], b"").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    served.end().await;
}

#[tokio::test]
async fn x12_bodies_are_bounded() {
    let served = serve("max_body: 1KiB").await;
    let (reason, message) = served.call("POST", MAPS, &[], &[b'x'; 2000]).await.failure(413);
    assert_eq!((&*reason, &*message), ("RequestEntityTooLarge", "Request entity too large: limit is 1024"));
    let (reason, _) = served.call("POST", MAPS, &[("content-encoding", "br")], b"x").await.failure(415);
    assert_eq!(reason, "UnsupportedMediaType");
    served.end().await;
}

#[tokio::test]
async fn pages_of_other_sites_may_not_call() {
    let served = serve("").await;
    let origin = format!("http://{}", served.address);
    let host = served.address.to_string();
    assert_eq!(
        served.call("GET", MAPS, &[("origin", "https://evil.example")], b"").await.failure(403).0,
        "Forbidden"
    );
    drop((origin, host));
    served.end().await;
}

#[tokio::test]
async fn a6_too_many_requests_are_told_to_come_again() {
    let served = serve("max_in_flight: 1\nmax_watches: 1").await;
    let big = "x".repeat(1 << 20);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        served.put(MAP, &format!("web/{name}"), &json!({"metadata": {}, "data": {"k": big}})).await;
    }
    // The first is answered only as far as its client reads.
    let first = served.open("GET", MAPS, &[], b"").await;
    let answer = served.get(MAPS).await;
    assert_eq!(answer.failure(429).0, "TooManyRequests");
    assert_eq!(answer.header("retry-after"), "1");
    drop(first);
    let mut watch = served.watch(&format!("{MAPS}?watch=1")).await;
    watch.next().await.unwrap();
    assert_eq!(served.get(&format!("{MAPS}?watch=1")).await.failure(429).0, "TooManyRequests");
    drop(watch);
    served.end().await;
}

#[tokio::test]
async fn a4_what_the_rules_do_not_allow_is_refused() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    served.put(MAP, "db/b", &map("b", json!({}))).await;
    let rule = Rule {
        principal: "bob".into(),
        token: Some("secret".into()),
        allow: vec![Action::Read, Action::Subscribe],
        topics: vec![TopicFilter::parse("k8s/local/core/v1/ConfigMap/web/#").unwrap()],
    };
    served.bus.set_access(Access::new(vec![rule]));
    let (reason, message) = served.get(MAPS).await.failure(401);
    assert_eq!((&*reason, &*message), ("Unauthorized", "Unauthorized"));
    let token = [("authorization", "Bearer secret")];
    assert_eq!(served.call("GET", MAPS, &token, b"").await.names(), ["web/a"]);
    served.call("GET", &format!("{MAPS}/a"), &token, b"").await.ok();
    for (path, message) in [
        (
            "/api/v1/configmaps",
            "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" at the cluster scope",
        ),
        (
            "/api/v1/configmaps?watch=1",
            "configmaps is forbidden: User \"bob\" cannot watch resource \"configmaps\" in API group \"\" at the cluster scope",
        ),
        (
            "/api/v1/namespaces/db/configmaps/b",
            "configmaps \"b\" is forbidden: User \"bob\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"db\"",
        ),
    ] {
        assert_eq!(
            served.call("GET", path, &token, b"").await.failure(403),
            ("Forbidden".to_owned(), message.to_owned())
        );
    }
    served.end().await;
}

#[tokio::test]
async fn secrets_are_not_shown_unless_allowed() {
    let secret = json!({"metadata": {"name": "s", "namespace": "web"}, "data": {"password": "aHVudGVy"}});
    for (settings, shown) in [("", false), ("allow_secrets: true", true)] {
        let served = serve(settings).await;
        served.put("core/v1/Secret", "web/s", &secret).await;
        for path in [
            "/api/v1/secrets",
            "/api/v1/namespaces/web/secrets/s",
            "/api/v1/secrets?watch=1&timeoutSeconds=1",
        ] {
            let answer = served.get(path).await;
            assert_eq!(answer.status.as_u16(), if shown { 200 } else { 403 }, "{path}");
            assert_eq!(String::from_utf8_lossy(&answer.body).contains("aHVudGVy"), shown, "{path}");
        }
        served.end().await;
    }
}
