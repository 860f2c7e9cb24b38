//! `meshbus run`: the bus itself.

use std::time::Duration;

use clap::Args;
use tracing::warn;

use super::{Failure, Files};
use crate::app::App;
use crate::config::LogFormat;
use crate::runtime::telemetry::{self, Format, Logging};
use crate::runtime::tls;
use crate::runtime::watch::Signals;
use crate::transport::TRANSPORTS;

/// How long servers have to bind before the addresses are printed.
const SETTLE: Duration = Duration::from_secs(5);

/// Run the bus: connectors and routes of the configuration, or every server on loopback without one
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus run                          the embedded default: every server role on loopback
  meshbus run -c edge.yaml             only what the file names
  kill -HUP $(pidof meshbus)           take up a changed file (a change is noticed by itself, too)

The first SIGTERM or Ctrl-C drains: nothing new is taken in, what is under way is delivered. A second ends at once.")]
pub(super) struct Run {
    #[command(flatten)]
    files: Files,
}

impl Run {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.files.load_prepared().await?;
        let format = match config.logging.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let logging = Logging { level: config.logging.level.clone(), format };
        let telemetry = telemetry::init(&logging).map_err(Failure::failed)?;
        tls::install_provider();
        // Before anything is taken in: a signal must never find the default action.
        let watched = self.files.files.iter().filter(|path| path.as_os_str() != "-").cloned();
        let signals = Signals::new(watched.chain(config.filter_files()))
            .map_err(|error| Failure::failed(format!("no signals: {error}")))?;
        let embedded = self.files.files.is_empty();
        let app = App::new(config, self.files.files, TRANSPORTS, Some(telemetry));
        app.start().await.map_err(|error| Failure::failed(error.to_string()))?;
        let failures = app.settled(SETTLE).await;
        if !failures.is_empty() && !embedded {
            app.drain(Duration::from_millis(100)).await;
            return Err(Failure::failed(failures.join("\n")));
        }
        for failure in failures {
            warn!("off: {failure}");
        }
        print_addresses(&app);
        app.run(signals).await;
        Ok(())
    }
}

fn print_addresses(app: &App) {
    let config = app.config();
    println!("meshbus {} is running as {:?}", env!("CARGO_PKG_VERSION"), config.name);
    let mut lines: Vec<(String, String, String)> = app
        .announcements()
        .into_iter()
        .map(|(name, announcement)| (name.to_string(), announcement.address, announcement.try_it))
        .collect();
    let ports = [("admin", &config.admin, "/routes"), ("health", &config.health, "/readyz")];
    for (name, listener, path) in ports {
        if let Some(listener) = listener {
            let address = format!("http://{}", listener.listen);
            let try_it = format!("curl -s {address}{path}");
            lines.push((name.to_owned(), address, try_it));
        }
    }
    let width = |of: fn(&(String, String, String)) -> &str| {
        lines.iter().map(|line| of(line).len()).max().unwrap_or(0)
    };
    let (names, addresses) = (width(|line| &line.0), width(|line| &line.1));
    for (name, address, try_it) in &lines {
        println!("  {name:names$}  {address:addresses$}  {try_it}");
    }
    for route in &config.routes {
        println!("  route {}", route.name);
    }
}
