//! `meshbus validate`: is the configuration right, and with `--connect`, are its peers there.

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use http::Uri;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::input::duration;
use super::peer::Remote;
use super::server::without_credentials;
use super::{Failure, Files, output};
use crate::config::{Config, ConnectorConfig, Role};
use crate::transport::TRANSPORTS;

/// Settings that take something in or leave something behind: a check does neither.
const EFFECTS: [&str; 7] =
    ["subscribe", "watch", "will", "client_id", "clean_start", "session_expiry", "leader_election"];

/// Check the configuration: every mistake with its place and what would be right
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus validate -c edge.yaml
  meshbus validate -c base.yaml -c edge.yaml --print
  meshbus validate -c edge.yaml --connect && systemctl reload meshbus

--connect makes a connection of its own to each peer, subscribes to nothing, and disturbs no bus that runs.")]
pub(super) struct Validate {
    #[command(flatten)]
    files: Files,
    /// Connect to each peer the configuration names, and say whether it is there
    #[arg(long)]
    connect: bool,
    /// Print the configuration in force: files merged, variables replaced, secrets hidden
    #[arg(long)]
    print: bool,
    /// Time for connecting
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

impl Validate {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.files.load_prepared().await?;
        if self.print {
            output::write(config.print_redacted())?;
        } else {
            output::line(format!("{}: ok: {}", self.name(), counts(&config)))?;
        }
        if self.connect { connect(&config, self.timeout).await } else { Ok(()) }
    }

    fn name(&self) -> String {
        let names: Vec<String> = self.files.files.iter().map(|path| path.display().to_string()).collect();
        if names.is_empty() { "embedded default".to_owned() } else { names.join(" + ") }
    }
}

fn counts(config: &Config) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut parts = vec![count(config.connectors.len(), "connector"), count(config.routes.len(), "route")];
    if !config.tests.is_empty() {
        parts.push(format!("{} (meshbus test runs them)", count(config.tests.len(), "test")));
    }
    parts.join(", ")
}

/// Connects to every peer at the same time; one line for each.
async fn connect(config: &Config, limit: Duration) -> Result<(), Failure> {
    let clients: Vec<&ConnectorConfig> =
        config.connectors.iter().filter(|connector| connector.role == Role::Client).collect();
    let tried = join_all(clients.iter().map(|connector| try_one(connector, limit))).await;
    let width = clients.iter().map(|connector| connector.name.len()).max().unwrap_or_default();
    let mut failed = 0;
    for (connector, tried) in clients.iter().zip(tried) {
        let state = match tried {
            Ok(()) => "ready".to_owned(),
            Err(failure) => {
                failed += 1;
                format!("not ready: {failure}")
            }
        };
        output::line(format!("{:width$}  {}", connector.name, output::shown(&state)))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::unreachable(format!("{failed} of {} peers are not ready", clients.len()))),
    }
}

async fn try_one(connector: &ConnectorConfig, limit: Duration) -> Result<(), Failure> {
    let transport = TRANSPORTS.iter().find(|transport| transport.name() == connector.transport);
    let Some(transport) = transport else {
        return Err(Failure::failed("its transport is not in this build"));
    };
    let settings = connector.section.without(&EFFECTS).to_json();
    if connector.transport == "http" {
        return reachable(&settings, limit).await;
    }
    let Value::Object(mut settings) = settings else { return Err(Failure::failed("it has no settings")) };
    if settings.get("jetstream").is_some_and(|jetstream| jetstream.get("create").is_some()) {
        // A check makes no stream, and cannot ask for one that is still to be made.
        settings.remove("jetstream");
    }
    let remote = Remote { transport: *transport, url: connector.name.clone(), settings, scope: None };
    let peer = remote.start()?;
    let ready = peer.ready(limit).await;
    peer.stop().await;
    ready
}

/// Whether every address of a webhook takes a connection: to send it anything would be an event.
async fn reachable(settings: &Value, limit: Duration) -> Result<(), Failure> {
    let one = settings.get("url").and_then(Value::as_str);
    let several =
        settings.get("urls").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for url in one.into_iter().chain(several) {
        let shown = without_credentials(url);
        let uri: Uri = url.parse().map_err(|error| Failure::failed(format!("{shown}: {error}")))?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        match timeout(limit, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Failure::unreachable(format!("{shown}: {error}"))),
            Err(_) => return Err(Failure::unreachable(format!("{shown}: no connection in {limit:?}"))),
        }
    }
    Ok(())
}
