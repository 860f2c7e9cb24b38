//! A management server of another maker: gRPC of C++ and a program that says what the protocol asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::resources::Resource;
use super::rig::LIMIT;

/// What it has: names and bytes, by type.
pub(crate) type Table = BTreeMap<(String, String), Vec<u8>>;

/// The running server.
pub(crate) struct Management {
    pub(crate) port: u16,
    /// What it was told to have.
    pub(crate) table: Table,
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    version: u64,
}

impl Management {
    pub(crate) async fn start() -> Self {
        Self::start_at(0, 4 << 20).await
    }

    /// At a port, with how long a request may be.
    pub(crate) async fn start_at(port: u16, request_max: usize) -> Self {
        let named = std::env::var("MESHBUS_XDS_PYTHON").unwrap_or_default();
        assert!(
            !named.is_empty(),
            "MESHBUS_XDS_PYTHON is not set: run `tests/run`, or set it to a Python with grpcio (PyPI: grpcio)"
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/xds/control_plane.py");
        let mut child = Command::new(PathBuf::from(named))
            .arg(script)
            .args([port.to_string(), request_max.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the management server runs");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (table, version) = (Table::new(), 0);
        let mut server = Self { port: 0, table, _child: child, input, output, version };
        server.port = server.said().await["port"].as_u64().expect("a port") as u16;
        server
    }

    /// The next that it says.
    pub(crate) async fn said(&mut self) -> Value {
        let line = timeout(LIMIT, self.output.next_line()).await.expect("in time").expect("output");
        serde_json::from_str(&line.expect("the server runs")).expect("JSON")
    }

    pub(crate) async fn put<R: Resource>(&mut self, resource: &R) {
        self.put_bytes(R::TYPE, resource.name(), resource.encode_to_vec()).await;
    }

    /// Puts bytes, which need not be of the type.
    pub(crate) async fn put_bytes(&mut self, type_url: &str, name: &str, value: Vec<u8>) {
        self.version += 1;
        let encoded = STANDARD.encode(&value);
        let version = format!("v{}", self.version);
        self.say(json!({"type": type_url, "name": name, "version": version, "value": encoded})).await;
        self.table.insert((type_url.to_owned(), name.to_owned()), value);
    }

    pub(crate) async fn delete(&mut self, type_url: &str, name: &str) {
        self.say(json!({"type": type_url, "name": name})).await;
        self.table.remove(&(type_url.to_owned(), name.to_owned()));
    }

    async fn say(&mut self, what: Value) {
        self.input.write_all(format!("{what}\n").as_bytes()).await.expect("its input is open");
        self.input.flush().await.expect("its input is open");
    }
}
