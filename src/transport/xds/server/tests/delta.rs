//! The incremental variant.

use meshbus_proto::xds::DeltaDiscoveryRequest;

use crate::core::state::StateBound;
use crate::transport::xds::server::testing::*;

#[tokio::test]
async fn row_1_the_node_is_that_of_the_first_request() {
    let served = serve("nodes: [{id: n1, scope: east}]").await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec![]), "nothing is in the scope east");
    // Another node later changes nothing, and none is needed.
    let other = DeltaDiscoveryRequest {
        type_url: LISTENER.into(),
        resource_names_subscribe: texts(&["*"]),
        ..DeltaDiscoveryRequest::default()
    };
    stream.send(other).await;
    assert_eq!(said(&stream.next().await), (LISTENER, vec![], vec![]));
    served.end().await;
}

#[tokio::test]
async fn row_4_an_acknowledgement_is_not_answered() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &[], &[]).await;
    let response = stream.next().await;
    assert_eq!(said(&response), (CLUSTER, vec!["a"], vec![]));
    stream.answer(&response, None).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn rows_5_6_what_is_refused_is_told_again_when_it_has_changed_and_holds_up_nothing() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream.ask(ENDPOINTS, &["good", "bad"], &[]).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["bad", "good"]));
    served.bus.publish(vec![]).await;
    served.put(ENDPOINTS, "bad", "1").await;
    let refused = stream.next().await;
    stream.answer(&refused, Some("bad: no")).await;
    stream.is_silent(&served).await;
    served.put(ENDPOINTS, "good", "1").await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["good"], vec![]));
    served.put(ENDPOINTS, "bad", "2").await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["bad"], vec![]));
    served.end().await;
}

#[tokio::test]
async fn row_8_names_count_whatever_the_nonce() {
    let served = serve("").await;
    served.put(ENDPOINTS, "a", "1").await;
    let mut stream = served.delta().await;
    for (nonce, name) in [("00000009", "a"), ("garbage", "b"), ("", "c")] {
        let request = DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: ENDPOINTS.into(),
            resource_names_subscribe: texts(&[name]),
            response_nonce: nonce.into(),
            ..DeltaDiscoveryRequest::default()
        };
        stream.send(request).await;
        let response = stream.next().await;
        assert_eq!(response.resources.len() + response.removed_resources.len(), 1, "{response:?}");
    }
    served.put(ENDPOINTS, "b", "1").await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["b"], vec![]));
    served.end().await;
}

#[tokio::test]
async fn row_9_a_wildcard_goes_on_beside_names_until_it_is_let_go() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &[], &[]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec![]));
    stream.ask(CLUSTER, &["b"], &[]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["b"]));
    served.put(CLUSTER, "c", "1").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["c"], vec![]));
    stream.ask(CLUSTER, &[], &["*"]).await;
    stream.is_silent(&served).await;
    served.put(CLUSTER, "d", "1").await;
    stream.is_silent(&served).await;
    served.put(CLUSTER, "b", "1").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["b"], vec![]));
    served.end().await;
}

#[tokio::test]
async fn rows_10_18_no_names_are_none_where_there_is_no_wildcard_and_to_subscribe_to_nothing_is_possible() {
    let served = serve("").await;
    served.put(ENDPOINTS, "a", "1").await;
    served.put("core/v1/Pod", "ns/p", "{}").await;
    let mut stream = served.delta().await;
    stream.ask(ENDPOINTS, &[], &[]).await;
    stream.ask("core/v1/Pod", &["*"], &["*"]).await;
    stream.is_silent(&served).await;
    stream.ask("core/v1/Pod", &["ns/p"], &[]).await;
    assert_eq!(said(&stream.next().await), ("core/v1/Pod", vec!["ns/p"], vec![]));
    served.end().await;
}

#[tokio::test]
async fn row_11_a_name_let_go_under_the_wildcard_is_answered() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*", "a", "gone"], &[]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec!["gone"]));
    stream.ask(CLUSTER, &[], &["a"]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec![]));
    stream.ask(CLUSTER, &[], &["gone"]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["gone"]));
    stream.ask(CLUSTER, &[], &["never"]).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_12_what_is_asked_for_again_is_told_again() {
    let served = serve("").await;
    let version = served.put(ENDPOINTS, "a", "1").await;
    let mut stream = served.delta().await;
    for _ in 0..2 {
        stream.ask(ENDPOINTS, &["a"], &[]).await;
        let response = stream.next().await;
        assert_eq!(said(&response), (ENDPOINTS, vec!["a"], vec![]));
        assert_eq!(response.resources[0].version, version);
    }
    served.end().await;
}

#[tokio::test]
async fn row_13_what_is_not_there_is_said_at_once_and_told_when_it_is_born() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream.ask(ENDPOINTS, &["a"], &[]).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["a"]));
    served.put(ENDPOINTS, "a", "1").await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["a"], vec![]));
    served.delete(ENDPOINTS, "a").await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["a"]));
    served.end().await;
}

#[tokio::test]
async fn row_15_what_may_not_be_seen_is_an_error_that_says_so() {
    let served = serve("").await;
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    served.put(secret, "key", "private").await;
    let mut stream = served.delta().await;
    stream.ask(secret, &["key"], &[]).await;
    let response = stream.next().await;
    assert_eq!(said(&response), (secret, vec![], vec!["key"]));
    let error = response.resource_errors[0].error_detail.clone().unwrap();
    assert_eq!(error.code, 7);
    assert!(error.message.contains("allow_secrets"), "{error:?}");
    stream.ask(secret, &["*"], &[]).await;
    assert_eq!(said(&stream.next().await), (secret, vec![], vec![]));
    served.put(secret, "key", "changed").await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_17_a_reconnect_with_versions_is_told_the_difference() {
    let served = serve("").await;
    let same = served.put(CLUSTER, "same", "1").await;
    let old = served.put(CLUSTER, "changed", "1").await;
    served.put(CLUSTER, "changed", "2").await;
    served.put(CLUSTER, "new", "1").await;
    let versions = [("same", &*same), ("changed", &*old), ("gone", "7")];
    for subscribe in [&[][..], &["*"][..]] {
        let mut stream = served.delta().await;
        stream.resume(CLUSTER, subscribe, &versions).await;
        assert_eq!(said(&stream.next().await), (CLUSTER, vec!["changed", "new"], vec!["gone"]));
    }
    let mut stream = served.delta().await;
    stream.resume(CLUSTER, &["same", "changed", "gone"], &versions).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["changed"], vec!["gone"]));
    // Nothing has changed: names are not answered, and who wants all is answered with nothing.
    let mut stream = served.delta().await;
    stream.resume(CLUSTER, &["same"], &[("same", &same)]).await;
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_18_empty_versions_are_those_of_a_client_that_keeps_none() {
    let served = serve("").await;
    served.put(CLUSTER, "a", "1").await;
    let mut stream = served.delta().await;
    stream.resume(CLUSTER, &["*"], &[("a", ""), ("gone", "")]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec!["gone"]));
    served.end().await;
}

#[tokio::test]
async fn row_24_a_prefix_is_told_what_is_under_it_and_nothing_else() {
    let served = serve("").await;
    served.put("core/v1/Pod", "ns/a", "{}").await;
    served.put("core/v1/Pod", "other/a", "{}").await;
    let mut stream = served.delta().await;
    stream.ask("core/v1/Pod", &["ns/*"], &[]).await;
    assert_eq!(said(&stream.next().await), ("core/v1/Pod", vec!["ns/a"], vec![]));
    served.put("core/v1/Pod", "other/b", "{}").await;
    served.put("core/v1/Pod", "ns/b", "{}").await;
    assert_eq!(said(&stream.next().await), ("core/v1/Pod", vec!["ns/b"], vec![]));
    served.delete("core/v1/Pod", "ns/a").await;
    assert_eq!(said(&stream.next().await), ("core/v1/Pod", vec![], vec!["ns/a"]));
    served.end().await;
}

#[tokio::test]
async fn row_29_an_unknown_type_is_answered_with_nothing_and_the_stream_lives() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    for type_url in ["x", "a/b/c/d", "type.googleapis.com/no.such.Thing", "type.googleapis.com/"] {
        stream.ask(type_url, &["*"], &[]).await;
        assert_eq!(said(&stream.next().await), (type_url, vec![], vec![]));
    }
    stream.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn row_32_a_client_goes_on_after_a_position_and_hears_when_that_is_forgotten() {
    let state = StateBound { max_tombstones: 1, ..StateBound::default() };
    let served = serve_with(state, "").await;
    let pod = "core/v1/Pod";
    for name in ["ns/a", "ns/b", "ns/c"] {
        served.put(pod, name, "{}").await;
    }
    let mut first = served.delta().await;
    first.ask(pod, &["*"], &[]).await;
    let seen = first.next().await.system_version_info;
    served.put(pod, "ns/a", "{\"x\":1}").await;
    served.delete(pod, "ns/b").await;
    let mut second = served.delta().await;
    second.resume(pod, &["*"], &[("*", &seen)]).await;
    let response = second.next().await;
    assert_eq!(said(&response), (pod, vec!["ns/a"], vec!["ns/b"]));
    served.put(pod, "ns/d", "{}").await;
    assert_eq!(said(&second.next().await), (pod, vec!["ns/d"], vec![]));
    // A second deletion forgets the first.
    served.delete(pod, "ns/c").await;
    for position in [&*seen, "abc", "9007199254740991"] {
        let mut third = served.delta().await;
        third.resume(pod, &["*"], &[("*", position)]).await;
        let response = third.next().await;
        let error = &response.resource_errors[0];
        assert_eq!(error.resource_name.as_ref().unwrap().name, "*");
        assert_eq!(error.error_detail.as_ref().unwrap().code, 11, "{error:?}");
        // It begins again on the same stream, with versions; that it has heard so is no beginning.
        third.answer(&response, None).await;
        third.resume(pod, &["*"], &[("ns/b", "1"), ("ns/c", "1")]).await;
        assert_eq!(said(&third.next().await), (pod, vec!["ns/a", "ns/d"], vec!["ns/b", "ns/c"]));
    }
    served.end().await;
}
