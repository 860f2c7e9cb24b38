//! D1–D8: the documents about the API itself.

use http::StatusCode;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Value, json};

use super::super::testing::{Answer, Served, serve};
use crate::schema::registry::Definition;

const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";
const GADGET: &str = "type.googleapis.com/org.example.v1.Gadget";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The definition of widgets, as the recorded server had it.
async fn define_widgets(served: &Served) {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList", "shortNames": ["wg"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "description": "A widget.", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer", "description": "How large."}}},
                    "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}}}}]}});
    served.put(CRD, "/widgets.example.com", &definition).await;
}

fn find<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|item| item[field] == value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {list}"))
}

fn names<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

async fn accepting(served: &Served, path: &str, accept: &str) -> Answer {
    served.call("GET", path, &[("accept", accept)], b"").await
}

#[tokio::test]
async fn d1_the_version_is_one_that_clients_can_compare() {
    let served = serve("").await;
    let version = served.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    let expected = format!("v1.36.0+meshbus-{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(version["gitVersion"], expected);
    assert_eq!(served.get("/scopes/local/version?timeout=32s").await.ok(), version);
    served.end().await;
}

#[tokio::test]
async fn d2_groups_and_kinds_are_told_one_by_one() {
    let served = serve("").await;
    define_widgets(&served).await;
    let versions = served.get("/api").await.ok();
    assert_eq!((&versions["kind"], &versions["versions"]), (&json!("APIVersions"), &json!(["v1"])));
    let groups = served.get("/apis").await.ok();
    assert_eq!(groups["kind"], "APIGroupList");
    let at = json!({"groupVersion": "example.com/v1", "version": "v1"});
    let expected = json!({"name": "example.com", "versions": [at], "preferredVersion": at});
    assert_eq!(find(&groups["groups"], "name", "example.com"), &expected);
    let group = served.get("/apis/example.com").await.ok();
    assert_eq!((&group["kind"], &group["name"]), (&json!("APIGroup"), &json!("example.com")));

    let list = served.get("/apis/example.com/v1").await.ok();
    assert_eq!(
        (&list["kind"], &list["groupVersion"]),
        (&json!("APIResourceList"), &json!("example.com/v1"))
    );
    let widgets = find(&list["resources"], "name", "widgets");
    assert_eq!(
        widgets["verbs"],
        json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
    );
    assert_eq!(
        (&widgets["singularName"], &widgets["namespaced"], &widgets["shortNames"], &widgets["categories"]),
        (&json!("widget"), &json!(true), &json!(["wg"]), &json!(["all"]))
    );
    let status = find(&list["resources"], "name", "widgets/status");
    assert_eq!(status["verbs"], json!(["get", "patch", "update"]));

    let core = served.get("/api/v1").await.ok();
    assert_eq!(
        names(&core["resources"], "name"),
        [
            "configmaps",
            "events",
            "namespaces",
            "namespaces/status",
            "pods",
            "pods/status",
            "serviceaccounts"
        ]
    );
    let reviews = served.get("/apis/authorization.k8s.io/v1").await.ok();
    let review = find(&reviews["resources"], "name", "selfsubjectaccessreviews");
    assert_eq!(review["verbs"], json!(["create"]));
    for path in ["/api/v2", "/apis/nosuch", "/apis/example.com/v2", "/apis/nosuch/v1"] {
        let answer = served.get(path).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::NOT_FOUND, &b"404 page not found\n"[..]));
    }
    let paths = served.get("/").await.ok();
    assert!(paths["paths"].as_array().unwrap().contains(&json!("/apis/example.com/v1")), "{paths}");
    served.end().await;
}

#[tokio::test]
async fn d3_all_kinds_at_once_in_the_version_that_is_asked_for() {
    let served = serve("").await;
    define_widgets(&served).await;
    for (accept, expected, version) in [
        (format!("{AGGREGATED},application/json"), AGGREGATED, "v2"),
        (format!("{AGGREGATED_BETA},application/json"), AGGREGATED_BETA, "v2beta1"),
        (format!("{AGGREGATED},{AGGREGATED_BETA},application/json"), AGGREGATED, "v2"),
        (format!("{},{AGGREGATED_BETA}", AGGREGATED.replace("v=v2", "v=v3")), AGGREGATED_BETA, "v2beta1"),
    ] {
        let core = accepting(&served, "/api", &accept).await;
        let groups = accepting(&served, "/apis", &accept).await;
        assert_eq!((core.header("content-type"), groups.header("content-type")), (expected, expected));
        assert_eq!(groups.header("vary"), "Accept");
        let (core, groups) = (core.ok(), groups.ok());
        assert_eq!(groups["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        assert_eq!(names(&core["items"][0]["versions"], "version"), ["v1"]);
        let group = groups["items"].as_array().unwrap().iter();
        let group = group.clone().find(|group| group["metadata"]["name"] == "example.com").unwrap();
        assert_eq!(group["versions"][0]["freshness"], "Current");
        let widgets = find(&group["versions"][0]["resources"], "resource", "widgets");
        assert_eq!(
            (&widgets["scope"], &widgets["singularResource"], &widgets["responseKind"]["kind"]),
            (&json!("Namespaced"), &json!("widget"), &json!("Widget"))
        );
        assert_eq!(names(&widgets["subresources"], "subresource"), ["status"]);
    }
    // What is named first counts, and who names nothing gets them one by one.
    for accept in ["*/*".to_owned(), format!("application/json,{AGGREGATED}")] {
        assert_eq!(accepting(&served, "/apis", &accept).await.ok()["kind"], "APIGroupList", "{accept}");
    }
    served.end().await;
}

#[tokio::test]
async fn d4_documents_have_tags_and_change_at_once_when_a_type_appears() {
    let served = serve("").await;
    let mut before = Vec::new();
    for (path, accept) in [
        ("/api", AGGREGATED),
        ("/apis", AGGREGATED),
        ("/apis", "application/json"),
        ("/openapi/v3", "application/json"),
        ("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"),
    ] {
        let answer = accepting(&served, path, accept).await;
        let tag = answer.header("etag").to_owned();
        assert!(tag.len() > 64 && tag.starts_with('"'), "{path} {tag}");
        let headers = [("accept", accept), ("if-none-match", tag.as_str())];
        let again = served.call("GET", path, &headers, b"").await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (304, tag.as_str()), "{path}");
        assert!(again.body.is_empty());
        before.push((path, accept, tag));
    }
    served.put(GADGET, "c1", &json!({"name": "c1"})).await;
    for (path, accept, tag) in before.iter().skip(1) {
        let headers = [("accept", *accept), ("if-none-match", tag.as_str())];
        assert_eq!(served.call("GET", path, &headers, b"").await.status, 200, "{path}");
    }
    // The core group has no other kinds than before.
    let (path, accept, tag) = &before[0];
    let headers = [("accept", *accept), ("if-none-match", tag.as_str())];
    assert_eq!(served.call("GET", path, &headers, b"").await.status, 304);
    let list = served.get("/apis/example.org/v1").await.ok();
    let gadgets = find(&list["resources"], "name", "gadgets");
    assert_eq!((&gadgets["categories"], &gadgets["namespaced"]), (&json!(["xds"]), &json!(false)));
    served.delete(GADGET, "c1").await;
    assert_eq!(served.get("/apis/example.org/v1").await.status, 404);
    served.end().await;
}

#[tokio::test]
async fn d5_each_group_has_a_document_of_its_schemas_under_its_hash() {
    let served = serve("").await;
    define_widgets(&served).await;
    for base in ["", "/scopes/local"] {
        let index = served.get(&format!("{base}/openapi/v3")).await.ok();
        let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with(&format!("{base}/openapi/v3/apis/example.com/v1?hash=")), "{url}");
        let answer = served.get(url).await;
        assert_eq!(answer.header("cache-control"), "public, immutable");
        assert!(url.ends_with(answer.header("etag").trim_matches('"')));
        let document = answer.ok();
        let widget = &document["components"]["schemas"]["com.example.v1.Widget"];
        let gvk = json!({"group": "example.com", "version": "v1", "kind": "Widget"});
        assert_eq!(widget["x-kubernetes-group-version-kind"], json!([gvk]));
        assert_eq!(widget["properties"]["spec"]["properties"]["size"]["description"], "How large.");
        let item = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"];
        assert_eq!(item["patch"]["x-kubernetes-group-version-kind"], gvk);
        let parameters = names(&item["patch"]["parameters"], "name");
        assert_eq!(parameters, ["dryRun", "fieldManager", "fieldValidation", "force"]);
        assert!(item["put"].is_object() && item["get"].is_object() && item["delete"].is_object());
        let all = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets"];
        assert!(names(&all["post"]["parameters"], "name").contains(&"fieldValidation"));
    }
    // With another hash it is what it is now, and may be another tomorrow.
    let stale = served.get("/openapi/v3/apis/example.com/v1?hash=0").await;
    assert_eq!(stale.header("cache-control"), "no-cache, private");
    stale.ok();
    assert_eq!(served.get("/openapi/v3/apis/nosuch/v1").await.status, 404);
    let own = served.get("/openapi/v3/apis/meshbus.dev/v1").await.ok();
    let route = &own["components"]["schemas"]["dev.meshbus.v1.Route"];
    assert!(route["description"].as_str().unwrap().contains("route"), "{route}");
    served.end().await;
}

/// The parts of a message with this number, none of which may be broken.
fn parts(mut bytes: &[u8], wanted: u32) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).unwrap();
        if number == wanted && wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut bytes).unwrap()).unwrap();
            let (part, rest) = bytes.split_at(length);
            found.push(part);
            bytes = rest;
        } else {
            skip_field(wire, number, &mut bytes, DecodeContext::default()).unwrap();
        }
    }
    found
}

/// The named messages in a field that holds them, by name.
fn named<'a>(bytes: &'a [u8], number: u32) -> Vec<(&'a str, &'a [u8])> {
    let name = |part: &'a [u8]| std::str::from_utf8(parts(part, 1)[0]).unwrap();
    parts(bytes, number).into_iter().map(|part| (name(part), parts(part, 2)[0])).collect()
}

#[tokio::test]
async fn d6_older_clients_get_all_schemas_in_protobuf() {
    let served = serve("").await;
    define_widgets(&served).await;
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = accepting(&served, "/openapi/v2?timeout=32s", accept).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert_eq!(parts(&answer.body, 1), [b"2.0"]);
    let definitions = named(parts(&answer.body, 9)[0], 1);
    let of_kind = |name: &str| definitions.iter().find(|(have, _)| *have == name).map(|(_, it)| *it);
    let widget = of_kind("com.example.v1.Widget").unwrap();
    assert_eq!(parts(widget, 4), [b"A widget."]);
    let properties = named(parts(widget, 25)[0], 1);
    let mut of_widget: Vec<_> = properties.iter().map(|(name, _)| *name).collect();
    of_widget.sort_unstable();
    assert_eq!(of_widget, ["apiVersion", "kind", "metadata", "spec", "status"]);
    let extensions = named(widget, 31);
    let (name, any) = extensions[0];
    assert_eq!(name, "x-kubernetes-group-version-kind");
    let yaml = std::str::from_utf8(parts(any, 2)[0]).unwrap();
    assert!(yaml.contains("group: example.com") && yaml.contains("kind: Widget"), "{yaml}");
    assert!(
        of_kind("io.k8s.api.core.v1.Event").is_some() && of_kind("io.k8s.api.events.v1.Event").is_some()
    );
    // Patches with a dry run, which `diff` of old clients looks for.
    let paths = named(parts(&answer.body, 8)[0], 2);
    let path = "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}";
    let item = paths.iter().find(|(name, _)| *name == path).unwrap().1;
    assert!(parts(parts(item, 8)[0], 8).iter().any(|it| it.windows(6).any(|word| word == b"dryRun")));

    let json = accepting(&served, "/openapi/v2", "application/json").await;
    assert_eq!(json.header("content-type"), "application/json");
    assert!(json.ok()["definitions"]["com.example.v1.Widget"].is_object());
    served.end().await;
}

#[tokio::test]
async fn d7_probes_get_the_words_they_look_for() {
    let served = serve("").await;
    for path in ["/livez", "/readyz", "/healthz", "/livez/ping", "/readyz/shutdown", "/scopes/local/readyz"]
    {
        let answer = served.get(path).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"ok"[..]), "{path}");
    }
    let verbose = served.get("/readyz?verbose").await;
    assert_eq!(&*verbose.body, b"[+]ping ok\n[+]shutdown ok\nreadyz check passed\n");
    assert_eq!(served.get("/readyz/nosuch").await.status, 404);
    served.end().await;
}

#[tokio::test]
async fn d8_events_are_served_in_both_groups_the_core_group_first() {
    let served = serve("").await;
    let core = served.get("/api/v1").await.ok();
    let group = served.get("/apis/events.k8s.io/v1").await.ok();
    for list in [&core, &group] {
        assert_eq!(find(&list["resources"], "name", "events")["shortNames"], json!(["ev"]));
    }
    served.end().await;
}

#[tokio::test]
async fn scopes_are_told_and_each_has_documents_of_its_own() {
    let served = serve("").await;
    drop(served.bus.own("east".into(), "east".into(), false));
    // Only those that hold anything: the server's own never does.
    let scopes = async || served.get("/scopes").await.ok()["scopes"].clone();
    assert_eq!(scopes().await, json!(["local"]));
    served.kinds.set("east".into(), vec![Definition::guess(&"apps/v1/Deployment".into()).unwrap()]);
    let expected = json!({"name": "test", "default": "local", "scopes": ["east", "local"]});
    assert_eq!(served.get("/scopes").await.ok(), expected);
    let groups = served.get("/scopes/east/apis").await.ok();
    let groups = names(&groups["groups"], "name");
    assert_eq!(groups, ["apps", "authorization.k8s.io", "authentication.k8s.io"]);
    assert_eq!(served.get("/scopes/nosuch/apis").await.status, 404);
    served.end().await;
}
