//! Make before break: an Envoy under load, whose clusters, endpoints and routes change all the time, fails no request.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::envoy::{Envoy, VARIANTS, Variant};
use super::resources::{Cluster, Endpoints, Resource, ads, cluster, endpoints, listener, routes};
use super::rig::{Backend, LIMIT, Mesh};
use crate::faults::{seed, sized};
use crate::peers::NatsServer;
use crate::process::{Process, Scratch, free_port, until};

/// Changes of each switch from one cluster to the other: three puts and two deletions.
const EACH: usize = 5;
/// Switches with each variant; half of them pause between
/// changes and wait until requests take the new way, half do not wait for anything.
const SWITCHES: usize = 200;
const LONG: usize = 2000;
/// One switch of so many puts routes and deletes by kubectl, which takes its time; one of so many puts by NATS.
const BY_KUBECTL: usize = 20;
const BY_NATS: usize = 3;

/// How long an Envoy stands still.
const STILL: Duration = Duration::from_secs(7);

/// What wrk counted.
#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    /// Answers that were neither 2xx nor 3xx, and errors of sockets.
    failed: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_under_load_fails_no_request_while_everything_changes() {
    let (switches, seed) = (sized(SWITCHES, LONG), seed());
    for variant in VARIANTS {
        run(variant, switches, fastrand::Rng::with_seed(seed)).await;
    }
}

/// An Envoy that passes on requests to the first backend, and what requests it.
struct Loaded {
    variant: Variant,
    mesh: Mesh,
    envoy: Envoy,
    load: Process,
    port: u16,
    backends: [Backend; 2],
}

impl Loaded {
    async fn start(scratch: &Scratch, variant: Variant, mesh: Mesh) -> Self {
        let (port, backends) = (free_port(), [Backend::start().await, Backend::start().await]);
        mesh.put(&cluster("c0")).await;
        mesh.put(&endpoints("c0", &[backends[0].port])).await;
        mesh.put(&routes("r1", "c0")).await;
        mesh.put(&listener("l1", port, "r1", ads())).await;
        let envoy = Envoy::start(scratch, "loaded", variant, mesh.xds).await;
        envoy.says(port, &backends[0].says()).await;
        let mut load = wrk(scratch, port);
        load.start();
        until("load has begun", LIMIT, async || {
            (envoy.stat("http.web.downstream_rq_2xx").await > 1000).then_some(())
        })
        .await;
        Self { variant, mesh, envoy, load, port, backends }
    }

    /// Waits until requests reach a backend.
    async fn reaches(&self, backend: usize) {
        self.envoy.says(self.port, &self.backends[backend].says()).await;
    }

    /// Ends the load, of which not one request may have failed; so many switches were made.
    async fn ends(mut self, switches: usize) {
        self.load.signal("INT");
        let ended = self.load.wait(LIMIT).await;
        let counted = Counted::of(&self.load.log());
        println!("{:?}: {switches} switches: {counted:?}; wrk ended with {ended}", self.variant);
        assert_served(self.variant, switches, &self.envoy).await;
        assert!(counted.requests > 1000, "there was no load: {}", self.load.log());
        assert_eq!(counted.failed, 0, "{:?}: {}", self.variant, self.load.log());
    }
}

async fn run(variant: Variant, switches: usize, mut random: fastrand::Rng) {
    let scratch = Scratch::new();
    let nats = NatsServer::start(&scratch).await;
    let loaded = Loaded::start(&scratch, variant, Mesh::start_beside(&scratch, &nats).await).await;
    let (nats, mesh) = (nats.client().await, &loaded.mesh);
    let begin = Instant::now();
    for switch in 0..switches {
        let (old, new) = (switch % 2, (switch + 1) % 2);
        let (old, to, backend) = (format!("c{old}"), format!("c{new}"), &loaded.backends[new]);
        let paced = switch < switches / 2;
        let mut pause = async || {
            if paced {
                tokio::time::sleep(Duration::from_millis(random.u64(..10))).await;
            }
        };
        let by_nats = (switch % BY_NATS == 0).then_some(&nats);
        put(mesh, by_nats, &cluster(&to)).await;
        pause().await;
        put(mesh, by_nats, &endpoints(&to, &[backend.port])).await;
        pause().await;
        if switch % BY_KUBECTL == 0 {
            kubectl_apply(&scratch, mesh, &routes_of("r1", &to)).await;
        } else {
            put(mesh, by_nats, &routes("r1", &to)).await;
        }
        pause().await;
        if switch % BY_KUBECTL == 0 {
            kubectl_delete(&scratch, mesh, "clusters.cluster.config.envoy", &old).await;
            kubectl_delete(&scratch, mesh, "clusterloadassignments.endpoint.config.envoy", &old).await;
        } else {
            mesh.delete::<Cluster>(&old).await;
            pause().await;
            mesh.delete::<Endpoints>(&old).await;
        }
        if paced {
            loaded.reaches(new).await;
        }
    }
    let (last, gone) = (switches % 2, (switches + 1) % 2);
    loaded.reaches(last).await;
    loaded.envoy.shows_cluster(&format!("c{gone}"), false).await;
    println!("{variant:?}: {} changes in {:.1?}", switches * EACH, begin.elapsed());
    loaded.ends(switches).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_stands_still_for_long_fails_no_request_when_it_goes_on() {
    for variant in VARIANTS {
        let scratch = Scratch::new();
        let loaded = Loaded::start(&scratch, variant, Mesh::start(&scratch).await).await;
        let (mesh, envoy) = (&loaded.mesh, &loaded.envoy);
        envoy.process.signal("STOP");
        mesh.put(&cluster("c1")).await;
        mesh.put(&endpoints("c1", &[loaded.backends[1].port])).await;
        mesh.put(&routes("r1", "c1")).await;
        // Longer than those are waited for who never answer.
        tokio::time::sleep(STILL).await;
        envoy.process.signal("CONT");
        loaded.reaches(1).await;
        loaded.ends(1).await;
    }
}

/// Envoy took everything, and had a way for each request.
async fn assert_served(variant: Variant, switches: usize, envoy: &Envoy) {
    let stats = envoy.stats().await;
    let stat = |name: &str| stats.get(name).copied().unwrap_or_default();
    println!(
        "  Envoy: {} answers of 2xx, {} updates of clusters, {} of routes",
        stat("http.web.downstream_rq_2xx"),
        stat("cluster_manager.cds.update_success"),
        stat("http.web.rds.r1.update_success")
    );
    for name in ["no_cluster", "no_route", "downstream_rq_4xx", "downstream_rq_5xx"] {
        assert_eq!(stat(&format!("http.web.{name}")), 0, "{variant:?}: {name}");
    }
    let rejected = stats.iter().filter(|(name, _)| name.ends_with("update_rejected"));
    assert_eq!(rejected.map(|(_, count)| count).sum::<u64>(), 0, "{variant:?}: Envoy refused something");
    assert!(stat("http.web.rds.r1.update_success") > switches as u64 / 2, "{variant:?}: it switched");
}

/// Requests on kept connections until it is interrupted.
fn wrk(scratch: &Scratch, port: u16) -> Process {
    let program = std::env::var_os("MESHBUS_WRK").unwrap_or_else(|| "/usr/bin/wrk".into());
    let program = PathBuf::from(program);
    let hint = "install wrk (Debian: wrk) or set MESHBUS_WRK";
    assert!(program.is_file(), "{} is absent; {hint}", program.display());
    let mut wrk = Process::new(scratch, "wrk", program);
    // A request that is answered late has not failed.
    for arg in ["-t", "1", "-c", "8", "-d", "900", "--timeout", "60s", &format!("http://127.0.0.1:{port}/")]
    {
        wrk = wrk.arg(arg);
    }
    wrk
}

async fn put<R: Resource>(mesh: &Mesh, by_nats: Option<&async_nats::Client>, resource: &R) {
    match by_nats {
        Some(nats) => mesh.put_by(nats, resource).await,
        None => mesh.put(resource).await,
    }
}

async fn kubectl_delete(scratch: &Scratch, mesh: &Mesh, kind: &str, name: &str) {
    kubectl(scratch, mesh, &["delete", kind, name, "--wait=false"]).await;
}

async fn kubectl_apply(scratch: &Scratch, mesh: &Mesh, object: &Value) {
    let file = scratch.path().join("applied.json");
    std::fs::write(&file, object.to_string()).expect("a file");
    kubectl(scratch, mesh, &["apply", "--validate=false", "-f", file.to_str().expect("UTF-8")]).await;
}

/// What `routes` makes, as an object of Kubernetes.
fn routes_of(name: &str, cluster: &str) -> Value {
    let route = json!({"match": {"prefix": ""}, "route": {"cluster": cluster}});
    let host = json!({"name": "all", "domains": ["*"], "routes": [route]});
    json!({
        "apiVersion": "route.config.envoy/v3", "kind": "RouteConfiguration", "metadata": {"name": name},
        "spec": {"name": name, "virtualHosts": [host]},
    })
}

async fn kubectl(scratch: &Scratch, mesh: &Mesh, arguments: &[&str]) {
    let named = std::env::var("MESHBUS_KUBECTLS").unwrap_or_default();
    let program = named.rsplit(':').next().filter(|name| !name.is_empty());
    let program =
        program.expect("no kubectl: run `tests/run`, or set MESHBUS_KUBECTLS (Debian: kubernetes-client)");
    let output = Command::new(program)
        .args(arguments)
        .args(["--server", &format!("http://127.0.0.1:{}", mesh.api)])
        .env("KUBECONFIG", "/dev/null")
        .env("HOME", scratch.dir("home"))
        .kill_on_drop(true)
        .output();
    let output =
        timeout(Duration::from_mins(1), output).await.expect("kubectl ends").expect("kubectl runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

impl Counted {
    /// Of what wrk prints at its end.
    fn of(printed: &str) -> Self {
        let number = |text: &str| -> u64 {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            digits.parse().unwrap_or_default()
        };
        let mut counted = Self::default();
        for line in printed.lines().map(str::trim) {
            if let Some((requests, _)) = line.split_once(" requests in ") {
                counted.requests = number(requests);
            } else if let Some(answers) = line.strip_prefix("Non-2xx or 3xx responses:") {
                counted.failed += number(answers);
            } else if let Some(errors) = line.strip_prefix("Socket errors:") {
                counted.failed += errors.split(',').map(number).sum::<u64>();
            }
        }
        counted
    }
}

#[test]
fn what_wrk_prints_is_counted() {
    let printed = "Running 15m test @ http://127.0.0.1:1/\n  1 threads and 8 connections\n  32 requests in 1.00s, 4KB read\n  \
                   Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n";
    let counted = Counted::of(printed);
    assert_eq!((counted.requests, counted.failed), (32, 15));
}
