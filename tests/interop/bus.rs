//! The program under test as a child process: its configuration, readiness, metrics and end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::process::{Process, Scratch, free_port, until};

/// How long a start may take, also on a machine that does other things.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A plain HTTP/1.1 client with kept connections.
pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http_client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// meshbus, or a stand-in for it, with a health address it answers on once it is ready.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) process: Process,
    health: u16,
    config: PathBuf,
    http: HttpClient,
}

impl Bus {
    /// `meshbus run` with this configuration, to which the health address is added; waits until it is ready.
    pub(crate) async fn start(scratch: &Scratch, config: &str) -> Self {
        let mut bus = Self::prepare(scratch, "meshbus", config);
        bus.restart().await;
        bus
    }

    /// As [`start`](Self::start), without starting it.
    pub(crate) fn prepare(scratch: &Scratch, name: &str, config: &str) -> Self {
        let file = scratch.path().join(format!("{name}.yaml"));
        let health = free_port();
        let process = Process::new(scratch, name, env!("CARGO_BIN_EXE_meshbus"))
            .arg("run")
            .arg("-c")
            .arg(file.clone())
            .env("RUST_BACKTRACE", "1");
        let bus = Self { process, health, config: file, http: http_client() };
        bus.configure(config);
        bus
    }

    /// This test binary itself, run for one test function that plays the bus.
    pub(crate) async fn stand_in(scratch: &Scratch, function: &str, env: &[(&str, String)]) -> Self {
        let health = free_port();
        let this = std::env::current_exe().expect("the path of this test binary");
        let args =
            ["--exact", function, "--ignored", "--nocapture", "--test-threads=1"].map(OsString::from);
        let mut process = Process::new(scratch, "stand-in", this).env("STAND_IN_HEALTH", health);
        process = args.into_iter().fold(process, Process::arg);
        process = env.iter().fold(process, |process, (name, value)| process.env(name, value));
        let mut bus = Self { process, health, config: PathBuf::new(), http: http_client() };
        bus.restart().await;
        bus
    }

    /// Replaces the configuration file, in one step; a reload is the caller's to ask for.
    pub(crate) fn configure(&self, config: &str) {
        let text = format!("{config}\nhealth: {{listen: \"127.0.0.1:{}\"}}\n", self.health);
        let new = self.config.with_extension("new");
        std::fs::write(&new, text).expect("the configuration of the bus");
        std::fs::rename(&new, &self.config).expect("the configuration of the bus");
    }

    /// Starts it again, and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.process.start();
        self.ready(READY_LIMIT).await;
    }

    /// Starts it again, and waits only until it answers at all: a peer may be away.
    pub(crate) async fn restart_live(&mut self) {
        self.process.start();
        until("the bus lives", READY_LIMIT, async || {
            self.still_runs();
            self.health("/livez").await.map(drop)
        })
        .await;
    }

    /// Waits until every connector is up.
    pub(crate) async fn ready(&mut self, limit: Duration) {
        let mut last = String::from("no answer");
        let what = format!("the bus is ready on port {}", self.health);
        let deadline = tokio::time::Instant::now() + limit;
        until(&what, limit + Duration::from_secs(1), async || {
            self.still_runs();
            match self.health("/readyz").await {
                Some((200, _)) => return Some(()),
                Some((status, text)) => last = format!("{status} {text}"),
                None => {}
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {last}\n{}", self.process.log_tail());
            None
        })
        .await;
    }

    fn still_runs(&mut self) {
        if let Some(why) = self.process.ended() {
            panic!("{why}");
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.process.terminate(limit).await
    }

    /// GET on the health address; `None` when nobody answers.
    pub(crate) async fn health(&self, path: &str) -> Option<(u16, String)> {
        let uri = format!("http://127.0.0.1:{}{path}", self.health).parse().expect("an address");
        let response = tokio::time::timeout(Duration::from_secs(2), self.http.get(uri)).await.ok()?.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// All samples of `/metrics` that are whole numbers, by their text `name{labels}`.
    pub(crate) async fn metrics(&self) -> BTreeMap<String, u64> {
        let text = self.health("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        samples.collect()
    }

    /// Sum of all samples of a metric whose text holds every one of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let samples = self.metrics().await;
        let wanted = samples.iter().filter(|(text, _)| {
            text.split('{').next() == Some(name) && labels.iter().all(|label| text.contains(label))
        });
        wanted.map(|(_, value)| value).sum()
    }
}
