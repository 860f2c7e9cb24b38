//! Two buses in a row behind a management server, the client of the one at the server of the other, killed at random under
//! changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;

use super::management::Management;
use super::resources::{Cluster, Endpoints, Resource, cluster, endpoints, with_timeout};
use crate::bus::{Bus, HttpClient, http_client};
use crate::faults::{seed, sized};
use crate::process::{Scratch, free_port, until};

/// How long it may take until all have the same.
const SAME: Duration = Duration::from_mins(1);
/// Clusters there may be.
const NAMES: u8 = 40;

/// A bus of the row.
struct Link {
    bus: Bus,
    web: u16,
}

impl Link {
    fn prepare(scratch: &Scratch, name: &str, mode: &str, upstream: u16, xds: u16) -> Self {
        let web = free_port();
        let config = format!(
            "name: {name}\nconnectors:\n  istiod: {{xds: {{client: {{urls: [\"http://127.0.0.1:{upstream}\"], \
             mode: {mode}, subscribe: [{{type: cds, follow: true}}]}}}}}}\n  \
             ads: {{xds: {{server: {{listen: \"127.0.0.1:{xds}\", default_scope: istiod}}}}}}\n  \
             web: {{http: {{server: {{listen: \"127.0.0.1:{web}\"}}}}}}\n"
        );
        Self { bus: Bus::prepare(scratch, name, &config), web }
    }

    /// Kills it so many times.
    async fn suffer(&mut self, times: usize, mut random: fastrand::Rng) {
        for _ in 0..times {
            tokio::time::sleep(Duration::from_millis(random.u64(50..800))).await;
            self.bus.kill();
            tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
            self.bus.restart_live().await;
        }
    }

    async fn list(&self, http: &HttpClient, type_url: &str) -> Option<Vec<String>> {
        let uri = format!("http://127.0.0.1:{}/v1/state?type={type_url}&scope=istiod", self.web);
        let answer = http.get(uri.parse().expect("an address")).await.ok()?;
        let body: Bytes = answer.into_body().collect().await.ok()?.to_bytes();
        let page: Value = serde_json::from_slice(&body).ok()?;
        let items = page["items"].as_array()?;
        let mut items: Vec<String> =
            items.iter().filter_map(|item| Some(item["data_base64"].as_str()?.to_owned())).collect();
        items.sort_unstable();
        Some(items)
    }
}

/// Changes something at the source.
async fn change(management: &mut Management, random: &mut fastrand::Rng) {
    let name = format!("outbound|80||{}.b", random.u8(..NAMES));
    match random.u8(..4) {
        0 => {
            management.delete(Cluster::TYPE, &name).await;
            management.delete(Endpoints::TYPE, &name).await;
        }
        1 => management.put(&endpoints(&name, &[random.u16(1..)])).await,
        _ => {
            management.put(&endpoints(&name, &[random.u16(1..)])).await;
            management.put(&with_timeout(cluster(&name), random.i64(1..1000))).await;
        }
    }
}

/// What a bus has to have of a type, in base64.
fn expected(management: &Management, type_url: &str) -> Vec<String> {
    let referred = |name: &str| management.table.contains_key(&(Cluster::TYPE.to_owned(), name.to_owned()));
    let of_type = management.table.iter().filter(|((of, name), _)| of == type_url && referred(name));
    let mut bytes: Vec<String> = of_type.map(|(_, bytes)| STANDARD.encode(bytes)).collect();
    bytes.sort_unstable();
    bytes
}

async fn row(mode: &str) {
    let seed = seed();
    let random = |salt: u64| fastrand::Rng::with_seed(seed ^ salt);
    let scratch = Scratch::new();
    let mut management = Management::start().await;
    let (first_xds, second_xds) = (free_port(), free_port());
    let mut first = Link::prepare(&scratch, "first", mode, management.port, first_xds);
    let mut second = Link::prepare(&scratch, "second", mode, first_xds, second_xds);
    first.bus.restart().await;
    second.bus.restart().await;
    let times = sized(20, 100);
    let done = AtomicBool::new(false);
    let faults = async {
        tokio::join!(first.suffer(times, random(1)), second.suffer(times, random(2)));
        done.store(true, Ordering::Relaxed);
    };
    let changing = async {
        let (mut source, mut changes) = (random(3), 0);
        while !done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(source.u64(1..20))).await;
            change(&mut management, &mut source).await;
            changes += 1;
        }
        changes
    };
    let ((), changes) = tokio::join!(faults, changing);
    let http = http_client();
    for type_url in [Cluster::TYPE, Endpoints::TYPE] {
        let expected = expected(&management, type_url);
        assert!(!expected.is_empty(), "the source has something");
        for (name, link) in [("first", &first), ("second", &second)] {
            until(
                &format!("{name} has the {} {type_url} of the source", expected.len()),
                SAME,
                async || (link.list(&http, type_url).await? == expected).then_some(()),
            )
            .await;
        }
    }
    first.bus.ready(SAME).await;
    second.bus.ready(SAME).await;
    println!("{mode}: {changes} changes over {times} kills of each bus, the same at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_buses_in_a_row_have_what_the_source_has_however_often_they_are_killed() {
    row("delta").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_buses_in_a_row_have_it_in_the_state_of_the_world_too() {
    row("sotw").await;
}
