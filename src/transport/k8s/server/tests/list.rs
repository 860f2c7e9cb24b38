//! Rows R1 to R12: lists.

use http_body_util::BodyExt;
use serde_json::json;

use super::super::testing::{serve, soon};
use super::{MAP, MAPS, fill, map};
use crate::core::{Envelope, Topic};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn r1_lists_are_in_order_and_tell_their_position() {
    let served = serve("").await;
    fill(&served, &["b", "a"]).await;
    let last = served.put(MAP, "db/z", &map("z", json!({}))).await;
    let all = served.get("/api/v1/configmaps").await;
    assert_eq!(all.names(), ["db/z", "web/a", "web/b"]);
    let list = all.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(list["metadata"], json!({"resourceVersion": last.to_string()}));
    assert_eq!(served.get(MAPS).await.names(), ["web/a", "web/b"]);
    let one = served.get(&format!("{MAPS}/a")).await.ok();
    assert_eq!((&one["data"]["k"], &one["kind"]), (&json!("a"), &json!("ConfigMap")));
    served.end().await;
}

#[tokio::test]
async fn r2_r3_tables_have_columns_and_rows() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    let table = served.call("GET", MAPS, &[("accept", TABLE)], b"").await.ok();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!((&columns[0], columns.last()), (&json!("Name"), Some(&json!("Age"))));
    let row = &table["rows"][0];
    assert_eq!(row["cells"][0], "a");
    assert_eq!(
        (&row["object"]["kind"], &row["object"]["data"]),
        (&json!("PartialObjectMetadata"), &json!(null))
    );
    for (include, data) in [("Object", json!({"k": "a"})), ("None", json!(null))] {
        let path = format!("{MAPS}?includeObject={include}");
        let table = served.call("GET", &path, &[("accept", TABLE)], b"").await.ok();
        assert_eq!(table["rows"][0]["object"]["data"], data, "{include}");
    }
    let one = served.call("GET", &format!("{MAPS}/a"), &[("accept", TABLE)], b"").await.ok();
    assert_eq!(one["rows"][0]["cells"][0], "a");
    let beta = served
        .call("GET", MAPS, &[("accept", "application/json;as=Table;v=v1beta1;g=meta.k8s.io")], b"")
        .await
        .ok();
    assert_eq!(
        (&beta["apiVersion"], &beta["rows"][0]["object"]["apiVersion"]),
        (&json!("meta.k8s.io/v1beta1"), &json!("meta.k8s.io/v1beta1"))
    );
    served.end().await;
}

#[tokio::test]
async fn r5_forms_that_there_are_not_are_refused() {
    let served = serve("").await;
    for accept in ["text/csv", "application/vnd.kubernetes.protobuf"] {
        let (reason, message) = served.call("GET", MAPS, &[("accept", accept)], b"").await.failure(406);
        assert_eq!(
            (&*reason, &*message),
            (
                "NotAcceptable",
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )
        );
    }
    let both = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    served.call("GET", MAPS, &both, b"").await.ok();
    let yaml = served.call("GET", MAPS, &[("accept", "application/yaml")], b"").await;
    assert_eq!((yaml.status.as_u16(), yaml.header("content-type")), (200, "application/yaml"));
    assert!(yaml.body.starts_with(b"kind: ConfigMapList\n"), "{:?}", yaml.body);
    served.end().await;
}

#[tokio::test]
async fn r6_pages_show_one_position() {
    let served = serve("").await;
    fill(&served, &["a", "b", "c", "d", "e"]).await;
    let first = served.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first.names(), ["web/a", "web/b"]);
    let metadata = first.ok()["metadata"].clone();
    assert_eq!(metadata["remainingItemCount"], 3);
    served.delete(MAP, "web/c").await;
    let token = metadata["continue"].as_str().unwrap();
    let second = served.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(second.names(), ["web/c", "web/d"], "as it was");
    assert_eq!(second.ok()["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    let token = second.ok()["metadata"]["continue"].as_str().unwrap().to_owned();
    let last = served.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(last.names(), ["web/e"]);
    assert_eq!(last.ok()["metadata"].get("continue"), None);
    let some = served.get(&format!("{MAPS}?limit=1&labelSelector=n")).await.ok();
    assert!(
        some["metadata"]["continue"].is_string() && some["metadata"].get("remainingItemCount").is_none()
    );
    let (reason, message) =
        served.get(&format!("{MAPS}?continue={token}&resourceVersion=5")).await.failure(400);
    assert_eq!(
        (&*reason, &*message),
        ("BadRequest", "specifying resource version is not allowed when using continue")
    );
    served.end().await;
}

#[tokio::test]
async fn r6_an_expired_token_comes_with_one_that_can_be_used() {
    let served = serve("").await;
    fill(&served, &["a", "b"]).await;
    let first = served.get(&format!("{MAPS}?limit=1")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let old =
        data_encoding::BASE64URL_NOPAD.encode(br#"{"v":"meta.k8s.io/v1","rv":5,"start":"web/a\u0000"}"#);
    assert_ne!(token, old);
    let expired = served.get(&format!("{MAPS}?continue={old}")).await;
    let (reason, message) = expired.failure(410);
    assert!(reason == "Expired" && message.starts_with("The provided continue parameter is too old"));
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(served.get(&format!("{MAPS}?continue={token}")).await.names(), ["web/b"]);
    served.end().await;
}

#[tokio::test]
async fn r7_positions_are_shown_as_asked() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    let at = served.put(MAP, "web/b", &map("b", json!({}))).await;
    // Nothing of the kind changes: the position still shows the same.
    served.put("core/v1/Namespace", "/x", &json!({"metadata": {"name": "x"}})).await;
    for query in [
        String::new(),
        "?resourceVersion=0".to_owned(),
        format!("?resourceVersion={at}"),
        format!("?resourceVersion={at}&resourceVersionMatch=Exact"),
    ] {
        assert_eq!(served.get(&format!("{MAPS}{query}")).await.names(), ["web/a", "web/b"], "{query}");
    }
    served.delete(MAP, "web/a").await;
    let newer = format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=NotOlderThan");
    assert_eq!(served.get(&newer).await.names(), ["web/b"]);
    let exact = served.get(&format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=Exact")).await;
    assert_eq!(
        exact.failure(410),
        ("Expired".to_owned(), "The resourceVersion for the provided list is too old.".to_owned())
    );
    let wrong = served.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await;
    assert_eq!(wrong.failure(422).0, "Invalid");
    assert_eq!(
        wrong.json()["details"],
        json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [{"reason": "FieldValueForbidden", "message": "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided", "field": "resourceVersionMatch"}]})
    );
    assert_eq!(served.get(&format!("{MAPS}?resourceVersion=x")).await.failure(400).0, "BadRequest");
    served.end().await;
}

#[tokio::test]
async fn r8_a_position_of_the_future_is_waited_for_and_then_refused() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    let at = served.bus.figures().seq.0;
    let path = format!("{MAPS}?resourceVersion={}", at + 1);
    let b = map("b", json!({}));
    let (answer, _) = tokio::join!(served.get(&path), served.put(MAP, "web/b", &b));
    assert_eq!(answer.names(), ["web/a", "web/b"]);
    let far = served.get(&format!("{MAPS}?resourceVersion={}", at + 1_000_000)).await;
    let (reason, message) = far.failure(504);
    assert_eq!(
        (&*reason, message),
        ("Timeout", format!("Too large resource version: {}, current: {}", at + 1_000_000, at + 1))
    );
    assert_eq!(
        far.json()["details"],
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1})
    );
    served.end().await;
}

#[tokio::test]
async fn r9_r10_selectors_select() {
    let served = serve("").await;
    fill(&served, &["a", "b", "c"]).await;
    served.put(MAP, "web/d", &json!({"metadata": {}})).await;
    for (query, expected) in [
        ("labelSelector=n%20in%20(a,b)", vec!["web/a", "web/b"]),
        ("labelSelector=n!%3Da", vec!["web/b", "web/c", "web/d"]),
        ("labelSelector=!n", vec!["web/d"]),
        ("fieldSelector=metadata.name%3Db", vec!["web/b"]),
        ("fieldSelector=metadata.name!%3Db", vec!["web/a", "web/c", "web/d"]),
        ("fieldSelector=metadata.name%3Db,metadata.namespace%3Ddb", vec![]),
        ("fieldSelector=metadata.name%3Da&labelSelector=n%3Db", vec![]),
    ] {
        assert_eq!(served.get(&format!("{MAPS}?{query}")).await.names(), expected, "{query}");
    }
    let everywhere =
        served.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Dweb,metadata.name%3Da").await;
    assert_eq!(everywhere.names(), ["web/a"]);
    for (query, message) in [
        ("labelSelector=%3D%3Dx", "found '==', expected: !, identifier, or 'end of string'"),
        ("fieldSelector=spec.nope%3D1", "field label not supported: spec.nope"),
    ] {
        assert_eq!(
            served.get(&format!("{MAPS}?{query}")).await.failure(400),
            ("BadRequest".to_owned(), message.to_owned())
        );
    }
    served.end().await;
}

#[tokio::test]
async fn r11_metadata_alone_is_given() {
    let served = serve("").await;
    fill(&served, &["a"]).await;
    let list =
        [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json")];
    let list = served.call("GET", MAPS, &list, b"").await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(
        (&list["items"][0]["kind"], list["items"][0].get("data")),
        (&json!("PartialObjectMetadata"), None)
    );
    assert_eq!(list["items"][0]["metadata"]["labels"], json!({"n": "a"}));
    served.end().await;
}

#[tokio::test]
async fn r12_long_lists_come_in_pieces_and_compressed_where_accepted() {
    let served = serve("").await;
    for n in 0..2000 {
        served.put(MAP, &format!("web/m{n:04}"), &map(&format!("m{n:04}"), json!({"n": "1"}))).await;
    }
    let response = served.open("GET", MAPS, &[], b"").await;
    assert_eq!(response.headers().get("content-length"), None);
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    let mut body = response.into_body();
    let (mut whole, mut pieces) = (Vec::new(), 0);
    while let Some(frame) = soon(body.frame()).await {
        whole.extend_from_slice(frame.unwrap().data_ref().unwrap());
        pieces += 1;
    }
    assert!(pieces > 3, "{pieces}");
    let list: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2000);
    let zipped = served.call("GET", MAPS, &[("accept-encoding", "gzip")], b"").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let mut decoder = async_compression::tokio::bufread::GzipDecoder::new(&zipped.body[..]);
    let mut unzipped = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut decoder, &mut unzipped).await.unwrap();
    assert!(unzipped == whole && zipped.body.len() < whole.len() / 5);
    let short = served.call("GET", &format!("{MAPS}?limit=1"), &[("accept-encoding", "gzip")], b"").await;
    assert_eq!(short.header("content-encoding"), "");
    served.end().await;
}

#[tokio::test]
async fn a_list_of_which_few_are_wanted_is_complete() {
    let served = serve("").await;
    for n in 0..5000 {
        served.put(MAP, &format!("web/m{n:04}"), &map(&format!("m{n:04}"), json!({}))).await;
    }
    fill(&served, &["last"]).await;
    served.put(MAP, "zoo/z", &map("z", json!({"n": "z"}))).await;
    // "last" is before all of "m…": what is wanted is at both ends of what is looked at.
    assert_eq!(served.get("/api/v1/configmaps?labelSelector=n").await.names(), ["web/last", "zoo/z"]);
    let page = served.get("/api/v1/configmaps?labelSelector=n&limit=2").await;
    assert_eq!(page.names(), ["web/last", "zoo/z"]);
    assert_eq!(page.ok()["metadata"].get("continue"), None);
    served.end().await;
}

#[tokio::test]
async fn events_of_the_log_are_listed() {
    let served = serve("").await;
    let mut event = Envelope::event(Topic::parse("alerts/a").unwrap(), "1", "/s", "t");
    event.data = "hi".into();
    event.datacontenttype = Some("text/plain".into());
    served.bus.publish(vec![event]).await;
    let list = served.get("/apis/meshbus.dev/v1/cloudevents").await.ok();
    let item = &list["items"][0];
    assert_eq!((&item["spec"]["type"], &item["spec"]["data"]), (&json!("t"), &json!("hi")));
    let name = item["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        served.get(&format!("/apis/meshbus.dev/v1/cloudevents/{name}")).await.ok()["spec"],
        item["spec"]
    );
    served.end().await;
}
