//! What a peer may cost.

use meshbus_proto::xds::DeltaDiscoveryRequest;
use tonic::Code;

use crate::core::state::StateBound;
use crate::transport::xds::server::testing::*;

#[tokio::test]
async fn row_26_responses_are_cut_and_long_requests_taken() {
    let served = serve("max_response: 128KiB").await;
    for n in 0..20 {
        served.put(ENDPOINTS, &format!("e{n:02}"), vec![b'x'; 20_000]).await;
    }
    let mut stream = served.delta().await;
    let versions: Vec<_> =
        (0..200_000).map(|n| (format!("some-namespace/some-pod-{n}"), "123456789".to_owned())).collect();
    let versions: Vec<_> = versions.iter().map(|(name, version)| (&**name, &**version)).collect();
    stream.resume(ENDPOINTS, &["*"], &versions).await;
    let (mut found, mut responses, mut removed) = (0, 0, 0);
    while found < 20 {
        let response = stream.next().await;
        let len: usize = response.resources.iter().map(prost::Message::encoded_len).sum();
        assert!(len <= 128 << 10, "{len}");
        found += response.resources.len();
        removed += response.removed_resources.len();
        responses += 1;
    }
    assert_eq!(removed, 200_000);
    assert!(responses >= 4, "{responses}");
    served.end().await;
}

#[tokio::test]
async fn a_request_that_is_too_long_ends_the_stream_and_no_other() {
    let served = serve("max_request: 64KiB").await;
    let mut good = served.delta().await;
    good.ask(CLUSTER, &["*"], &[]).await;
    good.next().await;
    let mut bad = served.delta().await;
    bad.ask(ENDPOINTS, &["x".repeat(70_000).as_str()], &[]).await;
    let status = bad.status().await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("65536"), "{status:?}");
    good.is_silent(&served).await;
    served.end().await;
}

#[tokio::test]
async fn too_many_names_end_the_stream() {
    let served = serve("max_names: 3").await;
    let mut stream = served.delta().await;
    stream.ask(ENDPOINTS, &["a", "b"], &[]).await;
    stream.next().await;
    stream.ask(ROUTES, &["a", "b"], &[]).await;
    let status = stream.status().await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("4 names, the most is 3"), "{status:?}");
    served.end().await;
}

#[tokio::test]
async fn too_many_streams_are_refused_and_seats_come_back() {
    let served = serve("max_streams: 1").await;
    let mut first = served.delta().await;
    first.ask(CLUSTER, &["*"], &[]).await;
    first.next().await;
    let path = crate::transport::xds::codec::services::aggregated(
        crate::transport::xds::codec::response::Variant::Delta,
    );
    let refused = Delta::open(served.channel().await, path).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(first);
    soon(async {
        while Delta::open(served.channel().await, path).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    served.end().await;
}

#[tokio::test]
async fn garbage_ends_the_stream_with_what_is_wrong() {
    let served = serve("").await;
    // A field of another type where the node should be.
    let mut stream: Driver<meshbus_proto::google::Any, meshbus_proto::xds::DeltaDiscoveryResponse> =
        Driver::open(
            served.channel().await,
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        )
        .await
        .unwrap();
    stream
        .send(meshbus_proto::google::Any {
            type_url: "\u{1}\u{2}\u{3}".into(),
            value: b"\xff\xff".to_vec().into(),
        })
        .await;
    let status = stream.status().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("cannot be decoded"), "{status:?}");
    served.end().await;
}

#[tokio::test]
async fn what_is_no_method_is_unimplemented_by_name() {
    let served = serve("").await;
    let refused = Delta::open(served.channel().await, "/a.B/C").await.err().unwrap();
    assert_eq!((refused.code(), refused.message()), (Code::Unimplemented, "there is no method /a.B/C"));
    served.end().await;
}

#[tokio::test]
async fn with_rules_a_stream_shows_what_its_principal_may_see() {
    use crate::core::access::{Access, Action, Rule};
    use crate::core::selector::TopicFilter;
    let served = serve("").await;
    served.put(CLUSTER, "a", "1").await;
    served.put(CLUSTER, "b", "1").await;
    let topics = vec![TopicFilter::parse("xds/local/envoy.config.cluster.v3.Cluster/a").unwrap()];
    let rule = Rule {
        principal: "ci".into(),
        token: Some("t0ken".into()),
        allow: vec![Action::Subscribe],
        topics,
    };
    served.bus.set_access(Access::new(vec![rule]));
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let refused = Delta::open(served.channel().await, path).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut stream = Delta::open_as(served.channel().await, path, "t0ken").await.unwrap();
    stream.ask(CLUSTER, &["*", "b"], &[]).await;
    let response = stream.next().await;
    assert_eq!(said(&response), (CLUSTER, vec!["a"], vec!["b"]));
    let error = response.resource_errors[0].error_detail.clone().unwrap();
    assert_eq!(error.code, 7);
    assert!(error.message.contains("ci may not subscribe"), "{error:?}");
    served.put(CLUSTER, "b", "2").await;
    served.put(CLUSTER, "a", "2").await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["a"], vec![]));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_a_peer_that_does_not_read_costs_its_queue_and_delays_nobody() {
    let served = serve("max_queued: 16").await;
    let mut slow = served.delta().await;
    slow.ask(CLUSTER, &["*"], &[]).await;
    let mut good = served.delta().await;
    good.ask(CLUSTER, &["*"], &[]).await;
    good.next().await;
    // Far more than windows and buffers hold, while nobody reads the slow stream.
    let data = vec![b'x'; 100_000];
    for n in 0..400 {
        served.put(CLUSTER, &format!("c{}", n % 40), data.clone()).await;
        good.next().await;
    }
    served.put(CLUSTER, "last", "1").await;
    let mut responses = 0;
    while !slow.next().await.resources.iter().any(|resource| resource.name == "last") {
        responses += 1;
        assert!(responses < 400, "changes were not put together");
    }
    served.end().await;
}

#[tokio::test]
async fn a_drain_ends_streams_with_the_word_to_come_again() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream
        .send(DeltaDiscoveryRequest { node: Some(node()), type_url: CLUSTER.into(), ..Default::default() })
        .await;
    stream.next().await;
    served.shutdown.start_drain();
    assert_eq!(stream.status().await.code(), Code::Unavailable);
    served.end().await;
}

/// Deletions of which only the last is remembered, more than wait for a stream.
async fn forgotten(served: &Served) {
    let gone = [(ENDPOINTS, "a", None), (ENDPOINTS, "b", None), (ENDPOINTS, "c", Some("2"))];
    at_once(served, &gone).await;
}

#[tokio::test]
async fn who_asked_for_names_and_fell_behind_all_that_is_remembered_is_told_what_is_there() {
    let state = StateBound { max_tombstones: 1, ..StateBound::default() };
    let served = serve_with(state, "max_queued: 1").await;
    let (mut delta, mut sotw, mut all) = (served.delta().await, served.sotw().await, served.delta().await);
    for name in ["a", "b", "c", "d"] {
        served.put(ENDPOINTS, name, "1").await;
    }
    delta.ask(ENDPOINTS, &["a", "b", "c", "d"], &[]).await;
    delta.next().await;
    sotw.ask(ENDPOINTS, &["a", "b", "c", "d"]).await;
    sotw.next().await;
    all.ask(ENDPOINTS, &["*"], &[]).await;
    all.next().await;
    forgotten(&served).await;
    let (mut there, mut gone) = (vec![], vec![]);
    while gone.len() < 2 {
        let response = delta.next().await;
        there.extend(response.resources.into_iter().map(|resource| resource.name));
        gone.extend(response.removed_resources);
    }
    gone.sort();
    assert_eq!((there, gone), (texts(&["c"]), texts(&["a", "b"])));
    assert_eq!(values(&sotw.next().await), (ENDPOINTS, vec!["2"]));
    assert_eq!(sotw.next().await.resource_errors.len(), 2);
    // What of all is gone only the client knows, which has it.
    assert_eq!(all.status().await.code(), Code::Aborted);
    delta.is_silent(&served).await;
    served.end().await;
}
