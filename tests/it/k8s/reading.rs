//! Lists, pages, selectors, discovery and who may ask.

use serde_json::json;

use crate::hostile::{Hostile, Kind, Options};

use super::client::{EVENTS, WIDGETS, ask_with, get, names, version};

async fn with_widgets(count: usize) -> Hostile {
    let hostile = Hostile::start(1, Options::default()).await;
    for number in 0..count {
        let value = json!({"spec": {"color": if number % 2 == 0 { "red" } else { "blue" }}});
        hostile.create("Widget", "default", &format!("w{number}"), value);
    }
    hostile
}

#[tokio::test]
async fn pages_show_one_state_whatever_happens_between_them() {
    let hostile = with_widgets(5).await;
    let first = get(&hostile, &format!("{WIDGETS}?limit=2")).await.body;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["w0", "w1"], &json!(3)));
    hostile.delete("Widget", "default", "w2");
    hostile.create("Widget", "default", "w9", json!({}));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = get(&hostile, &format!("{WIDGETS}?limit=2&continue={token}")).await.body;
    assert_eq!((names(&second), version(&second)), (vec!["w2", "w3"], version(&first)));
    let refused = get(&hostile, &format!("{WIDGETS}?limit=2&continue={token}&resourceVersion=7")).await;
    assert_eq!((refused.code, &refused.body["reason"]), (400, &json!("BadRequest")));
}

#[tokio::test]
async fn an_expired_page_comes_with_a_token_that_goes_on() {
    let hostile = with_widgets(5).await;
    let first = get(&hostile, &format!("{WIDGETS}?limit=2")).await.body;
    hostile.delete("Widget", "default", "w3");
    hostile.lose_history();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = get(&hostile, &format!("{WIDGETS}?limit=2&continue={token}")).await;
    assert_eq!((expired.code, &expired.body["reason"]), (410, &json!("Expired")));
    let token = expired.body["metadata"]["continue"].as_str().expect("a token that goes on");
    let rest = get(&hostile, &format!("{WIDGETS}?limit=9&continue={token}")).await.body;
    assert_eq!((names(&rest), version(&rest)), (vec!["w2", "w4"], hostile.rv("Widget")));
    let bad = get(&hostile, &format!("{WIDGETS}?continue=garbage")).await;
    assert_eq!(bad.code, 400);
}

#[tokio::test]
async fn selectors_hide_how_many_remain_and_unknown_fields_are_refused() {
    let hostile = with_widgets(5).await;
    let page = get(&hostile, &format!("{WIDGETS}?limit=1&fieldSelector=spec.color%3Dred")).await.body;
    assert_eq!((names(&page), page["metadata"].get("remainingItemCount")), (vec!["w0"], None));
    assert!(page["metadata"]["continue"].is_string());
    let unknown = get(&hostile, &format!("{WIDGETS}?fieldSelector=spec.nope%3Dblue")).await;
    assert_eq!(
        (unknown.code, &unknown.body["message"]),
        (400, &json!("field label not supported: spec.nope"))
    );
    let labels = get(&hostile, &format!("{WIDGETS}?labelSelector=%3D%3Dx")).await;
    assert_eq!(labels.body["message"], "found '==', expected: !, identifier, or 'end of string'");
    let absent = get(&hostile, &format!("{WIDGETS}?labelSelector=n+notin+(a,b),!x")).await;
    assert_eq!(names(&absent.body).len(), 5, "objects without the key pass");
}

#[tokio::test]
async fn the_rules_of_versions_and_matches_hold() {
    let hostile = with_widgets(1).await;
    let alone = get(&hostile, &format!("{WIDGETS}?resourceVersionMatch=Exact")).await;
    assert_eq!(alone.code, 422);
    assert_eq!(
        alone.body["message"],
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
         forbidden unless resourceVersion is provided"
    );
    let zero = get(&hostile, &format!("{WIDGETS}?resourceVersionMatch=Exact&resourceVersion=0")).await;
    assert_eq!(zero.code, 422);
    let future = get(&hostile, &format!("{EVENTS}?resourceVersion=99999999")).await;
    assert_eq!((future.code, &future.body["reason"]), (504, &json!("Timeout")));
    assert_eq!(future.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    let whole = get(&hostile, &format!("{WIDGETS}?resourceVersion=0&limit=1")).await;
    assert_eq!(
        whole.body["metadata"]["continue"], "",
        "lists of custom resources say that there is no more"
    );
}

#[tokio::test]
async fn items_of_built_in_kinds_do_not_name_their_kind() {
    let hostile = with_widgets(1).await;
    hostile.emit("default", 1);
    let widgets = get(&hostile, WIDGETS).await.body;
    assert_eq!((&widgets["kind"], &widgets["items"][0]["kind"]), (&json!("WidgetList"), &json!("Widget")));
    let events = get(&hostile, EVENTS).await.body;
    assert_eq!((&events["kind"], events["items"][0].get("kind")), (&json!("EventList"), None));
}

#[tokio::test]
async fn discovery_comes_in_every_form_and_only_known_paths_answer() {
    let node = Kind::custom("mesh.example.com", "v1beta1", "Relay", "relays").cluster_scoped();
    let hostile = Hostile::start(1, Options { kinds: vec![node], ..Options::default() }).await;
    for form in ["v2", "v2beta1"] {
        let media_type =
            format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
        let accept = format!("{media_type},application/json");
        let answer = ask_with(&hostile, "GET", "/apis", &[("accept", &accept)], "").await;
        assert_eq!(answer.headers["content-type"], media_type.as_str());
        let groups = answer.body["items"].as_array().unwrap();
        let relay = groups.iter().find(|group| group["metadata"]["name"] == "mesh.example.com").unwrap();
        assert_eq!(relay["versions"][0]["resources"][0]["scope"], "Cluster");
        assert_eq!(relay["versions"][0]["freshness"], "Current");
    }
    let legacy = get(&hostile, "/apis/mesh.example.com/v1beta1").await.body;
    assert_eq!(legacy["resources"][1]["name"], "relays/status");
    assert_eq!(get(&hostile, "/api").await.body["kind"], "APIVersions");
    assert_eq!(get(&hostile, "/version").await.body["minor"], "36");
    for path in ["/nowhere", "/apis/nope.example.com/v1", "/apis/mesh.example.com/v1beta1/gizmos"] {
        let missing = get(&hostile, path).await;
        assert_eq!((missing.code, &missing.body), (404, &json!("404 page not found\n")), "{path}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_unauthorized_and_requests_are_logged() {
    let hostile =
        Hostile::start(1, Options { token: Some("right".to_owned()), ..Options::default() }).await;
    assert!(hostile.kubeconfig().contains("token: \"right\""));
    let headers = [("authorization", "Bearer wrong"), ("user-agent", "someone/2")];
    let refused = ask_with(&hostile, "GET", "/api/v1/pods?labelSelector=a%3Db", &headers, "").await;
    assert_eq!((refused.code, &refused.body["reason"]), (401, &json!("Unauthorized")));
    let headers = [("authorization", "Bearer right")];
    assert_eq!(ask_with(&hostile, "GET", "/api/v1/pods", &headers, "").await.code, 200);
    let first = &hostile.requests()[0];
    assert_eq!((first.path.as_str(), first.user_agent.as_str()), ("/api/v1/pods", "someone/2"));
    assert_eq!(first.query["labelSelector"], "a=b");
}
