//! `meshbus init`: a starter file for a use case.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::table::Table;
use super::{Failure, output};

/// The use case without an argument.
const MINIMAL: &str = "minimal";

/// A use case, by the name of its file in `config/`.
struct UseCase {
    name: &'static str,
    text: &'static str,
}

/// All of them, the simple ones first. The reference has every option, so it is the last.
static USE_CASES: &[UseCase] = &[
    UseCase { name: MINIMAL, text: include_str!("../../config/minimal.yaml") },
    UseCase { name: "http-to-nats", text: include_str!("../../config/http-to-nats.yaml") },
    UseCase { name: "mqtt-to-jetstream", text: include_str!("../../config/mqtt-to-jetstream.yaml") },
    UseCase {
        name: "mqtt-retained-to-state",
        text: include_str!("../../config/mqtt-retained-to-state.yaml"),
    },
    UseCase { name: "jetstream-to-webhook", text: include_str!("../../config/jetstream-to-webhook.yaml") },
    UseCase { name: "nats-to-mqtt", text: include_str!("../../config/nats-to-mqtt.yaml") },
    UseCase { name: "nats-to-nats", text: include_str!("../../config/nats-to-nats.yaml") },
    UseCase { name: "kubernetes-api", text: include_str!("../../config/kubernetes-api.yaml") },
    UseCase {
        name: "kubernetes-events-to-jetstream",
        text: include_str!("../../config/kubernetes-events-to-jetstream.yaml"),
    },
    UseCase { name: "kubernetes-to-grpc", text: include_str!("../../config/kubernetes-to-grpc.yaml") },
    UseCase { name: "xds-to-envoy", text: include_str!("../../config/xds-to-envoy.yaml") },
    UseCase { name: "xds-client", text: include_str!("../../config/xds-client.yaml") },
    UseCase { name: "xds-edge", text: include_str!("../../config/xds-edge.yaml") },
    UseCase { name: "xds-istio", text: include_str!("../../config/xds-istio.yaml") },
    UseCase { name: "xds-to-kubernetes", text: include_str!("../../config/xds-to-kubernetes.yaml") },
    UseCase { name: "filters", text: include_str!("../../config/filters.yaml") },
    UseCase { name: "fan-out", text: include_str!("../../config/fan-out.yaml") },
    UseCase { name: "filter-with-sql", text: include_str!("../../config/filter-with-sql.yaml") },
    UseCase { name: "reference", text: include_str!("../../config/reference.yaml") },
];

/// What a use case names beside itself.
static BESIDE: &[(&str, &str)] = &[("events/alert.json", include_str!("../../config/events/alert.json"))];

/// Print a starter configuration, or write it to a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  meshbus init --list
  meshbus init > meshbus.yaml
  meshbus init mqtt-to-jetstream -o edge.yaml && meshbus validate -c edge.yaml")]
pub(super) struct Init {
    /// Use case; default the least there is
    #[arg(value_name = "USECASE", conflicts_with = "list")]
    use_case: Option<String>,
    /// List the use cases, one a line
    #[arg(long, conflicts_with = "output")]
    list: bool,
    /// Write to this file, and beside it what it names; nothing that exists is overwritten
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.list {
            let rows: Vec<Vec<String>> =
                USE_CASES.iter().map(|case| vec![case.name.to_owned(), case.summary()]).collect();
            return output::write(Table::default().rows(&rows));
        }
        let wanted = self.use_case.as_deref().unwrap_or(MINIMAL);
        let Some(case) = USE_CASES.iter().find(|case| case.name == wanted) else {
            let names: Vec<&str> = USE_CASES.iter().map(|case| case.name).collect();
            let hint = crate::config::suggest::hint(wanted, &names);
            return Err(Failure::usage(format!("there is no use case {wanted:?}: {hint}")));
        };
        let Some(path) = &self.output else { return output::write(case.text) };
        let text = case.text.replace(&format!("config/{}.yaml", case.name), &path.display().to_string());
        let directory = path.parent().unwrap_or(Path::new(""));
        let beside: Vec<(PathBuf, &str)> = BESIDE
            .iter()
            .filter(|(name, _)| case.text.contains(name))
            .map(|(name, text)| (directory.join(name), *text))
            .collect();
        if let Some((taken, _)) = beside.iter().find(|(path, text)| path.exists() && !holds(path, text)) {
            return Err(Failure::failed(format!("{}: exists and is not overwritten", taken.display())));
        }
        create(path, &text)?;
        output::line(format!("{} written; try: meshbus validate -c {0}", path.display()))?;
        for (path, text) in beside.iter().filter(|(path, _)| !path.exists()) {
            if let Some(directory) = path.parent() {
                let made = std::fs::create_dir_all(directory);
                made.map_err(|error| Failure::failed(format!("{}: {error}", directory.display())))?;
            }
            create(path, text)?;
            output::line(format!("{} written", path.display()))?;
        }
        Ok(())
    }
}

impl UseCase {
    /// The first sentence of the comment it begins with.
    fn summary(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix("# "));
        let comment = comment.collect::<Vec<_>>().join(" ");
        match comment.split_once(". ") {
            Some((first, _)) => first.to_owned(),
            None => comment.trim_end_matches('.').to_owned(),
        }
    }
}

fn holds(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|have| have == text)
}

/// Writes a file that must not be there yet.
fn create(path: &Path, text: &str) -> Result<(), Failure> {
    let name = path.display();
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::failed(format!("{name}: exists and is not overwritten")),
        _ => Failure::failed(format!("{name}: {error}")),
    })
}
