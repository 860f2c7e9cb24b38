//! The health port: what probes and scrapers ask.
//!
//! | path | answers |
//! |---|---|
//! | `/livez`, `/healthz` | 200 while the process runs: no peer that is away gets it restarted |
//! | `/readyz` | 200 when every connector is connected or bound, else 503 and which is not, and why; text, or JSON by `Accept` |
//! | `/metrics` | see [`telemetry`](super::telemetry) |
//!
//! It goes on answering while the rest drains: give it a [`Shutdown`] that is triggered last.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{Request, StatusCode};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::metrics;
use super::serve::{self, Answer};
use super::shutdown::Shutdown;
use super::supervisor::ConnectorStatus;

/// What the health port shows.
pub trait Health: Send + Sync + 'static {
    /// All metrics, in the text format.
    fn metrics(&self) -> String;
    /// Whether work can be given to this process.
    fn readiness(&self) -> Readiness;
}

/// Whether work can be given to this process, and why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why the process as a whole is not ready: `starting`, `draining`.
    pub not_ready: Option<String>,
    /// Each connector, with why it is not ready.
    pub connectors: Vec<(ByteString, Result<(), String>)>,
}

impl Readiness {
    /// From what the supervisor knows.
    pub fn new(not_ready: Option<String>, connectors: Vec<ConnectorStatus>) -> Self {
        let connectors =
            connectors.into_iter().map(|status| (status.name, status.not_ready.map_or(Ok(()), Err)));
        Self { not_ready, connectors: connectors.collect() }
    }

    /// Whether all is ready.
    pub fn is_ready(&self) -> bool {
        self.not_ready.is_none() && self.connectors.iter().all(|(_, ready)| ready.is_ok())
    }

    fn to_text(&self) -> String {
        let mut text = if self.is_ready() { "ready".to_owned() } else { "not ready".to_owned() };
        if let Some(reason) = &self.not_ready {
            text.push_str(": ");
            text.push_str(reason);
        }
        text.push('\n');
        for (name, ready) in &self.connectors {
            // Writing to a string cannot fail.
            let written = match ready {
                Ok(()) => writeln!(text, "[+] {name}"),
                Err(reason) => writeln!(text, "[-] {name}: {reason}"),
            };
            debug_assert!(written.is_ok());
        }
        text
    }

    fn to_json(&self) -> Value {
        let connectors: Map<String, Value> = self
            .connectors
            .iter()
            .map(|(name, ready)| {
                let state = match ready {
                    Ok(()) => json!({"ready": true}),
                    Err(reason) => json!({"ready": false, "reason": reason}),
                };
                (name.to_string(), state)
            })
            .collect();
        let mut all = json!({"ready": self.is_ready(), "connectors": connectors});
        if let (Some(reason), Some(all)) = (&self.not_ready, all.as_object_mut()) {
            all.insert("reason".to_owned(), reason.as_str().into());
        }
        all
    }
}

/// Serves the health port until the shutdown.
pub async fn serve(listener: TcpListener, health: Arc<dyn Health>, shutdown: &Shutdown) {
    serve::serve(listener, shutdown, move |request| {
        let health = Arc::clone(&health);
        Box::pin(async move { respond(&request, health.as_ref()) })
    })
    .await;
}

fn respond(request: &Request<Bytes>, health: &dyn Health) -> Answer {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/healthz" | "/readyz" | "/metrics") {
        return serve::problem(StatusCode::NOT_FOUND, "there are /livez, /readyz, /healthz and /metrics");
    }
    if !serve::reads(request.method()) {
        return serve::not_allowed("GET, HEAD");
    }
    match path {
        "/metrics" => serve::answer(StatusCode::OK, metrics::CONTENT_TYPE, health.metrics()),
        "/readyz" => {
            let readiness = health.readiness();
            let status =
                if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            if serve::wants_json(request.headers()) {
                serve::json(status, &readiness.to_json())
            } else {
                serve::text(status, readiness.to_text())
            }
        }
        _ => serve::text(StatusCode::OK, "ok\n"),
    }
}
