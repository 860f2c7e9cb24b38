//! The Python client of Kubernetes as an informer, in a process of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// What an informer holds: uid and value by namespace and name.
pub(crate) type Held = BTreeMap<String, (String, String)>;

/// A running informer.
pub(crate) struct Informer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What an informer says of itself.
#[derive(Deserialize)]
pub(crate) struct Told {
    pub(crate) objects: Held,
    pub(crate) relists: usize,
    /// Its last outcomes, each with its time.
    pub(crate) outcomes: Vec<String>,
}

/// The Python that has the client: `MESHBUS_KUBERNETES_PYTHON`.
fn python() -> PathBuf {
    let named = std::env::var("MESHBUS_KUBERNETES_PYTHON").unwrap_or_default();
    assert!(
        !named.is_empty(),
        "no Python with the client of Kubernetes: run `tests/run`, or set MESHBUS_KUBERNETES_PYTHON (PyPI: kubernetes)"
    );
    PathBuf::from(named)
}

impl Informer {
    pub(crate) fn start(server: &str) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/k8s/informer.py");
        let mut child = Command::new(python())
            .arg(script)
            .arg(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python runs");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, input, output }
    }

    /// What it has once it has seen `name` with `value`, or after a minute.
    pub(crate) async fn held(&mut self, name: &str, value: &str) -> Told {
        self.ask(&format!("{name}={value}\n")).await
    }

    /// What it has now.
    pub(crate) async fn now(&mut self) -> Told {
        self.ask("\n").await
    }

    async fn ask(&mut self, line: &str) -> Told {
        self.input.write_all(line.as_bytes()).await.expect("its input is open");
        self.input.flush().await.expect("its input is open");
        let line =
            timeout(Duration::from_secs(90), self.output.next_line()).await.expect("an answer in time");
        let line =
            line.expect("output").unwrap_or_else(|| panic!("the informer ended: {:?}", self.child.id()));
        serde_json::from_str(&line).expect("its answer")
    }
}
