//! Make before break: nothing is referred to that is not there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::Key;
use crate::transport::xds::codec::cluster::of_endpoints;
use crate::transport::xds::server::testing::*;

#[tokio::test]
async fn row_20_what_is_new_comes_before_what_refers_to_it_and_what_is_gone_comes_last() {
    let served = serve("").await;
    at_once(
        &served,
        &[(CLUSTER, "c1", Some("c1")), (ENDPOINTS, "c1", Some("e1")), (ROUTES, "r", Some("to c1"))],
    )
    .await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    let clusters = stream.next().await;
    stream.answer(&clusters, None).await;
    stream.ask(ENDPOINTS, &["c1", "c2"], &[]).await;
    stream.next().await;
    stream.ask(ROUTES, &["r"], &[]).await;
    stream.next().await;
    // In the order that breaks most.
    at_once(
        &served,
        &[
            (ENDPOINTS, "c1", None),
            (CLUSTER, "c1", None),
            (ROUTES, "r", Some("to c2")),
            (ENDPOINTS, "c2", Some("e2")),
            (CLUSTER, "c2", Some("c2")),
        ],
    )
    .await;
    let clusters = stream.next().await;
    assert_eq!(said(&clusters), (CLUSTER, vec!["c2"], vec![]));
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["c2"], vec![]));
    // The route waits for the client's answer about the cluster, and what is gone for the route.
    stream.is_silent(&served).await;
    stream.answer(&clusters, None).await;
    assert_eq!(said(&stream.next().await), (ROUTES, vec!["r"], vec![]));
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["c1"]));
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec![], vec!["c1"]));
    served.end().await;
}

#[tokio::test]
async fn row_20_in_the_state_of_the_world_what_is_gone_stays_until_nothing_refers_to_it() {
    let served = serve("").await;
    at_once(&served, &[(CLUSTER, "c1", Some("c1")), (ROUTES, "r", Some("to c1"))]).await;
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    let clusters = stream.next().await;
    stream.answer(&clusters, &[], None).await;
    stream.ask(ROUTES, &["r"]).await;
    stream.next().await;
    let change = [(CLUSTER, "c1", None), (ROUTES, "r", Some("to c2")), (CLUSTER, "c2", Some("c2"))];
    at_once(&served, &change).await;
    let clusters = stream.next().await;
    assert_eq!(values(&clusters), (CLUSTER, vec!["c1", "c2"]));
    stream.is_silent(&served).await;
    stream.answer(&clusters, &[], None).await;
    assert_eq!(values(&stream.next().await), (ROUTES, vec!["to c2"]));
    assert_eq!(values(&stream.next().await), (CLUSTER, vec!["c2"]));
    served.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_told_the_rest_after_a_while() {
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    stream.next().await;
    stream.ask(ROUTES, &["r"], &[]).await;
    stream.next().await;
    let began = tokio::time::Instant::now();
    at_once(&served, &[(CLUSTER, "c", Some("c")), (ROUTES, "r", Some("to c"))]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["c"], vec![]));
    assert_eq!(said(&stream.next().await), (ROUTES, vec!["r"], vec![]));
    assert!(began.elapsed().as_secs() >= 5, "{:?}", began.elapsed());
    served.end().await;
}

/// Routes to a cluster, and nothing else of them.
fn routes_to(cluster: &str) -> String {
    let field = |number: u8, inner: String| {
        format!("{}{}{inner}", (number << 3 | 2) as char, inner.len() as u8 as char)
    };
    field(2, field(3, field(2, field(1, cluster.to_owned()))))
}

/// A new cluster, routes to it, and routes that have nothing to do with it.
fn new_beside_old<'a>(new: &'a str, old: &'a str) -> [(&'static str, &'static str, Option<&'a str>); 3] {
    [(CLUSTER, "new", Some("c")), (ROUTES, "new", Some(new)), (ROUTES, "old", Some(old))]
}

#[tokio::test(start_paused = true)]
async fn what_refers_to_a_cluster_waits_longer_for_a_client_that_has_answered_before_and_the_rest_does_not()
{
    let served = serve("").await;
    let mut stream = served.delta().await;
    stream.ask(CLUSTER, &["*"], &[]).await;
    let none = stream.next().await;
    stream.answer(&none, None).await;
    stream.ask(ROUTES, &["new", "old"], &[]).await;
    stream.next().await;
    let began = tokio::time::Instant::now();
    let (new, old) = (routes_to("new"), routes_to("old"));
    at_once(&served, &new_beside_old(&new, &old)).await;
    let clusters = stream.next().await;
    assert_eq!(said(&clusters), (CLUSTER, vec!["new"], vec![]));
    assert_eq!(said(&stream.next().await), (ROUTES, vec!["old"], vec![]));
    assert_eq!(began.elapsed().as_secs(), 5);
    // What comes now does not wait either, but for what is gone.
    at_once(&served, &[(ROUTES, "old", Some(&routes_to("other"))), (CLUSTER, "new", None)]).await;
    assert_eq!(said(&stream.next().await), (ROUTES, vec!["old"], vec![]));
    assert_eq!(began.elapsed().as_secs(), 5);
    tokio::time::sleep_until(began + Duration::from_secs(29)).await;
    assert_eq!(said(&stream.next().await), (ROUTES, vec!["new"], vec![]));
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(said(&stream.next().await), (CLUSTER, vec![], vec!["new"]));
    served.end().await;
}

#[tokio::test(start_paused = true)]
async fn in_the_state_of_the_world_routes_wait_each_for_itself() {
    let served = serve("").await;
    let mut stream = served.sotw().await;
    stream.ask(CLUSTER, &[]).await;
    let none = stream.next().await;
    stream.answer(&none, &[], None).await;
    stream.ask(ROUTES, &["new", "old"]).await;
    stream.next().await;
    let (new, old) = (routes_to("new"), routes_to("old"));
    at_once(&served, &new_beside_old(&new, &old)).await;
    let clusters = stream.next().await;
    assert_eq!(values(&clusters), (CLUSTER, vec!["c"]));
    assert_eq!(values(&stream.next().await), (ROUTES, vec![&*old]));
    stream.is_silent(&served).await;
    stream.answer(&clusters, &[], None).await;
    assert_eq!(values(&stream.next().await), (ROUTES, vec![&*new]));
    served.end().await;
}

#[tokio::test]
async fn row_19_the_endpoints_of_a_changed_cluster_follow_it() {
    let served = serve("").await;
    served.put(CLUSTER, "c", of_endpoints("c", "service", b'1')).await;
    served.put(ENDPOINTS, "service", "e").await;
    for state_of_the_world in [false, true] {
        if state_of_the_world {
            let mut stream = served.sotw().await;
            stream.ask(CLUSTER, &[]).await;
            stream.next().await;
            stream.ask(ENDPOINTS, &["service", "other"]).await;
            stream.next().await;
            served.put(CLUSTER, "c", of_endpoints("c", "service", b'3')).await;
            assert_eq!(stream.next().await.type_url, CLUSTER);
            assert_eq!(values(&stream.next().await), (ENDPOINTS, vec!["e"]));
        } else {
            let mut stream = served.delta().await;
            stream.ask(CLUSTER, &["*"], &[]).await;
            stream.next().await;
            stream.ask(ENDPOINTS, &["service", "other"], &[]).await;
            stream.next().await;
            served.put(CLUSTER, "c", of_endpoints("c", "service", b'2')).await;
            assert_eq!(said(&stream.next().await), (CLUSTER, vec!["c"], vec![]));
            assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["service"], vec![]));
        }
    }
    served.end().await;
}

#[tokio::test]
async fn row_19_so_do_those_of_a_cluster_that_has_changed_while_the_client_was_away() {
    let served = serve("").await;
    let old = served.put(CLUSTER, "c", of_endpoints("c", "", b'1')).await;
    let same = served.put(CLUSTER, "same", of_endpoints("same", "", b'1')).await;
    served.put(CLUSTER, "c", of_endpoints("c", "", b'2')).await;
    let (c, s) = (served.put(ENDPOINTS, "c", "e").await, served.put(ENDPOINTS, "same", "e").await);
    let mut stream = served.delta().await;
    stream.resume(CLUSTER, &["*"], &[("c", &old), ("same", &same)]).await;
    assert_eq!(said(&stream.next().await), (CLUSTER, vec!["c"], vec![]));
    stream.resume(ENDPOINTS, &["c", "same"], &[("c", &c), ("same", &s)]).await;
    assert_eq!(said(&stream.next().await), (ENDPOINTS, vec!["c"], vec![]));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_whatever_happens_a_client_ends_with_what_the_table_has() {
    let seed = std::env::var("MESHBUS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("MESHBUS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // Room for few: streams fall behind all the time.
    let served = Arc::new(serve("max_queued: 3").await);
    let mut streams = Vec::new();
    for subscribe in [&["*"][..], &["a/*", "b/1"], &["a/1", "a/2", "b/1", "b/2"], &["*", "a/1"]] {
        let mut stream = served.delta().await;
        stream.ask("core/v1/Pod", subscribe, &[]).await;
        streams.push((subscribe, stream));
    }
    for _ in 0..300 {
        let name = format!("{}/{}", random.choice(["a", "b"]).unwrap(), random.u8(1..4));
        if random.u8(0..3) == 0 {
            let key = Key::new(Key::LOCAL, "core/v1/Pod", name.clone());
            if served.bus.get(&key).is_some() {
                served.delete("core/v1/Pod", &name).await;
            }
        } else {
            served.put("core/v1/Pod", &name, random.u32(..).to_string()).await;
        }
    }
    served.put("core/v1/Pod", "b/1", "last").await;
    let snapshot = served.bus.snapshot();
    for (subscribe, mut stream) in streams {
        let mut have = std::collections::BTreeMap::new();
        while have.get("b/1").map(|value: &Bytes| &**value) != Some(b"last") {
            let response = stream.next().await;
            let (_, names, removed) = said(&response);
            let mut all: Vec<_> = names.iter().chain(&removed).collect();
            all.dedup();
            assert_eq!(all.len(), names.len() + removed.len(), "twice in one response: {response:?}");
            for name in removed {
                have.remove(name);
            }
            for resource in response.resources {
                have.insert(resource.name, resource.resource.unwrap().value);
            }
        }
        let wanted = |name: &str| {
            subscribe.iter().any(|want| {
                *want == "*"
                    || *want == name
                    || want.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
            })
        };
        let records = snapshot
            .range(Some(Key::LOCAL), Some("core/v1/Pod"), None)
            .map(crate::core::state::Held::record);
        let expected: std::collections::BTreeMap<_, _> = records
            .map(|record| {
                (record.envelope.change.key().unwrap().name.to_string(), record.envelope.data.clone())
            })
            .filter(|(name, _)| wanted(name))
            .collect();
        assert_eq!(have, expected, "{subscribe:?}");
    }
}
