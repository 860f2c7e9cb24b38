//! Push subscriptions.

use serde_json::{Value, json};

use crate::transport::http::testing::sink::{Sink, ok};
use crate::transport::http::testing::{Answer, Served, serve, soon};

async fn create(served: &Served, subscription: &Value) -> Answer {
    let body = subscription.to_string();
    served.call("POST", "/v1/subscriptions", &[("content-type", "application/json")], body.as_bytes()).await
}

#[tokio::test]
async fn a_subscription_is_created_shown_replaced_and_deleted_as_the_specification_says() {
    let served = serve("max_subscriptions: 1").await;
    let wanted = json!({
        "protocol": "HTTP",
        "protocolsettings": {"headers": {"x-key": "1"}},
        "sink": "https://example.com/hook",
        "sinkcredential": {"credentialtype": "PLAIN", "identifier": "me", "secret": "hidden"},
        "types": ["a", "b"],
        "filters": [{"prefix": {"subject": "x"}}, {"not": {"exact": {"type": "c"}}}],
        "config": {"topic": "alerts/#", "contentmode": "structured"}
    });
    let created = create(&served, &wanted).await;
    assert_eq!(created.status, 201, "{created:?}");
    let location = created.header("location").to_owned();
    let shown = served.call("GET", &location, &[], b"").await.json();
    assert_eq!(location, format!("/v1/subscriptions/{}", shown["id"].as_str().unwrap()));
    assert_eq!((&shown["sink"], &shown["filters"]), (&wanted["sink"], &wanted["filters"]));
    assert!(!shown.to_string().contains("hidden"), "credentials are never shown");
    assert_eq!(served.call("GET", "/v1/subscriptions", &[], b"").await.json(), json!([shown]));
    create(&served, &wanted).await.problem(507);
    let mut other = shown.clone();
    other["sink"] = json!("https://example.com/other");
    let replaced = served.call("PUT", &location, &[], other.to_string().as_bytes()).await;
    assert_eq!((replaced.status.as_u16(), &replaced.json()["sink"]), (200, &other["sink"]));
    assert_eq!(served.call("DELETE", &location, &[], b"").await.status, 200);
    served.call("GET", &location, &[], b"").await.problem(404);
    served.call("DELETE", &location, &[], b"").await.problem(404);
    served.call("PUT", &location, &[], other.to_string().as_bytes()).await.problem(404);
    let allow = served.call("OPTIONS", "/v1/subscriptions", &[], b"").await;
    assert_eq!(allow.header("allow"), "GET, POST, OPTIONS");
    served.end().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_is_refused_with_the_reason() {
    let served = serve("").await;
    for (change, reason) in [
        (json!({"protocol": "KAFKA"}), "KAFKA"),
        (json!({"sink": "ftp://example.com"}), "sink"),
        (json!({"sink": "http://user:pass@example.com"}), "credentials"),
        (json!({"filters": [{"sql": "true AND"}]}), "column 9: a value is missing here"),
        (json!({"filters": [{"exact": {}}]}), "filters[0]"),
        (json!({"filters": [{"exakt": {"type": "a"}}]}), "exact"),
        (json!({"types": []}), "types"),
        (json!({"config": {"colour": "red"}}), "config.colour"),
        (json!({"protocolsettings": {"headers": {"host": "x"}}}), "headers.host"),
        (json!({"protocolsettings": {"method": "GET"}}), "method"),
        (json!({"unknown": 1}), "unknown"),
    ] {
        let mut subscription = json!({"protocol": "HTTP", "sink": "https://example.com/"});
        for (name, value) in change.as_object().unwrap() {
            subscription[name] = value.clone();
        }
        let detail = create(&served, &subscription).await.problem(400);
        assert!(detail.contains(reason), "{detail}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_sink_gets_what_its_filters_want_and_retries_until_it_takes_it() {
    let served = serve("allow_private_sinks: true").await;
    let mut answers = vec![ok(); 2];
    answers.insert(0, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned());
    answers.insert(1, "HTTP/1.1 503 Away\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_owned());
    let mut sink = Sink::start(answers).await;
    let wanted = json!({
        "protocol": "HTTP",
        "sink": sink.url("/hook?key=1"),
        "sinkcredential": {"credentialtype": "ACCESSTOKEN", "accesstoken": "t", "accesstokenexpiresutc": "x"},
        "filters": [{"any": [{"exact": {"id": "2"}}, {"sql": "id LIKE '%3'"}]}]
    });
    let mut wanted = wanted;
    wanted["sinkcredential"].as_object_mut().unwrap().remove("accesstokenexpiresutc");
    assert_eq!(create(&served, &wanted).await.status, 201);
    for id in ["1", "2"] {
        served.publish("a", id).await;
    }
    for _ in 0..3 {
        let request = soon(sink.next()).await;
        assert!(request.starts_with("POST /hook?key=1 HTTP/1.1"), "{request}");
        assert!(request.contains("authorization: Bearer t") && request.contains("ce-id: 2"), "{request}");
        assert!(request.ends_with("data"), "{request}");
    }
    served.publish("a", "3").await;
    assert!(soon(sink.next()).await.contains("ce-id: 3"));
    served.end().await;
}

#[tokio::test]
async fn a_sink_on_a_private_address_is_never_connected_to() {
    let served = serve("").await;
    let mut sink = Sink::start(Vec::new()).await;
    let urls = [sink.url("/"), sink.url("/").replace("127.0.0.1", "localhost")];
    for url in &urls {
        let wanted = json!({"protocol": "HTTP", "sink": url});
        assert_eq!(create(&served, &wanted).await.status, 201);
    }
    served.publish("a", "1").await;
    let reached = tokio::time::timeout(std::time::Duration::from_millis(500), sink.next()).await;
    assert!(reached.is_err(), "{reached:?}");
    served.end().await;
}
