//! A bus that serves the Kubernetes API, and the programs that talk to it.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bus::Bus;
use crate::process::{Scratch, free_port};

/// A bus with a Kubernetes API.
pub(crate) struct Api {
    pub(crate) bus: Bus,
    pub(crate) port: u16,
}

impl Api {
    /// Starts one; `more` is more configuration, at the top level.
    pub(crate) async fn start(scratch: &Scratch, more: &str) -> Self {
        let port = free_port();
        let bus = Bus::start(scratch, &Self::config(port, more)).await;
        Self { bus, port }
    }

    /// The configuration of [`start`](Self::start).
    pub(crate) fn config(port: u16, more: &str) -> String {
        format!(
            "name: api-{port}\nconnectors:\n  api: {{k8s: {{server: {{listen: \"127.0.0.1:{port}\"}}}}}}\n{more}"
        )
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A position that no bus of today reaches.
    pub(crate) fn future(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        u64::try_from(now.as_micros()).expect("a position") + 1_000_000_000_000
    }
}

/// The kubectl programs to use: those of `MESHBUS_KUBECTLS`, separated by colons.
///
/// An absent one fails the test: a test that is skipped looks like one that passed.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let named = std::env::var("MESHBUS_KUBECTLS").unwrap_or_default();
    let found: Vec<PathBuf> = named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    assert!(
        !found.is_empty(),
        "no kubectl: run `tests/run`, or set MESHBUS_KUBECTLS to one or more (Debian: kubernetes-client)"
    );
    for program in &found {
        assert!(program.is_file(), "{} of MESHBUS_KUBECTLS is no file", program.display());
    }
    found
}
