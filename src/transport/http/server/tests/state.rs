//! State: reading, listing, writing.

use crate::core::{Envelope, Key};
use crate::transport::http::testing::serve;

#[tokio::test]
async fn a_key_is_written_read_and_deleted_under_its_conditions() {
    let served = serve("").await;
    let json = [("content-type", "application/json")];
    let path = "/v1/state?name=lamp/1";
    served.call("GET", path, &[], b"").await.problem(404);
    let created = served.call("PUT", path, &json, b"{\"on\":true}").await;
    assert_eq!(created.status, 201);
    let tag = created.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", created.header("mb-seq")));
    let read = served.call("GET", path, &[], b"").await;
    assert_eq!((read.status.as_u16(), &*read.body), (200, &b"{\"on\":true}"[..]));
    assert_eq!((read.header("content-type"), read.header("etag")), ("application/json", &*tag));
    assert_eq!(served.call("GET", path, &[("if-none-match", &tag)], b"").await.status, 304);
    assert_eq!(served.call("GET", path, &[("if-none-match", "\"1\", \"2\"")], b"").await.status, 200);
    served.call("PUT", path, &[("if-none-match", "*")], b"x").await.problem(412);
    served.call("PUT", path, &[("if-match", "\"1\"")], b"x").await.problem(412);
    served.call("PUT", path, &[("if-match", "other")], b"x").await.problem(412);
    served.call("PUT", path, &[("if-match", "\"1\", \"2\"")], b"x").await.problem(400);
    let changed = served.call("PUT", path, &[("if-match", &tag)], b"off").await;
    assert_eq!((changed.status.as_u16(), changed.header("etag") == tag), (200, false));
    served.call("DELETE", path, &[("if-match", &tag)], b"").await.problem(412);
    assert_eq!(served.call("DELETE", path, &[("if-match", "*")], b"").await.status, 200);
    served.call("DELETE", path, &[], b"").await.problem(404);
    served.call("DELETE", path, &[("if-match", "*")], b"").await.problem(412);
    served.end().await;
}

#[tokio::test]
async fn a_key_is_read_as_a_whole_event_when_that_is_asked_for() {
    let served = serve("").await;
    let path = "/v1/state?name=lamp/1";
    let put = served.call("PUT", path, &[("content-type", "application/json")], b"{\"on\":true}").await;
    for accept in ["application/cloudevents+json", "text/html, Application/CloudEvents+JSON;q=0.9"] {
        let read = served.call("GET", path, &[("accept", accept)], b"").await;
        assert!(read.header("content-type").starts_with("application/cloudevents+json"), "{read:?}");
        assert_eq!((read.header("etag"), read.header("vary")), (put.header("etag"), "accept"));
        let event = read.json();
        assert_eq!((&event["mbtopic"], &event["resourcename"]), (&"lamp/1".into(), &"lamp/1".into()));
        assert_eq!((&event["mbseq"], &event["data"]["on"]), (&put.header("mb-seq").into(), &true.into()));
    }
    let listed = served.call("GET", "/v1/state", &[], b"").await.json();
    assert_eq!(listed["items"][0]["mbtopic"], "lamp/1");
    served
        .call("GET", "/v1/state?name=no", &[("accept", "application/cloudevents+json")], b"")
        .await
        .problem(404);
    let data = served.call("GET", path, &[("accept", "*/*")], b"").await;
    assert_eq!(&*data.body, b"{\"on\":true}");
    served.end().await;
}

#[tokio::test]
async fn a_dry_run_checks_and_changes_nothing() {
    let served = serve("").await;
    let answer = served.call("PUT", "/v1/state?name=a&dry_run=true", &[], b"x").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, ""));
    assert_eq!(served.bus.figures().keys, 0);
    served.call("PUT", "/v1/state?name=a&dry_run=true", &[("if-match", "\"1\"")], b"x").await.problem(412);
    served.end().await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page_at_one_position() {
    let served = serve("").await;
    for name in ["a", "b", "c"] {
        assert_eq!(served.call("PUT", &format!("/v1/state?name={name}"), &[], b"1").await.status, 201);
    }
    let first = served.call("GET", "/v1/state?limit=2", &[], b"").await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["items"][0]["resourcename"], "a");
    served.call("PUT", "/v1/state?name=d", &[], b"1").await;
    let next = first["next"].as_str().unwrap();
    let second = served.call("GET", &format!("/v1/state?limit=2&continue={next}"), &[], b"").await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1, "d came after the position");
    assert_eq!((&second["seq"], second.get("next")), (&first["seq"], None));
    let typed =
        served.call("GET", "/v1/state?scope=local&type=meshbus.dev/v1/Value", &[], b"").await.json();
    assert_eq!(typed["items"].as_array().unwrap().len(), 4);
    served.call("GET", "/v1/state?limit=0", &[], b"").await.problem(400);
    served.call("GET", "/v1/state?continue=xyz", &[], b"").await.problem(400);
    served.end().await;
}

#[tokio::test]
async fn a_large_list_is_cut_by_its_bytes() {
    let served = serve("max_body: 4MiB").await;
    let large = vec![b'x'; 3 << 20];
    for name in ["a", "b", "c", "d"] {
        assert_eq!(served.call("PUT", &format!("/v1/state?name={name}"), &[], &large).await.status, 201);
    }
    let mut names = Vec::new();
    let mut query = String::new();
    let mut pages = 0;
    loop {
        let page = served.call("GET", &format!("/v1/state?{query}"), &[], b"").await.json();
        pages += 1;
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["resourcename"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("continue={next}");
    }
    assert_eq!((names.len(), pages), (4, 2));
    served.end().await;
}

#[tokio::test]
async fn what_its_owner_does_not_take_is_refused_in_the_owners_name() {
    let served = serve("").await;
    let answer = served.call("PUT", "/v1/state?scope=in&name=a", &[], b"x").await;
    assert!(answer.problem(405).contains("in owns this key"), "{answer:?}");
    assert_eq!(answer.header("allow"), "GET, HEAD");
    served.call("PUT", "/v1/state?scope=nobody&name=a", &[], b"x").await.problem(404);
    assert!(served.call("PUT", "/v1/state?name=k8s/a", &[], b"x").await.problem(403).contains("k8s/a"));
    served.call("PUT", "/v1/state?type=x&name=a", &[], b"x").await.problem(400);
    served.call("PUT", "/v1/state", &[], b"x").await.problem(400);
    served.end().await;
}

#[cfg(feature = "envoy")]
#[tokio::test]
async fn a_message_is_written_as_json_or_bytes_and_read_as_either() {
    let served = serve("").await;
    let path = "/v1/state?type=type.googleapis.com/envoy.config.cluster.v3.Cluster&name=a";
    let json = [("content-type", "application/json")];
    let body = br#"{"name": "a", "type": "EDS", "connect_timeout": "5s"}"#;
    assert_eq!(served.call("PUT", path, &json, body).await.status, 201);
    let bytes = b"\x0a\x01a\x10\x03\x22\x02\x08\x05";
    let answer = served.call("GET", path, &[("accept", "*/*")], b"").await;
    assert_eq!((answer.header("content-type"), &answer.body[..]), ("application/protobuf", &bytes[..]));
    let answer = served.call("GET", path, &[("accept", "application/json")], b"").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.body, r#"{"name":"a","type":"EDS","connectTimeout":"5s"}"#);
    assert_eq!(served.call("PUT", path, &[], bytes).await.status, 200);
    let wrong = br#"{"loadAssignment": {"endpoints": [{"priority": "x"}]}}"#;
    let problem = served.call("PUT", path, &json, wrong).await.problem(422);
    assert!(
        problem.contains("envoy.config.cluster.v3.Cluster: loadAssignment.endpoints[0].priority: "),
        "{problem}"
    );
    served.call("PUT", path, &json, b"{").await.problem(400);
    assert!(
        served.call("PUT", path, &[], b"{}").await.problem(422).contains("content-type application/json")
    );
    // Of a type that nobody knows bytes are taken as they are, and JSON only in the form that holds them.
    let path = "/v1/state?type=type.googleapis.com/unknown.Type&name=a";
    assert_eq!(served.call("PUT", path, &[], b"{}").await.status, 201);
    let answer = served.call("GET", path, &[("accept", "application/json")], b"").await;
    assert_eq!(answer.body, r#"{"@type":"type.googleapis.com/unknown.Type","value":"e30="}"#);
    assert_eq!(served.call("PUT", path, &json, &answer.body).await.status, 200);
    assert_eq!(served.call("GET", path, &[], b"").await.body, "{}");
    assert!(served.call("PUT", path, &json, b"{}").await.problem(422).contains("descriptors"));
    served.end().await;
}

#[tokio::test]
async fn a_typed_key_has_the_topic_its_type_says() {
    let served = serve("").await;
    for (type_url, name, topic) in [
        ("apps/v1/Deployment", "web/front", "k8s/local/apps/v1/Deployment/web/front"),
        ("core/v1/Node", "/n1", "k8s/local/core/v1/Node/_/n1"),
        (
            "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "a/b",
            "xds/local/envoy.config.cluster.v3.Cluster/a%2Fb",
        ),
    ] {
        let path = format!("/v1/state?type={type_url}&name={name}");
        // No bytes are a message without fields, and a value like any other.
        assert_eq!(served.call("PUT", &path, &[], b"").await.status, 201, "{path}");
        let record = served.bus.get(&Key::new("local", type_url, name)).unwrap();
        assert_eq!(Envelope::clone(&record.envelope).topic.as_str(), topic);
    }
    served.end().await;
}

#[tokio::test]
async fn a_writer_may_say_how_long_its_value_holds() {
    let served = serve("").await;
    let path = "/v1/state?name=lamp/1";
    served.call("PUT", path, &[("mb-ttl", "1m30s")], b"on").await;
    let event = served.call("GET", path, &[("accept", "application/cloudevents+json")], b"").await.json();
    assert_eq!(event["mbttl"], 90_000);
    for wrong in ["30", "0s", "soon", "60d"] {
        served.call("PUT", path, &[("mb-ttl", wrong)], b"off").await.problem(400);
    }
    served.end().await;
}
