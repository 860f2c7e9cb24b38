//! gRPC clients that are led by xDS, in processes of their own.

use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::rig::LIMIT;
use crate::process::{Scratch, until};

/// An implementation of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// That of C++, from Python.
    Python,
    Node,
    Rust,
}

pub(crate) const LANGUAGES: [Language; 3] = [Language::Python, Language::Node, Language::Rust];

/// What one call came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    pub(crate) reply: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
}

/// A running client.
pub(crate) struct Caller {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Caller {
    /// With what `meshbus bootstrap grpc` prints, for a server on this port.
    pub(crate) fn start(scratch: &Scratch, node: &str, language: Language, xds: u16) -> Self {
        Self::start_with(scratch, node, language, xds, &[])
    }

    /// As [`start`](Self::start), with more in its environment.
    pub(crate) fn start_with(
        scratch: &Scratch,
        node: &str,
        language: Language,
        xds: u16,
        env: &[(&str, &str)],
    ) -> Self {
        let bootstrap = scratch.path().join(format!("{node}.json"));
        std::fs::write(&bootstrap, self::bootstrap(node, xds)).expect("a bootstrap");
        let log = scratch.path().join(format!("{node}.log"));
        let mut child = command(language)
            .env("GRPC_XDS_BOOTSTRAP", bootstrap)
            // What it is told goes to its log.
            .env("GRPC_TRACE", "xds_client")
            .env("GRPC_VERBOSITY", "DEBUG")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).expect("a log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("the client runs");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { _child: child, input, output, log }
    }

    /// Begins a call of at most so many seconds.
    pub(crate) async fn ask(&mut self, service: &str, seconds: u32) {
        self.input.write_all(format!("{service} {seconds}\n").as_bytes()).await.expect("its input is open");
        self.input.flush().await.expect("its input is open");
    }

    /// What the call that was begun came to.
    pub(crate) async fn answer(&mut self) -> Said {
        let line =
            timeout(Duration::from_mins(1), self.output.next_line()).await.expect("an answer in time");
        let line = line.expect("output").unwrap_or_else(|| panic!("the client ended: {}", self.log()));
        serde_json::from_str(&line).expect("its answer")
    }

    pub(crate) async fn call(&mut self, service: &str, seconds: u32) -> Said {
        self.ask(service, seconds).await;
        self.answer().await
    }

    /// Calls until a server says so.
    pub(crate) async fn says(&mut self, service: &str, text: &str) {
        until(&format!("{service} is answered by {text}"), LIMIT, async || {
            (self.call(service, 5).await.reply.as_deref() == Some(text)).then_some(())
        })
        .await;
    }

    /// Calls until it fails so.
    pub(crate) async fn fails(&mut self, service: &str, text: &str) {
        until(&format!("{service} fails with {text:?}"), LIMIT, async || {
            self.call(service, 2).await.error?.contains(text).then_some(())
        })
        .await;
    }

    /// All it logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// What `meshbus bootstrap grpc` prints.
fn bootstrap(node: &str, xds: u16) -> Vec<u8> {
    let server = format!("http://127.0.0.1:{xds}");
    let output = Blocking::new(env!("CARGO_BIN_EXE_meshbus"))
        .args(["bootstrap", "grpc", "-s", &server, "--node", node])
        .output()
        .expect("meshbus runs");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Runs a script of this directory by a Python that has gRPC.
pub(super) fn python(script: &str) -> Command {
    let mut command = Command::new(named("MESHBUS_XDS_PYTHON", "a Python with grpcio (PyPI: grpcio)"));
    command.arg(path_of(script));
    command
}

/// The clients of Rust, which `rust/` builds.
pub(super) fn rust() -> Command {
    Command::new(named("MESHBUS_XDS_RUST", "the program that tests/interop/xds/rust builds"))
}

fn path_of(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/xds").join(script)
}

fn command(language: Language) -> Command {
    match language {
        Language::Python => python("client.py"),
        Language::Node => {
            let hint = "a directory of node_modules with gRPC (npm: @grpc/grpc-js @grpc/grpc-js-xds)";
            let modules = named("MESHBUS_XDS_NODE", hint).join("node_modules");
            let mut command = Command::new("node");
            command.arg(path_of("client.js")).arg(modules);
            command
        }
        Language::Rust => {
            let mut command = rust();
            command.arg("call");
            command
        }
    }
}

/// What a variable names. An absent one fails the test: a test that is skipped looks like one that passed.
fn named(variable: &str, what: &str) -> PathBuf {
    let named = std::env::var(variable).unwrap_or_default();
    assert!(!named.is_empty(), "{variable} is not set: run `tests/run`, or set it to {what}");
    let path = PathBuf::from(named);
    assert!(path.exists(), "{} of {variable} does not exist", path.display());
    path
}
